"""The TensorFlow backend against what it did not write: Keras, TFP, scipy, scikit-learn, closed forms."""

import gc
import json
import random
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from skuq import likelihoods as lk
from skuq._data.encoding import Periodic, PiecewiseLinear
from skuq._model.gaussian_process import RandomFeatureGP
from skuq._model.heads import classification_head, link_parameters
from skuq._model.network import ACTIVATIONS, Network
from skuq._model.posteriors import GaussianProcess, PointEstimates, VariationalPosterior
from skuq._model.variational import Posterior, Prior
from skuq.backends import Fitted, Knobs, Program

tf = pytest.importorskip("tensorflow")
tf_keras = pytest.importorskip("tf_keras")
tfp = pytest.importorskip("tensorflow_probability")
tfd = tfp.distributions

from skuq.backends import _tensorflow as backend  # noqa: E402
from skuq.backends._tensorflow import _elementary, _padding, _posterior, _trainer  # noqa: E402

pytestmark = pytest.mark.xdist_group("tensorflow")

LIKELIHOODS = [
    *(family(scale=scale) for family in (lk.Normal, lk.Laplace, lk.StudentT) for scale in ("input", "constant", 0.7)),
    lk.StudentT(df=5.0),
    *(lk.Gamma(shape=shape) for shape in ("input", "constant", 2.0)),
    lk.Poisson(),
    *(lk.NegativeBinomial(concentration=r) for r in ("input", "constant", 2.0)),
]
NORMAL = lk.Normal(scale=1.0).head(1)


def targets(likelihood, shape, rng):
    """Targets in the family's support."""
    if likelihood.discrete:
        return rng.poisson(3.0, shape).astype(np.float32)
    y = rng.standard_normal(shape).astype(np.float32)
    return np.exp(y) if isinstance(likelihood, lk.Gamma) else y


def network(n_features=3, sizes=(8, 5), head=NORMAL, activation="tanh", architecture="mlp", n_inducing=0):
    return Network(n_features, sizes, activation, architecture, head, n_inducing)


def weights_of(net, n_members=1, seed=0):
    """Random weights, biases and constants too, so that nothing is hidden by a zero."""
    rng = np.random.default_rng(seed)
    raw, constants = np.zeros(net.head.n_raw), np.zeros(net.head.n_constants)
    start = [net.initial_weights(rng, raw, constants) for _ in range(n_members)]
    return np.stack(start) + 0.3 * rng.standard_normal((n_members, net.n_weights)).astype(np.float32)


def batches(net, n_steps, n_members=1, n_rows=12, seed=1):
    """X, y, weight, learning rate of some steps."""
    rng, family = np.random.default_rng(seed), net.head.family
    shape = (n_steps, n_members, n_rows)
    X = rng.standard_normal((*shape, net.n_features)).astype(np.float32)
    if family == "categorical":
        y = np.eye(net.head.n_outputs, dtype=np.float32)[rng.integers(net.head.n_outputs, size=shape)]
    elif family == "bernoulli":
        y = rng.integers(2, size=(*shape, 1)).astype(np.float32)
    else:
        y = rng.standard_normal((*shape, net.head.n_outputs)).astype(np.float32)
    return X, y, np.full(shape, 1 / n_rows, np.float32), np.full(n_steps, 0.01, np.float32)


def trainer(program, parameters=None, features=None, seed=0, n_members=1, **knobs):
    fixed = np.ones(program.network.head.n_fixed, np.float32)
    n_prior = program.network.n_layer_weights if program.posterior else 0
    knobs = Knobs(**{"fixed": fixed, "prior_scale": np.ones(n_prior, np.float32), **knobs})
    if parameters is None:
        parameters = weights_of(program.network, n_members)
        if program.posterior:
            parameters = np.stack([program.posterior.initial(w, 0.1) for w in parameters])
    return backend.Trainer(program, parameters, features or {}, knobs, seed)


def fitted_of(net, n_members=1, seed=0, kind=PointEstimates, options=None, **changes):
    """A fitted model with random arrays everywhere; `options` are those of its posterior."""
    rng, k = np.random.default_rng(seed), net.head.n_outputs
    state = {
        "fixed": np.full(net.head.n_fixed, 2.5),
        "x_shift": rng.normal(size=net.n_features),
        "x_scale": rng.uniform(0.5, 2, net.n_features),
        "y_shift": np.zeros(k),
        "y_scale": np.ones(k),
    }
    arrays = {"parameters": weights_of(net, n_members, seed), "features": net.initial_random_features(rng, 2.0)}
    return Fitted(posterior=kind(network=net, **{**arrays, **(options or {})}), **{**state, **changes})


