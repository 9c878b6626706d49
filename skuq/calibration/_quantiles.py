"""The finite-sample quantile of conformal prediction, with weights: pure functions.

With n scores of equal weight the threshold for coverage c is the ⌈c (n + 1)⌉-th smallest: the new row's own score is as
likely to be the smallest as the largest of n + 1 (Vovk et al. 2005). With weights a new row counts as an average row.
"""

import numpy as np

# Rounding of c (n + 1), as in 0.55 · 100 = 55.00000000000001, must not cost a rank.
_ROUNDING = 1e-9


def normalized_weight(weight: np.ndarray) -> np.ndarray:
    """Weights whose mean over the positive ones is 1: equal weights become ones."""
    positive = weight[weight > 0]
    if not len(positive):
        raise ValueError("All calibration rows have a weight of zero. Check sample_weight, or choose another cv.")
    return np.ones_like(weight) if np.all(weight == weight[0]) else weight / positive.mean()


def needed_mass(weight: np.ndarray, coverage: float) -> float:
    """Weight of scores that must not exceed the threshold: c (Σw + 1), for weights of mean 1.

    Raises
    ------
    ValueError
        If the rows are too few, so that no finite threshold has this coverage.
    """
    n_rows = int(np.count_nonzero(weight))
    needed = coverage * (n_rows + 1) - _ROUNDING
    if needed > n_rows:
        enough = int(np.ceil(coverage / (1 - coverage) - _ROUNDING))
        raise ValueError(
            f"coverage={coverage:g} needs at least {enough} calibration rows, got {n_rows}. Fit on more rows, hold out "
            f"more of them (a smaller cv, or method='cross'), or ask for at most {n_rows / (n_rows + 1):.4g}."
        )
    return needed


def threshold(scores: np.ndarray, weight: np.ndarray, coverage: float) -> np.ndarray:
    """Smallest score below or at which enough of the calibration rows lie.

    Parameters
    ----------
    scores : ndarray of shape (..., n_rows)
    weight : ndarray of shape (n_rows,)
        As :func:`normalized_weight` returns them.
    coverage : float, 0 < coverage < 1

    Returns
    -------
    ndarray of shape (...)
    """
    needed = needed_mass(weight, coverage)
    if np.all(weight == 1):
        rank = int(np.ceil(needed))
        return np.partition(scores, rank - 1, axis=-1)[..., rank - 1]
    order = np.argsort(scores, axis=-1, kind="stable")
    rank = np.sum(np.cumsum(weight[order], axis=-1) < needed, axis=-1, keepdims=True)
    rank = np.minimum(rank, scores.shape[-1] - 1)
    return np.take_along_axis(np.take_along_axis(scores, order, axis=-1), rank, axis=-1)[..., 0]


def mass_below(sorted_scores: np.ndarray, cumulative_weight: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weight of the calibration scores strictly below each value, any shape.

    Parameters
    ----------
    sorted_scores : ndarray of shape (n_rows,)
    cumulative_weight : ndarray of shape (n_rows + 1,)
        0, w₁, w₁ + w₂, …
    values : ndarray
    """
    return cumulative_weight[np.searchsorted(sorted_scores, values, side="left")]
