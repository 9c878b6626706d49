"""The factor of the noise: held-out rows decide, and the mixture of the draws is what they must fit."""

import numpy as np
import pytest
from _table import case, each_backend
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.metrics import r2_score

import skuq
from skuq._data.folds import Part
from skuq._model.network import Network
from skuq._model.variational import Posterior
from skuq._training.loop import Rows
from skuq._training.noise import (
    coverage_factor,
    ensemble_factor,
    fit_siblings,
    mixture_factor,
    scale_limit,
    unseen_variance,
)
from skuq.likelihoods import Laplace, LogNormal, Normal, StudentT


def rows_of(y):
    return Rows(np.zeros((len(y), 1), np.float32), y.astype(np.float32), np.ones(len(y)), np.ones(len(y), int))


def parts_of(held_out):
    return [Part(own, None, k) for k, own in enumerate(held_out)]


def test_one_draw_is_the_closed_form():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(500, 2)) * [3.0, 0.5]
    parameters = {"loc": np.zeros((1, 500, 2)), "scale": np.ones((1, 1, 1))}
    factor = mixture_factor(Normal(), parameters, y, np.ones(500))
    assert np.allclose(factor, np.sqrt(np.mean(y**2, axis=0)))


def test_a_mixture_is_fitted_as_scipy_fits_it():
    rng = np.random.default_rng(1)
    loc, scale = rng.normal(size=(4, 300, 1)), rng.uniform(0.5, 1.5, (4, 300, 1))
    y, weight = 2 * rng.normal(size=(300, 1)), rng.uniform(0.1, 2.0, 300)

    def loss(factor):
        density = logsumexp(norm.logpdf(y[:, 0], loc[..., 0], factor * scale[..., 0]), axis=0)
        return -np.average(density, weights=weight)

    expected = minimize_scalar(loss, bounds=(0.1, 10), method="bounded").x
    assert mixture_factor(Normal(), {"loc": loc, "scale": scale}, y, weight) == pytest.approx(expected, rel=1e-3)


def test_draws_that_spread_need_less_noise():
    rng = np.random.default_rng(2)
    y = rng.normal(size=(400, 1))
    factors = [
        mixture_factor(
            Normal(), {"loc": s * rng.normal(size=(50, 400, 1)), "scale": np.ones((50, 1, 1))}, y, np.ones(400)
        )
        for s in (0.0, 0.5, 0.9)
    ]
    assert factors[0] > factors[1] > factors[2]


def test_intervals_of_any_mixture_hold_their_share():
    """Errors with heavy tails: the likelihood asks for wide intervals, and the coverage for narrower ones."""
    rng = np.random.default_rng(11)
    y = rng.standard_t(8, size=(1000, 2)) * [1.0, 10.0]
    weight = rng.uniform(0.5, 1.5, 1000)
    parameters = {"loc": 0.3 * rng.normal(size=(20, 1000, 2)), "scale": np.ones((20, 1, 2)) * [1.0, 10.0]}
    likeliest = mixture_factor(Normal(), parameters, y, weight)
    factor = coverage_factor(Normal(), parameters, y, weight, likeliest)
    assert (factor < likeliest).all()
    p = norm.cdf(y, parameters["loc"], parameters["scale"] * factor).mean(axis=0)
    inside = np.average(np.abs(p - 0.5) < 0.45, axis=0, weights=weight)
    np.testing.assert_allclose(inside, 0.9, atol=0.002)


@pytest.mark.parametrize("spike", [0.9, 0.02], ids=["nine of ten rows", "two of a hundred"])
def test_coverage_costs_no_more_likelihood_than_it_may(spike):
    """Targets with a spike hold their share of the rows whatever the noise: its scale stays near the likeliest."""
    rng = np.random.default_rng(12)
    y = np.where(rng.uniform(size=(2000, 1)) < spike, 0.0, 3 * rng.normal(size=(2000, 1)))
    if spike < 0.5:
        y = np.where(y == 0, 30.0, y)
    parameters, weight = {"loc": np.zeros((1, 2000, 1)), "scale": np.ones((1, 1, 1))}, np.ones(2000)
    likeliest = mixture_factor(Normal(), parameters, y, weight)
    factor = coverage_factor(Normal(), parameters, y, weight, likeliest)
    assert factor[0] == pytest.approx(y.std(), rel=0.2)
    cost = np.mean(norm.logpdf(y, scale=likeliest) - norm.logpdf(y, scale=factor))
    assert 0 < cost < 0.0201


