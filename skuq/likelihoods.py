"""Likelihoods: the distribution of one target given what the network says about a row.

A likelihood is data and formulas. The data (:meth:`Likelihood.head`) tell the network how many numbers to
output and by which link each becomes a parameter; the formulas are those of ``scipy.stats``. The backends hold
the differentiable log densities of the same families (TensorFlow Probability, ``torch.distributions``).

Pass one to a regressor, ``likelihood=Normal(scale="constant")``, or its name with its defaults,
``likelihood="normal"``. Its parameters are searchable, ``likelihood__scale``.
"""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from scipy import special, stats
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

from ._predictive import smallest_count

__all__ = [
    "Gamma",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Poisson",
    "StudentT",
]

# Standardised units. Keeps a density finite where a network fits a repeated target exactly.
SCALE_FLOOR = 1e-3
# Training takes a softplus for at least this steep, as it is at −6.9: noise that one bad step threw far below its floor would
# else never come back.
LEAST_SLOPE = 1e-3
# A mean of e^20 ≈ 5e8 is the largest of which scipy gives Poisson quantiles.
EXP_LIMIT = 20.0
# Log-normal: with |log mean| ≤ 100 and a scale of log y ≤ 10 the variance stays below e^400.
LOG_LIMIT, LOG_SCALE_LIMIT = 100.0, 10.0


@dataclass(frozen=True)
class Parameter:
    """One parameter of a likelihood and where its value comes from.

    Attributes
    ----------
    name : str
        Its name in the family, such as "loc".
    link : {"identity", "softplus", "exp"}
        The map from the unbounded raw value: ``floor + link(raw)``.
    source : {"input", "constant", "fixed"}
        "input": an output of the network, different for each row. "constant": one learned number per
        target. "fixed": a number the user gave, never trained.
    floor : float
        Added to the linked value.
    """

    name: str
    link: str
    source: str
    floor: float = 0.0


@dataclass(frozen=True)
class Head:
    """What a network's output means: the family, its parameters, the number of targets.

    Raw outputs stand parameter by parameter: columns ``[j * n_outputs, (j + 1) * n_outputs)`` belong to the j-th
    parameter of source "input". The learned constants are laid out the same way.
    """

    family: str
    parameters: tuple[Parameter, ...]
    n_outputs: int

    def _count(self, source: str) -> int:
        return sum(parameter.source == source for parameter in self.parameters)

    @property
    def n_raw(self) -> int:
        """Width of the network's output layer."""
        return self.n_outputs * self._count("input")

    @property
    def n_constants(self) -> int:
        """Number of learned constants."""
        return self.n_outputs * self._count("constant")

    @property
    def n_fixed(self) -> int:
        """Number of numbers fixed by the user."""
        return self._count("fixed")


def apply_link(link: str, raw: np.ndarray) -> np.ndarray:
    """Map raw values to a parameter's range (before its floor is added)."""
    if link == "softplus":
        return np.logaddexp(0.0, raw)
    if link == "exp":
        return np.exp(np.clip(raw, -EXP_LIMIT, EXP_LIMIT))
    return raw


def invert_link(link: str, value: np.ndarray) -> np.ndarray:
    """Raw value that the link maps to `value`."""
    if link == "softplus":
        return value + np.log(-np.expm1(-value))
    if link == "exp":
        return np.log(value)
    return value


def link_parameters(head: Head, raw, constants, fixed) -> dict[str, np.ndarray]:
    """Turn raw outputs into named parameters.

    Parameters
    ----------
    head : Head
    raw : ndarray of shape (n_draws, n_rows, head.n_raw)
    constants : ndarray of shape (n_draws, head.n_constants)
    fixed : sequence of float, length head.n_fixed

    Returns
    -------
    dict of ndarray, each of shape (n_draws, n_rows, n_outputs) or broadcastable to it
    """
    values = {}
    width, i_input, i_constant, i_fixed = head.n_outputs, 0, 0, 0
    for parameter in head.parameters:
        if parameter.source == "fixed":
            values[parameter.name] = np.full((1, 1, 1), float(fixed[i_fixed]))
            i_fixed += 1
            continue
        if parameter.source == "input":
            source = raw[..., i_input * width : (i_input + 1) * width]
            i_input += 1
        else:
            source = constants[:, None, i_constant * width : (i_constant + 1) * width]
            i_constant += 1
        values[parameter.name] = parameter.floor + apply_link(parameter.link, source)
    return values


