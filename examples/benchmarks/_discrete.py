"""Tables that are not of continuous columns alone, simulated, beside scikit-learn's linear models and boosted trees.

Few rows differ in most of them. Rows are drawn from a known law, so scores on fresh rows need no benchmark data.
"""

from time import perf_counter

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.metrics import log_loss, mean_poisson_deviance, mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import skuq

N_FRESH = 20_000


def additive_binary(n_columns):
    """0/1 columns that add up in the logit of a class."""

    def draw(n_rows, rng):
        X = rng.integers(0, 2, (n_rows, n_columns)).astype(float)
        p = expit((X - 0.5) @ np.resize([1.5, -1.0, 0.5], n_columns))
        return X, (rng.uniform(size=n_rows) < p).astype(int)

    return draw


def rounded(n_rows, rng):
    """Replicated measurements at eight settings, rounded to whole numbers."""
    setting = rng.integers(0, 8, n_rows)
    mean = np.array([0, 0.5, 2, 4, 5, 5.5, 5.7, 5.8])[setting]
    return np.eye(8)[setting], np.round(mean + (0.3 + 0.1 * setting) * rng.normal(size=n_rows))


def counts_by_category(n_rows, rng):
    """Poisson counts of four categories, one-hot, and a binary column that doubles their means."""
    group, double = rng.integers(0, 4, n_rows), rng.integers(0, 2, n_rows)
    rate = np.array([0.05, 0.5, 2.0, 8.0])[group] * (1 + double)
    return np.column_stack([np.eye(4)[group], double]), rng.poisson(rate).astype(float)


def mixed_frame(classes):
    """A frame of two continuous columns, a year, a count, a text column of 30 levels and one of three."""

    def draw(n_rows, rng):
        shop, kind = rng.integers(0, 30, n_rows), rng.integers(0, 3, n_rows)
        frame = pd.DataFrame(
            {
                "size": rng.lognormal(4, 0.5, n_rows),
                "distance": rng.uniform(0, 30, n_rows),
                "year": rng.integers(1990, 2024, n_rows),
                "visits": rng.poisson(2, n_rows),
                "shop": np.array([f"shop {k}" for k in range(30)])[shop],
                "kind": np.array(["flat", "house", "land"])[kind],
            }
        )
        signal = (
            (np.log(frame["size"]) - 4)
            + 0.03 * (frame["year"] - 2006)
            - 0.8 * (frame["distance"] > 12)
            + 0.2 * frame["visits"]
            + np.linspace(-0.8, 0.8, 30)[shop]
            + np.array([-0.6, 0.0, 0.6])[kind]
        ).to_numpy() - 0.1
        if classes:
            return frame, (rng.uniform(size=n_rows) < expit(2 * signal)).astype(int)
        return frame, 10 + signal + 0.4 * rng.normal(size=n_rows)

    return draw


def from_frame(model):
    """Numbers standardised, text one-hot, then the model."""
    columns = make_column_transformer(
        (StandardScaler(), ["size", "distance", "year", "visits"]),
        (OneHotEncoder(handle_unknown="ignore"), ["shop", "kind"]),
        sparse_threshold=0,  # which boosted trees do not take; to skuq's estimators sparse rows are the same
    )
    return make_pipeline(columns, model)


# Name: rows of a law, number of training rows, measure.
TABLES = {f"additive {d}": (additive_binary(d), 4000, "log_loss") for d in (3, 5, 7, 9, 12)} | {
    "rounded": (rounded, 320, "rmse"),
    "counts": (counts_by_category, 400, "poisson_deviance"),
    "mixed frame, classes": (mixed_frame(True), 2000, "log_loss"),
    "mixed frame, numbers": (mixed_frame(False), 2000, "rmse"),
}
LINEAR = {
    "log_loss": LogisticRegression(max_iter=1000),
    "rmse": LinearRegression(),
    "poisson_deviance": PoissonRegressor(alpha=1e-6, max_iter=1000),
}


def score(model, measure, X, y) -> float:
    """Log loss in nats, root mean squared error in y's units, or mean Poisson deviance: each is better where smaller."""
    if measure == "log_loss":
        return log_loss(y, model.predict_proba(X))
    if measure == "rmse":
        return float(np.sqrt(mean_squared_error(y, model.predict(X))))
    return mean_poisson_deviance(y, model.predict(X))


def models_for(measure, methods, backend, seed) -> dict:
    """Linear model, boosted trees and skuq's estimators for a measure, by name."""
    if measure == "log_loss":
        models = {"HistGradientBoosting": HistGradientBoostingClassifier(random_state=seed)}
        task, settings = "Classifier", {}
    else:
        loss = "poisson" if measure == "poisson_deviance" else "squared_error"
        models = {"HistGradientBoosting": HistGradientBoostingRegressor(loss=loss, random_state=seed)}
        task, settings = "Regressor", {"likelihood": "poisson"} if loss == "poisson" else {}
    models = {type(LINEAR[measure]).__name__: LINEAR[measure], **models}
    return models | {
        method: getattr(skuq, f"{method}{task}")(backend=backend, random_state=seed, **settings) for method in methods
    }


def run_discrete(methods, backend: str, seed: int) -> list[dict]:
    """Score of every model on fresh rows of every table, and how much larger it is than the linear model's."""
    rows = []
    print(f"{'table':22s} {'measure':17s} {'model':22s}{'score':>10s}{'− linear':>10s}{'fit_s':>9s}")
    for name, (draw, n_rows, measure) in TABLES.items():
        rng = np.random.default_rng(seed)
        (X, y), (X_fresh, y_fresh) = draw(n_rows, rng), draw(N_FRESH, rng)
        linear = None
        for label, model in models_for(measure, methods, backend, seed).items():
            fitted = from_frame(model) if isinstance(X, pd.DataFrame) else model
            start = perf_counter()
            fitted.fit(X, y)
            seconds = perf_counter() - start
            found = score(fitted, measure, X_fresh, y_fresh)
            linear = found if linear is None else linear
            used = backend if label in methods else "scikit-learn"
            row = {"table": name, "measure": measure, "model": label, "backend": used, "seed": seed}
            rows.append({**row, "score": found, "minus_linear": found - linear, "fit_s": seconds})
            print(f"{name:22s} {measure:17s} {label:22s}{found:10.4f}{found - linear:+10.4f}{seconds:9.1f}", flush=True)
    return rows
