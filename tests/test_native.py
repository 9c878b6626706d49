"""Native models: a fitted estimator in its backend's own layers says what ``predict`` says, and can be read back."""

import copy
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
from _table import ESTIMATORS, case, each_backend, each_classifier, each_estimator, fitted, make, problem
from scipy import special

from skuq._estimator.native import to_native

# The native layers compute in float32.
RTOL = 2e-4


def mean_of(distribution):
    """Mean of a TFP or torch distribution, as an array."""
    mean = distribution.mean
    return np.asarray(mean() if callable(mean) else mean.detach())


def scale_of(distribution):
    """Standard deviation of a TFP or torch distribution, as an array."""
    stddev = distribution.stddev
    return np.asarray(stddev() if callable(stddev) else stddev.detach())


def call(backend, model, X):
    """Forward pass of a native model without dropout."""
    if backend == "tensorflow":
        return model(X.astype(np.float32), training=False)
    import torch

    model.eval()
    with torch.no_grad():
        return model(torch.as_tensor(X, dtype=torch.float32))


def as_array(output):
    """Numbers of a tensor of either framework."""
    return np.asarray(output.detach() if hasattr(output, "detach") else output)


def probabilities(logits):
    """Class probabilities of native logits, one or several columns."""
    logits = as_array(logits).astype(float)
    if logits.shape[1] == 1:
        return np.hstack([special.expit(-logits), special.expit(logits)])
    return special.softmax(logits, axis=1)


def native_list(model):
    """Native models of an estimator: one, or one for each member."""
    native = model.to_native()
    return native if isinstance(native, list) else [native]


@pytest.mark.parametrize("method", ["Probabilistic", "DeepEnsemble"])
@each_backend
def test_native_regressors_give_the_predictive_distribution(method, backend):
    model = fitted(f"{method}Regressor", backend, 2)
    X, _ = problem(f"{method}Regressor", 2)
    answers = [call(backend, native, X) for native in native_list(model)]
    means, scales = (np.stack([of(answer) for answer in answers]) for of in (mean_of, scale_of))
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(means.mean(axis=0), mean, rtol=RTOL)
    np.testing.assert_allclose(np.sqrt((scales**2).mean(axis=0) + means.var(axis=0)), std, rtol=RTOL)


@pytest.mark.parametrize("method", ["Probabilistic", "DeepEnsemble"])
@pytest.mark.parametrize("width", [2, 3])
@each_backend
def test_native_classifiers_give_the_predictive_probabilities(method, width, backend):
    model = fitted(f"{method}Classifier", backend, width)
    X, _ = problem(f"{method}Classifier", width)
    native = np.mean([probabilities(call(backend, native, X)) for native in native_list(model)], axis=0)
    np.testing.assert_allclose(native, model.predict_proba(X), rtol=RTOL, atol=1e-6)


@each_backend
def test_native_thinned_networks_average_to_mc_dropout(backend):
    model = fitted("MCDropoutClassifier", backend, 3)
    X, _ = problem("MCDropoutClassifier", 3)
    draws = [probabilities(call(backend, model.draw_to_native(s), X)) for s in range(model.n_draws)]
    np.testing.assert_allclose(np.mean(draws, axis=0), model.predict_proba(X), rtol=RTOL, atol=1e-6)


@each_backend
def test_native_dropout_layers_sample_the_law_of_mc_dropout(backend):
    model = make("MCDropoutRegressor", backend, n_draws=400, dropout_rate=0.2, early_stopping=False)
    X, y = problem("MCDropoutRegressor")
    model.fit(X, y)
    native = model.to_native()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(0)
        passes = np.stack([mean_of(native(X.astype(np.float32), training=True))[:, 0] for _ in range(400)])
    else:
        import torch

        native.train()
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            passes = np.stack([mean_of(native(torch.as_tensor(X, dtype=torch.float32)))[:, 0] for _ in range(400)])
    spread = np.sqrt(model.predict_uncertainty(X).epistemic)
    # Two Monte Carlo means of 400 passes each.
    assert np.all(np.abs(passes.mean(axis=0) - model.predict(X)) < 5 * spread * np.sqrt(2 / 400))
    np.testing.assert_allclose(passes.std(axis=0), spread, rtol=0.25)


