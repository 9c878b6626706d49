"""What training leaves of the weights: one small object a method, with the arrays and the settings that answers need.

Prediction, reports, export and native models read these objects and nothing else, so a parameter that is changed after ``fit``
changes none of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from .._data.rows import SparseRows
from .draws import Draws, MaskedDraws, PosteriorDraws, working_type
from .gaussian_process import RandomFeatureGP
from .network import Network
from .threads import borrowed_scratch
from .variational import Posterior, Prior


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightPosterior(ABC):
    """What is known of the weights of a network after training.

    Attributes
    ----------
    network : Network
    parameters : ndarray of shape (n_networks, n_parameters), float32
        As they were trained: weights, or the parameters of a distribution over them.
    features : dict of ndarray
        Arrays that nobody trains, see :attr:`Network.fixed_shapes`.
    dropout_rate : float
        Of a native model's dropout layers; 0 for none.
    spec_norm_bound : float or None
        Bound of the hidden kernels' spectral norms, under which a native model trains on; None leaves them free.
    """

    network: Network
    parameters: np.ndarray
    features: dict[str, np.ndarray] = field(default_factory=dict)
    dropout_rate: float = 0.0
    spec_norm_bound: float | None = None

    @property
    @abstractmethod
    def n_draws(self) -> int:
        """Number of functions in the predictive mixture."""

    @abstractmethod
    def draws(self) -> Draws:
        """The functions themselves, for one call: what they keep to be faster dies with them."""

    @property
    def mean_weights(self) -> np.ndarray:
        """Weights (n_networks, n_weights) that stand for the posterior."""
        return self.parameters

    def with_parameters(self, parameters: np.ndarray) -> Self:
        """The same posterior around other parameters, (n_networks, n_parameters)."""
        return replace(self, parameters=parameters)


@dataclass(frozen=True, kw_only=True, eq=False)
class PointEstimates(WeightPosterior):
    """One network, or an equal mixture of several, each with weights that are taken for certain."""

    @property
    def n_draws(self) -> int:
        """Number of networks."""
        return len(self.parameters)

    def draws(self) -> Draws:
        """Each network is a function."""
        return Draws(self.network, self.parameters, self.features)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedNetwork(WeightPosterior):
    """One network thinned by fixed sets of unit masks (Gal & Ghahramani 2016).

    Attributes
    ----------
    masks : ndarray of shape (n_draws, n_units)
        0 or 1 / keep probability, drawn at `dropout_rate`.
    """

    masks: np.ndarray

    @property
    def n_draws(self) -> int:
        """Number of thinned networks."""
        return len(self.masks)

    def draws(self) -> Draws:
        """Each set of masks makes a function."""
        return MaskedDraws(self.network, self.parameters, self.features, masks=self.masks)

    def thinned(self, draw: int) -> PointEstimates:
        """One draw as a network of its own: each unit's mask times its outgoing weights."""
        weights = self.parameters.copy()
        network, unit = self.network, 0
        views, following = network.views(weights), (*network.hidden_kernels[1:], network.output_kernel)
        for size, kernel in zip(network.hidden_layer_sizes, following, strict=False):
            views[kernel.name] *= self.masks[draw][unit : unit + size, None]
            unit += size
        return PointEstimates(network=self.network, parameters=weights, features=self.features)


