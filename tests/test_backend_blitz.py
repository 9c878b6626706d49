"""The PyTorch and BLiTZ backend against autograd, torch.optim, scikit-learn, scipy and BLiTZ itself."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skuq import likelihoods
from skuq._data.encoding import Periodic
from skuq._model.network import ACTIVATIONS, Network
from skuq._model.variational import Posterior
from skuq.backends import Fitted, Knobs, Program
from skuq.likelihoods import classification_head

torch = pytest.importorskip("torch")
pytest.importorskip("blitz")

from skuq.backends import _blitz as backend  # noqa: E402
from skuq.backends._blitz import _layers, _losses, _optimizer, _posterior, _trainer  # noqa: E402

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


def torch_raw(network, weights, X, features, masks=None):
    """The forward pass as autograd differentiates it: draws of flat weights, (S, n_weights), X (S, B, d)."""
    w = {t.name: weights[:, t.start : t.stop].reshape(-1, *t.shape) for t in network.tensors}
    act = {
        "identity": lambda z: z,
        "relu": torch.relu,
        "tanh": torch.tanh,
        "logistic": torch.sigmoid,
        "silu": torch.nn.functional.silu,
        "gelu": torch.nn.functional.gelu,
        "elu": torch.nn.functional.elu,
        "softplus": torch.nn.functional.softplus,
    }[network.activation]
    residual = network.architecture == "resnet" and network.hidden_layer_sizes
    if network.encoding is not None:
        columns = torch.as_tensor(features.get("encoded", np.arange(network.n_features)))
        angle = X[..., columns, None] * w["frequencies"][:, None] * (2 * np.pi * float(features["frequency_scale"][0]))
        parts = torch.cat([torch.sin(angle), torch.cos(angle) - 1], -1).flatten(-2)
        X = torch.cat([X, (2 / network.encoding.size) ** 0.5 * parts], -1)
    h = X @ w["kernel_in"] + w["bias_in"][:, None] if residual else X
    for i in range(len(network.hidden_layer_sizes)):
        z = act(h @ w[f"kernel_{i}"] + w[f"bias_{i}"][:, None])
        z = z if masks is None else z * masks[i]
        h = h + z if residual else z
    if network.n_inducing:
        z = h @ torch.tensor(features["feature_kernel"]) + torch.tensor(features["feature_bias"])
        h = (2 / network.n_inducing) ** 0.5 * torch.cos(z)
    raw = h @ w["kernel_out"]
    return raw + w["bias_out"][:, None] if "bias_out" in w else raw


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


def gradient_of_step(program, knobs, parameters, features, X, y, weight, seed=0):
    """Loss and gradient of one step by the trainer, and by autograd with the same noise and masks."""
    trainer = backend.Trainer(program, parameters, features, knobs, seed)
    captured = {}

    class Spy:
        def step(self, learning_rate):
            captured["gradient"] = trainer._gradient.clone()

    trainer._optimizer = Spy()
    if program.posterior:
        collect = trainer._sampler.collect

        def spy(noise):
            captured["noise"] = noise.clone()
            collect(noise)

        trainer._sampler.collect = spy
    loss = trainer.run(X[:1], y[:1], weight[:1], np.zeros(1))[0]

    leaf = torch.tensor(parameters, requires_grad=True)
    noise = captured.get("noise")
    members, n_rows = X.shape[1], X.shape[2]
    weights = leaf[:, None] if noise is None else torch_weights(program, leaf, noise)
    S = weights.shape[1]
    network = program.network
    flat = weights.reshape(members * S, -1)
    masks = None
    if trainer._mask_bits:
        masks = [part.clone() for part in trainer._trunk._hidden._masks]
    tx = torch.tensor(X[0])[:, None].expand(-1, S, -1, -1).reshape(members * S, n_rows, -1)
    raw = torch_raw(network, flat, tx, features, masks)
    ty = torch.tensor(y[0]).repeat_interleave(S, 0)
    constants = network.constants(flat)
    nll = _losses.negative_log_likelihood(network.head, raw, constants, torch.tensor(knobs.fixed), ty, knobs.beta)
    data = (nll.view(members, S, n_rows) * torch.tensor(weight[0])[:, None]).sum(-1).mean(1)
    expected = data + (knobs.kl_weight * torch_kl(program, knobs, leaf, weights) if program.posterior else 0)
    expected.sum().backward()
    return loss, captured["gradient"], expected.detach(), leaf.grad, trainer


def assert_same_gradient(*arguments):
    loss, gradient, expected_loss, expected, trainer = gradient_of_step(*arguments)
    assert_allclose(loss, expected_loss, rtol=2e-5, atol=1e-5)
    assert_allclose(gradient, expected, rtol=1e-3, atol=2e-5 * max(1.0, float(expected.abs().max())))
    return trainer


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("n_inducing", [0, 16])
@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_trunk_gradient_is_autograds(activation, architecture, n_inducing, dropout, n_members):
    rng = np.random.default_rng(0)
    hidden = (5, 7) if architecture == "mlp" else (6, 6, 6)
    network = make(HEADS["normal"], hidden, activation, architecture, n_inducing)
    program = Program(network, dropout=dropout)
    features = network.initial_random_features(rng, 1.0)
    knobs = Knobs(dropout_rate=0.3, beta=0.5)
    assert_same_gradient(
        program, knobs, start(program, n_members, rng), features, *batches(network, 1, n_members, 9, rng)
    )


@pytest.mark.parametrize("posterior", [None, "mean_field", "full_covariance"])
@pytest.mark.parametrize("n_encoded", [None, 2])
@pytest.mark.parametrize(("architecture", "hidden"), [("mlp", (5, 7)), ("mlp", ()), ("resnet", (6, 6))])
def test_gradient_of_frequencies_is_autograds(architecture, hidden, n_encoded, posterior):
    rng = np.random.default_rng(6)
    n_inducing = 0 if posterior or hidden == () else 8
    encoding = Periodic(3, n_encoded, frequency_scale=0.3)
    network = replace(make(HEADS["normal"], hidden, "tanh", architecture, n_inducing), encoding=encoding)
    features = network.initial_random_features(rng, 1.0) | encoding.fit(np.zeros((1, 1)), np.ones(1))
    if n_encoded:
        features["encoded"] = np.array([0, network.n_features - 1])
    program = posterior_program(network, posterior) if posterior else Program(network, dropout=bool(hidden))
    knobs = prior_knobs(network, rng) if posterior else Knobs(dropout_rate=0.3)
    assert_same_gradient(program, knobs, start(program, 2, rng), features, *batches(network, 1, 2, 9, rng))


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("posterior", [False, True])
@pytest.mark.parametrize("name", list(HEADS))
def test_head_gradient_is_autograds(name, posterior, beta):
    rng = np.random.default_rng(1)
    network = make(HEADS[name], (5,))
    program = posterior_program(network) if posterior else Program(network)
    knobs = prior_knobs(network, rng, beta=beta, fixed=fixed_values(name))
    assert_same_gradient(program, knobs, start(program, 2, rng), {}, *batches(network, 1, 2, 8, rng))


@pytest.mark.parametrize("hidden", [(), (4,)])
@pytest.mark.parametrize("n_raw", [2, 17])
def test_gradient_of_linear_models_and_wide_outputs(hidden, n_raw):
    rng = np.random.default_rng(2)
    for n_inducing in (0, 8):
        network = make(classification_head(max(n_raw, 3)), hidden, "relu", "resnet", n_inducing)
        program, features = Program(network), network.initial_random_features(rng, 2.0)
        assert_same_gradient(program, Knobs(), start(program, 2, rng), features, *batches(network, 1, 2, 5, rng))


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("prior", ["normal", "scale_mixture"])
@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
def test_posterior_gradient_and_divergence(kind, prior, n_members):
    rng = np.random.default_rng(3)
    network = make(HEADS["normal-constant"], (4, 3))
    program = posterior_program(network, kind, prior)
    knobs = prior_knobs(network, rng, kl_weight=0.3)
    parameters = start(program, n_members, rng)
    assert_same_gradient(program, knobs, parameters, {}, *batches(network, 1, n_members, 6, rng))


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


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("name", list(HEADS))
def test_losses_are_scipys(name, beta):
    rng = np.random.default_rng(5)
    head, fixed = HEADS[name], fixed_values(name)
    raw = rng.standard_normal((3, 7, head.n_raw)).astype(np.float32)
    constants = rng.standard_normal((3, head.n_constants)).astype(np.float32)
    y = targets(head.family, (1, 7, head.n_outputs), rng)
    tensors = (torch.tensor(a) for a in (raw, constants, fixed, y))
    nll = _losses.negative_log_likelihood(head, *tensors, beta)
    assert nll.shape == (3, 7)
    if name == "bernoulli":
        p = 1 / (1 + np.exp(-raw.astype(float)))
        expected = -np.log(np.where(y == 1, p, 1 - p)).sum(-1)
    elif name == "categorical":
        p = np.exp(raw.astype(float))
        expected = -np.log((y * p / p.sum(-1, keepdims=True)).sum(-1))
    else:
        parameters = likelihoods.link_parameters(head, raw.astype(float), constants.astype(float), fixed)
        expected = -LIKELIHOODS[name].logpdf(y, parameters)
        if any(p.name == "scale" and p.source == "input" for p in head.parameters):
            expected = expected * parameters["scale"] ** (2 * beta)
        expected = expected.sum(-1)
    assert_allclose(nll, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", list(HEADS))
def test_extreme_outputs_and_padding_rows_stay_finite(name):
    rng = np.random.default_rng(6)
    network = make(HEADS[name], (), n_features=2)
    program = Program(network)
    for size in (0.0, 1.0, 50.0):
        parameters = np.full((1, program.n_parameters), size, np.float32)
        X, y, weight = batches(network, 3, 1, 6, rng)
        X[..., 3:, :], y[..., 3:, :], weight[..., 3:] = 0, 0, 0
        knobs = Knobs(beta=0.5, fixed=fixed_values(name))
        trainer = backend.Trainer(program, parameters, {}, knobs, 0)
        losses = trainer.run(X, y, weight, np.full(3, 1e-3))
        assert np.isfinite(losses).all()
        assert np.isfinite(trainer.parameters()).all()
        # Rows of weight 0 change nothing.
        other = backend.Trainer(program, parameters, {}, knobs, 0)
        assert_allclose(other.run(X[..., :3, :], y[..., :3, :], weight[..., :3], np.full(3, 1e-3)), losses, rtol=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_those_of_torch_optim(decay):
    rng = np.random.default_rng(7)
    network = make(HEADS["normal"], (6,), "relu")
    program, l2 = Program(network), 0.05
    parameters = start(program, 1, rng)
    X, y, weight = batches(network, 20, 1, 10, rng)
    rates = np.linspace(1e-2, 1e-3, 20)
    trainer = backend.Trainer(program, parameters, {}, Knobs(l2=l2, weight_decay=decay, beta=0.5), 0)
    losses = np.concatenate(
        [trainer.run(*(a[part] for a in (X, y, weight, rates)))[:, 0] for part in (slice(0, 7), slice(7, 20))]
    )

    model = backend.to_native(fitted_of(network, parameters))
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    kernels, biases = [m.weight for m in linear], [m.bias for m in linear]
    groups = [{"params": kernels, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
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
    final = backend.from_native(model, fitted_of(network, parameters)).weights
    assert_allclose(trainer.parameters(), final, rtol=1e-3, atol=1e-5)


def test_l1_fixed_point_is_the_lasso():
    from sklearn.linear_model import Lasso

    rng = np.random.default_rng(8)
    X = rng.standard_normal((60, 6)).astype(np.float32)
    y = (X[:, :2] @ [1.0, -0.6] + 0.1 * rng.standard_normal(60)).astype(np.float32)
    network = make(likelihoods.Normal(1.0).head(1), (), n_features=6)
    program = Program(network, l1=True)
    knobs = Knobs(l1=0.15, fixed=np.ones(1, np.float32))
    trainer = backend.Trainer(program, np.zeros((1, 7), np.float32), {}, knobs, 0)
    n_steps = 1500
    trainer.run(
        np.broadcast_to(X, (n_steps, 1, 60, 6)),
        np.broadcast_to(y[:, None], (n_steps, 1, 60, 1)),
        np.full((n_steps, 1, 60), 1 / 60, np.float32),
        np.geomspace(0.05, 1e-4, n_steps),
    )
    lasso = Lasso(alpha=0.15, tol=1e-10).fit(X, y)
    found = trainer.parameters()[0]
    assert_allclose(found[:6], lasso.coef_, atol=2e-3)
    assert_allclose(found[6], lasso.intercept_, atol=2e-3)
    assert_array_equal(found[:6] == 0, lasso.coef_ == 0)


@pytest.mark.parametrize("n_members", [1, 2])
@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
def test_spectral_norms_are_bounded(architecture, n_members):
    rng = np.random.default_rng(9)
    network = make(HEADS["bernoulli"], (8, 8, 8), "relu", architecture)
    program = Program(network, spectral_norm=True)
    trainer = backend.Trainer(program, 3 * start(program, n_members, rng), {}, Knobs(spec_norm_bound=0.9), 0)
    before = network.views(trainer.parameters())
    trainer.run(*batches(network, 60, n_members, 16, rng), np.full(60, 1e-2))
    after = network.views(trainer.parameters())
    for tensor in network.hidden_kernels:
        norms = np.linalg.norm(after[tensor.name], 2, axis=(1, 2))
        assert (np.linalg.norm(before[tensor.name], 2, axis=(1, 2)) > 0.9).all()
        assert (norms < 0.9 * 1.02).all()
        assert (norms > 0.5).all()


def test_spectral_step_leaves_small_kernels_alone():
    network = make(HEADS["bernoulli"], (8, 8), "relu", "resnet")
    flat = torch.tensor(0.01 * np.random.default_rng(0).standard_normal((1, network.n_weights)), dtype=torch.float32)
    flat[:, network.tensors[2].start : network.tensors[2].stop] = 0
    before = flat.clone()
    bound = _optimizer.SpectralBound(network, flat, 0.9, torch.Generator().manual_seed(0))
    bound.step()
    assert torch.equal(flat, before)


@pytest.mark.parametrize(
    "options", [{}, {"l1": True}, {"spectral_norm": True}, {"architecture": "resnet", "n_inducing": 12}]
)
def test_members_together_are_members_apart(options):
    rng = np.random.default_rng(10)
    kinds = {k: options[k] for k in ("architecture", "n_inducing") if k in options}
    network = make(HEADS["normal"], (6, 6), "silu", **kinds)
    program = Program(network, **{k: v for k, v in options.items() if k not in kinds})
    knobs = Knobs(l1=1e-3, l2=1e-2, weight_decay=1e-2, beta=0.5)
    features = network.initial_random_features(rng, 1.0)
    parameters = start(program, 3, rng)
    data = batches(network, 30, 3, 8, rng)
    rates = np.full(30, 3e-3)
    together = backend.Trainer(program, parameters, features, knobs, 0)
    losses = together.run(*data, rates)
    for m in range(3):
        apart = backend.Trainer(program, parameters[m : m + 1], features, knobs, 0)
        assert_allclose(apart.run(*(a[:, m : m + 1] for a in data), rates)[:, 0], losses[:, m], rtol=2e-3)
        assert_allclose(apart.parameters()[0], together.parameters()[m], rtol=1e-2, atol=2e-3)


RANDOM_PROGRAMS = {
    "dropout": Program(make(HEADS["bernoulli"], (6,)), dropout=True),
    "mean_field": posterior_program(make(HEADS["normal"], (6,))),
    "mixture": posterior_program(make(HEADS["normal"], (6,)), prior="scale_mixture"),
    "spectral_norm": Program(make(HEADS["bernoulli"], (6, 6)), spectral_norm=True),
}


@pytest.mark.parametrize("name", list(RANDOM_PROGRAMS))
def test_same_seed_same_numbers_and_nothing_global_touched(name):
    program, rng = RANDOM_PROGRAMS[name], np.random.default_rng(11)
    knobs = prior_knobs(program.network, rng, dropout_rate=0.2)
    parameters = start(program, 2, rng)
    data = (*batches(program.network, 12, 2, 8, rng), np.full(12, 1e-2))
    copies = [a.copy() for a in (parameters, *data)]
    for array in (parameters, *data):
        array.setflags(write=False)
    torch.set_num_threads(2)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()

    def run(seed, pieces=(slice(0, 12),)):
        trainer = backend.Trainer(program, parameters, {}, knobs, seed)
        losses = np.concatenate([trainer.run(*(a[piece] for a in data)) for piece in pieces])
        return losses, trainer.parameters()

    losses, found = run(5)
    assert losses.shape == (12, 2)
    assert losses.dtype == found.dtype == np.float32
    for same in (run(5), run(5, (slice(0, 1), slice(1, 9), slice(9, 12)))):
        assert_array_equal(same[0], losses)
        assert_array_equal(same[1], found)
    if name != "spectral_norm":
        assert not np.array_equal(run(6)[0], losses)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    for array, copy in zip((parameters, *data), copies, strict=True):
        assert_array_equal(array, copy)


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


def test_dropout_masks_have_the_rate_of_the_knob():
    network = make(HEADS["bernoulli"], (64, 32), "relu", "resnet")
    network = replace(network, hidden_layer_sizes=(64, 64))
    program = Program(network, dropout=True)
    rng = np.random.default_rng(12)
    trainer = backend.Trainer(program, start(program, 2, rng), {}, Knobs(dropout_rate=0.3), 0)
    trainer.run(*batches(network, 1, 2, 200, rng), np.zeros(1))
    for mask in trainer._trunk._hidden._masks:
        assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.7)}
        assert_allclose(mask.mean((1, 2)), 1.0, atol=0.02)
        # Fresh for each row and unit.
        assert mask.mean(1).std() < 0.1
        assert mask.mean(2).std() < 0.15
    first = trainer._trunk._hidden._masks[0].clone()
    trainer.run(*batches(network, 1, 2, 200, rng), np.zeros(1))
    assert not torch.equal(trainer._trunk._hidden._masks[0], first)


def test_load_puts_parameters_back_and_forgets_the_moments():
    rng = np.random.default_rng(13)
    network = make(HEADS["normal"], (6,))
    program, parameters = Program(network), start(Program(network), 1, rng)
    data = (*batches(network, 10, 1, 8, rng), np.full(10, 1e-2))
    trainer = backend.Trainer(program, parameters, {}, Knobs(), 0)
    assert_array_equal(trainer.parameters(), parameters)
    losses = trainer.run(*data)
    found = trainer.parameters()
    trainer.load(parameters)
    assert_array_equal(trainer.run(*data), losses)
    assert_array_equal(trainer.parameters(), found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the error is that of a machine without a GPU")
def test_missing_device_is_named():
    program = Program(make(HEADS["normal"], (4,)))
    with pytest.raises(RuntimeError, match='device="cpu"'):
        backend.Trainer(program, start(program, 1, np.random.default_rng(0)), {}, Knobs(), 0, device="cuda")


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
    knobs = prior_knobs(network, rng, l1=1e-3, l2=1e-3, weight_decay=1e-3, dropout_rate=0.3, ridge=1e-3)
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


def fitted_of(network, weights, rng=None, **options):
    head, d = network.head, network.n_features
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
    return Fitted(network, weights, **{"fixed": np.zeros(0, np.float32), **shift, **options})


def numpy_raw(fitted, weights, X):
    network = fitted.network
    standardised = ((X - fitted.x_shift) / fitted.x_scale).astype(np.float32)
    return network.raw_outputs(network.views(weights), standardised, fixed=fitted.features)


def constants_of(fitted, weights):
    return weights[:, fitted.network.n_layer_weights :].astype(float)


def assert_same_distribution(output, fitted, likelihood, weights, X, rtol=1e-4):
    """A native output against the NumPy forward pass and scipy's moments."""
    raw = numpy_raw(fitted, weights, X).astype(float)
    if likelihood is None:
        assert_allclose(output.detach().numpy(), raw[0], rtol=rtol, atol=1e-4)
        return
    parameters = likelihoods.link_parameters(fitted.network.head, raw, constants_of(fitted, weights), fitted.fixed)
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
    fitted = fitted_of(
        network, weights, rng, fixed=fixed_values(name), log_target=name == "lognormal", dropout_rate=0.1
    )
    state = torch.random.get_rng_state()
    models = backend.to_native(fitted)
    assert torch.equal(torch.random.get_rng_state(), state)
    X = rng.standard_normal((9, 3))
    for model, row in zip(models, weights, strict=True):
        assert_same_distribution(model(torch.tensor(X)), fitted, likelihood, row[None], X)
        assert sum(isinstance(m, torch.nn.Dropout) for m in model.modules()) == 2
    back = backend.from_native(models, fitted)
    assert_array_equal(back.weights, weights)
    assert back.weights.dtype == np.float32


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_native_activations(activation):
    rng = np.random.default_rng(16)
    network = make(HEADS["categorical"], (7,), activation)
    weights = start(Program(network), 1, rng)
    fitted = fitted_of(network, weights, rng)
    X = rng.standard_normal((9, 3))
    assert_same_distribution(backend.to_native(fitted)(torch.tensor(X)), fitted, None, weights, X)


