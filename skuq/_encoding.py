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
        edges = _edges(x, weight, n_bins)
        if len(edges) < 3:
            continue
        width = np.diff(edges)
        part = np.clip((x[:, None] - edges[:-1]) / width, 0, 1)
        mean = np.average(part, axis=0, weights=weight)
        scale = np.sqrt(BINS_VARIANCE / n_bins) / np.sqrt(np.average((part - mean) ** 2, axis=0, weights=weight))
        bins[:, j, : len(width)] = (
            scale / width,
            -scale * (edges[:-1] / width + mean),
            -scale * mean,
            scale * (1 - mean),
        )
    return bins.astype(np.float32)


def _edges(x, weight, n_bins):
    """Different weighted quantiles of one column, its ends included."""
    order = np.argsort(x, kind="stable")
    values, total = x[order], np.cumsum(weight[order])
    share = total / total[-1]
    # A hair below, so that rounding of the weights' sum does not decide between two values.
    positions = np.searchsorted(share, np.arange(1, n_bins) / n_bins - 1e-9)
    edges = [values[0]]
    for value in (*values[positions], values[-1]):
        if value - edges[-1] > RESOLUTION * max(abs(value), abs(edges[-1])):
            edges.append(value)
    return np.array(edges)


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
