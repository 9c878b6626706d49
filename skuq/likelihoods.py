"""Likelihoods: the distribution of one target given what the network says about a row.

A likelihood is data and formulas. The data (:meth:`Likelihood.head`) tell the network how many numbers to output and by
which link each becomes a parameter. The log density stands once (:meth:`Likelihood.log_density`), written against the
functions of ``skuq/_model/namespace.py``, which NumPy and every backend fill; the other formulas are those of ``scipy.stats``.

Pass one to a regressor, ``likelihood=Normal(scale="constant")``, or its name with its defaults,
``likelihood="normal"``. Its parameters are searchable, ``likelihood__scale``. A subclass of :class:`Likelihood` is a
likelihood of your own.
"""

from math import log, pi
from numbers import Integral, Real

import numpy as np
from scipy import optimize, special, stats
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints

from ._model.heads import Density, Head, Parameter, apply_link, invert_link, link_parameters
from ._model.namespace import NUMPY, log_excess, log_gamma_half_step, stirling_rest
from ._prediction.distributions import smallest_count

__all__ = [
    "Gamma",
    "Laplace",
    "Likelihood",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "Parameter",
    "Poisson",
    "StudentT",
    "ZeroInflatedGamma",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
]

# Standardised units. Keeps a density finite where a network fits a repeated target exactly.
SCALE_FLOOR = 1e-3
# Larger numbers are no exact counts in float64.
LARGEST_COUNT = 2.0**53
# From this mean on, Poisson quantiles are expanded about the normal's and corrected by the cdf: scipy's are NaN at 1e12; and the
# tails of the cdf, from so many standard deviations on, are asymptotic: scipy's series stop early there.
LARGE_RATE, FAR_TAIL = 1e6, 4.0
# Log-normal: with |log mean| ≤ 100 and a scale of log y ≤ 10 the variance stays below e^400.
LOG_LIMIT, LOG_SCALE_LIMIT = 100.0, 10.0


