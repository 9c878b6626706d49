"""On disk, in other processes, and beside other users of the same libraries."""

import os
import pickle
import random
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from time import sleep

import joblib
import numpy as np
import pytest
from _table import ESTIMATORS, assert_same, case, each_backend, each_estimator, fitted, make, outputs, problem
from sklearn import config_context

from skuq._model import threads
from skuq._model.threads import _blas, parallel_map, single_blas_thread

MODULES = {"tensorflow": ["tensorflow", "tensorflow_probability", "tf_keras", "keras"], "blitz": ["torch", "blitz"]}
# One of each method, in both tasks.
SOME = ["ProbabilisticRegressor", "MCDropoutClassifier", "DeepEnsembleRegressor", "BNNClassifier", "SNGPRegressor"]


def run_python(code, *arguments):
    """Run `code` in a fresh interpreter, beside the table of estimators."""
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@each_estimator
def test_pickle_keeps_every_answer(name, backend):
    X, _ = problem(name)
    model = fitted(name, backend)
    twin = pickle.loads(pickle.dumps(model))
    assert_same(outputs(twin, X), outputs(model, X))
    assert repr(twin) == repr(model)
    # A copy can train on.
    assert_same(outputs(twin.fit(*problem(name)), X), outputs(model, X))


@each_backend
def test_saved_estimators_predict_where_the_framework_is_missing(backend, tmp_path):
    models = {name: fitted(name, backend) for name in ESTIMATORS}
    joblib.dump(models, tmp_path / "models.joblib")
    run_python(
        """
from importlib.machinery import PathFinder
missing, find = sys.argv[2].split(","), PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.split(".")[0] in missing else find(name, *rest)
import joblib
from _table import outputs, problem
models = joblib.load(sys.argv[1] + "/models.joblib")
said = {name: outputs(model, problem(name)[0]) for name, model in models.items()}
joblib.dump(said, sys.argv[1] + "/said.joblib")
try:
    models["BNNRegressor"].fit(*problem("BNNRegressor"))
except ImportError as error:
    assert "pip install" in str(error)
else:
    raise AssertionError("trained without a framework")
assert not set(missing) & set(sys.modules)
""",
        tmp_path,
        ",".join(MODULES[backend]),
    )
    said = joblib.load(tmp_path / "said.joblib")
    for name, model in models.items():
        assert_same(said[name], outputs(model, problem(name)[0]))


@each_backend
def test_another_process_gives_the_same_numbers(backend, tmp_path):
    run_python(
        """
import joblib, numpy as np
from _table import make, outputs, problem
np.random.seed(123)  # a stranger's state
said = {}
for name in sys.argv[3].split(","):
    X, y = problem(name)
    said[name] = outputs(make(name, sys.argv[2]).fit(X, y), X)
joblib.dump(said, sys.argv[1] + "/said.joblib")
""",
        tmp_path,
        backend,
        ",".join(SOME),
    )
    said = joblib.load(tmp_path / "said.joblib")
    for name in SOME:
        assert_same(outputs(fitted(name, backend), problem(name)[0]), said[name])


@each_backend
def test_only_one_framework_is_imported(backend):
    other = "blitz" if backend == "tensorflow" else "tensorflow"
    run_python(
        """
from _table import make, problem
make("BNNRegressor", sys.argv[1]).fit(*problem("BNNRegressor"))
loaded = set(sys.argv[2].split(",")) & set(sys.modules)
assert not loaded, loaded
""",
        backend,
        ",".join(MODULES[other]),
    )


def generator_states(backend):
    """What the global generators would give next, without taking it from them."""
    states = [repr(np.random.get_state(legacy=False)), random.getstate()]  # noqa: NPY002
    if backend == "blitz":
        import torch

        return [
            *states,
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            torch.get_default_dtype(),
        ]
    import tensorflow as tf

    context = __import__("tensorflow.python.eager.context", fromlist=["context"]).context()
    return [
        *states,
        tf.random.get_global_generator().state.numpy().tolist(),
        context._seed,
        context._rng and context._rng.getstate(),
    ]


