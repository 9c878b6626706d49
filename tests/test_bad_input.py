"""Bad input is refused before training starts, in words that help, and leaves everything as it was."""

import numpy as np
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
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

import skuq
from skuq import backends
from skuq.likelihoods import Gamma, LogNormal, NegativeBinomial, Normal, Poisson


@pytest.fixture
def no_training(monkeypatch):
    """Fail the test if a backend is so much as loaded."""

    def load(name):
        pytest.fail(f"training on {name} began")

    monkeypatch.setattr(backends, "load", load)


def refuse(model, X, y, error, match, **fit_parameters):
    """Fitting raises, leaves no attribute behind, and the estimator still says that it is not fitted."""
    before = dict(vars(model))
    with pytest.raises(error, match=match):
        model.fit(X, y, **fit_parameters)
    assert vars(model) == before
    with pytest.raises(NotFittedError):
        model.predict(X)


def with_value(X, value):
    X = X.copy()
    X[3, 1] = value
    return X


BAD_ROWS = {
    "nan": (lambda X: with_value(X, np.nan), "Input X contains NaN"),
    "infinity": (lambda X: with_value(X, np.inf), "Input X contains infinity"),
    "text": (lambda X: with_value(X.astype(object), "abc"), "could not convert string to float: 'abc'"),
    "one_dimension": (lambda X: X[:, 0], "Expected 2D array, got 1D array instead"),
    "three_dimensions": (lambda X: X[:, :, None], "(Found array with dim 3|Expected 2D array).*expected <= 2|dim 3"),
    "no_columns": (lambda X: X[:, :0], r"Found array with 0 feature\(s\).*minimum of 1 is required"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "sparse_nan": (lambda X: sparse.csr_array(with_value(X, np.nan)), "contains NaN"),
}
each_bad_rows = pytest.mark.parametrize("bad", BAD_ROWS)


@each_estimator
@each_bad_rows
def test_bad_rows_are_refused_by_fit(name, backend, bad, no_training):
    X, y = problem(name)
    change, message = BAD_ROWS[bad]
    refuse(make(name, backend), change(X), y, ValueError, message)


@each_estimator
@each_bad_rows
def test_bad_rows_are_refused_by_predict(name, backend, bad):
    X, _ = problem(name)
    change, message = BAD_ROWS[bad]
    if bad == "no_columns":
        message = "0 feature"
    for method in (
        "predict",
        "predict_interval",
        "predict_uncertainty",
        "predict_quantiles",
        "predict_dist",
        "sample_y",
    ):
        with pytest.raises(ValueError, match=message):
            getattr(fitted(name, backend), method)(change(X))


@each_estimator
def test_too_few_rows_are_refused(name, backend, no_training):
    X, y = problem(name)
    refuse(make(name, backend), X[:1], y[:1], ValueError, r"Found array with 1 sample\(s\).*minimum of 2 is required")
    refuse(make(name, backend), X[:0], y[:0], ValueError, r"Found array with 0 sample\(s\)")


@each_estimator
@pytest.mark.parametrize("n_rows", [2, 3, 4])
@pytest.mark.parametrize("early_stopping", [False, True, "cross_fit"])
def test_the_fewest_rows_give_finite_answers(name, backend, n_rows, early_stopping):
    X, y = problem(name)
    rows = np.arange(n_rows)
    if name.endswith("Classifier"):  # one row of one class, the others of the other
        rows = np.append(np.flatnonzero(y == "yes")[0], np.flatnonzero(y != "yes"))[:n_rows]
    model = make(name, backend, early_stopping=early_stopping).fit(X[rows], y[rows])
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())


@each_estimator
def test_rows_and_targets_must_match(name, backend, no_training):
    X, y = problem(name)
    refuse(make(name, backend), X, y[:-1], ValueError, r"inconsistent numbers of samples: \[96, 95\]")
    refuse(make(name, backend), X, None, ValueError, "requires y to be passed, but the target y is None")


@each_estimator
def test_columns_must_match_those_of_fit(name, backend):
    X, _ = problem(name)
    model = fitted(name, backend)
    with pytest.raises(ValueError, match=rf"X has 2 features, but {name} is expecting 3 features as input"):
        model.predict(X[:, :2])


