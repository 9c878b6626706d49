"""A user's own likelihood works everywhere that skuq's do, on every backend, without a line changed in skuq."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from _table import case, each_backend, each_regressor, make
from scipy import special, stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from test_native import RTOL, as_array, call, mean_of, native_list, scale_of

from skuq._model import namespace
from skuq._model.heads import invert_link
from skuq._model.network import Network
from skuq.backends import Program
from skuq.likelihoods import Gamma, Laplace, Likelihood, Normal, Parameter, StudentT, resolve_likelihood

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from own_likelihood import Beta, cauchit


class Gumbel(Likelihood):
    """Largest values: standardised, with a learned or fixed scale, and nothing beyond what must be given."""

    def __init__(self, scale="input"):
        self.scale = scale

    def parameters(self):
        source = self.scale if isinstance(self.scale, str) else "fixed"
        return Parameter("loc", "identity", "input"), Parameter("scale", "softplus", source, 1e-3)

    def log_density(self, xp, y, parameters):
        z = (y - parameters["loc"]) / parameters["scale"]
        return -z - xp.exp(-z) - xp.log(parameters["scale"])

    def distribution(self, parameters):
        return stats.gumbel_r(parameters["loc"], parameters["scale"])


class Geometric(Likelihood):
    """Number of trials to the first success, 1, 2, …: 1 is the least count, and the link a lambda."""

    target_transform, discrete, support = None, True, (1.0, np.inf)

    def parameters(self):
        return (Parameter("chance", lambda xp, raw: 1e-4 + 0.9998 * xp.sigmoid(raw), "input"),)

    def log_density(self, xp, y, parameters):
        return (y - 1) * xp.log1p(-parameters["chance"]) + xp.log(parameters["chance"])

    def distribution(self, parameters):
        return stats.geom(parameters["chance"])


OWN = {"beta": Beta(), "cauchit": Beta(cauchit), "gumbel": Gumbel(), "geometric": Geometric()}


def rows(family, n=96):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    p = special.expit(X[:, 0])
    if family == "gumbel":
        return X, 50 + 4 * X[:, 0] + rng.gumbel(size=n)
    return X, rng.geometric(0.2 + 0.6 * p).astype(float) if family == "geometric" else rng.beta(9 * p, 9 * (1 - p))


@pytest.mark.parametrize("family", OWN)
@each_regressor
def test_every_regressor_fits_predicts_and_travels(name, family, backend):
    X, y = rows(family)
    likelihood = OWN[family]
    model = make(name, backend, likelihood=likelihood, max_iter=4).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    interval = model.predict_interval(X)
    low, high = likelihood.support
    assert np.isfinite([mean, std]).all()
    assert (low <= interval[:, 0]).all()
    assert (interval[:, 0] <= interval[:, 1]).all()
    assert (interval[:, 1] <= high).all()
    dist = model.predict_dist(X)
    parts = likelihood.distribution(dist.parameters)
    density = (parts.pmf if likelihood.discrete else parts.pdf)(y[:, None]).mean(axis=0)[:, 0]
    np.testing.assert_allclose(dist.pdf(y), density, rtol=1e-6)
    np.testing.assert_allclose(dist.cdf(y), parts.cdf(y[:, None]).mean(axis=0)[:, 0], rtol=1e-9, atol=1e-300)
    sample = model.sample_y(X, 5)
    assert ((sample >= low) & (sample <= high)).all()
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), mean)
    assert again._state.output.head == model._state.output.head
    np.testing.assert_array_equal(clone(model).fit(X, y).predict(X), mean)


@pytest.mark.parametrize("family", OWN)
@pytest.mark.parametrize("method", ["Probabilistic", "DeepEnsemble"])
@each_backend
def test_native_models_give_the_same_distribution(method, family, backend):
    X, y = rows(family)
    likelihood = OWN[family]
    model = make(f"{method}Regressor", backend, likelihood=likelihood, max_iter=4).fit(X, y)
    answers = [call(backend, native, X) for native in native_list(model)]
    means, scales = (np.stack([of(answer) for answer in answers])[..., 0] for of in (mean_of, scale_of))
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(means.mean(axis=0), mean, rtol=RTOL)
    np.testing.assert_allclose(np.sqrt((scales**2).mean(axis=0) + means.var(axis=0)), std, rtol=RTOL)
    target = y[:, None].astype(np.float32)
    if backend == "blitz":
        import torch

        target = torch.as_tensor(target)
    logs = np.stack([as_array(answer.log_prob(target)).reshape(len(y)) for answer in answers])
    np.testing.assert_allclose(
        special.logsumexp(logs, axis=0) - np.log(len(logs)), model.predict_dist(X).logpdf(y), atol=2e-3
    )
    draws = as_array(answers[0].sample((500,)) if backend == "blitz" else answers[0].sample(500, seed=0))[..., 0]
    assert draws.shape == (500, len(y))
    # Each row's z is a mean of 500 draws.
    z = (draws.mean(axis=0) - means[0]) / (scales[0] / np.sqrt(500))
    assert np.sqrt(np.mean(z**2)) < 1.6
    np.testing.assert_allclose(model.from_native(model.to_native()).predict(X), mean, rtol=1e-6)


@each_backend
def test_a_search_runs_over_its_arguments_in_workers(backend):
    X, y = rows("beta")
    model = make("ProbabilisticRegressor", backend, likelihood=Beta(), max_iter=2)
    grid = {"likelihood__link": ["logit", cauchit]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    ensemble = make("DeepEnsembleRegressor", backend, likelihood=Geometric(), max_iter=2)
    alone, apart = (clone(ensemble).set_params(n_jobs=n).fit(*rows("geometric")).predict(X) for n in (None, 2))
    np.testing.assert_allclose(apart, alone, rtol=1e-5)


@each_backend
def test_a_subclass_is_not_taken_for_what_it_inherits_from(backend):
    class Halved(Normal):
        """A normal whose standard deviation is half of its parameter."""

        def log_density(self, xp, y, parameters):
            return super().log_density(xp, y, {**parameters, "scale": 0.5 * parameters["scale"]})

        def var(self, parameters):
            return 0.25 * super().var(parameters)

    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X[:, 0] + rng.normal(size=200)
    options = {"hidden_layer_sizes": (), "max_iter": 300, "early_stopping": False}
    models = [
        make("ProbabilisticRegressor", backend, likelihood=family("constant"), **options).fit(X, y)
        for family in (Normal, Halved)
    ]
    scale, twice = (model.predict_dist(X).parameters["scale"].mean() for model in models)
    assert twice == pytest.approx(2 * scale, rel=0.02)


def head(likelihood):
    return likelihood.head(1)


def test_equal_settings_make_equal_heads():
    for equal in (
        (Beta(), clone(Beta())),
        (Geometric(), Geometric()),  # its lambda is made anew each time
        (Beta(cauchit), pickle.loads(pickle.dumps(Beta(cauchit)))),
        (Gumbel(0.5), Gumbel(2.0)),  # a fixed number is an input of what is compiled
        (Normal(beta=0.1), Normal(beta=0.9)),
        (StudentT(df=3.0), StudentT(df=30.0)),
    ):
        assert len({head(likelihood) for likelihood in equal}) == 1
        assert len({Program(Network(3, (4,), "tanh", "mlp", head(likelihood))) for likelihood in equal}) == 1
    different = [
        Beta(),
        Beta(cauchit),
        Gumbel(),
        Gumbel("constant"),
        Gumbel(1.0),
        Geometric(),
        Normal(),
        Laplace(),
        Gamma(),
    ]
    assert len({head(likelihood) for likelihood in different}) == len(different)


@pytest.mark.parametrize("backend", [case("tensorflow")])
def test_equal_settings_compile_once(backend):
    from skuq.backends._tensorflow._trainer import _compile

    X, y = rows("gumbel")

    def compiled(likelihood):
        before = _compile.cache_info().misses
        make("ProbabilisticRegressor", backend, likelihood=likelihood, max_iter=1).fit(X, y)
        return _compile.cache_info().misses - before

    compiled(Gumbel(1.0))
    assert compiled(Gumbel(0.5)) == compiled(clone(Gumbel(1.0))) == 0
    X, y = rows("geometric")
    compiled(Geometric())
    assert compiled(Geometric()) == 0


def test_a_fixed_number_cannot_be_compiled_in():
    class Wrong(Gumbel):
        def log_density(self, xp, y, parameters):
            return -((y - parameters["loc"]) ** 2) / self.scale

    density = head(Wrong(2.0)).density
    with pytest.raises(TypeError):
        density(namespace.NUMPY, np.ones(3), {"loc": np.zeros(3), "scale": np.ones(3)})


def test_what_is_missing_is_named():
    class NoScale(Likelihood):
        def parameters(self):
            return (Parameter("mean", "exp", "input"),)

    with pytest.raises(ValueError, match=r"NoScale.*'loc' and 'scale', got \['mean'\].*target_transform = None"):
        resolve_likelihood(NoScale())
    with pytest.raises(NotImplementedError, match=r"no log_density\(self, xp, y, parameters\)"):
        NoScale().logpdf(1.0, {"mean": 1.0})
    with pytest.raises(ValueError, match=r"between 0 and 1, got y with minimum -1 \(1 of 2 values outside\)"):
        Beta().check_target(np.array([[-1.0], [0.5]]))


def test_defaults_are_found_numerically():
    rng = np.random.default_rng(0)
    y = rng.gumbel(3.0, 2.0, size=(4000, 1))
    start = Gumbel().initial_parameters(y, np.ones(4000))
    loc, scale = stats.gumbel_r.fit(y[:, 0])
    assert (start["loc"][0], start["scale"][0]) == pytest.approx((loc, scale), rel=0.02)
    parameters = {"loc": np.full((1, 3), 1.0), "scale": np.full((1, 3), 2.0)}
    # Of the Gumbel's location: 1 / scale².
    np.testing.assert_allclose(Gumbel().location_information(parameters), 0.25, rtol=0.03)
    normal = {"loc": np.zeros((1, 500, 1)), "scale": np.ones((1, 500, 1))}
    z, weight = 3 * rng.normal(size=(1, 500, 1)), rng.uniform(size=(1, 500, 1))
    np.testing.assert_allclose(
        Likelihood.best_scale(Normal(), z, normal, weight, axis=1),
        Normal().best_scale(z, normal, weight, axis=1),
        rtol=1e-6,
    )
    raw = np.linspace(-20, 20, 9)
    np.testing.assert_allclose(invert_link(cauchit, cauchit(namespace.NUMPY, raw)), raw, rtol=1e-6, atol=1e-9)
    falling = lambda xp, raw: xp.exp(-raw)  # noqa: E731
    np.testing.assert_allclose(invert_link(falling, np.exp(-raw)), raw, atol=1e-9)


# The namespaces


def filled(backend):
    if backend == "tensorflow":
        import tensorflow as tf

        from skuq.backends._tensorflow._namespace import TENSORFLOW

        return TENSORFLOW, tf.constant
    import torch

    from skuq.backends._blitz._namespace import TORCH

    return TORCH, torch.as_tensor


@each_backend
def test_namespaces_compute_the_same(backend):
    xp, array = filled(backend)
    x, y = (np.random.default_rng(i).uniform(0.1, 3, 20) for i in range(2))
    calls = {
        **dict.fromkeys(("maximum", "minimum", "logaddexp", "xlogy"), (x, y)),
        "where": (x > 1, x, y),
        "clip": (x, 0.5, 1.5),
    }
    for name in vars(namespace.NUMPY):
        if name == "name":
            continue
        arguments = calls.get(name, (x,))
        tensors = [array(a) if isinstance(a, np.ndarray) else a for a in arguments]
        expected = getattr(namespace.NUMPY, name)(*arguments)
        np.testing.assert_allclose(getattr(xp, name)(*tensors), expected, rtol=1e-12, atol=1e-12, err_msg=name)
        if len(arguments) == 2:
            expected = getattr(namespace.NUMPY, name)(x, 0.7)
            np.testing.assert_allclose(getattr(xp, name)(tensors[0], 0.7), expected, rtol=1e-12, err_msg=name)


@each_backend
def test_where_takes_numbers(backend):
    xp, array = filled(backend)
    x = array(np.array([-1.0, 2.0]))
    np.testing.assert_array_equal(xp.where(x > 0, x, 0.5), [0.5, 2.0])
    np.testing.assert_array_equal(xp.where(x > 0, 1.0, x), [-1.0, 1.0])
    np.testing.assert_array_equal(xp.where(x > 0, 1.0, 0.0), [0.0, 1.0])


def test_stable_differences_of_log_gammas():
    x = np.geomspace(1e-3, 1e4, 200)
    stirling = special.gammaln(x) - ((x - 0.5) * np.log(x) - x + 0.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(namespace.stirling_rest(namespace.NUMPY, x), stirling, rtol=1e-9, atol=1e-11)
    # Their limits, 1 / 12x and −1 / 8x, where the differences have no digits left.
    assert namespace.stirling_rest(namespace.NUMPY, np.array(1e9)) == pytest.approx(1 / 12e9, rel=1e-12)
    half = special.poch(x, 0.5)
    np.testing.assert_allclose(namespace.log_gamma_half_step(namespace.NUMPY, x), np.log(half / np.sqrt(x)), atol=5e-11)
    assert namespace.log_gamma_half_step(namespace.NUMPY, np.array(1e9)) == pytest.approx(-1 / 8e9, rel=1e-12)
