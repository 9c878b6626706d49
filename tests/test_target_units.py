"""Units of y: the answer is the same in every unit, for continuous families and for counts of any size."""

from decimal import Decimal, getcontext

import numpy as np
import pytest
from _table import case, each_backend, make
from scipy import special, stats
from sklearn.linear_model import PoissonRegressor

from skuq import backends
from skuq._model.namespace import NUMPY
from skuq._prediction.distributions import PredictiveMixture
from skuq.likelihoods import Gamma, NegativeBinomial, Poisson

CONTINUOUS = ("normal", "laplace", "student_t", "lognormal", "gamma")
SHORT = {"hidden_layer_sizes": (8,), "max_iter": 20, "early_stopping": False}
# Half a count below and above the border at which Poisson quantiles change their method, and means far beyond it.
RATES = (0.9e6, 1.1e6, 1e7, 1e9)


def skewed(n=200, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2))
    mean = np.exp(0.8 * X[:, 0] - 0.5 * X[:, 1])
    return X, mean, rng.gamma(8, mean / 8)


# Formulas


def exact_poisson_log_mass(k, rate):
    """By Stirling's series to 40 digits."""
    getcontext().prec = 40
    k, rate = Decimal(k), Decimal(rate)
    two_pi = 2 * Decimal("3.14159265358979323846264338327950288419717")
    log_factorial = k * k.ln() - k + (two_pi * k).ln() / 2 + 1 / (12 * k) - 1 / (360 * k**3) + 1 / (1260 * k**5)
    return float(k * rate.ln() - rate - log_factorial)


def test_log_mass_of_large_counts_is_exact():
    for rate in (1e3, 1e6, 1e9, 1e12):
        for z in (-4.0, -0.3, 0.0, 2.5):
            k = int(rate + z * np.sqrt(rate))
            expected = exact_poisson_log_mass(k, rate)
            assert Poisson().logpdf(float(k), {"rate": rate}) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("r", [1e-3, 0.5, 8.0, 1e4])
def test_log_mass_of_negative_binomials_is_scipys(r):
    mean = np.array([1e-6, 0.3, 5.0, 1e3, 1e6, 1e9])[:, None]
    y = np.floor(mean * np.array([0.0, 0.01, 0.5, 1.0, 2.0]))
    with np.errstate(all="ignore"):
        expected = stats.nbinom(r, r / (r + mean)).logpmf(y)
    # scipy's own digits go where its gammaln cancels.
    lost = 1e-15 * (np.abs(special.gammaln(y + r)) + np.abs(special.gammaln(y + 1)) + np.abs(r * np.log(r)) + y)
    found = NegativeBinomial().logpdf(y, {"mean": mean, "concentration": r})
    assert (np.abs(found - expected) < 1e-10 * (1 + np.abs(expected)) + 20 * lost).all()


@pytest.mark.parametrize("rate", RATES)
def test_poisson_quantiles_of_large_means_are_scipys(rate):
    q = np.array([1e-4, 0.05, 0.3, 0.5, 0.8, 0.95, 1 - 1e-4])
    np.testing.assert_array_equal(Poisson().ppf(q, {"rate": rate}), stats.poisson(rate).ppf(q))


@pytest.mark.parametrize("rate", [1.1e6, 1e8])
def test_tails_of_large_poissons_are_sums_of_their_mass(rate):
    root = np.sqrt(rate)
    for z in (4.2, 5.5, 8.0):
        k = np.floor(rate + z * root)
        mass = np.exp(Poisson().logpdf(k + np.arange(1, np.ceil(15 * root)), {"rate": rate}))
        # 1 − cdf keeps 1e-16.
        assert 1 - Poisson().cdf(k, {"rate": rate}) == pytest.approx(mass.sum(), rel=1e-4, abs=3e-16)
        k = np.floor(rate - z * root)
        mass = np.exp(Poisson().logpdf(k - np.arange(0, np.ceil(15 * root)), {"rate": rate}))
        assert Poisson().cdf(k, {"rate": rate}) == pytest.approx(mass.sum(), rel=1e-4)
    q = np.array([1e-9, 1e-6, 1 - 1e-6, 1 - 1e-9])
    quantile = Poisson().ppf(q, {"rate": rate})
    skewed_normal = rate + root * special.ndtri(q) + (special.ndtri(q) ** 2 - 1) / 6
    np.testing.assert_allclose(quantile, skewed_normal, atol=2)