@each_estimator
def test_names_of_columns_must_match_those_of_fit(name, backend):
    pandas = pytest.importorskip("pandas")
    X, y = problem(name)
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = make(name, backend).fit(frame, y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(
        ValueError, match=r"(?s)feature names should match those that were passed during fit.*unseen.*d"
    ):
        model.predict_interval(frame.rename(columns={"c": "d"}))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        assert_same(outputs(model, X), outputs(fitted(name, backend), X))


# Targets


@each_regressor
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: np.where(np.arange(len(y)) == 3, np.nan, y), "Input y contains NaN"),
        (lambda y: np.where(np.arange(len(y)) == 3, np.inf, y), "Input y contains infinity"),
        (lambda y: np.where(y > 0, "high", "low"), "could not convert string to float"),
        (lambda y: np.where(np.arange(len(y)) == 3, None, y), "NaN|NoneType"),
    ],
    ids=["nan", "infinity", "text", "none"],
)
def test_bad_targets_are_refused(name, backend, change, message, no_training):
    X, y = regression()
    refuse(make(name, backend), X, change(y), (ValueError, TypeError), message)


@each_classifier
def test_one_class_is_refused(name, backend, no_training):
    X, y = classification()
    message = rf"{name} needs at least two classes.*got the class '?only'? only"
    refuse(make(name, backend), X, np.full(len(y), "only"), ValueError, message)
    # One class is also what zero weights leave.
    weight = (y == y[0]).astype(float)
    message = rf"needs at least two classes with a positive weight.*{y[0]}"
    refuse(make(name, backend), X, y, ValueError, message, sample_weight=weight)


@each_classifier
def test_numbers_are_not_classes(name, backend, no_training):
    X, _ = classification()
    refuse(make(name, backend), X, X[:, 0], ValueError, "Unknown label type: continuous")
    refuse(make(name, backend), X, np.eye(2)[(X[:, 0] > 0).astype(int)], ValueError, "multilabel|1d array")


@each_classifier
def test_bad_class_weights_are_refused(name, backend, no_training):
    X, y = classification()
    refuse(
        make(name, backend, class_weight="even"), X, y, InvalidParameterError, "class_weight.*'balanced'.*Got 'even'"
    )
    refuse(make(name, backend, class_weight={"perhaps": 2.0}), X, y, ValueError, "The classes.*not in class_weight")
    for weights in ({"yes": -1.0}, {"yes": 0.0, "maybe": 0.0}, {"yes": np.nan}):
        refuse(
            make(name, backend, class_weight=weights),
            X,
            y,
            ValueError,
            "class_weight must hold finite weights ≥ 0.*got",
        )


@each_regressor
@pytest.mark.parametrize(
    ("likelihood", "support"),
    [
        (LogNormal(), "positive"),
        (Gamma(), "positive"),
        (Poisson(), "counts"),
        (NegativeBinomial(), "counts"),
        ("poisson", "counts"),
    ],
    ids=repr,
)
def test_targets_outside_the_support_are_refused(name, backend, likelihood, support, no_training):
    X, y = regression()
    message = rf"likelihood needs targets that are {support}.*got y with minimum -.*of 96 values outside.*Choose"
    refuse(make(name, backend, likelihood=likelihood), X, y - 100, ValueError, message)


# Weights


@each_estimator
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (lambda n: np.where(np.arange(n) == 3, -1.0, 1.0), "Negative values in data passed to `sample_weight`"),
        (lambda n: np.zeros(n), "all weights are zero|at least one non-zero"),
        (lambda n: np.where(np.arange(n) == 3, np.nan, 1.0), "Input sample_weight contains NaN"),
        (lambda n: np.where(np.arange(n) == 3, np.inf, 1.0), "Input sample_weight contains infinity"),
        (lambda n: np.ones(n - 1), r"sample_weight.shape == \(95,\), expected \(96,\)"),
        (lambda n: np.ones((n, 2)), "Sample weights must be 1D"),
    ],
    ids=["negative", "zero", "nan", "infinity", "too_few", "two_columns"],
)
def test_bad_weights_are_refused(name, backend, weight, message, no_training):
    X, y = problem(name)
    refuse(make(name, backend), X, y, ValueError, message, sample_weight=weight(len(y)))


# Parameters

