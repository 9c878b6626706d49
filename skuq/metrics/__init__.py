"""Proper scores and diagnostics for predictive distributions, probabilities, intervals and OOD scores.

Regression scores take ``y_true`` of shape (n,) or (n, t) and one of

* the result of ``predict_dist``, or a distribution of the same shape from another library: frozen ones of ``scipy.stats``,
  scipy's ``stats.Normal`` and its like, those of skpro, ``torch.distributions`` and TensorFlow Probability,
* a tuple ``(mean, std)`` of arrays, read as a normal distribution,
* where it says so, an array: intervals, quantiles or samples, laid out as ``predict_interval``,
  ``predict_quantiles`` and ``sample_y`` return them.

Classification scores take labels and the array of ``predict_proba``, or a classifier's ``predict_dist`` result. Every
mean is weighted by ``sample_weight``, and an integer weight is the same as repeating the row. Lower is better unless a
function says otherwise; the scorers for ``GridSearchCV``, where higher is better, are in :mod:`skuq.scorers`.

CRPS, energy and interval scores use scoringrules: ``pip install "skuq[metrics]"``.
"""

from skuq.metrics._classification import (
    BrierDecomposition,
    ReliabilityCurve,
    brier_decomposition,
    brier_score,
    ece,
    reliability_curve,
)
from skuq.metrics._crps import crps
from skuq.metrics._distributions import energy_score, nll, pinball_loss, pit
from skuq.metrics._intervals import coverage, interval_score, mean_width
from skuq.metrics._ranking import RiskCoverageCurve, aurc, ood_aupr, ood_auroc, ood_fpr95, risk_coverage_curve

__all__ = [
    "BrierDecomposition",
    "ReliabilityCurve",
    "RiskCoverageCurve",
    "aurc",
    "brier_decomposition",
    "brier_score",
    "coverage",
    "crps",
    "ece",
    "energy_score",
    "interval_score",
    "mean_width",
    "nll",
    "ood_aupr",
    "ood_auroc",
    "ood_fpr95",
    "pinball_loss",
    "pit",
    "reliability_curve",
    "risk_coverage_curve",
]
