"""The PyTorch and BLiTZ backend against autograd, torch.optim, scikit-learn, scipy and BLiTZ itself."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skuq import likelihoods
from skuq._model.gaussian_process import RandomFeatureGP
from skuq._model.heads import classification_head, link_parameters
from skuq._model.network import ACTIVATIONS, Network
from skuq._model.posteriors import GaussianProcess, PointEstimates, VariationalPosterior
from skuq._model.variational import Posterior, Prior
from skuq.backends import Fitted, Knobs, Program

torch = pytest.importorskip("torch")
pytest.importorskip("blitz")

from skuq.backends import _blitz as backend  # noqa: E402
from skuq.backends._blitz import _layers, _optimizer, _posterior, _trainer  # noqa: E402

LIKELIHOODS = {
    "normal": likelihoods.Normal(),
    "normal-constant": likelihoods.Normal("constant"),
    "normal-fixed": likelihoods.Normal(0.7),
    "laplace": likelihoods.Laplace(),
    "student_t": likelihoods.StudentT(),
    "student_t-fixed": likelihoods.StudentT(scale=0.8, df=5.0),
    "gamma": likelihoods.Gamma(),
    "gamma-input": likelihoods.Gamma("input"),
    "poisson": likelihoods.Poisson(),
    "negative_binomial": likelihoods.NegativeBinomial(),
    "negative_binomial-fixed": likelihoods.NegativeBinomial(3.0),
}
HEADS = {name: likelihood.head(2) for name, likelihood in LIKELIHOODS.items()}
HEADS |= {"bernoulli": classification_head(2), "categorical": classification_head(3)}

pytestmark = pytest.mark.xdist_group("blitz")


@pytest.fixture(autouse=True)
def one_thread():
    """A second thread gains nothing on networks this small, and waits long where another process is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fixed_values(name):
    return np.array(LIKELIHOODS[name].fixed_values((0.5, 3.0)) if name in LIKELIHOODS else (), np.float32)


def targets(family, shape, rng):
    """Targets of a family, shape (..., n_targets)."""
    if family == "bernoulli":
        return rng.integers(0, 2, shape).astype(np.float32)
    if family == "categorical":
        return np.eye(shape[-1], dtype=np.float32)[rng.integers(0, shape[-1], shape[:-1])]
    if family in ("poisson", "negative_binomial"):
        return rng.poisson(2.0, shape).astype(np.float32)
    if family == "gamma":
        return rng.gamma(2.0, size=shape).astype(np.float32)
    return rng.standard_normal(shape).astype(np.float32)


def make(head, hidden=(6, 6), activation="tanh", architecture="mlp", n_inducing=0, n_features=3):
    return Network(n_features, hidden, activation, architecture, head, n_inducing)


def start(program, n_members, rng, sigma=0.1):
    """Random parameters, far from any symmetric point."""
    flat = 0.4 * rng.standard_normal((n_members, program.network.n_weights)).astype(np.float32)
    if program.posterior is None:
        return flat
    parameters = np.stack([program.posterior.initial(row, sigma) for row in flat])
    n_constants = program.network.head.n_constants
    spreads = slice(program.network.n_layer_weights, parameters.shape[1] - n_constants)
    noise = rng.standard_normal(parameters[:, spreads].shape).astype(np.float32)
    parameters[:, spreads] += (0.3 if program.posterior.kind == "mean_field" else 0.02) * noise
    return parameters


def batches(network, n_steps, n_members, n_rows, rng):
    X = rng.standard_normal((n_steps, n_members, n_rows, network.n_features)).astype(np.float32)
    y = targets(network.head.family, (n_steps, n_members, n_rows, network.head.n_outputs), rng)
    weight = rng.uniform(0.5, 1.5, (n_steps, n_members, n_rows)).astype(np.float32) / n_rows
    return X, y, weight


def posterior_program(network, kind="mean_field", prior="normal", n_samples=3, **options):
    return Program(network, Posterior(network, kind), prior, n_samples, **options)