@pytest.mark.parametrize("posterior", ["mean_field", "full_covariance"])
@each_backend
def test_native_bayesian_layers_sample_the_law_of_the_posterior(posterior, backend):
    model = make("BNNRegressor", backend, n_draws=400, posterior=posterior, posterior_scale_init=0.1, max_iter=20)
    X, y = problem("BNNRegressor")
    model.fit(X, y)
    native = model.to_native()
    if backend == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(0)
        passes = np.stack([mean_of(native(X.astype(np.float32)))[:, 0] for _ in range(400)])
    else:
        import torch

        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            passes = np.stack([mean_of(native(torch.as_tensor(X, dtype=torch.float32)))[:, 0] for _ in range(400)])
    spread = np.sqrt(model.predict_uncertainty(X).epistemic)
    assert np.all(np.abs(passes.mean(axis=0) - model.predict(X)) < 5 * spread * np.sqrt(2 / 400))
    np.testing.assert_allclose(passes.std(axis=0), spread, rtol=0.25)


@pytest.mark.parametrize("width", [2, 3])
@each_backend
def test_native_sngp_gives_logits_and_variances(width, backend):
    model = fitted("SNGPClassifier", backend, width)
    X, _ = problem("SNGPClassifier", width)
    logits, covariance = (as_array(part) for part in call(backend, model.to_native(), X))
    variance = np.diagonal(covariance)[:, None] if backend == "tensorflow" else covariance
    mean, own_variance = model.latent_mean_and_variance(X)
    np.testing.assert_allclose(logits, mean, rtol=RTOL, atol=1e-4)
    np.testing.assert_allclose(variance, own_variance, rtol=5e-3, atol=1e-5)
    mean_field = probabilities(logits / np.sqrt(1 + np.pi / 8 * variance))
    np.testing.assert_allclose(mean_field, model.predict_proba(X), rtol=2e-3, atol=1e-5)


@each_backend
def test_native_sngp_regressor_gives_the_mean(backend):
    model = fitted("SNGPRegressor", backend)
    X, _ = problem("SNGPRegressor")
    distribution, _ = call(backend, model.to_native(), X)
    np.testing.assert_allclose(mean_of(distribution)[:, 0], model.predict(X), rtol=RTOL)


@each_estimator
def test_reading_back_changes_nothing(name, backend):
    model = make(name, backend, max_iter=5)
    X, y = problem(name)
    before = model.fit(X, y).predict_uncertainty(X)
    after = model.from_native(model.to_native()).predict_uncertainty(X)
    for value, expected in zip(after, before, strict=True):
        np.testing.assert_allclose(value, expected, rtol=2e-3, atol=1e-9)


@each_classifier
def test_hand_made_changes_are_read_back(name, backend):
    model = make(name, backend, max_iter=5)
    X, y = problem(name)
    before = model.fit(X, y).predict_proba(X)
    posterior = model._state.posterior
    changed = replace(model._state, posterior=posterior.with_parameters(posterior.parameters * 0.5))
    native = to_native(changed, backend)
    assert np.abs(model.from_native(native).predict_proba(X) - before).max() > 1e-3


@pytest.mark.parametrize("backend", [case("tensorflow")])
def test_a_missing_library_of_layers_is_named(backend, monkeypatch):
    model = fitted("SNGPClassifier", backend)
    monkeypatch.setitem(sys.modules, "official", None)
    for name in [name for name in sys.modules if name.startswith("official.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"tf-models-official.*skuq\[tf-models\]"):
        model.to_native()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda native: pickle.loads(pickle.dumps(native))])
