"""One temperature for all class probabilities (Guo et al. 2017, arXiv:1706.04599)."""

import numpy as np
from scipy import special
from scipy.optimize import brentq
from sklearn.utils import check_array
from sklearn.utils.validation import check_consistent_length, column_or_1d

from .._prediction.temperature import HIGHEST, LOWEST
from .._validation import check_weights

_SUM_TOLERANCE = 1e-3


def fit_temperature(logits_or_proba, y, sample_weight=None) -> float:
    r"""Temperature T for which softmax(logits / T) has the smallest log loss on held-out rows.

    Parameters
    ----------
    logits_or_proba : array-like of shape (n_samples, n_classes) or (n_samples,)
        Logits, or probabilities: known by rows ≥ 0 that sum to one, and taken as the logits log p. One column, or one
        dimension, holds the logit of the second of two classes.
    y : array-like of int, shape (n_samples,)
        Column number of each row's class, 0 … n_classes − 1.
    sample_weight : array-like of shape (n_samples,), optional
        Weights ≥ 0.

    Returns
    -------
    float
        In [0.01, 100]; above 1 where the probabilities were too sure. The ends stand for rows that are all classified
        rightly, and for logits no better than none.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.calibration import fit_temperature
    >>> logits = np.array([4.0, 4.0, 4.0, 4.0])  # 98 % sure of the second class, and right three times out of four
    >>> temperature = fit_temperature(logits, [1, 1, 1, 0])
    >>> bool(np.isclose(1 / (1 + np.exp(-4 / temperature)), 0.75))
    True
    """
    logits = _as_logits(logits_or_proba)
    y = column_or_1d(y)
    check_consistent_length(logits, y)
    n_classes = logits.shape[1]
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= n_classes:
        raise ValueError(
            f"y must hold column numbers 0 to {n_classes - 1}, got {y.dtype} values such as {y[:5].tolist()}. For "
            f"labels pass np.searchsorted(classes_, labels)."
        )
    weight = check_weights(sample_weight, logits)
    logits = logits - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(y)), y]

    def slope(log_temperature):
        # d NLL / d(1/T) = mean of E_p[logit] − logit of the true class; rises with 1/T, for the NLL is convex in it.
        probabilities = special.softmax(logits * np.exp(-log_temperature), axis=1)
        return np.average((probabilities * logits).sum(axis=1) - own, weights=weight)

    low, high = np.log(LOWEST), np.log(HIGHEST)
    if slope(low) <= 0:
        return LOWEST
    if slope(high) >= 0:
        return HIGHEST
    return float(np.exp(brentq(slope, low, high, xtol=1e-12)))


def _as_logits(values) -> np.ndarray:
    values = check_array(values, ensure_2d=False, dtype=np.float64, input_name="logits_or_proba")
    if values.ndim == 1 or values.shape[1] == 1:
        logit = values.reshape(-1)
        return np.column_stack([np.zeros_like(logit), logit])
    if values.min() >= 0 and np.abs(values.sum(axis=1) - 1).max() < _SUM_TOLERANCE:
        return np.log(np.maximum(values, np.finfo(float).tiny))
    return values
