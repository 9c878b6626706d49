"""Files of skuq.save: what was saved comes back to the last bit, nothing else does, and nothing in them runs."""

import errno
import json
import os
import pickle
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from _table import CLASSIFIERS, ESTIMATORS, REGRESSORS, assert_same, each_estimator, make, outputs, problem
from scipy import sparse, stats
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io as skops_io

import skuq
from skuq import backends
from skuq._files import container, registry
from skuq.calibration import ConformalClassifier, ConformalRegressor
from skuq.likelihoods import Likelihood, Normal, Parameter, Poisson, StudentT
from skuq.utils import trusted_types

KEPT = sorted((Path(__file__).parent / "files").glob("*/*.skuq"))
# What is arrays now does not depend on who trained it.
BACKEND = "blitz" if "blitz" in backends.available() else "auto"
QUICK = {"max_iter": 2, "hidden_layer_sizes": (4,)}


class Gumbel(Likelihood):
    """Of the user's own, with a link of its own."""

    def parameters(self):
        def wide(xp, raw):
            return xp.softplus(raw) + 0.1

        return Parameter("loc", "identity", "input"), Parameter("scale", wide, "constant", 1e-3)

    def log_density(self, xp, y, parameters):
        z = (y - parameters["loc"]) / parameters["scale"]
        return -z - xp.exp(-z) - xp.log(parameters["scale"])

    def distribution(self, parameters):
        return stats.gumbel_r(parameters["loc"], parameters["scale"])


def quick(name, backend=BACKEND, kind=None, **changes):
    """An estimator of two epochs."""
    X, y = problem(name, kind)
    return make(name, backend, kind, **{**QUICK, **changes}).fit(X, y)


def again(model, folder, **options):
    """The model, through a file."""
    path = folder / "model.skuq"
    skuq.save(model, path)
    return skuq.load(path, **options)


def assert_identical(found, expected, where="model"):
    """Equal types, equal numbers to the last bit, equal order in memory; all the way down."""
    assert type(found) is type(expected), where
    if isinstance(expected, np.ndarray) and expected.dtype != object:
        assert found.dtype == expected.dtype, where
        assert found.shape == expected.shape, where
        assert found.tobytes() == expected.tobytes(), where
        assert found.flags.f_contiguous == expected.flags.f_contiguous, where
    elif isinstance(expected, (list, tuple)) or (isinstance(expected, np.ndarray) and expected.dtype == object):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_identical(a, b, f"{where}[{i}]")
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_identical(found[key], expected[key], f"{where}[{key!r}]")
    elif isinstance(expected, np.random.RandomState):
        np.testing.assert_equal(found.get_state(), expected.get_state(), where)
    elif sparse.issparse(expected):
        assert_identical(
            [found.data, found.indices, found.indptr], [expected.data, expected.indices, expected.indptr], where
        )
    elif is_dataclass(expected) and not hasattr(expected, "get_params"):
        for f in fields(expected):
            assert_identical(getattr(found, f.name), getattr(expected, f.name), f"{where}.{f.name}")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True))
    elif hasattr(expected, "get_params") or isinstance(expected, KFold):
        assert_identical(dict(sorted(vars(found).items())), dict(sorted(vars(expected).items())), where)
    elif isinstance(expected, float):
        assert np.array([found]).tobytes() == np.array([expected]).tobytes(), where
    else:
        assert found == expected, where


@each_estimator
def test_a_round_trip_changes_no_bit(name, backend, tmp_path):
    model = quick(name, backend)
    loaded = again(model, tmp_path)
    assert_identical(loaded, model)
    assert_same(outputs(loaded, problem(name)[0]), outputs(model, problem(name)[0]))


CALIBRATED = [*((name, "conformal") for name in ESTIMATORS), *((name, "temperature") for name in CLASSIFIERS)]


@pytest.mark.parametrize(("name", "calibration"), CALIBRATED)
def test_what_held_out_rows_said_is_kept(name, calibration, tmp_path):
    model = quick(name, calibration=calibration, max_iter=1)
    loaded = again(model, tmp_path)
    assert_identical(loaded, model)
    assert_same(outputs(loaded, problem(name)[0]), outputs(model, problem(name)[0]))


def exposed():
    years = np.linspace(0.5, 3, 96)
    X = pd.DataFrame({"a": np.sin(np.arange(96.0)), "years": years, "Ωμέγα": np.arange(96.0)})
    return skuq.ProbabilisticRegressor(likelihood=Poisson(exposure="years"), random_state=0), X, np.rint(years * 3)


