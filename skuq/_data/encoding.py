"""Piecewise-linear encoding of the inputs.

A network bends a function slowly along one feature, where tables often want a step. So beside each feature stand its bins
(Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"): the b-th says how far the value has
come through the b-th stretch between two quantiles, 0 before it and 1 after it. The feature itself stays an input, so that
functions still extend beyond the data. A feature of two values stays alone: any function of it is linear.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from .rows import SparseRows

# Quantiles of more rows than this do not move noticeably.
MAX_ROWS = 50_000
# Variance of all bins of a feature together, beside 1 for the feature itself. Each bin's own is small, so that networks take
# up what is smooth first.
BINS_VARIANCE = 2.0
# Edges nearer to each other than this, relative to their own size, are one: float32 could not tell values between them.
RESOLUTION = 1e-4
# Rows, or stored values of a sparse matrix, that the search for a third value looks at first; then twice as many.
FIRST_LOOK = 2**10
# Columns of which bins are found together, so that sparse rows need not become dense at once.
COLUMNS_AT_ONCE = 64


@dataclass(frozen=True)
class Encoding:
    """Which features of a fit are encoded, by how many bins each.

    Attributes
    ----------
    asked : tuple of (str or None, int)
        What was asked for: `input_encoding`, and the bins that it stands for, 0 for none.
    n_bins : int
        0 where nothing is to be encoded.
    features : ndarray of bool, shape (n_features,)
        The encoded ones.
    """

    asked: tuple = (None, 0)
    n_bins: int = 0
    features: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @property
    def n_encoded(self) -> int | None:
        """Number of encoded features where some are not, as :class:`skuq._model.network.Network` has it; else None."""
        return None if not self.n_bins or self.features.all() else int(self.features.sum())

    def fit(self, X, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of the encoding that the network computes with; none where nothing is encoded.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32, or SparseRows
        weight : ndarray of shape (n_rows,)
        """
        columns = np.flatnonzero(self.features)
        if not len(columns):
            return {}
        if isinstance(X, SparseRows):
            step = _step(X)
            parts = np.split(columns, range(COLUMNS_AT_ONCE, len(columns), COLUMNS_AT_ONCE))
            bins = [fit_bins(X.columns(part, step), weight[::step], self.n_bins) for part in parts]
            arrays = {"bins": np.concatenate(bins, axis=1)}
        else:
            arrays = {"bins": fit_bins(X if self.n_encoded is None else X[:, columns], weight, self.n_bins)}
        return arrays if self.n_encoded is None else {**arrays, "encoded": columns}


def many_valued(X) -> np.ndarray:
    """Which features have more than two different values, ndarray of bool, shape (n_features,).

    Parameters
    ----------
    X : ndarray or CSR matrix in canonical format, of shape (n_rows, n_features)
    """
    if sparse.issparse(X):
        return _many_valued_sparse(X)
    found = np.zeros(X.shape[1], bool)
    # A second value of each feature; the first, as long as none was met.
    first, second = X[0], X[0].copy()
    start, size = 0, FIRST_LOOK
    while start < len(X) and not found.all():
        undecided = np.flatnonzero(~found)
        block = X[start : start + size, undecided]
        other = block != first[undecided]
        row = np.argmax(other, axis=0)
        met = np.flatnonzero(other.any(axis=0) & (second == first)[undecided])
        second[undecided[met]] = block[row[met], met]
        found[undecided] = (other & (block != second[undecided])).any(axis=0)
        start, size = start + size, min(2 * size, 2**16)
    return found


def _many_valued_sparse(X):
    n_features = X.shape[1]
    first, second = np.full((2, n_features), np.nan)  # values other than 0
    third = np.zeros(n_features, bool)
    count = np.zeros(n_features, int)
    start, size = 0, FIRST_LOOK
    while start < len(X.data):
        value, column = X.data[start : start + size], X.indices[start : start + size]
        value, column = value[value != 0], column[value != 0]
        count += np.bincount(column, minlength=n_features)
        for known in (first, second):
            new = np.isnan(known[column])
            # Of several new values in a column the last stays, and the others are met as different from it.
            known[column[new]] = value[new]
            differs = value != known[column]
            value, column = value[differs], column[differs]
        third[column] = True
        start, size = start + size, min(2 * size, 2**20)
    n_values = np.isfinite(first).astype(int) + np.isfinite(second) + third + (count < X.shape[0])
    return n_values > 2


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
    step = _step(X)
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


def _step(X):
    return -(-X.shape[0] // MAX_ROWS)


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


def encode(
    X: np.ndarray, bins: np.ndarray, out: np.ndarray | None = None, encoded: np.ndarray | None = None
) -> np.ndarray:
    """Features and bins, (…, n_features + n_encoded · n_bins): first all features, then the bins of each encoded one.

    Parameters
    ----------
    X : ndarray of shape (…, n_features)
    bins : ndarray of shape (4, n_encoded, n_bins)
    out : ndarray of the result's shape and type, optional
        Where to write it.
    encoded : ndarray of int, shape (n_encoded,), optional
        Columns of the encoded features; all, if None.
    """
    n_features, n_bins = X.shape[-1], bins.shape[2]
    slope, offset, lowest, highest = bins.reshape(4, -1).astype(X.dtype, copy=False)
    if out is None:
        out = np.empty((*X.shape[:-1], n_features + bins[0].size), X.dtype)
    out[..., :n_features] = X
    z = out[..., n_features:]
    X = X if encoded is None else X[..., encoded]
    np.multiply(np.repeat(X, n_bins, axis=-1), slope, out=z)
    z += offset
    np.clip(z, lowest, highest, out=z)
    return out
