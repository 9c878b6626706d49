"""Hurdle likelihoods against mixtures that are put together of scipy's parts, and against simulation."""

import numpy as np
import pytest
from _table import each_backend, each_regressor, make
from scipy import stats
from test_native import RTOL, as_array, call, mean_of, scale_of

import skuq
from skuq import metrics
from skuq._model.heads import apply_link, invert_link, link_parameters
from skuq._prediction.distributions import PredictiveMixture
from skuq.likelihoods import (
    NAMED,
    ZeroInflatedGamma,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)

PARAMETERS = {
    "zero_inflated_gamma": {"zero": 0.6, "mean": 3.0, "shape": 2.5},
    "zero_inflated_poisson": {"zero": 0.3, "rate": 1.7},
    "zero_inflated_negative_binomial": {"zero": 0.7, "mean": 3.0, "concentration": 1.5},
}
each_family = pytest.mark.parametrize("family", PARAMETERS)
counts = pytest.mark.parametrize("family", list(PARAMETERS)[1:])


def uncut(family, p):
    """The positive family before it is cut off, by scipy."""
    if family == "zero_inflated_gamma":
        return stats.gamma(p["shape"], scale=p["mean"] / p["shape"])
    if family == "zero_inflated_poisson":
        return stats.poisson(p["rate"])
    return stats.nbinom(p["concentration"], p["concentration"] / (p["concentration"] + p["mean"]))


def simulate(family, p, rng, size):
    """Zeros by the coin, else scipy's draws, thrown again while they are zero."""
    y = uncut(family, p).rvs(size, random_state=rng)
    while np.any(y == 0):
        y = np.where(y == 0, uncut(family, p).rvs(size, random_state=rng), y)
    return np.where(rng.uniform(size=size) < p["zero"], 0.0, y)


def spread(family, shape=(4, 5)):
    rng = np.random.default_rng(0)
    return {key: value * rng.uniform(0.5, 1.4, shape) for key, value in PARAMETERS[family].items()}


@each_family
def test_formulas_are_those_of_the_mixture(family):
    likelihood, p = NAMED[family](), spread(family)
    inner = uncut(family, p)
    y = np.round(inner.ppf(np.random.default_rng(1).uniform(size=(4, 5))), 0 if likelihood.discrete else 12)
    above = inner.sf(0)
    positive = (inner.logpmf if likelihood.discrete else inner.logpdf)(y) - np.log(above)
    expected = np.where(y == 0, np.log(p["zero"]), np.log(1 - p["zero"]) + positive)
    np.testing.assert_allclose(likelihood.logpdf(y, p), expected, rtol=1e-10)
    cdf = p["zero"] + (1 - p["zero"]) * (inner.cdf(y) - inner.cdf(0)) / above
    np.testing.assert_allclose(likelihood.cdf(y, p), cdf, rtol=1e-10)
    assert (likelihood.cdf(-1e-9, p) == 0).all()
    np.testing.assert_allclose(likelihood.cdf(0.0, p), p["zero"])
    assert (likelihood.logpdf(-1.0, p) == -np.inf).all()


@each_family
def test_upper_tails_keep_their_digits(family):
    likelihood, p = NAMED[family](), spread(family)
    inner = uncut(family, p)
    far = np.ceil(inner.isf(10.0 ** -np.arange(2, 22).reshape(4, 5)))
    expected = (1 - p["zero"]) * inner.sf(far) / inner.sf(0)
    np.testing.assert_allclose(likelihood.sf(far, p), expected, rtol=1e-10)
    np.testing.assert_allclose(likelihood.sf(0.0, p), 1 - p["zero"])
    assert (likelihood.sf(-1e-9, p) == 1).all()
    # A quantile of the mixture so far out stands where the tail is what is asked for.
    if not likelihood.discrete:
        mixture = PredictiveMixture(likelihood, {name: value[..., None] for name, value in p.items()}, True)
        level = 1 - 2.0**-40
        beyond = likelihood.sf(mixture.ppf(level)[:, None], mixture.parameters).mean(axis=0)
        np.testing.assert_allclose(beyond, 2.0**-40, rtol=1e-8)


