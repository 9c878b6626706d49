"""The families against numpy's generators, scipy's distributions, root finders and scikit-learn's linear models."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from _table import case, each_backend, make
from scipy import optimize, stats
from sklearn.linear_model import GammaRegressor, LinearRegression, PoissonRegressor, QuantileRegressor
from sklearn.utils._param_validation import InvalidParameterError

from skuq import ProbabilisticRegressor, backends
from skuq._model.heads import apply_link, invert_link, link_parameters
from skuq._prediction.distributions import PredictiveMixture
from skuq.likelihoods import (
    NAMED,
    Gamma,
    Laplace,
    LogNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    resolve_likelihood,
)

# Family: (likelihood, parameters, the same distribution in numpy's terms).
FAMILIES = {
    "normal": (Normal(), {"loc": 1.5, "scale": 0.7}, lambda rng, n: rng.normal(1.5, 0.7, n)),
    "laplace": (Laplace(), {"loc": -1.0, "scale": 2.0}, lambda rng, n: rng.laplace(-1.0, 2.0, n)),
    "student_t": (
        StudentT(),
        {"loc": 1.0, "scale": 0.5, "df": 7.0},
        lambda rng, n: 1 + 0.5 * rng.standard_t(7.0, n),
    ),
    "lognormal": (LogNormal(), {"loc": 0.3, "scale": 0.4}, lambda rng, n: rng.lognormal(0.3, 0.4, n)),
    "gamma": (Gamma(), {"mean": 3.0, "shape": 2.5}, lambda rng, n: rng.gamma(2.5, 3.0 / 2.5, n)),
    "poisson": (Poisson(), {"rate": 3.5}, lambda rng, n: rng.poisson(3.5, n)),
    "negative_binomial": (
        NegativeBinomial(),
        {"mean": 3.0, "concentration": 2.0},
        lambda rng, n: rng.poisson(rng.gamma(2.0, 3.0 / 2.0, n)),  # overdispersed Poisson, by its definition
    ),
}
SCIPY = {
    "normal": lambda p: stats.norm(p["loc"], p["scale"]),
    "laplace": lambda p: stats.laplace(p["loc"], p["scale"]),
    "student_t": lambda p: stats.t(p["df"], p["loc"], p["scale"]),
    "lognormal": lambda p: stats.lognorm(s=p["scale"], scale=np.exp(p["loc"])),
    "gamma": lambda p: stats.gamma(p["shape"], scale=p["mean"] / p["shape"]),
    "poisson": lambda p: stats.poisson(p["rate"]),
    "negative_binomial": lambda p: stats.nbinom(
        p["concentration"], p["concentration"] / (p["concentration"] + p["mean"])
    ),
}
each_family = pytest.mark.parametrize("family", FAMILIES)


def as_arrays(parameters):
    return {key: np.full((1, 1, 1), value) for key, value in parameters.items()}


@each_family
def test_formulas_describe_numpys_samples(family):
    likelihood, parameters, simulate = FAMILIES[family]
    n = 200_000
    y = simulate(np.random.default_rng(0), n)
    variance = likelihood.var(parameters)
    assert likelihood.mean(parameters) == pytest.approx(y.mean(), abs=5 * np.sqrt(variance / n))
    assert variance == pytest.approx(y.var(), rel=0.03)
    for level in (0.1, 0.5, 0.9):
        quantile = likelihood.ppf(level, parameters)
        slack = 5 * 0.5 / np.sqrt(n)
        assert np.mean(y < quantile) - slack <= level <= np.mean(y <= quantile) + slack
        assert likelihood.cdf(quantile, parameters) == pytest.approx(np.mean(y <= quantile), abs=slack)


@each_family
def test_formulas_equal_scipys(family):
    likelihood, parameters, _ = FAMILIES[family]
    rng = np.random.default_rng(0)
    parameters = {key: value * rng.uniform(0.8, 1.5, (4, 5)) for key, value in parameters.items()}
    frozen = SCIPY[family](parameters)
    y = np.round(frozen.ppf(rng.uniform(size=(4, 5))), 0 if likelihood.discrete else 12)
    log_density = frozen.logpmf(y) if likelihood.discrete else frozen.logpdf(y)
    np.testing.assert_allclose(likelihood.logpdf(y, parameters), log_density, rtol=1e-10)
    np.testing.assert_allclose(likelihood.pdf(y, parameters), np.exp(log_density), rtol=1e-10)
    np.testing.assert_allclose(likelihood.cdf(y, parameters), frozen.cdf(y), rtol=1e-10)
    np.testing.assert_allclose(likelihood.mean(parameters), frozen.mean(), rtol=1e-10)
    np.testing.assert_allclose(likelihood.var(parameters), frozen.var(), rtol=1e-10)
    np.testing.assert_allclose(likelihood.ppf(0.3, parameters), frozen.ppf(0.3), rtol=1e-10)


@each_family
def test_samples_follow_the_cdf(family):
    likelihood, parameters, simulate = FAMILIES[family]
    sample = likelihood.rvs(parameters, np.random.default_rng(0), size=20_000)
    reference = simulate(np.random.default_rng(1), 20_000)
    assert stats.ks_2samp(sample, reference).pvalue > 1e-3
    array = {key: np.full((3, 2), value) for key, value in parameters.items()}
    assert likelihood.rvs(array, np.random.default_rng(0)).shape == (3, 2)


@each_family
def test_density_changes_with_units_by_the_jacobian(family):
    likelihood, parameters, simulate = FAMILIES[family]
    y, shift, scale = simulate(np.random.default_rng(0), 50), 0.7, 3.0
    inside = likelihood.on_training_scale()
    mapped = likelihood.to_target_units(parameters, shift, scale)
    if likelihood.target_transform == "count":
        assert mapped == parameters
    elif likelihood.target_transform == "divide":
        expected = inside.logpdf(y / scale, parameters) - np.log(scale)
        np.testing.assert_allclose(likelihood.logpdf(y, mapped), expected)
    elif likelihood.target_transform == "log":
        z = (np.log(y) - shift) / scale
        expected = inside.logpdf(z, parameters) - np.log(scale) - np.log(y)
        np.testing.assert_allclose(likelihood.logpdf(y, mapped), expected)
    else:
        expected = inside.logpdf((y - shift) / scale, parameters) - np.log(scale)
        np.testing.assert_allclose(likelihood.logpdf(y, mapped), expected)


@each_family
def test_information_is_the_expected_squared_slope(family):
    likelihood, parameters, _ = FAMILIES[family]
    likelihood = likelihood.on_training_scale()
    first = likelihood.parameters()[0]
    raw, step = invert_link(first.link, parameters[first.name]), 1e-4

    def log_density(y, at):
        return likelihood.logpdf(y, {**parameters, first.name: apply_link(first.link, at)})

    levels = (np.arange(100_000) + 0.5) / 100_000
    y = likelihood.ppf(levels, parameters)
    slope = (log_density(y, raw + step) - log_density(y, raw - step)) / (2 * step)
    assert likelihood.location_information(parameters) == pytest.approx(np.mean(slope**2), rel=1e-2)


@pytest.mark.parametrize("family", ["normal", "laplace", "student_t"])
def test_best_scale_maximises_the_likelihood(family):
    likelihood, parameters, simulate = FAMILIES[family]
    rng = np.random.default_rng(0)
    y, weight = 3 * simulate(rng, 400), rng.uniform(size=400)

    def loss(factor):
        rescaled = {**parameters, "scale": factor * parameters["scale"]}
        return -np.average(likelihood.logpdf(y, rescaled), weights=weight)

    expected = optimize.minimize_scalar(loss, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-8}).x
    assert likelihood.best_scale(y, parameters, weight, axis=0)[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("link", ["identity", "softplus", "exp"])
def test_links_and_their_inverses(link):
    raw = np.linspace(-20, 20, 101)
    value = apply_link(link, raw)
    assert (np.diff(value) > 0).all()
    assert link == "identity" or (value > 0).all()
    np.testing.assert_allclose(invert_link(link, value), raw, rtol=1e-6, atol=1e-9)
    assert np.isfinite(apply_link(link, np.array([-1e4, 1e4]))).all()


@each_family
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_training_starts_at_the_marginal_fit(family, n_outputs):
    likelihood, parameters, simulate = FAMILIES[family]
    y, weight = simulate(np.random.default_rng(0), (500, n_outputs)), np.ones(500)
    start = likelihood.initial_parameters(y, weight)
    units = np.arange(1, n_outputs + 1) * 1e3
    raw, constants = likelihood.initial_raw(y, weight, units)
    head = likelihood.head(n_outputs)
    assert (len(raw), len(constants)) == (head.n_raw, head.n_constants)
    linked = link_parameters(head, raw[None, None], constants[None], likelihood.fixed_values(units))
    for key, value in linked.items():
        np.testing.assert_allclose(value[0, 0], start[key], rtol=1e-6, err_msg=key)
    if likelihood.target_transform in ("divide", "count"):
        np.testing.assert_allclose(start[next(iter(parameters))], y.mean(axis=0))


@pytest.mark.parametrize(
    ("likelihood", "bad", "support"),
    [
        (LogNormal(), 0.0, "positive"),
        (Gamma(), -1.0, "positive"),
        (Poisson(), -1.0, "counts"),
        (Poisson(), 1.5, "counts"),
        (NegativeBinomial(), 0.5, "counts"),
    ],
    ids=repr,
)
def test_support_is_checked(likelihood, bad, support):
    likelihood.check_target(np.array([[1.0], [3.0]]))
    with pytest.raises(ValueError, match=rf"needs targets that are {support}.*got.*1 of 3 values outside.*Choose"):
        likelihood.check_target(np.array([[1.0], [bad], [2.0]]))


@pytest.mark.parametrize(
    "wrong",
    [
        Normal(scale=0.0),
        Normal(scale="row"),
        Laplace(beta=2.0),
        StudentT(df=2.0),
        Gamma(shape=-1.0),
        NegativeBinomial(concentration="x"),
        Normal(scale=1e300),
        Laplace(scale=1e-300),
        StudentT(df=1e300),
        Gamma(shape=1e300),
        NegativeBinomial(concentration=1e300),
    ],
    ids=repr,
)
def test_parameters_of_a_likelihood_are_checked(wrong):
    with pytest.raises(InvalidParameterError, match=type(wrong).__name__):
        resolve_likelihood(wrong)


def test_bounds_are_named():
    with pytest.raises(
        InvalidParameterError, match=r"'scale' parameter of Normal must be .* in the range \[1e-06, 1000000.0\]"
    ):
        resolve_likelihood(Normal(scale=1e300))


@each_backend
@pytest.mark.parametrize(
    "likelihood",
    [Normal(1e6), Normal(1e-6), Laplace(1e6), StudentT(0.5, df=1e12), Gamma(1e6), Gamma(1e-6), NegativeBinomial(1e6)],
    ids=repr,
)
def test_the_least_and_largest_parameters_can_be_trained(likelihood, backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = rng.poisson(np.exp(0.3 * X[:, 0] + 1)) + (1.0 if isinstance(likelihood, Gamma) else 0.0)
    model = make("ProbabilisticRegressor", backend, likelihood=likelihood, max_iter=3).fit(X, y)
    assert np.isfinite(model.loss_curve_).all()
    assert np.isfinite(model.predict(X, return_std=True)).all()


@each_backend
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_losses_keep_their_digits_where_parameters_are_large(size, backend):
    if backend == "tensorflow":
        from tensorflow import constant as tensor

        from skuq.backends._tensorflow._namespace import TENSORFLOW as xp
    else:
        from torch import as_tensor as tensor

        from skuq.backends._blitz._namespace import TORCH as xp

    rng = np.random.default_rng(0)
    cases = {
        "student_t": (StudentT(), {"loc": 0.5, "scale": 2.0, "df": 5 * size}, rng.normal(size=50)),
        "gamma": (Gamma(), {"mean": 3.0, "shape": size}, 3 * rng.gamma(10 * size, 1 / (10 * size), 50)),
        "poisson": (Poisson(), {"rate": size}, rng.poisson(size, 50)),
        "negative_binomial": (NegativeBinomial(), {"mean": 3.0, "concentration": size}, rng.poisson(3.0, 50)),
    }
    for name, (likelihood, parameters, y) in cases.items():
        single = {k: tensor(np.float32(v)) for k, v in parameters.items()}
        y = y.astype(np.float32)
        found = np.asarray(likelihood.log_density(xp, tensor(y), single))
        frozen = SCIPY[name](parameters)
        expected = (frozen.logpmf if likelihood.discrete else frozen.logpdf)(y.astype(float))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=0.1 if size > 1e4 else 1e-3, err_msg=name)


def test_laplace_tails_are_exact():
    # scipy's logpdf is −∞ from about 745 scales on.
    parameters = {"loc": 1.0, "scale": 2.0}
    y = 1.0 + 2.0 * np.array([-1e5, -800.0, 800.0, 1e300])
    np.testing.assert_allclose(Laplace().logpdf(y, parameters), -np.abs(y - 1.0) / 2.0 - np.log(4.0), rtol=1e-14)


def decimal_poisson_tail(k, rate):
    """P(Y > k) for large whole k > rate, in 60 digits: the first mass by Stirling's series, and ratios of masses."""
    with localcontext() as context:
        context.prec = 60
        n, m = Decimal(k + 1), Decimal(rate)
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
        log_factorial = n * n.ln() - n + (2 * pi * n).ln() / 2 + 1 / (12 * n) - 1 / (360 * n**3) + 1 / (1260 * n**5)
        mass = total = (n * m.ln() - m - log_factorial).exp()
        while mass > total / 10**15:
            n += 1
            mass *= m / n
            total += mass
        return float(total)


