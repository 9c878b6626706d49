"""Scores of whole predictive distributions, and the PIT."""

import numpy as np
from scipy import stats
from sklearn.metrics import log_loss, mean_pinball_loss
from sklearn.utils import check_random_state

from skuq.metrics._adapters import is_discrete
from skuq.metrics._validation import (
    average,
    check_distribution,
    check_last_axis,
    check_level,
    check_probabilities,
    check_target,
    is_distribution,
    load_scoringrules,
)

# Pairs of samples held at once by the energy score, times the outputs.
CHUNK = 2_000_000


def nll(y_true, y_pred, *, labels=None, sample_weight=None, multioutput="uniform_average"):
    r"""Negative log-likelihood: mean of :math:`-\log p(y \mid x)`.

    The logarithmic score of Good (1952), "Rational Decisions": strictly proper and local. For a density it depends on
    y's units: y times c adds log c.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets, or labels.
    y_pred : predict_dist result, tuple (mean, std), or array-like of shape (n, n_classes)
        Distributions of the targets or of the label, or an array with the probabilities of the classes, for which the
        score is scikit-learn's ``log_loss`` (of shape (n,), the probability of the second of two classes).
    labels : array-like of shape (n_classes,), default=None
        Classifiers: the classes in the order of the columns, ``estimator.classes_``. None: the sorted labels of
        `y_true`.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (t,), default="uniform_average"
        How the scores of several outputs are joined; each is scored on its own marginal density.

    Returns
    -------
    float, or ndarray of shape (t,)
        Nats per target value. Lower is better; (−∞, ∞] for densities, [0, ∞) for probabilities, which are clipped at
        the machine precision of their type as in ``log_loss``.

    Examples
    --------
    >>> from skuq.metrics import nll
    >>> round(nll([0.0, 1.0], ([0.0, 0.0], [1.0, 1.0])), 4)
    1.1689
    >>> round(nll(["a", "b"], [[0.9, 0.1], [0.2, 0.8]]), 4)
    0.1643
    """
    if not is_distribution(y_pred):
        column, prob, weight, labels = check_probabilities(y_true, y_pred, labels, sample_weight)
        return float(log_loss(column, prob, sample_weight=weight, labels=np.arange(len(labels))))
    y, weight = check_target(y_true, sample_weight)
    dist, y = check_distribution(y_pred, y)
    log_density = dist.logpdf(y) if hasattr(dist, "logpdf") else dist.logpmf(y)
    return average(-log_density, weight, multioutput)


