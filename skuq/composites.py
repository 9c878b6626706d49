"""Uncertainty through Pipelines, searches and other estimators around an estimator.

scikit-learn forwards only the methods it knows. These functions find the estimator at the end of a Pipeline, a search
or any nest of them, pass X through the transformers before it, and call the estimator's own method.
"""

from inspect import signature
from typing import Any

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_selection import RFE
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils.validation import check_is_fitted

from ._validation import says_coverage

__all__ = [
    "predict",
    "predict_dist",
    "predict_interval",
    "predict_quantiles",
    "predict_set",
    "predict_uncertainty",
    "sample_y",
    "unwrap",
]

# Estimators that hold the one that predicts, and show it the rows as they are.
WRAPPERS = (FixedThresholdClassifier, TunedThresholdClassifierCV, SelfTrainingClassifier)


def unwrap(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Find the predictor inside a composite and the rows it sees.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator, Pipeline (also imbalanced-learn's, whose resampling steps do nothing in prediction), search
        (``GridSearchCV`` and the like, refitted), ``FixedThresholdClassifier``, ``TunedThresholdClassifierCV``,
        ``SelfTrainingClassifier``, ``RFE``, ``RFECV``, ``FrozenEstimator``, or a nest of these. A
        ``TransformedTargetRegressor`` stays: what is inside predicts in other units.
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    predictor : estimator
        The final estimator.
    X : array-like
        X as the final estimator sees it.
    """
    while True:
        if isinstance(estimator, Pipeline):
            check_is_fitted(estimator)
            for _, step in estimator.steps[:-1]:
                # Steps of imbalanced-learn that resample rows are for training.
                if step is not None and step != "passthrough" and not hasattr(step, "fit_resample"):
                    X = step.transform(X)
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, RFE):
            X, estimator = estimator.transform(X), estimator.estimator_
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, WRAPPERS):
            check_is_fitted(estimator)
            estimator = estimator.estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            return estimator, X


def find_predictor(estimator: Any) -> Any:
    """Predictor inside Pipelines, searches and the like; unlike :func:`unwrap` it needs no rows.

    Of a ``TransformedTargetRegressor`` it is the one inside, whose attributes are in other units. What wraps an estimator to
    change its answers, as the conformal wrappers do, is itself the predictor.
    """
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, (RFE, *WRAPPERS)):
            check_is_fitted(estimator)
            estimator = estimator.estimator_
        elif isinstance(estimator, TransformedTargetRegressor):
            check_is_fitted(estimator)
            estimator = estimator.regressor_
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            return estimator


def find_trained(estimator: Any) -> Any:
    """The estimator that was trained: as :func:`find_predictor`, and inside the conformal wrappers too."""
    predictor = find_predictor(estimator)
    while not hasattr(predictor, "loss_curve_") and hasattr(predictor, "estimator_"):
        predictor = find_predictor(predictor.estimator_)
    return predictor


def _call(method: str, estimator: Any, X: Any, **kwargs: Any) -> Any:
    return _ask(method, estimator, *unwrap(estimator, X), kwargs)


def _ask(method: str, estimator: Any, predictor: Any, X: Any, kwargs: dict[str, Any]) -> Any:
    """Answer of the predictor inside `estimator` for rows as it sees them."""
    if isinstance(predictor, TransformedTargetRegressor):
        check_is_fitted(predictor)
        return _call_in_units_of_y(method, predictor, X, kwargs)
    if not hasattr(predictor, method):
        check_is_fitted(estimator)
        raise TypeError(
            f"{type(predictor).__name__} has no {method}: expected one of skuq's estimators, or a fitted Pipeline, search or "
            f"other estimator around one."
        )
    return getattr(predictor, method)(X, **kwargs)


def _call_in_units_of_y(method: str, regressor: Any, X: Any, kwargs: dict[str, Any]) -> np.ndarray:
    """Answer of the regressor inside a TransformedTargetRegressor, through the inverse of the transformation."""
    if method not in ("predict_interval", "predict_quantiles", "sample_y"):
        raise TypeError(
            f"{method} of a TransformedTargetRegressor is not known: the inverse of a transformation maps quantiles and "
            f"samples, but not means, variances and densities. Use predict_interval, predict_quantiles or sample_y, or "
            f"predict y itself (likelihood='lognormal' for a logarithm)."
        )
    found = _call(method, regressor.regressor_, X, **kwargs)
    n_outputs = 1 if np.ndim(regressor.predict(X[:1])) == 1 else found.shape[1]
    z = found.reshape(len(found), n_outputs, -1)
    if method == "sample_y":
        return _invert_target(regressor, z).reshape(found.shape)
    if _falls(regressor, z):
        # The quantile of level q of y is the image of that of level 1 − q.
        if method == "predict_quantiles":
            levels = 1 - np.asarray(kwargs["quantiles"], dtype=float)
            z = _call(method, regressor.regressor_, X, **{**kwargs, "quantiles": levels}).reshape(z.shape)
        else:
            ends = np.flip(found, axis=found.ndim - 1 - np.ndim(kwargs["coverage"]))
            z = ends.reshape(z.shape)
    return _invert_target(regressor, z).reshape(found.shape)


def _invert_target(regressor: Any, z: np.ndarray) -> np.ndarray:
    """Values in y's units of transformed ones, (n_rows, n_outputs, n_values)."""
    flat = np.moveaxis(z, 1, 2).reshape(-1, z.shape[1])
    y = np.asarray(regressor.transformer_.inverse_transform(flat), dtype=float)
    return np.moveaxis(y.reshape(z.shape[0], z.shape[2], -1), 2, 1)


def _falls(regressor: Any, z: np.ndarray) -> bool:
    """Whether the inverse of the target's transformation falls; a ValueError if it is monotone in neither way.

    Tried on the values themselves, in order, output by output.
    """
    ordered = np.sort(np.moveaxis(z, 1, 2).reshape(-1, z.shape[1]), axis=0).T[None]
    y = _invert_target(regressor, ordered)[0]
    # An inverse that mixes outputs gives an output other values when the rest is turned round.
    turned = ordered.copy()
    turned[:, 1:] = turned[:, 1:, ::-1]
    apart = _invert_target(regressor, turned)[0]
    mixes = not np.array_equal(apart[:1], y[:1], equal_nan=True) or not np.array_equal(
        apart[1:, ::-1], y[1:], equal_nan=True
    )
    rises, falls = (y[:, 1:] >= y[:, :-1]).all(), (y[:, 1:] <= y[:, :-1]).all()
    if mixes or np.isnan(y).any() or not (rises or falls):
        what = "mixes outputs" if mixes else "gives NaN" if np.isnan(y).any() else "is not monotone"
        raise ValueError(
            f"Intervals and quantiles of y come from those of the transformed y by an inverse that rises or falls throughout, "
            f"but the inverse of this TransformedTargetRegressor's {type(regressor.transformer_).__name__} {what} where its "
            f"regressor predicts. Choose a monotone transformation, or a likelihood that holds y as it is."
        )
    return not rises


def predict(estimator: Any, X: Any, return_std: bool = False) -> Any:
    """``predict`` of an estimator, Pipeline, search or other composite, with the standard deviation of a regressor's y.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : array-like of shape (n_samples, n_features)
        Rows as the composite takes them.
    return_std : bool, default=False
        Whether to return the predictive standard deviation too, noise included.

    Returns
    -------
    mean : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        As the composite's own ``predict``: labels of a classifier.
    std : ndarray of the same shape
        Only if `return_std`; in y's units.

    Raises
    ------
    TypeError
        If the predictor has no standard deviation, or predicts a transformed y.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), skuq.ProbabilisticRegressor(max_iter=10, random_state=0)).fit(X, y)
    >>> mean, std = skuq.predict(model, X[:5], return_std=True)
    >>> mean.shape, std.shape
    ((5,), (5,))
    """
    if not return_std:
        return estimator.predict(X)
    predictor, rows = unwrap(estimator, X)
    if (
        not isinstance(predictor, TransformedTargetRegressor)
        and "return_std" not in signature(predictor.predict).parameters
    ):
        check_is_fitted(estimator)
        raise TypeError(
            f"{type(predictor).__name__}.predict has no return_std: expected one of skuq's regressors, or a composite around "
            f"one. The uncertainty of a classifier is that of skuq.predict_uncertainty."
        )
    return _ask("predict", estimator, predictor, rows, {"return_std": True})


@says_coverage
def predict_interval(estimator: Any, X: Any, coverage: Any = 0.9) -> np.ndarray:
    """``predict_interval`` of an estimator, Pipeline or search.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : array-like of shape (n_samples, n_features)
        Rows as the composite takes them.
    coverage : float or sequence of float, default=0.9
        Strictly between 0 and 1.

    Returns
    -------
    ndarray of shape (n_samples, 2), or as the estimator's own method returns

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), skuq.ProbabilisticRegressor(max_iter=10, random_state=0)).fit(X, y)
    >>> skuq.predict_interval(model, X[:5], coverage=0.8).shape
    (5, 2)
    """
    return _call("predict_interval", estimator, X, coverage=coverage)


@says_coverage
def predict_quantiles(estimator: Any, X: Any, quantiles: Any = (0.05, 0.5, 0.95)) -> np.ndarray:
    """``predict_quantiles`` of an estimator, Pipeline or search; parameters as :func:`predict_interval`."""
    return _call("predict_quantiles", estimator, X, quantiles=quantiles)


def predict_uncertainty(estimator: Any, X: Any) -> Any:
    """``predict_uncertainty`` of an estimator, Pipeline or search: ``(total, aleatoric, epistemic)``."""
    return _call("predict_uncertainty", estimator, X)


@says_coverage
def predict_set(estimator: Any, X: Any, coverage: float = 0.9) -> np.ndarray:
    """``predict_set`` of a classifier, Pipeline or search."""
    return _call("predict_set", estimator, X, coverage=coverage)


def predict_dist(estimator: Any, X: Any) -> Any:
    """``predict_dist`` of an estimator, Pipeline or search."""
    return _call("predict_dist", estimator, X)


def sample_y(estimator: Any, X: Any, n_samples: int = 1, random_state: Any = 0) -> np.ndarray:
    """``sample_y`` of an estimator, Pipeline or search."""
    return _call("sample_y", estimator, X, n_samples=n_samples, random_state=random_state)