@pytest.mark.parametrize("rate", [2_000, 300_000, 2_000_000, 50_000_000])
@pytest.mark.parametrize("deviations", [4.1, 8, 30])
def test_upper_tails_of_large_counts_keep_their_digits(rate, deviations):
    k = int(rate + deviations * rate**0.5)
    tail = Poisson().sf(float(k), {"rate": np.array(float(rate))})
    np.testing.assert_allclose(tail, decimal_poisson_tail(k, rate), rtol=1e-6)


def test_upper_tails_of_counts_are_scipys_and_complete_the_lower():
    rate = {"rate": np.array([0.02, 3.0, 500.0, 3e6])}
    y = np.array([4.0, 60.5, 900.0, 3e6])
    np.testing.assert_allclose(Poisson().sf(y, rate)[:3], stats.poisson(rate["rate"]).sf(y)[:3], rtol=1e-12)
    assert (Poisson().sf(y, rate) > 0).all()
    np.testing.assert_allclose(Poisson().sf(y, rate) + Poisson().cdf(y, rate), 1, rtol=1e-12)
    assert (Poisson().sf(-1.0, rate) == 1).all()
    assert (Poisson().sf(np.inf, rate) == 0).all()


def test_names_stand_for_the_defaults():
    for name, family in NAMED.items():
        assert repr(resolve_likelihood(name)) == repr(family())
    model = ProbabilisticRegressor(likelihood=Normal()).set_params(likelihood__scale="constant")
    assert model.likelihood.scale == "constant"