class Likelihood(BaseEstimator):
    """Base of the families, and of a likelihood of your own: what a regressor needs to know of p(y | parameters).

    Parameters always travel as a dict of arrays under the names of :meth:`parameters`. A subclass has

    ``parameters(self)``
        a tuple of :class:`Parameter`: name, link, source, floor. The first says where y lies: its location, or its mean.
    ``log_density(self, xp, y, parameters)``
        log p(y | parameters) in nats, for targets on the scale that is trained on. Written once, with operators and the
        functions of `xp`: ``abs, arctan, clip, constant, cos, digamma, erf, exp, expm1, lgamma, log, log1p, logaddexp,
        maximum, minimum, sigmoid, sin, softplus, sqrt, square, tanh, where, xlogy`` of NumPy, TensorFlow or PyTorch.
        Training computes in float32. Read a fixed number from `parameters`, not from `self`.
    ``distribution(self, parameters)``
        the frozen ``scipy.stats`` distribution, of which mean, var, cdf and ppf are taken; or these four methods instead.
    ``target_transform``
        "standardize" (the default): trained on (y − mean) / std; the parameters are then to have a "loc" and a "scale" in y's
        units. "divide": on y / mean; the parameters are to have a "mean". None: trained on y itself. "count": on y itself
        too, and a :class:`Parameter` that is `in_units` is a multiple of the mean of y.
    ``exposure``
        if the constructor has an argument of this name: the column of X, by name or position, that multiplies the parameters
        which are `in_units`, see :class:`Poisson`.
    ``support``, ``discrete``
        the least and the largest target, and whether targets are integers.

    and where the defaults do not serve: :meth:`check_target` (the closed support), :meth:`initial_parameters` and
    :meth:`location_information` (found numerically), :meth:`best_scale` (by a search), :attr:`learns_scale`,
    :attr:`loss_beta` (0). Constructor arguments are stored under their own names, as scikit-learn has it, so they can be cloned
    and searched; ``_parameter_constraints`` declares their ranges.

    Examples
    --------
    The Gumbel distribution of largest values, on every backend:

    >>> from scipy import stats
    >>> from skuq.likelihoods import Likelihood, Parameter
    >>> class Gumbel(Likelihood):
    ...     def parameters(self):
    ...         return Parameter("loc", "identity", "input"), Parameter("scale", "softplus", "constant", 1e-3)
    ...
    ...     def log_density(self, xp, y, parameters):
    ...         z = (y - parameters["loc"]) / parameters["scale"]
    ...         return -z - xp.exp(-z) - xp.log(parameters["scale"])
    ...
    ...     def distribution(self, parameters):
    ...         return stats.gumbel_r(parameters["loc"], parameters["scale"])
    >>> round(float(Gumbel().logpdf(0.0, {"loc": 0.0, "scale": 1.0})), 6)
    -1.0
    """

    # Name of a family whose distribution the frameworks have too; a subclass does not inherit what it stands for.
    family: str = ""
    # "standardize": train on (y − mean) / std. "log": on the standardised log y. "divide": on y / mean. "count": on y itself,
    # parameters that are `in_units` being multiples of y's mean. None: on y itself.
    target_transform: str | None = "standardize"
    discrete = False
    support: tuple[float, float] = (-np.inf, np.inf)
    # The least target, where it has a probability of its own and others have a density: the cdf jumps there.
    atom: float | None = None
    # Whether an output of the network is the probability of zero.
    has_zero_probability = False
    _parameter_constraints: dict = {}
    # Arguments that the log density does not depend on: changing one compiles nothing anew.
    _not_in_density: tuple[str, ...] = ()

    def validate(self):
        """Raise if a constructor argument is out of range, or the family lacks what its transform of the target needs."""
        validate_parameter_constraints(self._parameter_constraints, self.get_params(deep=False), type(self).__name__)
        names = {parameter.name for parameter in self.parameters()}
        if self.target_transform == "standardize" and not {"loc", "scale"} <= names:
            raise ValueError(
                f"{type(self).__name__} has target_transform 'standardize', which needs parameters named 'loc' and "
                f"'scale', got {sorted(names)}. Set target_transform = None to train on y itself, or name them so."
            )
        if getattr(self, "exposure", None) is not None and not any(p.in_units for p in self.parameters()):
            raise ValueError(
                f"{type(self).__name__} has an exposure, got no parameter that goes with it. Give the Parameter that does "
                f"in_units=True, and set target_transform = 'count'."
            )

    def parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the family in the order of the network's outputs."""
        raise NotImplementedError(f"{type(self).__name__} has no parameters(self), a tuple of Parameter.")

    def log_density(self, xp, y, parameters):
        """Log density of targets on the training scale (log mass for counts), in nats.

        Parameters
        ----------
        xp : Namespace
            Functions of the arrays at hand, see ``skuq/_model/namespace.py``.
        y : array
            Targets inside the support.
        parameters : dict of array, broadcastable with `y`

        Returns
        -------
        array of the broadcast shape
        """
        raise NotImplementedError(f"{type(self).__name__} has no log_density(self, xp, y, parameters).")

    def distribution(self, parameters):
        """Frozen ``scipy.stats`` distribution with these parameters."""
        raise NotImplementedError(
            f"{type(self).__name__} has no distribution(self, parameters), a frozen scipy.stats distribution, nor mean, var, "
            f"cdf and ppf of its own."
        )

    def head(self, n_outputs: int) -> Head:
        """Head of a network for `n_outputs` independent targets."""
        trained = self.on_training_scale()
        # The frameworks' own distributions stand for skuq's own classes only: a subclass may have changed the density.
        family = trained.family if NAMED.get(trained.family) is type(trained) else ""
        has_exposure = getattr(self, "exposure", None) is not None
        return Head(family, self.parameters(), n_outputs, Density(trained), has_exposure)

    def fixed_values(self, units=()) -> tuple[float, ...]:
        """Numbers given by the user for the parameters of source "fixed", then `units` where a parameter is `in_units`."""
        parameters = self.parameters()
        given = [float(getattr(self, parameter.name)) for parameter in parameters if parameter.source == "fixed"]
        in_units = any(parameter.in_units for parameter in parameters)
        return (*given, *(map(float, units) if in_units else ()))

    @property
    def loss_beta(self) -> float:
        """Exponent of the β-NLL weight; 0 is the plain negative log-likelihood."""
        return 0.0

    def check_target(self, y):
        """Raise ``ValueError`` if a target lies outside the family's support."""
        low, high = self.support
        self._reject(y, (y < low) | (y > high), f"between {low:g} and {high:g}")

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
        fits = [marginal_fit(self, column, sample_weight) for column in y.T]
        return {name: np.array([fit[name] for fit in fits]) for name in fits[0]}

    def initial_raw(self, y, sample_weight, units=1.0):
        """Raw outputs and raw constants of the marginal fit: two arrays, as `Head` lays them out.

        `units`, of shape (n_outputs,), multiply the parameters that are `in_units`.
        """
        start = self.initial_parameters(y, sample_weight)
        start = {**start, **{p.name: start[p.name] / units for p in self.parameters() if p.in_units}}
        raw = {"input": [np.empty(0)], "constant": [np.empty(0)]}
        for parameter in self.parameters():
            if parameter.source != "fixed":
                linked = start[parameter.name] - parameter.floor
                if parameter.link in ("softplus", "exp", "logit"):
                    linked = np.clip(linked, 1e-6, 1 - 1e-6 if parameter.link == "logit" else None)
                raw[parameter.source].append(invert_link(parameter.link, linked))
        return np.concatenate(raw["input"]), np.concatenate(raw["constant"])

    def to_target_units(self, parameters, shift, scale):
        """Map parameters from the units of training to y's: y = shift + scale · z."""
        if self.target_transform == "divide":
            return {**parameters, "mean": parameters["mean"] * scale}
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
        """Fisher information of the first raw output (location, or log mean) at these parameters.

        By default the mean of the squared slope of the log density, by Gauss–Legendre quadrature over the levels of y.
        """
        nodes, weights = special.roots_legendre(20)
        arrays = dict(zip(parameters, np.broadcast_arrays(*parameters.values()), strict=True))
        first, step = self.parameters()[0], 1e-4
        raw = invert_link(first.link, arrays[first.name] - first.floor)
        information = np.zeros(raw.shape)
        for level, weight in zip(0.5 + 0.5 * nodes, 0.5 * weights, strict=True):
            y = self.ppf(level, arrays)
            after, before = (
                self.logpdf(y, {**arrays, first.name: first.floor + apply_link(first.link, raw + way * step)})
                for way in (1, -1)
            )
            information += weight * ((after - before) / (2 * step)) ** 2
        return information

    def on_training_scale(self) -> "Likelihood":
        """The likelihood of the values training sees: itself, or the normal of log y."""
        return self

    @property
    def learns_scale(self) -> bool:
        """Whether a noise scale is learned, so that held-out rows may rescale it."""
        learned = any(p.name == "scale" and p.source != "fixed" for p in self.parameters())
        return learned and self.target_transform == "standardize"

    def best_scale(self, y, parameters, weight, axis):
        """Factor of the scale that maximises the likelihood of `y`, along `axis` (kept): by golden sections of its logarithm."""
        y, weight, *arrays = np.broadcast_arrays(y, weight, *parameters.values())
        arrays = dict(zip(parameters, arrays, strict=True))

        def loss(log_factor):
            scaled = {**arrays, "scale": arrays["scale"] * np.exp(log_factor)}
            return -_weighted_sum(self.logpdf(y, scaled), weight, axis)

        total = _weighted_sum(np.ones(y.shape), weight, axis)
        low, high = np.full(total.shape, log(1e-3)), np.full(total.shape, log(1e3))
        ratio = 0.5 * (5**0.5 - 1)
        for _ in range(50):
            left, right = high - ratio * (high - low), low + ratio * (high - low)
            falls = loss(left) > loss(right)
            low, high = np.where(falls, left, low), np.where(falls, high, right)
        return np.exp(0.5 * (low + high))

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
        """Log density, or log mass for counts, in nats; −∞ outside the support."""
        y = np.asarray(y, float)
        low, high = self.support
        outside = (y < low) | (y > high)
        if self.discrete:
            outside |= y != np.floor(y)
        with np.errstate(all="ignore"):
            return np.where(outside, -np.inf, self.log_density(NUMPY, y, parameters))[()]

    def pdf(self, y, parameters):
        """Density, or mass for counts."""
        return np.exp(self.logpdf(y, parameters))

    def rvs(self, parameters, rng, size=None):
        """One random target for each set of parameters (or `size` of them), by the inverse of the cdf."""
        shape = np.broadcast_shapes(*(np.shape(value) for value in parameters.values())) if size is None else size
        return self.ppf(rng.uniform(1e-15, 1.0, size=shape), parameters)


