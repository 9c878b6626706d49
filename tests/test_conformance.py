"""Every backend keeps the contract of ``skuq/backends/_protocol.py``: it is held to the reference of ``_reference.py``."""

from dataclasses import replace
from typing import NamedTuple

import _reference
import numpy as np
import pytest
from _table import case, each_backend, make, problem
from scipy import stats
from sklearn.linear_model import Lasso, Ridge
from test_gpu import has_gpu

from skuq import backends
from skuq import likelihoods as lk
from skuq._data.encoding import Periodic, PiecewiseLinear
from skuq._model.heads import Head, classification_head
from skuq._model.network import ACTIVATIONS, Network
from skuq._model.variational import Posterior
from skuq.backends import Knobs, Program

N_STEPS, N_MEMBERS, N_ROWS, N_FEATURES = 4, 2, 8, 3
RATES = np.array([0.01, 0.005, 0.02, 0.01], np.float32)


class Gumbel(lk.Likelihood):
    """A likelihood that skuq does not have, with a link of its own."""

    def parameters(self):
        squared = lk.Parameter("scale", lambda xp, raw: 0.5 + xp.square(raw), "input")
        return lk.Parameter("loc", "identity", "input"), squared

    def log_density(self, xp, y, parameters):
        z = (y - parameters["loc"]) / parameters["scale"]
        return -z - xp.exp(-z) - xp.log(parameters["scale"])


class Case(NamedTuple):
    """A program and the numbers that it runs with."""

    program: Program
    knobs: Knobs
    likelihood: lk.Likelihood | None


def point(
    likelihood=None, sizes=(4, 4), activation="tanh", architecture="mlp", head=None, l1=0.0, network=None, **knobs
):
    """Case of trained weights; options of a program are the knobs that are not zero."""
    likelihood = likelihood or (None if head else lk.Normal())
    head = head or likelihood.head(2)
    fixed = np.array(likelihood.fixed_values((0.5, 3.0)) if likelihood else (), np.float32)
    net = Network(N_FEATURES, sizes, activation, architecture, head)
    program = Program(
        replace(net, **(network or {})),
        dropout="dropout_rate" in knobs,
        l1=l1 > 0,
        spectral_norm="spec_norm_bound" in knobs,
    )
    beta = likelihood.loss_beta if likelihood else 0.0
    return Case(program, Knobs(**{"fixed": fixed, "beta": beta, "l1": l1, **knobs}), likelihood)


def posterior(kind, prior, **options):
    """Case of a variational posterior, whose prior differs from weight to weight."""
    given = point(lk.Normal(scale="constant"), **{"sizes": (3,), **options})
    net = given.program.network
    program = replace(given.program, posterior=Posterior(net, kind), prior=prior, n_train_samples=2)
    scale = np.random.default_rng(5).uniform(0.3, 1.2, net.n_layer_weights).astype(np.float32)
    knobs = replace(given.knobs, kl_weight=0.05, prior_scale=scale, prior_ratio=0.1, prior_mix=0.4)
    return Case(program, knobs, given.likelihood)