# Mixtures


def mixture_of(family, n_draws=7, n_rows=6):
    likelihood, parameters, _ = FAMILIES[family]
    rng = np.random.default_rng(0)
    spread = {key: value * rng.uniform(0.3, 3, (n_draws, n_rows, 1)) for key, value in parameters.items()}
    if "loc" in spread:
        spread["loc"][:, 0] *= 50  # components far apart
    for value in spread.values():
        value[:, 1] = value[:1, 1]  # components all equal
    return PredictiveMixture(likelihood, spread, single_output=True), SCIPY[family](spread)


@each_family
@pytest.mark.parametrize("level", [1e-4, 0.05, 0.37, 0.5, 0.95, 0.9999])
def test_mixture_quantiles_are_roots_of_the_cdf(family, level):
    mixture, components = mixture_of(family)
    found = mixture.ppf(level)
    cdf = lambda y: components.cdf(y[:, None]).mean(axis=0)[:, 0]  # noqa: E731
    if mixture.likelihood.discrete:
        assert (found == np.floor(found)).all()
        assert (cdf(found) >= level).all()
        assert (cdf(found - 1) < level).all()
        return
    own = components.ppf(level)[..., 0]
    for row, answer in enumerate(found):
        low, high = own[:, row].min() - 1e-9, own[:, row].max() + 1e-9
        root = optimize.brentq(lambda y, row=row: components.cdf(y)[:, row].mean() - level, low, high, xtol=1e-13)
        assert components.cdf(answer)[:, row].mean() == pytest.approx(level, abs=2e-10)
        density = components.pdf(root)[:, row].mean()
        assert answer == pytest.approx(root, abs=1e-9 / max(density, 1e-12) + 1e-9 * abs(root))


