"""``n_jobs``: groups of ensemble members in joblib workers give what the whole ensemble gives in one process."""

import os
import pickle
import threading

import joblib
import numpy as np
import pytest
from _table import assert_same, case, each_backend, fitted, make, outputs, problem
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from test_processes import MODULES, run_python

from skuq import backends
from skuq._data.folds import Part
from skuq._training import jobs
from skuq._training.jobs import group_members, join_outcomes
from skuq._training.loop import Batches, Outcome, Rows, Schedule

ENSEMBLES = ["DeepEnsembleRegressor", "DeepEnsembleClassifier"]
each_ensemble = pytest.mark.parametrize(
    ("name", "backend"), [case(backend, name) for backend in backends.BACKENDS for name in ENSEMBLES]
)
TO_THE_END = {"early_stopping": False, "max_iter": 20}


def weights(model):
    return model._state.parameters


@each_ensemble
def test_groups_train_the_members_of_the_whole_ensemble(name, backend):
    X, y = problem(name)
    whole = make(name, backend, **TO_THE_END).fit(X, y)
    model = make(name, backend, n_jobs=2, **TO_THE_END).fit(X, y)
    np.testing.assert_allclose(weights(model), weights(whole), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(model.loss_curve_, whole.loss_curve_, rtol=1e-3, atol=1e-4)
    assert_same(outputs(model, X), outputs(whole, X), rtol=1e-2, atol=1e-2)
    assert model.n_iter_ == len(model.loss_curve_) == 20
    assert model.validation_loss_curve_ is None
    # More jobs than members is one group for each.
    alone = make(name, backend, n_jobs=8, **TO_THE_END)
    with joblib.parallel_config("threading"):
        np.testing.assert_allclose(weights(alone.fit(X, y)), weights(whole), rtol=1e-3, atol=1e-4)


@each_ensemble
def test_groups_hold_rows_out(name, backend):
    X, y = problem(name)
    whole = fitted(name, backend, early_stopping=True, n_iter_no_change=60)
    model = make(name, backend, n_jobs=2, early_stopping=True, n_iter_no_change=60).fit(X, y)
    assert model.n_iter_ == whole.n_iter_ == len(model.loss_curve_)
    np.testing.assert_allclose(model.validation_loss_curve_, whole.validation_loss_curve_, rtol=0.05, atol=0.05)
    np.testing.assert_allclose(model._state.noise.scale, whole._state.noise.scale, rtol=0.05)
    # Each group stops when it has done what it can.
    impatient = make(name, backend, n_jobs=2, early_stopping=True, n_iter_no_change=3, tol=0.05, max_iter=300)
    impatient.fit(X, y)
    assert impatient.n_iter_ < 200
    assert impatient.n_iter_ == len(impatient.loss_curve_)


@each_backend
def test_numbers_are_those_of_the_number_of_jobs(backend):
    X, y = problem("DeepEnsembleRegressor")
    model = make("DeepEnsembleRegressor", backend, n_jobs=2, dropout_rate=0.1, max_iter=20)
    said = outputs(model.fit(X, y), X)
    assert_same(outputs(clone(model).fit(X, y), X), said)
    for name in ("threading", "sequential"):
        with joblib.parallel_config(name):
            assert_same(outputs(clone(model).fit(X, y), X), said)
    # Groups do not draw the same dropout masks.
    one = make("DeepEnsembleRegressor", backend, n_jobs=3, dropout_rate=0.5, max_iter=2, warm_start=True, alpha=0)
    one.set_params(n_members=1, n_jobs=None, shuffle=False, early_stopping=False, batch_size=96).fit(X, y)
    one.set_params(n_members=3, n_jobs=3).fit(X, y)
    assert np.abs(np.diff(weights(one), axis=0)).max() > 1e-4


@each_backend
def test_spawned_workers_and_none_of_the_frameworks_here(backend, tmp_path):
    run_python(
        """
import os
os.environ["JOBLIB_START_METHOD"] = "spawn"
import joblib
from _table import make, outputs, problem
X, y = problem("DeepEnsembleRegressor")
model = make("DeepEnsembleRegressor", sys.argv[2], n_jobs=2, max_iter=20)
with joblib.parallel_config("multiprocessing"):
    model.fit(X, y)
assert not set(sys.argv[3].split(",")) & set(sys.modules)
joblib.dump(outputs(model, X), sys.argv[1] + "/said.joblib")
""",
        tmp_path,
        backend,
        ",".join(MODULES[backend]),
    )
    X, y = problem("DeepEnsembleRegressor")
    model = make("DeepEnsembleRegressor", backend, n_jobs=2, max_iter=20).fit(X, y)
    assert_same(joblib.load(tmp_path / "said.joblib"), outputs(model, X))


def trains_in_one_thread(model, X, y):
    """Fit, and say whether all groups trained in this thread of this process."""
    train_group, seen = jobs.train_group, set()

    def witnessed(*arguments):
        seen.add((os.getpid(), threading.get_ident()))
        return train_group(*arguments)

    jobs.train_group = witnessed
    try:
        model.fit(X, y)
    finally:
        jobs.train_group = train_group
    return seen == {(os.getpid(), threading.get_ident())}


@each_backend
def test_inside_a_parallel_call_groups_train_one_after_the_other(backend):
    X, y = problem("DeepEnsembleClassifier")
    model = make("DeepEnsembleClassifier", backend, n_jobs=2, max_iter=10)
    nested = joblib.Parallel(n_jobs=2)(joblib.delayed(trains_in_one_thread)(model, X, y) for _ in range(2))
    assert nested == [True, True]
    with joblib.parallel_config("threading"):
        assert not trains_in_one_thread(clone(model), X, y)
    search = GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=2, n_jobs=2).fit(X, y)
    said = outputs(search.best_estimator_, X)
    assert_same(outputs(clone(search.best_estimator_).fit(X, y), X), said)


