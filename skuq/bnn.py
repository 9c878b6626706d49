"""Bayesian neural networks by variational inference (Bayes by Backprop, Blundell et al. 2015)."""

from dataclasses import replace
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ._estimator.base import Estimator
from ._estimator.classification import ClassifierTask
from ._estimator.parameters import estimator, inherited, parameter
from ._estimator.regression import RegressorTask
from ._model.draws import PosteriorDraws
from ._model.variational import MAX_FULL_COVARIANCE, Posterior
from ._training.noise import SPREADS
from .backends import Program

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

    # Each sibling costs n_train_samples networks; two say when to stop well enough.
    _n_siblings = 2
    _spreads: ClassVar[tuple] = SPREADS

    def _posterior(self, network) -> Posterior:
        posterior = Posterior(network, self.posterior)
        if self.posterior == "full_covariance":
            largest = max(stop - start for start, stop in posterior.blocks)
            if largest > MAX_FULL_COVARIANCE:
                raise ValueError(
                    f"posterior='full_covariance' holds n(n+1)/2 numbers for a layer of n weights; got a layer of {largest}, "
                    f"at most {MAX_FULL_COVARIANCE} are allowed. Use smaller hidden_layer_sizes or posterior='mean_field'."
                )
        return posterior

    def _program(self, network):
        return Program(
            network,
            posterior=self._posterior(network),
            prior=self.prior,
            n_train_samples=self.n_train_samples,
            dropout=self.dropout_rate > 0,
            l1=self._l1,
        )

    def _prior_scales(self, network) -> np.ndarray:
        """Prior standard deviation of each kernel and bias weight, (n_layer_weights,), float32."""
        scales = np.ones(network.n_layer_weights, np.float32)
        for tensor in (tensor for layer in network.layers for tensor in layer):
            fan_in = 1 / np.sqrt(tensor.shape[0]) if tensor.is_kernel else 1.0
            scales[tensor.start : tensor.stop] = fan_in if self.prior_scale == "fan_in" else self.prior_scale
        return scales

    def _knobs(self, problem):
        return replace(
            super()._knobs(problem),
            kl_weight=self.kl_weight / problem.target.weight.sum(),
            prior_scale=self._prior_scales(problem.network),
            prior_ratio=self.prior_scale_ratio,
            prior_mix=self.prior_mix,
        )

    def _starting_parameters(self, problem, rngs, previous):
        posterior = self._posterior(problem.network)
        start = super()._starting_parameters(problem, rngs, previous)
        if start.shape[1] == posterior.n_parameters:
            return start
        return np.stack([posterior.initial(weights, self.posterior_scale_init) for weights in start])

    def _finish(self, problem, noise_scale, spread, parameters):
        # The narrowed posterior is the one that is kept: exported, drawn from and trained further.
        self.posterior_share_ = spread
        super()._finish(problem, noise_scale, 1.0, self._posterior(problem.network).narrowed(parameters, spread))

    def _draws(self, problem, parameters, spread=1.0):
        posterior = self._posterior(problem.network)
        seed = int(problem.seeds["draws"].generate_state(1)[0])
        return PosteriorDraws(
            problem.network,
            np.zeros((0, problem.network.n_weights), np.float32),
            problem.features,
            posterior=posterior,
            parameters=posterior.narrowed(parameters[0], spread),
            count=self.n_draws,
            seed=seed,
        )

    def _export(self):
        network = self._state.network
        return replace(
            super()._export(),
            weights=np.zeros((0, network.n_weights), np.float32),
            posterior=self._posterior(network),
            posterior_parameters=self._state.parameters[0],
            prior=self.prior,
            prior_scale=self._prior_scales(network),
            prior_ratio=self.prior_scale_ratio,
            prior_mix=self.prior_mix,
        )

    def _import(self, fitted):
        draws = replace(self._state.draws, parameters=fitted.posterior_parameters)
        self._state = replace(self._state, parameters=fitted.posterior_parameters[None], draws=draws)


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

    _auto_steps = 200

    def _encodes(self):
        # The covariance of a layer grows with the square of its inputs.
        return self.posterior == "mean_field" and super()._encodes()


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