BAD_PARAMETERS = [
    {"hidden_layer_sizes": (8, 0)},
    {"hidden_layer_sizes": (8, -1)},
    {"hidden_layer_sizes": 0},
    {"hidden_layer_sizes": (8.5,)},
    {"hidden_layer_sizes": "wide"},
    {"hidden_layer_sizes": ("8",)},
    {"hidden_layer_sizes": (True,)},
    {"hidden_layer_sizes": (np.inf,)},
    {"hidden_layer_sizes": (np.nan,)},
    {"hidden_layer_sizes": {"a": 1}},
    {"hidden_layer_sizes": [[4, 4], [4, 4]]},
    {"hidden_layer_sizes": [[4], [4, 4]]},
    {"activation": "swish"},
    {"architecture": "transformer"},
    {"dropout_rate": 1.0},
    {"regularizer": "l3"},
    {"alpha": -1.0},
    {"alpha": 1e308},
    {"alpha": True},
    {"learning_rate_init": 1e308},
    {"max_iter": True},
    {"alpha": "strong"},
    {"l1_ratio": 1.5},
    {"batch_size": 0},
    {"learning_rate": "adaptive"},
    {"learning_rate_init": 0.0},
    {"max_iter": 0},
    {"max_iter": 2.5},
    {"shuffle": "yes"},
    {"early_stopping": "maybe"},
    {"validation_fraction": 0.0},
    {"validation_fraction": 1.0},
    {"n_iter_no_change": 0},
    {"tol": -1.0},
    {"backend": "jax"},
    {"device": "tpu"},
    {"random_state": "seed"},
]
OWN_PARAMETERS = {
    "MCDropout": [{"n_draws": 0}, {"n_draws": True}, {"dropout_rate": -0.1}],
    "DeepEnsemble": [{"n_members": 0}],
    "BNN": [
        {"posterior": "delta"},
        {"prior": "cauchy"},
        {"prior_scale": 0.0},
        {"prior_scale_ratio": 2.0},
        {"prior_mix": 1.5},
        {"kl_weight": -1.0},
        {"posterior_scale_init": 0.0},
        {"n_train_samples": 0},
        {"n_draws": 0},
    ],
    "SNGP": [
        {"spec_norm_bound": 0.0},
        {"spec_norm_bound": 1e308},
        {"n_inducing": 0},
        {"kernel_scale": 0.0},
        {"ridge_penalty": 0.0},
        {"n_draws": 0},
    ],
}


@each_estimator
def test_parameters_out_of_range_are_refused(name, backend, no_training):
    X, y = problem(name)
    method = name.removesuffix("Regressor").removesuffix("Classifier")
    task = [{"likelihood": "cauchy"}, {"likelihood": 3}] if name.endswith("Regressor") else [{"class_weight": "even"}]
    own = [{"mean_field_factor": -1.0}, {"covariance": "full"}] if name == "SNGPClassifier" else []
    for changes in [*BAD_PARAMETERS, *OWN_PARAMETERS.get(method, []), *task, *own]:
        (parameter, value), *_ = changes.items()
        # What is wrong, what was got.
        text = value if isinstance(value, str) else ""
        refuse(make(name, backend).set_params(**changes), X, y, ValueError, rf"(?s){parameter}.*(got|Got).*{text}")


@each_estimator
def test_layers_of_a_resnet_need_one_width(name, backend, no_training):
    X, y = problem(name)
    model = make(name, backend, architecture="resnet", hidden_layer_sizes=(8, 4))
    refuse(model, X, y, ValueError, r"one width, got hidden_layer_sizes=\(8, 4\).*Use equal sizes")


@each_regressor
def test_parameters_of_the_likelihood_are_checked(name, backend, no_training):
    X, y = regression()
    refuse(
        make(name, backend, likelihood=Normal(scale=-1.0)), X, y, InvalidParameterError, "'scale' parameter of Normal"
    )


@each_backend
def test_full_covariance_has_a_limit(backend, no_training):
    X, y = regression()
    model = make("BNNRegressor", backend, posterior="full_covariance", hidden_layer_sizes=(100, 100))
    refuse(model, X, y, ValueError, r"(?s)got a layer of 10100, at most 4000.*Use smaller hidden_layer_sizes")


@each_estimator
def test_a_missing_device_is_named(name, backend):
    if backend == "blitz":
        available = pytest.importorskip("torch").cuda.is_available()
    else:
        available = bool(pytest.importorskip("tensorflow").config.list_physical_devices("GPU"))
    if available:
        pytest.skip("this machine has a CUDA device")
    X, y = problem(name)
    refuse(
        make(name, backend, device="cuda"),
        X,
        y,
        RuntimeError,
        r"device='cuda'.*(no CUDA device|sees none).*device=.cpu",
    )


@each_estimator
@pytest.mark.parametrize("coverage", [0, 1, 90, -0.5, np.nan, [0.5, 1.0], []], ids=repr)
def test_coverage_lies_between_0_and_1(name, backend, coverage):
    X, _ = problem(name)
    model = fitted(name, backend)
    calls = [lambda: model.predict_interval(X, coverage)]
    if hasattr(model, "predict_set"):
        calls.append(lambda: model.predict_set(X, coverage))
    for call in calls:
        with pytest.raises(ValueError, match=r"(?s)coverage must .*got .*For 90 % pass coverage=0.9"):
            call()
    with pytest.raises(ValueError, match=r"(?s)quantiles must lie strictly between 0 and 1, got .*For the median"):
        model.predict_quantiles(X, coverage)


