"""How many rows each weighted row stands for, where the estimator's own rows may be of any kind."""

import numpy as np
from scipy import sparse

from .._data.folds import MOST_COPIES, count_copies
from .._data.rows import canonical_rows


def row_copies(X, y, weight) -> np.ndarray:
    """How many rows each row stands for: more than one where weights are counts of a table, see :func:`count_copies`.

    Parameters
    ----------
    X : array-like, sparse matrix or DataFrame of n_rows rows
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
    weight : ndarray of shape (n_rows,), or None
        None has each row stand for itself.

    Returns
    -------
    ndarray of int, shape (n_rows,)
    """
    ones = np.ones(len(y), np.int64)
    if weight is None or np.all(weight == 1):
        return ones
    values = _values(X)
    if values is None:
        return ones
    targets = y.reshape(len(y), -1).astype(float)
    index, merged = canonical_rows(values, targets, weight)
    copies = count_copies(values[index], targets[index], merged)
    most = copies.argmax()
    if copies[most] == 1:
        return ones
    return np.clip(np.rint(weight / (merged[most] / copies[most])), 1, MOST_COPIES).astype(np.int64)


def _values(X):
    """Numbers that are equal where X is, (n_rows, n_columns) or CSR, or None for rows that are no table."""
    if sparse.issparse(X):
        return sparse.csr_array(X)
    columns = [X.iloc[:, j] for j in range(X.shape[1])] if hasattr(X, "iloc") and len(X.shape) == 2 else None
    if columns is None:
        table = np.asarray(X)
        if table.ndim != 2:
            return None
        if np.issubdtype(table.dtype, np.number) or table.dtype == bool:
            return table.astype(float)
        columns = list(table.T)
    return np.column_stack([_codes(np.asarray(column)) for column in columns])


def _codes(column) -> np.ndarray:
    """A column's own numbers, or the places of its labels among them."""
    if np.issubdtype(column.dtype, np.number) or column.dtype == bool:
        return column.astype(float)
    labels: dict = {}
    return np.array([labels.setdefault(label, len(labels)) for label in column.tolist()], dtype=float)
