"""Metrics given the distributions of other libraries: the scores are those of scipy's frozen ones, or a TypeError says why."""

import copy
import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from skuq import metrics

rng = np.random.default_rng(0)
MEAN, STD = rng.normal(size=(30, 2)), rng.uniform(0.5, 2, size=(30, 2))
Y = MEAN + STD * rng.normal(size=(30, 2))
COUNTS = rng.poisson(3 * STD)
SHAPES = {"(n,)": lambda a: a[:, 0], "(n, 1)": lambda a: a[:, :1], "(n, t)": lambda a: a}
new_scipy = pytest.mark.skipif(not hasattr(stats, "Binomial"), reason="scipy before 1.16")


class SkproLike:
    """As skpro's: the kind is a tag, pmf stands beside pdf in every distribution, results are frames."""

    def __init__(self, frozen, kind):
        self.frozen, self.kind, self.shape = frozen, kind, frozen.mean().shape

    def get_tag(self, name, default=None, raise_error=True):
        return {"object_type": "distribution", "distr:measuretype": self.kind}.get(name, default)

    def __getattr__(self, name):
        def call(*args):
            pd = pytest.importorskip("pandas")
            if self.kind == "continuous" and name == "log_pmf":
                return np.full(self.shape, -np.inf)
            result = getattr(self.frozen, name.replace("_", ""))(*args)
            return pd.DataFrame(result) if np.ndim(result) else result

        if name not in ("mean", "var", "cdf", "ppf", "pdf", "pmf", "log_pdf", "log_pmf"):
            raise AttributeError(name)
        return call


def torch_normal(mean, std):
    torch = pytest.importorskip("torch")
    return torch.distributions.Normal(torch.tensor(mean, requires_grad=True), torch.tensor(std))


def torch_mixture(mean, std):
    torch = pytest.importorskip("torch")
    two = lambda a: torch.tensor(np.stack([a, a], axis=-1))  # noqa: E731
    return torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(*mean.shape, 2)), torch.distributions.Normal(two(mean), two(std))
    )


def torch_independent(mean, std):
    torch = pytest.importorskip("torch")
    return torch.distributions.Independent(torch_normal(mean, std), mean.ndim)


def torch_poisson(rate):
    torch = pytest.importorskip("torch")
    return torch.distributions.Poisson(torch.tensor(rate))


def torch_negative_binomial(rate):
    torch = pytest.importorskip("torch")
    return torch.distributions.NegativeBinomial(torch.tensor(4.0).double(), logits=torch.log(torch.tensor(rate / 4)))


def tfp_of(name):
    def make(*parameters):
        tfd = pytest.importorskip("tensorflow_probability").distributions
        if name == "Mixture":
            two = [np.stack([a, a], axis=-1) for a in parameters]
            weights = np.ones(two[0].shape)
            return tfd.MixtureSameFamily(tfd.Categorical(weights), tfd.Normal(*two))
        if name == "Independent":
            return tfd.Independent(tfd.Normal(*parameters))
        if name == "NegativeBinomial":
            return tfd.NegativeBinomial(np.float64(4.0), logits=np.log(parameters[0] / 4))
        return getattr(tfd, name)(*parameters)

    return make


def skpro_of(name):
    def make(*parameters):
        distributions = pytest.importorskip("skpro.distributions")
        parameters = [a if a.ndim > 1 else a[:, None] for a in parameters]
        return getattr(distributions, name)(*parameters)

    return make


CONTINUOUS = {
    "scipy": stats.norm,
    "scipy's new": pytest.param(lambda m, s: stats.Normal(mu=m, sigma=s), marks=new_scipy),
    "like skpro's": lambda m, s: SkproLike(stats.norm(m.reshape(30, -1), s.reshape(30, -1)), "continuous"),
    "skpro": skpro_of("Normal"),
    "torch": torch_normal,
    "torch mixture": torch_mixture,
    "torch independent": torch_independent,
    "tfp": tfp_of("Normal"),
    "tfp mixture": tfp_of("Mixture"),
    "tfp independent": tfp_of("Independent"),
}
POISSON = {
    "scipy": stats.poisson,
    "scipy's new": pytest.param(lambda r: stats.make_distribution(stats.poisson)(mu=r), marks=new_scipy),
    "like skpro's": lambda r: SkproLike(stats.poisson(r.reshape(30, -1)), "discrete"),
    "skpro": skpro_of("Poisson"),
    "torch": torch_poisson,
    "tfp": tfp_of("Poisson"),
}
NEGATIVE_BINOMIAL = {"torch": torch_negative_binomial, "tfp": tfp_of("NegativeBinomial")}


def table(makers):
    cases = [value if hasattr(value, "marks") else pytest.param(value) for value in makers.values()]
    return pytest.mark.parametrize(
        "make",
        [pytest.param(*case.values, marks=case.marks, id=name) for name, case in zip(makers, cases, strict=True)],
    )


each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def assert_scores(y, found, expected):
    for metric in (metrics.nll, metrics.crps, metrics.pinball_loss, metrics.coverage, metrics.interval_score):
        assert metric(y, found) == pytest.approx(metric(y, expected), rel=2e-6), metric.__name__
    np.testing.assert_allclose(metrics.pit(y, found), metrics.pit(y, expected), atol=1e-6)
    assert metrics.mean_width(found) == pytest.approx(metrics.mean_width(y, expected), rel=1e-5)
    close = metrics.energy_score(y, expected, n_samples=100)
    assert metrics.energy_score(y, found, n_samples=100) == pytest.approx(close, rel=0.15)