def test_count_quantiles_are_inverses_of_the_cdf_for_any_mean():
    q = np.array([0.001, 0.05, 0.5, 0.95, 0.999])[:, None]
    mean = 10.0 ** np.arange(-3, 16, 3)
    for likelihood, parameters in (
        (Poisson(), {"rate": mean}),
        (NegativeBinomial(), {"mean": mean, "concentration": 3.0 + 0 * mean}),
    ):
        quantile = likelihood.ppf(q, parameters)
        assert np.isfinite(quantile).all()
        assert (likelihood.cdf(quantile, parameters) >= q - 1e-12).all()
        below = np.where(quantile > 0, likelihood.cdf(np.maximum(quantile - 1, 0), parameters), 0.0)
        # scipy solves for negative binomials of mean 1e9 to a few counts.
        assert (below <= q + 1e-8).all()
    assert Poisson().ppf(0.0, {"rate": 1e9}) == 0
    assert Poisson().ppf(1.0, {"rate": 1e9}) == np.inf


def test_mixtures_of_huge_counts_have_quantiles():
    # Beyond 2^53 neighbouring numbers are further apart than 1.
    rate = np.array([1e17, 3e17])[:, None, None]
    mixture = PredictiveMixture(Poisson(), {"rate": rate}, single_output=True)
    assert mixture.ppf(0.25) == pytest.approx(1e17, rel=1e-8)
    assert mixture.ppf(0.75) == pytest.approx(3e17, rel=1e-8)


@each_backend
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3, 1e6, 1e9, 1e12])
def test_losses_of_counts_keep_their_digits_in_float32(unit, backend):
    rng = np.random.default_rng(0)
    for likelihood in (Poisson(), NegativeBinomial(concentration=8.0)):
        head = likelihood.head(1)
        raw = rng.normal(0, 0.5, (1, 50, 1)).astype(np.float32)
        y = np.floor(unit * rng.gamma(4, np.exp(raw) / 4)).astype(np.float32)
        fixed = np.asarray(likelihood.fixed_values((unit,)), np.float32)
        loss, gradient = loss_and_gradient(backend, head, raw, fixed, y)
        mean = float(fixed[-1]) * np.exp(raw.astype(float))
        y = y.astype(float)
        r = np.inf if isinstance(likelihood, Poisson) else 8.0
        name = "rate" if np.isinf(r) else "mean"
        expected = -likelihood.log_density(NUMPY, y, {name: mean, "concentration": np.full_like(mean, 8.0)})[..., 0]
        np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-4)
        # Of the negative log mass with respect to log mean: (mean − y) r / (r + mean).
        slope = (mean - y) * (1.0 if np.isinf(r) else r / (r + mean))
        np.testing.assert_allclose(gradient, slope, rtol=1e-4, atol=1e-4 * np.abs(slope).max())


def as_tensor(X, backend):
    if backend == "blitz":
        import torch

        return torch.tensor(X)
    return X.astype(np.float32)


def loss_and_gradient(backend, head, raw, fixed, y):
    losses = backends.load(backend)._losses
    if backend == "blitz":
        import torch

        raw = torch.tensor(raw, requires_grad=True)
        loss = losses.negative_log_likelihood(head, raw, torch.zeros(1, 0), torch.tensor(fixed), torch.tensor(y), 0.0)
        loss.sum().backward()
        return loss.detach().numpy(), raw.grad.numpy()
    import tensorflow as tf

    raw = tf.constant(raw)
    with tf.GradientTape() as tape:
        tape.watch(raw)
        loss = losses.negative_log_likelihood(head, raw, tf.zeros((1, 0)), tf.constant(fixed), y, tf.constant(0.0))
    return loss.numpy(), tape.gradient(loss, raw).numpy()


# Estimators


@pytest.mark.parametrize(
    ("family", "backend"), [case(backend, family) for backend in backends.BACKENDS for family in CONTINUOUS]
)
def test_predictions_go_with_the_unit_of_y(family, backend):
    X, _, y = skewed()
    expected = None
    for unit in (1.0, 1e-12, 3e-5, 7e3, 1e12):
        model = make("ProbabilisticRegressor", backend, likelihood=family, **SHORT).fit(X, unit * y)
        mean, std = model.predict(X, return_std=True)
        found = np.stack([mean, std, *model.predict_interval(X).T]) / unit
        expected = found if expected is None else expected
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * y.mean(), err_msg=str(unit))


METHODS = ("ProbabilisticRegressor", "MCDropoutRegressor", "DeepEnsembleRegressor", "BNNRegressor", "SNGPRegressor")


