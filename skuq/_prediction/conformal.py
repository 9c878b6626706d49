"""Conformal prediction: conformity scores of calibration rows, and the intervals and sets that follow from them.

With n scores of equal weight the threshold for coverage c is the ⌈c (n + 1)⌉-th smallest: the new row's own score is as
likely to be the smallest as the largest of n + 1 (Vovk et al. 2005). With weights a new row counts as an average row.
Within groups (Mondrian conformal prediction, Vovk et al. 2005, sec. 4.5) the same rule is applied to each group alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

# Rounding of c (n + 1), as in 0.55 · 100 = 55.00000000000001, must not cost a rank.
_ROUNDING = 1e-9
# Entries of an array (test rows × calibration rows × outputs) of CV+.
_MAX_ENTRIES = 2**22


@dataclass(frozen=True)
class Scores:
    """Conformity scores of calibration rows; larger is stranger.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_outputs), or (n_rows,) for classes
    weight : ndarray of shape (n_rows,)
        Their sum is the number of rows that they stand for: equal weights are ones.
    copies : ndarray of int, shape (n_rows,)
        How many rows each stands for.
    fold : ndarray of int, shape (n_rows,)
        Which estimator scored the row.
    group : ndarray of int, shape (n_rows,), or None
        Group whose rows a new row of that group is compared with; None compares with all.
    among : str
        Says in errors which calibration rows these are: " of the group 'a'", or "" for all.
    """

    values: np.ndarray
    weight: np.ndarray
    copies: np.ndarray
    fold: np.ndarray
    group: np.ndarray | None = None
    among: str = ""

    @classmethod
    def of(cls, values: Sequence[np.ndarray], weight, copies, group=None) -> "Scores":
        """Scores from those of each fold; all else for the rows of all folds, in that order, the weights in any unit."""
        fold = np.repeat(np.arange(len(values)), [len(part) for part in values])
        return cls(np.concatenate(values), normalized_weight(weight, copies), copies, fold, group)

    def of_group(self, group: int, label) -> "Scores":
        """Scores of one group, whose weights speak of that group alone."""
        rows = self.group == group if self.group is not None else np.zeros(len(self.weight), bool)
        weight, copies = self.weight[rows], self.copies[rows]
        weight = normalized_weight(weight, copies) if np.any(weight > 0) else weight
        return Scores(self.values[rows], weight, copies, self.fold[rows], None, f" of the group {label!r}")

    @property
    def n_rows(self) -> int:
        """Rows that the weights stand for."""
        return count_rows(self.weight)

    def pooled(self) -> "Scores":
        """The same scores as if one estimator had given them all."""
        return replace(self, fold=np.zeros_like(self.fold))

    def needed(self, coverage: float) -> float:
        """Weight of scores that must not exceed the threshold for `coverage`."""
        return needed_mass(self.weight, coverage, self.among)


def normalized_weight(weight: np.ndarray, copies: np.ndarray) -> np.ndarray:
    """Weights whose sum is the number of rows that the positive ones stand for: equal weights of single rows become ones."""
    positive = weight > 0
    if not np.any(positive):
        raise ValueError("All calibration rows have a weight of zero. Check sample_weight, or choose another cv.")
    if copies.max() == 1 and np.all(weight == weight[0]):
        return np.ones_like(weight)
    n_rows, total = copies[positive].sum(dtype=float), weight.sum()
    return weight if n_rows == total else weight * (n_rows / total)


def count_rows(weight: np.ndarray) -> int:
    """Rows that normalised weights stand for."""
    return round(weight.sum())


def needed_mass(weight: np.ndarray, coverage: float, among: str = "") -> float:
    """Weight of scores that must not exceed the threshold: c (Σw + 1), for weights that sum to the number of rows.

    Raises
    ------
    ValueError
        If the rows are too few, so that no finite threshold has this coverage.
    """
    n_rows = count_rows(weight)
    needed = coverage * (n_rows + 1) - _ROUNDING
    if needed > n_rows:
        enough = int(np.ceil(coverage / (1 - coverage) - _ROUNDING))
        most = f", or ask for at most {n_rows / (n_rows + 1):.4g}" if n_rows else ""
        merge = " Or merge groups." if among else ""
        raise ValueError(
            f"coverage={coverage:g} needs at least {enough} calibration rows{among}, got {n_rows}. Fit on more rows, hold out "
            f"more of them (a smaller cv, or method='cross'){most}.{merge}"
        )
    return needed


def threshold(scores: np.ndarray, weight: np.ndarray, coverage: float, among: str = "") -> np.ndarray:
    """Smallest score below or at which enough of the calibration rows lie.

    Parameters
    ----------
    scores : ndarray of shape (..., n_rows)
    weight : ndarray of shape (n_rows,)
        As :func:`normalized_weight` returns them.
    coverage : float, 0 < coverage < 1
    among : str
        As in :class:`Scores`.

    Returns
    -------
    ndarray of shape (...)
    """
    needed = needed_mass(weight, coverage, among)
    if np.all(weight == 1):
        rank = int(np.ceil(needed))
        return np.partition(scores, rank - 1, axis=-1)[..., rank - 1]
    order = np.argsort(scores, axis=-1, kind="stable")
    rank = np.sum(np.cumsum(weight[order], axis=-1) < needed, axis=-1, keepdims=True)
    rank = np.minimum(rank, scores.shape[-1] - 1)
    return np.take_along_axis(np.take_along_axis(scores, order, axis=-1), rank, axis=-1)[..., 0]


# Intervals


class Band(NamedTuple):
    """What an estimator says about rows before calibration; the score of y is max(lower − y, y − upper) / scale.

    Attributes
    ----------
    lower, upper : ndarray of shape (n_rows, n_outputs)
        In y's units; the same where there is only a point.
    scale : ndarray of shape (n_rows, n_outputs)
        Units of the score, in y's units.
    """

    lower: np.ndarray
    upper: np.ndarray
    scale: np.ndarray

    @classmethod
    def around(cls, mean, scale) -> "Band":
        """A point and its spread, each of shape (n_rows,) or (n_rows, n_outputs)."""
        mean = columns(mean)
        return cls(mean, mean, np.broadcast_to(columns(scale), mean.shape))

    def scores(self, y: np.ndarray) -> np.ndarray:
        """How far outside the band each target is; negative inside."""
        excess = np.maximum(self.lower - y, y - self.upper)
        with np.errstate(divide="ignore", invalid="ignore"):
            # A spread of zero makes any error infinitely strange, and no error ordinary.
            return np.where(excess == 0, 0.0, excess / self.scale)

    def take(self, rows) -> "Band":
        """Band of some of the rows."""
        return Band(*(part[rows] for part in self))


def columns(values) -> np.ndarray:
    """Values of one or several outputs as float array of shape (n_rows, n_outputs)."""
    values = np.asarray(values, dtype=float)
    return values.reshape(len(values), -1)


def conformal_interval(bands: Sequence[Band], scores: Scores, coverage: float) -> np.ndarray:
    """Lower and upper ends for new rows, (n_rows, n_outputs, 2).

    Parameters
    ----------
    bands : sequence of Band
        Of the new rows, by the estimator of each fold: one (split) or several (CV+).
    scores : Scores
    coverage : float, 0 < coverage < 1
    """
    if len(bands) == 1:
        reach = threshold(scores.values.T, scores.weight, coverage, scores.among)
        band = bands[0]
        lower, upper = (_widened(end, reach, band.scale, s) for end, s in ((band.lower, -1), (band.upper, 1)))
    else:
        lower, upper = _cv_plus(bands, scores, coverage)
    # The estimators' own point is never left out: intervals nest, and none is turned inside out by its correction.
    point = np.mean([0.5 * (band.lower + band.upper) for band in bands], axis=0)
    return np.stack([np.minimum(lower, point), np.maximum(upper, point)], axis=-1)


def grouped_interval(bands: Sequence[Band], scores: Scores, coverage: float, group: np.ndarray, labels) -> np.ndarray:
    """:func:`conformal_interval` of each new row among the scores of its own group.

    Parameters
    ----------
    bands, scores, coverage
        As :func:`conformal_interval` has them; the scores with groups.
    group : ndarray of int, shape (n_rows,)
        Of the new rows.
    labels : sequence
        Names of the groups, for errors.
    """
    interval = np.empty((*bands[0].lower.shape, 2))
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        own = scores.of_group(g, labels[g])
        interval[rows] = conformal_interval([band.take(rows) for band in bands], own, coverage)
    return interval


def _widened(end, score, scale, sign):
    """End of a band, moved outwards by `score` times `scale`."""
    with np.errstate(invalid="ignore"):
        return end + sign * np.where(np.isinf(score), score, score * scale)


def _cv_plus(bands, scores, coverage):
    """Lower and upper ends of the CV+ interval (Barber et al. 2021, eq. 13), each (n_rows, n_outputs).

    Each calibration row widens the band that its own fold's estimator gives for the new row by its own score; the upper
    end is the conformal quantile of the upper ends, the lower one its mirror image.
    """
    n_rows, n_outputs = bands[0].lower.shape
    folds = [np.flatnonzero(scores.fold == k) for k in range(len(bands))]
    weight = scores.weight[np.concatenate(folds)]
    step = max(1, _MAX_ENTRIES // max(1, len(weight) * n_outputs))
    pieces = [[np.empty((0, n_outputs))] * 2]
    for start in range(0, n_rows, step):
        here = [band.take(slice(start, start + step)) for band in bands]
        ends = []
        for sign, side in ((-1, 0), (1, 1)):
            # (n_rows, n_outputs, n_calibration), so that quantiles run along contiguous memory.
            each = [
                _widened(band[side][..., None], scores.values[rows].T[None], band.scale[..., None], sign)
                for band, rows in zip(here, folds, strict=True)
            ]
            ends.append(sign * threshold(sign * np.concatenate(each, axis=-1), weight, coverage, scores.among))
        pieces.append(ends)
    return (np.concatenate(side) for side in zip(*pieces, strict=True))


# Sets of classes


def lac_scores(probabilities: np.ndarray) -> np.ndarray:
    """1 − p of every class (Sadinle, Lei & Wasserman 2019): the smallest sets on average."""
    return 1 - probabilities


def aps_scores(probabilities: np.ndarray) -> np.ndarray:
    """Probability of the classes that are more probable (Romano, Sesia & Candès 2020, eq. 8, without randomisation)."""
    rank = class_ranks(probabilities)
    descending = -np.sort(-probabilities, axis=1)
    before = np.cumsum(descending, axis=1) - descending
    return np.take_along_axis(before, rank, axis=1)


def raps_scores(probabilities: np.ndarray, penalty: float, free_rank: int) -> np.ndarray:
    """APS, plus `penalty` for every rank beyond `free_rank` (Angelopoulos et al. 2021, eq. 4)."""
    beyond = np.maximum(class_ranks(probabilities) + 1 - free_rank, 0)
    return aps_scores(probabilities) + penalty * beyond


def class_ranks(probabilities: np.ndarray) -> np.ndarray:
    """Rank of every class in its row, 0 for the most probable; of equal ones the first column comes first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(probabilities.shape[1])[None], axis=1)
    return ranks


