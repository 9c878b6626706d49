"""Uncertainty as columns, for the steps of a Pipeline that come after."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    _check_feature_names,
    _check_feature_names_in,
    check_is_fitted,
    indexable,
    validate_data,
)

from . import composites
from ._training.interruption import many_fits
from ._validation import check_levels

PARTS = ("total", "aleatoric", "epistemic")
OF_REGRESSORS = ("mean", "std", "quantiles", *PARTS, "draws")
OF_CLASSIFIERS = ("proba", "quantiles", *PARTS)


class UncertaintyTransformer(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Predictions of an estimator and their uncertainty as columns.

    Parameters
    ----------
    estimator : estimator
        One of skuq's, or a Pipeline, search or other composite around one. It is cloned, then fitted; one that is fitted already
        stays as it is inside ``sklearn.frozen.FrozenEstimator``.
    outputs : "auto" or sequence of str, default="auto"
        Columns, in this order. Of a regressor: "mean", "std" (y's units), "quantiles" (y's units), "total", "aleatoric" and
        "epistemic" (variances, squared units), "draws" (samples of y). Of a classifier: "proba" (one column a class),
        "quantiles" (of each class's probability over the draws), "total" (the predictive entropy), "aleatoric" and "epistemic"
        (nats). "auto": ("mean", "std"), or ("proba", "total").
    quantiles : sequence of float, default=(0.05, 0.5, 0.95)
        Levels of "quantiles", strictly between 0 and 1.
    n_draws : int, default=10
        Columns of "draws". A sample's noise is drawn row after row, so it depends on the rows before.
    random_state : int, RandomState instance or None, default=0
        Seed of "draws".
    cv : int, cross-validation generator or None, default=None
        How ``fit_transform`` predicts the rows that it is fitted on. None: by the model that was trained on them, which is surer
        of them than of others. Else each fold by a clone that was trained on the others, as scikit-learn's
        ``StackingRegressor`` does, so that a step that learns from these columns sees in training what it meets afterwards.

    Attributes
    ----------
    estimator_ : estimator
        Fitted on all rows.
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the features, where X has them.

    See Also
    --------
    skuq.predict_uncertainty : The same numbers as arrays.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> columns = skuq.UncertaintyTransformer(
    ...     skuq.ProbabilisticRegressor(max_iter=10, random_state=0), outputs=["mean", "std", "quantiles"]
    ... ).fit(X, y)
    >>> columns.get_feature_names_out().tolist()
    ['mean', 'std', 'quantile0.05', 'quantile0.5', 'quantile0.95']
    >>> columns.transform(X).shape
    (442, 5)
    """

    _parameter_constraints: ClassVar[dict] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "outputs": [StrOptions({"auto"}), "array-like"],
        "quantiles": ["array-like"],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "cv": ["cv_object"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        outputs: str | Sequence[str] = "auto",
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        n_draws: int = 10,
        random_state: Any = 0,
        cv: Any = None,
    ) -> None:
        self.estimator = estimator
        self.outputs = outputs
        self.quantiles = quantiles
        self.n_draws = n_draws
        self.random_state = random_state
        self.cv = cv

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        try:
            inner = get_tags(self.estimator)
        except AttributeError:  # what is no estimator is refused by fit
            return tags
        tags.input_tags = inner.input_tags
        tags.target_tags.positive_only = inner.target_tags.positive_only
        tags.target_tags.multi_output = inner.target_tags.multi_output
        tags.classifier_tags, tags.regressor_tags = inner.classifier_tags, inner.regressor_tags
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows as the estimator takes them.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Labels or targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows, given to the estimator's ``fit``.

        Returns
        -------
        self : object
        """
        self._validate_params()
        outputs = self._chosen()
        validate_data(self, X, skip_check_array=True)
        self.estimator_ = self._fit_clone(X, y, sample_weight)
        self._outputs = outputs
        self._levels = np.atleast_1d(check_levels("quantiles", self.quantiles, "For the median pass quantiles=[0.5]."))
        self._settings = self.n_draws, self.random_state
        shape = np.asarray(y).shape
        self._n_outputs = 1 if len(shape) == 1 else shape[1]
        return self

    def fit_transform(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit, and return the columns of the same rows: with `cv` each by a model that has not seen it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        ndarray of shape (n_samples, n_columns), or as ``set_output`` says
        """
        self.fit(X, y, sample_weight)
        if self.cv is None:
            return self.transform(X)
        return self._cross_transform(X, y, sample_weight)

    def transform(self, X: Any) -> Any:
        """Columns of uncertainty.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_columns), or as ``set_output`` says
        """
        check_is_fitted(self)
        _check_feature_names(self, X, reset=False)  # their number is checked by the estimator inside
        return self._columns(self.estimator_, X)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns.

        Parameters
        ----------
        input_features : array-like of str, optional
            Only checked against the names seen in ``fit``.

        Returns
        -------
        ndarray of str, shape (n_columns,)
            "mean", "std", "quantile0.05", "draw0", "proba_<label>" and so on; of several outputs followed by "_0", "_1", …
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features, generate_names=False)
        names: list[str] = []
        classes = [f"_{label}" for label in self.estimator_.classes_] if is_classifier(self.estimator_) else []
        targets = [""] if self._n_outputs == 1 else [f"_{j}" for j in range(self._n_outputs)]
        for output in self._outputs:
            if output == "proba":
                names += [f"proba{label}" for label in classes]
            elif output == "quantiles":
                names += [f"quantile{level:g}{end}" for end in classes or targets for level in self._levels]
            elif output == "draws":
                names += [f"draw{k}{end}" for end in targets for k in range(self._settings[0])]
            else:
                names += [f"{output}{end}" for end in targets]
        return np.asarray(names, dtype=object)

    def _chosen(self) -> tuple[str, ...]:
        known = OF_CLASSIFIERS if is_classifier(self.estimator) else OF_REGRESSORS
        if isinstance(self.outputs, str):
            return ("proba", "total") if is_classifier(self.estimator) else ("mean", "std")
        outputs = tuple(self.outputs)
        if not outputs or len(set(outputs)) < len(outputs) or not set(outputs) <= set(known):
            kind = "classifier" if is_classifier(self.estimator) else "regressor"
            raise ValueError(f"outputs must be some of {known} for a {kind}, each at most once, got {self.outputs!r}.")
        return outputs

    def _fit_clone(self, X: Any, y: Any, sample_weight: Any) -> Any:
        from .calibration._base import fit_weights  # imported when used, as skuq.calibration is

        return clone(self.estimator).fit(X, y, **fit_weights(self.estimator, sample_weight))

    def _cross_transform(self, X: Any, y: Any, sample_weight: Any) -> Any:
        X, y, sample_weight = indexable(X, y, sample_weight)
        columns = np.empty((len(y), len(self.get_feature_names_out())))
        cv = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        seen = np.zeros(len(y), int)
        for train, test in cv.split(X, y):
            weight = None if sample_weight is None else _safe_indexing(sample_weight, train)
            with many_fits():
                model = self._fit_clone(_safe_indexing(X, train), _safe_indexing(y, train), weight)
            if is_classifier(model) and not np.array_equal(model.classes_, self.estimator_.classes_):
                raise ValueError(
                    f"Each fold must hold every class for its columns to fit, got {model.classes_.tolist()} of "
                    f"{self.estimator_.classes_.tolist()}. Use fewer folds, or cv=None."
                )
            columns[test] = self._columns(model, _safe_indexing(X, test))
            seen[test] += 1
        if np.any(seen != 1):
            raise ValueError(
                f"cv must be a partition, each row in one test fold, got rows in {seen.min()} to {seen.max()} of them. Use "
                f"KFold, StratifiedKFold or GroupKFold."
            )
        return columns

    def _columns(self, model: Any, X: Any) -> np.ndarray:
        parts: list[np.ndarray] = []
        split = composites.predict_uncertainty(model, X) if set(self._outputs) & set(PARTS) else None
        for output in self._outputs:
            if output in PARTS:
                values = getattr(split, output)
            elif output == "proba":
                values = model.predict_proba(X)
            elif output == "mean":
                values = model.predict(X)
            elif output == "std":
                values = composites.predict(model, X, return_std=True)[1]
            elif output == "quantiles":
                values = composites.predict_quantiles(model, X, quantiles=self._levels)
            else:
                n_draws, seed = self._settings
                values = composites.sample_y(model, X, n_samples=n_draws, random_state=seed)
            parts.append(np.reshape(values, (len(values), -1)))
        return np.concatenate(parts, axis=1).astype(float, copy=False)
