"""From draws to predictions: mixtures over draws and their summaries, as pure functions and two small objects."""

from typing import NamedTuple

import numpy as np
from scipy import special
from sklearn.utils import check_random_state

from .._validation import COVERAGE_EXAMPLE, check_levels

# Quantiles are solved to this distance in probability, as a share of the smaller of q and 1 − q.
QUANTILE_TOLERANCE = 1e-10
# Newton steps and halvings of the bracket that a quantile may take. What is left then halves the count of floating-point
# numbers in the bracket, of which there are fewer than 2^64, so that no quantile takes more than 64 steps beyond these.
QUANTILE_STEPS = 40
# Step at which the lower end itself is tried: the quantile where the components share an atom.
ATOM_STEP = 8


class Uncertainty(NamedTuple):
    """Additive split of a predictive uncertainty: ``total = aleatoric + epistemic``.

    Attributes
    ----------
    total, aleatoric, epistemic : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Variances in squared units of y for a regressor; entropies in nats for a classifier.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Entropy of categorical distributions in nats, over the last axis."""
    return special.entr(probabilities).sum(axis=-1)


def class_uncertainty(probabilities: np.ndarray) -> Uncertainty:
    """Predictive entropy = expected entropy + mutual information (Depeweg et al. 2018).

    Parameters
    ----------
    probabilities : ndarray of shape (n_draws, n_rows, n_classes)

    Returns
    -------
    Uncertainty of arrays of shape (n_rows,), in nats
    """
    total = entropy(probabilities.mean(axis=0))
    # Entropy is concave, so the difference is ≥ 0 up to rounding.
    aleatoric = np.minimum(entropy(probabilities).mean(axis=0), total)
    return Uncertainty(total, aleatoric, total - aleatoric)


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """Probabilities (…, n_classes) from logits (…, n_classes), or from the one logit of two classes (…, 1)."""
    if logits.shape[-1] == 1:
        positive = special.expit(logits)
        return np.concatenate([special.expit(-logits), positive], axis=-1)
    return special.softmax(logits, axis=-1)


def mean_field_logits(logits, variance, factor):
    """Logits / √(1 + λ v): a softmax of these approximates the posterior mean (Lu et al. 2020, arXiv:2006.07584)."""
    return logits / np.sqrt(1 + factor * variance)


def smallest_sets(probabilities: np.ndarray, coverage: float) -> np.ndarray:
    """Smallest set of classes whose probabilities reach `coverage`, bool of shape (n_rows, n_classes)."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    sorted_probabilities = np.take_along_axis(probabilities, order, axis=1)
    before = np.cumsum(sorted_probabilities, axis=1) - sorted_probabilities
    chosen = np.zeros(probabilities.shape, bool)
    np.put_along_axis(chosen, order, before < coverage, axis=1)
    return chosen


class _Rows:
    """What both predictive distributions can do with their rows."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __array__(self, dtype=None, copy=None):
        raise TypeError(f"A {type(self).__name__} is no array. Take its mean(), ppf(0.5), interval(0.9) or rvs(100).")

    def _at(self, rows) -> np.ndarray:
        """Positions of the rows chosen by an int, a slice, a mask or an array of positions."""
        chosen = np.arange(len(self))[rows.to_numpy() if hasattr(rows, "to_numpy") else rows]
        if np.ndim(chosen) > 1:
            raise IndexError(f"rows must be an int, a slice, a mask or a sequence of positions, got {rows!r}.")
        return np.atleast_1d(chosen)

    def quantile(self, q):
        """Quantiles, as :meth:`ppf`."""
        return self.ppf(q)

    def interval(self, coverage=0.9):
        """Central intervals, as an estimator without conformal calibration gives them by ``predict_interval``.

        Parameters
        ----------
        coverage : float or sequence of float, default=0.9
            Probability inside the interval, strictly between 0 and 1.

        Returns
        -------
        ndarray of shape (n_rows, 2), or (n_rows, n_outputs, 2), or of a classifier (n_rows, n_classes, 2)
            Lower and upper ends; a sequence of coverages adds a last axis.
        """
        levels = check_levels("coverage", coverage, COVERAGE_EXAMPLE)
        tails = np.stack([0.5 - levels / 2, 0.5 + levels / 2])
        ends = self.ppf(tails.ravel())
        return ends.reshape(*ends.shape[:-1], *tails.shape)


def _count(number, name):
    return f"{number} {name}" if number == 1 else f"{number} {name}es" if name == "class" else f"{number} {name}s"