def reference(fitted, X, weights=None):
    """Raw outputs (S, n_rows, n_raw) and constants by `Network`, in double precision."""
    net = fitted.network
    views = net.views((fitted.posterior.parameters if weights is None else weights).astype(float))
    raw = net.raw_outputs(views, (X - fitted.x_shift) / fitted.x_scale, fixed=fitted.posterior.features)
    return raw, views.get("constants", np.zeros((len(raw), 0)))


# Losses


# Training


@pytest.mark.parametrize(
    ("activation", "architecture", "n_inducing"),
    [*((name, ("mlp", "resnet")[i % 2], 0) for i, name in enumerate(ACTIVATIONS)), ("tanh", "resnet", 16)],
)
def test_steps_equal_keras(activation, architecture, n_inducing):
    net = network(3, (6, 6), classification_head(3), activation, architecture, n_inducing)
    fitted = fitted_of(net, x_shift=np.zeros(3), x_scale=np.ones(3))
    X, y, weight, rate = batches(net, 5)
    ours = trainer(Program(net), fitted.posterior.parameters, fitted.posterior.features)
    losses = ours.run(X, y, weight, rate)[:, 0]

    model, adam = backend.to_native(fitted), tf_keras.optimizers.Adam(0.01, epsilon=1e-8)
    cross_entropy = tf_keras.losses.CategoricalCrossentropy(from_logits=True)
    for i in range(5):
        with tf.GradientTape() as tape:
            loss = cross_entropy(y[i, 0], model(X[i, 0]))
        np.testing.assert_allclose(losses[i], loss, rtol=1e-4)
        variables = model.trainable_variables
        adam.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    np.testing.assert_allclose(ours.parameters(), backend.from_native(model, fitted).posterior.parameters, atol=3e-4)


@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
@pytest.mark.parametrize("prior", ["normal", "scale_mixture"])
def test_divergence_equals_tfp(kind, prior):
    net = network(2, (3,), lk.Normal(scale="constant").head(1))
    posterior, rng = Posterior(net, kind), np.random.default_rng(0)
    n, exact = net.n_layer_weights, prior == "normal"
    flat = rng.normal(size=(1, posterior.n_parameters)).astype(np.float32)
    scale = rng.uniform(0.5, 1.5, n).astype(np.float32)
    program = Program(net, posterior, prior, n_train_samples=1 if exact else 20_000)
    knobs = {"kl_weight": 1.0, "prior_scale": scale, "prior_ratio": 0.2, "prior_mix": 0.3}
    X, y, weight, rate = batches(net, 1, n_rows=2)
    found = trainer(program, flat, **knobs).run(X, y, 0 * weight, rate)[0, 0]

    if exact:
        p = tfd.MultivariateNormalDiag(tf.zeros(n), scale)
    else:
        mix = tfd.Categorical(probs=[[0.3, 0.7]] * n)
        p = tfd.Independent(tfd.MixtureSameFamily(mix, tfd.Normal(0.0, np.stack([scale, 0.2 * scale], axis=-1))), 1)
    mean, spread, _ = posterior.split(flat[0])
    if kind == "mean_field":
        factor = np.diag(np.logaddexp(0, spread))
    else:
        factor = np.zeros((n, n), np.float32)
        for (start, stop), block in zip(posterior.blocks, posterior.scale_factors(spread), strict=True):
            factor[start:stop, start:stop] = block
    q = tfd.MultivariateNormalTriL(mean, factor.astype(np.float32))
    if exact:
        np.testing.assert_allclose(found, tfd.kl_divergence(q, p), rtol=1e-4)
    else:
        draws = q.sample(20_000, seed=3)
        log_ratio = (q.log_prob(draws) - p.log_prob(draws)).numpy()
        assert abs(found - log_ratio.mean()) < 5 * log_ratio.std() / np.sqrt(20_000) * np.sqrt(2)


