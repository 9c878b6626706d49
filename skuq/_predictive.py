"""From draws to predictions: mixtures over draws and their summaries, as pure functions and two small objects."""

from typing import NamedTuple

import numpy as np
from scipy import special
from sklearn.utils import check_random_state

# Quantiles are solved to this distance in probability.
QUANTILE_TOLERANCE = 1e-10
MAX_QUANTILE_STEPS = 80


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


class PredictiveMixture:
    """Predictive distribution of a regressor: an equal mixture over draws, one for each row and output.

    Has the methods of a frozen ``scipy.stats`` distribution. Rows stand on the first axis: every result has shape
    (n_rows,) or (n_rows, n_outputs), in y's units.

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
    """

    def __init__(self, likelihood, parameters, single_output, model_variance=None):
        self.likelihood = likelihood
        self.parameters = dict(zip(parameters, np.broadcast_arrays(*parameters.values()), strict=True))
        self.single_output = single_output
        self.model_variance = model_variance

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
        """Safeguarded Newton steps inside the bracket of the components' own quantiles.

        Each row stops on its own, so its quantile does not depend on the rows beside it.
        """
        own = self.likelihood.ppf(q, self.parameters)
        low, high = own.min(axis=0), own.max(axis=0)
        if self.likelihood.discrete:
            return self._discrete_quantile(q, low, high)
        if self.likelihood.atom is not None:
            at_atom = self._cdf(np.full(low.shape, self.likelihood.atom)) >= q
            low, high = (np.where(at_atom, self.likelihood.atom, end) for end in (low, high))
        x, step = 0.5 * (low + high), high - low
        active = np.flatnonzero((high > low).ravel())
        x[high <= low] = high[high <= low]
        flat = {name: value.reshape(len(value), -1) for name, value in self.parameters.items()}
        low, high, x, step = low.ravel(), high.ravel(), x.ravel(), step.ravel()
        for _ in range(MAX_QUANTILE_STEPS):
            if not len(active):
                break
            here = {name: value[:, active] for name, value in flat.items()}
            at = x[active]
            excess = self.likelihood.cdf(at, here).mean(axis=0) - q
            low[active] = np.where(excess < 0, at, low[active])
            high[active] = np.where(excess >= 0, at, high[active])
            density = self.likelihood.pdf(at, here).mean(axis=0)
            with np.errstate(all="ignore"):
                newton = at - excess / density
            inside = (newton > low[active]) & (newton < high[active])
            following = np.where(inside, newton, 0.5 * (low[active] + high[active]))
            settled = (np.abs(excess) < QUANTILE_TOLERANCE) | (high[active] - low[active] <= 1e-12 * np.abs(at))
            x[active] = np.where(settled, at, following)
            active = active[~settled]
        return x.reshape(self.shape[1:])

    def _discrete_quantile(self, q, low, high):
        low, high = low - 1, high.copy()
        # Beyond 2^53 neighbouring float64 numbers are further apart than 1: stop where nothing lies between.
        while np.any((high - low > 1) & (high > np.nextafter(low, np.inf))):
            middle = np.floor(0.5 * (low + high))
            reached = self._cdf(middle) >= q
            high = np.where(reached, middle, high)
            low = np.where(reached, low, middle)
        return high

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


class PredictiveCategorical:
    """Predictive distribution of a classifier: class probabilities and how they vary over draws.

    ``mean, std, var, ppf, cdf`` describe each class's probability over the draws; ``logpdf`` and ``rvs`` are about
    labels.

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