LIKELIHOODS = {
    repr(likelihood): likelihood
    for likelihood in (
        lk.Normal(beta=0.0),
        lk.Normal(beta=0.8),
        lk.Normal(scale="constant"),
        lk.Normal(scale=0.7),
        lk.Laplace(),
        lk.Laplace(scale="constant"),
        lk.StudentT(),
        lk.StudentT(scale=0.8, df=5.0),
        lk.LogNormal(),
        lk.Gamma(),
        lk.Gamma(shape="input"),
        lk.Poisson(),
        lk.Poisson(exposure=0),
        lk.NegativeBinomial(),
        lk.NegativeBinomial(concentration=3.0),
        lk.ZeroInflatedGamma(),
        lk.ZeroInflatedPoisson(),
        lk.ZeroInflatedNegativeBinomial(),
        Gumbel(),
    )
}
CLASSES = {"head": classification_head(3)}
SNGP = {"n_inducing": 6}
CASES = {
    # Networks.
    **{
        f"{architecture}-{activation}": point(activation=activation, architecture=architecture, **CLASSES)
        for activation, architecture in zip(ACTIVATIONS, ["mlp", "resnet"] * len(ACTIVATIONS), strict=False)
    },
    "resnet-tanh": point(architecture="resnet"),
    "linear": point(sizes=()),
    "mlp-of-two-widths": point(sizes=(5, 3), l2=0.1),
    "random-features": point(network=SNGP, architecture="resnet", ridge=0.1),
    "random-features-mlp": point(network=SNGP, sizes=(3,), **CLASSES),
    "random-features-linear": point(network=SNGP, sizes=(), ridge=0.1),
    "frozen-projection": point(network={**SNGP, "frozen_projection": True}, architecture="resnet", l2=0.1),
    "bins": point(network={"encoding": PiecewiseLinear(3)}, sizes=(4,), l2=0.1),
    "some-bins": point(network={"encoding": PiecewiseLinear(3, 2)}, sizes=(4,), architecture="resnet"),
    "periodic": point(network={"encoding": Periodic(2)}, sizes=(4,), l2=0.1),
    "some-periodic": point(network={"encoding": Periodic(3, 2)}, sizes=(4,), architecture="resnet"),
    "periodic-linear": point(network={"encoding": Periodic(2)}, sizes=()),
    "periodic-random-features": point(network={**SNGP, "encoding": Periodic(2)}, sizes=(3,), ridge=0.1),
    "many-features": point(network={"n_features": 17}, sizes=(3,), l2=0.1),
    "many-classes": point(head=classification_head(17), sizes=(3,)),
    "two-classes": point(head=classification_head(2)),
    **{name: point(likelihood, sizes=(4,)) for name, likelihood in LIKELIHOODS.items()},
    # Posteriors.
    **{
        f"{kind}-{prior}": posterior(kind, prior)
        for kind in ("mean_field", "full_covariance")
        for prior in ("normal", "scale_mixture")
    },
    "posterior-resnet": posterior("mean_field", "scale_mixture", architecture="resnet", sizes=(3, 3)),
    "posterior-many-features": posterior("mean_field", "normal", network={"n_features": 17}),
    "posterior-many-bins": posterior(
        "mean_field", "scale_mixture", network={"n_features": 17, "encoding": PiecewiseLinear(2)}
    ),
    "posterior-periodic": posterior("mean_field", "normal", network={"n_features": 17, "encoding": Periodic(2)}),
    "full_covariance-periodic": posterior("full_covariance", "normal", network={"encoding": Periodic(2, 2)}),
    "posterior-dropout": posterior("mean_field", "normal", dropout_rate=0.3),
    # Options.
    "l1": point(l1=0.05),
    "elasticnet": point(l1=0.05, l2=0.1, sizes=(4,)),
    "dropout": point(dropout_rate=0.3),
    "dropout-periodic": point(dropout_rate=0.3, sizes=(4,), network={"encoding": Periodic(2)}),
    "dropout-resnet": point(dropout_rate=0.5, architecture="resnet"),
    "spectral-norm": point(spec_norm_bound=0.9),
    "spectral-norm-resnet": point(spec_norm_bound=0.9, architecture="resnet", network=SNGP, ridge=0.1),
}
each_case = pytest.mark.parametrize(
    ("name", "backend"), [case(backend, name) for backend in backends.BACKENDS for name in CASES]
)


def some_cases(*names):
    return pytest.mark.parametrize(
        ("name", "backend"), [case(backend, name) for backend in backends.BACKENDS for name in names]
    )


# What a case is run with.


def start(program, seed=0, n_members=N_MEMBERS):
    """Parameters far from any symmetric point, biases and constants too."""
    rng, network = np.random.default_rng(seed), program.network
    weights = 0.4 * rng.standard_normal((n_members, network.n_weights)).astype(np.float32)
    if program.spectral_norm:
        # One singular value above the others, so that a power iteration is exact wherever it starts.
        for kernel in network.hidden_kernels:
            left, right = rng.choice([-1.0, 1.0], (n_members, kernel.shape[0], 1)), rng.choice([-1, 1], kernel.shape[1])
            size = 2 / np.sqrt(np.prod(kernel.shape))
            weights[:, kernel.start : kernel.stop] *= 0.02
            weights[:, kernel.start : kernel.stop] += (size * left * right).reshape(n_members, -1)
    if program.posterior is None:
        return weights
    parameters = np.stack([program.posterior.initial(row, 0.2) for row in weights])
    parameters[:, network.n_layer_weights :] += 0.05 * rng.standard_normal(
        parameters[:, network.n_layer_weights :].shape
    )
    return parameters


def fixed_features(network):
    """What the network computes with and nobody trains."""
    rng = np.random.default_rng(2)
    features = network.initial_random_features(rng, 1.0)
    if network.encoding is not None:
        X = rng.standard_normal((200, network.n_encoded)).astype(np.float32)
        features |= network.encoding.fit(X, np.ones(200))
        if network.encoding.n_encoded is not None:
            features["encoded"] = np.array([0, 2], np.float32)
    return features


