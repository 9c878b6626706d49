"""Rows before training: equal rows merged, an order that does not depend on the caller's, standardisation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.preprocessing import StandardScaler

# Rows of a block in passes over the data: bounds the float64 temporaries to some tens of MB.
PASS_ROWS = 65_536
# Standardised inputs beyond this are as far out as float32 activations can honestly follow.
INPUT_LIMIT = 1e6
# Squares of numbers below this may vanish in sums.
TINY = 1e-100
# Columns of a sparse matrix that are dense together in a pass: with PASS_ROWS rows, 32 MB in float64.
PASS_COLUMNS = 64
# Stored values of a sparse matrix that are scaled at once.
PASS_NUMBERS = 2**20
# Numbers of sparse rows that are dense at once, 32 MB.
DENSE_NUMBERS = 2**23


def canonical_rows(X: Any, y: np.ndarray, sample_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge equal rows, drop rows of weight 0, and sort by content.

    A row that stands twice and a row of weight 2 are the same data, so they must train the same model, to the last
    bit. Rows are sorted by their values, the first column's first, so other units of a feature or of y leave the order,
    and with it shuffles and folds, as they are. Sparse rows come in the order of the same rows when dense.

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
    if sparse.issparse(X):
        order, new = _sort_sparse(X, keep)
    else:
        order, new = keep, np.arange(len(keep)) == 0
        _sort_ties(order, new, X.T)
    _sort_ties(order, new, y.T)
    starts = np.flatnonzero(new)
    return order[starts], np.add.reduceat(sample_weight[order], starts)


def _sort_ties(order: np.ndarray, new: np.ndarray, columns: np.ndarray) -> None:
    """Sort the rows that still tie by the first column, what ties then by the second, and so on; in place.

    Only rows that tie are looked at again, so continuous features cost one sort.

    Parameters
    ----------
    order : ndarray of int, shape (n_kept,)
        Rows in the order so far.
    new : ndarray of bool, shape (n_kept,)
        Whether each differs from the row before.
    columns : iterable of ndarray of shape (n_rows,)
    """
    for column in columns:
        tied = np.flatnonzero(~(new & np.append(new[1:], True)))
        if not len(tied):
            break
        group = np.cumsum(new)[tied]
        order[tied] = order[tied][np.lexsort((column[order[tied]], group))]
        new[tied] |= _differs(column[order[tied]])


def _differs(values: np.ndarray) -> np.ndarray:
    return np.append(True, values[1:] != values[:-1])


def _sort_sparse(X: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`rows` of a CSR matrix in the order of the same rows when dense, and whether each differs from the one before.

    Where two rows first differ, in column c, the order of their values there is theirs. Written as its values other than 0,
    column by column, a row is a word: where two words first differ, either both have a value in one column, or the row with
    the earlier column is the larger if its value is positive and the smaller if it is negative, since the other has 0 there.
    So the words are in alphabetic order if letters come in the order: negative values, those of earlier columns first; the
    end of the word; positive values, those of later columns first; and in one column by value. Each pass looks at the next
    letter of the words that still tie, so the cost is that of sorting the stored values.
    """
    X = canonical_csr(X, without_zeros=True)
    length = np.diff(X.indptr)
    order, new = rows.copy(), np.arange(len(rows)) == 0
    tied, place = np.arange(len(rows)), 0
    group = np.zeros(len(rows), int)
    while len(tied):
        own = order[tied]
        ends = length[own] <= place
        at = np.where(ends, 0, X.indptr[own] + place)
        value, column = (part[at] if len(part) else np.zeros(len(at)) for part in (X.data, X.indices))
        value = np.where(ends, 0, value)
        letter = np.where(value > 0, X.shape[1] - column, np.where(value < 0, column - X.shape[1], 0))
        by_letter = np.lexsort((value, letter, group))
        order[tied] = own[by_letter]
        new[tied] |= _differs(letter[by_letter]) | _differs(value[by_letter])
        # Words that have ended together are equal.
        first = np.cumsum(new)
        alone = new & np.append(new[1:], True)
        tied = tied[~alone[tied] & ~ends[by_letter]]
        group, place = first[tied], place + 1
    return order, new


