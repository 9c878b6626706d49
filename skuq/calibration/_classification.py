"""Conformal sets of classes."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassifierMixin, is_regressor
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_is_fitted

from .._prediction.conformal import (
    aps_scores,
    class_conditional_sets,
    conformal_sets,
    grouped_sets,
    lac_scores,
    raps_scores,
)
from .._validation import COVERAGE_EXAMPLE, check_levels, says_coverage
from ._base import Conformal


class ConformalClassifier(ClassifierMixin, Conformal):
    """Sets of classes with finite-sample coverage around any classifier.

    Parameters
    ----------
    estimator : estimator, default=None
        A classifier with ``predict_proba``, a Pipeline or search, fitted or not. None:
        :class:`skuq.ProbabilisticClassifier`. A fitted estimator in a ``FrozenEstimator`` is taken as with
        ``cv="prefit"``.
    method : {"split", "cross"}, default="split"
        "split": train on a part of the rows, calibrate on the rest. "cross": CV+ (Romano et al. 2020, eq. 10): train on
        the rows outside each fold, calibrate on the fold; all rows do both, at the price of one fit a fold and one on
        all rows, which ``predict`` and ``predict_proba`` answer from.
    conformity_score : {"lac", "aps", "raps"}, default="aps"
        "lac": all classes above one probability; the smallest sets on average, empty where nothing is probable enough.
        "aps": the most probable classes up to one total probability; never empty, larger where rows are hard. "raps":
        "aps" with a penalty on large sets.
    cv : int, splitter, iterable or "prefit", default=None
        Number of folds, stratified (None: 5), or what divides the rows; "split" calibrates on the first held-out part
        only, so ``cv=5`` holds out a fifth. "prefit": the estimator is fitted, and all rows given to ``fit`` calibrate
        it.
    raps_penalty : float ≥ 0, default=0.1
        λ of "raps": what each rank beyond `raps_free_rank` adds to the score, as a probability.
    raps_free_rank : int ≥ 0, default=2
        k of "raps": size up to which a set is free.
    groups : "class", str, int, callable or None, default=None
        "class": coverage within each class, which is compared with its own calibration rows alone (Vovk 2012); a rare class
        is then covered as often as the others, by larger sets. Else coverage within groups of rows, each calibrated by its
        own rows (Mondrian, Vovk et al. 2005): a column of the X given to ``fit``, by its name in a DataFrame or by its number,
        or a function of X that gives one label for each row. None: coverage over all rows together.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds where `cv` is a number, and of the default estimator.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted; of a fitted estimator its own.
    estimator_ : estimator
        Answers ``predict`` and ``predict_proba``.
    estimators_ : list of estimator
        Those whose held-out rows calibrate: one for "split", one a fold for "cross".
    conformity_scores_ : ndarray of shape (n_held_out,)
        Of the held-out rows' own classes, fold by fold.
    n_calibration_ : int
        Held-out rows of positive weight, or rows that they stand for.
    groups_ : ndarray of shape (n_groups,)
        Only with `groups`: those seen in ``fit``, sorted.
    n_features_in_ : int
        Number of features seen in ``fit``, if the estimator counts them.

    Notes
    -----
    Sets are functions of the row alone: no score is randomised. The published APS draws a number for every row, so that
    coverage is exact even where the classifier alone is more accurate than the coverage asked for; here the score of a
    class is the probability of the classes before it, the published score without that number, and no set is empty. So
    "aps" and "raps" sets cover at least as often as ``predict`` is right, and have the nominal coverage beyond that.
    "lac" has the nominal coverage always, by leaving sets empty. Ties, as of a small tree's probabilities, can only add
    to the coverage.

    A coverage c needs at least c / (1 − c) calibration rows (9 for 90 %), with `groups` in each class or in the groups
    asked for; with fewer only the set of all classes would do, and ``predict_set`` raises a ValueError, as MAPIE does.

    References
    ----------
    Angelopoulos, Bates, Malik, Jordan (2021), "Uncertainty sets for image classifiers using conformal prediction",
    ICLR.

    Romano, Sesia, Candès (2020), "Classification with valid and adaptive coverage", NeurIPS.

    Vovk (2012), "Conditional validity of inductive conformal predictors", ACML.

    Sadinle, Lei, Wasserman (2019), "Least ambiguous set-valued classifiers with bounded error levels", JASA.

    Examples
    --------
    >>> from sklearn.datasets import make_classification
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.calibration import ConformalClassifier
    >>> X, y = make_classification(2000, n_informative=4, n_classes=4, random_state=0)
    >>> model = ConformalClassifier(LogisticRegression(), random_state=0).fit(X[:1000], y[:1000])
    >>> sets = model.predict_set(X[1000:], coverage=0.9)
    >>> sets.shape, float(sets[range(1000), y[1000:]].mean().round(2))
    ((1000, 4), 0.89)
    """

    _parameter_constraints: dict = {
        **Conformal._parameter_constraints,
        "conformity_score": [StrOptions({"lac", "aps", "raps"})],
        "raps_penalty": [Interval(Real, 0, None, closed="left")],
        "raps_free_rank": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator=None,
        *,
        method="split",
        conformity_score="aps",
        cv=None,
        raps_penalty=0.1,
        raps_free_rank=2,
        groups=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.method = method
        self.conformity_score = conformity_score
        self.cv = cv
        self.raps_penalty = raps_penalty
        self.raps_free_rank = raps_free_rank
        self.groups = groups
        self.random_state = random_state

    def _default_estimator(self):
        from ..probabilistic import ProbabilisticClassifier

        return ProbabilisticClassifier(random_state=self.random_state)

    def _check_target(self, y, prefit):
        """Class codes, and `classes_`: those of the fitted estimator, or all in y."""
        if is_regressor(self._inner()):
            raise TypeError(
                f"ConformalClassifier needs a classifier, got the regressor {type(self._inner()).__name__}. Use "
                f"ConformalRegressor."
            )
        y = _check_y(y)
        check_classification_targets(y)
        self.classes_ = np.unique(y) if prefit is None else np.sort(prefit.classes_)
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds labels that the fitted estimator does not know: {unknown[:5].tolist()}; it knows "
                f"{self.classes_[:10].tolist()}. Calibrate on its own classes."
            )
        return np.searchsorted(self.classes_, y)

    def _training_target(self, y):
        return self.classes_[y]

    def _row_scores(self, estimator, X, y):
        return self._class_scores(estimator, X)[np.arange(len(y)), y]

    def _group_rows(self, X, y):
        self._by_class = isinstance(self.groups, str) and self.groups == "class"
        if not self._by_class:
            return super()._group_rows(X, y)
        self._groups, self.groups_ = None, self.classes_
        return y

    def _strata(self, y, group):
        return y if group is None or self._by_class else y * (group.max() + 1) + group

    def _class_scores(self, estimator, X):
        """Score of every class, (n_rows, n_classes)."""
        probabilities = self._probabilities(estimator, X)
        if self.conformity_score == "lac":
            return lac_scores(probabilities)
        if self.conformity_score == "aps":
            return aps_scores(probabilities)
        return raps_scores(probabilities, self.raps_penalty, self.raps_free_rank)

    def _probabilities(self, estimator, X):
        """Columns in the order of `classes_`; 0 for classes that the estimator was not trained on."""
        if not hasattr(estimator, "predict_proba"):
            raise TypeError(
                f"ConformalClassifier needs class probabilities, and {type(estimator).__name__} has no predict_proba. "
                f"Wrap it in scikit-learn's CalibratedClassifierCV, or use another classifier."
            )
        found = np.asarray(estimator.predict_proba(X), dtype=float)
        if np.array_equal(estimator.classes_, self.classes_):
            return found
        probabilities = np.zeros((len(found), len(self.classes_)))
        probabilities[:, np.searchsorted(self.classes_, estimator.classes_)] = found
        return probabilities

    def predict_proba(self, X):
        """Class probabilities as the estimator itself gives them; calibration does not change them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``.
        """
        check_is_fitted(self)
        return self._probabilities(self.estimator_, X)

    @says_coverage
    def predict_set(self, X, coverage=0.9):
        """Calibrated set of classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        coverage : float or sequence of float, default=0.9
            Probability that the true class is in the set, strictly between 0 and 1.

        Returns
        -------
        ndarray of bool, shape (n_samples, n_classes)
            Whether each class is in the set; a sequence of coverages adds a last axis.

        Raises
        ------
        ValueError
            If the calibration rows are too few for `coverage`, those of one class or group with `groups`, or if a group was
            not seen in ``fit``.
        """
        check_is_fitted(self)
        levels = check_levels("coverage", coverage, COVERAGE_EXAMPLE)
        class_scores = [self._class_scores(estimator, X) for estimator in self.estimators_]
        asked = (class_scores, self._scores, np.atleast_1d(levels), self.conformity_score == "lac")
        if self._by_class:
            sets = class_conditional_sets(*asked, self.classes_.tolist())
        elif self._groups is not None:
            sets = grouped_sets(*asked, self._groups.codes(X), self.groups_.tolist())
        else:
            sets = conformal_sets(*asked)
        return sets if levels.ndim else sets[..., 0]