@each_estimator
def test_global_generators_are_left_alone(name, backend):
    X, y = problem(name)
    if backend == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(5)
        tf.random.normal(())
    before = generator_states(backend)
    model = make(name, backend, max_iter=3).fit(X, y)
    outputs(model, X)
    assert generator_states(backend) == before


@each_estimator
def test_global_seeds_decide_nothing(name, backend):
    X, y = problem(name)
    model = make(name, backend)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    if backend == "blitz":
        import torch

        torch.manual_seed(99)
    else:
        import tensorflow as tf

        tf.random.set_seed(99)
    assert_same(outputs(model.fit(X, y), X), outputs(fitted(name, backend), X))


@each_backend
def test_estimators_in_threads_do_not_disturb_each_other(backend):
    names = [name for name in SOME for _ in range(2)]
    if backend not in MODULES:
        pytest.skip("unknown backend")
    models = joblib.Parallel(n_jobs=4, backend="threading")(
        joblib.delayed(lambda name: make(name, backend).fit(*problem(name)))(name) for name in names
    )
    for name, model in zip(names, models, strict=True):
        X, _ = problem(name)
        assert_same(outputs(model, X), outputs(fitted(name, backend), X))


def test_blas_gets_its_threads_back_in_whatever_order_threads_leave():
    def threads():
        return {library["filepath"]: library["num_threads"] for library in _blas().info()}

    before = threads()
    if not before:
        pytest.skip("NumPy's BLAS is not one that can be limited")
    with ExitStack() as first, ExitStack() as second:
        assert first.enter_context(single_blas_thread()) == max(before.values())
        assert second.enter_context(single_blas_thread()) == 1
        first.close()
        assert set(threads().values()) == {1}
    assert threads() == before


@pytest.mark.parametrize("n_blocks", [0, 1, 2, 3, 20])
def test_blocks_are_shared_out_to_threads_that_begin_together(n_blocks, monkeypatch):
    monkeypatch.setattr(threads, "single_blas_thread", lambda: nullcontext(3))
    start, before, there = threading.Thread.start, threading.active_count(), []

    def slow_start(thread):
        start(thread)
        sleep(0.02)  # time enough for a thread that waits for nobody to begin alone

    monkeypatch.setattr(threading.Thread, "start", slow_start)

    def work(block):
        there.append(threading.active_count() - before)
        return block**2

    with parallel_map(n_blocks) as each:
        assert each(work, range(n_blocks)) == [block**2 for block in range(n_blocks)]
        assert there[:1] == [[], [0], [2], [3]][min(n_blocks, 3)]
        # Once more on the same threads, and what a block raises is raised.
        assert each(abs, range(n_blocks)) == list(range(n_blocks))
        if n_blocks:
            with pytest.raises(ZeroDivisionError):
                each(lambda block: 1 // block, range(n_blocks))


def test_a_thread_does_not_wait_for_ever_for_one_that_cannot_start(monkeypatch):
    monkeypatch.setattr(threads, "LONGEST_WAIT", 0.01)
    threads._meet(threading.Barrier(2))


def settings_of_torch(setting):
    """A context in which a user's torch has that setting, and puts it back."""
    import torch

    if setting == "autocast":
        return torch.autocast("cpu", torch.bfloat16)
    if setting == "default device":
        return torch.device("meta")  # what does not name its device ends up without numbers

    @contextmanager
    def default_dtype():
        before = torch.get_default_dtype()
        torch.set_default_dtype(getattr(torch, setting))
        try:
            yield
            assert torch.get_default_dtype() == getattr(torch, setting)
        finally:
            torch.set_default_dtype(before)

    return default_dtype()


@pytest.mark.parametrize("setting", ["float64", "float16", "default device", "autocast"])
@pytest.mark.parametrize(("name", "backend"), [case("blitz", name) for name in ESTIMATORS])
def test_settings_of_torch_change_no_number(name, backend, setting):
    import torch

    X, y = problem(name)
    expected = fitted(name, backend)
    rows = torch.as_tensor(X, dtype=torch.float64)
    with settings_of_torch(setting):
        model = make(name, backend).fit(X, y)
        assert_same(outputs(model, X), outputs(expected, X))
        native = model.to_native()
    for network in native if isinstance(native, list) else [native]:
        assert {p.dtype for p in network.parameters()} == {torch.float32}
        network(rows)
    assert_same(outputs(model.from_native(native), X), outputs(expected, X), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "backend"), [case("tensorflow", name) for name in SOME])
