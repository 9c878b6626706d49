"""Which rows are held out: whole rows where each stands for itself, shares of their weight where rows coincide by chance.

Equal (X, y) rows are merged into one of summed weight before training (:mod:`skuq._data.rows`). A table of categories then
has few different rows, each standing for many. Were such a row held out as a whole, a network that trains without it would
have seen every other outcome of its category and not this one, and would look wrong where it is right. So a row that stands
for m copies is divided as m rows would be: each copy goes to a fold at random, and the row is held out of every fold with the
share of its weight that fell there (:class:`Folds`).

Copies that say nothing new, rows which a user repeated or weighted up, must not be divided: a network would be judged by rows
that it has trained on. :func:`count_copies` tells the two apart.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

# Fewer different X than this are a design, not a sample: a fold without some of them says nothing about the others.
FEW_SETTINGS = 20
# Equal X come by chance if their targets differ at least this often, relative to those of any two rows.
LEAST_DISAGREEMENT = 0.02
# Or if each X would, were its columns independent, coincide by chance with this many others.
LEAST_COINCIDENCES = 0.1
# No row counts for more copies than this, which float64 still tells apart.
MOST_COPIES = 2.0**52
# Weights are multiples of one number if that is not less than this share of the largest, and they miss it by rounding only.
LEAST_DIVISOR, ROUNDING = 1e-8, 1e-11
# Copies up to which folds are filled evenly, one by one; more fill them evenly by themselves.
MOST_ONE_BY_ONE = 2_000_000


@dataclass(frozen=True)
class Part:
    """Some of the rows, each with its weight or a share of it.

    Attributes
    ----------
    rows : ndarray of int
    weight : ndarray of the same length, or None
        Weight of each; None where it is all that the row has.
    fold : int
        Number of the fold that these rows are; −1 for those outside one.
    """

    rows: np.ndarray
    weight: np.ndarray | None = None
    fold: int = -1

    def __len__(self) -> int:
        return len(self.rows)

    def weights(self, of_all: np.ndarray) -> np.ndarray:
        """Weight of each row of this part, given those of all rows."""
        return of_all[self.rows] if self.weight is None else self.weight

    def some(self, most: int, rng: np.random.Generator) -> "Part":
        """Return this part, or `most` of its rows at random."""
        if len(self.rows) <= most:
            return self
        which = rng.choice(len(self.rows), most, replace=False)
        return Part(self.rows[which], None if self.weight is None else self.weight[which], self.fold)


@dataclass(frozen=True)
class Folds:
    """Rows divided into folds; a row that stands for several copies may be in several, each with a share of its weight.

    Attributes
    ----------
    weight : ndarray of shape (n_rows,)
    copies : ndarray of int, shape (n_rows,)
        How many rows each stands for.
    fold : ndarray of int, shape (n_rows,), or None
        Fold of each row (−1: in none), where all are whole.
    counts : ndarray of int, shape (n_rows, n_folds), or None
        Copies of each row in each fold, where some are divided.
    """

    weight: np.ndarray
    copies: np.ndarray
    fold: np.ndarray | None = None
    counts: np.ndarray | None = None

    @property
    def n_copies(self) -> int:
        """Rows that all weights together stand for."""
        return int(self.copies.sum(dtype=float))

    @cached_property
    def _share(self) -> np.ndarray:
        return self.weight / self.copies

    def held_out(self, k: int) -> Part:
        """Rows of fold k."""
        if self.counts is None:
            return Part(np.flatnonzero(self.fold == k), None, k)
        count = self.counts[:, k]
        rows = np.flatnonzero(count)
        return Part(rows, self._share[rows] * count[rows], k)

    def training(self, k: int) -> Part:
        """Rows outside fold k."""
        if self.counts is None:
            return Part(np.flatnonzero(self.fold != k))
        left = self.copies - self.counts[:, k]
        rows = np.flatnonzero(left)
        return Part(rows, np.where(left == self.copies, self.weight, self._share * left)[rows])

    def copies_in(self, part: Part, k: int) -> np.ndarray:
        """Copies that the rows of a part, :meth:`held_out` or :meth:`training` of fold k, stand for."""
        if self.counts is None:
            return self.copies[part.rows]
        inside = self.counts[part.rows, k]
        return inside if part.fold == k else self.copies[part.rows] - inside


def divide(
    weight: np.ndarray,
    copies: np.ndarray,
    n_folds: int,
    strata: np.ndarray | None,
    rng: np.random.Generator,
    alone: np.ndarray | None = None,
) -> Folds:
    """Divide rows among folds, copy by copy.

    Each copy goes to a fold at random, as if it were a row by itself: a row of m copies has a multivariate hypergeometric
    number of them in the folds. What is held out is then a sample of the rows that the weights stand for, drawn without
    regard to what is left in training, and its mean loss is that of new rows.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
    copies : ndarray of int, shape (n_rows,)
    n_folds : int
    strata : ndarray of int, shape (n_rows,), or None
        Class codes; each class is then spread evenly over the folds.
    rng : Generator
    alone : ndarray of bool, shape (n_rows,), optional
        Rows that no fold holds out.
    """
    if copies.max() == 1:
        fold = assign_folds(len(weight), n_folds, strata, rng)
        if alone is not None:
            fold[alone] = -1
        return Folds(weight, copies, fold=fold)
    n_rows = len(weight)
    if copies.sum(dtype=float) <= MOST_ONE_BY_ONE:
        row = np.repeat(np.arange(n_rows), copies)
        fold = assign_folds(len(row), n_folds, None if strata is None else strata[row], rng)
        counts = np.bincount(row * n_folds + fold, minlength=n_rows * n_folds).reshape(n_rows, n_folds)
    else:
        counts = rng.multinomial(copies, np.full(n_folds, 1 / n_folds))
    if alone is not None:
        counts[alone] = 0
    return Folds(weight, copies, counts=counts)


def assign_folds(n_rows: int, n_folds: int, strata: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Fold number of each row: sizes differ by at most one, and classes spread evenly.

    Parameters
    ----------
    n_rows : int
    n_folds : int
    strata : ndarray of int, shape (n_rows,), or None
        Class codes.
    rng : Generator

    Returns
    -------
    ndarray of int, shape (n_rows,)
    """
    order = rng.permutation(n_rows)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    folds = np.empty(n_rows, np.int64)
    folds[order] = np.arange(n_rows) % n_folds
    return folds