@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
@pytest.mark.parametrize("prior", ["normal", "scale_mixture"])
def test_gradient_of_drawn_weights_and_divergence_equals_tfp(kind, prior):
    net = network(2, (3,), lk.Normal(scale="constant").head(1))
    posterior, rng, n_samples = Posterior(net, kind), np.random.default_rng(0), 3
    n, stream = net.n_layer_weights, tf.constant([5, -7])
    theta = tf.constant(rng.normal(scale=2.0, size=(2, posterior.n_parameters)), tf.float32)
    scale = rng.uniform(0.5, 1.5, n).astype(np.float32)
    upstream = tf.constant(rng.normal(size=(2, n_samples, net.n_weights)), tf.float32)
    knobs = {"prior_scale": tf.constant(scale), "prior_ratio": tf.constant(0.2), "prior_mix": tf.constant(0.3)}
    program = Program(net, posterior, prior, n_samples)
    noise = _elementary.standard_normals((2, n_samples, n), stream)

    def ours(theta):
        weights, divergence = _posterior.sampled_weights(program, theta, knobs, stream)
        return tf.reshape(weights, upstream.shape), divergence

    def reference(theta):
        mean, spread, constants = posterior.split(theta)
        if kind == "mean_field":
            factor = tf.linalg.diag(tf.math.softplus(spread))
        else:
            blocks, used = [], 0
            for start, stop in posterior.blocks:
                rows, columns = np.tril_indices(stop - start)
                own = spread[:, used : used + len(rows)]
                own = tf.where(rows == columns, tf.math.softplus(own), own)
                where = tf.constant(np.stack([rows, columns], axis=1))
                blocks.append(tf.stack([tf.scatter_nd(where, e, (stop - start,) * 2) for e in tf.unstack(own)]))
                used += len(rows)
            factor = tf.linalg.LinearOperatorBlockDiag(
                [tf.linalg.LinearOperatorFullMatrix(b) for b in blocks]
            ).to_dense()
        drawn = mean[:, None] + tf.einsum("mij,msj->msi", factor, noise)
        q = tfd.MultivariateNormalTriL(mean, factor)
        if prior == "normal":
            divergence = tfd.kl_divergence(q, tfd.MultivariateNormalDiag(tf.zeros(n), scale))
        else:
            mix = tfd.Categorical(probs=[[0.3, 0.7]] * n)
            p = tfd.MixtureSameFamily(mix, tfd.Normal(0.0, np.stack([scale, 0.2 * scale], axis=-1)))
            # Of log q only the determinant moves with θ where the noise stays.
            log_q = tfd.MultivariateNormalDiag(tf.zeros(n)).log_prob(noise) - tf.linalg.slogdet(factor)[1][:, None]
            divergence = tf.reduce_mean(log_q - tf.reduce_sum(p.log_prob(drawn), axis=-1), axis=1)
        return tf.concat([drawn, tf.repeat(constants[:, None], n_samples, axis=1)], axis=-1), divergence

    found, expected = [], []
    for function, results in ((ours, found), (reference, expected)):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            weights, divergence = function(theta)
            loss = tf.reduce_sum(weights * upstream) + tf.reduce_sum(divergence * [0.7, 2.0])
        results += [weights, divergence, tape.gradient(loss, theta)]
    for ours_, reference_ in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours_, reference_, rtol=2e-5, atol=2e-5)


def test_scale_factors_equal_those_of_the_spec():
    net = network(2, (3,))
    posterior = Posterior(net, "full_covariance")
    spread = np.random.default_rng(0).normal(scale=3.0, size=(2, posterior.n_spreads)).astype(np.float32)
    factors, log_det = _posterior._scale_factors(posterior, tf.constant(spread))
    for i in range(2):
        expected = posterior.scale_factors(spread[i].astype(float))
        for found, factor in zip(factors, expected, strict=True):
            np.testing.assert_allclose(found[i], factor, rtol=1e-5, atol=1e-30)
        np.testing.assert_allclose(log_det[i], sum(np.log(np.diagonal(f)).sum() for f in expected), rtol=1e-5)