class PredictiveMixture(_Rows):
    """Predictive distribution of a regressor: an equal mixture over draws, one for each row and output.

    Has the methods of a frozen ``scipy.stats`` distribution. Rows stand on the first axis: every result has shape
    (n_rows,) or (n_rows, n_outputs), in y's units. ``len`` counts the rows and ``[rows]`` chooses some, as an int, a slice,
    a mask or an array of positions; an int keeps the axis of rows.

    Parameters
    ----------
    likelihood : Likelihood
        Family of the components.
    parameters : dict of ndarray of shape (n_draws, n_rows, n_outputs)
        Parameters of the components, in y's units.
    single_output : bool
        Whether results drop the axis of outputs.
    model_variance : ndarray of shape (n_rows, n_outputs), optional
        For a Gaussian in closed form (one component): the part of its variance that is epistemic.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.likelihoods import Normal
    >>> from skuq import PredictiveMixture
    >>> two = {"loc": np.array([[[-1.0]], [[1.0]]]), "scale": np.ones((2, 1, 1))}
    >>> mixture = PredictiveMixture(Normal(), two, single_output=True)
    >>> mixture.mean(), mixture.var()
    (array([0.]), array([2.]))
    >>> bool(abs(mixture.cdf(mixture.ppf(0.3)) - 0.3) < 1e-9)
    True
    >>> mixture
    PredictiveMixture of 2 Normal, 1 row
    """

    def __init__(self, likelihood, parameters, single_output, model_variance=None):
        self.likelihood = likelihood
        self.parameters = dict(zip(parameters, np.broadcast_arrays(*parameters.values()), strict=True))
        self.single_output = single_output
        self.model_variance = model_variance

    def __repr__(self):
        n_draws, n_rows, n_outputs = self.shape
        outputs = "" if self.single_output else f", {_count(n_outputs, 'output')}"
        return f"{type(self).__name__} of {n_draws} {type(self.likelihood).__name__}, {_count(n_rows, 'row')}{outputs}"

    def __len__(self):
        return self.shape[1]

    def __getitem__(self, rows):
        at = self._at(rows)
        parameters = {name: value[:, at] for name, value in self.parameters.items()}
        model_variance = None if self.model_variance is None else self.model_variance[at]
        return type(self)(self.likelihood, parameters, self.single_output, model_variance)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_draws, n_rows, n_outputs)."""
        return next(iter(self.parameters.values())).shape

    def _out(self, values):
        return values[:, 0] if self.single_output else values

    def _in(self, y):
        y = np.asarray(y, dtype=float)
        _, n_rows, n_outputs = self.shape
        if y.ndim == 0:
            return np.full((n_rows, n_outputs), y)
        expected = (n_rows,) if self.single_output else (n_rows, n_outputs)
        if y.shape != expected:
            raise ValueError(f"y must be a number or have shape {expected}, one value for each row, got {y.shape}.")
        return y.reshape(n_rows, n_outputs)

    def components(self) -> dict[str, np.ndarray]:
        """Parameters of the mixture's components, each of shape (n_draws, n_rows, n_outputs)."""
        return self.parameters

    def mean(self):
        """E[y], the mean of the components' means."""
        return self._out(self.likelihood.mean(self.parameters).mean(axis=0))

    def uncertainty(self) -> Uncertainty:
        """Law of total variance: mean of the noise variances + variance of the means."""
        noise = self.likelihood.var(self.parameters).mean(axis=0)
        if self.model_variance is not None:
            return Uncertainty(*map(self._out, (noise, noise - self.model_variance, self.model_variance)))
        spread = self.likelihood.mean(self.parameters).var(axis=0)
        return Uncertainty(*map(self._out, (noise + spread, noise, spread)))

    def var(self):
        """Var[y] = noise + spread of the draws."""
        return self.uncertainty().total

    def std(self):
        """Standard deviation of y."""
        return np.sqrt(self.var())

    def cdf(self, y):
        """P(Y ≤ y) for one number or one value a row."""
        return self._out(self._cdf(self._in(y)))

    def _cdf(self, y):
        return self.likelihood.cdf(y, self.parameters).mean(axis=0)

    def logpdf(self, y):
        """Log density (log mass for counts) in nats for one number or one value a row, by logsumexp over draws."""
        log_density = self.likelihood.logpdf(self._in(y), self.parameters)
        return self._out(special.logsumexp(log_density, axis=0) - np.log(len(log_density)))

    def pdf(self, y):
        """Density (mass for counts)."""
        return np.exp(self.logpdf(y))

    def ppf(self, q):
        """Quantiles of the mixture: the y at which its cdf reaches `q`.

        Parameters
        ----------
        q : float or sequence of float, 0 < q < 1

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs), with a last axis of the levels if `q` is a sequence
        """
        levels = np.asarray(q, dtype=float)
        quantiles = [self._out(self._quantile(level)) for level in levels.ravel()]
        return quantiles[0] if levels.ndim == 0 else np.stack(quantiles, axis=-1)

    def _quantile(self, q):
        if self.likelihood.discrete and 0 < q < 1:
            return smallest_count(self._cdf, q, *self._moments())
        return mixture_quantile(self.likelihood, self.parameters, q)

    def _moments(self):
        """Mean and variance of the mixture, each of shape (n_rows, n_outputs)."""
        means = self.likelihood.mean(self.parameters)
        return means.mean(axis=0), self.likelihood.var(self.parameters).mean(axis=0) + means.var(axis=0)

    def rvs(self, size=None, random_state=None):
        """Random targets, independent across rows: shape (n_rows[, n_outputs]), with a last axis of length `size`.

        For samples that are coherent across rows use the estimator's ``sample_y``.
        """
        rng = check_random_state(random_state)
        n_draws, n_rows, n_outputs = self.shape
        count = 1 if size is None else size
        # All outputs of a row share its draw, so samples keep the dependence between them.
        which = np.broadcast_to(rng.randint(n_draws, size=(count, n_rows, 1)), (count, n_rows, n_outputs))
        chosen = {name: np.take_along_axis(value, which, axis=0) for name, value in self.parameters.items()}
        sample = np.moveaxis(self.likelihood.rvs(chosen, rng), 0, -1)
        sample = self._out(sample)
        return sample[..., 0] if size is None else sample