def targets(head: Head, likelihood, shape, rng):
    """Targets in the support, and a row's exposure behind them."""
    if head.family == "bernoulli":
        return rng.integers(2, size=(*shape, 1)).astype(np.float32)
    if head.family == "categorical":
        return np.eye(head.n_outputs, dtype=np.float32)[rng.integers(head.n_outputs, size=shape)]
    y = rng.standard_normal((*shape, head.n_outputs))
    if likelihood.discrete:
        y = rng.poisson(1.5, y.shape)
    elif likelihood.support[0] == 0:
        y = np.exp(y) * (likelihood.atom is None or rng.random(y.shape) < 0.6)
    if head.has_exposure:
        y = np.concatenate([y, rng.uniform(0.5, 2, (*shape, 1))], axis=-1)
    return y.astype(np.float32)


def batches(given: Case, seed=1, n_steps=N_STEPS, n_members=N_MEMBERS, n_rows=N_ROWS):
    """X, y, weight and rates of some steps; each member's batches have rows that only pad them, with impossible targets."""
    rng, network = np.random.default_rng(seed), given.program.network
    shape = (n_steps, n_members, n_rows)
    X = rng.standard_normal((*shape, network.n_features)).astype(np.float32)
    likelihood = given.likelihood.on_training_scale() if given.likelihood else None
    y = targets(network.head, likelihood, shape, rng)
    weight = rng.uniform(0.5, 1.5, shape).astype(np.float32) / n_rows
    for m in range(n_members):
        padding = slice(n_rows - 2 - m, None)
        X[:, m, padding], y[:, m, padding], weight[:, m, padding] = 100.0, np.nan, 0.0
    return X, y, weight, np.resize(RATES, n_steps)


def trainer_of(backend, given: Case, parameters=None, seed=0):
    parameters = start(given.program) if parameters is None else parameters
    module = backends.load(backend)
    return module.Trainer(given.program, parameters, fixed_features(given.program.network), given.knobs, seed)


def reference_of(given: Case):
    network = given.program.network
    return _reference.Trainer(given.program, start(given.program), fixed_features(network), given.knobs, 0)


# A step, and several.


@each_case
def test_steps_are_those_of_the_reference(name, backend):
    assert_steps_agree(CASES[name], backend)


def assert_steps_agree(given, backend):
    """A trainer's losses and parameters after each step are the reference's, to what float32 allows."""
    ours, reference = trainer_of(backend, given), reference_of(given)
    for step in zip(*batches(given), strict=True):
        found = ours.run(*(np.asarray(a)[None] for a in step))
        expected = reference.step(*step, ours.drawn())
        assert found.shape == (1, N_MEMBERS)
        np.testing.assert_allclose(found[0], expected, rtol=5e-5, atol=1e-5)
        error = np.abs(ours.parameters() - reference.theta)
        allowed = reference.tolerance + 2e-6 * (1 + np.abs(reference.theta))
        np.testing.assert_array_less(error, allowed)
    # What is allowed is little beside what was moved.
    assert np.median(reference.tolerance) < 0.01 * RATES.sum()
    moved = np.abs(reference.theta - start(given.program))
    trained = np.ones(given.program.n_parameters, bool)
    for tensor in given.program.network.frozen:
        trained[tensor.start : tensor.stop] = False
    assert np.median(moved[:, trained]) > 0.1 * RATES.sum()
    assert np.all(moved[:, ~trained] == 0)


@each_backend
@pytest.mark.parametrize("prior_mix", [0.0, 1.0])
def test_a_scale_mixture_may_have_one_component(prior_mix, backend):
    given = CASES["mean_field-scale_mixture"]
    assert_steps_agree(given._replace(knobs=replace(given.knobs, prior_mix=prior_mix)), backend)


@some_cases(*LIKELIHOODS, "two-classes", "resnet-relu")
@pytest.mark.parametrize("size", [-50.0, 0.0, 50.0])
def test_extreme_outputs_stay_finite(size, name, backend):
    given = CASES[name]
    ours = trainer_of(backend, given, np.full((N_MEMBERS, given.program.n_parameters), size, np.float32))
    assert np.isfinite(ours.run(*batches(given))).all()
    assert np.isfinite(ours.parameters()).all()


@some_cases("mlp-of-two-widths", "two-classes", "l1", "spectral-norm", "full_covariance-normal", "dropout")
def test_members_do_not_influence_each_other(name, backend):
    given = CASES[name]
    parameters, other = start(given.program), start(given.program, seed=7)
    data, others = batches(given), batches(given, seed=8)
    other[0] = parameters[0]
    for array, another in zip(data[:3], others[:3], strict=True):
        another[:, 0] = array[:, 0]
    runs = []
    for values, arrays in ((parameters, data), (other, others)):
        ours = trainer_of(backend, given, values)
        runs.append((ours.run(*arrays)[:, 0], ours.parameters()[0]))
    for found, expected in zip(*runs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ours.parameters()[1], trainer_of(backend, given).parameters()[1])


