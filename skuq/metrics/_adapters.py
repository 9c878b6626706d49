"""Distributions of other libraries with the methods of a frozen ``scipy.stats`` distribution. None of them is imported."""

import sys
from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from skuq._prediction.distributions import PredictiveMixture, smallest_count

ACCEPTED = (
    "what predict_dist returns, a frozen scipy.stats distribution, scipy's stats.Normal and its like, a distribution of skpro, "
    "torch.distributions or TensorFlow Probability, or a tuple (mean, std) of arrays"
)
METHODS = ("mean", "std", "cdf", "ppf")

# Families that scipy has too. Its functions are exact in double precision, and complete: torch has no quantiles of a gamma
# and no cdf of a Student's t. torch's and TFP's geometric and negative binomial count the failures, as scipy's `nbinom`; but
# their `probs` of a negative binomial is that of what is counted.
TORCH = {
    "Normal": lambda d: stats.norm(_array(d.loc), _array(d.scale)),
    "Laplace": lambda d: stats.laplace(_array(d.loc), _array(d.scale)),
    "Cauchy": lambda d: stats.cauchy(_array(d.loc), _array(d.scale)),
    "StudentT": lambda d: stats.t(_array(d.df), _array(d.loc), _array(d.scale)),
    "LogNormal": lambda d: stats.lognorm(_array(d.scale), scale=np.exp(_array(d.loc))),
    "Gamma": lambda d: stats.gamma(_array(d.concentration), scale=1 / _array(d.rate)),
    "Poisson": lambda d: stats.poisson(_array(d.rate)),
    "NegativeBinomial": lambda d: stats.nbinom(_array(d.total_count), special.expit(-_array(d.logits))),
    "Binomial": lambda d: stats.binom(_array(d.total_count), _array(d.probs)),
    "Bernoulli": lambda d: stats.bernoulli(_array(d.probs)),
    "Geometric": lambda d: stats.nbinom(1, _array(d.probs)),
}
TFP = {
    **{name: TORCH[name] for name in ("Normal", "Laplace", "Cauchy", "StudentT", "LogNormal", "Poisson")},
    "Gamma": lambda d: stats.gamma(_array(d.concentration), scale=_array(d.mean()) / _array(d.concentration)),
    "NegativeBinomial": lambda d: stats.nbinom(_array(d.total_count), special.expit(-_array(d.logits_parameter()))),
    "Binomial": lambda d: stats.binom(_array(d.total_count), _array(d.probs_parameter())),
    "Bernoulli": lambda d: stats.bernoulli(_array(d.probs_parameter())),
    "Geometric": lambda d: stats.nbinom(1, _array(d.probs_parameter())),
}


def is_distribution_object(y_pred) -> bool:
    """Whether `y_pred` is a distribution of real targets; a TypeError says what is taken if it is no array-like either."""
    if _adapter(y_pred) is not None:
        return True
    array_like = hasattr(y_pred, "__array__") or hasattr(y_pred, "__dlpack__") or hasattr(y_pred, "__dataframe__")
    if array_like or (isinstance(y_pred, Sequence) and not isinstance(y_pred, str)):
        return False
    raise unknown(y_pred)


def unknown(y_pred, why=""):
    """TypeError for what is no distribution."""
    kind = type(y_pred)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    why = why or ". For arrays of means and standard deviations pass (mean, std)"
    return TypeError(f"Expected y_pred to be {ACCEPTED}; got {name}{why}.")


def adapt(y_pred):
    """Distribution with mean, std, cdf, ppf, rvs, and logpdf, or logpmf for counts, of whatever library `y_pred` is."""
    make = _adapter(y_pred)
    if make is None:
        raise unknown(y_pred)
    dist = make(y_pred)
    # Sums over the whole numbers would go wrong silently.
    if isinstance(dist, _SkproCounts) and any(np.any(dist.ppf(q) != np.floor(dist.ppf(q))) for q in (0.1, 0.5, 0.9)):
        raise unknown(y_pred, ", whose values are no whole numbers. Pass samples of it as an array")
    return dist


