"""The table that the tests run over: ten estimators × two backends, small and fast, and problems to fit."""

from functools import cache

import numpy as np
import pytest
from scipy import sparse
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


def make(name: str, backend: str, kind: int | str | None = None, **changes):
    """Unfitted estimator with small settings, and with the likelihood that its problem asks for."""
    likelihood = {"likelihood": "lognormal"} if kind == "skewed" and name.endswith("Regressor") else {}
    return getattr(skuq, name)(**{**settings(name), **likelihood, "backend": backend, **changes})


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
# Continuous columns are the easy case: equal rows are merged, columns far from zero are shifted, columns of two values have
# no bins and means of skewed targets have exponents, so properties run over a table of each kind.

N_ROWS, N_FEATURES = 96, 3


def scaled(rng, signal, noise):
    """Ten and more, signal and noise of one size."""
    return 10 + 4 * signal + noise * rng.normal(size=signal.shape)


def discrete():
    """Three categories, one-hot, and star ratings: 96 rows of which at most 15 differ. Label: the rating, in three words."""
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=N_ROWS)
    stars = np.clip(np.rint(np.array([1.5, 3.0, 4.5])[group] + rng.normal(size=N_ROWS)), 1, 5)
    return np.eye(3)[group], stars, np.digitize(stars, [2.5, 3.5])


def thin():
    """CSR: a year, 200 standard deviations from zero, and two of three categories one-hot. Label: above the median."""
    rng = np.random.default_rng(1)
    year, group = rng.integers(1990, 2024, N_ROWS).astype(float), rng.integers(3, size=N_ROWS)
    y = scaled(rng, (year - 2006) / 10 + np.array([-1.0, 0.0, 1.0])[group], 1.0)
    return sparse.csr_array(np.c_[year, np.eye(3)[group, 1:]]), y, (y > np.median(y)).astype(int)


def mixed():
    """A continuous, a binary and a count column, and equal rows. Label: the tercile."""
    rng = np.random.default_rng(2)
    X = np.c_[rng.normal(size=N_ROWS).round(1), rng.random(N_ROWS) < 0.4, rng.poisson(1.5, N_ROWS)].astype(float)
    y = scaled(rng, np.sin(2 * X[:, 0]) + X[:, 1] + np.sqrt(X[:, 2]), 1.0).round(1)
    X[-16:], y[-16:] = X[:16], y[:16]
    return X, y, np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))


def skewed():
    """A log-normal target of two decades and columns with long tails. Label: the largest 6 of 96, a rare class."""
    rng = np.random.default_rng(3)
    X = rng.standard_t(3, size=(N_ROWS, 3))
    y = np.exp(3 + np.tanh(X[:, 0]) + 0.5 * np.tanh(X[:, 1]) + 0.5 * rng.normal(size=N_ROWS))
    return X, y, (y >= np.sort(y)[-6]).astype(int)


TABLES = {"discrete": discrete, "sparse": thin, "mixed": mixed, "skewed": skewed}
N_CLASSES = {"discrete": 3, "sparse": 2, "mixed": 3, "skewed": 2}


@cache
def regression(kind: int | str = 1):
    """Problem with a number for a target: X and y, (n,) or (n, n_outputs).

    kind : number of outputs, which are smooth functions of three features with noise, or one of ``TABLES``.
    """
    if kind in TABLES:
        return TABLES[kind]()[:2]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, N_FEATURES))
    signal = np.stack([X[:, 0] + np.sin(2 * X[:, 1]), X[:, 1] - X[:, 2] ** 2, X[:, 0] * X[:, 2]], axis=1)
    y = 10 + 4 * signal + rng.normal(size=(N_ROWS, 3))
    return X, y[:, 0] if kind == 1 else y[:, :kind]


@cache
def classification(kind: int | str = 2):
    """Problem with string labels that do not sort by first appearance: X, y.

    kind : number of overlapping classes, or one of ``TABLES``.
    """
    if kind in TABLES:
        X, _, y = TABLES[kind]()
    else:
        X, y = make_classification(
            N_ROWS, N_FEATURES, n_informative=3, n_redundant=0, n_classes=kind, n_clusters_per_class=1, random_state=3
        )
    return X, np.array(["yes", "maybe", "no"])[y]


def problem(name: str, kind: int | str | None = None):
    """X, y that suit an estimator; `kind` is the number of outputs or classes, or one of ``TABLES``."""
    return regression(kind or 1) if name.endswith("Regressor") else classification(kind or 2)


def stack(*parts):
    """Rows below each other, dense or sparse as they are."""
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.vstack(parts)


@cache
def _fitted(name, backend, kind, changes):
    return make(name, backend, kind, **dict(changes)).fit(*problem(name, kind))


def fitted(name: str, backend: str, kind: int | str | None = None, **changes):
    """Small estimator fitted to its problem. Shared between tests: only read it."""
    return _fitted(name, backend, kind, tuple(sorted(changes.items())))


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
