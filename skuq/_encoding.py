"""Piecewise-linear encoding of the inputs.

A network bends a function slowly along one feature, where tables often want a step. So beside each feature stand its bins
(Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"): the b-th says how far the value has
come through the b-th stretch between two quantiles, 0 before it and 1 after it. The feature itself stays an input, so that
functions still extend beyond the data.
"""

import numpy as np

# Quantiles of more rows than this do not move noticeably.
MAX_ROWS = 50_000
# Variance of all bins of a feature together, beside 1 for the feature itself. Each bin's own is small, so that networks take
# up what is smooth first.
BINS_VARIANCE = 2.0
# Edges nearer to each other than this, relative to their own size, are one: float32 could not tell values between them.
RESOLUTION = 1e-4


def fit_bins(X: np.ndarray, weight: np.ndarray, n_bins: int) -> np.ndarray:
    """Bins of each column between its weighted quantiles.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32
    weight : ndarray of shape (n_rows,)
    n_bins : int

    Returns
    -------
    ndarray of shape (4, n_features, n_bins), float32
        Slope, offset, lowest and highest value of each bin: what :func:`encode` takes. All are zero for bins that a
        feature of fewer different values does without; a feature of two values needs none.
    """
    step = -(-len(X) // MAX_ROWS)
    X, weight = X[::step].astype(float), weight[::step]
    bins = np.zeros((4, X.shape[1], n_bins))
    for j, x in enumerate(X.T):
        order = np.argsort(x)
        values, own = x[order], weight[order]
        edges = _edges(values, own, n_bins)
        if len(edges) < 3:
            continue
        width = np.diff(edges)
        mean, variance = _moments_of_parts(values, own, edges)
        scale = np.sqrt(BINS_VARIANCE / n_bins / variance)
        bins[:, j, : len(width)] = (
            scale / width,
            -scale * (edges[:-1] / width + mean),
            -scale * mean,
            scale * (1 - mean),
        )
    return bins.astype(np.float32)


def _edges(values, weight, n_bins):
    """Different weighted quantiles of a column in ascending order, its ends included."""
    total = np.cumsum(weight)
    share = total / total[-1]
    # A hair below, so that rounding of the weights' sum does not decide between two values.
    positions = np.searchsorted(share, np.arange(1, n_bins) / n_bins - 1e-9)
    edges = [values[0]]
    for value in (*values[positions], values[-1]):
        if value - edges[-1] > RESOLUTION * max(abs(value), abs(edges[-1])):
            edges.append(value)
    return np.array(edges)


def _moments_of_parts(values, weight, edges):
    """Weighted mean and variance of each bin's part, 0 before its edges and 1 after them, of a column in ascending order."""
    n_bins = len(edges) - 1
    bounds = np.searchsorted(values, edges[1:-1], side="right")
    own = np.repeat(np.arange(n_bins), np.diff(bounds, prepend=0, append=len(values)))
    part = np.clip((values - edges[own]) / np.diff(edges)[own], 0, 1)

    def within(numbers):
        return np.bincount(own, weight * numbers, n_bins)

    share = within(1.0)
    before, total = np.cumsum(share) - share, share.sum()
    after = total - before - share
    mean = (within(part) + after) / total
    # Not the mean square less the squared mean: where nearly all rows are on one side, they differ by little.
    variance = (within((part - mean[own]) ** 2) + before * mean**2 + after * (1 - mean) ** 2) / total
    return mean, variance


def encode(X: np.ndarray, bins: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Features and their bins, (…, n_features · (1 + n_bins)): first all features, then the bins of each.

    Parameters
    ----------
    X : ndarray of shape (…, n_features)
    bins : ndarray of shape (4, n_features, n_bins)
    out : ndarray of the result's shape and type, optional
        Where to write it.
    """
    n_features, n_bins = bins.shape[1:]
    slope, offset, lowest, highest = bins.reshape(4, -1).astype(X.dtype, copy=False)
    if out is None:
        out = np.empty((*X.shape[:-1], n_features * (1 + n_bins)), X.dtype)
    out[..., :n_features] = X
    z = out[..., n_features:]
    np.multiply(np.repeat(X, n_bins, axis=-1), slope, out=z)
    z += offset
    np.clip(z, lowest, highest, out=z)
    return out
