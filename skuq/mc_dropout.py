"""Monte Carlo dropout: one network, thinned at prediction as in training."""

from dataclasses import replace
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from sklearn.utils._param_validation import Interval

from ._estimator import native
from ._estimator.auto import AUTO
from ._estimator.base import Estimator
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator, parameter
from ._estimator.regression import RegressorTask
from ._estimator.state import Problem
from ._model.draws import unit_masks
from ._model.posteriors import MaskedNetwork


@estimator
class _MCDropout(Estimator):
    """Dropout in training; S sets of unit masks at prediction, the same for every row."""

    dropout_rate: float = parameter(
        0.05,
        [Interval(Real, 0, 1, closed="left")],
        """float in [0, 1)
        Share of the hidden units left out, in training and in each draw; a regressor's draws leave out fewer where held-out
        rows say that they differ too much, see ``dropout_rate_``.""",
    )
    n_draws: int = parameter(
        100,
        [Interval(Integral, 1, None, closed="left")],
        """int ≥ 1
        Thinned networks in the predictive mixture, fixed when ``fit`` ends.""",
    )

    def _posterior(self, problem: Problem, parameters: np.ndarray, spread: float = 1.0) -> MaskedNetwork:
        network, rate = problem.network, self.dropout_rate * spread
        masks = unit_masks(self.n_draws, network.n_units, rate, np.random.default_rng(problem.seeds["draws"]))
        return MaskedNetwork(
            network=network,
            parameters=parameters,
            features=problem.features,
            dropout_rate=rate,
            masks=masks,
        )

    def _report_weights(self) -> None:
        super()._report_weights()
        self.dropout_rate_ = self._state.posterior.dropout_rate

    def draw_to_native(self, draw: int) -> Any:
        """Return one draw, a thinned network, as a native model without dropout.

        Parameters
        ----------
        draw : int, 0 ≤ draw < n_draws

        Returns
        -------
        tf_keras.Model or torch.nn.Module

        Raises
        ------
        NotFittedError
            Before ``fit``.
        ValueError
            If there is no such draw, or for ``architecture="resnet"``, whose skip connections pass masked units by: no plain
            network equals a draw.
        """
        state = self._fitted_state()
        if state.network.trunk.is_residual:
            raise ValueError(
                "A draw of a resnet is not a plain network; use to_native(), which keeps the dropout layers."
            )
        posterior = cast(MaskedNetwork, state.posterior)
        if not 0 <= draw < posterior.n_draws:
            raise ValueError(f"draw must be a whole number from 0 to {posterior.n_draws - 1}, got {draw!r}.")
        return native.to_native(replace(state, posterior=posterior.thinned(draw)), self.backend_)


@estimator
class MCDropoutRegressor(RegressorTask, _MCDropout):
    """Monte Carlo dropout regressor.

    One network trained with dropout, whose draws are the network thinned by fixed sets of unit masks (Gal & Ghahramani
    2016, "Dropout as a Bayesian Approximation"). Masks are shared by all rows, so a draw is a function and predictions
    do not depend on the order of the rows.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    dropout_rate_ : float
        Rate of the draws: `dropout_rate` or, where the held-out rows' likelihood asks for it, a share of it, down to a tenth.
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import MCDropoutRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = MCDropoutRegressor(n_draws=20, max_iter=20, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> total, aleatoric, epistemic = model.predict_uncertainty(X)
    >>> bool(np.allclose(total, aleatoric + epistemic))
    True
    """

    _auto = AUTO["MCDropoutRegressor"]


@estimator
class MCDropoutClassifier(ClassifierTask, _MCDropout):
    """Monte Carlo dropout classifier.

    One network trained with dropout, whose draws are the network thinned by fixed sets of unit masks (Gal & Ghahramani
    2016, "Dropout as a Bayesian Approximation"). Masks are shared by all rows, so a draw is a function and predictions
    do not depend on the order of the rows.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    dropout_rate_ : float
        Rate of the draws: `dropout_rate`.
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skuq import MCDropoutClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = MCDropoutClassifier(n_draws=20, max_iter=20, random_state=0).fit(X, y)
    >>> model.predict_interval(X[:3]).shape
    (3, 2, 2)
    """

    _auto = AUTO["MCDropoutClassifier"]
