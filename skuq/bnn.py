"""Bayesian neural networks by variational inference (Bayes by Backprop, Blundell et al. 2015)."""

from dataclasses import replace
from numbers import Integral, Real
from typing import cast

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ._estimator.auto import AUTO
from ._estimator.base import Estimator
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator, inherited, parameter
from ._estimator.regression import RegressorTask
from ._estimator.state import Problem, State
from ._model.network import Network
from ._model.posteriors import VariationalPosterior
from ._model.variational import MAX_FULL_COVARIANCE, Posterior, Prior
from .backends import Knobs, Program
from .likelihoods import Likelihood

_POSITIVE = Interval(Real, 0, None, closed="neither")


@estimator
class _BNN(Estimator):
    """A posterior over weights, trained by samples of the evidence lower bound."""

    posterior: str = parameter(
        "mean_field",
        [StrOptions({"mean_field", "full_covariance"})],
        """{"mean_field", "full_covariance"}
        Variational family: independent normals (BLiTZ's ``BayesianLinear``, TFP's mean-field ``DenseVariational``), or
        one multivariate normal for each layer (small layers only).""",
    )
    prior: str = parameter(
        "normal",
        [StrOptions({"normal", "scale_mixture"})],
        """{"normal", "scale_mixture"}
        Prior of each weight: normal, with the KL divergence in closed form, or Blundell's mixture of a wide and a narrow
        normal, with a sampled KL.""",
    )
    prior_scale: float | str = parameter(
        "fan_in",
        [StrOptions({"fan_in"}), _POSITIVE],
        """float > 0 or "fan_in"
        Prior standard deviation of each weight (of the wide component for a mixture); "fan_in": 1/√(inputs of the
        layer) for kernels and 1 for biases, so that functions keep their scale whatever the widths.""",
    )
    prior_scale_ratio: float = parameter(
        0.1,
        [Interval(Real, 0, 1, closed="right")],
        """float in (0, 1]
        Narrow component's standard deviation over the wide one's ("scale_mixture").""",
    )
    prior_mix: float = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="both")],
        """float in [0, 1]
        Weight of the wide component ("scale_mixture"), Blundell's π.""",
    )
    kl_weight: float = parameter(
        0.01,
        [Interval(Real, 0, None, closed="left")],
        """float ≥ 0
        Factor of the KL divergence. 1 is the evidence lower bound, under which mean-field posteriors underfit; below 1 the
        posterior is cold (Wenzel et al. 2020).""",
    )
    posterior_scale_init: float = parameter(
        0.02,
        [_POSITIVE],
        """float > 0
        Standard deviation at which each weight's posterior starts.""",
    )
    n_train_samples: int = parameter(
        2,
        [Interval(Integral, 1, None, closed="left")],
        """int ≥ 1
        Weight samples of one training step, computed as a batch.""",
    )
    n_draws: int = parameter(
        100,
        [Interval(Integral, 1, None, closed="left")],
        """int ≥ 1
        Weight draws in the predictive mixture, fixed when ``fit`` ends.""",
    )

    n_bins: int = inherited(Estimator, "n_bins", 16)

    def _may_encode(self, likelihood: Likelihood | None) -> bool:
        # The covariance of a layer grows with the square of its inputs.
        return self.posterior == "mean_field" and super()._may_encode(likelihood)

    def _starts_small(self, problem: Problem) -> bool:
        # Draws of one covariance for a whole layer are too far from a small mean for it to grow.
        return self.posterior == "mean_field" and super()._starts_small(problem)

    def _layout(self, network: Network) -> Posterior:
        layout = Posterior(network, self.posterior)
        if self.posterior == "full_covariance":
            largest = max(stop - start for start, stop in layout.blocks)
            if largest > MAX_FULL_COVARIANCE:
                raise ValueError(
                    f"posterior='full_covariance' holds n(n+1)/2 numbers for a layer of n weights; got a layer of {largest}, "
                    f"at most {MAX_FULL_COVARIANCE} are allowed. Use smaller hidden_layer_sizes or posterior='mean_field'."
                )
        return layout

    def _prior(self, network: Network) -> Prior:
        scale = np.ones(network.n_layer_weights, np.float32)
        for tensor in (tensor for layer in network.layers for tensor in layer):
            fan_in = 1 / np.sqrt(tensor.shape[0]) if tensor.is_kernel else 1.0
            scale[tensor.start : tensor.stop] = fan_in if isinstance(self.prior_scale, str) else self.prior_scale
        return Prior(family=self.prior, scale=scale, ratio=self.prior_scale_ratio, mix=self.prior_mix)

    def _program(self, network: Network) -> Program:
        return Program(
            network,
            posterior=self._layout(network),
            prior=self.prior,
            n_train_samples=self.n_train_samples,
            dropout=self.dropout_rate > 0,
            l1=self._l1,
        )

    def _knobs(self, problem: Problem) -> Knobs:
        prior = self._prior(problem.network)
        return replace(
            super()._knobs(problem),
            kl_weight=self.kl_weight / problem.target.weight.sum(),
            prior_scale=prior.scale,
            prior_ratio=prior.ratio,
            prior_mix=prior.mix,
        )

    def _starting_parameters(
        self, problem: Problem, rngs: list[np.random.Generator], previous: State | None
    ) -> np.ndarray:
        layout, start = self._layout(problem.network), super()._starting_parameters(problem, rngs, previous)
        if start.shape[1] == layout.n_parameters:
            return start
        return np.stack([layout.initial(weights, self.posterior_scale_init) for weights in start])

    def _posterior(self, problem: Problem, parameters: np.ndarray, spread: float = 1.0) -> VariationalPosterior:
        layout = self._layout(problem.network)
        return VariationalPosterior(
            network=problem.network,
            # The narrowed posterior is the one that is drawn from, exported and trained further.
            parameters=layout.narrowed(parameters, spread),
            features=problem.features,
            dropout_rate=self.dropout_rate,
            layout=layout,
            prior=self._prior(problem.network),
            count=self.n_draws,
            seed=int(problem.seeds["draws"].generate_state(1)[0]),
            share=spread,
        )

    def _report_weights(self) -> None:
        super()._report_weights()
        self.posterior_share_ = cast(VariationalPosterior, self._state.posterior).share