def _weighted_sum(values, weight, axis):
    # A row of weight 0 says nothing, even of a density that is 0.
    return np.where(weight > 0, weight * values, 0.0).sum(axis=axis, keepdims=True)


# Targets of which a marginal fit is found numerically, at most: quantiles stand for more.
MOST_MARGINAL = 1000


def marginal_fit(likelihood, y, weight) -> dict[str, float]:
    """Parameters that maximise the likelihood of targets (n_rows,) of these weights, the same for all rows."""
    order = np.argsort(y, kind="stable")
    y, weight = y[order], weight[order]
    if len(y) > MOST_MARGINAL:
        cumulative = np.cumsum(weight)
        levels = (np.arange(MOST_MARGINAL) + 0.5) / MOST_MARGINAL * cumulative[-1]
        y, weight = y[np.minimum(np.searchsorted(cumulative, levels), len(y) - 1)], np.ones(MOST_MARGINAL)
    mean = np.average(y, weights=weight)
    head, fixed = likelihood.head(1), likelihood.fixed_values([mean if mean > 0 else 1.0])
    y, weight = y[:, None], weight[:, None] / weight.sum()

    def values(raw):
        return link_parameters(head, raw[None, None, : head.n_raw], raw[None, head.n_raw :], fixed)

    def loss(raw):
        # The formula itself: counts at the mean exposure are no whole numbers.
        value = -_weighted_sum(likelihood.log_density(NUMPY, y, values(raw)), weight, axis=None).item()
        return value if np.isfinite(value) else 1e300

    start = np.zeros(head.n_raw + head.n_constants)
    with np.errstate(all="ignore"):
        found = optimize.minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6}).x
    return {name: value.item() for name, value in values(found).items()}