def of_sparse_rows():
    return (skuq.SNGPRegressor(n_inducing=16, random_state=0), *problem("Regressor", "sparse"))


def odd(name, **changes):
    return lambda: (make(name, BACKEND, **changes), *problem(name))


def seed_in_use():
    seed = np.random.RandomState(3)
    seed.normal()  # leaves a second number for the next call
    return make("ProbabilisticRegressor", BACKEND, random_state=seed), *problem("Regressor")


def classes(labels, **changes):
    def made():
        X, y = problem("Classifier", 3)
        return make("ProbabilisticClassifier", BACKEND, **changes), X, labels[np.unique(y, return_inverse=True)[1]]

    return made


ODD = {
    "exposure": exposed,
    "sparse rows": of_sparse_rows,
    "seed in use": seed_in_use,
    "numpy numbers": odd("ProbabilisticRegressor", alpha=np.float32(1e-3), max_iter=np.int64(2), tol=np.float64(0.0)),
    "array of sizes": odd("ProbabilisticRegressor", hidden_layer_sizes=np.array([4, 3])),
    "list of sizes": odd("MCDropoutRegressor", hidden_layer_sizes=[4, 4], architecture="resnet"),
    "linear": odd("ProbabilisticRegressor", hidden_layer_sizes=(), regularizer="l1", alpha=0.1),
    "constant noise": odd("BNNRegressor", likelihood=Normal(scale="constant"), prior="scale_mixture"),
    "fixed numbers": odd("DeepEnsembleRegressor", likelihood=StudentT(scale=2.5, df=np.float64(4.0))),
    "periodic": odd("ProbabilisticRegressor", input_encoding="periodic", n_frequencies=2),
    "bins": odd("BNNRegressor", input_encoding="piecewise_linear", n_bins=3),
    "full covariance": odd("BNNClassifier", posterior="full_covariance"),
    "one covariance a class": odd("SNGPClassifier", covariance="per_class"),
    "continued": odd("ProbabilisticClassifier", warm_start=True, calibration="temperature"),
    "integers": classes(np.array([7, -3, 2**40])),
    "unsigned": classes(np.array([3, 1, 2], np.uint8)),
    "booleans and weights": classes(np.array([True, False, True]), class_weight={True: 2.0, False: 1.0}),
    "objects": classes(np.array(["é", 'say "sha256":"' + "0" * 64, "\ud800"], object), class_weight="balanced"),
    "floats": classes(np.array([0.0, 1.0, 2.0])),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_parameters_labels_and_rows(kind, tmp_path):
    model, X, y = ODD[kind]()
    model.set_params(backend=BACKEND, max_iter=np.int64(2)).fit(X, y)
    loaded = again(model, tmp_path)
    assert_identical(loaded, model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert_identical(loaded.fit(X, y)._state, model.fit(X, y)._state)


INNER = {"max_iter": 2, "hidden_layer_sizes": (4,), "backend": BACKEND, "random_state": 0}
REGRESSION = {
    "split": {},
    "cross": {"method": "cross", "cv": 3},
    "quantile": {"conformity_score": "quantile"},
    "groups": {"groups": 1},
    "splitter": {"method": "cross", "cv": KFold(3, shuffle=True, random_state=np.random.RandomState(0))},
}


@pytest.mark.parametrize("kind", REGRESSION)
@pytest.mark.parametrize("rows", ["dense", "sparse", "frame"])
def test_conformal_regressors(kind, rows, tmp_path):
    X, y = problem("Regressor", "mixed")
    X = {"dense": X, "sparse": sparse.csr_array(X), "frame": pd.DataFrame(X, columns=["a", "b", "c"])}[rows]
    model = ConformalRegressor(skuq.ProbabilisticRegressor(**INNER), random_state=0, **REGRESSION[kind]).fit(X, y)
    loaded = again(model, tmp_path)
    assert_identical(loaded, model)
    assert_same({"i": loaded.predict_interval(X, [0.5, 0.6])}, {"i": model.predict_interval(X, [0.5, 0.6])})


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("groups", [None, "class", 0])
def test_conformal_classifiers(score, groups, tmp_path):
    X, y = problem("Classifier", "discrete")
    model = skuq.SNGPClassifier(**INNER, n_inducing=16).fit(X, y)
    model = ConformalClassifier(FrozenEstimator(model), conformity_score=score, groups=groups).fit(X, y)
    loaded = again(model, tmp_path)
    assert_identical(loaded, model)
    np.testing.assert_array_equal(loaded.predict_set(X, 0.5), model.predict_set(X, 0.5))
    # What was one object is one again.
    assert loaded.estimator_ is loaded.estimators_[0] is loaded.estimator


def test_columns_of_uncertainty(tmp_path):
    X, y = problem("Regressor", 2)
    model = skuq.UncertaintyTransformer(skuq.MCDropoutRegressor(**INNER), outputs=["mean", "draws"], n_draws=2).fit(
        X, y
    )
    loaded = again(model, tmp_path)
    assert_identical(loaded, model)
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))