def test_what_members_have_seen_does_not_tell_the_noise():
    """A hundred rows far out, of which members know when they have seen them: one that has not gives them the common noise."""
    rng = np.random.default_rng(13)
    y = rng.normal(size=(4000, 1)) * np.where(np.arange(4000) % 40 == 0, 20.0, 1.0)[:, None]
    held_out = np.array_split(rng.permutation(4000), 10)
    index = np.concatenate(held_out)
    fold = np.repeat(np.arange(10), 400)
    scale = np.where(np.abs(y[index]) > 5, 20.0, 1.0)[None].repeat(10, axis=0)
    scale[fold, np.arange(4000)] = 1.0
    factor, _ = ensemble_factor(
        Normal(), {"loc": np.zeros((10, 4000, 1)), "scale": scale}, rows_of(y), parts_of(held_out)
    )
    # Of ten equal components at any new row, whose scale is the factor.
    assert factor[0] == pytest.approx(y.std(), rel=0.2)


def test_siblings_share_one_factor():
    """Siblings of different noise on folds of different size: the factor that fits all their rows together."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(500, 1))
    held_out = np.split(np.arange(500), [50, 200])
    scales = [0.8, 1.0, 1.2]
    mixtures = [
        {"loc": np.zeros((1, len(index), 1)), "scale": np.full((1, 1, 1), s)}
        for index, s in zip(held_out, scales, strict=True)
    ]
    factor, power, _ = fit_siblings(Normal(), mixtures, rows_of(y), parts_of(held_out))
    assert power[0] < 0.5  # the noise is the same everywhere
    z = np.concatenate([y[index, 0] / s ** power[0] for index, s in zip(held_out, scales, strict=True)])
    likeliest, covering = np.sqrt(np.mean(z**2)), np.quantile(np.abs(z), 0.9) / norm.ppf(0.95)
    assert factor[0] == pytest.approx(np.sqrt(likeliest * covering), rel=1e-3)


@pytest.mark.parametrize("true", [1.0, 0.5, 0.0])
def test_scales_differ_as_much_as_held_out_rows_say(true):
    """Noise of σ(x)^true: that power is found, and with it the noise itself."""
    rng = np.random.default_rng(13)
    scale = np.exp(rng.normal(size=(4000, 1)))
    y = 3 * scale**true * rng.normal(size=(4000, 1))
    factor, power, _ = fit_siblings(
        Normal(), [{"loc": np.zeros((1, 4000, 1)), "scale": scale[None]}], rows_of(y), parts_of([np.arange(4000)])
    )
    assert power[0] == true
    assert factor[0] == pytest.approx(3, rel=0.05)


def test_an_ensemble_spreads_as_its_errors_do():
    """Targets with rare spikes, and scales that say nothing of them: held-out rows flatten these, and what is left is as wide."""
    rng = np.random.default_rng(14)
    n, n_members = 2000, 10
    y = np.where(rng.uniform(size=(n, 1)) < 0.02, 10.0, 0.2 * rng.normal(size=(n, 1)))
    held_out = np.array_split(rng.permutation(n), n_members)
    scale = np.exp(rng.normal(size=(1, n, 1)) + 0.1 * rng.normal(size=(n_members, n, 1)))
    factor, power = ensemble_factor(
        Normal(), {"loc": np.zeros((n_members, n, 1)), "scale": scale}, rows_of(y), parts_of(held_out)
    )
    assert power[0] < 1
    assert np.sqrt(np.mean((factor * scale**power) ** 2)) == pytest.approx(np.sqrt(np.mean(y**2)), rel=0.05)


@pytest.mark.parametrize("bias", [0.0, 0.3])
def test_an_ensemble_is_calibrated_at_rows_that_no_member_has_seen(bias):
    """Members that err by an own part and a common part: the mixture's intervals hold the truth of new rows."""
    rng = np.random.default_rng(4)
    n, n_members, noise, own = 5000, 10, 1.0, 0.5
    held_out = np.array_split(rng.permutation(n), n_members)
    y = rng.normal(scale=noise, size=(n, 1)) + bias
    loc = own * rng.normal(size=(n_members, n, 1))
    index = np.concatenate(held_out)
    parameters = {"loc": loc[:, index], "scale": np.full((n_members, 1, 1), 0.2)}
    factor, _ = ensemble_factor(Normal(), parameters, rows_of(y), parts_of(held_out))
    new = rng.normal(scale=noise, size=n) + bias
    spread = np.sqrt(own**2 * (1 - 1 / n_members) + (0.2 * factor[0]) ** 2)
    inside = np.abs(new - loc.mean(axis=0)[:, 0]) < 1.645 * spread
    assert inside.mean() == pytest.approx(0.9, abs=0.03)


