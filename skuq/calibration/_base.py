"""The fit ladder of conformal prediction: who trains on which rows, who is calibrated on which."""

from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, _fit_context, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, check_random_state, get_tags, indexable
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.metadata_routing import _routing_enabled
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from .._base import check_weights
from .._folds import assign_folds
from ..composites import unwrap
from ._quantiles import normalized_weight

DEFAULT_FOLDS = 5


@dataclass(frozen=True)
class Fold:
    """A fitted estimator and the rows it is calibrated on, which it has not seen.

    Attributes
    ----------
    estimator : fitted estimator
    X : rows, or None where no prediction needs them again
    y : ndarray of shape (n_rows, n_outputs), or class codes of shape (n_rows,)
    weight : ndarray of shape (n_rows,)
        Over all folds, the positive ones have mean 1.
    scores : ndarray of shape (n_rows, n_outputs) or (n_rows,)
        Conformity scores; larger is stranger.
    """

    estimator: object
    X: object
    y: np.ndarray
    weight: np.ndarray
    scores: np.ndarray


class Conformal(MetaEstimatorMixin, BaseEstimator):
    """Base of the two: splits, training, calibration. A task gives targets, scores and predictions."""

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "method": [StrOptions({"split", "cross"})],
        "cv": ["cv_object", StrOptions({"prefit"})],
        "random_state": ["random_state"],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self._inner())
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.input_tags.categorical = inner.input_tags.categorical
        tags.input_tags.string = inner.input_tags.string
        tags.target_tags.positive_only = inner.target_tags.positive_only
        return tags

    def _inner(self):
        return self._default_estimator() if self.estimator is None else self.estimator

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None):
        """Train and calibrate.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows, of any kind that `estimator` takes. With ``cv="prefit"`` these must be rows that the estimator was not
            trained on, and all of them calibrate.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights ≥ 0, for training and for calibration, where only their proportions matter and a new row counts as
            an average one.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        estimator = self._inner()
        prefit = self._is_prefit(estimator)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        X, y = indexable(X, y)
        y = self._check_target(y, estimator if prefit else None)
        weight = None if sample_weight is None else check_weights(sample_weight, y)
        if prefit:
            everything = np.arange(len(y))
            self.estimator_, calibrated = estimator, [(estimator, everything)]
        else:
            calibrated = [(self._train(estimator, X, y, weight, train), test) for train, test in self._splits(X, y)]
            whole = self.method == "cross"
            self.estimator_ = self._train(estimator, X, y, weight) if whole else calibrated[0][0]
        self.estimators_ = [fitted for fitted, _ in calibrated]
        self._calibrate(X, y, weight, calibrated)
        return self

    def calibrate_fitted(self, calibrated, X, y, weight, answers):
        """Calibrate a fitted estimator by scores of rows that it, or others like it, have not seen.

        Parameters
        ----------
        calibrated : list of (fitted estimator, ndarray of int)
            Estimators and the rows that each scores.
        X : rows
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        weight : ndarray of shape (n_samples,)
        answers : fitted estimator
            What intervals or sets are made from, in place of the estimators that scored (CV+).

        Returns
        -------
        self : object
        """
        y = self._check_target(y, answers)
        self.estimator_, self.estimators_ = answers, [answers]
        self._calibrate(X, y, weight, calibrated)
        targets, weights = (np.concatenate([getattr(fold, name) for fold in self._folds]) for name in ("y", "weight"))
        self._folds = [Fold(answers, None, targets, weights, self.conformity_scores_)]
        return self

    def _is_prefit(self, estimator) -> bool:
        prefit = isinstance(self.cv, str)
        if (prefit or isinstance(estimator, FrozenEstimator)) and self.method == "cross":
            given = "cv='prefit'" if prefit else "a FrozenEstimator"
            raise ValueError(
                f"method='cross' trains an estimator on each fold, which {given} forbids. Use method='split', which "
                f"calibrates the fitted estimator on the rows given to fit."
            )
        if prefit:
            check_is_fitted(estimator)
        return prefit or isinstance(estimator, FrozenEstimator)

    def _splits(self, X, y) -> list[tuple[np.ndarray, np.ndarray]]:
        """(training rows, calibration rows) of each fold; only the first for method="split"."""
        cv = DEFAULT_FOLDS if self.cv is None else self.cv
        if not isinstance(cv, int | np.integer):
            splits = list(check_cv(cv).split(X, y))
        elif len(y) < cv:
            raise ValueError(
                f"cv={cv} folds need at least {cv} rows, got n_samples={len(y)}. Fit on more rows or use fewer folds."
            )
        else:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            fold = assign_folds(len(y), int(cv), y if self._stratifies else None, np.random.default_rng(seed))
            splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(cv)]
        if self.method == "split":
            return splits[:1]
        held_out = np.concatenate([np.arange(len(y))[test] for _, test in splits])
        if len(np.unique(held_out)) < len(held_out):
            raise ValueError(
                "method='cross' needs each row in at most one held-out fold, and cv holds some rows out more than "
                "once. Use a partition such as KFold."
            )
        return splits

    def _train(self, estimator, X, y, weight, rows=None):
        y = self._training_target(y)
        if rows is not None:
            X, y = _safe_indexing(X, rows), y[rows]
            weight = None if weight is None else weight[rows]
        return clone(estimator).fit(X, y, **fit_weights(estimator, weight))

    def _calibrate(self, X, y, weight, calibrated):
        weight = np.ones(len(y)) if weight is None else weight
        used = normalized_weight(np.concatenate([weight[rows] for _, rows in calibrated]))
        self._folds, start = [], 0
        for estimator, rows in calibrated:
            held_out = _safe_indexing(X, rows)
            own = used[start : start + len(y[rows])]
            start += len(own)
            scores = self._scores(estimator, held_out, y[rows])
            self._folds.append(Fold(estimator, held_out if self._keeps_rows else None, y[rows], own, scores))
        self.conformity_scores_ = np.concatenate([fold.scores for fold in self._folds])
        self.n_calibration_ = int(np.count_nonzero(used))

    # Whether folds chosen here hold each class in proportion.
    _stratifies = False
    # A score that changes with the coverage is computed when the coverage is known, and needs its rows then.
    _keeps_rows = False

    def _training_target(self, y):
        return y

    def predict(self, X):
        """Predict as the estimator itself does: trained on the rows not held out (split), on all (cross), or as given.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        check_is_fitted(self)
        return self.estimator_.predict(X)

    @property
    def n_features_in_(self):
        """Number of features seen in ``fit``."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """Names of the features seen in ``fit``, where it saw names."""
        return self.estimator_.feature_names_in_


def reach_predictor(estimator, X):
    """:func:`skuq.composites.unwrap`, through FrozenEstimators too."""
    while True:
        estimator, X = unwrap(estimator, X)
        if not isinstance(estimator, FrozenEstimator):
            return estimator, X
        estimator = estimator.estimator


def fit_weights(estimator, weight) -> dict:
    """Keyword arguments that take `weight` to the predictor inside an estimator, Pipeline or search."""
    if weight is None:
        return {}
    if _routing_enabled():
        return {"sample_weight": weight}
    path = ""
    while isinstance(estimator, Pipeline | BaseSearchCV):
        if isinstance(estimator, Pipeline):
            name, estimator = estimator.steps[-1]
            path += f"{name}__"
        else:
            estimator = estimator.estimator
    if not isinstance(estimator, FrozenEstimator) and not has_fit_parameter(estimator, "sample_weight"):
        raise ValueError(
            f"{type(estimator).__name__}.fit takes no sample_weight. Fit without weights, or use an estimator that "
            f"takes them."
        )
    return {f"{path}sample_weight": weight}