def test_elementary_functions_equal_numpy():
    turns = np.linspace(-8, 8, 10_001)
    np.testing.assert_allclose(_elementary.sine(tf.constant(turns, tf.float32)), np.sin(2 * np.pi * turns), atol=2e-6)
    y = np.concatenate([np.geomspace(1e-37, 1e37, 100_001), 1 + np.linspace(-1e-3, 1e-3, 2001)]).astype(np.float32)
    np.testing.assert_allclose(_elementary.logarithm(tf.constant(y)), np.log(y.astype(float)), rtol=3e-7, atol=1e-10)
    x = np.linspace(-80, 80, 100_001, dtype=np.float32)
    np.testing.assert_allclose(_elementary.softplus(tf.constant(x)), np.logaddexp(0, x.astype(float)), rtol=6e-7)


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_words_of_random123(key, counter, words):
    key, counter = ([tf.constant(word, tf.uint32) for word in pair] for pair in (key, counter))
    assert tuple(int(word) for word in _elementary.threefry(key, counter)) == words


def test_normals_are_normal_and_independent():
    n = 2**20
    draw = tf.function(lambda stream: _elementary.standard_normals((n,), stream), jit_compile=True)
    drawn = np.stack([draw(tf.constant(stream)).numpy() for stream in ([0, 0], [1, 0], [0, 1], [-5, 2**31 - 1])])
    assert drawn.dtype == np.float32
    for z in drawn.astype(float):
        assert stats.kstest(z, "norm").pvalue > 1e-3
        for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
            spread = np.sqrt((special.factorial2(2 * power - 1) - moment**2) / n)
            assert abs(np.mean(z**power) - moment) < 4.5 * spread
        for limit in (3.0, 4.0, 4.5):
            expected = n * stats.norm.sf(limit)
            assert max(abs(np.sum(tail > limit) - expected) for tail in (z, -z)) < 4.5 * np.sqrt(expected) + 1
        # Neighbours, in place and in size, know nothing of each other.
        for lag in (1, 2, 3, 1024):
            for f in (lambda v: v, np.square, np.sign, lambda v: np.abs(v) > 2):
                assert abs(np.corrcoef(f(z[:-lag]), f(z[lag:]))[0, 1]) < 4.5 / np.sqrt(n)
    # Nor do streams that differ in one number.
    for f in (lambda v: v, np.square):
        assert np.all(np.abs(np.corrcoef(f(drawn.astype(float))) - np.eye(len(drawn))) < 4.5 / np.sqrt(n))


RESNET = network(architecture="resnet", sizes=(4, 4))
RANDOM_PROGRAMS = (
    Program(RESNET, dropout=True, spectral_norm=True),
    Program(RESNET, Posterior(RESNET, "mean_field"), "scale_mixture", n_train_samples=2),
)


def test_numbers_are_the_same_in_another_process():
    code = """
import json, sys
import numpy as np
from skuq.backends import _tensorflow as backend, Knobs, Program
from skuq._model.network import Network
from skuq._model.heads import classification_head
network = Network(3, (4,), "relu", "mlp", classification_head(2))
trainer = backend.Trainer(Program(network, dropout=True), np.ones((1, 21), np.float32), {}, Knobs(dropout_rate=0.5), 3)
losses = trainer.run(*(np.ones((4, 1, *shape), np.float32) for shape in ((2, 3), (2, 1), (2,))), np.ones(4, np.float32))
"""
    answer = subprocess.run([sys.executable, "-c", code + "print(json.dumps(losses.tolist()))"], capture_output=True)
    here = {}
    exec(code, here)
    assert here["losses"].tolist() == json.loads(answer.stdout)


def test_global_generators_are_untouched():
    def draws():
        return tf.random.normal((3,)).numpy().tolist(), random.random(), np.random.random()  # noqa: NPY002

    def seed():
        tf.random.set_seed(1)
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002

    seed()
    before = draws()
    for program in RANDOM_PROGRAMS:
        seed()
        trainer(program, dropout_rate=0.5).run(*batches(program.network, 2))
        assert draws() == before


def test_knobs_and_lengths_compile_nothing():
    net = network(sizes=(7,))
    program = Program(net, dropout=True, l1=True, spectral_norm=True)
    data = batches(net, 9)
    trainer(program).run(*data)
    compiled = _trainer._compile.cache_info().misses
    other = trainer(replace(program), l1=0.1, l2=0.1, dropout_rate=0.2, spec_norm_bound=0.3, beta=0.5)
    for n_steps in (1, 5, 9):
        assert len(other.run(*(a[:n_steps] for a in data))) == n_steps
    assert _trainer._compile.cache_info().misses == compiled