def count_copies(X: Any, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """How many rows each merged row stands for, as far as holding some of them out is concerned.

    Rows with equal X coincide by chance, and each of the rows that a weight stands for is one of its own, if the table says so
    in one of three ways: equal X come with different targets; or values of all columns recur so often that whole rows must
    coincide; or there are hardly any different X. Else weights above one are copies that tell nothing new, and each row counts
    once.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_rows, n_features)
        Different (X, y) rows, those with equal X side by side, as :func:`skuq._data.rows.canonical_rows` gives them.
    y : ndarray of shape (n_rows, n_targets)
    weight : ndarray of shape (n_rows,), > 0

    Returns
    -------
    ndarray of int, shape (n_rows,)
    """
    copies = np.clip(np.rint(weight / _unit(weight)), 1, MOST_COPIES).astype(np.int64)
    if copies.max() == 1:
        return copies
    first = np.flatnonzero(_new_settings(X))
    by_chance = (
        len(first) < FEW_SETTINGS
        or _disagreement(y, copies, first) >= LEAST_DISAGREEMENT
        or _coincidences(X[first]) >= LEAST_COINCIDENCES
    )
    return copies if by_chance else np.ones_like(copies)


def _unit(weight: np.ndarray) -> float:
    """Weight of one row: 1 where all weights are integers, else the largest number of which all are multiples.

    So counts, and counts over their sum, say the same. Other weights count as they are; the least is at least one row.
    """
    if np.all(weight == np.rint(weight)):
        return 1.0
    divisor, tolerance = weight.min(), ROUNDING * weight.max()
    while divisor > LEAST_DIVISOR * weight.max():
        rest = weight % divisor
        rest = np.minimum(rest, divisor - rest)
        rest = rest[rest > tolerance]
        if not len(rest):
            return float(divisor)
        divisor = rest.min()
    return float(min(1.0, weight.min()))


def _new_settings(X: Any) -> np.ndarray:
    """Whether each row's X differs from that of the row before."""
    if sparse.issparse(X):
        differs = np.asarray(abs(X[1:] - X[:-1]).sum(axis=1)).ravel() != 0
    else:
        differs = np.zeros(len(X) - 1, bool)
        for column in X.T:
            differs |= column[1:] != column[:-1]
    return np.append(True, differs)


def _disagreement(y: np.ndarray, copies: np.ndarray, first: np.ndarray) -> float:
    """How often two rows of equal X have different targets, over how often any two rows have."""
    _, target = np.unique(y, axis=0, return_inverse=True)
    any_two = _apart(np.bincount(target.ravel(), weights=copies)[None])
    n_same = np.add.reduceat(copies, first).astype(float)
    squares = np.add.reduceat(copies.astype(float) ** 2, first)
    several = n_same > 1
    if not any_two > 0 or not several.any():
        return 0.0
    n_same, squares = n_same[several], squares[several]
    apart = (1 - squares / n_same**2) * n_same / (n_same - 1)
    return float(np.average(apart, weights=n_same) / any_two)


def _apart(count: np.ndarray) -> float:
    """Probability that two of several rows differ, from how many there are of each kind."""
    total = count.sum()
    return float((1 - np.sum((count / total) ** 2)) * total / (total - 1)) if total > 1 else 0.0


def _coincidences(X: Any) -> float:
    """Other rows with which a row of X coincides by chance, were the columns independent; X holds different rows."""
    n_rows = X.shape[0]
    pairs = n_rows * (n_rows - 1)
    if sparse.issparse(X):
        columns = sparse.csc_array(X)
        n_stored = np.zeros(X.shape[1])
        agreeing = np.zeros(X.shape[1])
        for j, (start, stop) in enumerate(zip(columns.indptr[:-1], columns.indptr[1:], strict=True)):
            values = columns.data[start:stop]
            count = np.unique(values[values != 0], return_counts=True)[1].astype(float)
            n_stored[j] = count.sum()
            agreeing[j] = np.sum(count * (count - 1))
        agreeing += (n_rows - n_stored) * (n_rows - n_stored - 1)
    else:
        counts = (np.unique(column, return_counts=True)[1].astype(float) for column in X.T)
        agreeing = np.array([np.sum(count * (count - 1)) for count in counts])
    with np.errstate(divide="ignore"):
        return float((n_rows - 1) * np.exp(np.sum(np.log(agreeing / pairs))))