@each_family
def test_mixture_moments_and_density(family):
    mixture, components = mixture_of(family)
    means, variances = components.mean()[..., 0], components.var()[..., 0]
    total, noise, spread = mixture.uncertainty()
    np.testing.assert_allclose(mixture.mean(), means.mean(axis=0))
    np.testing.assert_allclose(noise, variances.mean(axis=0))
    np.testing.assert_allclose(total, (variances + means**2).mean(axis=0) - means.mean(axis=0) ** 2)
    np.testing.assert_allclose(total, noise + spread)
    y = np.round(mixture.ppf(0.6))
    y = np.maximum(y, 1.0) if family in ("lognormal", "gamma") else y
    density = components.pmf(y[:, None]) if mixture.likelihood.discrete else components.pdf(y[:, None])
    np.testing.assert_allclose(mixture.logpdf(y), np.log(density.mean(axis=0)[:, 0]))
    np.testing.assert_allclose(mixture.cdf(2.0), components.cdf(2.0).mean(axis=0)[:, 0])
    with pytest.raises(ValueError, match=r"one value for each row, got \(3,\)"):
        mixture.logpdf(np.ones(3))


@each_family
def test_mixture_samples(family):
    mixture, _ = mixture_of(family)
    sample = mixture.rvs(20_000, random_state=0)
    for level in (0.1, 0.5, 0.9):
        quantile = mixture.ppf(level)[:, None]
        slack = 5 * 0.5 / np.sqrt(20_000)
        assert (np.mean(sample < quantile, axis=1) - slack <= level).all()
        assert (np.mean(sample <= quantile, axis=1) + slack >= level).all()