def canonical_csr(X: Any, without_zeros: bool = False) -> Any:
    """CSR matrix that stores each value once, columns in order; `X` itself where it is so, and never changed."""
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    if without_zeros and np.any(X.data == 0):
        X = X.copy()
        X.eliminate_zeros()
    return X


@dataclass(frozen=True)
class SparseRows:
    """Standardised rows of a sparse matrix, as they are where no value is stored and where one is.

    A shift would fill the matrix, so a column's standardised zero stands here once, and rows become dense a batch at a time.

    Attributes
    ----------
    values : csr_array of shape (n_rows, n_features), float32
        Standardised values of what is stored in X.
    zero : ndarray of shape (n_features,), float32
        What 0 becomes in each column.
    """

    values: sparse.csr_array
    zero: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """(n_rows, n_features)."""
        return self.values.shape

    def __len__(self) -> int:
        return self.values.shape[0]

    def dense(self, index: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Some rows, of shape (n_rows, n_features), float32; negative indices count from the end."""
        values = self.values[index]
        out = np.empty(values.shape, np.float32)
        out[:] = self.zero
        out[np.repeat(np.arange(len(out)), np.diff(values.indptr)), values.indices] = values.data
        return out

    def take(self, index: np.ndarray | slice) -> "SparseRows":
        """Some rows, as sparse as they are."""
        return SparseRows(self.values[index], self.zero)

    def stretches(self, block_rows: int) -> Iterator[np.ndarray]:
        """All rows, dense a stretch at a time, each of whole blocks of so many rows (but for the last)."""
        n_rows, n_features = self.shape
        size = block_rows * max(1, DENSE_NUMBERS // (block_rows * n_features))
        for start in range(0, n_rows, size):
            yield self.dense(slice(start, start + size))

    def columns(self, which: np.ndarray, step: int = 1) -> np.ndarray:
        """Some columns of every `step`-th row, dense."""
        return SparseRows(self.values[::step][:, which], self.zero[which]).dense()


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
    def fit(cls, X: Any, sample_weight: np.ndarray) -> "Standardizer":
        """Weighted mean and standard deviation, by scikit-learn's StandardScaler."""
        # StandardScaler takes the sum of the weights for a count when it judges whether a column is constant.
        sample_weight = sample_weight / sample_weight.mean()
        X = canonical_csr(X) if sparse.issparse(X) else X
        # Squares of the smallest numbers are zero: columns of such are measured in larger units.
        units = _larger_units(X)
        if np.any(units != 1):
            X = X @ sparse.diags_array(units, format="csr") if sparse.issparse(X) else np.asarray(X, np.float64) * units
            found = cls.fit(X, sample_weight)
            return cls(found.shift / units, np.where(found.constant, 1.0, found.scale / units), found.constant)
        groups = _columns_to_sum(X)
        scalers = [StandardScaler(with_mean=dense) for _, dense in groups]
        with np.errstate(over="ignore", invalid="ignore"):
            for start in range(0, X.shape[0], PASS_ROWS):
                rows = slice(start, start + PASS_ROWS)
                block = X[rows].tocsc() if sparse.issparse(X) else X[rows]
                for scaler, (columns, dense) in zip(scalers, groups, strict=True):
                    scaler.partial_fit(_columns_of(block, columns, dense), sample_weight=sample_weight[rows])
        mean, variance, scale = np.empty((3, X.shape[1]))
        for scaler, (columns, _) in zip(scalers, groups, strict=True):
            mean[columns], variance[columns], scale[columns] = scaler.mean_, scaler.var_, scaler.scale_
        if not np.isfinite(variance).all():
            raise ValueError(
                f"Values up to {abs(X).max():.3g} cannot be standardised: their variance is not finite in float64. Rescale X "
                f"or y to smaller units."
            )
        # StandardScaler gives constant columns the scale 1.
        return cls(mean, scale, (scale == 1) & ~np.isclose(variance, 1))

    def without_constants(self) -> "Standardizer":
        """Send columns that never varied to zero whatever their value: nothing was learned of them."""
        return Standardizer(self.shift, np.where(self.constant, np.inf, self.scale))

    def with_equal_gaps(self, X: Any, two_valued: np.ndarray) -> "Standardizer":
        """Let the two values of each of these columns stand 2 apart, as two equally frequent ones do.

        In units of its standard deviation the rarer of two values lies 1/√p away, p its share: a network then learns most from
        the few rows of a rare category, and their noise by heart.

        Parameters
        ----------
        X : {ndarray, CSR matrix} of shape (n_rows, n_columns)
            The rows that were standardised.
        two_valued : ndarray of bool, shape (n_columns,)
        """
        if not two_valued.any():
            return self
        low, high = X.min(axis=0), X.max(axis=0)
        if sparse.issparse(X):
            low, high = low.toarray().ravel(), high.toarray().ravel()
        gap = high.astype(float) - low
        return Standardizer(self.shift, np.where(two_valued & (gap > 0), gap / 2, self.scale), self.constant)

    def without_column(self, column: int) -> "Standardizer":
        """Send one column to zero: it is no feature."""
        scale = self.scale.astype(float)
        scale[column] = np.inf
        return Standardizer(self.shift, scale, self.constant)

    @classmethod
    def by_mean(
        cls, y: np.ndarray, sample_weight: np.ndarray, exposure: np.ndarray | None = None, of_positive: bool = False
    ) -> "Standardizer":
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

    def __call__(self, X: Any) -> np.ndarray:
        """Standardised float32 rows, dense."""
        if sparse.issparse(X):
            return self.sparse_rows(X).dense()
        out = np.zeros(X.shape, np.float32)
        for start in range(0, X.shape[0], PASS_ROWS):
            rows = slice(start, start + PASS_ROWS)
            out[rows] = self._scaled(X[rows], slice(None))
        return out

    def rows(self, X: Any) -> np.ndarray | SparseRows:
        """Standardised rows, as sparse as they came."""
        return self.sparse_rows(X) if sparse.issparse(X) else self(X)

    def sparse_rows(self, X: Any) -> SparseRows:
        """Standardised rows of a CSR matrix, with the same numbers as dense ones."""
        X = canonical_csr(X)
        data = np.empty(len(X.data), np.float32)
        for start in range(0, len(data), PASS_NUMBERS):
            part = slice(start, start + PASS_NUMBERS)
            data[part] = self._scaled(X.data[part], X.indices[part])
        zero = self._scaled(np.zeros(X.shape[1]), slice(None)).astype(np.float32)
        return SparseRows(sparse.csr_array((data, X.indices, X.indptr), shape=X.shape), zero)

    def _scaled(self, values: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
        z = (values - self.shift[columns]) / self.scale[columns]
        return np.clip(z, -INPUT_LIMIT, INPUT_LIMIT)


def _larger_units(X: Any) -> np.ndarray:
    """Factor of each column, a power of two: 1, or, where all its numbers are so small that squares vanish, to about 1."""
    largest = np.asarray(abs(X).max(axis=0).todense() if sparse.issparse(X) else np.abs(X).max(axis=0), float).ravel()
    tiny = (largest > 0) & (largest < TINY)
    # No factor beyond the largest number: what is smaller than that lifts has no digits left.
    exponent = np.where(tiny, np.minimum(-np.frexp(largest)[1], 1000), 0)
    return np.ldexp(1.0, exponent)


def _columns_to_sum(X: Any) -> list:
    """Columns whose moments are found together, and whether as dense ones.

    A sparse table that is small enough is summed as a dense one, to have the same moments to the last bit. In a wide one a
    column is summed as a dense one is if most of its values are not 0: its mean may then be far larger than its standard
    deviation, where the rounding of sums shows.
    """
    if not sparse.issparse(X) or min(X.shape[0], PASS_ROWS) * X.shape[1] <= PASS_ROWS * PASS_COLUMNS:
        return [(slice(None), True)]
    filled = 2 * np.bincount(X.indices, X.data != 0, X.shape[1]) > X.shape[0]
    some = np.flatnonzero(filled)
    groups = [(some[i : i + PASS_COLUMNS], True) for i in range(0, len(some), PASS_COLUMNS)]
    rest = np.flatnonzero(~filled)
    return [*groups, (rest, False)] if len(rest) else groups


def _columns_of(block: Any, columns: np.ndarray, dense: np.ndarray) -> np.ndarray:
    if not sparse.issparse(block):
        return block
    block = block[:, columns]
    # scikit-learn sums sparse float32 values in float32.
    return block.toarray(order="C") if dense else block.astype(np.float64)