@each_estimator
def test_number_of_samples_is_positive(name, backend):
    X, _ = problem(name)
    for n_samples in (0, -1):
        with pytest.raises(ValueError, match=f"n_samples == {n_samples}, must be >= 1"):
            fitted(name, backend).sample_y(X, n_samples)
    with pytest.raises(TypeError, match="n_samples must be an instance of int, not float"):
        fitted(name, backend).sample_y(X, 2.5)


# What was fitted before


@each_estimator
def test_a_refused_fit_keeps_the_one_before(name, backend, request):
    X, y = problem(name)
    model = make(name, backend).fit(X, y)
    request.getfixturevalue("no_training")
    said, before = outputs(model, X), dict(vars(model))
    for bad_X, bad_y, weight in (
        (with_value(X, np.nan), y, None),
        (X[:, :2], y[:-1], None),
        (X, y, -np.ones(len(y))),
        (X[:1], y[:1], None),
    ):
        with pytest.raises(ValueError, match=r"NaN|inconsistent|Negative|minimum of 2"):
            model.fit(bad_X, bad_y, sample_weight=weight)
        assert vars(model) == before
    with pytest.raises(InvalidParameterError):
        model.set_params(max_iter=-1).fit(X, y)
    assert_same(outputs(model, X), said)


@each_estimator
def test_a_fault_in_training_keeps_the_fit_before(name, backend, monkeypatch):
    X, y = problem(name)
    model = make(name, backend).fit(X, y)
    said = outputs(model, X)

    def run(self, *args):
        raise MemoryError("no room")

    monkeypatch.setattr(backends.load(backend).Trainer, "run", run)
    with pytest.raises(MemoryError, match="no room"):
        model.fit(2 * X, y)
    assert_same(outputs(model, X), said)
    unfitted = make(name, backend)
    refuse(unfitted, X, y, MemoryError, "no room")


@each_estimator
def test_an_unfitted_estimator_answers_nothing(name, backend):
    X, _ = problem(name)
    methods = ["predict", "predict_interval", "predict_quantiles", "predict_uncertainty", "predict_dist", "sample_y"]
    methods += ["predict_proba", "predict_set"] if name.endswith("Classifier") else []
    for method in methods:
        with pytest.raises(NotFittedError, match=f"This {name} instance is not fitted yet"):
            getattr(make(name, backend), method)(X)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        make(name, backend).to_native()


# Faults while training


@each_estimator
@pytest.mark.parametrize("early_stopping", [False, True])
def test_divergence_warns_and_predictions_stay_finite(name, backend, early_stopping):
    X, y = problem(name)
    model = make(name, backend, learning_rate_init=1e6, learning_rate="constant", early_stopping=early_stopping)
    with pytest.warns(ConvergenceWarning, match=r"Training stopped.*Lower learning_rate_init \(now 1e\+06\)"):
        model.fit(X, y)
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())
    assert model.n_iter_ >= 1


@each_estimator
def test_interruption_keeps_the_weights_so_far(name, backend, monkeypatch):
    X, y = problem(name)
    trainer = backends.load(backend).Trainer
    run, calls = trainer.run, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(self, *args)

    monkeypatch.setattr(trainer, "run", interrupted)
    model = make(name, backend, max_iter=100_000, learning_rate="constant")
    with pytest.warns(UserWarning, match="Training interrupted by user; the best weights so far are kept"):
        model.fit(X, y)
    assert model.n_iter_ < 1000
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())


@each_estimator
def test_interruption_before_the_first_step(name, backend, monkeypatch):
    X, y = problem(name)

    def interrupted(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(backends.load(backend).Trainer, "run", interrupted)
    model = make(name, backend)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, y)
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())


@each_estimator
def test_targets_of_any_size_give_finite_answers(name, backend):
    X, y = problem(name)
    if name.endswith("Classifier"):
        X = X * [1e-100, 1e30, 1e100]
        model = make(name, backend).fit(X, y)
    else:
        for target in (np.zeros(len(y)), y * 1e-140, y * 1e30, y + 1e12):
            model = make(name, backend).fit(X, target)
            assert all(np.isfinite(value).all() for value in outputs(model, X).values())
    # And rows of any size.
    assert all(np.isfinite(value).all() for value in outputs(model, 1e100 * np.sign(X)).values())