def is_discrete(dist) -> bool:
    """Whether an adapted distribution lives on the whole numbers."""
    if isinstance(dist, PredictiveMixture):
        return dist.likelihood.discrete
    if isinstance(getattr(dist, "dist", None), stats.rv_continuous | stats.rv_discrete):
        return isinstance(dist.dist, stats.rv_discrete)
    return not hasattr(dist, "logpdf")


def _adapter(y_pred):
    """Function that adapts objects of this kind, or None if it is no distribution."""
    if isinstance(y_pred, type | stats.rv_continuous | stats.rv_discrete):  # families, not distributions
        return None
    if isinstance(y_pred, PredictiveMixture) or isinstance(
        getattr(y_pred, "dist", None), stats.rv_continuous | stats.rv_discrete
    ):
        return lambda dist: dist
    for base in type(y_pred).__mro__:
        library, name = base.__module__.partition(".")[0], base.__name__
        adapter = _ADAPTERS.get((library, name))
        if adapter is not None:
            return adapter
    if _get_tag(y_pred, "object_type") == "distribution":
        return _Skpro
    # Any other object with scipy's methods, of which a density or a mass function, not both, says what it is.
    if all(callable(getattr(y_pred, name, None)) for name in METHODS) and not hasattr(y_pred, "classes"):
        continuous, counts = hasattr(y_pred, "logpdf"), hasattr(y_pred, "logpmf")
        if continuous != counts and not (continuous and hasattr(y_pred, "pmf")):
            return lambda dist: dist
    return None


def _get_tag(y_pred, name):
    try:
        return y_pred.get_tag(name, None, raise_error=False)
    except (AttributeError, TypeError):
        return None


def _array(values) -> np.ndarray:
    """Numbers of any library as a float64 array: a tensor may need its gradient and its device left behind."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.double() if hasattr(values, "double") else values
    return np.asarray(values, dtype=float)


class _Scipy:
    """A distribution of scipy's new kind, such as ``stats.Normal``: continuous."""

    def __init__(self, dist):
        self.inner = dist

    def mean(self):
        return np.asarray(self.inner.mean(), dtype=float)

    def std(self):
        return np.asarray(self.inner.standard_deviation(), dtype=float)

    def cdf(self, y):
        return self.inner.cdf(y)

    def ppf(self, q):
        return self.inner.icdf(q)

    def logpdf(self, y):
        return self.inner.logpdf(y)

    def rvs(self, size, random_state):
        rng = np.random.default_rng(random_state.randint(2**31 - 1, size=4))
        return np.moveaxis(self.inner.sample(size, rng=rng), 0, -1)


class _ScipyCounts(_Scipy):
    """A discrete one, such as ``stats.Binomial``."""

    logpdf = property()  # so that it has none

    def logpmf(self, y):
        return self.inner.logpmf(y)


class _Skpro(_Scipy):
    """A distribution of skpro: results are DataFrames, of the shape of the distribution; which kind it is stands in a tag."""

    def __new__(cls, dist):
        kind = _get_tag(dist, "distr:measuretype")
        if kind not in ("continuous", "discrete"):
            raise unknown(dist, f" of measure type {kind!r}, which has neither a density nor a mass function alone")
        return super().__new__(_SkproCounts if kind == "discrete" else cls)

    def mean(self):
        return np.asarray(self.inner.mean(), dtype=float)

    def std(self):
        return np.sqrt(np.asarray(self.inner.var(), dtype=float))

    def cdf(self, y):
        return self._call(self.inner.cdf, y)

    def ppf(self, q):
        return self._call(self.inner.ppf, q)

    def logpdf(self, y):
        return self._call(self.inner.log_pdf, y)

    def rvs(self, size, random_state):
        # By inversion: skpro's own samples come from NumPy's global generator.
        uniform = random_state.uniform(size=(size, *self.inner.shape))
        return np.stack([self.ppf(u) for u in uniform], axis=-1)

    def _call(self, method, values):
        values = np.broadcast_to(np.asarray(values, dtype=float), self.inner.shape)
        return np.asarray(method(values if values.ndim else float(values)), dtype=float)


class _SkproCounts(_Skpro):
    logpdf = property()

    def logpmf(self, y):
        return self._call(self.inner.log_pmf, y)