def prior_knobs(network, rng, **options):
    scale = rng.uniform(0.3, 1.2, network.n_layer_weights).astype(np.float32)
    return Knobs(**{"kl_weight": 0.02, "prior_scale": scale, "prior_ratio": 0.1, "prior_mix": 0.4, **options})


def torch_weights(program, parameters, noise):
    """Weights (M, S, n_weights) as a differentiable function of the parameters (M, P)."""
    means, spreads, constants = program.posterior.split(parameters)
    if program.posterior.kind == "mean_field":
        layers = means[:, None] + torch.nn.functional.softplus(spreads)[:, None] * noise
    else:
        parts, used = [], 0
        for a, b in program.posterior.blocks:
            factor = torch_factor(spreads[:, used : used + (b - a) * (b - a + 1) // 2], b - a)
            used += (b - a) * (b - a + 1) // 2
            parts.append(means[:, None, a:b] + noise[..., a:b] @ factor.mT)
        layers = torch.cat(parts, -1)
    return torch.cat([layers, constants[:, None].expand(*layers.shape[:2], -1)], -1)


def torch_factor(spreads, size):
    i, j = torch.tril_indices(size, size)
    factor = spreads.new_zeros(len(spreads), size, size)
    factor[:, i, j] = spreads
    diagonal = torch.diagonal(factor, dim1=1, dim2=2)
    return factor - torch.diag_embed(diagonal) + torch.diag_embed(torch.nn.functional.softplus(diagonal))


def torch_kl(program, knobs, parameters, weights):
    """KL divergence of each member with torch.distributions alone."""
    D = torch.distributions
    network, posterior = program.network, program.posterior
    means, spreads, _ = posterior.split(parameters)
    scale = torch.tensor(knobs.prior_scale)
    blocks, used, total = posterior.blocks, 0, 0.0
    for a, b in blocks:
        if posterior.kind == "mean_field":
            q = D.Independent(D.Normal(means[:, a:b], torch.nn.functional.softplus(spreads[:, a:b])), 1)
        else:
            count = (b - a) * (b - a + 1) // 2
            q = D.MultivariateNormal(means[:, a:b], scale_tril=torch_factor(spreads[:, used : used + count], b - a))
            used += count
        if program.prior == "normal":
            p = D.Independent(D.Normal(torch.zeros(b - a), scale[a:b]), 1)
            if posterior.kind == "full_covariance":
                p = D.MultivariateNormal(torch.zeros(b - a), scale_tril=torch.diag(scale[a:b]))
            total = total + D.kl_divergence(q, p)
        else:
            w = weights[..., a:b]
            mix = D.Categorical(torch.tensor([knobs.prior_mix, 1 - knobs.prior_mix]).expand(b - a, 2))
            scales = torch.stack([scale[a:b], knobs.prior_ratio * scale[a:b]], -1)
            p = D.MixtureSameFamily(mix, D.Normal(torch.zeros_like(scales), scales))
            log_q = torch.stack([q.log_prob(w[:, s]) for s in range(w.shape[1])], 1)
            total = total + (log_q - p.log_prob(w).sum(-1)).mean(1)
    assert w.shape[-1] == b - a if program.prior != "normal" else blocks[-1][1] == network.n_layer_weights
    return total


@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
def test_weights_are_those_of_the_numpy_posterior(kind):
    rng = np.random.default_rng(4)
    network = make(HEADS["normal-constant"], (4,))
    program = posterior_program(network, kind)
    parameters = start(program, 1, rng)
    flat = torch.tensor(parameters)
    sampler = _posterior.weight_sampler(program, flat, torch.zeros_like(flat), prior_knobs(network, rng))
    noise = rng.standard_normal((1, 3, network.n_layer_weights)).astype(np.float32)
    sampler.draw(torch.tensor(noise))
    assert_allclose(sampler.weights[0], program.posterior.draw(parameters[0], noise[0]), rtol=1e-5, atol=1e-6)


def test_steps_are_those_of_torch_optim():
    rng = np.random.default_rng(7)
    network = make(HEADS["normal"], (6,), "relu")
    program, l2 = Program(network), 0.05
    parameters = start(program, 1, rng)
    X, y, weight = batches(network, 20, 1, 10, rng)
    rates = np.linspace(1e-2, 1e-3, 20)
    trainer = backend.Trainer(program, parameters, {}, Knobs(l2=l2, beta=0.5), 0)
    losses = np.concatenate(
        [trainer.run(*(a[part] for a in (X, y, weight, rates)))[:, 0] for part in (slice(0, 7), slice(7, 20))]
    )

    model = backend.to_native(fitted_of(points(network, parameters)))
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    kernels, biases = [m.weight for m in linear], [m.bias for m in linear]
    groups = [{"params": kernels, "weight_decay": 0.0}, {"params": biases, "weight_decay": 0.0}]
    optimizer, expected = torch.optim.AdamW(groups, lr=1e-3), []
    for k, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        p = model(torch.tensor(X[k, 0]))
        nll = -(p.log_prob(torch.tensor(y[k, 0])) * p.scale.detach()).sum(-1)
        loss = (nll * torch.tensor(weight[k, 0])).sum() + 0.5 * l2 * sum(w.square().sum() for w in kernels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    assert_allclose(losses, expected, rtol=1e-4)
    final = backend.from_native(model, fitted_of(points(network, parameters))).posterior.parameters
    assert_allclose(trainer.parameters(), final, rtol=1e-3, atol=1e-5)


def test_spectral_step_leaves_small_kernels_alone():
    network = make(HEADS["bernoulli"], (8, 8), "relu", "resnet")
    flat = torch.tensor(0.01 * np.random.default_rng(0).standard_normal((1, network.n_weights)), dtype=torch.float32)
    flat[:, network.tensors[2].start : network.tensors[2].stop] = 0
    before = flat.clone()
    bound = _optimizer.SpectralBound(network, flat, 0.9, torch.Generator().manual_seed(0))
    bound.step()
    assert torch.equal(flat, before)


RANDOM_PROGRAMS = {
    "dropout": Program(make(HEADS["bernoulli"], (6,)), dropout=True),
    "mean_field": posterior_program(make(HEADS["normal"], (6,))),
    "mixture": posterior_program(make(HEADS["normal"], (6,)), prior="scale_mixture"),
    "spectral_norm": Program(make(HEADS["bernoulli"], (6, 6)), spectral_norm=True),
}


@pytest.mark.parametrize("name", list(RANDOM_PROGRAMS))
def test_nothing_global_is_touched(name):
    program, rng = RANDOM_PROGRAMS[name], np.random.default_rng(11)
    knobs = prior_knobs(program.network, rng, dropout_rate=0.2)
    torch.set_num_threads(2)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    trainer = backend.Trainer(program, start(program, 2, rng), {}, knobs, 0)
    trainer.run(*batches(program.network, 12, 2, 8, rng), np.full(12, 1e-2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_threads_are_restored_after_an_interruption(monkeypatch):
    torch.set_num_threads(2)
    rng, seen = np.random.default_rng(0), []
    program = Program(make(HEADS["normal"], (4,)))
    trainer = backend.Trainer(program, start(program, 1, rng), {}, Knobs(), 0)

    def interrupt(*arguments):
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(*batches(program.network, 1, 1, 4, rng), np.zeros(1))
    assert (seen, torch.get_num_threads()) == ([1], 2)


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class SameNumbers:
    """Random numbers that are the same on every device, in place of `RandomBlocks`."""

    def __init__(self, like, generator, fill, *arguments):
        self._like, self._generator = like, torch.Generator().manual_seed(0)

    def next(self):
        numbers = torch.empty(self._like.shape, dtype=self._like.dtype)
        if numbers.dtype == torch.int64:
            numbers.random_(-(2**63), None, generator=self._generator)
        else:
            numbers.normal_(generator=self._generator)
        return numbers.to(self._like.device)


def assert_gpu_takes_the_same_steps(program, features, knobs, rng, rtol=1e-3):
    parameters, rates = start(program, 2, rng), np.geomspace(2e-3, 2e-4, 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_trainer, "RandomBlocks", SameNumbers)
        cpu, gpu = (backend.Trainer(program, parameters, features, knobs, 0, device) for device in ("cpu", "cuda"))
        # Batches of another size have buffers of their own.
        for n_rows in (8, 5, 8):
            data = (*batches(program.network, 10, 2, n_rows, rng), rates)
            assert_allclose(gpu.run(*data), cpu.run(*data), rtol=rtol)
        assert_allclose(gpu.parameters(), cpu.parameters(), rtol=rtol, atol=2e-3)
        for trainer in (cpu, gpu):
            trainer.load(parameters)
        assert_allclose(gpu.run(*data), cpu.run(*data), rtol=rtol)


@needs_gpu
@pytest.mark.parametrize(
    ("options", "rtol"),
    [
        ({"dropout": True}, 1e-3),
        # Each device starts the power iteration elsewhere.
        ({"l1": True, "spectral_norm": True}, 0.02),
        ({"posterior": "mean_field", "prior": "normal"}, 1e-3),
        ({"posterior": "mean_field", "prior": "scale_mixture", "l1": True}, 1e-3),
        ({"posterior": "full_covariance", "prior": "normal", "dropout": True}, 0.01),
    ],
)
@pytest.mark.parametrize("n_inducing", [0, 8])
def test_gpu_takes_the_same_steps(options, rtol, n_inducing):
    rng = np.random.default_rng(14)
    network = make(HEADS["normal"], (16, 16), architecture="resnet", n_inducing=n_inducing)
    if "posterior" in options:
        options = {**options, "posterior": Posterior(network, options["posterior"]), "n_train_samples": 3}
    knobs = prior_knobs(network, rng, l1=1e-3, l2=1e-3, dropout_rate=0.3, ridge=1e-3)
    assert_gpu_takes_the_same_steps(
        Program(network, **options), network.initial_random_features(rng, 1.0), knobs, rng, rtol
    )


@needs_gpu
@pytest.mark.parametrize("family", HEADS)
def test_gpu_takes_the_same_steps_with_every_likelihood(family):
    program, knobs = Program(make(HEADS[family])), Knobs(beta=0.5, fixed=fixed_values(family))
    assert_gpu_takes_the_same_steps(program, {}, knobs, np.random.default_rng(15))


@needs_gpu
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
def test_gpu_takes_the_same_steps_with_every_activation(activation, architecture):
    program = Program(make(HEADS["categorical"], (6, 6), activation, architecture))
    assert_gpu_takes_the_same_steps(program, {}, Knobs(), np.random.default_rng(16))


@needs_gpu
@pytest.mark.parametrize("kind", ["dropout", "mean_field"])
def test_gpu_takes_the_same_steps_in_one_run_or_several(kind):
    rng = np.random.default_rng(17)
    network = make(HEADS["normal"])
    program = Program(network, dropout=True) if kind == "dropout" else posterior_program(network, prior="scale_mixture")
    knobs = prior_knobs(network, rng, dropout_rate=0.5)
    parameters, data = start(program, 2, rng), (*batches(network, 10, 2, 8, rng), np.geomspace(1e-2, 1e-4, 10))
    whole, pieces = (backend.Trainer(program, parameters, {}, knobs, 0, "cuda") for _ in range(2))
    losses = whole.run(*data)
    found = [pieces.run(*(array[part] for array in data)) for part in (slice(1), slice(1, 4), slice(4, None))]
    # Losses of several steps are summed together.
    assert_allclose(np.concatenate(found), losses, rtol=1e-5)
    assert_array_equal(pieces.parameters(), whole.parameters())
    # Numbers that change from step to step: the same batch twice has two losses.
    same = [np.repeat(array[:1], 10, axis=0) for array in data[:3]]
    assert len(np.unique(whole.run(*same, np.zeros(10))[:, 0])) == 10
    # And a rate that is read in each step: none moves nothing.
    assert_array_equal(whole.parameters(), pieces.parameters())


@needs_gpu
def test_gpu_trains_in_threads_side_by_side():
    rng = np.random.default_rng(20)
    program = Program(make(HEADS["normal"]))
    parameters, data = start(program, 2, rng), (*batches(program.network, 50, 2, 8, rng), np.full(50, 1e-3))

    def train():
        trainer = backend.Trainer(program, parameters, {}, Knobs(), 0, "cuda")
        trainer.run(*data)
        return trainer.parameters()

    expected = train()
    with ThreadPoolExecutor(4) as pool:
        for found in [pool.submit(train) for _ in range(16)]:
            assert_array_equal(found.result(), expected)


def test_gradients_are_limited_on_a_gpu_as_elsewhere():
    rng = np.random.default_rng(18)
    gradient = torch.zeros(3, 5)
    host, device = (limit(gradient.clone()) for limit in (_optimizer.GradientLimit, _optimizer.DeviceGradientLimit))
    for step in range(40):
        new = torch.tensor(rng.standard_normal((3, 5)), dtype=torch.float32)
        # A spike, a gradient of nothing at first, and one that is not finite.
        new[0] *= 1e4 if step == 20 else 1
        new[1] *= step > 4
        new[2] /= step != 30
        for limit in (host, device):
            limit._gradient.copy_(new)
            limit.apply()
        assert_allclose(device._gradient, host._gradient, rtol=1e-5)
        assert step != 20 or host._gradient[0].norm() < 1e-2 * new[0].norm()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("kind", ["dropout", "mean_field", "student_t"])
def test_nothing_keeps_the_buffers_of_a_trainer_that_is_done_with(kind, device):
    rng = np.random.default_rng(19)
    network = make(HEADS[kind if kind in HEADS else "normal"])
    program = posterior_program(network, kind) if kind == "mean_field" else Program(network, dropout=kind == "dropout")
    knobs = prior_knobs(network, rng, dropout_rate=0.5)
    trainer = backend.Trainer(program, start(program, 2, rng), {}, knobs, 0, device)
    trainer.run(*batches(network, 3, 2, 8, rng), np.full(3, 1e-3))
    kept = weakref.ref(trainer)
    gc.disable()
    try:
        del trainer
        assert kept() is None
    finally:
        gc.enable()


# ---------------------------------------------------------------------------------------------- native models


def fitted_of(posterior, rng=None, **options):
    head, d = posterior.network.head, posterior.network.n_features
    shift = {
        "x_shift": np.zeros(d),
        "x_scale": np.ones(d),
        "y_shift": np.zeros(head.n_outputs),
        "y_scale": np.ones(head.n_outputs),
    }
    if rng is not None:
        shift["x_shift"], shift["x_scale"] = rng.standard_normal(d), rng.uniform(0.5, 2, d)
        if any(p.name == "loc" for p in head.parameters):
            shift["y_shift"], shift["y_scale"] = (
                rng.standard_normal(head.n_outputs),
                rng.uniform(0.5, 2, head.n_outputs),
            )
    return Fitted(posterior=posterior, **{"fixed": np.zeros(0, np.float32), **shift, **options})


def points(network, weights, **options):
    return PointEstimates(network=network, parameters=weights, **options)


def variational(program, parameters, knobs):
    """One posterior, against the prior that a trainer would have."""
    prior = Prior(family=program.prior, scale=knobs.prior_scale, ratio=knobs.prior_ratio, mix=knobs.prior_mix)
    return VariationalPosterior(
        network=program.network, parameters=parameters[None], layout=program.posterior, prior=prior
    )


def numpy_raw(fitted, weights, X):
    network = fitted.network
    standardised = ((X - fitted.x_shift) / fitted.x_scale).astype(np.float32)
    return network.raw_outputs(network.views(weights), standardised, fixed=fitted.posterior.features)


def constants_of(fitted, weights):
    return weights[:, fitted.network.n_layer_weights :].astype(float)


def assert_same_distribution(output, fitted, likelihood, weights, X, rtol=1e-4):
    """A native output against the NumPy forward pass and scipy's moments."""
    raw = numpy_raw(fitted, weights, X).astype(float)
    if likelihood is None:
        assert_allclose(output.detach().numpy(), raw[0], rtol=rtol, atol=1e-4)
        return
    parameters = link_parameters(fitted.network.head, raw, constants_of(fitted, weights), fitted.fixed)
    parameters = likelihood.to_target_units(parameters, fitted.y_shift, fitted.y_scale)
    parameters = {
        name: np.broadcast_to(value, raw[..., : fitted.network.head.n_outputs].shape)[0]
        for name, value in parameters.items()
    }
    assert output.batch_shape == (len(X), fitted.network.head.n_outputs)
    assert_allclose(output.mean.detach(), likelihood.mean(parameters), rtol=rtol, atol=1e-5)
    assert_allclose(output.variance.detach(), likelihood.var(parameters), rtol=10 * rtol)


@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
@pytest.mark.parametrize("name", [*HEADS, "lognormal"])
def test_native_forward_is_numpys_and_returns(name, architecture):
    rng = np.random.default_rng(15)
    likelihood = likelihoods.LogNormal() if name == "lognormal" else LIKELIHOODS.get(name)
    head = HEADS.get(name) or likelihood.head(2)
    network = make(head, (6, 6), "gelu", architecture)
    weights = start(Program(network), 2, rng)
    posterior = points(network, weights, dropout_rate=0.1)
    fitted = fitted_of(posterior, rng, fixed=fixed_values(name), log_target=name == "lognormal")
    state = torch.random.get_rng_state()
    models = backend.to_native(fitted)
    assert torch.equal(torch.random.get_rng_state(), state)
    X = rng.standard_normal((9, 3))
    for model, row in zip(models, weights, strict=True):
        assert_same_distribution(model(torch.tensor(X)), fitted, likelihood, row[None], X)
        assert sum(isinstance(m, torch.nn.Dropout) for m in model.modules()) == 2
    back = backend.from_native(models, fitted).posterior.parameters
    assert_array_equal(back, weights)
    assert back.dtype == np.float32


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_native_activations(activation):
    rng = np.random.default_rng(16)
    network = make(HEADS["categorical"], (7,), activation)
    weights = start(Program(network), 1, rng)
    fitted = fitted_of(points(network, weights), rng)
    X = rng.standard_normal((9, 3))
    assert_same_distribution(backend.to_native(fitted)(torch.tensor(X)), fitted, None, weights, X)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "normal-constant"])
def test_native_gaussian_process(name):
    rng = np.random.default_rng(17)
    network = make(HEADS[name], (6, 6), "relu", "resnet", n_inducing=10)
    weights = start(Program(network), 1, rng)
    n_precisions = network.head.n_outputs if name == "categorical" else 1
    roots = rng.standard_normal((n_precisions, 10, 30))
    process = GaussianProcess(
        network=network,
        parameters=weights,
        features=network.initial_random_features(rng, 2.0),
        covariance=RandomFeatureGP.from_precision(0.5 * np.eye(10) + roots @ roots.mT, 0.5),
        spec_norm_bound=0.9,
    )
    fitted = fitted_of(process, rng)
    model, X = backend.to_native(fitted), rng.standard_normal((9, 3))
    outputs, variance = model(torch.tensor(X))
    assert_same_distribution(outputs, fitted, LIKELIHOODS.get(name), weights, X)
    standardised = ((X - fitted.x_shift) / fitted.x_scale).astype(np.float32)
    h = network.random_features(network.hidden(network.views(weights), standardised), process.features)[0].astype(float)
    expected = 0.5 * np.einsum("nm,kml,nl->nk", h, np.linalg.inv(process.precision), h)
    if name == "normal-constant":
        expected = expected * fitted.y_scale**2
    assert_allclose(variance.detach(), expected, rtol=1e-4)
    back = backend.from_native(model, fitted).posterior
    assert_array_equal(back.parameters, weights)
    assert_array_equal(back.precision, process.precision)
    # In training the bound takes hold.
    model.train()
    assert not isinstance(model(torch.tensor(X)), tuple)
    for _ in range(20):
        model(torch.tensor(X))
    views = network.views(backend.from_native(model, fitted).posterior.parameters)
    norms = [np.linalg.norm(views[t.name][0], 2) for t in network.hidden_kernels]
    assert max(np.linalg.norm(network.views(weights)[t.name][0], 2) for t in network.hidden_kernels) > 0.9
    assert max(norms) < 0.9 * 1.02


@pytest.mark.parametrize("prior", ["normal", "scale_mixture"])
@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
@pytest.mark.parametrize("name", ["normal-constant", "categorical"])
def test_native_bayesian_network(name, kind, prior):
    rng = np.random.default_rng(18)
    network = make(HEADS[name], (5,), "tanh")
    program = posterior_program(network, kind, prior)
    parameters = start(program, 1, rng, 0.3)[0]
    knobs = prior_knobs(network, rng)
    fitted = fitted_of(variational(program, parameters, knobs), rng)
    state = torch.random.get_rng_state()
    model = backend.to_native(fitted)
    assert torch.equal(torch.random.get_rng_state(), state)
    X = rng.standard_normal((9, 3))
    assert_array_equal(backend.from_native(model, fitted).posterior.parameters[0], parameters)

    # Frozen, it is the network of the means.
    means, _, constants = program.posterior.split(parameters[None])
    model.freeze_()
    mean_weights = np.concatenate([means, constants], 1)
    assert_same_distribution(model(torch.tensor(X)), fitted, LIKELIHOODS.get(name), mean_weights, X)
    model.unfreeze_()

    # Unfrozen, it is the network of the weights it drew, and these have the law of the posterior.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        outputs, costs, expected_costs = [], [], []
        for _ in range(1500):
            output = model(torch.tensor(X))
            outputs.append((output if name == "categorical" else output.mean).numpy())
            costs.append(float(model.nn_kl_divergence()))
    noise = rng.standard_normal((1500, network.n_layer_weights))
    draws = program.posterior.draw(parameters, noise)
    raw = numpy_raw(fitted, draws, X)
    if name != "categorical":
        raw = fitted.y_shift + fitted.y_scale * raw
    outputs = np.stack(outputs)
    spread = raw.std(0)
    assert_allclose(outputs.mean(0), raw.mean(0), atol=5 * (spread / np.sqrt(750)).max())
    assert_allclose(outputs.std(0), spread, rtol=0.15)
    tensor = torch.tensor(parameters[None])
    weights = torch_weights(program, tensor, torch.tensor(noise, dtype=torch.float32)[None])
    expected_costs = float(torch_kl(program, knobs, tensor, weights)[0])
    # Both densities of BLiTZ carry −0.5 a weight, which cancels; its floor of 1e-6 lowers the cost a little.
    assert_allclose(np.mean(costs), expected_costs, rtol=0.05)

    # Trained further by hand, as BLiTZ's users do, and read back.
    y = torch.tensor(targets(network.head.family, (9, network.head.n_outputs), rng))
    criterion = (lambda out, y: -out.log_prob(y).mean()) if name != "categorical" else torch.nn.functional.cross_entropy
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with torch.random.fork_rng(devices=[]):
        for _ in range(3):
            optimizer.zero_grad()
            model.sample_elbo(torch.tensor(X), y, criterion, 2, 0.01).backward()
            optimizer.step()
    further = backend.from_native(model, fitted)
    changed = further.posterior.parameters[0]
    assert np.mean(changed != parameters) > 0.95
    assert np.isfinite(changed).all()
    again = backend.to_native(further)
    assert_array_equal(backend.from_native(again, fitted).posterior.parameters[0], changed)


@pytest.mark.parametrize("prior", ["normal", "scale_mixture"])
def test_objective_is_blitzs_own(prior, monkeypatch):
    """The loss of one step equals ``sample_elbo`` with the same weights, once BLiTZ's floor is taken out."""
    from blitz.modules.weight_sampler import TrainableRandomDistribution

    rng = np.random.default_rng(19)
    network = make(HEADS["categorical"], (5,), "relu")
    program = posterior_program(network, "mean_field", "scale_mixture", n_samples=1)
    # A normal prior is the mixture with all the weight on its first component.
    knobs = prior_knobs(network, rng, kl_weight=0.05, prior_mix=1.0 if prior == "normal" else 0.4)
    parameters = start(program, 1, rng, 0.1)
    X, y, _ = batches(network, 1, 1, 8, rng)
    weight = np.full((1, 1, 8), 1 / 8, np.float32)
    trainer = backend.Trainer(program, parameters, {}, knobs, 3)
    noise = []
    draw = trainer._sampler.draw
    monkeypatch.setattr(trainer._sampler, "draw", lambda eps: (noise.append(eps.clone()), draw(eps)))
    loss = trainer.run(X, y, weight, np.zeros(1))[0, 0]
    weights = trainer._sampler.weights[0, 0].clone()

    fitted = fitted_of(variational(replace(program, prior=prior), parameters[0], knobs))
    model = backend.to_native(fitted)
    epsilons = iter(
        [noise[0][0, 0, t.start : t.stop].view(t.shape).transpose(0, -1) for layer in network.layers for t in layer]
    )

    def sample(self):
        self.sigma = torch.log1p(torch.exp(self.rho))
        self.w = self.mu + self.sigma * next(epsilons)
        return self.w

    monkeypatch.setattr(TrainableRandomDistribution, "sample", sample)
    criterion = torch.nn.functional.cross_entropy
    elbo = model.sample_elbo(torch.tensor(X[0, 0]), torch.tensor(y[0, 0]), criterion, 1, knobs.kl_weight).item()
    # BLiTZ's log prior is log(density + 1e-6) − 0.5, and its log posterior has the same −0.5.
    w, scale = weights.double(), torch.tensor(knobs.prior_scale).double()
    normal = torch.distributions.Normal
    density = knobs.prior_mix * normal(0, scale).log_prob(w).exp()
    if prior == "scale_mixture":
        density += (1 - knobs.prior_mix) * normal(0, knobs.prior_ratio * scale).log_prob(w).exp()
    floor = (torch.log(density + 1e-6) - torch.log(density)).sum().item()
    assert_allclose(loss - knobs.kl_weight * floor, elbo, rtol=2e-5)


def test_native_model_trains_further_and_is_read_back():
    rng = np.random.default_rng(20)
    network = make(HEADS["student_t"], (6,), "relu")
    weights = start(Program(network), 1, rng)
    fitted = fitted_of(points(network, weights), rng)
    model = backend.to_native(fitted).train()
    X, y = rng.standard_normal((20, 3)), torch.tensor(rng.standard_normal((20, 2)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (-model(torch.tensor(X)).log_prob(y).mean()).backward()
        optimizer.step()
    back = backend.from_native(model, fitted)
    assert (back.posterior.parameters != weights).mean() > 0.8
    assert_same_distribution(
        model.eval()(torch.tensor(X)), back, LIKELIHOODS["student_t"], back.posterior.parameters, X
    )


def test_training_needs_neither_blitz_nor_the_global_generator(tmp_path):
    import subprocess
    import sys

    code = "import sys, skuq.backends._blitz; assert 'torch' in sys.modules and 'blitz' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_kernel_stacks_are_views():
    network = make(HEADS["normal"], (6, 6, 6))
    flat = torch.zeros(1, network.n_weights)
    stacks = _optimizer.kernel_stacks(network.hidden_kernels, flat)
    assert [tuple(s.shape) for s in stacks] == [(1, 3, 6), (2, 6, 6)]
    for stack in stacks:
        stack += 1
    expected = network.kernel_mask.copy()
    expected[network.tensors[-2].start :] = 0
    assert_array_equal(flat[0], expected)


def test_every_activation_is_known_to_the_backend():
    from skuq.backends._blitz import _modules

    assert set(ACTIVATIONS) == set(_layers.ACTIVATIONS) == set(_modules.ACTIVATIONS)