@pytest.mark.parametrize(("name", "backend"), [case("blitz", name) for name in ESTIMATORS])
def test_native_models_of_torch_can_be_kept(name, backend, duplicate, tmp_path):
    import torch

    model = make(name, backend, max_iter=5)
    X, y = problem(name)
    native = native_list(model.fit(X, y))
    rows = torch.as_tensor(X, dtype=torch.float32)
    expected = model.predict_uncertainty(X)
    for network in native:
        network(rows)  # what a pass leaves behind cannot be copied
    if name.startswith("SNGP") and duplicate is not copy.deepcopy:
        with pytest.raises(RuntimeError, match="only supported through state_dict"):
            duplicate(native[0])
        return
    twins = [duplicate(network) for network in native]
    said = model.from_native(twins if len(twins) > 1 else twins[0]).predict_uncertainty(X)
    for value, own in zip(said, expected, strict=True):
        np.testing.assert_allclose(value, own, rtol=2e-3, atol=1e-9)
    # A file of the weights, into a model that was trained further.
    path = tmp_path / "weights.pt"
    torch.save(native[0].state_dict(), path)
    with torch.no_grad():
        for parameter in twins[0].parameters():
            parameter.add_(0.1)
    changed = model.from_native(twins if len(twins) > 1 else twins[0]).predict_uncertainty(X)
    assert np.abs(changed.total - expected.total).max() > 1e-4
    twins[0].load_state_dict(torch.load(path))
    said = model.from_native(twins if len(twins) > 1 else twins[0]).predict_uncertainty(X)
    for value, own in zip(said, expected, strict=True):
        np.testing.assert_allclose(value, own, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("posterior", ["mean_field", "full_covariance"])
@pytest.mark.parametrize("backend", [case("blitz")])
def test_a_copy_of_a_bayesian_model_predicts_the_means_that_it_was_trained_to(posterior, backend):
    import torch

    model = make("BNNRegressor", backend, posterior=posterior, max_iter=5)
    X, y = problem("BNNRegressor")
    native = copy.deepcopy(model.fit(X, y).to_native())
    rows, targets = torch.as_tensor(X, dtype=torch.float32), torch.as_tensor(y, dtype=torch.float32)[:, None]
    optimizer = torch.optim.Adam(native.parameters(), lr=0.05)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(10):
            optimizer.zero_grad()
            (-native(rows).log_prob(targets).mean()).backward()
            optimizer.step()
    native.freeze_()
    weights = model.from_native(native)._state.parameters
    frozen = mean_of(native(rows))
    again = model.to_native()  # of the trained means
    again.freeze_()
    np.testing.assert_allclose(frozen, mean_of(again(rows)), rtol=1e-5)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize(("likelihood", "scale"), [("poisson", 1.0), ("gamma", 1.0), ("normal", None)])
@pytest.mark.parametrize("backend", [case("blitz")])
def test_native_variance_of_sngp_is_that_of_what_the_process_says(likelihood, scale, backend):
    X, y = problem("SNGPRegressor")
    y = np.exp(y / 10) * 50 if likelihood == "gamma" else np.maximum(np.round(y), 0) if likelihood == "poisson" else y
    model = make("SNGPRegressor", backend, likelihood=likelihood).fit(X, y)
    _, variance = call(backend, model.to_native(), X)
    posterior = model._state.posterior
    network, features = model.to_native(), None
    import torch

    with torch.no_grad():
        features = network.hidden(network.standardize(torch.as_tensor(X))).numpy().astype(float)
    latent = posterior.ridge_penalty * np.sum(features * np.linalg.solve(posterior.precision[0], features.T).T, axis=1)
    scale = np.ravel(model._state.output.standardizer.scale)[0] if scale is None else scale
    np.testing.assert_allclose(as_array(variance)[:, 0], scale**2 * latent, rtol=1e-3)


def loaded(native, path):
    """A model of Keras from its file."""
    import tf_keras

    native.save(path / "model.keras")
    return tf_keras.models.load_model(path / "model.keras")


DUPLICATES = {
    "copy": lambda native, path: copy.deepcopy(native),
    "pickle": lambda native, path: pickle.loads(pickle.dumps(native)),
    "file": loaded,
}


@pytest.mark.parametrize("duplicate", DUPLICATES)
@pytest.mark.parametrize(
    ("name", "changes", "backend"),
    [
        case("tensorflow", "ProbabilisticClassifier", {"calibration": "temperature"}, id="temperature"),
        case(
            "tensorflow", "MCDropoutClassifier", {"architecture": "resnet", "hidden_layer_sizes": (8, 8)}, id="dropout"
        ),
        case("tensorflow", "ProbabilisticClassifier", {"input_encoding": "periodic"}, id="encoded"),
    ],
)
def test_native_classifiers_of_keras_can_be_kept(name, changes, backend, duplicate, tmp_path):
    model = make(name, backend, max_iter=5, **changes)
    X, y = problem(name)
    X = X + 1e6  # what float32 would not keep
    native = model.fit(X, y).to_native()
    twin = DUPLICATES[duplicate](native, tmp_path)
    np.testing.assert_array_equal(twin(X, training=False), native(X, training=False))
    twin.compile("adam", "binary_crossentropy")
    twin.fit(X, (y == "yes").astype(float), epochs=1, verbose=0)
    before = model.predict_proba(X)
    assert np.abs(model.from_native(twin).predict_proba(X) - before).max() > 1e-5


@pytest.mark.parametrize(("name", "backend"), [case("tensorflow", name) for name in ESTIMATORS])
def test_weights_of_native_models_of_keras_can_be_kept(name, backend, tmp_path):
    model = make(name, backend, max_iter=5)
    X, y = problem(name)
    native = native_list(model.fit(X, y))
    expected = model.predict_uncertainty(X)
    for i, network in enumerate(native):
        network.save_weights(tmp_path / f"{i}.weights.h5")
    twins = native_list(model)
    for i, network in enumerate(twins):
        network.set_weights([0.5 * w for w in network.get_weights()])
        network.load_weights(tmp_path / f"{i}.weights.h5")
    said = model.from_native(twins if len(twins) > 1 else twins[0]).predict_uncertainty(X)
    for value, own in zip(said, expected, strict=True):
        np.testing.assert_allclose(value, own, rtol=2e-3, atol=1e-9)