class _Tensors:
    """A distribution over tensors of a family that scipy has not, by its own cdf and log density."""

    def __init__(self, dist, tensor, moments, seed):
        self.inner, self._tensor, self._moments, self._seed = dist, tensor, moments, seed

    def mean(self):
        return self._moments[0]

    def std(self):
        return self._moments[1]

    def cdf(self, y):
        return _array(self.inner.cdf(self._tensor(y)))

    def logpdf(self, y):
        return _array(self.inner.log_prob(self._tensor(y)))

    def ppf(self, q):
        """Smallest number at which the cdf reaches q, by halving Cantelli's interval around the mean."""
        mean, std = self._moments
        mean = np.where(np.isfinite(mean), mean, 0.0)
        spread = np.where(np.isfinite(std), std, 1e6 * (1 + np.abs(mean)))
        low = mean - 1.01 * spread * np.sqrt((1 - q) / q)
        high = mean + 1.01 * spread * np.sqrt(q / (1 - q))
        for _ in range(60):
            middle = 0.5 * (low + high)
            reached = self.cdf(middle) >= q
            low, high = np.where(reached, low, middle), np.where(reached, middle, high)
        return high

    def rvs(self, size, random_state):
        return np.moveaxis(_array(self._seed(self.inner, size, int(random_state.randint(2**31 - 1)))), 0, -1)


class _TensorCounts(_Tensors):
    logpdf = property()

    def logpmf(self, y):
        return _array(self.inner.log_prob(self._tensor(y)))

    def ppf(self, q):
        return smallest_count(self.cdf, q, self._moments[0], self._moments[1] ** 2)


def _from_scipy(dist):
    # scipy's Normal (1.15 to 1.17) comes out of copy.deepcopy and pickle as a StandardNormal that keeps its numbers aside.
    given = getattr(dist, "_original_parameters", None)
    if type(dist).__name__ == "StandardNormal" and given:
        dist = stats.Normal(**given)
    return _Scipy(dist)


def _from_torch(dist):
    while type(dist).__name__ == "Independent":  # outputs side by side, each a margin
        dist = dist.base_dist
    torch = sys.modules["torch"]
    if tuple(dist.event_shape):
        raise _joint(dist)
    if type(dist).__name__ in TORCH:
        return TORCH[type(dist).__name__](dist)
    mean = dist.mean

    def sample(inner, size, seed):
        # torch's generators are global: a fork is put back afterwards.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return inner.sample((size,))

    kind = _TensorCounts if dist.support.is_discrete else _Tensors
    tensor = lambda y: torch.as_tensor(np.array(y), dtype=mean.dtype, device=mean.device)  # noqa: E731
    return kind(dist, tensor, (_array(mean), _array(dist.stddev)), sample)


def _from_tfp(dist):
    name = _tfp_name(dist)
    while name == "Independent":
        dist = dist.distribution
        name = _tfp_name(dist)
    if tuple(dist.event_shape):
        raise _joint(dist)
    if name in TFP:
        return TFP[name](dist)
    kind = _TensorCounts if _counts_in_tfp(dist) else _Tensors
    tensor = lambda y: np.asarray(y, dtype=dist.dtype.as_numpy_dtype)  # noqa: E731
    moments = (_array(dist.mean()), _array(dist.stddev()))
    return kind(dist, tensor, moments, lambda inner, size, seed: inner.sample(size, seed=(seed, 0)))


def _tfp_name(dist):
    """Name of the family; what a Keras layer returns is of a subclass made on the spot."""
    names = [base.__name__ for base in type(dist).__mro__ if not base.__name__.startswith("_")]
    return names[0]


def _counts_in_tfp(dist) -> bool:
    if any(base.__name__ == "DiscreteDistributionMixin" for base in type(dist).__mro__):
        return True
    inner = getattr(dist, "components_distribution", None) or getattr(dist, "distribution", None)
    return inner is not None and _counts_in_tfp(inner)


def _joint(dist):
    return unknown(dist, ", a joint distribution of several numbers. Pass the distributions of the single outputs")


_ADAPTERS = {
    ("scipy", "ContinuousDistribution"): _from_scipy,
    ("scipy", "DiscreteDistribution"): _ScipyCounts,
    ("scipy", "Mixture"): _Scipy,
    ("torch", "Distribution"): _from_torch,
    ("tensorflow_probability", "Distribution"): _from_tfp,
}
