"""The fit ladder of conformal prediction: who trains on which rows, who is calibrated on which."""

from contextlib import nullcontext
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

from .._data.folds import Part, divide
from .._prediction.conformal import Scores
from .._training.interruption import many_fits
from .._validation import check_weights
from ._copies import row_copies
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
            an average one. Counts of a table (equal rows of X come with different y, or there are few different ones)
            stand for as many rows: each is in several folds with a share of its weight, and calibrates as many times.

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
        copies = row_copies(X, y, weight)
        if prefit:
            splits = [(None, Part(np.arange(len(y))), copies)]
            self.estimator_, self.estimators_ = estimator, [estimator]
        else:
            splits = self._splits(X, y, np.ones(len(y)) if weight is None else weight, copies, group)
            whole = self.method == "cross"
            with many_fits() if whole else nullcontext():
                self.estimators_ = [self._train(estimator, X, y, weight, training) for training, _, _ in splits]
                self.estimator_ = self._train(estimator, X, y, weight) if whole else self.estimators_[0]
        self._calibrate(X, y, weight, group, splits)
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

    def _splits(self, X, y, weight, copies, group) -> list[tuple[Part, Part, np.ndarray]]:
        """Training rows, calibration rows, and how many these stand for, of each fold; of the first for method="split"."""
        cv = DEFAULT_FOLDS if self.cv is None else self.cv
        if isinstance(cv, int | np.integer):
            n_copies = copies.sum(dtype=float)
            if n_copies < cv:
                raise ValueError(
                    f"cv={cv} folds need at least {cv} rows, got n_samples={n_copies:.0f}. Fit on more rows or use fewer "
                    f"folds."
                )
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            folds = divide(weight, copies, int(cv), self._strata(y, group), np.random.default_rng(seed))
            used = range(1) if self.method == "split" else range(int(cv))
            pairs = [(folds.training(k), folds.held_out(k)) for k in used]
            return [(training, part, folds.copies_in(part, part.fold)) for training, part in pairs]
        everything = np.arange(len(y))
        splits = [tuple(Part(everything[rows]) for rows in pair) for pair in check_cv(cv).split(X, y)]
        splits = splits[:1] if self.method == "split" else splits
        held_out = np.concatenate([part.rows for _, part in splits])
        if len(np.unique(held_out)) < len(held_out):
            raise ValueError(
                "method='cross' needs each row in at most one held-out fold, and cv holds some rows out more than "
                "once. Use a partition such as KFold."
            )
        return [(training, part, copies[part.rows]) for training, part in splits]

    def _train(self, estimator, X, y, weight, part=None):
        y = self._training_target(y)
        if part is not None:
            X, y = _safe_indexing(X, part.rows), y[part.rows]
            weight = None if weight is None else part.weights(weight)
        return clone(estimator).fit(X, y, **fit_weights(estimator, weight))

    def _calibrate(self, X, y, weight, group, splits):
        """Score held-out rows, and keep what later answers need of them."""
        weight = np.ones(len(y)) if weight is None else weight
        held_out = [part for _, part, _ in splits]
        rows = np.concatenate([part.rows for part in held_out])
        parts = [(_safe_indexing(X, part.rows), y[part.rows]) for part in held_out]
        values = [self._row_scores(fitted, *part) for fitted, part in zip(self.estimators_, parts, strict=True)]
        self._scores = Scores.of(
            values,
            np.concatenate([part.weights(weight) for part in held_out]),
            np.concatenate([copies for _, _, copies in splits]),
            None if group is None else group[rows],
        )
        self._rows = parts if self._keeps_rows else None
        self.conformity_scores_ = self._scores.values
        self.n_calibration_ = self._scores.n_rows

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