class Likelihood(BaseEstimator):
    """Base of the families: what a regressor needs to know of p(y | parameters).

    A subclass gives `family`, `target_transform`, :meth:`parameters` and :meth:`distribution`; everything else
    follows. Parameters always travel as a dict of arrays under the names of :meth:`parameters`.
    """

    family: str = ""
    # "standardize": train on (y − mean) / std. "log": on the standardised log y. None: on y itself.
    target_transform: str | None = "standardize"
    discrete = False
    _parameter_constraints: dict = {}

    def validate(self):
        """Raise ``InvalidParameterError`` if a constructor argument is out of range."""
        validate_parameter_constraints(self._parameter_constraints, self.get_params(deep=False), type(self).__name__)

    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the family in the order of the network's outputs."""
        raise NotImplementedError

    def distribution(self, parameters):
        """Frozen ``scipy.stats`` distribution with these parameters."""
        raise NotImplementedError

    def head(self, n_outputs: int) -> Head:
        """Head of a network for `n_outputs` independent targets."""
        return Head(self.family, self.parameters(), n_outputs)

    def fixed_values(self) -> tuple[float, ...]:
        """Numbers given by the user for the parameters of source "fixed"."""
        return tuple(
            float(getattr(self, parameter.name)) for parameter in self.parameters() if parameter.source == "fixed"
        )

    @property
    def loss_beta(self) -> float:
        """Exponent of the β-NLL weight; 0 is the plain negative log-likelihood."""
        return float(getattr(self, "beta", 0.0))

    def check_target(self, y):
        """Raise ``ValueError`` if a target lies outside the family's support."""

    def _reject(self, y, bad, support):
        if np.any(bad):
            name = type(self).__name__
            raise ValueError(
                f"The {name} likelihood needs targets that are {support}, got y with minimum {np.min(y):g} "
                f"({int(np.sum(bad))} of {np.size(y)} values outside). Choose a likelihood that holds them, such as "
                f"'normal', or transform y."
            )

    def initial_parameters(self, y, sample_weight):
        """Marginal fit: values at which training starts, in the units it trains in.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_outputs)
        sample_weight : ndarray of shape (n_rows,)

        Returns
        -------
        dict of ndarray of shape (n_outputs,)
        """
        return {"loc": np.zeros(y.shape[1]), "scale": np.ones(y.shape[1])}

    def initial_raw(self, y, sample_weight):
        """Raw outputs and raw constants of the marginal fit: two arrays, as `Head` lays them out."""
        start = self.initial_parameters(y, sample_weight)
        raw = {"input": [np.empty(0)], "constant": [np.empty(0)]}
        for parameter in self.parameters():
            if parameter.source != "fixed":
                linked = np.maximum(
                    start[parameter.name] - parameter.floor, 1e-6 if parameter.link != "identity" else -np.inf
                )
                raw[parameter.source].append(invert_link(parameter.link, linked))
        return np.concatenate(raw["input"]), np.concatenate(raw["constant"])

    def to_target_units(self, parameters, shift, scale):
        """Map parameters from standardised units to y's: y = shift + scale · z."""
        if self.target_transform != "standardize":
            return parameters
        return {
            **parameters,
            "loc": parameters["loc"] * scale + shift,
            "scale": parameters["scale"] * scale,
        }

    def transform_target(self, y):
        """Targets on the scale that is standardised: y itself, or its logarithm."""
        return y

    def location_information(self, parameters):
        """Fisher information of the first raw output (location, or log mean) at these parameters."""
        raise NotImplementedError

    def on_training_scale(self) -> "Likelihood":
        """The likelihood of the values training sees: itself, or the normal of log y."""
        return self

    @property
    def learns_scale(self) -> bool:
        """Whether a noise scale is learned, so that held-out rows may rescale it."""
        return False

    # scipy.stats has each formula; a family overrides one only where its own special function is much faster.
    def mean(self, parameters):
        """E[y]."""
        return self.distribution(parameters).mean()

    def var(self, parameters):
        """Var[y]."""
        return self.distribution(parameters).var()

    def cdf(self, y, parameters):
        """P(Y ≤ y)."""
        return self.distribution(parameters).cdf(y)

    def sf(self, y, parameters):
        """P(Y > y), to all its digits where scipy has it."""
        if type(self).cdf is Likelihood.cdf:
            return self.distribution(parameters).sf(y)
        return 1 - self.cdf(y, parameters)

    def ppf(self, q, parameters):
        """Quantile of level q."""
        return self.distribution(parameters).ppf(q)

    def logpdf(self, y, parameters):
        """Log density, or log mass for counts, in nats."""
        frozen = self.distribution(parameters)
        return frozen.logpmf(y) if self.discrete else frozen.logpdf(y)

    def pdf(self, y, parameters):
        """Density, or mass for counts."""
        return np.exp(self.logpdf(y, parameters))

    def rvs(self, parameters, rng, size=None):
        """One random target for each set of parameters (or `size` of them), by the inverse of the cdf."""
        shape = np.broadcast_shapes(*(np.shape(value) for value in parameters.values())) if size is None else size
        return self.ppf(rng.uniform(1e-15, 1.0, size=shape), parameters)