# Fixed numbers: beyond these float32 loses the squares of the gradients they lead to, or the digits of the loss.
_SCALE = [StrOptions({"input", "constant"}), Interval(Real, 1e-6, 1e6, closed="both")]


def _scale_parameter(scale, name="scale", floor=SCALE_FLOOR):
    return Parameter(name, "softplus", scale if isinstance(scale, str) else "fixed", floor)


class _LocationScale(Likelihood):
    _parameter_constraints = {"scale": _SCALE, "beta": [Interval(Real, 0, 1, closed="both")]}
    _not_in_density = ("beta",)

    def __init__(self, scale="input", beta=0.5):
        self.scale = scale
        self.beta = beta

    def parameters(self):
        return (Parameter("loc", "identity", "input"), _scale_parameter(self.scale))

    def initial_parameters(self, y, sample_weight):
        return {"loc": np.zeros(y.shape[1]), "scale": np.ones(y.shape[1])}

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

    def log_density(self, xp, y, parameters):
        z = (y - parameters["loc"]) / parameters["scale"]
        return -0.5 * z * z - xp.log(parameters["scale"]) - 0.5 * log(2 * pi)


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

    def log_density(self, xp, y, parameters):
        return -xp.abs(y - parameters["loc"]) / parameters["scale"] - xp.log(2 * parameters["scale"])

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
        "df": [StrOptions({"constant"}), Interval(Real, 2, 1e12, closed="right")],
    }

    def __init__(self, scale="input", df="constant", beta=0.5):
        super().__init__(scale=scale, beta=beta)
        self.df = df

    def parameters(self):
        return (*super().parameters(), _scale_parameter(self.df, "df", floor=2.0))

    def log_density(self, xp, y, parameters):
        df, scale = parameters["df"], parameters["scale"]
        z = (y - parameters["loc"]) / scale
        # log Γ((ν+1)/2) − log Γ(ν/2) − ½ log(νπ) tends to −½ log 2π, as the difference of two large terms.
        norm = log_gamma_half_step(xp, 0.5 * df) - 0.5 * log(2 * pi)
        return norm - xp.log(scale) - 0.5 * (df + 1) * xp.log1p(z * z / df)

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
    family = "lognormal"
    target_transform = "log"
    support = (0.0, np.inf)

    def distribution(self, parameters):
        return stats.lognorm(parameters["scale"], scale=np.exp(parameters["loc"]))

    def mean(self, parameters):
        return np.exp(parameters["loc"] + 0.5 * parameters["scale"] ** 2)

    def logpdf(self, y, parameters):
        y = np.asarray(y, float)
        with np.errstate(all="ignore"):
            log_density = self.on_training_scale().logpdf(np.log(y), parameters) - np.log(y)
        return np.where(y > 0, log_density, -np.inf)[()]

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
    target_transform = "divide"
    support = (0.0, np.inf)
    _parameter_constraints = {"shape": _SCALE}

    def __init__(self, shape="constant"):
        self.shape = shape

    def parameters(self):
        return (Parameter("mean", "exp", "input"), _scale_parameter(self.shape, "shape"))

    def log_density(self, xp, y, parameters):
        mean, k = parameters["mean"], parameters["shape"]
        u = y / mean
        # k log k − k − log Γ(k) = ½ log(k / 2π) − rest, without the difference of large terms.
        norm = 0.5 * xp.log(k) - 0.5 * log(2 * pi) - stirling_rest(xp, k)
        return xp.xlogy(k - 1.0, u) + k * (1.0 - u) - xp.log(mean) + norm

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


_EXPOSURE = [str, Interval(Integral, 0, None, closed="left"), None]