@each_backend
def test_sparse_rows_weights_and_large_arrays_reach_the_workers(backend):
    from scipy import sparse

    rng = np.random.default_rng(0)
    X = rng.normal(size=(2500, 60)) * (rng.random((2500, 60)) < 0.9)  # above 1 MB joblib maps arrays, read-only
    y = X[:, 0] + 0.1 * rng.normal(size=2500)
    model = make("DeepEnsembleRegressor", backend, n_members=2, n_jobs=2, max_iter=5, early_stopping=True)
    for rows in (X, sparse.csr_array(X)):
        model.fit(rows, y, sample_weight=rng.uniform(0.5, 2, 2500))
        assert model.score(rows, y) > 0.5


@each_ensemble
def test_divergence_in_workers_warns_here_once(name, backend):
    X, y = problem(name)
    model = make(name, backend, n_jobs=2, learning_rate_init=1e6, learning_rate="constant")
    with pytest.warns(ConvergenceWarning, match=r"Training stopped.*Lower learning_rate_init") as caught:
        model.fit(X, y)
    assert len(caught) <= 2
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())
    model.set_params(learning_rate_init=1e-4, max_iter=12, tol=0.0, n_iter_no_change=12, early_stopping=False)
    with pytest.warns(ConvergenceWarning, match="^Training reached max_iter=12 epochs") as caught:
        model.fit(X, y)
    assert len(caught) == 1


@each_backend
@pytest.mark.parametrize("parallel", ["loky", "threading"])
def test_interruption_keeps_the_best_weights_of_every_group(backend, parallel):
    run_python(
        """
import os, signal, threading, time, warnings
import joblib, numpy as np
from _table import make, outputs, problem

def press_when_it_is_listened_for():
    while signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with Ctrl-C ignored
threading.Thread(target=press_when_it_is_listened_for, daemon=True).start()
X, y = problem("DeepEnsembleRegressor")
model = make("DeepEnsembleRegressor", sys.argv[1], n_jobs=2, max_iter=1_000_000)
with joblib.parallel_config(sys.argv[2]), warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.fit(X, y)
assert [str(w.message) for w in caught] == ["Training interrupted by user; the best weights so far are kept."], caught
assert all(np.isfinite(value).all() for value in outputs(model, X).values())
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
""",
        backend,
        parallel,
    )


