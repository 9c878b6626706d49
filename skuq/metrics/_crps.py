"""The continuous ranked probability score, by the best formula that the distribution allows."""

from itertools import pairwise

import numpy as np
from scipy import stats
from scipy.special import ndtr

from skuq.likelihoods import Normal
from skuq.metrics._adapters import is_discrete
from skuq.metrics._distributions import check_samples
from skuq.metrics._validation import average, check_distribution, check_target, is_distribution, load_scoringrules

# A spread below this is a point to double precision.
SMALLEST = 1e-100
# Numbers in the (rows, S, S) array that scoringrules makes of S components.
CHUNK = 2_000_000
# Beyond the outer levels F² and (1 − F)² are below 1e-13: nothing of the integral is left there.
LEVELS = ndtr(np.linspace(-5, 5, 11))
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(10)
# A count distribution wider than this is integrated as a curve.
MAX_COUNTS = 2048


def crps(y_true, y_pred, *, sample_weight=None, multioutput="uniform_average"):
    r"""Continuous ranked probability score: the absolute error of a distribution.

    .. math:: \mathrm{CRPS}(F, y) = \int (F(x) - 1\{x \ge y\})^2\,dx = E|X - y| - \tfrac12 E|X - X'|

    Matheson & Winkler (1976); Gneiting & Raftery (2007), "Strictly Proper Scoring Rules", eq. 20. Strictly proper, and
    far less moved by outliers than :func:`nll`. For a point prediction it is the absolute error.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets.
    y_pred : predict_dist result, tuple (mean, std), or array-like of shape (n, n_samples) or (n, t, n_samples)
        Distributions of the targets, or samples from them, laid out as ``sample_y`` returns them.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (t,), default="uniform_average"
        How the scores of several outputs are joined. :func:`energy_score` sees their dependence too.

    Returns
    -------
    float, or ndarray of shape (t,)
        y's units, in [0, ∞) (of samples, in expectation). Lower is better.

    Notes
    -----
    A normal and an equally weighted mixture of S normals are exact: ``scoringrules.crps_normal`` and ``crps_mixnorm``,
    the latter in S² operations a row. Samples go to the fair (unbiased) estimator of ``crps_ensemble``. Counts are
    summed over the integers. Any other distribution is integrated by a Gauss–Legendre rule between eleven of its
    quantiles and y: relative error below 1e-6 for smooth families, 1e-4 for a density with a pole (a gamma of shape
    0.1), and, in the mean over rows, 1e-3 for mixtures with wide gaps between narrow modes.

    Examples
    --------
    >>> from skuq.metrics import crps
    >>> round(crps([0.0], ([0.0], [1.0])), 4)
    0.2337
    """
    y, weight = check_target(y_true, sample_weight)
    if not is_distribution(y_pred):
        scoringrules = load_scoringrules()
        return average(scoringrules.crps_ensemble(y, check_samples(y_pred, y), estimator="pwm"), weight, multioutput)
    dist, shaped = check_distribution(y_pred, y)
    components = _normal_components(dist)
    if components is not None:
        values = _crps_mixture(y, *components)
    elif isinstance(getattr(dist, "dist", None), type(stats.norm)):
        values = load_scoringrules().crps_normal(shaped, dist.mean(), np.maximum(dist.std(), SMALLEST))
    elif is_discrete(dist):
        values = _crps_counts(shaped, dist)
    else:
        values = _crps_quadrature(shaped, dist)
    return average(np.asarray(values), weight, multioutput)


def _normal_components(dist):
    """Means and standard deviations, each of shape (S, n, t), of an equal mixture of normals; None for any other."""
    if not hasattr(dist, "components"):
        return None
    components = dist.components()
    if not isinstance(components, dict):
        return components
    return (components["loc"], components["scale"]) if type(dist.likelihood) is Normal else None


def _crps_mixture(y, means, stds):
    scoringrules = load_scoringrules()
    means = np.asarray(means, dtype=np.float64)
    # The formula divides by the spreads.
    stds = np.maximum(np.broadcast_to(stds, means.shape).astype(np.float64), SMALLEST)
    n_draws = len(means)
    means, stds = means.reshape(n_draws, -1), stds.reshape(n_draws, -1)
    flat = y.reshape(-1)
    rows = max(1, CHUNK // n_draws**2)
    scores = [
        scoringrules.crps_mixnorm(flat[part], means[:, part], stds[:, part], m_axis=0)
        for part in (slice(start, start + rows) for start in range(0, len(flat), rows))
    ]
    return np.concatenate(scores).reshape(y.shape)


def _crps_quadrature(y, dist):
    """∫ F² below y plus ∫ (1 − F)² above, panel by panel; y is an edge, so each panel is smooth."""
    edges = np.sort(np.stack([*(dist.ppf(level) for level in LEVELS), y]), axis=0)
    total = np.zeros(y.shape)
    for left, right in pairwise(edges):
        half, middle = (right - left) / 2, (right + left) / 2
        step = middle >= y
        for node, node_weight in zip(NODES, NODE_WEIGHTS, strict=True):
            total += node_weight * half * (dist.cdf(middle + half * node) - step) ** 2
    return total


def _crps_counts(y, dist):
    """Σ_k (F(k) − 1{k ≥ y})²: the integrand is constant between integers."""
    first = np.minimum(dist.ppf(LEVELS[0]), np.floor(y))
    n_steps = int(np.max(np.maximum(dist.ppf(LEVELS[-1]), np.ceil(y)) - first)) + 1
    if n_steps > MAX_COUNTS:
        return _crps_quadrature(y, dist)
    total = np.zeros(y.shape)
    for k in range(n_steps):
        total += (dist.cdf(first + k) - (first + k >= y)) ** 2
    return total
