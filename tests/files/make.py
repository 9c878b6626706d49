"""Write the files of a release that every later one has to read: ``python tests/files/make.py`` once, before the release.

They go into a folder with the version's name, each beside what the model answered. Files that are there are never written anew.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

import skuq
from skuq.calibration import ConformalClassifier, ConformalRegressor
from skuq.likelihoods import Poisson, StudentT

SMALL = {"hidden_layer_sizes": (3,), "max_iter": 3, "random_state": 0, "backend": "blitz"}
ROWS = np.array([[0.5, 1.0], [-1.0, 2.0], [3.0, 0.25]])


def models():
    """Fitted models by name: every method, calibration and kind of state."""
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=40), rng.uniform(0.5, 3, size=40)]
    y, label = np.sin(X[:, 0]) + 0.1 * rng.normal(size=40), np.array(["no", "yes", "maybe"])[rng.integers(3, size=40)]
    counts, frame = rng.poisson(2 * X[:, 1]), pd.DataFrame(X, columns=["load", "years"])
    return {
        "probabilistic_regressor": skuq.ProbabilisticRegressor(**SMALL, input_encoding="periodic", n_frequencies=2).fit(
            X, y
        ),
        "probabilistic_classifier": skuq.ProbabilisticClassifier(**SMALL, class_weight="balanced").fit(X, label),
        "mc_dropout_regressor": skuq.MCDropoutRegressor(
            **SMALL, n_draws=4, input_encoding="piecewise_linear", n_bins=3
        ).fit(X, np.c_[y, -y]),
        "mc_dropout_classifier": skuq.MCDropoutClassifier(**SMALL, n_draws=4, architecture="resnet").fit(
            X, label == "no"
        ),
        "deep_ensemble_regressor": skuq.DeepEnsembleRegressor(
            **SMALL, n_members=2, input_encoding=None, likelihood=Poisson(exposure=1)
        ).fit(X, counts),
        "deep_ensemble_classifier": skuq.DeepEnsembleClassifier(**SMALL, n_members=2).fit(frame, label),
        "bnn_regressor": skuq.BNNRegressor(**SMALL, n_draws=4, likelihood=StudentT(df=4.0), input_encoding=None).fit(
            X, y
        ),
        "bnn_classifier": skuq.BNNClassifier(
            **SMALL, n_draws=4, posterior="full_covariance", calibration="temperature"
        ).fit(X, label),
        "sngp_regressor": skuq.SNGPRegressor(**SMALL, n_inducing=8, n_draws=4, calibration="conformal").fit(X, y),
        "sngp_classifier": skuq.SNGPClassifier(**SMALL, n_inducing=8, n_draws=4, covariance="per_class").fit(X, label),
        "conformal_regressor": ConformalRegressor(
            skuq.ProbabilisticRegressor(**SMALL, input_encoding=None),
            conformity_score="quantile",
            random_state=np.random.RandomState(0),
        ).fit(X, y),
        "conformal_classifier": ConformalClassifier(skuq.ProbabilisticClassifier(**SMALL), random_state=0).fit(
            X, label
        ),
    }


def answers(model):
    """What a model says of some rows, as JSON: method, arguments, numbers."""
    coverage = {"coverage": 0.5} if hasattr(model, "estimators_") else {}
    asked = [("predict_proba", {}), ("predict_interval", coverage), ("predict_set", coverage)]
    asked += [] if hasattr(model, "classes_") else [("predict", {})]
    columns = model.feature_names_in_.tolist() if hasattr(model, "feature_names_in_") else None
    rows = ROWS if columns is None else pd.DataFrame(ROWS, columns=columns)
    said = [
        (method, options, np.asarray(getattr(model, method)(rows, **options), float).tolist())
        for method, options in asked
        if hasattr(model, method)
    ]
    return {"X": ROWS.tolist(), "columns": columns, "said": said}


if __name__ == "__main__":
    folder = Path(__file__).parent / skuq.__version__
    folder.mkdir(exist_ok=True)
    for name, model in models().items():
        path = folder / f"{name}.skuq"
        if not path.exists():
            skuq.save(model, path)
            path.with_suffix(".json").write_text(json.dumps(answers(model)) + "\n")