# Regressors find the parameters that made the data

COEF, INTERCEPT = np.array([0.5, -0.3, 0.0]), 0.8
# Family: likelihood, simulation from the linear predictor, scikit-learn's estimator of the same coefficients, and the
# learned noise parameter with its true value.
SIMULATIONS = {
    "normal": (
        Normal(scale="constant"),
        lambda eta, rng: rng.normal(eta, 0.4),
        lambda X, y: LinearRegression().fit(X, y),
        ("scale", 0.4),
    ),
    "laplace": (
        Laplace(scale="constant"),
        lambda eta, rng: rng.laplace(eta, 0.4),
        lambda X, y: QuantileRegressor(alpha=0).fit(X, y),
        ("scale", 0.4),
    ),
    "student_t": (
        StudentT(scale="constant"),
        lambda eta, rng: eta + 0.4 * rng.standard_t(4, len(eta)),
        None,
        ("df", 4.0),
    ),
    "lognormal": (
        LogNormal(scale="constant"),
        lambda eta, rng: np.exp(rng.normal(eta, 0.4)),
        lambda X, y: LinearRegression().fit(X, np.log(y)),
        ("scale", 0.4),
    ),
    "gamma": (
        Gamma(),
        lambda eta, rng: rng.gamma(3.0, np.exp(eta) / 3.0),
        lambda X, y: GammaRegressor(alpha=0, tol=1e-8).fit(X, y),
        ("shape", 3.0),
    ),
    "poisson": (
        Poisson(),
        lambda eta, rng: rng.poisson(np.exp(eta)),
        lambda X, y: PoissonRegressor(alpha=0, tol=1e-8).fit(X, y),
        ("rate", None),
    ),
    "negative_binomial": (
        NegativeBinomial(),
        lambda eta, rng: rng.poisson(rng.gamma(2.0, np.exp(eta) / 2.0)),
        None,
        ("concentration", 2.0),
    ),
}