@each_family
def test_moments_and_samples_are_those_of_a_simulation(family):
    likelihood, p, n = NAMED[family](), PARAMETERS[family], 400_000
    y = simulate(family, p, np.random.default_rng(0), n)
    variance = likelihood.var(p)
    assert likelihood.mean(p) == pytest.approx(y.mean(), abs=5 * np.sqrt(variance / n))
    assert variance == pytest.approx(y.var(), rel=0.02)
    drawn = likelihood.rvs(p, np.random.default_rng(1), size=n)
    for level in np.unique(np.quantile(y, [0.1, 0.5, 0.8, 0.99])):
        slack = 5 * 0.5 / np.sqrt(n)
        assert likelihood.cdf(level, p) == pytest.approx(np.mean(y <= level), abs=slack)
        assert np.mean(drawn <= level) == pytest.approx(np.mean(y <= level), abs=2 * slack)


@each_family
@pytest.mark.parametrize("level", [1e-6, 0.25, 0.59999, 0.6, 0.60001, 0.8, 0.95, 1 - 1e-9])
def test_quantiles_invert_the_cdf(family, level):
    likelihood, p = NAMED[family](), spread(family)
    y = likelihood.ppf(level, p)
    np.testing.assert_array_equal(y[level <= p["zero"]], 0.0)
    assert (y[level > p["zero"]] > 0).all()
    assert (likelihood.cdf(y, p) >= level - 1e-12).all()
    below = y - 1 if likelihood.discrete else y * (1 - 1e-7)
    assert (likelihood.cdf(np.where(y > 0, below, -1.0), p) < level).all()


@counts
def test_the_least_positive_count_is_found_at_the_edge(family):
    p = spread(family, (2000,))
    likelihood = NAMED[family]()
    for level in (p["zero"] + 1e-16, p["zero"] + 1e-13):
        level = np.maximum(level, np.nextafter(p["zero"], 1))
        np.testing.assert_array_equal(likelihood.ppf(level, p), 1.0)
    many = {**p, "rate" if "poisson" in family else "mean": np.full(2000, 1e3)}
    if "poisson" in family:
        # Where P(Y = 0) is nothing, the quantile is the uncut one.
        q = many["zero"] + (1 - many["zero"]) * 1e-10
        assert (likelihood.ppf(q, many) > 700).all()


@each_family
def test_mixtures_over_draws_have_exact_quantiles(family):
    p = spread(family, (7, 40, 1))
    p["zero"] = np.random.default_rng(2).uniform(0.05, 0.95, (7, 40, 1))
    p["zero"][:, 0] = 1e-6
    p["zero"][:, 1] = 1 - 1e-6
    mixture = PredictiveMixture(NAMED[family](), p, single_output=True)
    at_zero = p["zero"].mean(axis=0)[:, 0]
    for level in (0.05, 0.3, 0.5, 0.7, 0.95):
        y = mixture.ppf(level)
        np.testing.assert_array_equal(y == 0, level <= at_zero)
        inner = uncut(family, {k: v[:, :, 0] for k, v in p.items()})
        zero = p["zero"][..., 0]

        def cdf(y, inner=inner, zero=zero):
            return (zero + (1 - zero) * (inner.cdf(y) - inner.cdf(0)) / inner.sf(0)).mean(axis=0)

        if mixture.likelihood.discrete:
            assert (cdf(y) >= level - 1e-12).all()
            assert ((y == 0) | (cdf(y - 1) < level)).all()
        else:
            np.testing.assert_allclose(cdf(y)[y > 0], level, atol=1e-9)
    sample = mixture.rvs(20_000, random_state=0)
    np.testing.assert_allclose((sample == 0).mean(axis=1), at_zero, atol=5 * 0.5 / np.sqrt(20_000))