def mixture_quantile(likelihood, parameters, q):
    """Quantile of an equal mixture: the smallest y at which its cdf reaches `q`.

    Newton steps on the logarithm of the tail's probability, inside the bracket of the components' own quantiles. A step that
    is not under half the one before, or that leaves the bracket, is a halving of the bracket instead (Press et al. 2007,
    Numerical Recipes, sec. 9.4), so steps cannot alternate between two points. Each row stops on its own, so its quantile
    does not depend on the rows beside it.

    Parameters
    ----------
    likelihood : Likelihood
    parameters : dict of ndarray of shape (n_draws, n_rows, n_outputs)
    q : float, 0 <= q <= 1

    Returns
    -------
    ndarray of shape (n_rows, n_outputs)
    """
    flat = {name: value.reshape(len(value), -1) for name, value in parameters.items()}
    shape = next(iter(parameters.values())).shape[1:]
    own = likelihood.ppf(q, flat)
    least, high = own.min(axis=0), own.max(axis=0)
    x = high.copy()
    active = np.flatnonzero(high > least)
    # No component reaches q below the least quantile, so the cdf is below q here and at least q at the upper end, throughout.
    low = np.nextafter(least, -np.inf)
    # Quantiles that several draws share are an atom's.
    shared = (own == least).sum(axis=0) > 1
    x[active] = np.where(shared, least, np.clip(own.mean(axis=0), least, high))[active]
    step = high - low
    upper, tail = q > 0.5, min(q, 1 - q)
    for k in range(QUANTILE_STEPS + 64):
        if not len(active):
            break
        here = {name: value[:, active] for name, value in flat.items()}
        at = x[active]
        # The smaller tail keeps its digits: P(Y > y) beside 1 − q, or P(Y ≤ y) beside q.
        beyond = (likelihood.sf if upper else likelihood.cdf)(at, here).mean(axis=0)
        excess = tail - beyond if upper else beyond - tail
        low[active] = np.where(excess < 0, at, low[active])
        high[active] = np.where(excess >= 0, at, high[active])
        left, right = low[active], high[active]
        with np.errstate(all="ignore"):  # a density may be infinite, a tail zero: then the bracket is halved
            density = likelihood.pdf(at, here).mean(axis=0)
            newton = np.log(beyond / tail) * beyond / density * (1 if upper else -1)
        following = at + newton
        useful = (following > left) & (following < right) & (np.abs(newton) < 0.5 * step[active])
        middle = 0.5 * left + 0.5 * right if k < QUANTILE_STEPS else middle_float(left, right)
        following = np.where(useful & (k < QUANTILE_STEPS), following, middle)
        if k == ATOM_STEP:
            following = np.where(left < least[active], least[active], following)
        step[active] = np.abs(following - at)
        # Ends that no number separates stand at a jump of the cdf, or as near to the root as numbers are.
        closed = np.nextafter(left, np.inf) >= right
        settled = (np.abs(excess) <= QUANTILE_TOLERANCE * tail) & (density > 0)
        x[active] = np.where(settled, at, np.where(closed, right, following))
        active = active[~(settled | closed)]
    return x.reshape(shape)


def middle_float(low, high):
    """Number with as many floating-point numbers between it and either end, for low < high."""
    low, high = (_in_order((np.asarray(end, dtype=float) + 0.0).view(np.int64)) for end in (low, high))
    return _in_order((low >> 1) + (high >> 1) + (low & high & 1)).view(float)


