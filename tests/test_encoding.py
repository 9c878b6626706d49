"""Piecewise-linear encoding: what the bins are, who gets them, and that every path computes the same ones."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from _table import REGRESSORS, each_backend, make, regression
from scipy import sparse
from sklearn.datasets import make_friedman1

import skuq
from skuq import backends
from skuq._data.encoding import PiecewiseLinear
from skuq._data.encoding.piecewise_linear import BINS_VARIANCE, SMOOTH_VARIANCE, fit_bins
from skuq._model.network import Network
from skuq._model.variational import Posterior
from skuq.backends import Knobs, Program
from skuq.likelihoods import Normal

HEAD = Normal().head(1)


def encode(X, bins, encoded=None):
    """Features and bins of rows with any leading axes."""
    fixed = {"bins": bins} if encoded is None else {"bins": bins, "encoded": encoded}
    kind = PiecewiseLinear(bins.shape[2], None if encoded is None else len(encoded))
    return kind.apply(X.reshape(1, -1, X.shape[-1]), {}, fixed).reshape(*X.shape[:-1], -1)


def edges_of(bins, j):
    """Edges of a feature's bins, from slope, offset and values at the ends."""
    slope, offset, lowest, highest = (part[j][bins[0, j] > 0].astype(float) for part in bins)
    return np.append((lowest - offset) / slope, (highest - offset)[-1] / slope[-1])


