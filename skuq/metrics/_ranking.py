"""Does uncertainty rank rows well: risk against coverage, and telling foreign rows from familiar ones."""

from typing import NamedTuple

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from skuq.metrics._validation import (
    check_distribution,
    check_probabilities,
    check_target,
    check_weight,
    is_distribution,
)


class RiskCoverageCurve(NamedTuple):
    """Mean loss of the rows kept, against the fraction kept, one point for each distinct uncertainty."""

    coverage: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray


def risk_coverage_curve(loss, uncertainty, *, sample_weight=None):
    """Mean loss of the most certain rows as more and more of them are kept.

    El-Yaniv & Wiener (2010), "On the Foundations of Noise-free Selective Classification". Rows of equal uncertainty are
    kept or refused together, so their order does not matter.

    Parameters
    ----------
    loss : array-like of shape (n,)
        Loss of each row, such as 0 or 1 for a right or wrong label.
    uncertainty : array-like of shape (n,)
        Higher is refused first.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    RiskCoverageCurve
        Named tuple of arrays: `coverage`, increasing in (0, 1]; `risk`, in the loss's units; `threshold`, the
        uncertainty up to which rows are kept.

    Examples
    --------
    >>> from skuq.metrics import risk_coverage_curve
    >>> curve = risk_coverage_curve([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])
    >>> curve.risk.round(2).tolist()
    [0.0, 0.0, 0.33, 0.5]
    """
    loss, uncertainty = (
        check_array(column_or_1d(value), ensure_2d=False, dtype=np.float64, input_name=name)
        for value, name in ((loss, "loss"), (uncertainty, "uncertainty"))
    )
    check_consistent_length(loss, uncertainty)
    weight = check_weight(sample_weight, loss)
    kept = weight > 0
    threshold, group = np.unique(uncertainty[kept], return_inverse=True)
    mass = np.cumsum(np.bincount(group, weights=weight[kept]))
    risk = np.cumsum(np.bincount(group, weights=(weight * loss)[kept])) / mass
    return RiskCoverageCurve(mass / mass[-1], risk, threshold)


def aurc(y_true, y_pred, *, uncertainty=None, labels=None, sample_weight=None):
    """Area under the risk–coverage curve: mean risk over all fractions kept as the least certain rows are refused.

    Geifman & El-Yaniv (2017), "Selective Classification for Deep Neural Networks". It falls both with fewer errors and
    with errors that are better foretold; a constant uncertainty gives the plain mean loss.

    Parameters
    ----------
    y_true : array-like of shape (n,) or (n, t)
        Labels or targets.
    y_pred : array-like of shape (n, n_classes), predict_dist result, or tuple (mean, std)
        Probabilities (loss: 1 for a wrong label) or distributions (loss: absolute error of the mean).
    uncertainty : array-like of shape (n,) or (n, t), default=None
        What to rank by, such as ``predict_uncertainty(X).epistemic``. None: one minus the highest probability, or the
        standard deviation.
    labels : array-like of shape (n_classes,), default=None
        Classifiers: the classes in the order of the columns, ``estimator.classes_``.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        In [0, 1] for classifiers, y's units for regressors (mean over outputs). Lower is better.

    Examples
    --------
    >>> from skuq.metrics import aurc
    >>> round(aurc([0, 0, 1, 1], [0.1, 0.4, 0.45, 0.95]), 4)
    0.0625
    """
    if is_distribution(y_pred):
        y, weight = check_target(y_true, sample_weight)
        dist, _ = check_distribution(y_pred, y)
        loss = np.abs(y - np.reshape(dist.mean(), y.shape))
        default = np.reshape(dist.std(), y.shape)
    else:
        column, prob, weight, _ = check_probabilities(y_true, y_pred, labels, sample_weight)
        loss = (prob.argmax(axis=1) != column).astype(np.float64)[:, None]
        default = 1 - prob.max(axis=1)[:, None]
    if uncertainty is None:
        uncertainty = default
    else:
        uncertainty = np.asarray(uncertainty)
        if uncertainty.shape != loss.shape and not (loss.shape[1] == 1 and uncertainty.shape == loss.shape[:1]):
            raise ValueError(
                f"uncertainty must hold one value for each of {loss.shape[0]} rows and {loss.shape[1]} output(s), "
                f"got shape {uncertainty.shape}."
            )
        uncertainty = uncertainty.reshape(loss.shape)
    areas = []
    for j in range(loss.shape[1]):
        curve = risk_coverage_curve(loss[:, j], uncertainty[:, j], sample_weight=weight)
        areas.append(np.sum(np.diff(curve.coverage, prepend=0) * curve.risk))
    return float(np.mean(areas))