def test_unfitted_estimators_and_metadata_requests(tmp_path):
    from sklearn import config_context

    with config_context(enable_metadata_routing=True):
        model = skuq.BNNClassifier(random_state=0).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight="w")
        loaded = again(model, tmp_path)
        assert loaded.get_params() == model.get_params()
        assert str(loaded.get_metadata_routing()) == str(model.get_metadata_routing())


def test_a_likelihood_of_ones_own_is_asked_for(tmp_path):
    X, y = problem("Regressor")
    model = skuq.ProbabilisticRegressor(**INNER, likelihood=Gumbel()).fit(X, y)
    with pytest.raises(ValueError, match=r"needs the class Gumbel of .*test_files.*classes=\[Gumbel\]"):
        again(model, tmp_path)
    loaded = again(model, tmp_path, classes=[Gumbel])
    assert_same(outputs(loaded, X), outputs(model, X))
    assert type(loaded.likelihood) is Gumbel
    with pytest.raises(TypeError, match="subclasses of"):
        skuq.load(tmp_path / "model.skuq", classes=[LinearRegression])


class Mine(skuq.BNNClassifier):
    """An estimator of the user's own."""


def test_an_estimator_of_ones_own_is_asked_for(tmp_path):
    X, y = problem("Classifier")
    model = Mine(**INNER, n_draws=4).fit(X, y)
    with pytest.raises(ValueError, match=r"needs the class Mine"):
        again(model, tmp_path)
    assert_identical(again(model, tmp_path, classes=[Gumbel, Mine]), model)


class Counter(dict):
    pass