@pytest.mark.parametrize("drawn", [0.0, 0.6, 0.9])
def test_members_spread_more_at_rows_that_none_has_seen(drawn):
    """A variance of 0.25, and of 0.04 among members which the row has drawn to itself: the geometric mean of both."""
    rng = np.random.default_rng(7)
    n, n_others = 20_000, np.full((20_000, 1), 9)
    r, own = rng.normal(size=(n, 1)), 0.5 * rng.normal(size=(n, 1))
    others = drawn * r + 0.2 * rng.normal(size=(9, n, 1)).mean(axis=0)
    found = unseen_variance(r - own, own - others, np.array([0.04]), n_others, np.ones(n))
    assert found[0] == pytest.approx(0.5 * 0.2, rel=0.03)
    # Never less than that of the members which have seen the rows.
    assert unseen_variance(r, -others, np.array([0.04]), n_others, np.ones(n))[0] == pytest.approx(0.04, rel=0.05)


@pytest.mark.parametrize("n_members", [1, 2, 3])
def test_small_ensembles_have_a_finite_factor(n_members):
    rng = np.random.default_rng(5)
    y = rng.normal(size=(60, 1))
    held_out = np.array_split(np.arange(60), n_members)
    parameters = {"loc": rng.normal(size=(n_members, 60, 1)), "scale": np.ones((n_members, 60, 1))}
    if n_members == 1:
        factor, *_ = fit_siblings(Normal(), [parameters], rows_of(y), parts_of(held_out))
    else:
        factor, _ = ensemble_factor(Normal(), parameters, rows_of(y), parts_of(held_out))
    assert np.isfinite(factor).all()
    assert (factor > 0).all()


@pytest.mark.parametrize("likelihood", [Normal(), Laplace(), StudentT(), LogNormal()], ids=lambda f: type(f).__name__)
@pytest.mark.parametrize("method", ["Probabilistic", "MCDropout", "DeepEnsemble", "BNN", "SNGP"])
def test_pure_noise_is_covered(method, likelihood):
    """Nothing to learn: what is left of the intervals is the noise, and held-out rows know it."""
    rng = np.random.default_rng(6)
    X, y, new = rng.normal(size=(200, 3)), rng.normal(size=200), rng.normal(size=2000)
    if isinstance(likelihood, LogNormal):
        y, new = np.exp(y), np.exp(new)
    model = getattr(skuq, f"{method}Regressor")(likelihood=likelihood, backend="blitz", max_iter=15, random_state=0)
    interval = model.fit(X, y).predict_interval(rng.normal(size=(2000, 3)))
    # From as few as 40 held-out rows, whose scale is known to a sixth.
    assert 0.75 < np.mean((new > interval[:, 0]) & (new < interval[:, 1])) < 0.98


def test_loss_of_siblings_is_that_of_their_mixtures():
    rng = np.random.default_rng(8)
    y = rng.normal(size=(60, 2))
    held_out = np.split(np.arange(60), [20])
    mixtures = [{"loc": rng.normal(size=(3, len(own), 2)), "scale": np.ones((3, 1, 1))} for own in held_out]
    *_, loss = fit_siblings(Normal(), mixtures, rows_of(y), parts_of(held_out))
    loc = np.concatenate([own["loc"] for own in mixtures], axis=1)

    def expected(factor):
        return -np.log(norm.pdf(y, loc, factor).mean(axis=0)).sum(axis=1).mean()

    factor = mixture_factor(Normal(), {"loc": loc, "scale": np.ones((3, 1, 1))}, y, np.ones(60))
    assert loss == pytest.approx(expected(factor), rel=1e-6)
    assert loss < min(expected(factor * 0.95), expected(factor * 1.05))


@pytest.mark.parametrize("backend", [case(backend) for backend in ("tensorflow", "blitz")])
def test_draws_drop_fewer_units_where_the_noise_is_small(backend):
    rng = np.random.default_rng(9)
    X = rng.uniform(-2, 2, size=(300, 2))
    signal = np.sin(2 * X[:, 0]) + X[:, 1]
    settings = {"backend": backend, "random_state": 0, "dropout_rate": 0.1, "max_iter": 150, "n_draws": 50}
    exact = skuq.MCDropoutRegressor(**settings).fit(X, signal)
    noisy = skuq.MCDropoutRegressor(**settings).fit(X, signal + rng.normal(size=300))
    assert exact.dropout_rate_ < 0.1
    assert noisy.dropout_rate_ == 0.1
    masks = exact._state.posterior.masks
    assert np.mean(masks == 0) == pytest.approx(exact.dropout_rate_, rel=0.3)