class _Count(Likelihood):
    target_transform = "count"
    discrete = True
    support = (0.0, np.inf)
    _not_in_density = ("exposure",)

    def check_target(self, y):
        if np.any((y > 0) & (y != np.floor(y))) and not np.any(y < 0):
            name = type(self).__name__
            of_rates = name if hasattr(self, "exposure") else "Poisson"
            raise ValueError(
                f"The {name} likelihood needs targets that are counts (0, 1, 2, …), got y with minimum {np.min(y):g} "
                f"({int(np.sum(y != np.floor(y)))} of {np.size(y)} values outside). For rates, give the counts as y, and "
                f"what they were divided by as a column of X: {of_rates}(exposure='its name'). Choose another likelihood, "
                f"such as 'gamma' or 'normal', for numbers that were never counts."
            )
        self._reject(y, (y < 0) | (y != np.floor(y)), "counts (0, 1, 2, …)")
        if np.max(y, initial=0.0) > LARGEST_COUNT:
            raise ValueError(
                f"The {type(self).__name__} likelihood holds counts up to 2^53 ≈ 9e15, beyond which float64 has no exact whole "
                f"numbers, got y with maximum {np.max(y):g}. Use likelihood='gamma' or 'lognormal'."
            )

    def logpdf(self, y, parameters):
        y = np.asarray(y, dtype=float)
        is_count = (y >= 0) & (y == np.floor(y))
        with np.errstate(all="ignore"):
            log_mass = self.log_density(NUMPY, np.where(is_count, y, 0.0), parameters)
            return np.where(is_count, log_mass, -np.inf)

    def ppf(self, q, parameters):
        # scipy searches for milliseconds where means are large.
        if np.all((np.asarray(q) > 0) & (np.asarray(q) < 1)):
            return smallest_count(lambda k: self.cdf(k, parameters), q, self.mean(parameters), self.var(parameters))
        return super().ppf(q, parameters)


class Poisson(_Count):
    """Poisson distribution of counts with mean and variance `rate`.

    Parameters
    ----------
    exposure : str, int ≥ 0 or None, default=None
        Column of X, by name or position, that holds what each count was gathered over (years, area, population), > 0. The mean
        is this exposure times a rate that the other columns explain: log exposure is an offset, no feature, and its entry of
        ``coef_`` is 0. All that is predicted of a row, by a native model too, is for its own exposure.

    Examples
    --------
    >>> from skuq.likelihoods import Poisson
    >>> float(Poisson().mean({"rate": 2.5}))
    2.5
    """

    family = "poisson"
    _parameter_constraints = {"exposure": _EXPOSURE}

    def __init__(self, exposure=None):
        self.exposure = exposure

    def parameters(self):
        return (Parameter("rate", "exp", "input", in_units=True),)

    def log_density(self, xp, y, parameters):
        # −log p = y [λ/y − 1 − log(λ/y)] + ½ log(2π y) + rest of Stirling's formula (Loader 2000, "Fast and Accurate
        # Computation of Binomial Probabilities"): no large terms cancel, so float32 holds counts of any size.
        rate = parameters["rate"]
        positive = y > 0
        k = xp.where(positive, y, 1.0 + 0 * y)
        loss = k * log_excess(xp, (rate - k) / k, rate / k) + stirling_rest(xp, k) + 0.5 * xp.log(k) + 0.5 * log(2 * pi)
        return -xp.where(positive, loss, rate + 0 * y)

    def cdf(self, y, parameters):
        y, rate = np.broadcast_arrays(np.floor(y), parameters["rate"])
        large = rate > LARGE_RATE
        if not np.any(large):
            return stats.poisson(rate).cdf(y)
        return np.where(large, _large_poisson_cdf(y, np.where(large, rate, LARGE_RATE)), stats.poisson(rate).cdf(y))

    def sf(self, y, parameters):
        y, rate = np.broadcast_arrays(np.floor(y), parameters["rate"])
        large = rate > LARGE_RATE
        if not np.any(large):
            return stats.poisson(rate).sf(y)
        beyond = _large_poisson_cdf(y, np.where(large, rate, LARGE_RATE), upper=True)
        return np.where(large, beyond, stats.poisson(rate).sf(y))

    def ppf(self, q, parameters):
        q, rate = np.broadcast_arrays(q, parameters["rate"])
        large = rate > LARGE_RATE
        if not np.any(large):
            return stats.poisson(rate).ppf(q)
        quantile = np.empty(rate.shape)
        quantile[large] = _large_poisson_quantile(q[large], rate[large])
        quantile[~large] = stats.poisson(rate[~large]).ppf(q[~large])
        return quantile if quantile.ndim else quantile[()]

    def distribution(self, parameters):
        return stats.poisson(parameters["rate"])

    def location_information(self, parameters):
        return parameters["rate"]

    def initial_parameters(self, y, sample_weight):
        return {"rate": _positive_mean(y, sample_weight)}