@pytest.mark.parametrize("sizes", [(), (4,)])
def test_run_longer_than_one_stretch(sizes):
    net = network(2, sizes)
    data = batches(net, _trainer.MAX_STEPS + 100, n_rows=3)
    data[1][::50] *= 1000  # so that some gradients are shortened, by what is usual over all stretches
    whole, halves = trainer(Program(net)), trainer(Program(net))
    losses = whole.run(*data)
    assert losses.shape == (_trainer.MAX_STEPS + 100, 1)
    halves.run(*(a[:300] for a in data))
    halves.run(*(a[300:] for a in data))
    np.testing.assert_array_equal(whole.parameters(), halves.parameters())


WIDE_PROGRAMS = {
    "linear": Program(network(17, ()), l1=True),
    "mlp": Program(network(17, (6, 4))),
    "bins": Program(replace(network(17, (6, 4)), encoding=PiecewiseLinear(3))),
    "periodic": Program(replace(network(17, (6, 4)), encoding=Periodic(3))),
    "some periodic": Program(replace(network(18, (6, 6), architecture="resnet"), encoding=Periodic(2, 17))),
    "resnet": Program(network(17, (6, 6), architecture="resnet", n_inducing=8), spectral_norm=True),
}


@pytest.mark.parametrize("program", WIDE_PROGRAMS.values(), ids=WIDE_PROGRAMS)
def test_padding_features_changes_nothing(program, monkeypatch):
    net = program.network
    features = net.initial_random_features(np.random.default_rng(0), 1.0)
    if net.encoding is not None:
        X = np.random.default_rng(1).standard_normal((200, net.n_encoded)).astype(np.float32)
        features |= net.encoding.fit(X, np.ones(200))
        if net.n_encoded < net.n_features:
            features["encoded"] = np.arange(1, 18)
    data = batches(net, 20)
    padded, exact = _padded_and_exact(program, monkeypatch, features=features, l1=0.01, l2=0.01)
    assert padded._program.network.n_features == 18
    np.testing.assert_array_equal(padded.parameters(), exact.parameters())
    np.testing.assert_allclose(padded.run(*data), exact.run(*data), rtol=1e-4)
    np.testing.assert_allclose(padded.parameters(), exact.parameters(), atol=1e-4)


def _padded_and_exact(program, monkeypatch, **settings):
    padded = trainer(program, **settings)
    monkeypatch.setattr(_padding, "EXACT", 1000)
    return padded, trainer(program, **settings)


def test_a_search_over_columns_compiles_few_functions():
    sizes = [_padding.padded_features(n) for n in range(1, 1001)]
    assert all(n <= size <= max(16, n * 9 / 8) for n, size in enumerate(sizes, start=1))
    assert len(set(sizes)) < 70
    compiled = _trainer._compile.cache_info().misses
    for n_features in range(33, 37):
        net = network(n_features, (5,))
        trainer(Program(net)).run(*batches(net, 2))
    assert _trainer._compile.cache_info().misses == compiled + 1


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_was_compiled_is_freed(monkeypatch):
    def n_maps():
        gc.collect()
        return len(Path("/proc/self/maps").read_text().splitlines())

    def train(width):
        net = network(2, (width,))
        return trainer(Program(net)).run(*batches(net, 2))

    monkeypatch.setattr(_trainer, "_compile", lru_cache(maxsize=2)(_trainer._compile.__wrapped__))
    first = train(41)
    train(42)
    before = n_maps()
    for width in range(43, 49):
        train(width)
    # Six more at more than 30 maps each, were they kept.
    assert n_maps() < before + 60
    # What is compiled anew says the same.
    np.testing.assert_array_equal(train(41), first)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_process_near_its_limit_of_memory_maps_says_so(monkeypatch):
    net = network(2, (3,))
    monkeypatch.setattr(_trainer, "MANY_MAPS", 0.0)
    with pytest.warns(UserWarning, match="backend='blitz'"):
        trainer(Program(net)).run(*batches(net, 2))


# Native models

THREE_CLASSES = network(sizes=(6, 6), head=classification_head(3), architecture="resnet")
NATIVE = {
    "mlp": (network(head=classification_head(2)), {}),
    "linear": (network(sizes=(), head=classification_head(3)), {}),
    "dropout": (THREE_CLASSES, {"dropout_rate": 0.5}),
    "spectral": (THREE_CLASSES, {"spec_norm_bound": 0.9}),
}


