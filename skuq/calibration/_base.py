"""The fit ladder of conformal prediction: who trains on which rows, who is calibrated on which."""

from numbers import Integral

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
from .._prediction.conformal import Scores
from .._folds import assign_folds
from ._groups import find_groups

DEFAULT_FOLDS = 5


class Conformal(MetaEstimatorMixin, BaseEstimator):
    """Base of the two: splits, training, calibration. A task gives targets, scores and predictions."""

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict"]), None],
        "method": [StrOptions({"split", "cross"})],
        "cv": ["cv_object", StrOptions({"prefit"})],
        "groups": [str, Integral, callable, None],
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
        group = self._group_rows(X, y)
        if prefit:
            everything = np.arange(len(y))
            self.estimator_, calibrated = estimator, [(estimator, everything)]
        else:
            calibrated = [
                (self._train(estimator, X, y, weight, train), test) for train, test in self._splits(X, y, group)
            ]
            whole = self.method == "cross"
            self.estimator_ = self._train(estimator, X, y, weight) if whole else calibrated[0][0]
        self.estimators_ = [fitted for fitted, _ in calibrated]
        self._calibrate(X, y, weight, group, calibrated)
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

    def _splits(self, X, y, group) -> list[tuple[np.ndarray, np.ndarray]]:
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
            fold = assign_folds(len(y), int(cv), self._strata(y, group), np.random.default_rng(seed))

    def _calibrate(self, X, y, weight, group, calibrated):
        """Score held-out rows, and keep what later answers need of them."""
        weight = np.ones(len(y)) if weight is None else weight
        held_out = np.concatenate([np.arange(len(y))[rows] for _, rows in calibrated])
        parts = [(estimator, _safe_indexing(X, rows), y[rows]) for estimator, rows in calibrated]
        values = [self._row_scores(*part) for part in parts]
        self._scores = Scores.of(values, weight[held_out], None if group is None else group[held_out])
        self._rows = [(rows, targets) for _, rows, targets in parts] if self._keeps_rows else None
        self.conformity_scores_ = self._scores.values
        self.n_calibration_ = int(np.count_nonzero(self._scores.weight))

    def _group_rows(self, X, y):
        """Number of each row's group, or None where coverage is that of all rows together."""
        self._groups = None
        self.__dict__.pop("groups_", None)  # of an earlier fit
        if self.groups is None:
            return None
        self._groups, codes = find_groups(self.groups, X)
        self.groups_ = self._groups.labels
        return codes

    def _strata(self, y, group):
        """What folds chosen here hold in proportion: groups, and of a classifier classes; None for nothing."""
        return group

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
