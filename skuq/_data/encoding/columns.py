"""Which columns are worth encoding: any function of a feature of two values is linear in it."""

import numpy as np
from scipy import sparse

# Rows, or stored values of a sparse matrix, that the search for a third value looks at first; then twice as many.
FIRST_LOOK = 2**10


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