_SCALE = [StrOptions({"input", "constant"}), Interval(Real, 0, None, closed="neither")]


def _scale_parameter(scale, name="scale", floor=SCALE_FLOOR):
    return Parameter(name, "softplus", scale if isinstance(scale, str) else "fixed", floor)


class _LocationScale(Likelihood):
    _parameter_constraints = {"scale": _SCALE, "beta": [Interval(Real, 0, 1, closed="both")]}

    def __init__(self, scale="input", beta=0.5):
        self.scale = scale
        self.beta = beta

    def parameters(self):
        return (Parameter("loc", "identity", "input"), _scale_parameter(self.scale))

    def mean(self, parameters):
        return parameters["loc"] + 0.0 * parameters["scale"]

    @property
    def loss_beta(self):
        return float(self.beta) if self.scale == "input" else 0.0

    @property
    def learns_scale(self):
        return isinstance(self.scale, str)

    def location_information(self, parameters):
        return 1 / parameters["scale"] ** 2

    def best_scale(self, y, parameters, weight, axis):
        """Factor of the scale that maximises the likelihood of `y`, along `axis` (kept): the root mean square of z."""
        z = (y - parameters["loc"]) / parameters["scale"]
        return np.sqrt(_weighted_mean(z**2, weight, axis))


def _weighted_mean(values, weight, axis):
    # The floor keeps rows that are fitted exactly from collapsing the noise.
    mean = (weight * values).sum(axis=axis, keepdims=True) / weight.sum(axis=axis, keepdims=True)
    return np.clip(mean, 1e-6, 1e6)


class Normal(_LocationScale):
    """Normal distribution with mean `loc` and standard deviation `scale`.

    Parameters
    ----------
    scale : {"input", "constant"} or float > 0, default="input"
        "input": σ(x), an output of the network (heteroscedastic). "constant": one learned σ. A number: σ fixed,
        in standardised units of y (y's standard deviation is 1).
    beta : float in [0, 1], default=0.5
        Weight σ^(2β) of each row's loss for ``scale="input"`` (Seitzer et al. 2022, "On the Pitfalls of
        Heteroscedastic Uncertainty Estimation"); 0 is the plain likelihood, which starves the mean where the noise is
        large.

    Examples
    --------
    >>> from skuq.likelihoods import Normal
    >>> Normal(scale=1.0).fixed_values()
    (1.0,)
    """

    family = "normal"

    def distribution(self, parameters):
        return stats.norm(parameters["loc"], parameters["scale"])

    def var(self, parameters):
        return parameters["scale"] ** 2 + 0.0 * parameters["loc"]

    def cdf(self, y, parameters):
        return special.ndtr((y - parameters["loc"]) / parameters["scale"])

    def sf(self, y, parameters):
        return special.ndtr((parameters["loc"] - y) / parameters["scale"])

    def ppf(self, q, parameters):
        return parameters["loc"] + parameters["scale"] * special.ndtri(q)

    def logpdf(self, y, parameters):
        z = (y - parameters["loc"]) / parameters["scale"]
        return -0.5 * z * z - np.log(parameters["scale"]) - 0.5 * np.log(2 * np.pi)


