"""The predictive distributions as objects: quantiles of mixtures against brute force, and what they say of themselves."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skuq._prediction.distributions import PredictiveCategorical, PredictiveMixture, middle_float
from skuq.likelihoods import Gamma, Laplace, Likelihood, LogNormal, NegativeBinomial, Normal, Poisson, StudentT

LEVELS = [1e-14, 1e-12, 1e-9, 1e-4, 0.05, 0.3, 0.5, 0.9, 0.9999, 1 - 1e-9]


class Hurdle(Likelihood):
    """Zero with probability `zero`, else gamma: a cdf that jumps."""

    def cdf(self, y, parameters):
        positive = stats.gamma.cdf(y, parameters["shape"], scale=parameters["mean"] / parameters["shape"])
        return np.where(y < 0, 0.0, parameters["zero"] + (1 - parameters["zero"]) * positive)

    def ppf(self, q, parameters):
        rest = np.clip((q - parameters["zero"]) / (1 - parameters["zero"]), 0, 1)
        return stats.gamma.ppf(rest, parameters["shape"], scale=parameters["mean"] / parameters["shape"])

    def logpdf(self, y, parameters):
        scale = parameters["mean"] / parameters["shape"]
        density = (1 - parameters["zero"]) * stats.gamma.pdf(y, parameters["shape"], scale=scale)
        with np.errstate(divide="ignore"):
            return np.log(np.where(y == 0, parameters["zero"], density))


def random_mixture(family, spread, rng, n_draws=7, n_rows=10):
    """Mixture whose components' scales differ by e^spread."""
    normal = lambda: rng.normal(size=(n_draws, n_rows, 1)) * spread  # noqa: E731
    loc, scale = normal(), np.exp(normal())
    parameters = {
        Normal: {"loc": loc, "scale": scale},
        Laplace: {"loc": loc, "scale": scale},
        StudentT: {"loc": loc, "scale": scale, "df": 2.5 + scale},
        LogNormal: {"loc": loc, "scale": np.minimum(scale, 3)},
        Gamma: {"mean": scale, "shape": np.exp(normal() / 2)},
        Hurdle: {"mean": scale, "shape": np.exp(normal() / 2), "zero": rng.uniform(size=loc.shape)},
        Poisson: {"rate": 10 * scale},
        NegativeBinomial: {"mean": 10 * scale, "concentration": np.exp(normal() / 2)},
    }[family]
    return PredictiveMixture(family(), parameters, single_output=True)


def brute_quantile(mixture, level):
    """Smallest number at which the cdf reaches the level, by halving what lies between all numbers."""
    low, high = np.full(mixture.shape[1], -1e300), np.full(mixture.shape[1], 1e300)
    while np.any(np.nextafter(low, np.inf) < high):
        middle = middle_float(low, high)
        reached = mixture.cdf(middle) >= level
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return high


FAMILIES = [Normal, Laplace, StudentT, LogNormal, Gamma, Hurdle, Poisson, NegativeBinomial]