@each_family
def test_information_is_the_expected_squared_slope(family):
    likelihood, p, step = NAMED[family](), PARAMETERS[family], 1e-4
    first = likelihood.parameters()[0]
    raw = invert_link(first.link, p[first.name])
    y = simulate(family, p, np.random.default_rng(0), 400_000)
    after, before = (
        likelihood.logpdf(y, {**p, first.name: apply_link(first.link, raw + way * step)}) for way in (1, -1)
    )
    assert likelihood.location_information(p) == pytest.approx(np.mean(((after - before) / (2 * step)) ** 2), rel=0.02)


def test_targets_are_checked():
    ZeroInflatedGamma().check_target(np.array([0.0, 0.5]))
    for likelihood in (ZeroInflatedPoisson(), ZeroInflatedNegativeBinomial()):
        likelihood.check_target(np.array([0.0, 5.0]))
        with pytest.raises(ValueError, match=r"counts \(0, 1, 2, …\), got y"):
            likelihood.check_target(np.array([0.5]))
    with pytest.raises(
        ValueError, match=r"ZeroInflatedGamma likelihood needs targets that are zero or positive, got y"
    ):
        ZeroInflatedGamma().check_target(np.array([-0.5]))


@each_family
def test_training_starts_at_the_share_of_zeros(family):
    y = simulate(family, PARAMETERS[family], np.random.default_rng(0), (4000, 2))
    y[:, 1] = 0  # no positive target at all
    likelihood, weight = NAMED[family](), np.ones(4000)
    units = np.array([2.0, 1.0])
    raw, constants = likelihood.initial_raw(y, weight, units)
    start = link_parameters(likelihood.head(2), raw[None, None], constants[None], likelihood.fixed_values(units))
    assert start["zero"][0, 0, 0] == pytest.approx((y[:, 0] == 0).mean(), rel=1e-5)
    first = likelihood.parameters()[0].name
    assert start[first][0, 0, 0] == pytest.approx(y[y > 0].mean(), rel=1e-5)
    assert np.isfinite(np.concatenate([raw, constants])).all()


