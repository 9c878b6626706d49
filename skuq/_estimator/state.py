"""What a fit works on and what it leaves: plain data, no framework object, nothing that a parameter changes later."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .._data.encoding import Encoding
from .._data.rows import SparseRows, Standardizer
from .._model.heads import Head
from .._model.network import Network
from .._model.posteriors import WeightPosterior
from .._prediction.conformal import Scores
from .._training.loop import Rows
from ..likelihoods import Likelihood

# Numbers that all draws of one stretch of rows may hold, and what its number of rows is a multiple of.
STRETCH_NUMBERS, STRETCH_ROWS = 2**21, 256
# Standardised rows, as sparse as they came.
Stretch = np.ndarray | SparseRows


@dataclass(frozen=True, kw_only=True)
class Output:
    """How the numbers of a network become answers in y's units.

    Attributes
    ----------
    head : Head
    standardizer : Standardizer
        Shift and scale of the targets; of counts, which stay what they are, the scale is the unit of their mean.
    likelihood : Likelihood or None
        None for classifiers.
    exposure : int or None
        Column of X that is no feature but what counts were gathered over.
    single : bool
        Whether y was one column, so that answers have no axis for outputs.
    """

    head: Head
    standardizer: Standardizer
    likelihood: Likelihood | None = None
    exposure: int | None = None
    single: bool = True

    @property
    def fixed(self) -> np.ndarray:
        """Parameters of the likelihood that the user fixed, then the units of the targets if the head has them, float32."""
        return np.asarray(self.likelihood.fixed_values(self.standardizer.scale) if self.likelihood else (), np.float32)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Targets as a trainer sees them, and how to read them back.

    Attributes
    ----------
    output : Output
    y : ndarray of shape (n_rows, n_targets), float32
        Standardised values, values over their mean, counts (their exposure in a last column, if the head has one), 0/1, or
        one-hot classes.
    weight : ndarray of shape (n_rows,)
        Weight of each row in the loss: sample weight times class weight.
    strata : ndarray of shape (n_rows,) or None
        Class codes, for stratified held-out rows.
    """

    output: Output
    y: np.ndarray
    weight: np.ndarray
    strata: np.ndarray | None = None

    @property
    def head(self) -> Head:
        """What the network's outputs mean."""
        return self.output.head

    @property
    def likelihood(self) -> Likelihood | None:
        """The family; None for classifiers."""
        return self.output.likelihood

    @property
    def standardizer(self) -> Standardizer:
        """Units of the targets."""
        return self.output.standardizer

    @property
    def fixed(self) -> np.ndarray:
        """Numbers of the likelihood that training does not change."""
        return self.output.fixed

    def marginal_fit(self) -> tuple[np.ndarray, np.ndarray]:
        """Raw outputs and raw constants at which training starts."""
        if self.likelihood:
            y, weight, units = self.y[:, : self.head.n_outputs].astype(float), self.weight, self.standardizer.scale
            if self.head.has_exposure:
                # Counts at the mean exposure, each as sure as its own is long. Where Var[y] = e m + (e m)² / r, their weighted
                # variance is ē m + (ē m)² / r, whereas that of the counts themselves holds the spread of e too.
                exposure = self.y[:, -1].astype(float)
                mean = np.average(exposure, weights=weight)
                y, weight, units = y * (mean / exposure)[:, None], weight * exposure / mean, units * mean
            return self.likelihood.initial_raw(y, weight, units)
        frequency = np.clip(np.average(self.y, axis=0, weights=self.weight), 1e-4, 1 - 1e-4)
        raw = np.log(frequency / (1 - frequency)) if self.head.family == "bernoulli" else np.log(frequency)
        return raw, np.empty(0)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One fit, between validation and the fitted state.

    Attributes
    ----------
    network : Network
    rows : Rows
    target : Target
    x_standardizer : Standardizer
    seeds : dict of SeedSequence
        By what they are for.
    features : dict of ndarray
        Arrays that the network computes with and nobody trains.
    encoding : Encoding
    is_table : bool
        Whether columns mean something by themselves, see :func:`skuq._estimator.auto.is_a_table`.
    """

    network: Network
    rows: Rows
    target: Target
    x_standardizer: Standardizer
    seeds: dict[str, np.random.SeedSequence]
    features: dict[str, np.ndarray]
    encoding: Encoding
    is_table: bool = True


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What held-out rows say of the learned noise.

    Attributes
    ----------
    scale : ndarray of shape (1, 1, n_outputs)
        Factor of the learned scale, after its power.
    power : ndarray of shape (1, 1, n_outputs)
        Power of the learned scale: below 1, scales differ less from row to row than the network says.
    limit : ndarray of shape (1, 1, n_outputs)
        Largest scale, after that factor, that these rows support; infinite where it is not limited.
    """

    scale: np.ndarray = field(default_factory=lambda: np.ones((1, 1, 1)))
    power: np.ndarray = field(default_factory=lambda: np.ones((1, 1, 1)))
    limit: np.ndarray = field(default_factory=lambda: np.full((1, 1, 1), np.inf))

    @classmethod
    def of(cls, factor: np.ndarray, power: np.ndarray) -> "Noise":
        """Noise of a factor and a power for each output, (n_outputs,)."""
        return cls(scale=factor[None, None], power=power[None, None])

    def of_scale(self, scale: np.ndarray) -> np.ndarray:
        """What a learned scale, (n_draws, n_rows, n_outputs), becomes."""
        if np.any(self.power != 1):
            scale = scale**self.power
        return np.minimum(scale * self.scale, self.limit)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What held-out rows said, as part of the fitted state.

    Attributes
    ----------
    method : {"conformal", "temperature"} or None
    temperature : float
        Divides the logits of every draw.
    log_class_weight : float or ndarray of shape (n_logits,)
        What is taken off the divided logits: the class weights of training, which they would have learned otherwise.
    conformal : Scores or None
        Of the rows held out: intervals and sets are made from these and the model's own answer.
    seed : int or None
        Of the folds; None if nothing was held out.
    held_out : bool
        Whether the estimator itself held rows out.
    folds : tuple of fitted estimators
        Kept for ``warm_start`` only: each fold's model continues too, so that it is no less trained than the estimator.
    """

    method: str | None = None
    temperature: float = 1.0
    log_class_weight: float | np.ndarray = 0.0
    conformal: Scores | None = None
    seed: int | None = None
    held_out: bool = False
    folds: tuple[Any, ...] = ()


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything a fitted estimator answers with.

    Attributes
    ----------
    posterior : WeightPosterior
        The method's own object: trained arrays, and the settings with which they are read.
    output : Output
    x_standardizer : Standardizer
    noise : Noise
    encoding : Encoding
        Which features are encoded.
    standardized : bool
        Whether rows and targets were standardised: ``warm_start`` goes on in the same units only.
    calibration : Calibration
        Temperature, or conformal intervals and sets; neither where ``calibration=None``.
    """

    posterior: WeightPosterior
    output: Output
    x_standardizer: Standardizer
    noise: Noise
    encoding: Encoding
    standardized: bool = True
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def network(self) -> Network:
        """What the weights belong to."""
        return self.posterior.network

    @property
    def parameters(self) -> np.ndarray:
        """As they were trained, (n_networks, n_parameters)."""
        return self.posterior.parameters

    def stretches(self, X: Any) -> Iterator[Stretch]:
        """Standardised stretches of validated rows, as sparse as they came, all draws of which fit in memory."""
        per_row = self.posterior.n_draws * max(self.output.head.n_raw, 1)
        n_rows = max(STRETCH_ROWS, (STRETCH_NUMBERS // per_row) // STRETCH_ROWS * STRETCH_ROWS)
        for start in range(0, X.shape[0], n_rows):
            yield self.x_standardizer.rows(X[start : start + n_rows])