def conformal_sets(
    class_scores: Sequence[np.ndarray], scores: Scores, coverages: np.ndarray, may_be_empty: bool
) -> np.ndarray:
    """Sets of the classes that are not stranger than calibration rows of their own class, or of any.

    Parameters
    ----------
    class_scores : sequence of ndarray of shape (n_rows, n_classes)
        Scores that every class of the new rows would have, by the estimator of each fold.
    scores : Scores
    coverages : ndarray of shape (n_levels,)
    may_be_empty : bool
        Whether a set may hold no class; else it holds the least strange ones.

    Returns
    -------
    ndarray of bool, shape (n_rows, n_classes, n_levels)
    """
    needed = np.array([scores.needed(coverage) for coverage in coverages])
    # A class is left out if enough calibration rows are less strange than it would be.
    below = _mass_below(class_scores, scores)
    return _filled(below[..., None] < needed, below, may_be_empty)


def class_conditional_sets(
    class_scores: Sequence[np.ndarray], scores: Scores, coverages: np.ndarray, may_be_empty: bool, labels
) -> np.ndarray:
    """:func:`conformal_sets` with each class compared to calibration rows of that class alone.

    The groups of `scores` are the classes, and `labels` their names.
    """
    sets, shares = [], []
    for k, label in enumerate(labels):
        own = scores.of_group(k, label)
        needed = np.array([own.needed(coverage) for coverage in coverages])
        below = _mass_below([each[:, k] for each in class_scores], own)
        sets.append(below[:, None] < needed)
        shares.append(below / (own.weight.sum() + 1))
    return _filled(np.stack(sets, axis=1), np.stack(shares, axis=1), may_be_empty)