@pytest.mark.parametrize("spread", [0.3, 1.5, 4.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantiles_of_random_mixtures_are_those_of_brute_force(family, spread):
    mixture = random_mixture(family, spread, np.random.default_rng(1))
    found = mixture.ppf(LEVELS)
    assert (np.diff(found, axis=1) >= 0).all()
    for level, x in zip(LEVELS, found.T, strict=True):
        expected = brute_quantile(mixture, level)
        if family in (Poisson, NegativeBinomial):
            np.testing.assert_array_equal(x, expected)
            continue
        # Rounding of the cdf: 1e-15 of the whole. A jump may stand anywhere.
        reached = mixture.cdf(x)
        close = np.abs(reached - level) <= 2e-10 * min(level, 1 - level) + 4e-15
        assert (close | (x == expected)).all()
        np.testing.assert_array_equal(x[expected == 0], 0)


@pytest.mark.parametrize("family", [Normal, Laplace, StudentT])
def test_quantiles_of_a_symmetric_mixture_are_symmetric_far_out(family):
    mixture = random_mixture(family, 1.0, np.random.default_rng(2))
    mixture.parameters["loc"] = np.zeros_like(mixture.parameters["loc"])
    for tail in (2.0**-45, 2.0**-20, 2.0**-5):  # of which 1 − tail has all digits
        np.testing.assert_allclose(mixture.ppf(tail), -mixture.ppf(1 - tail), rtol=1e-8)


def test_quantiles_of_one_row_do_not_depend_on_the_others():
    mixture = random_mixture(Normal, 2.0, np.random.default_rng(3))
    alone = PredictiveMixture(Normal(), {k: v[:, 3:5] for k, v in mixture.parameters.items()}, single_output=True)
    np.testing.assert_array_equal(alone.ppf(0.2), mixture.ppf(0.2)[3:5])


class Counted(Normal):
    def cdf(self, y, parameters):
        self.calls = getattr(self, "calls", 0) + 1
        return super().cdf(y, parameters)


def test_steps_of_a_quantile_are_bounded_by_the_digits_of_a_number():
    rng = np.random.default_rng(0)
    likelihood = Counted()
    loc, scale = rng.normal(size=(2, 20, 4000, 1))
    mixture = PredictiveMixture(likelihood, {"loc": 1e9 * loc, "scale": np.exp(10 * scale)}, single_output=True)
    mixture.ppf(0.3)
    assert likelihood.calls <= 105
    modest = PredictiveMixture(likelihood, {"loc": 0.3 * loc, "scale": np.exp(0.2 * scale)}, single_output=True)
    likelihood.calls = 0
    modest.ppf(0.05)
    assert likelihood.calls <= 8


@pytest.mark.parametrize("family", [Poisson, NegativeBinomial])
def test_quantiles_of_very_large_counts_take_as_many_steps_as_they_have_digits(family, monkeypatch):
    rate = np.exp(np.random.default_rng(0).uniform(15, 27, size=(10, 30, 1)))
    parameters = {"rate": rate} if family is Poisson else {"mean": rate, "concentration": np.full_like(rate, 4.0)}
    calls = []
    cdf = family.cdf
    monkeypatch.setattr(family, "cdf", lambda *args: calls.append(1) or cdf(*args))
    mixture = PredictiveMixture(family(), parameters, single_output=True)
    found = mixture.ppf(0.9)
    assert len(calls) <= 64
    assert (mixture.cdf(found) >= 0.9).all()
    assert (mixture.cdf(found - 1) < 0.9).all()
    calls.clear()
    one = family().ppf(0.9, parameters)
    assert len(calls) <= 64
    assert (family().cdf(one, parameters) >= 0.9).all()
    assert (family().cdf(one - 1, parameters) < 0.9).all()


def test_a_level_on_a_plateau_gives_a_point_of_it():
    parameters = {"loc": np.array([-1.0, 1.0]).reshape(2, 1, 1), "scale": np.full((2, 1, 1), 1e-3)}
    mixture = PredictiveMixture(Normal(), parameters, single_output=True)
    assert -1 < mixture.ppf(0.5)[0] < 1
    assert mixture.cdf(mixture.ppf(0.5))[0] == pytest.approx(0.5, rel=1e-10)


def test_middle_float_halves_the_numbers_between():
    assert middle_float(-1.0, 1.0) == 0
    assert middle_float(0.0, 5e-324) in (0.0, 5e-324)
    assert middle_float(1.0, 4.0) == 2.0
    assert middle_float(-4.0, -1.0) == -2.0


# What they say of themselves


def two_outputs():
    rng = np.random.default_rng(0)
    parameters = {"loc": rng.normal(size=(10, 111, 2)), "scale": np.exp(rng.normal(size=(10, 111, 2)))}
    return PredictiveMixture(Normal(), parameters, single_output=False, model_variance=rng.uniform(size=(111, 2)) / 100)


def categorical():
    draws = np.random.default_rng(0).dirichlet([1, 2, 3], size=(10, 111))
    return PredictiveCategorical(np.array(["a", "b", "c"]), draws.mean(axis=0), draws)


def test_distributions_print_what_they_are():
    assert (
        repr(random_mixture(Normal, 1.0, np.random.default_rng(0), 10, 111))
        == "PredictiveMixture of 10 Normal, 111 rows"
    )
    assert repr(two_outputs()) == "PredictiveMixture of 10 Normal, 111 rows, 2 outputs"
    assert repr(two_outputs()[0]) == "PredictiveMixture of 10 Normal, 1 row, 2 outputs"
    assert repr(categorical()) == "PredictiveCategorical of 10 draws, 3 classes, 111 rows"


MASK = np.arange(111) % 3 == 0
ROWS = {"slice": slice(5, 20, 2), "int": 7, "last": -1, "mask": MASK, "array": np.array([3, 3, 0]), "list": [1, 2]}


@pytest.mark.parametrize("rows", [*ROWS.values(), pd.Series(MASK)], ids=[*ROWS, "series"])
@pytest.mark.parametrize("make", [two_outputs, categorical])
def test_rows_of_a_distribution_are_those_of_its_results(make, rows):
    dist, at = make(), np.atleast_1d(np.arange(111)[rows])
    part = dist[rows]
    assert (len(dist), len(part)) == (111, len(at))
    for name in ("mean", "std", "var"):
        np.testing.assert_allclose(getattr(part, name)(), getattr(dist, name)()[at], rtol=1e-14)
    np.testing.assert_allclose(part.ppf([0.2, 0.7]), dist.ppf([0.2, 0.7])[at], rtol=1e-9)
    assert len(part[:2]) == min(2, len(at))


def test_rows_that_are_not_there_are_refused():
    for dist in (two_outputs(), categorical()):
        for wrong in (111, -112, (0, 1), np.ones(5, bool), 1.5, np.zeros((2, 2), int)):
            with pytest.raises(IndexError):
                dist[wrong]
        with pytest.raises(TypeError, match=r"is no array. Take its mean\(\)"):
            np.asarray(dist)


def test_intervals_and_quantiles_of_a_distribution_are_those_of_ppf():
    for dist in (two_outputs(), categorical(), random_mixture(Poisson, 1.0, np.random.default_rng(0))):
        np.testing.assert_array_equal(dist.quantile([0.1, 0.6]), dist.ppf([0.1, 0.6]))
        np.testing.assert_allclose(dist.interval(0.8), dist.ppf([0.1, 0.9]), rtol=1e-9)
        assert dist.interval([0.5, 0.9]).shape == (*dist.mean().shape, 2, 2)
        np.testing.assert_array_equal(dist.interval([0.5, 0.9])[..., 1], dist.interval())
        with pytest.raises(ValueError, match=r"coverage must lie strictly between 0 and 1, got 90\. For 90 % pass"):
            dist.interval(90)