REFUSED = {
    "a Pipeline": (
        make_pipeline(StandardScaler(), skuq.ProbabilisticRegressor()),
        "takes an estimator.*Pipeline.*skops",
    ),
    "a search": (
        GridSearchCV(skuq.ProbabilisticRegressor(), {"alpha": [0.1]}),
        "takes an estimator.*GridSearchCV.*skops",
    ),
    "another library's": (
        ConformalRegressor(LinearRegression()),
        r"ConformalRegressor\.estimator.*LinearRegression.*skops",
    ),
    "a class": (skuq.BNNRegressor, "takes an estimator"),
    "a function": (ConformalRegressor(groups=len), r"ConformalRegressor\.groups.*builtin_function"),
    "a subclass of dict": (skuq.BNNClassifier(class_weight=Counter(a=1)), r"class_weight.*Counter"),
    "long double": (skuq.BNNRegressor(alpha=np.longdouble(1)), r"alpha.*longdouble"),
    "a set": (skuq.UncertaintyTransformer(skuq.BNNRegressor(), outputs={"mean"}), r"outputs.*builtins\.set"),
    "times": (skuq.BNNRegressor(alpha=np.array(["2024"], "M8[Y]")), r"alpha.*datetime64"),
    "seed sequence": (skuq.BNNRegressor(random_state=np.random.SeedSequence(1)), r"random_state.*SeedSequence"),
    "other bit generator": (
        skuq.BNNRegressor(random_state=np.random.RandomState(np.random.PCG64(1))),
        "random_state.*RandomState of PCG64",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_the_format_does_not_hold_is_named(kind, tmp_path):
    model, message = REFUSED[kind]
    (tmp_path / "model.skuq").write_bytes(b"what was there")
    with pytest.raises(TypeError, match=message):
        skuq.save(model, tmp_path / "model.skuq")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"what was there"]


@pytest.mark.skipif(not hasattr(stats, "Normal"), reason="scipy before 1.15")
def test_distributions_that_a_copy_changes_are_refused(tmp_path):
    # A copy of one, also through pickle, is a standard normal.
    with pytest.raises(TypeError, match=r"BNNRegressor\.prior.*Normal"):
        skuq.save(skuq.BNNRegressor(prior=stats.Normal(mu=1.0, sigma=2.0)), tmp_path / "model.skuq")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of some kilobytes, and its model."""
    model = quick("ProbabilisticClassifier", hidden_layer_sizes=(2,))
    path = tmp_path_factory.mktemp("small") / "model.skuq"
    skuq.save(model, path)
    return model, path.read_bytes()


def test_files_that_are_cut_short_are_refused(small, tmp_path):
    path = tmp_path / "model.skuq"
    for n_bytes in (*range(12), *range(12, len(small[1]), 37), len(small[1]) - 1):
        path.write_bytes(small[1][:n_bytes])
        with pytest.raises(
            ValueError, match=rf"model\.skuq.*cut short: got {n_bytes} bytes, expected \d+.*Copy it again"
        ):
            skuq.load(path)
    path.write_bytes(small[1] + b"\0")
    with pytest.raises(ValueError, match="has more behind it"):
        skuq.load(path)


def test_every_byte_is_under_the_checksum(small):
    data = bytearray(small[1])
    for at in range(len(data)):
        for flip in (0x01, 0x80):
            data[at] ^= flip
            with pytest.raises(
                ValueError, match=r"altered|cut short|more behind|newer|expected a file that skuq\.save"
            ):
                container.from_bytes(bytes(data))
            data[at] ^= flip
    container.from_bytes(bytes(data))


def resealed(data, old, new):
    """The file with a part of its header replaced, and a checksum that fits."""
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header = json.loads(head["__metadata__"]["skuq"].replace(old, new))
    content = {key: header[key] for key in ("root", "objects")}
    return container.to_bytes(content, safetensors.numpy.load(data)), header["version"]


def test_newer_and_other_formats_are_refused(small, tmp_path):
    path = tmp_path / "model.skuq"
    path.write_bytes(small[1].replace(rb"\"version\":1,", rb"\"version\":9,"))
    with pytest.raises(
        ValueError, match=r"newer format: got version 9, written by skuq .* reads up to version 1\. Update"
    ):
        skuq.load(path)
    others = {
        "pickle": pickle.dumps(small[0]),
        "safetensors": safetensors.numpy.save({"a": np.ones(3)}, {"by": "another"}),
        "text": b"x,y\n1,2\n3,4\n",
        "zip": skops_io.dumps(small[0]),
        "numbers": b"\x02\0\0\0\0\0\0\0[]{}",
    }
    for data in others.values():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"expected a file that skuq\.save wrote, got .*pickle"):
            skuq.load(path)
    with pytest.raises(FileNotFoundError):
        skuq.load(tmp_path / "nothing.skuq")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"class":"Noise"', '"class":"os.system"', "names the class 'os.system'"),
        ('"class":"Noise"', '"own":"system","module":"os"', "needs the class system of 'os'"),
        ('"standardized":', '"louder":1,"standardized":', r"its State has \['louder'\].*Update skuq"),
        ('"method":null', '"method":{"set":[]}', "a value of the kind.*Update skuq"),
        ('"single":', '"single_":', r"Output has \['single_'\]"),
        ('{"object":0}', '{"object":999}', "not what skuq.save writes"),
        ('"a0"', '"a999"', "not what skuq.save writes"),
        ('"dtype":"<U5"', '"dtype":"V5"', "not what skuq.save writes"),
    ],
)
def test_headers_that_say_something_else_are_refused(small, tmp_path, old, new, message):
    path = tmp_path / "model.skuq"
    path.write_bytes(resealed(small[1], old, new)[0])
    with pytest.raises(ValueError, match=message):
        skuq.load(path)


def test_fields_and_parameters_that_are_newer_than_the_file_have_their_defaults(small, tmp_path):
    path = tmp_path / "model.skuq"
    data = resealed(small[1], '"standardized":true,', "")[0]
    path.write_bytes(resealed(data, '"class_weight":null,', "")[0])
    loaded = skuq.load(path)
    assert_identical(loaded._state, small[0]._state)
    assert loaded.get_params() == small[0].get_params()


def test_sparse_indices_are_checked(tmp_path):
    # scipy believes them, and would read beyond the row.
    X, y = problem("Regressor", "sparse")
    model = ConformalRegressor(skuq.ProbabilisticRegressor(**INNER), conformity_score="quantile").fit(X, y)
    model._rows[0][0].indices[0] = 10**6
    with pytest.raises(ValueError, match=r"not what skuq\.save writes"):
        again(model, tmp_path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_that_was_there(step, small, tmp_path, monkeypatch):
    path = tmp_path / "model.skuq"
    path.write_bytes(small[1])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        skuq.save(quick("ProbabilisticRegressor"), path)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["model.skuq"]
    assert path.read_bytes() == small[1]


def test_a_folder_that_does_not_exist_is_named(small, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder to save in does not exist.*nowhere"):
        skuq.save(small[0], tmp_path / "nowhere" / "model.skuq")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes and links")
def test_a_file_has_the_rights_of_any_new_file_and_links_stay(small, tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "link.skuq").symlink_to(tmp_path / "model.skuq")
    skuq.save(small[0], tmp_path / "link.skuq")
    assert (tmp_path / "link.skuq").is_symlink()
    assert (tmp_path / "model.skuq").stat().st_mode == (tmp_path / "plain").stat().st_mode
    # One model is one file, byte for byte.
    assert (tmp_path / "model.skuq").read_bytes() == small[1]


def test_loading_and_predicting_import_no_framework(small, tmp_path):
    (tmp_path / "model.skuq").write_bytes(small[1])
    code = (
        "import sys, numpy as np, skuq\n"
        "model = skuq.load(sys.argv[1])\n"
        "model.predict_proba(np.zeros((2, 3))), model.predict_interval(np.zeros((2, 3)))\n"
        "print(sorted({'torch', 'tensorflow', 'tf_keras', 'keras', 'blitz'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "model.skuq")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "[]"


def test_arrays_are_those_of_safetensors(small, tmp_path):
    model, data = small
    arrays = safetensors.numpy.load(data)
    assert any(np.array_equal(array, model._state.parameters) for array in arrays.values())


@pytest.mark.parametrize("name", ["SNGPRegressor", "BNNClassifier"])
def test_skops_stores_pipelines(name):
    X, y = problem(name)
    model = make_pipeline(StandardScaler(), make(name, BACKEND, **QUICK, calibration="conformal")).fit(X, y)
    model.predict(X)
    data = skops_io.dumps(model)
    assert set(skops_io.get_untrusted_types(data=data)) <= set(trusted_types())
    loaded = skops_io.loads(data, trusted=trusted_types())
    assert_same(outputs(loaded[-1], X), outputs(model[-1], X))


def test_skops_stores_wrappers_and_likelihoods():
    X, y = problem("Regressor", "mixed")
    inner = make_pipeline(StandardScaler(), skuq.DeepEnsembleRegressor(**INNER, n_members=2, likelihood="student_t"))
    model = ConformalRegressor(inner, groups=1, random_state=0).fit(X, y)
    loaded = skops_io.loads(skops_io.dumps(model), trusted=trusted_types())
    np.testing.assert_array_equal(loaded.predict_interval(X, 0.5), model.predict_interval(X, 0.5))


def test_every_class_of_skuq_that_a_file_names_is_trusted():
    assert set(registry.ESTIMATORS) >= {*REGRESSORS, *CLASSIFIERS}
    public = {
        kind for kind in vars(skuq.likelihoods).values() if isinstance(kind, type) and issubclass(kind, Likelihood)
    }
    named = {kind for kind in public if not kind.__name__.startswith("_")} - {Likelihood}
    assert named <= set(registry.OBJECTS.values())
    assert all(re.fullmatch(r"skuq(\.\w+)+", name) for name in trusted_types())


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_files_of_earlier_releases_load(path):
    """Every array of the file stands in the model bit for bit, and the model answers as it did then."""
    model = skuq.load(path)
    found = {array.tobytes() for array in arrays_in(model, set())}
    for name, array in safetensors.numpy.load_file(path).items():
        assert array.tobytes() in found or array.T.tobytes() in found, f"{name}, of shape {array.shape}"
    told = json.loads(path.with_suffix(".json").read_text())
    X = np.array(told["X"]) if told["columns"] is None else pd.DataFrame(told["X"], columns=told["columns"])
    for method, options, expected in told["said"]:
        answer = np.asarray(getattr(model, method)(X, **options), float)
        np.testing.assert_allclose(answer, expected, rtol=1e-5, err_msg=method)


def arrays_in(value, seen):
    """All arrays inside an object."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        yield value
    if isinstance(value, np.random.RandomState):
        yield value.get_state()[1]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    for part in (*parts, *getattr(value, "__dict__", {}).values()):
        yield from arrays_in(part, seen)


def test_files_of_this_release_are_kept():
    kept = {type(skuq.load(path)).__name__ for path in KEPT if path.parent.name == skuq.__version__}
    assert kept >= {*ESTIMATORS, "ConformalRegressor", "ConformalClassifier"}