@pytest.mark.parametrize(
    ("name", "backend"), [case(backend, name) for backend in backends.BACKENDS for name in METHODS]
)
@pytest.mark.parametrize("family", ["gamma", "poisson", "negative_binomial"])
def test_means_are_right_in_every_unit(name, family, backend):
    X, mean, y = skewed(400)
    units = (1e-12, 1e12) if family == "gamma" else (1e2, 1e9)
    stopping = "auto" if name == "ProbabilisticRegressor" else False
    for unit in units if name == "ProbabilisticRegressor" else units[1:]:
        target = unit * y if family == "gamma" else np.floor(unit * y)
        model = make(name, backend, likelihood=family, max_iter=40, early_stopping=stopping).fit(X, target)
        predicted, std = model.predict(X, return_std=True)
        assert np.isfinite(std).all()
        assert 0.85 < predicted.mean() / target.mean() < 1.15
        assert np.corrcoef(np.log(predicted), np.log(mean))[0, 1] > 0.9
        interval = model.predict_interval(X)
        assert np.isfinite(interval).all()
        if family != "poisson":  # the rows are far more spread than a Poisson's
            assert 0.75 < np.mean((interval[:, 0] <= target) & (target <= interval[:, 1])) <= 1


@each_backend
def test_linear_models_of_large_counts_are_scikit_learns(backend):
    X, mean, _ = skewed(300)
    y = np.random.default_rng(1).poisson(1e6 * mean).astype(float)
    model = make("ProbabilisticRegressor", backend, likelihood="poisson", hidden_layer_sizes=(), alpha=0, max_iter=2500)
    model.fit(X, y)
    # scikit-learn's solver needs y near 1 and the intercept back in its unit.
    expected = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(X, y / 1e6)
    np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-3)
    assert model.intercept_ == pytest.approx(expected.intercept_ + np.log(1e6), abs=1e-3)


@each_backend
def test_rare_counts(backend):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (4000, 2))
    y = rng.poisson(5e-3 * np.exp(X[:, 0])).astype(float)
    model = make("ProbabilisticRegressor", backend, likelihood="poisson", hidden_layer_sizes=(), alpha=0).fit(X, y)
    assert model.predict(X).mean() == pytest.approx(y.mean(), rel=0.02)


@each_backend
@pytest.mark.parametrize("family", ["gamma", "negative_binomial"])
def test_each_output_has_its_unit(family, backend):
    X, _, y = skewed()
    units = np.array([1e9, 1e3])
    both = np.floor(np.stack([y, y[::-1]], axis=1) * units) + 1
    model = make("ProbabilisticRegressor", backend, likelihood=family, max_iter=60).fit(X, both)
    np.testing.assert_allclose(model.predict(X).mean(axis=0) / both.mean(axis=0), 1, atol=0.12)
    mean = model.to_native()(as_tensor(X, backend)).mean
    mean = mean.detach().numpy() if backend == "blitz" else mean().numpy()
    np.testing.assert_allclose(mean, model.predict(X), rtol=1e-3)


@each_backend
@pytest.mark.parametrize("family", ["gamma", "poisson"])
def test_units_stay_when_training_goes_on(family, backend):
    X, _, y = skewed()
    y = np.floor(1e6 * y) + 1
    model = make("ProbabilisticRegressor", backend, likelihood=family, warm_start=True, **SHORT).fit(X, y)
    model.set_params(learning_rate_init=1e-9, learning_rate="constant", max_iter=1)
    before = model.predict(X)
    model.fit(X, 2 * y)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-4)


@each_backend
@pytest.mark.parametrize("family", ["gamma", "poisson"])
def test_the_unit_is_the_weighted_mean(family, backend):
    X, _, y = skewed()
    y = np.floor(1e3 * y) + 1
    heavy = y > np.median(y)
    # Rows of no weight do not count, however large; a common factor of all weights does not either.
    far = np.append(y, 1e12)
    model = make("ProbabilisticRegressor", backend, likelihood=family, **SHORT)
    expected = model.fit(X[heavy], y[heavy]).predict(X)
    weight = np.append(heavy, False) * 1e-6
    found = model.fit(np.vstack([X, X[:1]]), far, sample_weight=weight).predict(X)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_what_a_family_cannot_hold_is_said():
    X, _, y = skewed()
    y[0] = 1e-200
    with pytest.raises(
        ValueError, match=r"Gamma likelihood holds targets between 1e-37 and 1e37 times their mean, got"
    ):
        make("ProbabilisticRegressor", "auto", likelihood=Gamma()).fit(X, y)
    with pytest.raises(ValueError, match=r"Poisson likelihood holds counts up to 2\^53.*got y with maximum 1e\+20"):
        make("ProbabilisticRegressor", "auto", likelihood="poisson").fit(X, np.where(y < 1, 1.0, 1e20))
    with pytest.raises(ValueError, match=r"mean of values up to .* is not finite"):
        make("ProbabilisticRegressor", "auto", likelihood="gamma").fit(X, np.full(len(X), 1.5e308))