def grouped_sets(
    class_scores: Sequence[np.ndarray], scores: Scores, coverages, may_be_empty: bool, group: np.ndarray, labels
) -> np.ndarray:
    """:func:`conformal_sets` of each new row among the scores of its own group, as :func:`grouped_interval` has it."""
    sets = np.empty((*class_scores[0].shape, len(coverages)), bool)
    for g in np.unique(group):
        rows = np.flatnonzero(group == g)
        own = scores.of_group(g, labels[g])
        sets[rows] = conformal_sets([each[rows] for each in class_scores], own, coverages, may_be_empty)
    return sets


def _filled(sets, strangeness, may_be_empty):
    """Sets, none of them empty: estimators of several folds, or classes judged apart, may agree on no class."""
    if may_be_empty:
        return sets
    return sets | (strangeness == strangeness.min(axis=1, keepdims=True))[..., None]


def _mass_below(class_scores, scores):
    """Weight of the calibration scores strictly below each value of its own fold's estimator."""
    total = np.zeros(class_scores[0].shape)
    for k, values in enumerate(class_scores):
        rows = np.flatnonzero(scores.fold == k)
        order = rows[np.argsort(scores.values[rows])]
        cumulative = np.concatenate([np.zeros(1), np.cumsum(scores.weight[order])])
        total += cumulative[np.searchsorted(scores.values[order], values, side="left")]
    return total