@pytest.mark.parametrize("posterior", ["mean_field", "full_covariance"])
def test_a_posterior_narrows_where_the_noise_is_small(posterior):
    rng = np.random.default_rng(9)
    X = rng.uniform(-2, 2, size=(300, 2))
    signal = np.sin(2 * X[:, 0]) + X[:, 1]
    settings = {"posterior": posterior, "hidden_layer_sizes": (16,), "max_iter": 150, "n_draws": 200, "random_state": 0}
    settings |= {"backend": "blitz", "posterior_scale_init": 0.1, "kl_weight": 1.0}
    exact = skuq.BNNRegressor(**settings).fit(X, signal)
    assert exact.posterior_share_ < 1
    if posterior == "mean_field":
        assert skuq.BNNRegressor(**settings).fit(X, signal + rng.normal(size=300)).posterior_share_ == 1
    # The narrowed posterior is what the draws come from and what is exported.
    posterior = exact._state.posterior
    n = posterior.network.n_layer_weights
    anew = posterior.layout.draw(posterior.parameters[0], rng.normal(size=(200, n)))
    drawn, _ = posterior.draws().take(0, 200)
    assert np.median(drawn.std(axis=0)[:n] / anew.std(axis=0)[:n]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("kind", ["mean_field", "full_covariance"])
def test_a_narrowed_posterior_has_a_share_of_the_standard_deviations(kind):
    network = Network(3, (4,), "tanh", "mlp", Normal().head(1))
    posterior = Posterior(network, kind)
    rng = np.random.default_rng(10)
    flat = rng.normal(size=posterior.n_parameters)
    noise = rng.normal(size=(5, network.n_layer_weights))
    means = posterior.mean_weights(flat)
    wide, narrow = (posterior.draw(parameters, noise) - means for parameters in (flat, posterior.narrowed(flat, 0.3)))
    np.testing.assert_allclose(narrow, 0.3 * wide, atol=1e-6)


# The limit of a log-normal's scale


def limit_of(y, loc, scale):
    rows = rows_of(y[:, None])
    mixture = {"loc": loc[None, :, None], "scale": scale[None, :, None]}
    return scale_limit(Normal(), [mixture], rows, [Part(np.arange(len(y)))], np.ones(1)).item()


def test_a_scale_that_rows_do_not_support_is_limited_and_one_that_they_do_is_not():
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(size=500), rng.uniform(0.2, 0.4, 500)
    y = loc + scale * rng.normal(size=500)
    claimed = scale.copy()
    claimed[::60] = 2.4
    assert limit_of(y, loc, claimed) <= 0.4
    true = scale.copy()
    true[::5] = 1.5
    y = loc + true * rng.normal(size=500)
    assert limit_of(y, loc, true) == 1.5


@each_backend
def test_means_of_skewed_prices_are_worth_having(backend):
    # Columns with tails so long that new rows lie where no training row is, and noise that depends on the row.
    rng = np.random.default_rng(2)
    X = rng.standard_t(2.5, size=(3300, 5))
    median = np.exp(1.5 + 0.5 * np.tanh(X[:, 0]) + 0.3 * np.log1p(np.abs(X[:, 1])))
    noise = 0.2 + 0.25 * np.abs(np.tanh(X[:, 2])) + 0.5 * (np.abs(X[:, 3]) > 3)
    y = median * np.exp(noise * rng.normal(size=3300))
    model = skuq.ProbabilisticRegressor(likelihood="lognormal", backend=backend, random_state=0, max_iter=120)
    model.fit(X[:300], y[:300])
    new, target = X[300:], y[300:]
    mean, middle = model.predict(new), model.predict_quantiles(new, 0.5)[:, 0]
    assert r2_score(target, mean) > r2_score(target, middle)
    assert (mean / middle).max() < 3
    spread = np.log(model.predict_quantiles(1e3 * new, 0.84)[:, 0] / model.predict_quantiles(1e3 * new, 0.5)[:, 0])
    limit = model._state.noise.limit.item() * model._state.output.standardizer.scale.item()
    assert spread.max() < 1.01 * limit
    native = model.to_native()(as_tensor(1e2 * new, backend))
    quantity = native.mean.detach().numpy() if backend == "blitz" else native.mean().numpy()
    np.testing.assert_allclose(quantity[:, 0], model.predict(1e2 * new), rtol=1e-2, atol=1e-30)  # in float32


def as_tensor(X, backend):
    if backend == "blitz":
        import torch

        return torch.tensor(X)
    return X.astype(np.float32)