class NegativeBinomial(_Count):
    """Negative binomial distribution of counts by its mean and concentration; overdispersed Poisson.

    Parameters
    ----------
    concentration : {"input", "constant"} or float > 0, default="constant"
        r, so that Var[y] = mean + mean² / r; an output of the network, one learned number, or fixed.
    exposure : str, int ≥ 0 or None, default=None
        As for :class:`Poisson`.

    Examples
    --------
    >>> from skuq.likelihoods import NegativeBinomial
    >>> round(float(NegativeBinomial().var({"mean": 2.0, "concentration": 4.0})), 6)
    3.0
    """

    family = "negative_binomial"
    _parameter_constraints = {"concentration": _SCALE, "exposure": _EXPOSURE}

    def __init__(self, concentration="constant", exposure=None):
        self.concentration = concentration
        self.exposure = exposure

    def parameters(self):
        mean = Parameter("mean", "exp", "input", in_units=True)
        return (mean, _scale_parameter(self.concentration, "concentration"))

    def log_density(self, xp, y, parameters):
        mean, r = parameters["mean"], parameters["concentration"]
        # As for the Poisson (Loader 2000): the deviances of a binomial, r of y + r in a proportion r / (r + μ), and rests.
        positive = y > 0
        k = xp.where(positive, y, 1.0 + 0 * y)
        total = r + mean
        ratio = (k + r) / total
        loss = r * log_excess(xp, (k - mean) / total, ratio)
        loss = loss + k * log_excess(xp, r / total * ((mean - k) / k), ratio * (mean / k))
        loss = loss + stirling_rest(xp, k) + stirling_rest(xp, r) - stirling_rest(xp, k + r)
        loss = loss + 0.5 * (xp.log(k) - xp.log(r) + xp.log(k + r)) + 0.5 * log(2 * pi)
        return -xp.where(positive, loss, r * xp.log1p(mean / r) + 0 * y)

    def distribution(self, parameters):
        r = parameters["concentration"]
        return stats.nbinom(r, r / (r + parameters["mean"]))

    def location_information(self, parameters):
        mean, r = parameters["mean"], parameters["concentration"]
        return mean * r / (mean + r)

    def initial_parameters(self, y, sample_weight):
        mean = _positive_mean(y, sample_weight)
        excess = np.average((y - mean) ** 2, axis=0, weights=sample_weight) - mean
        return {"mean": mean, "concentration": np.clip(mean**2 / np.maximum(excess, 1e-3 * mean**2), 0.1, 1e3)}


def _positive_mean(y, weight):
    mean = np.average(y, axis=0, weights=weight)
    return np.where(mean > 0, mean, 1e-3)


def _large_poisson_quantile(q, rate):
    """Least counts whose cdf reaches `q`, for large means: Cornish and Fisher's expansion, then the cdf itself decides."""
    z = special.ndtri(q)
    root = np.sqrt(rate)
    with np.errstate(invalid="ignore"):  # z is infinite for q = 0 and 1
        expanded = np.ceil(rate + z * root + (z**2 - 1) / 6 - (z**3 + 2 * z) / (72 * root) - 0.5)
    inner = np.isfinite(z)
    quantile = np.where(inner, np.maximum(expanded, 0.0), np.where(z > 0, np.inf, 0.0))
    for _ in range(3):
        lower = inner & (quantile > 0) & (_large_poisson_cdf(quantile - 1, rate) >= q)
        higher = inner & (_large_poisson_cdf(quantile, rate) < q)
        quantile = quantile - lower + higher
    return quantile


def _large_poisson_cdf(k, rate, upper=False):
    """P(Y ≤ k) = Q(k + 1, rate), or P(Y > k), for large means; tails by two terms of Temme 1979, relative error about 1/k."""
    sign = -1 if upper else 1
    with np.errstate(all="ignore"):
        a = np.maximum(k, 0.0) + 1
        mu = (rate - a) / a
        half_square = log_excess(NUMPY, mu, rate / a)  # η² / 2
        eta = np.sign(mu) * np.sqrt(2 * half_square)
        rest = np.exp(-a * half_square) / np.sqrt(2 * np.pi * a) * (1 / mu - 1 / eta)
        tail = np.clip(special.ndtr(-sign * eta * np.sqrt(a)) + sign * rest, 0.0, 1.0)
        near = np.abs(k - rate) < FAR_TAIL * np.sqrt(rate)
        series = special.pdtrc if upper else special.pdtr
        inside = np.where(near, series(np.where(near, k, 0.0), rate), tail)
        return np.where(k < 0, float(upper), np.where(np.isposinf(k), float(not upper), inside))