class Laplace(_LocationScale):
    """Laplace distribution with mean `loc` and mean absolute deviation `scale`; robust to outliers.

    Parameters
    ----------
    scale : {"input", "constant"} or float > 0, default="input"
        As for :class:`Normal`.
    beta : float in [0, 1], default=0.5
        As for :class:`Normal`.

    Examples
    --------
    >>> from skuq.likelihoods import Laplace
    >>> float(Laplace().var({"loc": 0.0, "scale": 2.0}))
    8.0
    """

    family = "laplace"

    def distribution(self, parameters):
        return stats.laplace(parameters["loc"], parameters["scale"])

    def best_scale(self, y, parameters, weight, axis):
        """Factor of the scale that maximises the likelihood: the mean of ``|z|``."""
        return _weighted_mean(np.abs(y - parameters["loc"]) / parameters["scale"], weight, axis)

    def initial_parameters(self, y, sample_weight):
        return {"loc": np.zeros(y.shape[1]), "scale": np.full(y.shape[1], np.sqrt(0.5))}


class StudentT(_LocationScale):
    """Student's t with location `loc`, scale `scale` and `df` degrees of freedom; heavy tails.

    Parameters
    ----------
    scale : {"input", "constant"} or float > 0, default="input"
        As for :class:`Normal`.
    df : "constant" or float > 2, default="constant"
        Degrees of freedom, learned or fixed. Above 2, so that the variance exists.
    beta : float in [0, 1], default=0.5
        As for :class:`Normal`.

    Examples
    --------
    >>> from skuq.likelihoods import StudentT
    >>> round(float(StudentT(df=4.0).var({"loc": 0.0, "scale": 1.0, "df": 4.0})), 6)
    2.0
    """

    family = "student_t"
    _parameter_constraints = {
        **_LocationScale._parameter_constraints,
        "df": [StrOptions({"constant"}), Interval(Real, 2, None, closed="neither")],
    }

    def __init__(self, scale="input", df="constant", beta=0.5):
        super().__init__(scale=scale, beta=beta)
        self.df = df

    def parameters(self):
        return (*super().parameters(), _scale_parameter(self.df, "df", floor=2.0))

    def distribution(self, parameters):
        return stats.t(parameters["df"], parameters["loc"], parameters["scale"])

    def location_information(self, parameters):
        df = parameters["df"]
        return (df + 1) / (df + 3) / parameters["scale"] ** 2

    def best_scale(self, y, parameters, weight, axis):
        """Factor of the scale that maximises the likelihood, by the EM steps of Liu & Rubin 1995."""
        z2 = ((y - parameters["loc"]) / parameters["scale"]) ** 2
        df = parameters["df"]
        square = _weighted_mean(z2, weight, axis)
        for _ in range(20):
            square = _weighted_mean((df + 1) / (df + z2 / square) * z2, weight, axis)
        return np.sqrt(square)

    def initial_parameters(self, y, sample_weight):
        ones = np.ones(y.shape[1])
        return {"loc": 0 * ones, "scale": np.sqrt(0.75) * ones, "df": 8 * ones}


class LogNormal(_LocationScale):
    """Log-normal distribution: log y is normal with mean `loc` and standard deviation `scale`. For y > 0.

    Parameters
    ----------
    scale : {"input", "constant"} or float > 0, default="input"
        Of log y; as for :class:`Normal`.
    beta : float in [0, 1], default=0.5
        As for :class:`Normal`.

    Examples
    --------
    >>> from skuq.likelihoods import LogNormal
    >>> float(LogNormal().ppf(0.5, {"loc": 0.0, "scale": 1.0}))
    1.0
    """

    # Trained as a normal on log y; the Jacobian −log y does not depend on the network.
    family = "normal"
    target_transform = "log"

    def distribution(self, parameters):
        return stats.lognorm(parameters["scale"], scale=np.exp(parameters["loc"]))

    def mean(self, parameters):
        return np.exp(parameters["loc"] + 0.5 * parameters["scale"] ** 2)

    def on_training_scale(self):
        return Normal(scale=self.scale)

    def check_target(self, y):
        self._reject(y, y <= 0, "positive")

    def transform_target(self, y):
        return np.log(y)

    def to_target_units(self, parameters, shift, scale):
        # Far outside the data a log mean may grow past what the mean and the variance of y can hold.
        loc = np.clip(parameters["loc"] * scale + shift, -LOG_LIMIT, LOG_LIMIT)
        return {"loc": loc, "scale": np.minimum(parameters["scale"] * scale, LOG_SCALE_LIMIT)}