def _in_order(bits):
    """Bits of floats as integers in the floats' own order, and back: those of negative numbers run the other way."""
    return np.where(bits < 0, bits ^ np.int64(2**63 - 1), bits)


def smallest_count(cdf, q, mean, var):
    """Smallest whole number at which `cdf` reaches `q`.

    By halving Cantelli's interval around the mean, which holds a quantile of any distribution: no more than one evaluation
    for each binary digit of its width.

    Parameters
    ----------
    cdf : callable
        From numbers of the shape of `mean` to probabilities.
    q : float or ndarray, 0 < q < 1
    mean, var : ndarray
        Moments of the distributions.

    Returns
    -------
    ndarray of the shape of `mean`
    """
    std = np.sqrt(var)
    low = np.maximum(np.floor(mean - std * np.sqrt((1 - q) / q)) - 2.0, -1.0)
    high = np.ceil(mean + std * np.sqrt(q / (1 - q))) + 1.0
    while True:
        middle = np.floor(0.5 * low + 0.5 * high)
        # Beyond 2^53 there are numbers that no whole number separates.
        apart = (high - low > 1) & (middle > low) & (middle < high)
        if not np.any(apart):
            return high
        reached = cdf(middle) >= q
        high = np.where(apart & reached, middle, high)
        low = np.where(apart & ~reached, middle, low)


class PredictiveCategorical(_Rows):
    """Predictive distribution of a classifier: class probabilities and how they vary over draws.

    ``mean, std, var, ppf, cdf, interval`` describe each class's probability over the draws; ``logpdf`` and ``rvs`` are
    about labels. ``len`` counts the rows and ``[rows]`` chooses some, as of a :class:`PredictiveMixture`.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
    mean : ndarray of shape (n_rows, n_classes)
        Predictive probabilities.
    draws : ndarray of shape (n_draws, n_rows, n_classes)
        Class probabilities of each draw.
    """

    def __init__(self, classes, mean, draws):
        self.classes = classes
        self.probabilities = mean
        self.draws = draws

    def __repr__(self):
        n_draws, n_rows, n_classes = self.draws.shape
        counts = ", ".join([_count(n_draws, "draw"), _count(n_classes, "class"), _count(n_rows, "row")])
        return f"{type(self).__name__} of {counts}"

    def __len__(self):
        return len(self.probabilities)

    def __getitem__(self, rows):
        at = self._at(rows)
        return type(self)(self.classes, self.probabilities[at], self.draws[:, at])

    def mean(self):
        """Predictive class probabilities, (n_rows, n_classes)."""
        return self.probabilities

    def var(self):
        """Variance of each class probability over the draws."""
        return self.draws.var(axis=0)

    def std(self):
        """Standard deviation of each class probability over the draws."""
        return self.draws.std(axis=0)

    def ppf(self, q):
        """Quantiles over the draws of each class probability, (n_rows, n_classes), plus a last axis for a sequence."""
        return (
            np.moveaxis(np.quantile(self.draws, q, axis=0), 0, -1) if np.ndim(q) else np.quantile(self.draws, q, axis=0)
        )

    def cdf(self, probability):
        """Fraction of draws whose class probability is at most `probability`."""
        return (self.draws <= probability).mean(axis=0)

    def logpdf(self, y):
        """Log probability of labels `y`, in nats, (n_rows,)."""
        y = np.asarray(y)
        codes = np.searchsorted(self.classes, y)
        if np.any(codes >= len(self.classes)) or np.any(self.classes[np.minimum(codes, len(self.classes) - 1)] != y):
            unknown = sorted(set(y.tolist()) - set(self.classes.tolist()))
            raise ValueError(f"y holds labels that were not seen in fit: {unknown}; known: {self.classes.tolist()}.")
        return np.log(np.maximum(self.probabilities[np.arange(len(y)), codes], np.finfo(float).tiny))

    logpmf = logpdf

    def rvs(self, size=None, random_state=None):
        """Random labels, independent across rows: shape (n_rows,), with a last axis of length `size`."""
        rng = check_random_state(random_state)
        labels = choose_labels(self.probabilities, rng.uniform(size=(len(self.probabilities), size or 1)))
        labels = self.classes[labels]
        return labels[:, 0] if size is None else labels


def choose_labels(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Class codes by inversion: probabilities (n_rows, n_classes), uniform (n_rows, n_samples) → (n_rows, n_samples)."""
    cumulative = np.cumsum(probabilities, axis=-1)[:, None, :-1]
    return (uniform[:, :, None] >= cumulative).sum(axis=-1)