@each_shape
@table(CONTINUOUS)
def test_scores_of_continuous_distributions(make, shape):
    mean, std, y = shape(MEAN), shape(STD), shape(Y)
    assert_scores(y, make(mean, std), stats.norm(mean, std))


@each_shape
@table(POISSON)
def test_scores_of_counts(make, shape):
    rate, y = 3 * shape(STD), shape(COUNTS)
    assert_scores(y, make(rate), stats.poisson(rate))


@table(NEGATIVE_BINOMIAL)
def test_scores_of_negative_binomials(make):
    assert_scores(COUNTS, make(3 * STD), stats.nbinom(4.0, 4 / (4 + 3 * STD)))


@pytest.mark.parametrize("name", ["Laplace", "Cauchy", "LogNormal"])
@pytest.mark.parametrize("library", ["torch", "tfp"])
def test_scores_of_families_with_a_location_and_a_scale(library, name):
    y = np.exp(Y) if name == "LogNormal" else Y
    expected = {
        "Laplace": stats.laplace(MEAN, STD),
        "Cauchy": stats.cauchy(MEAN, STD),
        "LogNormal": stats.lognorm(STD, scale=np.exp(MEAN)),
    }[name]
    if library == "tfp":
        found = tfp_of(name)(MEAN, STD)
    else:
        torch = pytest.importorskip("torch")
        found = getattr(torch.distributions, name)(torch.tensor(MEAN), torch.tensor(STD))
    assert metrics.nll(y, found) == pytest.approx(-expected.logpdf(y).mean())
    assert metrics.pinball_loss(y, found) == pytest.approx(metrics.pinball_loss(y, expected))


def test_scores_of_gammas_and_students():
    torch = pytest.importorskip("torch")
    y, shape = np.exp(Y), torch.tensor(STD)
    gamma = torch.distributions.Gamma(shape, 2 * shape)
    assert metrics.crps(y, gamma) == pytest.approx(metrics.crps(y, stats.gamma(STD, scale=0.5 / STD)))
    student = torch.distributions.StudentT(3 * shape, torch.tensor(MEAN), shape)
    assert metrics.crps(Y, student) == pytest.approx(metrics.crps(Y, stats.t(3 * STD, MEAN, STD)))


def test_drawing_from_a_tensor_distribution_leaves_the_generator_as_it_was():
    torch = pytest.importorskip("torch")
    state = torch.random.get_rng_state()
    metrics.energy_score(Y, torch_mixture(MEAN, STD))
    assert torch.equal(torch.random.get_rng_state(), state)


class Odd:
    """Has a cdf and quantiles, and does not say whether y is continuous."""

    mean = std = cdf = ppf = pdf = pmf = logpmf = logpdf = lambda self, *args: np.zeros(30)


def test_what_is_no_known_distribution_is_refused_with_what_is():
    expected = (
        r"Expected y_pred to be what predict_dist returns, .*scipy\.stats.*skpro.*torch.*TensorFlow.*\(mean, std\)"
    )
    mixed = SkproLike(stats.norm(MEAN, STD), "mixed")
    halves = SkproLike(stats.poisson(3 * STD, loc=0.5), "discrete")
    joint = stats.multivariate_normal(np.zeros(2))
    for wrong in (Odd(), LinearRegression(), {"loc": MEAN}, "normal", 3.0, None, stats.norm, mixed, halves, joint):
        for metric in (metrics.nll, metrics.crps, metrics.pit, metrics.coverage):
            with pytest.raises(TypeError, match=expected):
                metric(Y, wrong)


def test_a_joint_distribution_is_refused():
    torch = pytest.importorskip("torch")
    joint = torch.distributions.MultivariateNormal(torch.zeros(30, 2), torch.eye(2))
    with pytest.raises(TypeError, match="joint distribution of several numbers"):
        metrics.nll(Y, joint)


@pytest.mark.skipif(not hasattr(stats, "Normal"), reason="scipy before 1.15")
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda dist: pickle.loads(pickle.dumps(dist))])
def test_a_copy_of_scipys_normal_is_the_same_distribution(duplicate):
    mean, std, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 3.0, 0.1]), np.array([0.0, 2.0, 5.0])
    dist = duplicate(stats.Normal(mu=mean, sigma=std))
    assert metrics.crps(y, dist) == pytest.approx(metrics.crps(y, (mean, std)), rel=1e-6)
    assert metrics.nll(y, dist) == pytest.approx(-stats.norm(mean, std).logpdf(y).mean())


@pytest.mark.parametrize("score", [metrics.crps, metrics.nll])
@pytest.mark.parametrize("scale", [[0.0, 1.0], [[0.0], [1.0]], [-1.0, 1.0]])
def test_a_scale_that_is_not_positive_is_refused_in_every_shape(scale, score):
    scale = np.array(scale)
    y, mean = np.ones(scale.shape), np.zeros(scale.shape)
    for dist in ((mean, scale), stats.norm(mean, scale), stats.laplace(mean, scale), stats.t(3, mean, scale)):
        with pytest.raises(ValueError, match="must be positive"):
            score(y, dist)


def test_the_smallest_scales_are_points():
    y, mean = np.array([1.0, 3.0]), np.array([0.0, 5.0])
    assert metrics.crps(y, (mean, np.array([1e-320, 1e-310]))) == pytest.approx(1.5)