class _Hurdle(Likelihood):
    """Zero with a probability of its own, and beyond it a family of positive targets, cut off above zero if it holds it."""

    has_zero_probability = True
    _truncates = False

    def _positive(self) -> Likelihood:
        """The family of the positive targets."""
        raise NotImplementedError

    def _log_above_zero(self, xp, parameters):
        """Log P(Y > 0) of the family before it is cut off."""
        raise NotImplementedError

    def _positive_moments(self, parameters):
        """Mean and variance of the positive targets."""
        family = self._positive()
        return family.mean(parameters), family.var(parameters)

    def parameters(self):
        return (*self._positive().parameters(), Parameter("zero", "logit", "input"))

    def log_density(self, xp, y, parameters):
        zero = y <= 0
        positive = self._positive().log_density(xp, xp.where(zero, 1.0, y), parameters)
        if self._truncates:
            positive = positive - self._log_above_zero(xp, parameters)
        return xp.where(zero, xp.log(parameters["zero"]), xp.log1p(-parameters["zero"]) + positive)

    def initial_parameters(self, y, sample_weight):
        fits = []
        for column in y.T:
            above = column > 0
            # Without a positive target nothing is known of them: they start at 1.
            target, weight = (column[above], sample_weight[above]) if above.any() else (np.ones(1), np.ones(1))
            zero = np.clip(np.average(~above, weights=sample_weight), 1e-4, 1 - 1e-4)
            fits.append({**self._positive().initial_parameters(target[:, None], weight), "zero": np.array([zero])})
        return {name: np.concatenate([fit[name] for fit in fits]) for name in fits[0]}

    def mean(self, parameters):
        return (1 - parameters["zero"]) * self._positive_moments(parameters)[0]

    def var(self, parameters):
        # Law of total variance: within the positive targets, and between them and zero.
        mean, var = self._positive_moments(parameters)
        return (1 - parameters["zero"]) * (var + parameters["zero"] * mean**2)

    def _above(self, parameters):
        """P(Y > 0) of the family before it is cut off."""
        return np.exp(self._log_above_zero(NUMPY, parameters)) if self._truncates else 1.0

    def cdf(self, y, parameters):
        return np.where(np.asarray(y) < 0, 0.0, 1 - self.sf(y, parameters))[()]

    def sf(self, y, parameters):
        y = np.asarray(y, float)
        with np.errstate(all="ignore"):
            beyond = self._positive().sf(y, parameters)
        beyond = np.where(y < (1 if self.discrete else 0), 1.0, beyond / self._above(parameters))
        return np.where(y < 0, 1.0, (1 - parameters["zero"]) * beyond)[()]

    def ppf(self, q, parameters):
        q = np.asarray(q, float)
        at_zero = q <= parameters["zero"]
        # What remains above, as a level of the family before it is cut off.
        rest = np.where(at_zero, 0.5, (1 - q) / (1 - parameters["zero"]))
        if not self.discrete:
            quantile = self._positive().ppf(1 - rest, parameters)
        else:
            above = self._above(parameters)
            # scipy's quantiles may fail within a rounding of P(Y = 0), where the least positive count is meant.
            least = above * (1 - rest) <= 1e-15 * (1 - above)
            quantile = self._positive().ppf(1 - np.where(least, 0.5, rest) * above, parameters)
            quantile = np.where(least, 1.0, np.maximum(quantile, 1.0))
            # That level is rounded; the cdf decides between neighbours.
            quantile = quantile + (self.cdf(quantile, parameters) < q)
            quantile = quantile - ((quantile > 1) & (self.cdf(quantile - 1, parameters) >= q))
        return np.where(at_zero, 0.0, quantile)[()]


class ZeroInflatedGamma(_Hurdle):
    """Zero with a probability of its own, else gamma: a hurdle model for payments, rain, and other y ≥ 0 with many zeros.

    P(Y = 0) is an output of the network through a logit; positive targets are :class:`Gamma` with a mean and a shape (Cragg
    1971, "Some Statistical Models for Limited Dependent Variables"; Mullahy 1986, "Specification and Testing of Some
    Modified Count Data Models"). The log density of y = 0 is a log probability, that of y > 0 a log density.

    Parameters
    ----------
    shape : {"input", "constant"} or float > 0, default="constant"
        Of positive targets, as for :class:`Gamma`.

    Examples
    --------
    >>> from skuq.likelihoods import ZeroInflatedGamma
    >>> payment = {"zero": 0.9, "mean": 1000.0, "shape": 2.0}
    >>> float(ZeroInflatedGamma().ppf(0.5, payment)), round(float(ZeroInflatedGamma().mean(payment)), 6)
    (0.0, 100.0)
    """

    family = "zero_inflated_gamma"
    target_transform = "divide"
    support = (0.0, np.inf)
    atom = 0.0
    _parameter_constraints = {"shape": _SCALE}

    def __init__(self, shape="constant"):
        self.shape = shape

    def _positive(self):
        return Gamma(shape=self.shape)

    def check_target(self, y):
        self._reject(y, y < 0, "zero or positive")

    def location_information(self, parameters):
        return (1 - parameters["zero"]) * self._positive().location_information(parameters)


