"""Regression: the progress of diabetes a year on, with intervals."""

from time import perf_counter

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import metrics

from ._tables import table

REGRESSORS = (
    skuq.ProbabilisticRegressor,
    skuq.MCDropoutRegressor,
    skuq.DeepEnsembleRegressor,
    skuq.BNNRegressor,
    skuq.SNGPRegressor,
)
COVERAGE = 0.9
N_PATIENTS = 8


def run(backend: str, seed: int) -> None:
    """Fit the five regressors; print their scores, and their intervals for real patients."""
    data = load_diabetes(scaled=False)
    X_train, X_test, y_train, y_test = train_test_split(data.data, data.target, test_size=0.25, random_state=seed)
    print(
        f"Regression: progression of diabetes after a year, {len(y_train)} patients to train on, "
        f"{len(y_test)} to test on.\n"
    )

    scores, intervals = [], {}
    for regressor in REGRESSORS:
        name = regressor.__name__.removesuffix("Regressor")
        model = make_pipeline(StandardScaler(), regressor(backend=backend, random_state=seed))
        started = perf_counter()
        model.fit(X_train, y_train)
        seconds = perf_counter() - started
        # A Pipeline forwards predict; skuq's functions take the Pipeline for the rest.
        interval = skuq.predict_interval(model, X_test, coverage=COVERAGE)
        scores.append(
            [
                name,
                f"{root_mean_squared_error(y_test, model.predict(X_test)):.1f}",
                f"{metrics.nll(y_test, skuq.predict_dist(model, X_test)):.2f}",
                f"{metrics.coverage(y_test, interval):.1%}",
                f"{metrics.mean_width(y_test, interval):.0f}",
                f"{seconds:.1f}",
            ]
        )
        intervals[name] = interval
    print(table(["method", "RMSE", "NLL", f"coverage of {COVERAGE:.0%}", "mean width", "fit, s"], scores))
    print(
        f"(y has a standard deviation of {np.std(y_test):.1f}; of {len(y_test)} rows, a coverage is known to ±3 %.)\n"
    )
    print(patients(data.feature_names, X_test[:N_PATIENTS], y_test[:N_PATIENTS], intervals), end="\n\n")


def patients(feature_names, X, y, intervals) -> str:
    """Table of each patient's predicted interval by every method; a star marks one that misses the measured value."""
    age, bmi = feature_names.index("age"), feature_names.index("bmi")
    rows = []
    for i, measured in enumerate(y):
        ends = [interval[i] for interval in intervals.values()]
        cells = [f"{low:z.0f} – {high:z.0f}{' ' if low <= measured <= high else '*'}" for low, high in ends]
        rows.append([f"age {X[i, age]:.0f}, BMI {X[i, bmi]:.1f}", f"{measured:.0f}", *cells])
    header = [f"patient, {COVERAGE:.0%} interval", "measured", *(f"{name} " for name in intervals)]
    return table(header, rows) + "\n(* the measured value lies outside)"
