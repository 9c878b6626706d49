"""Periodic features: what they are, that their frequencies are trained, and that every path computes the same ones."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from _table import ESTIMATORS, assert_same, each_backend, make, outputs, over, problem, regression
from scipy import sparse
from scipy.stats import norm

import skuq
from skuq import backends
from skuq._data.encoding import Periodic
from skuq._data.rows import Standardizer
from skuq._model.heads import link_parameters
from skuq._model.network import Network, Role
from skuq._model.variational import Posterior
from skuq.backends import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, Knobs, Program
from skuq.likelihoods import Normal

HEAD = Normal().head(1)
SOME = {"input_encoding": "periodic", "n_frequencies": 3, "frequency_scale": 0.2}


def written_out(X, frequencies, columns):
    """Features, then for each encoded one its sines and its cosines, one by one; their squares' mean sum is at most 2."""
    rows = []
    for x in X:
        row = list(x)
        for own, j in zip(frequencies, columns, strict=True):
            amplitude = np.sqrt(2 / len(own))
            row += [amplitude * np.sin(2 * np.pi * c * x[j]) for c in own]
            row += [amplitude * (np.cos(2 * np.pi * c * x[j]) - 1) for c in own]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("columns", [None, (0, 3)])
def test_parts_are_sines_and_cosines(columns):
    rng = np.random.default_rng(0)
    encoding = Periodic(5, None if columns is None else len(columns), frequency_scale=0.3)
    X, own = rng.normal(size=(2, 7, 4)), range(4) if columns is None else columns
    u = rng.normal(size=(3, len(own), 5))
    fixed = {**encoding.fit(X[0][:, list(own)], np.ones(7)), "encoded": np.array(own)}
    for rows in (X[:1], np.concatenate([X, X[:1]])):
        found = encoding.apply(rows, {"frequencies": u}, fixed)
        for s in range(3):
            expected = written_out(rows[s % len(rows)], 0.3 * u[s], own)
            np.testing.assert_allclose(found[s], expected, rtol=1e-6, atol=1e-6)


def loss_and_gradient(network, fixed, parameters, X, y):
    """Mean negative log density of one network by scipy, and its gradient by central differences, float64."""

    def loss(flat):
        raw = network.raw_outputs(network.views(flat[None]), X, fixed=fixed)
        p = link_parameters(HEAD, raw, network.constants(flat[None]), np.zeros(0))
        return -norm.logpdf(y, p["loc"][0], p["scale"][0]).mean()

    steps = 1e-6 * np.eye(len(parameters))
    return loss(parameters), np.array([(loss(parameters + e) - loss(parameters - e)) / 2e-6 for e in steps])


@pytest.mark.parametrize(("architecture", "n_encoded"), [("mlp", None), ("mlp", 2), ("resnet", None)])
@each_backend
def test_trainers_descend_the_loss_of_the_forward_pass(architecture, n_encoded, backend):
    """Frequencies included: steps are those of Adam on differences of the NumPy forward pass under scipy's density."""
    rng = np.random.default_rng(0)
    encoding = Periodic(3, n_encoded, frequency_scale=0.3)
    network = Network(3, (4, 4), "tanh", architecture, HEAD, encoding=encoding)
    X = rng.normal(size=(4, 1, 12, 3)).astype(np.float32)
    y = rng.normal(size=(4, 1, 12, 1)).astype(np.float32)
    fixed = encoding.fit(X[0, 0], np.ones(12)) | ({} if n_encoded is None else {"encoded": np.array([0, 2])})
    start = 0.5 * rng.normal(size=(1, network.n_weights)).astype(np.float32)
    trainer = backends.load(backend).Trainer(Program(network), start, fixed, Knobs(), 0)
    losses = trainer.run(X, y, np.full((4, 1, 12), 1 / 12, np.float32), np.full(4, 0.01, np.float32))[:, 0]

    theta, first, second = start[0].astype(float), 0.0, 0.0
    for t in range(4):
        loss, gradient = loss_and_gradient(network, fixed, theta, X[t, 0].astype(float), y[t, 0].astype(float))
        assert losses[t] == pytest.approx(loss, rel=1e-4)
        first = ADAM_BETA1 * first + (1 - ADAM_BETA1) * gradient
        second = ADAM_BETA2 * second + (1 - ADAM_BETA2) * gradient**2
        rate = 0.01 / (np.sqrt(second / (1 - ADAM_BETA2 ** (t + 1))) + ADAM_EPSILON)
        theta = theta - rate * first / (1 - ADAM_BETA1 ** (t + 1))
    np.testing.assert_allclose(trainer.parameters()[0], theta, atol=3e-4)
    (frequencies,) = (t for t in network.tensors if t.role is Role.ENCODING)
    moved = np.abs(theta - start[0])[frequencies.start : frequencies.stop]
    assert moved.min() > 1e-4