def problem(family, n, seed=0, unit=1.0):
    """Rows whose chance of zero and positive mean both depend on them, and their true parameters."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    zero, mean = 1 / (1 + np.exp(-0.5 - X[:, 0])), unit * np.exp(1 + 0.5 * X[:, 1] - 0.3 * X[:, 0])
    p = {"zero": zero, "rate" if "poisson" in family else "mean": mean}
    if "poisson" not in family:
        p["shape" if "gamma" in family else "concentration"] = np.full(n, 2.0)
    return X, simulate(family, p, rng, n), p


@each_family
@each_backend
def test_log_score_is_near_the_truths(family, backend):
    likelihood = NAMED[family]()
    X, y, _ = problem(family, 3000)
    X_test, y_test, p = problem(family, 20_000, seed=1)
    model = skuq.ProbabilisticRegressor(likelihood=family, backend=backend, random_state=0).fit(X, y)
    dist = model.predict_dist(X_test)
    assert -dist.logpdf(y_test).mean() < -likelihood.logpdf(y_test, p).mean() + 0.02
    interval = model.predict_interval(X_test[:2000])
    # With probability at zero or between counts, no central interval covers exactly 90 %.
    assert 0.88 < metrics.coverage(y_test[:2000], interval) < 0.99
    np.testing.assert_array_equal(interval[:, 0] == 0, dist.cdf(0.0)[:2000] >= 0.05)
    assert model.predict(X_test).mean() == pytest.approx(y_test.mean(), rel=0.1)


@each_family
@each_regressor
def test_every_method(name, backend, family):
    X, y, _ = problem(family, 96)
    model = make(name, backend, likelihood=family, max_iter=4).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    assert np.isfinite([mean, std]).all()
    assert (model.predict_interval(X) >= 0).all()
    assert np.isfinite(model.predict_dist(X).logpdf(y)).all()
    assert (model.sample_y(X, 20) == 0).any()
    dist = model.predict_dist(X)
    drawn = dist.rvs(2000, random_state=0)
    np.testing.assert_allclose(drawn.mean(axis=1), mean, atol=6 * (std / np.sqrt(2000)).max())


@each_backend
def test_amounts_may_be_in_any_unit(backend):
    X, y, _ = problem("zero_inflated_gamma", 96)
    models = [
        make("ProbabilisticRegressor", backend, likelihood="zero_inflated_gamma").fit(X, y * c) for c in (1, 1e9, 1e-9)
    ]
    for model, unit in zip(models[1:], (1e9, 1e-9), strict=True):
        np.testing.assert_allclose(model.predict(X), unit * models[0].predict(X), rtol=1e-4)
        np.testing.assert_allclose(
            model.predict_interval(X), unit * models[0].predict_interval(X), rtol=1e-4, atol=1e-6 * unit
        )


@each_family
@each_backend
def test_native_models_give_the_same_distribution(family, backend):
    X, y, _ = problem(family, 96)
    model = make("ProbabilisticRegressor", backend, likelihood=family, max_iter=4).fit(X, y)
    answer = call(backend, model.to_native(), X)
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean_of(answer)[:, 0], mean, rtol=RTOL)
    np.testing.assert_allclose(scale_of(answer)[:, 0], std, rtol=RTOL)
    target = y[:, None].astype(np.float32)
    if backend == "blitz":
        import torch

        target = torch.as_tensor(target)
    logs = as_array(answer.log_prob(target)).reshape(len(y))
    np.testing.assert_allclose(logs, model.predict_dist(X).logpdf(y), atol=2e-3)


@each_family
@each_backend
@pytest.mark.parametrize("extreme", [-60.0, 60.0])
def test_gradients_are_finite_far_out(extreme, family, backend):
    likelihood = NAMED[family]()
    head = likelihood.head(1)
    raw, constants = np.full((1, 4, head.n_raw), extreme), np.full((1, head.n_constants), extreme)
    y = np.array([0.0, 1.0, 2.0, 30.0]).reshape(1, 4, 1)
    if backend == "tensorflow":
        import tensorflow as tf

        from skuq.backends._tensorflow._losses import negative_log_likelihood

        raw, constants, y = (tf.constant(a, tf.float32) for a in (raw, constants, y))
        with tf.GradientTape() as tape:
            tape.watch([raw, constants])
            loss = negative_log_likelihood(head, raw, constants, tf.zeros(0), y, tf.constant(0.0))
        gradients = tape.gradient(loss, [raw, constants])
    else:
        import torch

        from skuq.backends._blitz._losses import negative_log_likelihood

        raw, constants = (torch.tensor(a, dtype=torch.float32, requires_grad=True) for a in (raw, constants))
        loss = negative_log_likelihood(head, raw, constants, torch.zeros(0), torch.tensor(y, dtype=torch.float32), 0.0)
        gradients = torch.autograd.grad(loss.sum(), [raw, constants], allow_unused=True)
    for part in [loss, *gradients]:
        assert part is None or np.isfinite(as_array(part)).all()


def test_pit_is_uniform():
    family = "zero_inflated_gamma"
    _, y, p = problem(family, 5000)
    mixture = PredictiveMixture(NAMED[family](), {k: v[None, :, None] for k, v in p.items()}, single_output=True)
    assert stats.kstest(metrics.pit(y, mixture, random_state=0), "uniform").pvalue > 1e-3


def test_crps_is_that_of_samples():
    family = "zero_inflated_gamma"
    _, y, p = problem(family, 50)
    mixture = PredictiveMixture(NAMED[family](), {k: v[None, :, None] for k, v in p.items()}, single_output=True)
    samples = simulate(family, {k: v[:, None] for k, v in p.items()}, np.random.default_rng(3), (50, 4000))
    assert metrics.crps(y, mixture) == pytest.approx(metrics.crps(y, samples), rel=0.02)
