"""Rows before training: equal rows merged, an order that does not depend on the caller's, standardisation."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.preprocessing import StandardScaler

# Rows of a block in passes over the data: bounds the float64 temporaries to some tens of MB.
PASS_ROWS = 65_536
# Standardised inputs beyond this are as far out as float32 activations can honestly follow.
INPUT_LIMIT = 1e6
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def canonical_rows(X, y, sample_weight) -> tuple[np.ndarray, np.ndarray]:
    """Merge equal rows, drop rows of weight 0, and sort by content.

    A row that stands twice and a row of weight 2 are the same data, so they must train the same model, to the last
    bit. Dense rows are sorted by their values, so
    other units of a feature or of y leave the order, and with it shuffles and folds, as they are.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_rows, n_features)
    y : ndarray of shape (n_rows, n_targets)
    sample_weight : ndarray of shape (n_rows,), ≥ 0

    Returns
    -------
    index : ndarray of shape (n_unique,)
        One row of each group of equal rows, in the canonical order.
    weight : ndarray of shape (n_unique,)
        Summed weights.
    """
    keep = np.flatnonzero(sample_weight > 0)
    # Sparse rows have too many columns to sort by; a hash of each orders them.
    keys = [_row_hash(X)] if sparse.issparse(X) else list(X.T)
    order, new = _sort_by([*keys, *y.T], keep)
    if sparse.issparse(X):
        # A 64-bit hash may collide; equal rows must really be equal.
        twins = np.flatnonzero(~new)
        new[twins[~_rows_equal(X, order[twins], order[twins - 1])]] = True
    starts = np.flatnonzero(new)
    return order[starts], np.add.reduceat(sample_weight[order], starts)


def _sort_by(columns, rows) -> tuple[np.ndarray, np.ndarray]:
    """Sort `rows` by the first column, ties by the second, and so on; also whether each differs from the one before.

    Only rows that still tie are looked at again, so continuous features cost one sort.
    """
    order = rows[np.argsort(columns[0][rows], kind="stable")]
    new = _differs(columns[0][order])
    for column in columns[1:]:
        alone = new & np.append(new[1:], True)
        tied = np.flatnonzero(~alone)
        if not len(tied):
            break
        group = np.cumsum(new)[tied]
        order[tied] = order[tied][np.lexsort((column[order[tied]], group))]
        new[tied] |= _differs(column[order[tied]])
    return order, new


def _differs(values) -> np.ndarray:
    return np.append(True, values[1:] != values[:-1])


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = (bits ^ (bits >> np.uint64(31))) * _GOLDEN
    return bits ^ (bits >> np.uint64(29))


def _row_hash(X) -> np.ndarray:
    """64-bit hash of each sparse row's values; stored zeros do not count."""
    with np.errstate(over="ignore"):
        salt = _mix(np.arange(1, X.shape[1] + 1, dtype=np.uint64) * _GOLDEN)
        bits = _mix(_bits(X.data) + salt[X.indices])
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(np.where(X.data == 0, np.uint64(0), bits))])
        return total[X.indptr[1:]] - total[X.indptr[:-1]]


def _bits(values):
    return np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)


def _rows_equal(X, left, right):
    if not len(left):
        return np.zeros(0, bool)
    return np.asarray(abs(X[left] - X[right]).sum(axis=1)).ravel() == 0


@dataclass(frozen=True)
class Standardizer:
    """Weighted shift and scale of each column, part of the fitted state; constant columns go to zero.

    Attributes
    ----------
    shift, scale : ndarray of shape (n_columns,)
        Values become (x − shift) / scale; scale is never 0, and infinite where a column is to be left at zero.
    constant : ndarray of bool, shape (n_columns,)
        Columns that did not vary.
    """

    shift: np.ndarray
    scale: np.ndarray
    constant: np.ndarray | bool = False

    @classmethod
    def fit(cls, X, sample_weight) -> "Standardizer":
        """Weighted mean and standard deviation, by scikit-learn's StandardScaler (no shift for sparse X)."""
        scaler = StandardScaler(with_mean=not sparse.issparse(X))
        # StandardScaler takes the sum of the weights for a count when it judges whether a column is constant.
        sample_weight = sample_weight / sample_weight.mean()
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, X.shape[0], PASS_ROWS):
                rows = slice(start, start + PASS_ROWS)
                scaler.partial_fit(X[rows], sample_weight=sample_weight[rows])
        if not np.isfinite(scaler.var_).all():
            raise ValueError(
                f"Values up to {abs(X).max():.3g} cannot be standardised: their variance is not finite in float64. Rescale X "
                f"or y to smaller units."
            )
        shift = np.zeros(X.shape[1]) if scaler.mean_ is None or sparse.issparse(X) else scaler.mean_
        # StandardScaler gives constant columns the scale 1.
        return cls(shift, scaler.scale_, (scaler.scale_ == 1) & ~np.isclose(scaler.var_, 1))

    def without_constants(self) -> "Standardizer":
        """Send columns that never varied to zero whatever their value: nothing was learned of them."""
        return Standardizer(self.shift, np.where(self.constant, np.inf, self.scale))

    def without_column(self, column: int) -> "Standardizer":
        """Send one column to zero: it is no feature."""
        scale = self.scale.astype(float)
        scale[column] = np.inf
        return Standardizer(self.shift, scale, self.constant)

    @classmethod
    def by_mean(cls, y, sample_weight, exposure=None, of_positive=False) -> "Standardizer":
        """Weighted mean of y as the scale, without a shift; 1 where it is not positive.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_outputs), ≥ 0
        sample_weight : ndarray of shape (n_rows,)
        exposure : ndarray of shape (n_rows,), optional
            The mean is then one for an exposure of 1.
        of_positive : bool
            Whether rows with y = 0 are left out.
        """
        weight = np.repeat((sample_weight / sample_weight.max())[:, None], y.shape[1], axis=1)
        weight = weight * (y > 0) if of_positive else weight
        total = weight.sum(axis=0) if exposure is None else (weight * exposure[:, None]).sum(axis=0)
        with np.errstate(over="ignore"):
            mean = (weight * y).sum(axis=0) / np.where(total > 0, total, 1.0)
        if not np.isfinite(mean).all():
            raise ValueError(
                f"The mean of values up to {y.max():.3g} is not finite in float64. Rescale y to smaller units."
            )
        return cls(np.zeros(y.shape[1]), np.where(mean > 0, mean, 1.0))

    @classmethod
    def identity(cls, n_columns: int) -> "Standardizer":
        """Leave values as they are."""
        return cls(np.zeros(n_columns), np.ones(n_columns))

    def __call__(self, X, width=None) -> np.ndarray:
        """Standardised float32 rows, dense, zero-padded on the right to `width` columns."""
        out = np.zeros((X.shape[0], width or X.shape[1]), np.float32)
        for start in range(0, X.shape[0], PASS_ROWS):
            rows = slice(start, start + PASS_ROWS)
            block = X[rows].toarray() if sparse.issparse(X) else X[rows]
            z = (block - self.shift) / self.scale
            out[rows, : X.shape[1]] = np.clip(z, -INPUT_LIMIT, INPUT_LIMIT)
        return out