def test_fits_inside_a_graph_of_tensorflow(name, backend):
    import tensorflow as tf

    X, y = problem(name)
    with tf.Graph().as_default() as graph:
        model = make(name, backend).fit(X, y)
        native = model.to_native()
        assert not graph.get_operations()
    assert_same(outputs(model, X), outputs(fitted(name, backend), X))
    assert_same(outputs(model.from_native(native), X), outputs(fitted(name, backend), X), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("backend", [case("tensorflow")])
def test_fits_without_eager_execution(backend, tmp_path):
    run_python(
        """
import joblib
import tensorflow as tf
from _table import make, outputs, problem
tf.compat.v1.disable_eager_execution()
X, y = problem("BNNRegressor")
joblib.dump(outputs(make("BNNRegressor", sys.argv[1]).fit(X, y), X), sys.argv[2] + "/said.joblib")
assert not tf.executing_eagerly()
""",
        backend,
        tmp_path,
    )
    X, _ = problem("BNNRegressor")
    assert_same(joblib.load(tmp_path / "said.joblib"), outputs(fitted("BNNRegressor", backend), X))


@each_backend
@pytest.mark.parametrize("name", SOME)
def test_settings_of_numpy_and_scikit_learn_change_no_number(name, backend):
    X, y = problem(name)
    with np.errstate(all="raise"), config_context(transform_output="pandas", assume_finite=True, display="text"):
        model = make(name, backend).fit(X, y)
        said = outputs(model, X)
        assert set(np.geterr().values()) == {"raise"}
    assert_same(said, outputs(fitted(name, backend), X))


@each_backend
@pytest.mark.parametrize("how", ["fork", "joblib"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_predicts_and_refuses_to_train(backend, how):
    # In a process of its own with an alarm: a fit that hangs ends there.
    said = run_python(
        """
import multiprocessing, signal
import joblib, numpy as np
from _table import assert_same, make, outputs
signal.alarm(120)
rng = np.random.default_rng(0)
X = rng.normal(size=(600, 30))
y = X[:, 0] + rng.normal(size=600)
wide = dict(hidden_layer_sizes=(512, 512), batch_size=600, max_iter=2)  # enough for several threads

def work(seed):
    signal.alarm(30)
    assert_same(outputs(model, X), expected)
    try:
        make("ProbabilisticRegressor", sys.argv[1], random_state=seed, **wide).fit(X, y)
    except RuntimeError as error:
        return str(error)
    return "fitted"

model = make("ProbabilisticRegressor", sys.argv[1], **wide).fit(X, y)
expected = outputs(model, X)
if sys.argv[2] == "fork":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        said = pool.map(work, range(2))
else:
    with joblib.parallel_config("multiprocessing"):
        said = joblib.Parallel(2)(joblib.delayed(work)(seed) for seed in range(2))
print(*said, sep="\\n")
make("ProbabilisticRegressor", sys.argv[1], **wide).fit(X, y)  # the parent goes on
""",
        backend,
        how,
    )
    assert said.count("was forked from") == said.count("get_context('spawn')") == 2


@each_backend
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_trains_if_nobody_had(backend):
    said = run_python(
        """
import multiprocessing, signal
from _table import make, problem
signal.alarm(120)
def work(_):
    make("ProbabilisticRegressor", sys.argv[1]).fit(*problem("ProbabilisticRegressor"))
    return "fitted"
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map(work, range(2)))
""",
        backend,
    )
    assert said.count("fitted") == 2