def ood_auroc(is_ood, uncertainty, *, sample_weight=None):
    """Area under the ROC curve of telling foreign (out-of-distribution) rows by their uncertainty.

    The chance that a foreign row is more uncertain than a familiar one (Hendrycks & Gimpel 2017, "A Baseline for
    Detecting Misclassified and Out-of-Distribution Examples"); ``sklearn.metrics.roc_auc_score``.

    Parameters
    ----------
    is_ood : array-like of bool of shape (n,)
        True for a foreign row.
    uncertainty : array-like of shape (n,)
        Higher means more foreign, such as ``1 - predict_proba(X).max(axis=1)``.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        In [0, 1]; 0.5 is chance. Higher is better.

    Examples
    --------
    >>> from skuq.metrics import ood_auroc
    >>> ood_auroc([0, 0, 1, 1], [0.1, 0.3, 0.2, 0.9])
    0.75
    """
    is_ood, uncertainty, weight = _check_ood(is_ood, uncertainty, sample_weight)
    return float(roc_auc_score(is_ood, uncertainty, sample_weight=weight))


def ood_aupr(is_ood, uncertainty, *, sample_weight=None):
    """Average precision of telling foreign rows by their uncertainty, foreign rows being the positive class.

    Often written AUPR-out; ``sklearn.metrics.average_precision_score``. It depends on the share of foreign rows, which
    is what a random score would reach.

    Parameters
    ----------
    is_ood : array-like of bool of shape (n,)
        True for a foreign row.
    uncertainty : array-like of shape (n,)
        Higher means more foreign.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        In [0, 1]. Higher is better.

    Examples
    --------
    >>> from skuq.metrics import ood_aupr
    >>> round(ood_aupr([0, 0, 1, 1], [0.1, 0.3, 0.2, 0.9]), 4)
    0.8333
    """
    is_ood, uncertainty, weight = _check_ood(is_ood, uncertainty, sample_weight)
    return float(average_precision_score(is_ood, uncertainty, sample_weight=weight))


def ood_fpr95(is_ood, uncertainty, *, sample_weight=None):
    """Share of familiar rows that are flagged when the threshold catches 95 % of the foreign ones.

    Hendrycks, Mazeika & Dietterich (2019), "Deep Anomaly Detection with Outlier Exposure", and OpenOOD: the positive
    class is foreign. Papers after ODIN take familiar as positive; for theirs pass ``~is_ood, -uncertainty``.

    Parameters
    ----------
    is_ood : array-like of bool of shape (n,)
        True for a foreign row.
    uncertainty : array-like of shape (n,)
        Higher means more foreign.
    sample_weight : array-like of shape (n,), default=None
        Weights of the rows.

    Returns
    -------
    float
        In [0, 1]. Lower is better.

    Examples
    --------
    >>> from skuq.metrics import ood_fpr95
    >>> ood_fpr95([0, 0, 1, 1], [0.1, 0.3, 0.2, 0.9])
    0.5
    """
    is_ood, uncertainty, weight = _check_ood(is_ood, uncertainty, sample_weight)
    fpr, tpr, _ = roc_curve(is_ood, uncertainty, sample_weight=weight, drop_intermediate=False)
    # Rounding of the cumulated weights must not turn 95 % into slightly less.
    return float(fpr[np.argmax(tpr >= 0.95 - 1e-12)])


def _check_ood(is_ood, uncertainty, sample_weight):
    is_ood = column_or_1d(is_ood)
    uncertainty = check_array(column_or_1d(uncertainty), ensure_2d=False, dtype=np.float64, input_name="uncertainty")
    check_consistent_length(is_ood, uncertainty)
    weight = check_weight(sample_weight, uncertainty)
    values = np.unique(is_ood[weight > 0])
    if not np.array_equal(values, [0, 1]):
        raise ValueError(
            f"is_ood must hold both 0 (familiar) and 1 (foreign) rows and nothing else, got the values "
            f"{values[:5].tolist()}. Stack the familiar and the foreign rows: np.r_[zeros, ones]."
        )
    return is_ood.astype(int), uncertainty, weight
