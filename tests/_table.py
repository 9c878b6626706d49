"""The table that the tests run over: ten estimators × two backends, small and fast, and problems to fit."""

from functools import cache

import numpy as np
import pytest
from sklearn.datasets import make_classification

import skuq
from skuq import backends

METHODS = {
    "Probabilistic": {},
    "MCDropout": {"n_draws": 16},
    "DeepEnsemble": {"n_members": 3},
    "BNN": {"n_draws": 16},
    "SNGP": {"n_inducing": 32, "n_draws": 16},
}
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 60, "batch_size": 32, "random_state": 0}
REGRESSORS = [f"{method}Regressor" for method in METHODS]
CLASSIFIERS = [f"{method}Classifier" for method in METHODS]
ESTIMATORS = [*REGRESSORS, *CLASSIFIERS]


def settings(name: str) -> dict:
    """Small settings of an estimator, by its class name."""
    method = name.removesuffix("Regressor").removesuffix("Classifier")
    return {**SMALL, **METHODS[method]}


def make(name: str, backend: str, **changes):
    """Unfitted estimator with small settings."""
    return getattr(skuq, name)(**{**settings(name), "backend": backend, **changes})


def marks_of(backend: str) -> list:
    """Marks of a test on one backend: its own worker, and a visible skip where the backend is not installed."""
    missing = backend not in backends.available()
    reason = f"backend {backend} is not installed: pip install 'skuq[{backend}]'"
    return [pytest.mark.xdist_group(backend), pytest.mark.skipif(missing, reason=reason)]


def case(backend: str, *values, id=None):
    """Row of a table, the backend last."""
    return pytest.param(
        *values, backend, id="-".join([*([id] if id else map(str, values)), backend]), marks=marks_of(backend)
    )


def over(names):
    """Parametrize a test over (name, backend)."""
    cases = [case(backend, name) for backend in backends.BACKENDS for name in names]
    return pytest.mark.parametrize(("name", "backend"), cases)


each_estimator = over(ESTIMATORS)
each_regressor = over(REGRESSORS)
each_classifier = over(CLASSIFIERS)
each_backend = pytest.mark.parametrize("backend", [case(backend) for backend in backends.BACKENDS])


# Problems. All have three features and one number of rows, so that a backend that compiles for each shape compiles few.

N_ROWS, N_FEATURES = 96, 3


@cache
def regression(n_outputs: int = 1):
    """Smooth functions of three features with noise: X and y, (n,) or (n, n_outputs)."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_FEATURES))
    signal = np.stack([X[:, 0] + np.sin(2 * X[:, 1]), X[:, 1] - X[:, 2] ** 2, X[:, 0] * X[:, 2]], axis=1)
    y = 10 + 4 * signal + rng.normal(size=(N_ROWS, 3))
    return X, y[:, 0] if n_outputs == 1 else y[:, :n_outputs]


@cache
def classification(n_classes: int = 2):
    """Overlapping classes with string labels that do not sort by first appearance: X, y."""
    X, y = make_classification(
        N_ROWS, N_FEATURES, n_informative=3, n_redundant=0, n_classes=n_classes, n_clusters_per_class=1, random_state=3
    )
    return X, np.array(["yes", "maybe", "no"])[y]


def problem(name: str, width: int | None = None):
    """X, y that suit an estimator; `width` is the number of outputs or classes."""
    return regression(width or 1) if name.endswith("Regressor") else classification(width or 2)


@cache
def _fitted(name, backend, width, changes):
    return make(name, backend, **dict(changes)).fit(*problem(name, width))


def fitted(name: str, backend: str, width: int | None = None, **changes):
    """Small estimator fitted to its problem. Shared between tests: only read it."""
    return _fitted(name, backend, width, tuple(sorted(changes.items())))


def no_dropout(name):
    """Masks of training fall on positions in a batch, not on rows, so they would differ."""
    return {"dropout_rate": 0.0} if name.startswith("MCDropout") else {}


def outputs(model, X) -> dict:
    """Everything a fitted estimator says about rows, by name, as float arrays with rows on the first axis."""
    said = {
        "interval": model.predict_interval(X),
        "quantiles": model.predict_quantiles(X),
        **model.predict_uncertainty(X)._asdict(),
    }
    if hasattr(model, "classes_"):
        said |= {
            "predict": np.searchsorted(model.classes_, model.predict(X)),
            "proba": model.predict_proba(X),
            "set": model.predict_set(X).astype(float),
            "sample": np.searchsorted(model.classes_, model.sample_y(X, 3)),
        }
    else:
        mean, std = model.predict(X, return_std=True)
        said |= {"predict": mean, "std": std, "sample": model.sample_y(X, 3)}
    return said


def assert_same(found: dict, expected: dict, rtol=0.0, atol=0.0):
    """Outputs are equal, by default to the last bit."""
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=rtol, atol=atol, err_msg=key)
