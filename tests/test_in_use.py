"""The estimators among scikit-learn's own tools."""

import numpy as np
import pandas as pd
import pytest
from _table import (
    assert_same,
    classification,
    each_backend,
    each_classifier,
    each_estimator,
    each_regressor,
    fitted,
    make,
    outputs,
    problem,
    regression,
)
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import BaggingRegressor, StackingClassifier
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import skuq
from skuq.likelihoods import Normal

LONG = {"learning_rate_init": 0.03}


def through_the_module(composite, X) -> dict:
    """What `outputs` asks, of a composite, by the functions of the module."""
    said = {
        "interval": skuq.predict_interval(composite, X, coverage=0.9),
        "quantiles": skuq.predict_quantiles(composite, X),
        **skuq.predict_uncertainty(composite, X)._asdict(),
        "sample": skuq.sample_y(composite, X, 3),
    }
    if hasattr(composite, "predict_proba"):
        said["sample"] = np.searchsorted(composite.classes_, said["sample"])
        said |= {"set": skuq.predict_set(composite, X), "proba": skuq.predict_dist(composite, X).mean()}
    else:
        said["std"] = skuq.predict_dist(composite, X).std()
    return said


# Pipelines


@each_estimator
def test_pipeline(name, backend):
    X, y = problem(name)
    Z = StandardScaler().fit_transform(X)
    pipeline, alone = make_pipeline(StandardScaler(), make(name, backend)).fit(X, y), make(name, backend).fit(Z, y)
    np.testing.assert_array_equal(pipeline.predict(X), alone.predict(Z))
    assert pipeline.score(X, y) == alone.score(Z, y)
    said = outputs(alone, Z)
    for composite, rows in (
        (pipeline, X),
        (make_pipeline(pipeline), X),
        (make_pipeline("passthrough", alone), Z),
        (alone, Z),
    ):
        found = through_the_module(composite, rows)
        assert_same(found, {key: said[key] for key in found})


@each_estimator
def test_columns_of_a_frame(name, backend):
    X, y = problem(name)
    frame = pd.DataFrame(X, columns=["length", "width", "height"])
    frame["kind"] = np.where(X[:, 0] > 0, "big", "small")
    columns = make_column_transformer((StandardScaler(), ["length", "width"]), (OneHotEncoder(), ["kind"]))
    pipeline = make_pipeline(columns, make(name, backend)).fit(frame, y)
    assert pipeline.feature_names_in_.tolist() == frame.columns.tolist()
    assert pipeline[-1].n_features_in_ == 4
    assert pipeline.score(frame, y) > 0.2
    assert skuq.predict_interval(pipeline, frame[:5]).shape[-1] == 2
    reordered = frame[["kind", "height", "width", "length"]]
    np.testing.assert_array_equal(pipeline.predict(reordered), pipeline.predict(frame))


@each_backend
def test_composites_that_cannot_answer_say_so(backend):
    X, y = regression()
    small = make("ProbabilisticRegressor", backend)
    with pytest.raises(NotFittedError):
        skuq.predict_interval(make_pipeline(StandardScaler(), small), X)
    with pytest.raises(NotFittedError):
        skuq.predict_interval(GridSearchCV(small, {"alpha": [0.1]}), X)
    with pytest.raises(TypeError, match=r"LinearRegression has no predict_interval.*expected one of skuq's estimators"):
        skuq.predict_interval(make_pipeline(StandardScaler(), LinearRegression()).fit(X, y), X)
    with pytest.raises(TypeError, match="ProbabilisticRegressor has no predict_set"):
        skuq.predict_set(fitted("ProbabilisticRegressor", backend), X)
    with pytest.raises(ValueError, match=r"coverage must lie strictly between 0 and 1, got 90\. For 90 % pass"):
        skuq.predict_interval(fitted("ProbabilisticRegressor", backend), X, coverage=90)


# Searches