class ZeroInflatedPoisson(_Hurdle, _Count):
    """Zero with a probability of its own, else Poisson cut off above zero: a hurdle model of counts.

    P(Y = 0) is an output of the network through a logit; positive counts are Poisson given that they are positive (Mullahy 1986,
    "Specification and Testing of Some Modified Count Data Models"). So zeros may be more than a Poisson distribution has,
    or fewer. (In a model of structural zeros beside a Poisson distribution that has zeros too, Lambert 1992, the two kinds
    cannot be told apart; the predictive distributions are the same where zeros are more.)

    There is no `exposure`: an offset would say how positive counts grow with it, but not how P(Y = 0) falls, which the rate does
    not decide here. Give log exposure as a feature, and both are learned of it; or take :class:`NegativeBinomial`, whose zeros
    go with the exposure.

    Examples
    --------
    >>> from skuq.likelihoods import ZeroInflatedPoisson
    >>> round(float(ZeroInflatedPoisson().cdf(0, {"zero": 0.7, "rate": 3.0})), 6)
    0.7
    """

    family = "zero_inflated_poisson"
    _truncates = True

    def _positive(self):
        return Poisson()

    def _log_above_zero(self, xp, parameters):
        return xp.log(-xp.expm1(-parameters["rate"]))

    def _positive_moments(self, parameters):
        mean = parameters["rate"] / self._above(parameters)
        return mean, np.maximum(mean * (1 + parameters["rate"] - mean), 0.0)

    def location_information(self, parameters):
        # log λ is the natural parameter: its information is the variance of y.
        return (1 - parameters["zero"]) * self._positive_moments(parameters)[1]


class ZeroInflatedNegativeBinomial(_Hurdle, _Count):
    """Zero with a probability of its own, else negative binomial cut off above zero: a hurdle model of overdispersed counts.

    As :class:`ZeroInflatedPoisson`, with positive counts that vary more; without an `exposure`, as there.

    Parameters
    ----------
    concentration : {"input", "constant"} or float > 0, default="constant"
        Of positive counts, as for :class:`NegativeBinomial`.

    Examples
    --------
    >>> from skuq.likelihoods import ZeroInflatedNegativeBinomial
    >>> visits = {"zero": 0.7, "mean": 3.0, "concentration": 1.5}
    >>> round(float(ZeroInflatedNegativeBinomial().cdf(0, visits)), 6)
    0.7
    """

    family = "zero_inflated_negative_binomial"
    _truncates = True
    _parameter_constraints = {"concentration": _SCALE}

    def __init__(self, concentration="constant"):
        self.concentration = concentration

    def _positive(self):
        return NegativeBinomial(concentration=self.concentration)

    def _log_above_zero(self, xp, parameters):
        r = parameters["concentration"]
        return xp.log(-xp.expm1(-r * xp.log1p(parameters["mean"] / r)))

    def _positive_moments(self, parameters):
        mu, r = parameters["mean"], parameters["concentration"]
        mean = mu / self._above(parameters)
        return mean, np.maximum(mean * (1 + mu / r + mu - mean), 0.0)

    def location_information(self, parameters):
        # The score of log μ is y r / (r + μ) less its mean.
        share = parameters["concentration"] / (parameters["concentration"] + parameters["mean"])
        return (1 - parameters["zero"]) * self._positive_moments(parameters)[1] * share**2


NAMED = {
    "normal": Normal,
    "laplace": Laplace,
    "student_t": StudentT,
    "lognormal": LogNormal,
    "gamma": Gamma,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "zero_inflated_gamma": ZeroInflatedGamma,
    "zero_inflated_poisson": ZeroInflatedPoisson,
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomial,
}


def resolve_likelihood(likelihood) -> Likelihood:
    """Return the likelihood itself, or the one of that name with its defaults, validated."""
    resolved = NAMED[likelihood]() if isinstance(likelihood, str) else likelihood
    resolved.validate()
    return resolved