@pytest.mark.parametrize("name", ["bernoulli", "categorical", "normal-constant"])
def test_native_gaussian_process(name):
    rng = np.random.default_rng(17)
    network = make(HEADS[name], (6, 6), "relu", "resnet", n_inducing=10)
    weights = start(Program(network), 1, rng)
    n_precisions = network.head.n_outputs if name == "categorical" else 1
    roots = rng.standard_normal((n_precisions, 10, 30))
    fitted = fitted_of(
        network,
        weights,
        rng,
        features=network.initial_random_features(rng, 2.0),
        precision=0.5 * np.eye(10) + roots @ roots.mT,
        ridge_penalty=0.5,
        spec_norm_bound=0.9,
    )
    model, X = backend.to_native(fitted), rng.standard_normal((9, 3))
    outputs, variance = model(torch.tensor(X))
    assert_same_distribution(outputs, fitted, LIKELIHOODS.get(name), weights, X)
    standardised = ((X - fitted.x_shift) / fitted.x_scale).astype(np.float32)
    h = network.random_features(network.hidden(network.views(weights), standardised), fitted.features)[0].astype(float)
    expected = 0.5 * np.einsum("nm,kml,nl->nk", h, np.linalg.inv(fitted.precision), h)
    if name == "normal-constant":
        expected = expected * fitted.y_scale**2
    assert_allclose(variance.detach(), expected, rtol=1e-4)
    back = backend.from_native(model, fitted)
    assert_array_equal(back.weights, weights)
    assert_array_equal(back.precision, fitted.precision)
    # In training the bound takes hold.
    model.train()
    assert not isinstance(model(torch.tensor(X)), tuple)
    for _ in range(20):
        model(torch.tensor(X))
    views = network.views(backend.from_native(model, fitted).weights)
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
    fitted = fitted_of(
        network,
        np.zeros((0, network.n_weights), np.float32),
        rng,
        posterior=program.posterior,
        posterior_parameters=parameters,
        prior=prior,
        prior_scale=knobs.prior_scale,
        prior_ratio=0.1,
        prior_mix=0.4,
    )
    state = torch.random.get_rng_state()
    model = backend.to_native(fitted)
    assert torch.equal(torch.random.get_rng_state(), state)
    X = rng.standard_normal((9, 3))
    assert_array_equal(backend.from_native(model, fitted).posterior_parameters, parameters)

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
    changed = backend.from_native(model, fitted).posterior_parameters
    assert np.mean(changed != parameters) > 0.95
    assert np.isfinite(changed).all()
    again = backend.to_native(replace(fitted, posterior_parameters=changed))
    assert_array_equal(backend.from_native(again, fitted).posterior_parameters, changed)


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

    fitted = fitted_of(
        network, np.zeros((0, network.n_weights)), posterior=program.posterior, posterior_parameters=parameters[0],
        prior=prior, prior_scale=knobs.prior_scale, prior_ratio=knobs.prior_ratio, prior_mix=knobs.prior_mix,
    )  # fmt: skip
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
    fitted = fitted_of(network, weights, rng)
    model = backend.to_native(fitted).train()
    X, y = rng.standard_normal((20, 3)), torch.tensor(rng.standard_normal((20, 2)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (-model(torch.tensor(X)).log_prob(y).mean()).backward()
        optimizer.step()
    back = backend.from_native(model, fitted)
    assert (back.weights != weights).mean() > 0.8
    assert_same_distribution(model.eval()(torch.tensor(X)), back, LIKELIHOODS["student_t"], back.weights, X)


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
    from skuq.backends._blitz import _native

    assert set(ACTIVATIONS) == set(_layers.ACTIVATIONS) == set(_native.ACTIVATIONS)
