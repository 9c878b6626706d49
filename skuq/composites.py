"""Uncertainty through Pipelines and searches.

scikit-learn forwards only the methods it knows. These functions find the estimator at the end of a Pipeline, a search
or any nest of them, pass X through the transformers before it, and call the estimator's own method.
"""

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

__all__ = [
    "predict_dist",
    "predict_interval",
    "predict_quantiles",
    "predict_set",
    "predict_uncertainty",
    "sample_y",
    "unwrap",
]


def unwrap(estimator, X):
    """Find the predictor inside a composite and the rows it sees.

    Parameters
    ----------
    estimator : estimator
        A fitted estimator, Pipeline, search (``GridSearchCV`` and the like, refitted), or a nest of these.
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
            if len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        else:
            return estimator, X


def _call(method, estimator, X, *args, **kwargs):
    predictor, X = unwrap(estimator, X)
    if not hasattr(predictor, method):
        check_is_fitted(estimator)
        raise TypeError(
            f"{type(predictor).__name__} has no {method}: expected one of skuq's estimators, or a fitted Pipeline or search "
            f"that ends in one."
        )
    return getattr(predictor, method)(X, *args, **kwargs)


def predict_interval(estimator, X, coverage=0.9):
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


def predict_quantiles(estimator, X, quantiles=(0.05, 0.5, 0.95)):
    """``predict_quantiles`` of an estimator, Pipeline or search; parameters as :func:`predict_interval`."""
    return _call("predict_quantiles", estimator, X, quantiles=quantiles)


def predict_uncertainty(estimator, X):
    """``predict_uncertainty`` of an estimator, Pipeline or search: ``(total, aleatoric, epistemic)``."""
    return _call("predict_uncertainty", estimator, X)


def predict_set(estimator, X, coverage=0.9):
    """``predict_set`` of a classifier, Pipeline or search."""
    return _call("predict_set", estimator, X, coverage=coverage)


def predict_dist(estimator, X):
    """``predict_dist`` of an estimator, Pipeline or search."""
    return _call("predict_dist", estimator, X)


def sample_y(estimator, X, n_samples=1, random_state=0):
    """``sample_y`` of an estimator, Pipeline or search."""
    return _call("sample_y", estimator, X, n_samples=n_samples, random_state=random_state)