class Gamma(Likelihood):
    """Gamma distribution by its mean and its shape; standard deviation ∝ mean. For y > 0.

    Parameters
    ----------
    shape : {"input", "constant"} or float > 0, default="constant"
        Shape k, so that Var[y] = mean² / k; an output of the network, one learned number, or fixed.

    Examples
    --------
    >>> from skuq.likelihoods import Gamma
    >>> float(Gamma().var({"mean": 3.0, "shape": 9.0}))
    1.0
    """

    family = "gamma"
    target_transform = None
    _parameter_constraints = {"shape": _SCALE}

    def __init__(self, shape="constant"):
        self.shape = shape

    def parameters(self):
        return (Parameter("mean", "exp", "input"), _scale_parameter(self.shape, "shape"))

    def distribution(self, parameters):
        return stats.gamma(parameters["shape"], scale=parameters["mean"] / parameters["shape"])

    def location_information(self, parameters):
        return parameters["shape"] + 0 * parameters["mean"]

    def check_target(self, y):
        self._reject(y, y <= 0, "positive")

    def initial_parameters(self, y, sample_weight):
        mean = np.average(y, axis=0, weights=sample_weight)
        var = np.average((y - mean) ** 2, axis=0, weights=sample_weight)
        return {"mean": mean, "shape": np.clip(mean**2 / np.maximum(var, 1e-12), 0.1, 1e3)}


class _Count(Likelihood):
    target_transform = None
    discrete = True

    def check_target(self, y):
        self._reject(y, (y < 0) | (y != np.floor(y)), "counts (0, 1, 2, …)")

    def ppf(self, q, parameters):
        # scipy searches for milliseconds where means are large.
        if np.all((np.asarray(q) > 0) & (np.asarray(q) < 1)):
            return smallest_count(lambda k: self.cdf(k, parameters), q, self.mean(parameters), self.var(parameters))
        return super().ppf(q, parameters)


class Poisson(_Count):
    """Poisson distribution of counts with mean and variance `rate`.

    Examples
    --------
    >>> from skuq.likelihoods import Poisson
    >>> float(Poisson().mean({"rate": 2.5}))
    2.5
    """

    family = "poisson"

    def parameters(self):
        return (Parameter("rate", "exp", "input"),)

    def distribution(self, parameters):
        return stats.poisson(parameters["rate"])

    def location_information(self, parameters):
        return parameters["rate"]

    def initial_parameters(self, y, sample_weight):
        return {"rate": np.maximum(np.average(y, axis=0, weights=sample_weight), 1e-3)}


class NegativeBinomial(_Count):
    """Negative binomial distribution of counts by its mean and concentration; overdispersed Poisson.

    Parameters
    ----------
    concentration : {"input", "constant"} or float > 0, default="constant"
        r, so that Var[y] = mean + mean² / r; an output of the network, one learned number, or fixed.

    Examples
    --------
    >>> from skuq.likelihoods import NegativeBinomial
    >>> round(float(NegativeBinomial().var({"mean": 2.0, "concentration": 4.0})), 6)
    3.0
    """

    family = "negative_binomial"
    _parameter_constraints = {"concentration": _SCALE}

    def __init__(self, concentration="constant"):
        self.concentration = concentration

    def parameters(self):
        return (Parameter("mean", "exp", "input"), _scale_parameter(self.concentration, "concentration"))

    def distribution(self, parameters):
        r = parameters["concentration"]
        return stats.nbinom(r, r / (r + parameters["mean"]))

    def location_information(self, parameters):
        mean, r = parameters["mean"], parameters["concentration"]
        return mean * r / (mean + r)

    def initial_parameters(self, y, sample_weight):
        mean = np.maximum(np.average(y, axis=0, weights=sample_weight), 1e-3)
        excess = np.average((y - mean) ** 2, axis=0, weights=sample_weight) - mean
        return {"mean": mean, "concentration": np.clip(mean**2 / np.maximum(excess, 1e-12), 0.1, 1e3)}


def classification_head(n_classes: int) -> Head:
    """Head of a classifier: one logit for two classes, else one logit a class."""
    logits = (Parameter("logits", "identity", "input"),)
    return Head("bernoulli", logits, 1) if n_classes == 2 else Head("categorical", logits, n_classes)


NAMED = {
    "normal": Normal,
    "laplace": Laplace,
    "student_t": StudentT,
    "lognormal": LogNormal,
    "gamma": Gamma,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
}


def resolve_likelihood(likelihood) -> Likelihood:
    """Return the likelihood itself, or the one of that name with its defaults, validated."""
    resolved = NAMED[likelihood]() if isinstance(likelihood, str) else likelihood
    resolved.validate()
    return resolved
