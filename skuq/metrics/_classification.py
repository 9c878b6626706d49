"""Scores and calibration of class probabilities."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import brier_score_loss

from skuq.metrics._validation import check_probabilities


class BrierDecomposition(NamedTuple):
    """Parts of the Brier score: ``reliability - resolution + uncertainty + within_bin`` is the score."""

    reliability: float
    resolution: float
    uncertainty: float
    within_bin: float


class ReliabilityCurve(NamedTuple):
    """Points of a reliability diagram, one for each bin that holds rows, each field of shape (n_bins_used,)."""

    confidence: np.ndarray
    frequency: np.ndarray
    mass: np.ndarray


def brier_score(y_true, y_prob, *, labels=None, sample_weight=None):
    """Brier score: mean squared distance of the probabilities from the outcome.

    Brier (1950), computed by scikit-learn's ``brier_score_loss``: strictly proper. As there, the sum over classes is
    halved for two classes, which leaves the squared error of one probability.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_prob : array-like of shape (n, n_classes)
        Probabilities; of shape (n,), that of the second of two classes.
    labels : array-like of shape (n_classes,), default=None
        Classes in the order of the columns, ``estimator.classes_``. None: the sorted labels of `y_true`.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        In [0, 1] for two classes, [0, 2] for more. Lower is better.

    Examples
    --------
    >>> from skuq.metrics import brier_score
    >>> round(brier_score([0, 1], [0.1, 0.7]), 6)
    0.05
    """
    column, prob, weight, labels = check_probabilities(y_true, y_prob, labels, sample_weight)
    return float(brier_score_loss(column, prob, sample_weight=weight, labels=np.arange(len(labels))))


def brier_decomposition(y_true, y_prob, *, n_bins=10, labels=None, sample_weight=None):
    """Reliability, resolution and uncertainty: what the Brier score is made of.

    Murphy (1973), "A New Vector Partition of the Probability Score", class by class and summed (halved for two classes,
    as :func:`brier_score` is). Binning loses what varies within a bin; that part is reported, so that the sum is exact
    (Stephenson, Coelho & Jolliffe 2008, "Two Extra Components in the Brier Score Decomposition").

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_prob : array-like of shape (n, n_classes)
        Probabilities; of shape (n,), that of the second of two classes.
    n_bins : int or None, default=10
        Equal-width bins over [0, 1]. None groups equal probabilities, Murphy's own partition, with `within_bin` 0.
    labels : array-like of shape (n_classes,), default=None
        Classes in the order of the columns, ``estimator.classes_``. None: the sorted labels of `y_true`.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    BrierDecomposition
        Named tuple of floats: `reliability` (≥ 0, lower is better), `resolution` (≥ 0, higher is better), `uncertainty`
        (≥ 0, the score of the base rates), `within_bin`.

    Examples
    --------
    >>> from skuq.metrics import brier_decomposition
    >>> parts = brier_decomposition([0, 1, 0, 1], [0.2, 0.2, 0.8, 0.8])
    >>> [round(part, 4) for part in parts]
    [0.09, 0.0, 0.25, 0.0]
    """
    column, prob, weight, labels = check_probabilities(y_true, y_prob, labels, sample_weight)
    scale = 0.5 if len(labels) == 2 else 1.0
    parts = np.zeros(4)
    for k in range(len(labels)):
        p, hit = prob[:, k].astype(np.float64), (column == k).astype(np.float64)
        bins = np.unique(p, return_inverse=True)[1] if n_bins is None else _assign(p, weight, n_bins, "uniform")
        mean_p, frequency, mass = _bin_means(bins, p, hit, weight, keep_empty=True)
        base = np.average(hit, weights=weight)
        spread, error = p - mean_p[bins], hit - frequency[bins]
        parts += scale * np.array(
            [
                np.sum(mass * (mean_p - frequency) ** 2),
                np.sum(mass * (frequency - base) ** 2),
                base * (1 - base),
                np.average(spread**2 - 2 * spread * error, weights=weight),
            ]
        )
    return BrierDecomposition(*parts.tolist())


def ece(y_true, y_prob, *, n_bins=15, strategy="uniform", classwise=False, labels=None, sample_weight=None):
    """Mean distance of confidence from accuracy over bins of confidence: the expected calibration error.

    Top label: Naeini et al. (2015), Guo et al. (2017), "On Calibration of Modern Neural Networks". Class-wise: the mean
    over classes of the error of each probability (Kull et al. 2019, "Beyond temperature scaling"). Bins are (a, b].
    Not a proper score: constant base rates are perfectly calibrated; and a small sample biases it upwards.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_prob : array-like of shape (n, n_classes)
        Probabilities; of shape (n,), that of the second of two classes.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        "uniform": bins of equal width over [0, 1]. "quantile": adaptive bins of equal weight; equal confidences
        share a bin.
    classwise : bool, default=False
        Whether every class's probability is checked, rather than that of the predicted label.
    labels : array-like of shape (n_classes,), default=None
        Classes in the order of the columns, ``estimator.classes_``. None: the sorted labels of `y_true`.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        In [0, 1]. Lower is better.

    Examples
    --------
    >>> from skuq.metrics import ece
    >>> round(ece([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.9]), 6)
    0.15
    """
    column, prob, weight, labels = check_probabilities(y_true, y_prob, labels, sample_weight)
    if classwise:
        events = [(prob[:, k], column == k) for k in range(len(labels))]
    else:
        events = [(prob.max(axis=1), prob.argmax(axis=1) == column)]
    errors = []
    for p, hit in events:
        confidence, frequency, mass = _bin_means(_assign(p, weight, n_bins, strategy), p, hit, weight)
        errors.append(np.sum(mass * np.abs(confidence - frequency)))
    return float(np.mean(errors))


def reliability_curve(
    y_true, y_prob, *, n_bins=15, strategy="uniform", pos_label=None, labels=None, sample_weight=None
):
    """Observed frequency against stated confidence, bin by bin: the diagonal is calibrated.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_prob : array-like of shape (n, n_classes)
        Probabilities; of shape (n,), that of the second of two classes.
    n_bins : int, default=15
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        As for :func:`ece`.
    pos_label : label, default=None
        None: confidence and accuracy of the predicted label. A class: its probability and its frequency, as
        scikit-learn's ``calibration_curve`` draws it.
    labels : array-like of shape (n_classes,), default=None
        Classes in the order of the columns, ``estimator.classes_``. None: the sorted labels of `y_true`.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    ReliabilityCurve
        Named tuple of arrays over the bins that hold rows: mean `confidence`, observed `frequency` and `mass`, the
        fraction of the weight; ``sum(mass * abs(confidence - frequency))`` is the :func:`ece`.

    Examples
    --------
    >>> from skuq.metrics import reliability_curve
    >>> curve = reliability_curve([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.9], n_bins=5, pos_label=1)
    >>> curve.mass.tolist()
    [0.25, 0.75]
    """
    column, prob, weight, labels = check_probabilities(y_true, y_prob, labels, sample_weight)
    if pos_label is None:
        p, hit = prob.max(axis=1), prob.argmax(axis=1) == column
    else:
        k = np.flatnonzero(labels == pos_label)
        if len(k) == 0:
            raise ValueError(f"pos_label must be one of the classes {labels[:10].tolist()}, got {pos_label!r}.")
        p, hit = prob[:, k[0]], column == k[0]
    return ReliabilityCurve(*_bin_means(_assign(p, weight, n_bins, strategy), p, hit, weight))


def _assign(p, weight, n_bins, strategy):
    """Bin number of each probability, in [0, n_bins)."""
    if int(n_bins) != n_bins or n_bins < 1:
        raise ValueError(f"n_bins must be a positive integer, got {n_bins!r}.")
    levels = np.linspace(0, 1, int(n_bins) + 1)[1:-1]
    if strategy == "uniform":
        edges = levels
    elif strategy == "quantile":
        # Weights are passed even when all are one: numpy then takes one and the same path for a repeated row.
        edges = np.unique(np.quantile(p, levels, weights=weight, method="inverted_cdf"))
    else:
        raise ValueError(f"strategy must be 'uniform' or 'quantile', got {strategy!r}.")
    return np.searchsorted(edges, p, side="left")


def _bin_means(bins, p, hit, weight, keep_empty=False):
    """Mean probability, observed frequency and share of the weight of each bin."""
    total = np.bincount(bins, weights=weight)
    safe = np.where(total > 0, total, 1)
    mean_p = np.bincount(bins, weights=weight * p) / safe
    frequency = np.bincount(bins, weights=weight * hit) / safe
    keep = slice(None) if keep_empty else total > 0
    return mean_p[keep], frequency[keep], (total / weight.sum())[keep]