@some_cases(
    "mlp-of-two-widths",
    "ZeroInflatedGamma()",
    "mean_field-scale_mixture",
    "dropout",
    "spectral-norm",
    "posterior-many-features",
)
def test_numbers_follow_the_seed_however_a_run_is_cut(name, backend):
    given, data = CASES[name], batches(CASES[name], n_steps=9)
    parameters = start(given.program)
    copies = [array.copy() for array in (parameters, *data)]
    for array in (parameters, *data):
        array.setflags(write=False)

    def run(seed, *pieces):
        ours = trainer_of(backend, given, parameters, seed)
        np.testing.assert_array_equal(ours.parameters(), parameters)
        losses = np.concatenate([ours.run(*(array[piece] for array in data)) for piece in pieces])
        assert losses.dtype == ours.parameters().dtype == np.float32
        return losses, ours.parameters(), ours

    losses, reached, ours = run(5, slice(0, 9))
    for again in (run(5, slice(0, 9)), run(5, slice(0, 1), slice(1, 7), slice(7, 9))):
        np.testing.assert_array_equal(again[0], losses)
        np.testing.assert_array_equal(again[1], reached)
        for key, numbers in ours.drawn().items():
            np.testing.assert_array_equal(again[2].drawn()[key], numbers)
    other = run(6, slice(0, 9))
    assert np.allclose(other[0], losses, rtol=1e-4) == (not ours.drawn())
    for key, numbers in ours.drawn().items():
        assert not np.array_equal(other[2].drawn()[key], numbers)
    for array, copy in zip((parameters, *data), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@some_cases("mlp-of-two-widths", "l1", "spectral-norm", "bins", "posterior-many-features")
def test_load_starts_anew(name, backend):
    given = CASES[name]
    data, parameters = batches(given), start(given.program)
    ours = trainer_of(backend, given)
    kept = ours.parameters()
    losses, reached = ours.run(*data), ours.parameters()
    np.testing.assert_array_equal(kept, parameters)  # a copy
    ours.load(parameters)
    np.testing.assert_array_equal(ours.parameters(), parameters)
    again = ours.run(*data)
    if not ours.drawn():
        np.testing.assert_allclose(again, losses, rtol=1e-5)
        np.testing.assert_allclose(ours.parameters(), reached, rtol=1e-4, atol=1e-5)
    else:
        assert not np.array_equal(again, losses)  # random numbers go on


@each_backend
def test_long_gradients_are_shortened(backend):
    given = CASES["linear"]
    X, y, weight, rates = batches(given, n_steps=12)
    y[6] *= 1000
    ours, reference = trainer_of(backend, given), reference_of(given)
    ours.run(X, y, weight, rates)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_reference, "LONGEST_GRADIENT", np.inf)
        unlimited = reference_of(given)
        unlimited.run(X, y, weight, rates)
    reference.run(X, y, weight, rates)
    np.testing.assert_allclose(ours.parameters(), reference.theta, atol=1e-4)
    assert np.abs(unlimited.theta - reference.theta).max() > 0.01


@each_backend
def test_a_missing_gpu_is_named(backend):
    if has_gpu(backend):
        pytest.skip("has a GPU")
    given = CASES["linear"]
    with pytest.raises(RuntimeError, match=r"device=.cpu."):
        backends.load(backend).Trainer(given.program, start(given.program), {}, given.knobs, 0, device="cuda")


# What is drawn.


@each_backend
def test_masks_and_noise_have_the_law_of_the_contract(backend):
    given = CASES["posterior-dropout"]
    ours = trainer_of(backend, given)
    assert ours.drawn() == {}
    noise, masks = [], []
    for step in zip(*batches(given, n_steps=60), strict=True):
        ours.run(*(np.asarray(a)[None] for a in step))
        drawn = ours.drawn()
        noise.append(drawn["noise"])
        masks.append(drawn["masks"])
    noise, masks = np.stack(noise), np.stack(masks)
    network = given.program.network
    assert noise.shape[1:] == (N_MEMBERS, 2, network.n_layer_weights)
    assert masks.shape[1:] == (N_MEMBERS, 2, N_ROWS, network.n_units)
    np.testing.assert_allclose(np.unique(masks), [0, 1 / 0.7], rtol=1e-6)
    assert stats.binomtest(int(np.sum(masks > 0)), masks.size, 0.7).pvalue > 1e-4
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    for numbers in (noise, masks > 0):
        # Nothing is used twice: along no axis do neighbours know of each other.
        for axis in range(numbers.ndim):
            first, second = (np.take(numbers, range(*r), axis).ravel() for r in neighbours(numbers.shape[axis]))
            assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / np.sqrt(len(first))


