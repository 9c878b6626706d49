"""What was fitted, in a few lines."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted

from .composites import find_predictor, find_trained, predict_dist, predict_interval

# Parameters of the methods that say how many functions there are, where an estimator has them.
COUNTS = ("n_members", "n_draws")


@dataclass(frozen=True)
class Summary:
    """What :func:`summary` found; prints as a table.

    Attributes
    ----------
    estimator : str
        Class of the predictor.
    items : dict of str to object
        What was fitted, by name.
    warnings : list of str
        What deserves a look.
    """

    estimator: str
    items: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        width = max(map(len, self.items), default=0)
        lines = [self.estimator, "-" * len(self.estimator)]
        lines += [f"{name.ljust(width)}  {_written(value)}" for name, value in self.items.items()]
        return "\n".join([*lines, *(f"! {text}" for text in self.warnings)])

    __repr__ = __str__


def summary(estimator: Any, X: Any = None, y: Any = None, *, coverage: float = 0.9) -> Summary:
    """Say what was fitted: features, members, epochs, losses and what deserves a look.

    It reads fitted attributes alone, and on rows kept apart, if they are given, how well they are predicted.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator of skuq, or a Pipeline or search around one.
    X : array-like of shape (n_rows, n_features), optional
        Rows that it was not trained on, as the composite takes them.
    y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
        Their labels or targets.
    coverage : float, default=0.9
        Nominal coverage of the intervals that are checked.

    Returns
    -------
    Summary
        Printed as a table; ``items`` is a dict, ``warnings`` a list.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    TypeError
        If there is none of skuq's inside.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = skuq.ProbabilisticRegressor(max_iter=10, random_state=0).fit(X[:400], y[:400])
    >>> found = skuq.summary(model, X[400:], y[400:])
    >>> print(found)
    ProbabilisticRegressor
    ----------------------
    backend ...
    features 10 (9 encoded)
    ...
    >>> found.items["epochs"]
    10
    """
    check_is_fitted(estimator)
    predictor = find_trained(estimator)
    check_is_fitted(predictor)
    if not hasattr(predictor, "loss_curve_") or not hasattr(predictor, "backend_"):
        raise TypeError(
            f"{type(predictor).__name__} is none of skuq's estimators. Expected one of them, or a Pipeline or search around one."
        )
    if (X is None) != (y is None):
        raise ValueError("X and y belong together, got one of them.")
    items: dict[str, Any] = {"backend": predictor.backend_}
    outermost = find_predictor(estimator)
    if outermost is not predictor:
        items["inside"] = type(outermost).__name__
    _add_data(items, predictor)
    _add_training(items, predictor)
    warnings = _look(predictor)
    if X is not None:
        _add_scores(items, estimator, predictor, X, y, coverage)
    return Summary(type(predictor).__name__, items, warnings)


def _add_data(items: dict, predictor: Any) -> None:
    n_rows = getattr(predictor, "n_samples_fit_", None)
    if n_rows is not None:
        items["rows"] = n_rows
    encoded = int(np.sum(predictor.encoded_features_))
    features = str(predictor.n_features_in_) + (f" ({encoded} encoded)" if encoded else "")
    left = int(np.sum(predictor.selected_features_))
    items["features"] = features if left == predictor.n_features_in_ else f"{features}, {left} with nonzero weights"
    if hasattr(predictor, "classes_"):
        items["classes"] = len(predictor.classes_)
    elif predictor.n_outputs_ > 1:
        items["outputs"] = predictor.n_outputs_


def _add_training(items: dict, predictor: Any) -> None:
    parameters = predictor.get_params(deep=False)
    for name in COUNTS:
        if name in parameters:
            items[name.removeprefix("n_")] = parameters[name]
    sizes = tuple(np.atleast_1d(np.asarray(parameters["hidden_layer_sizes"], int)).tolist())
    items["hidden layers"] = " × ".join(map(str, sizes)) if sizes else "none (linear)"
    items["nonzero weights"] = predictor.n_nonzero_weights_
    if "likelihood" in parameters:
        items["likelihood"] = parameters["likelihood"]
    if parameters.get("calibration") is not None:
        items["calibration"] = parameters["calibration"]
    for attribute in ("temperature_", "dropout_rate_", "posterior_share_", "noise_scale_"):
        if hasattr(predictor, attribute):
            items[attribute.removesuffix("_").replace("_", " ")] = getattr(predictor, attribute)
    items["epochs"] = predictor.n_iter_
    items["training loss"] = float(predictor.loss_)
    curve = predictor.validation_loss_curve_
    if curve:
        items["held-out loss"] = float(np.nanmin(curve))


def _add_scores(items: dict, estimator: Any, predictor: Any, X: Any, y: Any, coverage: float) -> None:
    from . import metrics  # imported when used, as the package's attribute is

    rows = f" on {len(y)} rows"
    if is_classifier(predictor):
        probabilities = estimator.predict_proba(X)
        labels = {"labels": estimator.classes_}
        items[f"NLL{rows}"] = metrics.nll(y, probabilities, **labels)
        items[f"accuracy{rows}"] = float(estimator.score(X, y))
        items[f"ECE{rows}"] = metrics.ece(y, probabilities, **labels)
        return
    if hasattr(find_predictor(estimator), "predict_dist"):
        items[f"NLL{rows}"] = metrics.nll(y, predict_dist(estimator, X))
    held = metrics.coverage(y, predict_interval(estimator, X, coverage=coverage))
    items[f"coverage of {coverage:.0%}{rows}"] = f"{held:.1%}"


def _look(predictor: Any) -> list[str]:
    """What deserves a look, each with what to do."""
    found = []
    curve = predictor.validation_loss_curve_
    if not np.isfinite(predictor.loss_):
        found.append("The training loss is not finite: lower learning_rate_init, or check y for extreme values.")
    if not curve:
        found.append("No rows were held out: nothing chose when to stop. Check coverage or NLL on rows kept apart.")
    elif len(curve) > 1 and int(np.nanargmin(curve)) == len(curve) - 1:
        found.append("The held-out loss was lowest at the last evaluation: more epochs (max_iter) may fit better.")
    if not np.any(predictor.selected_features_):
        found.append("No feature has a nonzero weight: every row is predicted alike. Lower alpha.")
    if getattr(predictor, "temperature_", 1.0) > 2:
        found.append(
            f"The logits were {predictor.temperature_:.1f} times too sure: more rows or a larger alpha may help."
        )
    return found


def _written(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)