@each_estimator
def test_grid_search(name, backend):
    X, y = problem(name)
    pipeline = make_pipeline(StandardScaler(), make(name, backend))
    step = pipeline.steps[-1][0]
    grid = {f"{step}__alpha": [1e-4, 10.0], f"{step}__regularizer": ["l1", "l2", None]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(X, y)
    # A penalty of 10 leaves nothing, but l2 leaves a Gaussian process its projected inputs; else alpha does nothing.
    scores = search.cv_results_["mean_test_score"]
    strong = [p[f"{step}__alpha"] > 1 and p[f"{step}__regularizer"] is not None for p in search.cv_results_["params"]]
    assert strong[np.argmin(scores)]
    assert search.best_params_ != {f"{step}__alpha": 10.0, f"{step}__regularizer": "l1"}
    assert max(scores) > min(scores)
    said = outputs(search.best_estimator_[-1], search.best_estimator_[:-1].transform(X))
    found = through_the_module(search, X)
    assert_same(found, {key: said[key] for key in found})


@each_backend
def test_grid_search_in_two_processes(backend):
    X, y = regression()
    grid = {"alpha": [1e-4, 1e-2], "regularizer": ["l1", "l2"], "likelihood__scale": ["input", "constant"]}
    model = make("MCDropoutRegressor", backend, likelihood=Normal(), max_iter=20)
    one, two = (GridSearchCV(model, grid, cv=2, n_jobs=n_jobs, error_score="raise").fit(X, y) for n_jobs in (None, 2))
    np.testing.assert_allclose(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"], rtol=1e-6)
    assert_same(outputs(one.best_estimator_, X), outputs(two.best_estimator_, X), rtol=1e-6)


@each_backend
def test_randomized_search(backend):
    X, y = classification(3)
    search = RandomizedSearchCV(
        make("DeepEnsembleClassifier", backend), {"alpha": [1e-4, 1e-3]}, n_iter=2, cv=2, scoring="neg_log_loss"
    ).fit(X, y)
    assert skuq.predict_set(search, X).shape == (len(X), 3)
    assert search.best_score_ > -np.log(3)


# Other meta-estimators


@each_estimator
def test_clone_is_unfitted_and_equal(name, backend):
    model = fitted(name, backend)
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        twin.predict(problem(name)[0])
    X, y = problem(name)
    assert_same(outputs(twin.fit(X, y), X), outputs(model, X))


@each_estimator
def test_cross_val_predict(name, backend):
    X, y = problem(name)
    folds = KFold(3, shuffle=True, random_state=0)
    method = "predict_proba" if name.endswith("Classifier") else "predict"
    found = cross_val_predict(make(name, backend), X, y, cv=folds, method=method)
    train, test = next(folds.split(X))
    np.testing.assert_array_equal(found[test], getattr(make(name, backend).fit(X[train], y[train]), method)(X[test]))


@each_regressor
def test_bagging(name, backend):
    X, y = regression()
    bag = BaggingRegressor(make(name, backend, **LONG), n_estimators=2, random_state=0).fit(X, y)
    assert bag.score(X, y) > 0.4
    # Each member has its own seed and its own weights of the rows.
    assert (bag.estimators_[0].predict(X) != bag.estimators_[1].predict(X)).any()


@each_regressor
def test_transformed_target(name, backend):
    X, y = regression()
    model = TransformedTargetRegressor(make(name, backend), func=np.negative, inverse_func=np.negative).fit(X, -y)
    np.testing.assert_array_equal(model.predict(X), -fitted(name, backend).predict(X))
    on_log = TransformedTargetRegressor(make(name, backend), func=np.log, inverse_func=np.exp)
    assert on_log.fit(X, np.exp(y / 10)).score(X, np.exp(y / 10)) > 0.3


@each_classifier
def test_stacking(name, backend):
    X, y = classification()
    members = [("small", make(name, backend)), ("linear", make(name, backend, hidden_layer_sizes=()))]
    stack = StackingClassifier(members, LogisticRegression(), cv=2).fit(X, y)
    assert stack.score(X, y) > 0.7


@each_classifier
def test_calibration(name, backend):
    X, y = classification(3)
    calibrated = CalibratedClassifierCV(make(name, backend), cv=2).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    assert calibrated.score(X, y) > 0.6


# Metadata routing


@each_estimator
def test_sample_weight_is_routed(name, backend):
    X, y = problem(name)
    weight = np.random.default_rng(0).uniform(0.1, 2, len(y))
    with config_context(enable_metadata_routing=True):
        asking = make(name, backend).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, asking).fit(X, y, sample_weight=weight)
        folds = KFold(2)
        scores = cross_validate(asking, X, y, cv=folds, params={"sample_weight": weight})["test_score"]
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            make_pipeline(scaler, make(name, backend)).fit(X, y, sample_weight=weight)
    Z = StandardScaler().fit_transform(X)
    assert_same(outputs(pipeline[-1], Z), outputs(make(name, backend).fit(Z, y, weight), Z))
    for score, (train, test) in zip(scores, folds.split(X), strict=True):
        alone = make(name, backend).fit(X[train], y[train], weight[train])
        assert score == pytest.approx(alone.score(X[test], y[test], weight[test]))


# Sparse rows


@each_estimator
def test_sparse_rows_are_dense_rows(name, backend):
    X, y = problem(name)
    X = np.where(np.abs(X) > 0.3, X, 0.0)
    model = make(name, backend).fit(X, y)
    said = outputs(model, X)
    for convert in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
        assert_same(outputs(model, convert(X)), said)
    assert_same(outputs(make(name, backend).fit(sparse.csr_array(X), y), X), said)


@each_backend
def test_sparse_rows_in_a_pipeline(backend):
    X, y = classification()
    binary = FunctionTransformer(lambda X: sparse.csr_array(X > 0, dtype=float))
    pipeline = make_pipeline(binary, make("SNGPClassifier", backend)).fit(X, y)
    assert pipeline.score(X, y) > 0.6
    assert skuq.predict_interval(pipeline, X).shape == (len(X), 2, 2)


class Recorder:
    """A callback of scikit-learn's protocol that notes what it is told, and asks to stop after some epochs."""

    max_propagation_depth = None

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events = []

    def setup(self, estimator, context):
        self.events.append("setup")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.events.append(f"end {context.task_name}")
        if context.task_name == "fit" and hasattr(fitted_estimator, "predict"):
            self.events.append(len(fitted_estimator.predict(regression()[0][:20])))
        n_epochs = self.events.count("end epoch")
        return context.task_name == "epoch" and self.stop_after is not None and n_epochs >= self.stop_after

    def teardown(self, estimator, context):
        self.events.append("teardown")


@each_backend
def test_callbacks_see_every_epoch(backend):
    """scikit-learn's callbacks: each epoch is a task below training, which is one below the fit."""
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    recorder = Recorder()
    model = skuq.ProbabilisticRegressor(max_iter=7, early_stopping=False, backend=backend, random_state=0)
    plain = clone(model).fit(*regression())
    model.set_callbacks(recorder).fit(*regression())
    epochs = ["begin epoch", "end epoch"] * 7
    assert recorder.events == ["setup", "begin fit", "begin train", *epochs, "end train", "end fit", 20, "teardown"]
    np.testing.assert_array_equal(model.predict(regression()[0]), plain.predict(regression()[0]))


@each_backend
def test_a_callback_ends_training_early(backend):
    """A true answer at the end of an epoch stops training with the weights of that moment."""
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    model = skuq.ProbabilisticRegressor(max_iter=100_000, early_stopping=False, backend=backend, random_state=0)
    model.set_callbacks(Recorder(stop_after=3)).fit(*regression())
    assert 3 <= model.n_iter_ < 100_000
    assert np.isfinite(model.predict(regression()[0])).all()


def test_callbacks_are_torn_down_after_a_fit_that_fails():
    """What was fitted before stays, and the callback hears of the end."""
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    recorder = Recorder()
    model = skuq.ProbabilisticRegressor(max_iter=2, random_state=0).fit(*regression())
    before = model.predict(regression()[0])
    with pytest.raises(ValueError, match="NaN"):
        model.set_callbacks(recorder).fit([[np.nan], [1.0]], [0.0, 1.0])
    assert recorder.events[-1] == "teardown"
    np.testing.assert_array_equal(model.predict(regression()[0]), before)


@each_backend
def test_callbacks_reach_an_estimator_within_a_search(backend):
    """A callback on the search is told of the epochs of each fit inside it."""
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    recorder = Recorder()
    model = skuq.ProbabilisticRegressor(max_iter=3, early_stopping=False, backend=backend, random_state=0)
    search = GridSearchCV(make_pipeline(StandardScaler(), model), {"probabilisticregressor__alpha": [0.1, 1.0]}, cv=2)
    search.set_callbacks(recorder).fit(*regression())
    assert recorder.events.count("end epoch") == 3 * (2 * 2 + 1)