@estimator
class BNNRegressor(RegressorTask, _BNN):
    """Bayesian neural network regressor, by variational inference.

    A posterior q over the weights is trained to maximise E_q[log p(y|x, w)] − kl_weight · KL(q‖p), with
    reparameterised weight samples (Blundell et al. 2015, "Weight Uncertainty in Neural Networks"). A draw is the network
    with one set of weights from q.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    posterior_share_ : float
        Standard deviations of the posterior over those trained: 1 or, where the held-out rows' likelihood asks for it, less,
        down to 0.1.
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from skuq import BNNRegressor
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> model = BNNRegressor(n_draws=20, max_iter=20, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> model.sample_y(X, n_samples=5).shape
    (100, 5)
    """

    _auto = AUTO["BNNRegressor"]


@estimator
class BNNClassifier(ClassifierTask, _BNN):
    """Bayesian neural network classifier, by variational inference.

    A posterior q over the weights is trained to maximise E_q[log p(y|x, w)] − kl_weight · KL(q‖p), with
    reparameterised weight samples (Blundell et al. 2015, "Weight Uncertainty in Neural Networks"). A draw is the network
    with one set of weights from q.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    posterior_share_ : float
        Standard deviations of the posterior over those trained: 1.
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skuq import BNNClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = BNNClassifier(n_draws=20, max_iter=20, random_state=0).fit(X, y)
    >>> model.predict_set(X[:3], coverage=0.9).shape
    (3, 2)
    """

    _auto = AUTO["BNNClassifier"]
