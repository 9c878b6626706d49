"""Ordinary tables: categories, rounded and counted targets, spikes, targets without noise. What is found is the truth.

References: shares, means and standard deviations of the cells (a saturated model's maximum likelihood), scikit-learn's linear
models, the log loss and the standard deviation of the distribution that the rows were drawn from.
"""

import numpy as np
import pytest
from _table import case
from scipy import special, stats
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.metrics import mean_poisson_deviance

import skuq
from skuq import backends
from skuq.likelihoods import Normal


def over(*methods):
    """Parametrize a test over (method, backend)."""
    cases = [case(backend, method) for backend in backends.BACKENDS for method in methods]
    return pytest.mark.parametrize(("method", "backend"), cases)


# Categories


@over("Probabilistic", "DeepEnsemble", "SNGP")
def test_tempered_probabilities_of_categories_are_their_shares(method, backend):
    rng = np.random.default_rng(1)
    group = rng.integers(3, size=3000)
    y = (rng.uniform(size=3000) < np.array([0.1, 0.3, 0.9])[group]).astype(int)
    model = getattr(skuq, f"{method}Classifier")(
        calibration="temperature", backend=backend, random_state=0, max_iter=200
    )
    p = model.fit(np.eye(3)[group], y).predict_proba(np.eye(3))[:, 1]
    np.testing.assert_allclose(p, [y[group == k].mean() for k in range(3)], atol=0.03)


def additive(n_rows, n_columns, rng):
    """Binary columns that add up in the logit: X, p, y."""
    X = rng.integers(0, 2, (n_rows, n_columns)).astype(float)
    p = special.expit((X - 0.5) @ np.resize([1.5, -1.0, 0.5], n_columns))
    return X, p, (rng.uniform(size=n_rows) < p).astype(int)


@over("Probabilistic", "DeepEnsemble")
@pytest.mark.parametrize("n_columns", [3, 9])
def test_log_loss_on_binary_columns_is_near_logistic_regressions(n_columns, method, backend):
    rng = np.random.default_rng(n_columns)
    X, _, y = additive(4000, n_columns, rng)
    X_new, p, _ = additive(20_000, n_columns, rng)
    model = getattr(skuq, f"{method}Classifier")(backend=backend, random_state=0).fit(X, y)
    # Of the probabilities that labels are drawn from, so that the labels' chance cancels.
    found, linear = (
        -np.mean(special.xlogy(p, q) + special.xlogy(1 - p, 1 - q))
        for q in (m.predict_proba(X_new)[:, 1] for m in (model, LogisticRegression().fit(X, y)))
    )
    assert found < linear + 0.015


@over("Probabilistic", "DeepEnsemble")
def test_a_small_effect_on_a_rare_outcome_is_found(method, backend):
    # An A/B test: 4 % and 7 % of the visitors buy.
    X, y = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 1, 0, 1])
    model = getattr(skuq, f"{method}Classifier")(backend=backend, random_state=0, max_iter=200)
    model.fit(X, y, sample_weight=[4800, 200, 4650, 350])
    np.testing.assert_allclose(model.predict_proba(X[::2])[:, 1], [0.04, 0.07], atol=0.006)


# Rounded and counted targets


@over("Probabilistic", "DeepEnsemble", "BNN", "SNGP")
def test_rounding_does_not_change_the_means_and_spreads_of_replicates(method, backend):
    rng = np.random.default_rng(4)
    setting = np.repeat(np.arange(8), 40)
    exact = np.array([0, 0.5, 2, 4, 5, 5.5, 5.7, 5.8])[setting] + (0.3 + 0.1 * setting) * rng.normal(size=320)
    y = np.round(exact)
    model = getattr(skuq, f"{method}Regressor")(backend=backend, random_state=0).fit(setting[:, None], y)
    mean, std = model.predict(np.arange(8.0)[:, None], return_std=True)
    own = np.array([[f(y[setting == k]) for k in range(8)] for f in (np.mean, np.std)])
    np.testing.assert_allclose(mean, own[0], atol=0.25)
    assert 0.8 < np.mean(std / np.maximum(own[1], 0.3)) < 1.35