@pytest.mark.parametrize("name", NATIVE)
def test_native_classifier(name):
    net, changes = NATIVE[name]
    fitted = fitted_of(net, n_members=2, options=changes)
    X = np.random.default_rng(1).normal(size=(7, 3))
    models = backend.to_native(fitted)
    for model, raw in zip(models, reference(fitted, X)[0], strict=True):
        np.testing.assert_allclose(model(X), raw, rtol=1e-4, atol=1e-5)
    assert np.array_equal(backend.from_native(models, fitted).posterior.parameters, fitted.posterior.parameters)


@pytest.mark.parametrize("likelihood", [*LIKELIHOODS, lk.LogNormal(), lk.LogNormal(scale="constant")], ids=repr)
def test_native_regressor_is_the_distribution_in_targets_units(likelihood):
    log_target = likelihood.target_transform == "log"
    units = {"y_shift": np.array([2.0, -1.0])} if likelihood.target_transform in ("standardize", "log") else {}
    units["y_scale"] = np.array([3.0, 0.2])
    fitted = fitted_of(network(sizes=(4,), head=likelihood.head(2)), log_target=log_target, **units)
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(7, 3)), targets(likelihood, (7, 2), rng)
    y = np.exp(y) if log_target else y
    parameters = link_parameters(fitted.network.head, *reference(fitted, X), fitted.fixed)
    parameters = likelihood.to_target_units(parameters, fitted.y_shift, fitted.y_scale)

    model = backend.to_native(fitted)
    native = model(X)
    expected = stats_logpdf(likelihood, y, parameters)
    np.testing.assert_allclose(native.log_prob(y.astype(np.float32)), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(native.mean(), likelihood.mean(parameters)[0], rtol=1e-4, atol=1e-5)
    assert np.array_equal(backend.from_native(model, fitted).posterior.parameters, fitted.posterior.parameters)


def stats_logpdf(likelihood, y, parameters):
    frozen = likelihood.distribution(parameters)
    return (frozen.logpmf(y) if likelihood.discrete else frozen.logpdf(y)).sum(axis=-1)[0]


@pytest.mark.parametrize(
    ("head", "n_precisions"),
    [(classification_head(2), 1), (classification_head(3), 1), (classification_head(3), 3), (NORMAL, 1)],
)
def test_native_gaussian_process(head, n_precisions):
    net = network(sizes=(6, 6), head=head, architecture="resnet", n_inducing=32)
    rng = np.random.default_rng(2)
    root = rng.normal(size=(n_precisions, 32, 40))
    precision = 0.5 * np.eye(32) + root @ root.transpose(0, 2, 1) / 8
    covariance = RandomFeatureGP.from_precision(precision, 0.5)
    fitted = fitted_of(net, kind=GaussianProcess, options={"covariance": covariance, "spec_norm_bound": 0.95})
    process = fitted.posterior
    X = rng.normal(size=(7, 3))
    raw = reference(fitted, X)[0][0]
    views = net.views(process.parameters.astype(float))
    phi = net.random_features(net.hidden(views, (X - fitted.x_shift) / fitted.x_scale), process.features)[0]
    variances = 0.5 * np.einsum("nm,kml,nl->nk", phi, np.linalg.inv(precision), phi)

    model = backend.to_native(fitted)
    output, covariance = model(X)
    logits = output.mean() if head is NORMAL else output
    np.testing.assert_allclose(logits, raw, rtol=1e-4, atol=1e-5)
    assert covariance.shape == ((7, 7) if n_precisions == 1 else (7, 7, 3))
    found = np.diagonal(covariance).T if n_precisions > 1 else np.diagonal(covariance)[:, None]
    np.testing.assert_allclose(found, variances, rtol=1e-4)
    again = backend.from_native(model, fitted).posterior
    assert np.array_equal(again.parameters, process.parameters)
    assert np.array_equal(again.precision, process.precision)


def variational(kind, prior="normal", sigma=0.3, head=None):
    net = network(sizes=(4,), head=head or classification_head(3))
    posterior, rng = Posterior(net, kind), np.random.default_rng(0)
    parameters = posterior.initial(weights_of(net)[0], sigma)
    n = net.n_layer_weights
    if sigma > 0.01:
        parameters[n : n + posterior.n_spreads] += 0.1 * rng.normal(size=posterior.n_spreads)
    against = Prior(family=prior, scale=rng.uniform(0.5, 1.5, n), ratio=0.1, mix=0.4)
    options = {"parameters": parameters[None], "layout": posterior, "prior": against}
    return fitted_of(net, kind=VariationalPosterior, options=options)


@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
def test_native_posterior(kind):
    fitted = variational(kind)
    net, layout, parameters = fitted.network, fitted.posterior.layout, fitted.posterior.parameters
    mean, spread, _ = layout.split(parameters[0])
    model = backend.to_native(fitted, kl_weight=0.5)
    for i, (layer, (start, stop)) in enumerate(zip(net.layers, layout.blocks, strict=True)):
        q = model.get_layer(layer[0].name.replace("kernel", "dense"))._posterior(tf.zeros(()))
        np.testing.assert_array_equal(q.mean(), mean[start:stop])
        if kind == "mean_field":
            np.testing.assert_allclose(q.stddev(), np.logaddexp(0, spread[start:stop]), rtol=1e-5)
        else:
            factor = layout.scale_factors(spread)[i]
            np.testing.assert_allclose(q.covariance(), factor @ factor.T, atol=1e-6)
    assert np.array_equal(backend.from_native(model, fitted).posterior.parameters, parameters)

    # The losses that its layers add are the divergence that the trainer adds.
    X, y, weight, rate = batches(net, 1)
    knobs = {"kl_weight": 0.5, "prior_scale": fitted.posterior.prior.scale}
    ours = trainer(Program(net, layout, "normal"), parameters, **knobs)
    model(X[0, 0])
    np.testing.assert_allclose(sum(model.losses), ours.run(X, y, 0 * weight, rate)[0, 0], rtol=1e-4)


@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
def test_native_posterior_samples_the_same_outputs(kind):
    fitted, rng = variational(kind), np.random.default_rng(1)
    X = rng.normal(size=(5, 3))
    noise = rng.standard_normal((20_000, fitted.network.n_layer_weights))
    ours = reference(fitted, X, fitted.posterior.layout.draw(fitted.posterior.parameters[0], noise))[0]
    model = tf.function(backend.to_native(fitted))
    tf.random.set_seed(0)
    native = np.stack([model(X.astype(np.float32)) for _ in range(3000)])
    spread = ours.std(axis=0)
    np.testing.assert_array_less(np.abs(native.mean(axis=0) - ours.mean(axis=0)), 5 * spread / np.sqrt(3000))
    np.testing.assert_allclose(native.std(axis=0), spread, rtol=0.08)


@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
def test_native_posterior_without_noise_is_the_network(kind):
    fitted = variational(kind, sigma=1e-7, head=lk.Normal(scale="constant").head(1))
    X = np.random.default_rng(1).normal(size=(5, 3))
    zero = np.zeros((1, fitted.network.n_layer_weights))
    raw, constants = reference(fitted, X, fitted.posterior.layout.draw(fitted.posterior.parameters[0], zero))
    native = backend.to_native(fitted)(X)
    np.testing.assert_allclose(native.mean(), raw[0], rtol=1e-4, atol=1e-5)
    noise = lk.SCALE_FLOOR + np.logaddexp(0, constants[0])
    np.testing.assert_allclose(native.stddev(), np.full((5, 1), noise), rtol=1e-4)


@pytest.mark.parametrize("prior", ["normal", "scale_mixture"])
def test_native_models_train_further(prior):
    fitted = variational("mean_field", prior, head=lk.Normal().head(1))
    model = backend.to_native(fitted, kl_weight=0.01)
    X, y = (a[0, 0] for a in batches(fitted.network, 1, n_rows=32)[:2])
    model.compile(tf_keras.optimizers.Adam(0.01), loss=lambda y, distribution: -distribution.log_prob(y))
    losses = model.fit(X, y, epochs=30, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    changed = backend.from_native(model, fitted).posterior.parameters
    assert not np.allclose(changed, fitted.posterior.parameters)


def test_building_a_native_model_leaves_global_generators_alone():
    net = network(sizes=(4, 4), head=classification_head(3), architecture="resnet", n_inducing=8)
    options = {"dropout_rate": 0.1, "covariance": RandomFeatureGP.from_precision(np.eye(8)[None], 1.0)}
    for fitted in (fitted_of(net, kind=GaussianProcess, options=options), variational("full_covariance")):
        before = random.getstate()
        backend.to_native(fitted)
        assert random.getstate() == before
