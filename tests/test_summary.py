"""What skuq says of itself: a summary of a fit, and versions."""

import numpy as np
import pytest
import sklearn
from _table import classification, each_backend, make, regression
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import metrics
from skuq.calibration import ConformalRegressor

QUICK = {"max_iter": 5}


@each_backend
def test_summary_says_what_was_fitted(backend):
    X, y = regression()
    model = make("DeepEnsembleRegressor", backend, **QUICK).fit(X[:80], y[:80])
    found = skuq.summary(model, X[80:], y[80:], coverage=0.8)
    assert found.estimator == "DeepEnsembleRegressor"
    assert found.items["backend"] == backend
    assert found.items["members"] == 3
    assert found.items["epochs"] == model.n_iter_
    assert found.items["training loss"] == model.loss_
    assert found.items["held-out loss"] == min(model.validation_loss_curve_)
    assert found.items["NLL on 16 rows"] == metrics.nll(y[80:], model.predict_dist(X[80:]))
    held = metrics.coverage(y[80:], model.predict_interval(X[80:], coverage=0.8))
    assert found.items["coverage of 80% on 16 rows"] == f"{held:.1%}"
    printed = str(found).splitlines()
    assert printed[0] == repr(found).splitlines()[0] == "DeepEnsembleRegressor"
    assert all(any(line.startswith(name) for line in printed) for name in found.items)


@pytest.mark.parametrize("names", [None, "search"])
def test_summary_looks_into_pipelines_and_searches(names):
    X, y = classification()
    pipeline = make_pipeline(StandardScaler(), make("MCDropoutClassifier", "auto", calibration="temperature", **QUICK))
    model = (
        pipeline
        if names is None
        else GridSearchCV(pipeline, {"mcdropoutclassifier__alpha": [0.0]}, cv=2, error_score="raise")
    )
    model.fit(X, y)
    found = skuq.summary(model, X, y)
    inner = (model if names is None else model.best_estimator_)[-1]
    assert found.items["temperature"] == inner.temperature_
    assert found.items["classes"] == 2
    assert found.items["draws"] == 16
    assert found.items["accuracy on 96 rows"] == sklearn.metrics.accuracy_score(y, model.predict(X))


def test_summary_looks_into_conformal_wrappers():
    X, y = regression()
    wrapper = ConformalRegressor(make("ProbabilisticRegressor", "auto", **QUICK), random_state=0).fit(X[:80], y[:80])
    found = skuq.summary(make_pipeline(wrapper).fit(X[:80], y[:80]), X[80:], y[80:], coverage=0.8)
    assert (found.estimator, found.items["inside"]) == ("ProbabilisticRegressor", "ConformalRegressor")
    held = metrics.coverage(y[80:], wrapper.predict_interval(X[80:], coverage=0.8))
    assert found.items["coverage of 80% on 16 rows"] == f"{held:.1%}"


def test_summary_warns_of_what_deserves_a_look():
    X, y = regression()
    nothing_left = make(
        "ProbabilisticRegressor", "auto", regularizer="l1", alpha=100.0, hidden_layer_sizes=(), max_iter=60
    ).fit(X, y)
    texts = " ".join(skuq.summary(nothing_left).warnings)
    assert "No feature has a nonzero weight" in texts
    assert "No rows were held out" in texts
    assert skuq.summary(nothing_left).items["hidden layers"] == "none (linear)"
    stopped_early = make("ProbabilisticRegressor", "auto", max_iter=2, learning_rate_init=1e-4).fit(X, y)
    assert "max_iter" in " ".join(skuq.summary(stopped_early).warnings)
    many = make("ProbabilisticRegressor", "auto", **QUICK).fit(*regression(2))
    assert skuq.summary(many).items["outputs"] == 2


def test_summary_changes_nothing_and_says_no_to_others():
    X, y = regression()
    model = make("ProbabilisticRegressor", "auto", **QUICK).fit(X, y)
    before = set(vars(model))
    skuq.summary(model, X, y)
    assert set(vars(model)) == before
    with pytest.raises(NotFittedError):
        skuq.summary(make("ProbabilisticRegressor", "auto"))
    with pytest.raises(NotFittedError):
        skuq.summary(make_pipeline(StandardScaler(), make("ProbabilisticRegressor", "auto")))
    with pytest.raises(TypeError, match="Ridge is none of skuq's"):
        skuq.summary(Ridge().fit(X, y))
    with pytest.raises(ValueError, match="belong together"):
        skuq.summary(model, X)


def test_versions_are_those_that_are_installed(capsys):
    skuq.show_versions()
    printed = capsys.readouterr().out
    assert f"scikit-learn: {sklearn.__version__}" in printed
    assert f"numpy: {np.__version__}" in printed
    assert all(backend in printed for backend in skuq.backends.available())
