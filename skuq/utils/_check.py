"""Entry point: choose the task, run its checks in order."""

from collections.abc import Sequence
from typing import Any

from sklearn.base import is_classifier

from ._classification import Classification
from ._properties import check_distance
from ._regression import Regression
from ._subject import Subject, takes_positive_only


def check_uq_estimator(estimator: Any, *, methods: Sequence[str] | None = None, distance_aware: bool = False) -> None:
    """Check that an estimator has the properties that any uncertainty estimator must have.

    Fits clones on small data made here (120 rows, 2 features; about four fits) with fixed seeds, and checks

    * shapes and finite values, one and several outputs (where the tag ``multi_output`` is set);
    * that intervals nest, that quantiles rise and are the intervals' ends;
    * that uncertainties are ≥ 0 and additive, and that a classifier's total is the entropy of its probabilities;
    * that ``predict_dist``, ``predict_set``, ``sample_y`` and ``predict`` agree with each other;
    * that answers depend on the row alone: not on the order or number of rows, nor on when they are asked;
    * that one seed gives one model;
    * that a regressor's answers follow the units of y (not for targets tagged ``positive_only``);
    * that a coverage outside (0, 1) raises a ValueError;
    * with `distance_aware`, that the epistemic uncertainty is larger far from the training rows than among them.

    Parameters
    ----------
    estimator : estimator
        Classifier, regressor, or Pipeline that ends in one; fitted or not, it stays as it is.
    methods : sequence of str, default=None
        Methods beside ``predict`` that the estimator has; None: all of ``predict_interval, predict_quantiles,
        predict_uncertainty, predict_dist, sample_y``, and for classifiers ``predict_proba, predict_set``.
    distance_aware : bool, default=False
        Whether the method promises to know less far from its training rows, as ensembles, Bayesian networks and
        Gaussian processes do.

    Raises
    ------
    AssertionError
        At the first property that does not hold; says which, and where.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> from skuq.calibration import ConformalRegressor
    >>> from skuq.utils import check_uq_estimator
    >>> check_uq_estimator(ConformalRegressor(LinearRegression()), methods=["predict_interval"])
    """
    task: Classification | Regression
    task = Classification() if is_classifier(estimator) else Regression(takes_positive_only(estimator))
    methods = task.methods if methods is None else tuple(methods)
    unknown = sorted(set(methods) - set(task.methods))
    if unknown:
        raise ValueError(f"methods must be among {list(task.methods)}, got {unknown}.")
    subject = Subject(estimator, methods, *task.problem())
    for check in task.checks:
        check(subject)
    if distance_aware:
        check_distance(subject)