@dataclass(frozen=True, kw_only=True, eq=False)
class VariationalPosterior(WeightPosterior):
    """A distribution q over the weights (Blundell et al. 2015), with the prior that it was trained against.

    Attributes
    ----------
    layout : Posterior
        Family of q, and where its parameters stand; `parameters` has one row.
    prior : Prior
    count : int
        Number of draws.
    seed : int
        Of the draws.
    share : float
        Standard deviations over those trained, as held-out rows ask for it.
    """

    layout: Posterior
    prior: Prior
    count: int = 1
    seed: int = 0
    share: float = 1.0

    @property
    def n_draws(self) -> int:
        """Number of sets of weights."""
        return self.count

    @property
    def mean_weights(self) -> np.ndarray:
        """Weights at the means of q."""
        return self.layout.mean_weights(self.parameters)

    def draws(self) -> Draws:
        """Each set of weights drawn from q is a function."""
        return PosteriorDraws(
            self.network,
            np.zeros((0, self.network.n_weights), np.float32),
            self.features,
            posterior=self.layout,
            parameters=self.parameters[0],
            count=self.count,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianProcess(WeightPosterior):
    """One network whose output weights β on random features have a Gaussian posterior; the other weights are certain.

    Attributes
    ----------
    covariance : RandomFeatureGP
        Of β.
    count : int
        Points of the Gaussian posterior where no closed form exists.
    mean_field_factor : float
        λ of softmax(logits / √(1 + λ v)); 0 for a regressor.
    """

    covariance: RandomFeatureGP
    count: int = 1
    mean_field_factor: float = 0.0

    @property
    def n_draws(self) -> int:
        """Number of points."""
        return self.count

    def draws(self) -> Draws:
        """The one function of the posterior mean."""
        return Draws(self.network, self.parameters, self.features)

    @property
    def ridge_penalty(self) -> float:
        """s, the prior precision of β."""
        return self.covariance.ridge

    @property
    def precision(self) -> np.ndarray:
        """s·I + Σ w ΦΦᵀ, (n_precisions, M, M): one shared by all latent functions, or one each."""
        return self.covariance.precision(self.network.n_inducing)

    def with_precision(self, precision: np.ndarray) -> "GaussianProcess":
        """The same process after another precision, as :attr:`precision` has it."""
        return replace(self, covariance=RandomFeatureGP.from_precision(precision, self.ridge_penalty))

    @property
    def constants(self) -> np.ndarray:
        """Raw values of the head's learned constants, (1, n_constants), float64."""
        return self.network.constants(self.parameters).astype(float)

    def moments(self, rows: np.ndarray | SparseRows) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n_rows, n_raw) and variance (n_rows, n_precisions) of the latent functions at standardised rows."""
        draws, network = self.draws(), self.network
        beta = network.views(self.parameters)[network.output_kernel.name][0].astype(float)
        with borrowed_scratch("factors") as kept:
            moments = self.covariance.moments(beta, network.feature_scale, working_type(network), kept)
            both = draws.of_cosines(rows, moments, beta.shape[1] + len(self.covariance.directions))
        return both[:, : beta.shape[1]], both[:, beta.shape[1] :]

    def sampled(self, n_samples: int, rng: Any) -> Callable[[np.ndarray | SparseRows], np.ndarray]:
        """Function from standardised rows to latent values (n_samples, n_rows, n_raw) of coherent draws of β.

        Parameters
        ----------
        n_samples : int
        rng : RandomState
        """
        n_uncertain = self.network.head.n_outputs
        noise = rng.normal(size=(n_samples, self.network.n_inducing, n_uncertain))
        kernel = self.network.views(self.parameters)[self.network.output_kernel.name].astype(float)
        beta = np.repeat(kernel, n_samples, axis=0)
        beta[:, :, :n_uncertain] += self.covariance.draw(noise)
        draws = self.draws()
        return lambda rows: draws.random_features(rows) @ beta


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A fitted model as arrays: what a native model is built from, and what is read back from it.

    Attributes
    ----------
    posterior : WeightPosterior
        What the method alone knows: :class:`PointEstimates`, one row of weights a native model, :class:`MaskedNetwork`,
        :class:`VariationalPosterior` or :class:`GaussianProcess`.
    fixed : ndarray of shape (head.n_fixed,)
        The likelihood's parameters that the user fixed, then the units of the targets, if the head has them.
    x_shift, x_scale : ndarray of shape (n_features,)
        The network sees (X − x_shift) / x_scale; x_scale is never 0.
    y_shift, y_scale : ndarray of shape (n_outputs,)
        Targets are y_shift + y_scale · (standardised target); 0 and 1 where the likelihood is not standardised, and
        for classifiers. For the log-normal they are in units of log y.
    noise_scale : ndarray of shape (n_outputs,) or (1,)
        Factor of the head's scale, from held-out rows.
    noise_power : ndarray of shape (n_outputs,) or (1,)
        Power of the head's scale, before that factor.
    noise_limit : ndarray of shape (n_outputs,) or (1,)
        Largest scale after that factor; infinite where it is not limited.
    log_target : bool
        Whether the family describes log y (log-normal).
    temperature : float
        Divides the logits that the native model gives. The variance of a Gaussian process stays as it is:
        softmax(logits / √(1 + λ v)) holds with the divided logits.
    log_class_weight : float or ndarray of shape (head.n_raw,)
        Taken off the divided logits.
    exposure : int or None
        Column of X that multiplies the parameters which are `in_units`; the network does not see it (x_scale is infinite there).
    """

    posterior: WeightPosterior
    fixed: np.ndarray
    x_shift: np.ndarray
    x_scale: np.ndarray
    y_shift: np.ndarray
    y_scale: np.ndarray
    noise_scale: np.ndarray = field(default_factory=lambda: np.ones(1))
    noise_power: np.ndarray = field(default_factory=lambda: np.ones(1))
    noise_limit: np.ndarray = field(default_factory=lambda: np.full(1, np.inf))
    log_target: bool = False
    temperature: float = 1.0
    log_class_weight: float | np.ndarray = 0.0
    exposure: int | None = None

    @property
    def network(self) -> Network:
        """What the weights belong to."""
        return self.posterior.network
