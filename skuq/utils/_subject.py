"""The estimator under check, what it answers, and how a property that fails is reported."""

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.ensemble._base import _set_random_states
from sklearn.utils import get_tags

from ..composites import unwrap

COVERAGES = [0.5, 0.8, 0.9]
QUANTILES = [0.05, 0.3, 0.5, 0.7, 0.95]
N_ROWS, N_ASKED, N_DRAWN = 120, 40, 400
# Equal up to the rounding of float32.
ROUNDING = 1e-5
# A sample mean may miss the predicted mean by this many standard errors.
STANDARD_ERRORS = 8


def takes_positive_only(estimator: Any) -> bool:
    """Whether targets must be positive, by the estimator's tag."""
    return bool(get_tags(estimator).target_tags.positive_only)


# A property: raises AssertionError where a subject lacks it.
Check = Callable[["Subject"], None]


@dataclass
class Subject:
    """An estimator under check: fitted to its problem, and what it answered.

    Attributes
    ----------
    estimator : estimator
    methods : tuple of str
    X, y : ndarray
        Training rows.
    model : estimator
        Fitted to X and y.
    predictor : estimator
        What predicts inside `model`.
    rows : ndarray of shape (n_asked, n_features)
        The first training rows and a few others.
    """

    estimator: Any
    methods: tuple[str, ...]
    X: np.ndarray
    y: np.ndarray
    model: Any = field(init=False)
    predictor: Any = field(init=False)
    rows: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.model = self.fit(self.X, self.y)
        self.rows = np.concatenate([self.X[: N_ASKED // 2], 1.5 * self.X[: N_ASKED // 2]])
        self.predictor, _ = unwrap(self.model, self.rows)
        for method in ("predict", *self.methods):
            found = hasattr(self.predictor, method)
            require(found, f"{type(self.predictor).__name__} has no {method}. Pass methods= with those it has.")

    def fit(self, X: np.ndarray, y: np.ndarray) -> Any:
        """Clone with fixed seeds, fitted."""
        model = clone(self.estimator)
        _set_random_states(model, 0)
        return model.fit(X, y)

    def has(self, *methods: str) -> bool:
        """Whether all of `methods` are to be checked."""
        return set(methods) <= {"predict", *self.methods}

    def ask(self, method: str, *args: Any, rows: Any = None, model: Any = None, **kwargs: Any) -> Any:
        """Answer of a method, through Pipelines."""
        predictor, rows = unwrap(self.model if model is None else model, self.rows if rows is None else rows)
        return getattr(predictor, method)(rows, *args, **kwargs)

    def answers(self, rows: Any = None, model: Any = None) -> dict[str, np.ndarray]:
        """All that is said about rows, numbers with rows on the first axis, by name."""
        said: dict[str, Any] = {}

        def ask(method: str, *args: Any, **kwargs: Any) -> Any:
            return self.ask(method, *args, rows=rows, model=model, **kwargs)

        if not is_classifier(self.estimator):
            said["predict"] = ask("predict")
            if "return_std" in signature(self.predictor.predict).parameters:
                said["predict(return_std=True)"] = ask("predict", return_std=True)[1]
        if self.has("predict_proba"):
            said["predict_proba"] = ask("predict_proba")
        if self.has("predict_interval"):
            said["predict_interval"] = ask("predict_interval", coverage=COVERAGES)
        if self.has("predict_quantiles"):
            said["predict_quantiles"] = ask("predict_quantiles", quantiles=QUANTILES)
        if self.has("predict_uncertainty"):
            parts = ask("predict_uncertainty")
            said |= {
                f"predict_uncertainty.{name}": getattr(parts, name) for name in ("total", "aleatoric", "epistemic")
            }
        if self.has("predict_set"):
            said["predict_set"] = np.asarray(ask("predict_set", coverage=COVERAGES[-1]), dtype=float)
        if self.has("predict_dist"):
            said["predict_dist.mean"] = ask("predict_dist").mean()
        return {name: np.asarray(value, dtype=float) for name, value in said.items()}


def require(condition: Any, message: str) -> None:
    """Assert, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def require_equal(found: Any, expected: Any, what: str, rtol: float = ROUNDING, atol: float = ROUNDING) -> None:
    """Assert that arrays are equal up to `rtol` and to `atol` times the spread of what is expected."""
    require(np.shape(found) == np.shape(expected), f"{what}: shapes {np.shape(found)} and {np.shape(expected)} differ.")
    error = np.abs(found - expected)
    allowed = atol * np.ptp(expected) + rtol * np.abs(expected) + np.finfo(float).tiny
    if np.any(error > allowed):
        at = np.unravel_index(np.argmax(error - allowed), error.shape)
        raise AssertionError(
            f"{what}: {np.asarray(found)[at]:.6g} against {np.asarray(expected)[at]:.6g} at {list(map(int, at))}."
        )


def require_rising(values: np.ndarray, what: str) -> None:
    """Assert that values do not fall along the last axis."""
    falls = np.diff(values, axis=-1)
    if np.any(falls < 0):
        *where, last = np.unravel_index(np.argmin(falls), falls.shape)
        pair = values[tuple(where)][last : last + 2]
        raise AssertionError(f"{what}: {pair[0]:.6g}, then {pair[1]:.6g} in row {int(where[0])}.")