@each_backend
def test_parameter_is_stored_set_and_checked(backend):
    X, y = problem("DeepEnsembleRegressor")
    model = make("DeepEnsembleRegressor", backend, max_iter=5, n_jobs=2).fit(X, y)
    twin = pickle.loads(pickle.dumps(model))
    assert twin.n_jobs == 2
    assert_same(outputs(twin, X), outputs(model, X))
    assert_same(outputs(twin.set_params(n_jobs=1), X), outputs(model, X))
    plain = make("DeepEnsembleRegressor", backend, max_iter=5).fit(X, y)
    assert_same(outputs(twin.fit(X, y), X), outputs(plain, X))
    with pytest.raises(ValueError, match="n_jobs"):
        model.set_params(n_jobs=0).fit(X, y)


@each_backend
def test_verbose_reports_groups(backend, capfd):
    X, y = problem("DeepEnsembleRegressor")
    make("DeepEnsembleRegressor", backend, max_iter=5, n_jobs=2, verbose=True).fit(X, y)
    assert "Done   2 out of   2" in capfd.readouterr().err
    make("DeepEnsembleRegressor", backend, max_iter=5, n_jobs=2).fit(X, y)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("n_jobs", "sizes"), [(None, [5]), (1, [5]), (2, [3, 2]), (4, [2, 1, 1, 1]), (9, [1] * 5), (-(10**6), [5])]
)
def test_groups_are_nearly_equal(n_jobs, sizes):
    groups = group_members(5, n_jobs)
    assert [len(which) for which in groups] == sizes
    assert np.concatenate(groups).tolist() == list(range(5))
    assert len(group_members(10**4, -1)) == joblib.cpu_count()


def test_every_group_takes_the_steps_of_the_largest_training_set():
    rows = Rows(np.zeros((34, 1)), np.zeros((34, 1)), np.ones(34), np.ones(34, int))
    own = [Part(np.arange(33)), Part(np.arange(32))]
    schedule = Schedule(
        n_epochs=1, batch_size=16, learning_rate_init=0.1, learning_rate="constant", shuffle=True, tol=0, patience=1
    )
    assert Batches(rows, own[1:], schedule, [np.random.default_rng(0)]).n_steps == 2
    both = Batches(rows, own, schedule, [np.random.default_rng(seed) for seed in (0, 1)])
    group = Batches(rows, own[1:], schedule, [np.random.default_rng(1)], epoch_rows=33)
    for whole, part in zip(both.take(6), group.take(6), strict=True):
        np.testing.assert_array_equal(whole[:, 1:], part)


def test_outcomes_are_joined_over_members():
    late = UserWarning("late")
    joined = join_outcomes(
        [np.array([0, 1, 2]), np.array([3])],
        [
            Outcome(np.zeros((3, 2)), 3, [4.0, 2.0, 1.0], [1.0], [ConvergenceWarning("slow")]),
            Outcome(np.ones((1, 2)), 2, [8.0, 2.0], [], [ConvergenceWarning("slow"), late]),
        ],
    )
    np.testing.assert_array_equal(joined.parameters, [[0, 0], [0, 0], [0, 0], [1, 1]])
    assert joined.n_epochs == 3
    # The group that stopped stays where it was.
    assert joined.losses == [5.0, 2.0, 1.25]
    assert joined.held_out_losses == [1.0]
    assert [(type(w), str(w)) for w in joined.warnings] == [
        (ConvergenceWarning, "slow"),
        (UserWarning, "Member 3: late"),
    ]
