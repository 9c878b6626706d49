"""Scores and diagnostics of central prediction intervals."""

import numpy as np

from skuq.metrics._adapters import adapt
from skuq.metrics._validation import (
    average,
    check_distribution,
    check_last_axis,
    check_level,
    check_target,
    is_distribution,
    load_scoringrules,
)


def interval_score(y_true, y_pred, *, coverage=0.9, sample_weight=None, multioutput="uniform_average"):
    r"""Interval (Winkler) score: width, plus 2/(1 − coverage) times the distance of a miss.

    Winkler (1972); Gneiting & Raftery (2007), "Strictly Proper Scoring Rules", eq. 43; computed by
    ``scoringrules.interval_score``. Proper: smallest in expectation for the true central interval.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets.
    y_pred : array-like of shape (n, 2) or (n, t, 2), predict_dist result, or tuple (mean, std)
        Intervals (lower, upper) as ``predict_interval`` returns them, or distributions to take them from.
    coverage : float, 0 < coverage < 1, default=0.9
        Nominal coverage of the intervals.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (t,), default="uniform_average"
        How the scores of several outputs are joined.

    Returns
    -------
    float, or ndarray of shape (t,)
        y's units, in [0, ∞). Lower is better.

    Examples
    --------
    >>> from skuq.metrics import interval_score
    >>> round(interval_score([0.0, 2.5], [[-1.0, 1.0], [0.0, 2.0]], coverage=0.9), 6)
    7.0
    """
    y, lower, upper, weight = _check_interval(y_true, y_pred, coverage, sample_weight)
    score = load_scoringrules().interval_score(y, lower, upper, 1 - coverage)
    # scoringrules drops axes of length one.
    return average(np.reshape(score, y.shape), weight, multioutput)


def coverage(y_true, y_pred, *, coverage=0.9, sample_weight=None, multioutput="uniform_average"):
    """Fraction of targets inside their intervals, ends included; calibrated intervals have it at their nominal level.

    Also known as the prediction interval coverage probability (PICP).

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets.
    y_pred : array-like of shape (n, 2) or (n, t, 2), predict_dist result, or tuple (mean, std)
        Intervals (lower, upper) as ``predict_interval`` returns them, or distributions to take them from.
    coverage : float, 0 < coverage < 1, default=0.9
        Nominal coverage of the intervals to take from distributions; of no effect on intervals.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (t,), default="uniform_average"
        How the fractions of several outputs are joined.

    Returns
    -------
    float, or ndarray of shape (t,)
        In [0, 1].

    Examples
    --------
    >>> from skuq.metrics import coverage
    >>> coverage([0.0, 1.0, 2.5, 3.0], [[-1, 1], [0, 2], [1, 2], [2, 4]])
    0.75
    """
    y, lower, upper, weight = _check_interval(y_true, y_pred, coverage, sample_weight)
    return average((lower <= y) & (y <= upper), weight, multioutput)


def mean_width(y_true, y_pred=None, *, coverage=0.9, sample_weight=None, multioutput="uniform_average"):
    """Mean width of the intervals (sharpness); of use only beside their coverage.

    Also known as the mean prediction interval width (MPIW).

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Targets, of which only the shape matters: they stand here so that all interval metrics are called alike, and may be
        left out, ``mean_width(intervals)``.
    y_pred : array-like of shape (n, 2) or (n, t, 2), predict_dist result, or tuple (mean, std)
        Intervals (lower, upper) as ``predict_interval`` returns them, or distributions to take them from.
    coverage : float, 0 < coverage < 1, default=0.9
        Nominal coverage of the intervals to take from distributions; of no effect on intervals.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.
    multioutput : {"uniform_average", "raw_values"} or array-like of shape (t,), default="uniform_average"
        How the widths of several outputs are joined.

    Returns
    -------
    float, or ndarray of shape (t,)
        y's units, in [0, ∞).

    Examples
    --------
    >>> from skuq.metrics import mean_width
    >>> mean_width([0.0, 1.0], [[-1.0, 1.0], [0.0, 4.0]])
    3.0
    >>> mean_width([[-1.0, 1.0], [0.0, 4.0]])
    3.0
    """
    if y_pred is None:
        y_true, y_pred = _any_targets(y_true), y_true
    _, lower, upper, weight = _check_interval(y_true, y_pred, coverage, sample_weight)
    return average(upper - lower, weight, multioutput)


def _any_targets(y_pred):
    """Targets of the shape that `y_pred` is about, where no metric looks at their values."""
    if is_distribution(y_pred):
        return np.zeros(np.shape(y_pred[0] if isinstance(y_pred, tuple) else adapt(y_pred).mean()))
    shape = np.shape(y_pred)
    if len(shape) not in (2, 3) or shape[-1] != 2:
        raise ValueError(
            f"mean_width of intervals alone needs them with shape (n, 2) or (n, t, 2), got {shape}. The last axis is "
            f"(lower, upper)."
        )
    return np.zeros(shape[:-1])


def _check_interval(y_true, y_pred, coverage, sample_weight):
    """Targets, lower and upper ends, each of shape (n, t), and weights of shape (n,)."""
    level = check_level(coverage)
    y, weight = check_target(y_true, sample_weight)
    if is_distribution(y_pred):
        dist, _ = check_distribution(y_pred, y)
        lower, upper = (np.reshape(dist.ppf(q), y.shape) for q in ((1 - level) / 2, (1 + level) / 2))
    else:
        interval = check_last_axis(y_pred, y, "y_pred", 2)
        lower, upper = interval[..., 0], interval[..., 1]
    if np.any(lower > upper):
        raise ValueError(
            f"{int(np.sum(lower > upper))} interval(s) have a lower end above the upper end. "
            "The last axis of y_pred is (lower, upper)."
        )
    return y, lower, upper, weight