def energy_score(y_true, y_pred, *, n_samples=200, random_state=0, sample_weight=None):
    r"""Energy score: the CRPS of several outputs at once, dependence between them included.

    .. math:: \mathrm{ES}(F, y) = E\|X - y\| - \tfrac12 E\|X - X'\|, \quad X, X' \sim F \text{ independent}

    with the Euclidean norm over the outputs (Gneiting & Raftery 2007, "Strictly Proper Scoring Rules", eq. 22), by the
    unbiased ("fair") estimator over samples. For one output it is the CRPS. Outputs of large units dominate:
    scale them first where that matters.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets.
    y_pred : predict_dist result, tuple (mean, std), or array-like of shape (n, t, n_samples) or (n, n_samples)
        Distributions to draw from, or samples, laid out as ``sample_y`` returns them.
    n_samples : int >= 2, default=200
        Number of draws for each row where `y_pred` is a distribution.
    random_state : int, RandomState instance or None, default=0
        Seed of the draws.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        y's units. Lower is better; expected value in [0, ∞), the noise of the estimate can make a near-perfect score
        slightly negative.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.metrics import energy_score
    >>> samples = np.array([[[0.0, 1.0], [0.0, 1.0]]])  # one row, two outputs, two samples
    >>> round(energy_score([[0.0, 0.0]], samples), 6)
    0.0
    """
    scoringrules = load_scoringrules()
    y, weight = check_target(y_true, sample_weight)
    if is_distribution(y_pred):
        if n_samples < 2:
            raise ValueError(f"n_samples must be at least 2, got {n_samples}.")
        dist, shaped = check_distribution(y_pred, y)
        samples = np.swapaxes(_draw(dist, shaped.shape, n_samples, random_state).reshape(*y.shape, n_samples), 1, 2)
    else:
        samples = np.swapaxes(check_samples(y_pred, y), 1, 2)
    rows = max(1, CHUNK // (samples.shape[1] ** 2 * y.shape[1]))
    scores = [
        scoringrules.es_ensemble(y[start : start + rows], samples[start : start + rows], estimator="fair")
        for start in range(0, len(y), rows)
    ]
    return average(np.concatenate(scores), weight, "uniform_average")


def _draw(dist, shape, n_samples, random_state):
    """Draw samples of shape (*shape, n_samples): predict_dist counts on the last axis, scipy wants all axes."""
    rng = check_random_state(random_state)
    if isinstance(getattr(dist, "dist", None), stats.rv_continuous | stats.rv_discrete):
        return np.moveaxis(dist.rvs(size=(n_samples, *shape), random_state=rng), 0, -1)
    return np.asarray(dist.rvs(size=n_samples, random_state=rng))


def check_samples(y_pred, y):
    """Check samples, at least two for each row; returned with shape (n, t, n_samples)."""
    samples = check_last_axis(y_pred, y, "y_pred")
    if samples.shape[-1] < 2:
        raise ValueError("At least two samples a row are needed to see their spread, got 1. Raise n_samples.")
    return samples


def pinball_loss(y_true, y_pred, *, quantiles=(0.05, 0.5, 0.95), sample_weight=None, multioutput="uniform_average"):
    r"""Pinball loss of predicted quantiles, averaged over their levels.

    .. math:: \max(q\,(y - z), (q - 1)(y - z)) \quad \text{for a quantile } z \text{ of level } q

    Koenker & Bassett (1978), "Regression Quantiles"; computed by scikit-learn's ``mean_pinball_loss``. Twice its
    integral over all levels is the CRPS.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets.
    y_pred : array-like of shape (n, q) or (n, t, q), predict_dist result, or tuple (mean, std)
        Predicted quantiles as ``predict_quantiles`` returns them, or distributions to take them from.
    quantiles : array-like of shape (q,), default=(0.05, 0.5, 0.95)
        Their levels, each strictly between 0 and 1.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (t,), default="uniform_average"
        How the losses of several outputs are joined.

    Returns
    -------
    float, or ndarray of shape (t,)
        y's units, in [0, ∞). Lower is better.

    Examples
    --------
    >>> from skuq.metrics import pinball_loss
    >>> pinball_loss([1.0, 3.0], [[2.0], [2.0]], quantiles=[0.5])
    0.5
    """
    y, weight = check_target(y_true, sample_weight)
    levels = [check_level(level, "quantiles") for level in np.atleast_1d(quantiles).tolist()]
    if is_distribution(y_pred):
        dist, _ = check_distribution(y_pred, y)
        values = np.stack([np.reshape(dist.ppf(level), y.shape) for level in levels], axis=-1)
    else:
        values = check_last_axis(y_pred, y, "y_pred", len(levels))
    losses = [
        mean_pinball_loss(y, values[..., j], alpha=level, sample_weight=weight, multioutput="raw_values")
        for j, level in enumerate(levels)
    ]
    return average(np.mean(losses, axis=0)[None], None, multioutput)


def pit(y_true, y_pred, *, random_state=0):
    """Probability integral transform F(y | x): uniform on [0, 1] if the distributions are calibrated.

    A histogram with a hump says too wide, a U too narrow, a slope biased (Dawid 1984, "The Prequential Approach"). For
    counts the randomised PIT, F(y − 1) + u·P(y) with u uniform (Czado, Gneiting & Held 2009). It is a value for
    each row and not a mean: give a row's weight to the histogram, ``np.histogram(pit(…), weights=sample_weight)``.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets.
    y_pred : predict_dist result or tuple (mean, std)
        Distributions of the targets.
    random_state : int, RandomState instance or None, default=0
        Seed of u, used for counts, and for zeros that have a probability of their own.

    Returns
    -------
    ndarray of the shape of `y_true`
        In [0, 1].

    Examples
    --------
    >>> from skuq.metrics import pit
    >>> pit([0.0, 1.96], ([0.0, 0.0], [1.0, 1.0])).round(3).tolist()
    [0.5, 0.975]
    """
    y, _ = check_target(y_true, None)
    dist, y = check_distribution(y_pred, y)
    upper = np.asarray(dist.cdf(y))
    if is_discrete(dist):
        lower = np.asarray(dist.cdf(y - 1))
        upper = lower + check_random_state(random_state).uniform(size=y.shape) * (upper - lower)
    atom = getattr(getattr(dist, "likelihood", None), "atom", None)
    if atom is not None:
        # The cdf jumps from 0 there.
        upper = np.where(y == atom, check_random_state(random_state).uniform(size=y.shape) * upper, upper)
    return upper.reshape(np.shape(y_true))
