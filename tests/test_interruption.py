"""Ctrl-C: one fit keeps its best weights, many fits end, and nothing that is left behind is half made."""

import warnings

import numpy as np
import pytest
from _table import assert_same, case, each_backend, make, outputs, problem
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skuq import UncertaintyTransformer, backends
from skuq.calibration import ConformalRegressor


@pytest.fixture
def press(monkeypatch):
    """Function that makes the n-th trainer from now on meet Ctrl-C in its first steps; gives the list of all trainers."""

    def arm(backend, nth):
        trainer = backends.load(backend).Trainer
        start, run, trainers = trainer.__init__, trainer.run, []

        def counted(self, *args, **kwargs):
            trainers.append(self)
            start(self, *args, **kwargs)

        def interrupted(self, *args):
            if len(trainers) == nth and self is trainers[-1]:
                raise KeyboardInterrupt
            return run(self, *args)

        monkeypatch.setattr(trainer, "__init__", counted)
        monkeypatch.setattr(trainer, "run", interrupted)
        return trainers

    return arm


def fit_all(model, X, y):
    """Fit, and return what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    return [str(warning.message) for warning in caught]


CALIBRATED = [("ProbabilisticRegressor", "conformal"), ("MCDropoutClassifier", "temperature")]


@pytest.mark.parametrize("nth", [1, 2, 4])
@pytest.mark.parametrize(
    ("name", "calibration", "backend"), [case(backend, *row) for backend in backends.BACKENDS for row in CALIBRATED]
)
def test_calibration_ends_and_the_model_is_kept(name, calibration, backend, nth, press):
    X, y = problem(name)
    trainers = press(backend, nth)
    model = make(name, backend, max_iter=5, calibration=calibration)
    said = fit_all(model, X, y)
    assert len(trainers) == nth
    assert f"Interrupted by user before calibration='{calibration}' was done" in said[-1]
    assert ("the best weights so far are kept" in said[0]) == (nth == 1)
    assert not hasattr(model, "temperature_")
    if nth > 1:  # the estimator itself had been trained: it answers as it does without calibration
        assert_same(outputs(model, X), outputs(make(name, backend, max_iter=5).fit(X, y), X))
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())
    # The next fit is whole again.
    before = len(trainers)
    assert not fit_all(model, X, y)
    assert len(trainers) == before + 6


MANY = {
    "search": lambda model, X, y: GridSearchCV(model, {"alpha": [0.0, 0.1, 1.0]}, cv=3).fit(X, y),
    "pipeline": lambda model, X, y: cross_validate(make_pipeline(StandardScaler(), model), X, y),
    "cross_val_predict": lambda model, X, y: cross_val_predict(model, X, y),
    "bagging": lambda model, X, y: BaggingRegressor(model, 4).fit(X, y),
    "conformal": lambda model, X, y: ConformalRegressor(model, method="cross").fit(X, y),
    "transformer": lambda model, X, y: UncertaintyTransformer(model, cv=3).fit_transform(X, y),
    "calibrated": lambda model, X, y: cross_validate(model.set_params(calibration="conformal"), X, y),
}


@pytest.mark.parametrize("many", MANY)
@each_backend
def test_many_fits_end(many, backend, press):
    X, y = problem("ProbabilisticRegressor")
    trainers = press(backend, 2)
    with pytest.raises(KeyboardInterrupt):
        MANY[many](make("ProbabilisticRegressor", backend, max_iter=5), X, y)
    assert len(trainers) == 2


ONE = {
    "pipeline": lambda model: make_pipeline(StandardScaler(), model),
    "target": lambda model: TransformedTargetRegressor(model),
    "split": lambda model: ConformalRegressor(model, method="split"),
}


@pytest.mark.parametrize("one", ONE)
@each_backend
def test_one_fit_within_another_estimator_is_kept(one, backend, press):
    X, y = problem("ProbabilisticRegressor")
    press(backend, 1)
    model = ONE[one](make("ProbabilisticRegressor", backend, max_iter=5))
    assert any("the best weights so far are kept" in text for text in fit_all(model, X, y))
    assert np.isfinite(model.predict(X)).all()


@each_backend
def test_the_last_fit_of_a_search_does_not_cost_its_scores(backend, press):
    X, y = problem("ProbabilisticRegressor")
    press(backend, 5)
    search = GridSearchCV(make("ProbabilisticRegressor", backend, max_iter=5), {"alpha": [0.0, 0.1]}, cv=2)
    assert any("the best weights so far are kept" in text for text in fit_all(search, X, y))
    assert len(search.cv_results_["params"]) == 2