def table(n=500, seed=0):
    """Skewed, discrete, binary, constant and normal columns."""
    rng = np.random.default_rng(seed)
    columns = [
        np.exp(rng.normal(size=n)),
        rng.integers(6, size=n),
        rng.integers(2, size=n),
        np.ones(n),
        rng.normal(size=n),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def test_edges_are_quantiles():
    X = table()
    bins = fit_bins(X, np.ones(len(X)), 7)
    quantiles = np.quantile(X.astype(float), np.arange(8) / 7, axis=0, method="inverted_cdf")
    for j in (0, 4):
        np.testing.assert_allclose(edges_of(bins, j), quantiles[:, j], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(edges_of(bins, 1), np.unique(quantiles[:, 1]), atol=1e-4)


def test_a_feature_that_needs_no_bins_has_none():
    bins = fit_bins(table(), np.ones(500), 8)
    assert np.all(bins[:, 2:4] == 0)  # two values, and one
    assert np.all(encode(table(), bins)[:, 5 + 2 * 8 : 5 + 4 * 8] == 0)


def test_bins_are_positions_between_the_edges():
    X = table()
    bins = fit_bins(X, np.ones(len(X)), 8)
    beyond = np.linspace(-50, 50, 2001, dtype=np.float32)[:, None].repeat(5, axis=1)
    for rows in (X, beyond):
        encoded = encode(rows, bins)
        assert encoded.dtype == np.float32
        np.testing.assert_array_equal(encoded[:, :5], rows)
        for j in (0, 1, 4):
            used = bins[0, j] > 0
            parts = encoded[:, 5 + 8 * j : 13 + 8 * j][:, used].astype(float)
            lowest, highest = bins[2, j][used], bins[3, j][used]
            position = ((parts - lowest) / (highest - lowest)).sum(axis=1)
            expected = np.interp(rows[:, j], edges_of(bins, j), np.arange(used.sum() + 1))
            np.testing.assert_allclose(position, expected, atol=1e-3)


@pytest.mark.parametrize("smooth", [False, True])
def test_bins_have_mean_zero_and_share_one_variance(smooth):
    """Small where they cut a feature of many values into stretches; not where each is a step between two of few values."""
    few = np.random.default_rng(2).integers(0, 6, 500).astype(np.float32)
    X, weight = np.c_[table()[:, :1], few], np.random.default_rng(1).uniform(0.1, 3, 500)
    parts = encode(X, fit_bins(X, weight, 8, smooth))[:, 2:].astype(float)
    mean = np.average(parts, axis=0, weights=weight)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    variance = np.average((parts - mean) ** 2, axis=0, weights=weight)
    np.testing.assert_allclose(variance[:8], (SMOOTH_VARIANCE if smooth else BINS_VARIANCE) / 8, rtol=1e-4)
    np.testing.assert_allclose(variance[8:13], BINS_VARIANCE / 8, rtol=1e-4)


def test_a_weight_of_two_is_a_row_that_stands_twice():
    X = table(101)
    weight = np.random.default_rng(2).integers(1, 4, 101)
    np.testing.assert_allclose(
        fit_bins(X, weight, 8), fit_bins(np.repeat(X, weight, axis=0), np.ones(weight.sum()), 8), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(fit_bins(X, weight, 8), fit_bins(X, 0.3 * weight, 8), rtol=1e-6)


def test_many_rows_are_sampled_evenly():
    x = np.random.default_rng(3).normal(size=(200_000, 1)).astype(np.float32)
    x.sort(axis=0)  # as rows stand when they come from fit
    quantiles = np.quantile(x[:, 0], np.arange(17) / 16)
    np.testing.assert_allclose(edges_of(fit_bins(x, np.ones(len(x)), 16), 0)[1:-1], quantiles[1:-1], atol=1e-3)


@pytest.mark.parametrize(("architecture", "posterior"), [("mlp", False), ("resnet", False), ("mlp", True)])
@each_backend
def test_trainers_encode_as_numpy(architecture, posterior, backend):
    """Training on X with bins is training on encoded columns without."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 2, 12, 3)).astype(np.float32)
    y = rng.normal(size=(5, 2, 12, 1)).astype(np.float32)
    bins = fit_bins(X.reshape(-1, 3), np.ones(120), 4)
    trained = []
    for network, rows, features in (
        (Network(3, (6, 6), "tanh", architecture, HEAD, encoding=PiecewiseLinear(4)), X, {"bins": bins}),
        (Network(15, (6, 6), "tanh", architecture, HEAD), encode(X, bins), {}),
    ):
        program, knobs = Program(network), Knobs()
        start = np.random.default_rng(1).normal(size=(2, network.n_weights)).astype(np.float32) / 4
        if posterior:
            program = Program(network, Posterior(network, "mean_field"), "normal", 3)
            start = np.stack([program.posterior.initial(own, 0.1) for own in start])
            knobs = Knobs(kl_weight=0.1, prior_scale=np.ones(network.n_layer_weights, np.float32))
        trainer = backends.load(backend).Trainer(program, start, features, knobs, 0)
        losses = trainer.run(rows, y, np.full((5, 2, 12), 1 / 12, np.float32), np.full(5, 0.01, np.float32))
        trained.append((losses, trainer.parameters()))
    np.testing.assert_allclose(*(losses for losses, _ in trained), rtol=1e-4)
    np.testing.assert_allclose(*(parameters for _, parameters in trained), atol=2e-4)


@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
@each_backend
def test_native_models_encode_too(architecture, backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, architecture=architecture, input_encoding="piecewise_linear").fit(
        X, y
    )
    native = model.to_native()
    if backend == "tensorflow":
        mean = native(X.astype(np.float32)).mean().numpy()[:, 0]
    else:
        import torch

        mean = native(torch.as_tensor(X)).mean.detach().numpy()[:, 0]
    np.testing.assert_allclose(mean, model.predict(X), rtol=2e-4)
    before = model.predict(X)
    np.testing.assert_allclose(model.from_native(native).predict(X), before, rtol=1e-5)


def n_bins_of(model, X, y):
    encoding = model.set_params(max_iter=1).fit(X, y)._state.network.encoding
    return 0 if encoding is None else encoding.size


@each_backend
def test_auto_encodes_tables_of_regressors(backend):
    X, y = regression()
    for name in ("Probabilistic", "MCDropout", "DeepEnsemble", "BNN"):
        assert n_bins_of(make(f"{name}Regressor", backend, n_bins=5), X, y) == 5
    assert n_bins_of(make("ProbabilisticRegressor", backend, input_encoding=None), X, y) == 0
    assert n_bins_of(make("ProbabilisticRegressor", backend, hidden_layer_sizes=()), X, y) == 0
    assert n_bins_of(make("ProbabilisticRegressor", backend, n_bins=5), sparse.csr_array(X), y) == 5
    assert n_bins_of(make("ProbabilisticRegressor", backend), np.tile(X, (1, 22)), y) == 0
    assert n_bins_of(make("SNGPRegressor", backend), X, y) == 0
    assert n_bins_of(make("BNNRegressor", backend, posterior="full_covariance"), X, y) == 0
    assert n_bins_of(make("ProbabilisticRegressor", backend, regularizer="l1"), X, y) == 0
    assert n_bins_of(make("ProbabilisticClassifier", backend), X, y > 10) == 8
    assert n_bins_of(make("ProbabilisticClassifier", backend), np.tile(X, (1, 22)), y > 10) == 0
    assert n_bins_of(make("ProbabilisticClassifier", backend, input_encoding=None), X, y > 10) == 0
    assert n_bins_of(make("SNGPClassifier", backend), X, y > 10) == 0
    assert n_bins_of(make("SNGPRegressor", backend, input_encoding="piecewise_linear", n_bins=4), X, y) == 4


def test_asking_for_bins_that_cannot_be_is_an_error():
    for encoding in ("piecewise_linear", "periodic"):
        model = skuq.ProbabilisticRegressor(input_encoding=encoding, hidden_layer_sizes=())
        with pytest.raises(ValueError, match=rf"'{encoding}' needs hidden layers, got .*input_encoding=None"):
            model.fit(np.ones((20, 2)), np.arange(20.0))


@cache
def mixed(n_continuous=2, n_levels=70, n=140):
    """Continuous columns among the one-hot columns of a category, and y."""
    rng = np.random.default_rng(0)
    Z, level = rng.uniform(size=(n, n_continuous)), rng.integers(0, n_levels, n)
    X = np.c_[Z[:, :1], np.eye(n_levels)[level], Z[:, 1:]]
    return X, 3 * np.abs(Z[:, 0] - 0.5) + level / n_levels


@pytest.mark.parametrize("name", REGRESSORS)
@each_backend
def test_columns_of_two_values_stand_alone(name, backend):
    """Every path of a network of which some features are encoded agrees with the plain forward pass of the draws."""
    X, y = mixed()
    encoding = "auto" if not name.startswith("SNGP") else "piecewise_linear"
    model = make(name, backend, input_encoding=encoding, n_bins=4, max_iter=3).fit(X, y)
    many = [len(np.unique(column)) > 2 for column in X.T]
    assert model.encoded_features_.tolist() == many
    assert sum(many) == 2
    network = model._state.network
    assert (network.n_inputs, network.n_encoded) == (72 + 2 * 4, 2)
    Z = model._state.x_standardizer(X)
    columns = np.flatnonzero(many)
    np.testing.assert_array_equal(model._state.posterior.features["encoded"], columns)
    bins = model._state.posterior.features["bins"]
    smooth = name.endswith("Regressor") and not name.startswith("SNGP")
    found = fit_bins(Z[np.lexsort(X.T[::-1])][:, columns], np.ones(len(X)), 4, smooth)
    np.testing.assert_array_equal(bins, found)
    # The encoded columns, put into a network without bins.
    by_hand = np.concatenate([Z, encode(Z[:, columns], bins)[:, 2:]], axis=1)
    plain = replace(network, n_features=network.n_inputs, encoding=None)
    draws = model._state.posterior.draws()
    weights, masks = draws.take(0, 2)
    expected = plain.raw_outputs(plain.views(weights), by_hand, masks, draws.features)
    np.testing.assert_allclose(draws.raw(Z)[0][: len(expected)], expected, rtol=1e-4, atol=1e-5)
    assert model.selected_features_.shape == (72,)


@pytest.mark.parametrize(("architecture", "posterior"), [("mlp", False), ("resnet", False), ("mlp", True)])
@pytest.mark.parametrize(("n_features", "n_encoded"), [(5, 2), (35, 17)])
@each_backend
def test_trainers_encode_some_as_numpy(n_features, n_encoded, architecture, posterior, backend):
    """Training with bins of some columns is training on these columns encoded, padded for compilation or not."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4, 2, 12, n_features)).astype(np.float32)
    y = rng.normal(size=(4, 2, 12, 1)).astype(np.float32)
    encoded = np.sort(rng.choice(n_features, n_encoded, replace=False))
    bins = fit_bins(X[..., encoded].reshape(-1, n_encoded), np.ones(96), 4)
    network = Network(n_features, (6, 6), "tanh", architecture, HEAD, encoding=PiecewiseLinear(4, n_encoded))
    trained = []
    for net, rows, features in (
        (network, X, {"bins": bins, "encoded": encoded}),
        (Network(network.n_inputs, (6, 6), "tanh", architecture, HEAD), encode(X, bins, encoded=encoded), {}),
    ):
        program, knobs = Program(net), Knobs(l2=0.01)
        start = np.random.default_rng(1).normal(size=(2, net.n_weights)).astype(np.float32) / 4
        if posterior:
            program = Program(net, Posterior(net, "mean_field"), "normal", 1)
            # So narrow that which random number falls on which weight does not matter.
            start = np.stack([program.posterior.initial(own, 1e-6) for own in start])
            knobs = Knobs(prior_scale=np.ones(net.n_layer_weights, np.float32))
        trainer = backends.load(backend).Trainer(program, start, features, knobs, 0)
        losses = trainer.run(rows, y, np.full((4, 2, 12), 1 / 12, np.float32), np.full(4, 0.003, np.float32))
        trained.append((losses, trainer.parameters()[:, : net.n_weights]))
    np.testing.assert_allclose(*(losses for losses, _ in trained), rtol=1e-4)
    np.testing.assert_allclose(*(parameters for _, parameters in trained), atol=2e-3)


@each_backend
def test_what_auto_counts(backend):
    """Columns of more than two values among rows that count, up to 64; not columns."""
    X, y = mixed()
    rng = np.random.default_rng(0)
    model = make("ProbabilisticRegressor", backend, max_iter=1)
    assert model.fit(X, y).encoded_features_.sum() == 2
    order = rng.permutation(len(X))
    assert model.fit(X[order], y[order], rng.uniform(0.1, 9, len(X))).encoded_features_.sum() == 2
    X_third, weight = X.copy(), np.ones(len(X))
    X_third[3, 1], weight[3] = 0.5, 0
    assert model.fit(X_third, y, weight).encoded_features_.sum() == 2
    assert model.fit(X_third, y).encoded_features_.sum() == 3
    dense = rng.normal(size=(len(X), 64))
    assert model.fit(np.c_[dense, X[:, 1:-1]], y).encoded_features_.sum() == 64
    assert not model.fit(np.c_[dense, X], y).encoded_features_.any()
    binary = model.fit(X[:, 1:-1], y)
    assert not binary.encoded_features_.any()
    assert binary._state.posterior.features == {}
    assert not model.set_params(hidden_layer_sizes=()).fit(X, y).encoded_features_.any()


@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
@each_backend
def test_native_models_encode_some_too(architecture, backend):
    X, y = mixed()
    model = make("ProbabilisticRegressor", backend, architecture=architecture, n_bins=5, max_iter=4).fit(X, y)
    native = model.to_native()
    if backend == "tensorflow":
        mean = native(X).mean().numpy()[:, 0]
    else:
        import torch

        mean = native(torch.as_tensor(X)).mean.detach().numpy()[:, 0]
    np.testing.assert_allclose(mean, model.predict(X), rtol=2e-4, atol=1e-5)
    before = model.predict(X)
    np.testing.assert_allclose(model.from_native(native).predict(X), before, rtol=1e-5)


@each_backend
def test_steps_are_found(backend):
    rng = np.random.default_rng(0)
    X = rng.uniform(size=(400, 2))
    truth = np.where(np.floor(8 * X[:, 0]) % 2 == 0, 1.0, -1.0)
    y = truth + 0.1 * rng.normal(size=400)
    X_new = rng.uniform(size=(400, 2))
    truth_new = np.where(np.floor(8 * X_new[:, 0]) % 2 == 0, 1.0, -1.0)
    errors = [
        np.mean((skuq.ProbabilisticRegressor(**settings).fit(X, y).predict(X_new) - truth_new) ** 2)
        for encoding in (None, "auto")
        for settings in [{"input_encoding": encoding, "max_iter": 60, "backend": backend, "random_state": 0}]
    ]
    assert errors[1] < 0.5 * errors[0]


@each_backend
def test_functions_go_on_beyond_the_data(backend):
    X = np.linspace(-1, 1, 200)[:, None]
    model = make("ProbabilisticRegressor", backend, max_iter=200).fit(X, 3 * X[:, 0])
    ends = model.predict([[1.0], [1.5], [2.0]])
    assert ends[0] + 0.1 < ends[1] < ends[2] - 0.1


@each_backend
def test_warm_start_keeps_the_bins_it_was_trained_with(backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, warm_start=True, max_iter=3).fit(X, y)
    bins = model._state.posterior.features["bins"]
    assert model.fit(2 * X, y)._state.posterior.features["bins"] is bins
    model.set_params(n_bins=5).fit(X, y)
    assert model._state.posterior.features["bins"].shape == (4, 3, 5)


@each_backend
def test_warm_start_keeps_the_features_that_were_encoded(backend):
    """Whatever values the rows of the next fit happen to have, as long as the same is asked for."""
    X, y = mixed()
    model = make("ProbabilisticRegressor", backend, warm_start=True, max_iter=2, n_bins=4).fit(X, y)
    encoded, parameters = model.encoded_features_, model._state.parameters
    binary = X.copy()
    binary[:, 0] = X[:, 0] > 0.5
    model.set_params(max_iter=1, learning_rate_init=1e-6).fit(binary, y)
    np.testing.assert_array_equal(model.encoded_features_, encoded)
    np.testing.assert_allclose(model._state.parameters, parameters, atol=1e-3)  # it went on
    model.set_params(input_encoding=None).fit(binary, y)
    assert not model.encoded_features_.any()
    model.set_params(input_encoding="auto").fit(binary, y)
    assert model.encoded_features_.tolist() == [False] * 71 + [True]


@each_backend
def test_one_hot_columns_do_not_switch_the_encoding_off(backend):
    rng = np.random.default_rng(0)
    Z, level = rng.uniform(size=(500, 2)), rng.integers(0, 80, 500)
    y = 4 * (np.floor(6 * Z[:, 0]) % 2) + Z[:, 1] + 0.1 * rng.normal(size=500)
    X = np.c_[Z, np.eye(80)[level]]
    errors = {}
    for encoding in (None, "auto"):
        model = skuq.ProbabilisticRegressor(input_encoding=encoding, max_iter=100, backend=backend, random_state=0)
        errors[encoding] = 1 - model.fit(X[:350], y[:350]).score(X[350:], y[350:])
    assert errors["auto"] < 0.7 * errors[None]


@each_backend
def test_a_feature_is_selected_if_it_or_a_bin_of_it_has_weights(backend):
    model = make("ProbabilisticRegressor", backend, max_iter=3, n_bins=4).fit(*regression())
    kernel = model._state.network.views(model._state.parameters)["kernel_0"][0]
    kernel[[0, *range(3, 7)]] = 0  # the first feature and its bins
    kernel[1] = 0
    model._report_weights()
    assert model.selected_features_.tolist() == [False, True, True]
    assert model.n_nonzero_weights_ == np.count_nonzero(kernel) + 16
    kernel[7:11] = 0
    model._report_weights()
    assert model.selected_features_.tolist() == [False, False, True]


# What comes before the encoding


@each_backend
def test_two_values_stand_equally_far_apart_however_rare(backend):
    """Of a network; a linear model and a Gaussian process take each feature in units of its standard deviation."""
    X, y = mixed()
    gaps = {}
    for name, sizes in (("ProbabilisticRegressor", (8,)), ("ProbabilisticRegressor", ()), ("SNGPRegressor", (8,))):
        model = make(name, backend, hidden_layer_sizes=sizes, max_iter=2).fit(X, y)
        gaps[name, sizes] = np.ptp(model._state.x_standardizer(X), axis=0)
    varied = np.array([len(np.unique(column)) == 2 for column in X.T])
    np.testing.assert_allclose(gaps["ProbabilisticRegressor", (8,)][varied], 2, rtol=1e-6)
    deviation = X.std(axis=0)[varied]
    np.testing.assert_allclose(gaps["ProbabilisticRegressor", ()][varied], 1 / deviation, rtol=1e-5)
    np.testing.assert_allclose(gaps["SNGPRegressor", (8,)][varied], 1 / deviation, rtol=1e-5)


@each_backend
def test_idle_features_stay_idle(backend):
    """First kernels of regressors start small and grow where it helps: five of ten features say nothing (Friedman 1991)."""
    X, y = make_friedman1(600, n_features=10, noise=0.5, random_state=0)
    model = make("ProbabilisticRegressor", backend, input_encoding=None, max_iter=150).fit(X[:400], y[:400])
    kernel = model._state.network.views(model._state.parameters)["kernel_0"][0]
    strength = np.sqrt((kernel**2).sum(axis=1))
    assert strength[5:].max() < strength[:5].min()
    assert model.score(X[400:], y[400:]) > 0.9