@each_backend
def test_frequencies_of_a_posterior_are_point_estimates(backend):
    X, y = regression()
    model = make("BNNRegressor", backend, **SOME, max_iter=3).fit(X, y)
    network, draws = model._state.network, model._state.posterior.draws()
    (tensor,) = (t for t in network.tensors if t.role is Role.ENCODING)
    drawn, _ = draws.take(0, 5)
    frequencies = drawn[:, tensor.start : tensor.stop]
    assert np.ptp(frequencies, axis=0).max() == 0
    assert np.ptp(drawn[:, : network.n_layer_weights], axis=0).min() > 0
    posterior = Posterior(network, "mean_field")
    np.testing.assert_array_equal(
        posterior.mean_weights(model._state.parameters)[0, tensor.start : tensor.stop], frequencies[0]
    )


@over(ESTIMATORS)
def test_every_estimator(name, backend):
    """Columns of two values stand alone, rows may be sparse, and a pickle answers alike."""
    X, y = problem(name, "mixed")
    model = make(name, backend, "mixed", **SOME, max_iter=3).fit(X, y)
    assert model.encoded_features_.tolist() == [True, False, True]
    assert model.selected_features_.tolist() == [True, True, True]
    assert model._state.network.n_inputs == 3 + 2 * 6
    said = outputs(model, X)
    assert all(np.isfinite(values).all() for values in said.values())
    assert_same(outputs(pickle.loads(pickle.dumps(model)), X), said)
    thin = make(name, backend, "mixed", **SOME, max_iter=3).fit(sparse.csr_array(X), y)
    assert_same(outputs(thin, sparse.csr_array(X)), said, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
@pytest.mark.parametrize("kind", [1, "mixed"])
@pytest.mark.parametrize("name", ["ProbabilisticRegressor", "BNNRegressor"])
@each_backend
def test_native_models_have_them_too(name, kind, architecture, backend):
    X, y = regression(kind)
    model = make(name, backend, **SOME, architecture=architecture, max_iter=3).fit(X, y)
    parameters, native = model._state.parameters.copy(), model.to_native()
    assert np.array_equal(model.from_native(native)._state.parameters, parameters)
    # Changed by hand, as by further training.
    if backend == "tensorflow":
        layer = native.get_layer("encode")
        assert any(v is layer.frequencies for v in native.trainable_variables)
        layer.frequencies.assign(2 * layer.frequencies)
    else:
        import torch

        (frequencies,) = (p for n, p in native.named_parameters() if n.endswith("frequencies"))
        with torch.no_grad():
            frequencies.mul_(2)
    model.from_native(native)
    changed = np.flatnonzero(model._state.parameters[0] != parameters[0])
    assert len(changed) == model.encoded_features_.sum() * 3
    np.testing.assert_array_equal(model._state.parameters[0, changed], 2 * parameters[0, changed])
    if name == "ProbabilisticRegressor":
        mean = native(X).mean().numpy() if backend == "tensorflow" else native(torch.as_tensor(X)).mean.detach().numpy()
        np.testing.assert_allclose(mean[:, 0], model.predict(X), rtol=2e-4)


def test_frequencies_start_at_their_scale():
    network = Network(50, (4,), "silu", "mlp", HEAD, encoding=Periodic(40, frequency_scale=0.25))
    flat = network.initial_weights(np.random.default_rng(0), np.zeros(HEAD.n_raw), np.zeros(HEAD.n_constants))
    frequencies = (
        network.views(flat[None])["frequencies"] * network.encoding.fit(np.ones((2, 50)), np.ones(2))["frequency_scale"]
    )
    assert frequencies.mean() == pytest.approx(0, abs=0.02)
    assert frequencies.std() == pytest.approx(0.25, rel=0.05)
    # A number, so that a search over it compiles nothing anew.
    other = replace(network, encoding=Periodic(40, frequency_scale=0.5))
    assert Program(other) == Program(network)
    assert hash(Program(other)) == hash(Program(network))


@each_backend
def test_penalties_leave_frequencies_alone(backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, **SOME, regularizer="l1", alpha=10.0, max_iter=40).fit(X, y)
    assert model.n_nonzero_weights_ == 0
    assert not model.selected_features_.any()
    views = model._state.network.views(model._state.parameters)
    assert np.all(views["frequencies"] != 0)


@each_backend
def test_a_feature_is_selected_if_it_or_a_part_of_it_has_weights(backend):
    model = make("ProbabilisticRegressor", backend, **SOME, max_iter=2).fit(*regression())
    network = model._state.network
    kernel = network.views(model._state.parameters)[network.input_kernel.name][0]
    kernel[[0, *range(3, 9)]] = 0  # the first feature, its sines and its cosines
    kernel[1] = 0
    model._report_weights()
    assert model.selected_features_.tolist() == [False, True, True]


@each_backend
def test_warm_start_goes_on_from_the_frequencies(backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, **SOME, warm_start=True, max_iter=2).fit(X, y)
    fixed, parameters = model._state.posterior.features, model._state.parameters
    model.set_params(learning_rate_init=1e-9, frequency_scale=0.7).fit(X, y)
    assert model._state.posterior.features is fixed
    np.testing.assert_allclose(model._state.parameters, parameters, atol=1e-6)
    model.set_params(n_frequencies=4).fit(X, y)
    assert model._state.network.encoding == Periodic(4)
    assert model._state.posterior.features["frequency_scale"] == np.float32(0.7)


@each_backend
def test_waves_are_found(backend):
    rng = np.random.default_rng(0)
    X, X_new = rng.uniform(-1, 1, size=(2, 300, 2))
    wave = lambda X: np.sin(6 * X[:, 0]) * np.cos(6 * X[:, 1])  # noqa: E731
    y = wave(X) + 0.1 * rng.normal(size=300)
    errors = {}
    for encoding in (None, "periodic"):
        settings = {"input_encoding": encoding, "frequency_scale": 0.3, "max_iter": 150}
        model = skuq.ProbabilisticRegressor(**settings, backend=backend, random_state=0)
        errors[encoding] = np.mean((model.fit(X, y).predict(X_new) - wave(X_new)) ** 2)
    assert errors["periodic"] < 0.5 * errors[None]


def test_standardised_zero_of_a_column_that_never_varied_says_nothing():
    X = np.c_[np.arange(20.0), np.full(20, 3.0)]
    Z = Standardizer.fit(X, np.ones(20)).without_constants()(X)[None]
    encoding = Periodic(4)
    parts = encoding.apply(Z, {"frequencies": np.ones((1, 2, 4))}, encoding.fit(Z[0], np.ones(20)))
    assert np.all(parts[0, :, 1] == 0)
    assert np.all(parts[0, :, 2 + 8 :] == 0)