@pytest.mark.parametrize(
    ("family", "backend"), [case(backend, family) for backend in backends.BACKENDS for family in SIMULATIONS]
)
def test_regressor_recovers_the_parameters(family, backend):
    likelihood, simulate, reference, (noise, truth) = SIMULATIONS[family]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 3)) * [1.0, 2.0, 0.5] + [0.0, 1.0, -2.0]
    eta = X @ COEF + INTERCEPT
    y = simulate(eta, rng).astype(float)
    model = make(
        "ProbabilisticRegressor",
        backend,
        hidden_layer_sizes=(),
        likelihood=likelihood,
        alpha=0,
        max_iter=2500,
        batch_size=1500,
    ).fit(X, y)
    if reference is None:
        np.testing.assert_allclose(model.coef_, COEF, atol=0.08)
        assert model.intercept_ == pytest.approx(INTERCEPT, abs=0.16)
    else:
        expected = reference(X, y)
        np.testing.assert_allclose(model.coef_, expected.coef_, atol=3e-3)
        assert model.intercept_ == pytest.approx(expected.intercept_, abs=3e-3)
    # The noise maximises the likelihood, given the rest, and is near its true value.
    parameters = {key: value[0, :, 0] for key, value in model.predict_dist(X).parameters.items()}
    learned = parameters[noise][0]
    if truth is not None:
        best = optimize.minimize_scalar(
            lambda value: -likelihood.logpdf(y, {**parameters, noise: value}).mean(), bounds=(0.5 * truth, 2 * truth)
        )
        assert learned == pytest.approx(best.x, rel=0.01)
        assert learned == pytest.approx(truth, rel=0.3)
    inside = model.predict_interval(X, coverage=0.8)
    covered = np.mean((inside[:, 0] <= y) & (y <= inside[:, 1]))
    assert 0.77 < covered < (0.95 if likelihood.discrete else 0.83)


@each_backend
@pytest.mark.parametrize("likelihood", [Normal(), Laplace(), StudentT()], ids=repr)
def test_noise_that_depends_on_the_row_is_found(likelihood, backend):
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(2000, 3))
    noise = np.logaddexp(0, X[:, 0]) + 0.2
    y = X @ COEF + noise * rng.normal(size=2000)
    model = make("ProbabilisticRegressor", backend, likelihood=likelihood, batch_size=256, max_iter=60).fit(X, y)
    _, std = model.predict(X, return_std=True)
    assert np.corrcoef(np.log(std), np.log(noise))[0, 1] > 0.95
    if isinstance(likelihood, Normal):
        assert np.median(np.abs(std / noise - 1)) < 0.15


@each_backend
def test_fixed_parameters_stay(backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = 5 * X[:, 0] + rng.normal(size=200)
    fixed = {"normal": Normal(scale=1.0), "t": StudentT(scale=0.5, df=5.0), "laplace": Laplace(scale=2.0)}
    for likelihood in fixed.values():
        model = make("ProbabilisticRegressor", backend, likelihood=likelihood, max_iter=5).fit(X, y)
        parameters = model.predict_dist(X).parameters
        # In standardised units of y.
        np.testing.assert_allclose(parameters["scale"], likelihood.scale * y.std(), rtol=1e-6)
        if "df" in parameters:
            np.testing.assert_allclose(parameters["df"], 5.0, rtol=1e-6)
    count = make("ProbabilisticRegressor", backend, likelihood=NegativeBinomial(concentration=2.0), max_iter=5)
    parameters = count.fit(X, rng.poisson(3, 200)).predict_dist(X).parameters
    np.testing.assert_allclose(parameters["concentration"], 2.0, rtol=1e-6)