def neighbours(size):
    return (0, size - 1), (1, size)


# What steps lead to.


@each_backend
@pytest.mark.parametrize("penalty", ["l1", "l2"])
def test_fixed_point_is_scikit_learns(penalty, backend):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6)).astype(np.float32)
    y = (X[:, 0] - 2 * X[:, 1] + 0.1 * rng.standard_normal(40) + 0.5).astype(np.float32)
    expected = (Lasso(0.3, tol=1e-10) if penalty == "l1" else Ridge(0.3 * 40)).fit(X.astype(float), y.astype(float))
    program = Program(Network(6, (), "tanh", "mlp", lk.Normal(scale=1.0).head(1)), l1=penalty == "l1")
    knobs = Knobs(**{penalty: 0.3}, fixed=np.ones(1, np.float32))
    ours = backends.load(backend).Trainer(program, np.zeros((1, 7), np.float32), {}, knobs, 0)
    n_steps = 3000
    batch = (np.broadcast_to(a, (n_steps, 1, *a.shape)) for a in (X, y[:, None], np.full(40, 1 / 40, np.float32)))
    ours.run(*batch, np.geomspace(0.1, 1e-4, n_steps).astype(np.float32))
    *coef, intercept = ours.parameters()[0]
    np.testing.assert_allclose(coef, expected.coef_, atol=1e-3)
    np.testing.assert_allclose(intercept, expected.intercept_, atol=1e-3)
    np.testing.assert_array_equal(np.equal(coef, 0), expected.coef_ == 0)


@some_cases("spectral-norm", "spectral-norm-resnet")
def test_spectral_norms_of_any_kernels_are_bounded(name, backend):
    given = CASES[name]
    network = given.program.network
    parameters = 1.5 * start(replace(given.program, spectral_norm=False))
    zero = network.hidden_kernels[0]
    parameters[1, zero.start : zero.stop] = 0  # and of one that was zero
    ours = trainer_of(backend, given, parameters)
    before = network.views(parameters)
    ours.run(*batches(given, n_steps=60))
    after = network.views(ours.parameters())
    for kernel in network.hidden_kernels:
        norms = np.linalg.norm(after[kernel.name], 2, axis=(1, 2))
        assert np.all(norms < 0.9 * 1.02)
        assert norms[0] > 0.5
        assert np.linalg.norm(before[kernel.name][0], 2) > 0.9


@each_backend
def test_linear_models_have_nothing_to_drop_or_bound(backend):
    given, data = CASES["linear"], batches(CASES["linear"])
    both = given._replace(
        program=replace(given.program, dropout=True, spectral_norm=True), knobs=replace(given.knobs, dropout_rate=0.5)
    )
    plain, other = trainer_of(backend, given), trainer_of(backend, both)
    np.testing.assert_array_equal(plain.run(*data), other.run(*data))
    np.testing.assert_array_equal(plain.parameters(), other.parameters())
    assert other.drawn() == {}


# A third backend.


@pytest.fixture
def third(monkeypatch):
    """Name of the reference as a backend: a package that offers a trainer, and a line in the registry."""
    line = backends.Entry("_reference", ("numpy",), "numpy", "NumPy")
    monkeypatch.setattr(backends, "BACKENDS", {**backends.BACKENDS, "numpy": line})
    return "numpy"


@pytest.mark.parametrize("backend", [case(backend) for backend in backends.BACKENDS])
@pytest.mark.parametrize("name", ["ProbabilisticRegressor", "ProbabilisticClassifier", "DeepEnsembleRegressor"])
def test_a_backend_is_its_modules_and_a_line_in_the_registry(name, backend, third):
    X, y = problem(name)
    settings = {"hidden_layer_sizes": (4,), "max_iter": 3, "early_stopping": False}
    assert third in backends.available()
    ours, theirs = (make(name, b, **settings).fit(X, y) for b in (third, backend))
    assert ours.backend_ == third
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, atol=1e-3)
    said = "predict_proba" if name.endswith("Classifier") else "predict"
    np.testing.assert_allclose(getattr(ours, said)(X), getattr(theirs, said)(X), rtol=1e-3, atol=1e-3)