@each_backend
@pytest.mark.parametrize("size", [1e-200, 1e-310, 1e-320])
def test_features_of_the_smallest_numbers_are_features(size, backend):
    X, y = problem("ProbabilisticRegressor")
    X = np.round(X, 3)  # a denormal number has few digits
    said = outputs(make("ProbabilisticRegressor", backend).fit(X, y), X)
    digits = {1e-200: 1e-5, 1e-310: 1e-5, 1e-320: 0.05}[size]
    for rows in (X * size, sparse.csr_array(X * size)):
        model = make("ProbabilisticRegressor", backend).fit(rows, y)
        np.testing.assert_allclose(outputs(model, rows)["std"], said["std"], rtol=10 * digits)
        np.testing.assert_allclose(model.predict(rows), said["predict"], atol=digits * np.std(y) * 10)


@each_backend
def test_targets_whose_variance_is_no_number_are_refused(backend):
    X, y = problem("ProbabilisticRegressor")
    refuse(make("ProbabilisticRegressor", backend), X, y * 1e-200, ValueError, "y varies by .* only.*Multiply y")
    model = make("ProbabilisticRegressor", backend, likelihood="gamma")
    refuse(model, X, np.exp(y / 10) * 1e-200, ValueError, "Multiply y")


@each_backend
@pytest.mark.parametrize("name", ["ProbabilisticRegressor", "DeepEnsembleClassifier"])
@pytest.mark.parametrize(
    ("large", "small"), [(1e308, 1e308), (1e308, 1e-308), (1e300, 1.0), (1e-200, 5e-324), (1e25, 1.0)]
)
def test_weights_of_any_size_are_weights(name, large, small, backend):
    X, y = problem(name)
    heavy = np.arange(len(y)) < 60
    model = make(name, backend).fit(X, y, sample_weight=np.where(heavy, large, small))
    expected = make(name, backend).fit(X, y, sample_weight=np.where(heavy, 1.0, 0.0 if large > small else 1.0))
    if large / small > 1e30 or large == small:
        assert_same(outputs(model, X), outputs(expected, X), rtol=1e-4, atol=1e-6)
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())


@each_backend
def test_kernels_of_zeros_have_any_bound(backend):
    X, y = problem("SNGPRegressor")
    model = make("SNGPRegressor", backend, alpha=1e6, regularizer="l1", spec_norm_bound=1e6).fit(X, y)
    assert model.n_nonzero_weights_ < 100
    assert all(np.isfinite(value).all() for value in outputs(model, X).values())


# Backends


def without(monkeypatch, *modules):
    """Pretend that these modules are not installed."""
    find = backends.find_spec
    monkeypatch.setattr(backends, "find_spec", lambda module: None if module in modules else find(module))


@pytest.mark.parametrize(
    ("backend", "module", "extra"),
    [("tensorflow", "tensorflow_probability", r"skuq\[tensorflow\]"), ("blitz", "blitz", r"skuq\[blitz\]")],
)
def test_a_missing_backend_names_its_extra(backend, module, extra, monkeypatch):
    without(monkeypatch, module)
    assert backend not in backends.available()
    X, y = regression()
    model = skuq.ProbabilisticRegressor(backend=backend)
    refuse(
        model,
        X,
        y,
        ImportError,
        rf"backend='{backend}' needs .*{module}.*, which is not installed.*pip install '{extra}'",
    )


def test_without_any_backend_both_extras_are_named(monkeypatch):
    without(monkeypatch, "tensorflow", "torch")
    X, y = regression()
    refuse(
        skuq.ProbabilisticRegressor(),
        X,
        y,
        ImportError,
        r"pip install 'skuq\[tensorflow\]' or pip install 'skuq\[blitz\]'",
    )


def test_auto_takes_the_first_backend_that_is_installed(monkeypatch):
    everything = object()
    monkeypatch.setattr(backends, "find_spec", lambda module: everything)
    assert backends.resolve("auto") == "tensorflow"
    without(monkeypatch, "tensorflow")
    assert backends.resolve("auto") == "blitz"


@each_estimator
def test_a_missing_backend_keeps_the_fit_before(name, backend, monkeypatch):
    X, y = problem(name)
    model = make(name, backend).fit(X, y)
    said = outputs(model, X)
    without(monkeypatch, "torch", "tensorflow")
    with pytest.raises(ImportError, match="is not installed"):
        model.fit(X, y)
    assert_same(outputs(model, X), said)
    with pytest.raises(ImportError, match="is not installed"):
        model.to_native()


def test_values_whose_variance_overflows_are_refused():
    X, y = regression()
    with pytest.raises(ValueError, match="variance is not finite"):
        skuq.ProbabilisticRegressor().fit(X, y * 1e200)