@over("Probabilistic", "DeepEnsemble", "BNN", "SNGP")
def test_counts_by_category_have_their_means(method, backend):
    rng = np.random.default_rng(5)
    group = np.repeat(np.arange(4), 100)
    y = rng.poisson(np.array([0.05, 0.5, 2, 8])[group]).astype(float)
    X = np.eye(4)[group]
    model = getattr(skuq, f"{method}Regressor")(likelihood="poisson", backend=backend, random_state=0).fit(X, y)
    linear = PoissonRegressor(alpha=1e-6).fit(X, y)
    np.testing.assert_allclose(model.predict(np.eye(4)), linear.predict(np.eye(4)), rtol=0.1, atol=0.1)
    assert mean_poisson_deviance(y, model.predict(X)) < mean_poisson_deviance(y, linear.predict(X)) + 0.02


# Noise


def nine_of_ten_zero(n_rows, rng):
    return np.where(rng.uniform(size=n_rows) < 0.9, 0.0, rng.gamma(2, 500, n_rows))


def a_spike_far_out(n_rows, rng):
    return np.where(rng.uniform(size=n_rows) < 0.02, 7.0, rng.normal(size=n_rows) * 0.3)


def two_bumps(n_rows, rng):
    return rng.choice([-1.0, 1.0], size=n_rows) + 0.1 * rng.normal(size=n_rows)


def exponential(n_rows, rng):
    return rng.exponential(size=n_rows)


@over("Probabilistic", "DeepEnsemble")
@pytest.mark.parametrize(
    ("draw", "scale"),
    [
        pytest.param(nine_of_ten_zero, "input", id="nine of ten zero"),
        pytest.param(two_bumps, "input", id="two bumps"),
        pytest.param(exponential, "input", id="exponential"),
        # A scale for each row would be told by the few rows of the spike that lie near.
        pytest.param(a_spike_far_out, "constant", id="a spike far out"),
    ],
)
def test_normal_noise_of_any_target_is_as_wide_as_it_is(draw, scale, method, backend):
    """Nothing to learn from X: a standard deviation near the truth, and no worse than the constant normal."""
    rng = np.random.default_rng(5)
    X, y, X_new, y_new = rng.normal(size=(1500, 3)), draw(1500, rng), rng.normal(size=(10_000, 3)), draw(10_000, rng)
    model = getattr(skuq, f"{method}Regressor")(likelihood=Normal(scale=scale), backend=backend, random_state=0)
    std = np.sqrt(np.mean(model.fit(X, y).predict(X_new, return_std=True)[1] ** 2))
    assert std == pytest.approx(y_new.std(), rel=0.25)
    constant = -stats.norm(y.mean(), y.std()).logpdf(y_new).mean()
    assert -model.predict_dist(X_new).logpdf(y_new).mean() < constant + 0.03


@over("DeepEnsemble")
def test_intervals_of_a_grid_without_noise_hold_the_rows_left_out(method, backend):
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 24), np.linspace(-1, 1, 24)), axis=-1).reshape(-1, 2)
    y = np.sin(3 * grid[:, 0]) * grid[:, 1] + grid[:, 0] ** 2
    new = np.random.default_rng(0).permutation(len(grid))[:150]
    kept = np.setdiff1d(np.arange(len(grid)), new)
    model = getattr(skuq, f"{method}Regressor")(backend=backend, random_state=0).fit(grid[kept], y[kept])
    low, high = model.predict_interval(grid[new], 0.9).T
    assert 0.8 < np.mean((low <= y[new]) & (y[new] <= high)) <= 1
    assert np.mean(high - low) < 0.2 * y.std()
