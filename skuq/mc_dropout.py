"""Monte Carlo dropout: one network, thinned at prediction as in training."""

from dataclasses import replace
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from . import backends
from ._estimator.base import Estimator
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator, parameter
from ._estimator.regression import RegressorTask
from ._model.draws import MaskedDraws, unit_masks
from ._training.noise import SPREADS


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

    _spreads: ClassVar[tuple] = SPREADS

    def _draws(self, problem, parameters, spread=1.0):
        rng = np.random.default_rng(problem.seeds["draws"])
        masks = unit_masks(self.n_draws, problem.network.n_units, self.dropout_rate * spread, rng)
        return MaskedDraws(problem.network, parameters, problem.features, masks=masks)

    def _finish(self, problem, noise_scale, spread, parameters):
        super()._finish(problem, noise_scale, spread, parameters)
        self.dropout_rate_ = self._state.dropout_rate

    def draw_to_native(self, draw):
        """Return one draw, a thinned network, as a native model without dropout.

        Parameters
        ----------
        draw : int, 0 ≤ draw < n_draws

        Returns
        -------
        tf_keras.Model or torch.nn.Module

        Raises
        ------
        ValueError
            For ``architecture="resnet"``, whose skip connections pass masked units by: no plain network equals a draw.
        """
        if self._state.network.trunk.is_residual:
            raise ValueError(
                "A draw of a resnet is not a plain network; use to_native(), which keeps the dropout layers."
            )
        check_is_fitted(self)
        exported = self._export()
        weights = thin(exported.network, exported.weights, self._state.draws.masks[draw])
        return backends.load(self.backend_).to_native(replace(exported, weights=weights, dropout_rate=0.0))


def thin(network, weights, mask):
    """Weights of the plain network that equals a masked one: each unit's mask times its outgoing weights."""
    thinned = weights.copy()
    views = network.views(thinned)
    unit = 0
    following = (*network.hidden_kernels[1:], network.output_kernel)
    for size, kernel in zip(network.hidden_layer_sizes, following, strict=False):
        views[kernel.name] *= mask[unit : unit + size, None]
        unit += size
    return thinned


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
