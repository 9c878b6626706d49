"""What every estimator answers: shapes, and how its answers hang together.

References: the estimator's own predictive distribution, scipy's entropy, numerical integration, simulation.
"""

import numpy as np
import pytest
from _table import TABLES, classification, each_classifier, each_estimator, each_regressor, fitted, problem, regression
from scipy import stats
from scipy.integrate import trapezoid
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

N_SAMPLES = 4000
widths = pytest.mark.parametrize("width", [1, 2], ids=["one_output", "two_outputs"])
class_counts = pytest.mark.parametrize("n_classes", [2, 3], ids=["binary", "multiclass"])
each_table = pytest.mark.parametrize("kind", TABLES)
# The same, and the tables that are not of continuous columns alone.
regressions = pytest.mark.parametrize("kind", [1, 2, *TABLES], ids=["one_output", "two_outputs", *TABLES])
classifications = pytest.mark.parametrize("kind", [2, 3, *TABLES], ids=["binary", "multiclass", *TABLES])


def many_draws(name):
    """Draws enough to stand for the posterior, where their number can be chosen."""
    if name.startswith(("Probabilistic", "DeepEnsemble")):
        return {}
    # A rate at which all draws differ: where few do, moments need more samples.
    many = {"early_stopping": False, "dropout_rate": 0.3} if name.startswith("MCDropout") else {}
    return {"n_draws": 400, **many}


# Regressors


@each_regressor
@widths
def test_shapes_of_a_regressor(name, backend, width):
    X, y = regression(width)
    model, n, row = fitted(name, backend, width), 7, () if width == 1 else (width,)
    X = X[:n]
    assert model.predict(X).shape == (n, *row)
    assert [part.shape for part in model.predict(X, return_std=True)] == [(n, *row)] * 2
    assert [part.shape for part in model.predict_uncertainty(X)] == [(n, *row)] * 3
    assert model.predict_interval(X).shape == (n, *row, 2)
    assert model.predict_interval(X, coverage=[0.5, 0.8, 0.9]).shape == (n, *row, 2, 3)
    assert model.predict_interval(X, coverage=[0.5]).shape == (n, *row, 2, 1)
    assert model.predict_quantiles(X).shape == (n, *row, 3)
    assert model.predict_quantiles(X, quantiles=0.3).shape == (n, *row, 1)
    assert model.sample_y(X).shape == (n, *row, 1)
    assert model.sample_y(X, n_samples=5).shape == (n, *row, 5)
    dist = model.predict_dist(X)
    for answer in (dist.mean(), dist.std(), dist.var(), dist.cdf(0.0), dist.logpdf(y[:n]), dist.ppf(0.3), dist.rvs()):
        assert answer.shape == (n, *row)
    assert dist.ppf([0.3, 0.6]).shape == dist.rvs(2).shape == (n, *row, 2)
    assert model.n_outputs_ == width
    assert not hasattr(model, "predict_proba")


@each_regressor
@regressions
def test_intervals_nest_and_are_central(name, backend, kind):
    X, _ = regression(kind)
    model, coverages = fitted(name, backend, kind), [0.2, 0.5, 0.9, 0.99]
    lower, upper = np.moveaxis(model.predict_interval(X, coverages), -2, 0)
    assert (np.diff(lower, axis=-1) < 0).all()
    assert (np.diff(upper, axis=-1) > 0).all()
    for i, coverage in enumerate(coverages):
        alone = model.predict_interval(X, coverage)
        np.testing.assert_array_equal(alone, np.stack([lower[..., i], upper[..., i]], axis=-1))
        np.testing.assert_array_equal(alone, model.predict_quantiles(X, [0.5 - coverage / 2, 0.5 + coverage / 2]))


@each_regressor
@regressions
def test_quantiles_invert_the_cdf(name, backend, kind):
    X, _ = regression(kind)
    model, levels = fitted(name, backend, kind), np.array([0.001, 0.05, 0.3, 0.5, 0.9, 0.999])
    quantiles, dist = model.predict_quantiles(X, levels), model.predict_dist(X)
    assert (np.diff(quantiles, axis=-1) > 0).all()
    np.testing.assert_array_equal(quantiles, dist.ppf(levels))
    for i, level in enumerate(levels):
        np.testing.assert_allclose(dist.cdf(quantiles[..., i]), level, atol=1e-8)


@each_regressor
@regressions
def test_variance_is_noise_plus_spread_of_the_draws(name, backend, kind):
    X, _ = regression(kind)
    model = fitted(name, backend, kind)
    mean, std = model.predict(X, return_std=True)
    total, aleatoric, epistemic = model.predict_uncertainty(X)
    np.testing.assert_allclose(total, aleatoric + epistemic, rtol=1e-10)
    np.testing.assert_allclose(total, std**2, rtol=1e-10)
    assert (aleatoric > 0).all()
    if name == "ProbabilisticRegressor":
        assert (epistemic == 0).all()
    else:
        assert (epistemic > 0).all()
    dist = model.predict_dist(X)
    for answer, expected in ((dist.mean(), mean), (dist.std(), std), (dist.var(), total), (model.predict(X), mean)):
        np.testing.assert_allclose(answer, expected, rtol=1e-12)


@each_regressor
def test_density_integrates_to_the_cdf(name, backend):
    X, _ = regression()
    dist = fitted(name, backend).predict_dist(X)
    # From far in the lower tail to each of three points.
    for level in (0.1, 0.5, 1 - 1e-12):
        low, high = dist.ppf(1e-13), dist.ppf(level)
        grid = low + (high - low) * np.linspace(0, 1, 2001)[:, None]
        density = np.exp([dist.logpdf(y) for y in grid])
        np.testing.assert_allclose(trapezoid(density, grid, axis=0), level, atol=1e-4)


@each_regressor
@widths
def test_samples_have_the_moments_of_the_prediction(name, backend, width):
    X, _ = regression(width)
    model = fitted(name, backend, width, **many_draws(name))
    mean, std = model.predict(X, return_std=True)
    for sample in (model.sample_y(X, N_SAMPLES), model.predict_dist(X).rvs(N_SAMPLES, random_state=0)):
        assert np.abs((sample.mean(axis=-1) - mean) / (std / np.sqrt(N_SAMPLES))).max() < 5.5
        # 10 % are 4.5 standard errors of the standard deviation of normal samples.
        np.testing.assert_allclose(sample.std(axis=-1), std, rtol=0.1)


@each_regressor
@each_table
def test_samples_fall_below_a_quantile_as_often_as_it_says(name, backend, kind):
    X, _ = regression(kind)
    model, levels = fitted(name, backend, kind, **many_draws(name)), np.array([0.05, 0.3, 0.5, 0.9])
    quantiles = model.predict_quantiles(X, levels)
    for sample in (model.sample_y(X, N_SAMPLES), model.predict_dist(X).rvs(N_SAMPLES, random_state=0)):
        found = (sample[:, None] < quantiles[..., None]).mean(axis=-1)
        assert np.abs((found - levels) / np.sqrt(levels * (1 - levels) / N_SAMPLES)).max() < 5.5


@each_regressor
def test_samples_are_functions_plus_noise(name, backend):
    # Two copies of one row share the function, not the noise: their covariance is the epistemic variance.
    X, _ = regression()
    model = fitted(name, backend, **many_draws(name))
    total, _, epistemic = model.predict_uncertainty(3 * X)
    first, second = model.sample_y(np.vstack([3 * X, 3 * X]), N_SAMPLES).reshape(2, len(X), N_SAMPLES)
    covariance = ((first - first.mean(1, keepdims=True)) * (second - second.mean(1, keepdims=True))).mean(axis=1)
    assert np.abs((covariance - epistemic) / total).max() < 6 / np.sqrt(N_SAMPLES)


@each_regressor
def test_near_rows_vary_together(name, backend):
    # Outside the data, where the function and not the noise is what is unknown.
    model = fitted(name, backend, **many_draws(name))
    rows = np.array([[6.0, 6.0, 6.0], [6.01, 6.0, 6.0]])
    total, _, epistemic = model.predict_uncertainty(rows)
    correlation = np.corrcoef(model.sample_y(rows, N_SAMPLES))[0, 1]
    assert correlation == pytest.approx((epistemic / total).mean(), abs=0.1)


@each_regressor
def test_score_is_r2(name, backend):
    X, y = regression()
    model, weight = fitted(name, backend), np.arange(len(y))
    assert model.score(X, y, weight) == pytest.approx(r2_score(y, model.predict(X), sample_weight=weight))
    assert model.score(X, y) > 0.4


# Classifiers


@each_classifier
@class_counts
def test_shapes_of_a_classifier(name, backend, n_classes):
    X, y = classification(n_classes)
    model, n = fitted(name, backend, n_classes), 7
    X = X[:n]
    assert model.classes_.tolist() == sorted(set(y))
    assert model.predict(X).shape == (n,)
    assert model.predict_proba(X).shape == (n, n_classes)
    assert [part.shape for part in model.predict_uncertainty(X)] == [(n,)] * 3
    assert model.predict_interval(X).shape == (n, n_classes, 2)
    assert model.predict_interval(X, coverage=[0.5, 0.8, 0.9]).shape == (n, n_classes, 2, 3)
    assert model.predict_quantiles(X).shape == (n, n_classes, 3)
    assert model.predict_quantiles(X, quantiles=0.3).shape == (n, n_classes, 1)
    assert model.predict_set(X).shape == (n, n_classes)
    assert model.predict_set(X).dtype == bool
    assert model.sample_y(X).shape == (n, 1)
    assert model.sample_y(X, n_samples=5).shape == (n, 5)
    assert set(model.sample_y(X, n_samples=50).ravel()) <= set(model.classes_)
    dist = model.predict_dist(X)
    for answer in (dist.mean(), dist.std(), dist.var(), dist.cdf(0.5), dist.ppf(0.3)):
        assert answer.shape == (n, n_classes)
    assert dist.ppf([0.3, 0.6]).shape == (n, n_classes, 2)
    assert dist.logpdf(y[:n]).shape == dist.rvs().shape == (n,)
    assert dist.rvs(2).shape == (n, 2)


@each_classifier
@classifications
def test_labels_are_the_most_probable(name, backend, kind):
    X, y = classification(kind)
    model = fitted(name, backend, kind)
    proba, labels = model.predict_proba(X), model.predict(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-12)
    assert (proba >= 0).all()
    np.testing.assert_array_equal(labels, model.classes_[proba.argmax(axis=1)])
    linear = make_pipeline(MaxAbsScaler(), LogisticRegression()).fit(X, y)
    assert model.score(X, y) == accuracy_score(y, labels) > linear.score(X, y) - 0.03


@each_classifier
@classifications
def test_entropy_is_ambiguity_plus_disagreement(name, backend, kind):
    X, _ = classification(kind)
    model = fitted(name, backend, kind)
    total, aleatoric, epistemic = model.predict_uncertainty(X)
    np.testing.assert_allclose(total, stats.entropy(model.predict_proba(X), axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(total, aleatoric + epistemic, rtol=1e-12)
    assert (aleatoric >= 0).all()
    assert (epistemic >= 0).all()
    assert (total <= np.log(len(model.classes_)) + 1e-12).all()
    if name == "ProbabilisticClassifier":
        assert (epistemic == 0).all()
    else:
        assert (epistemic > 1e-9).any()


@each_classifier
@classifications
def test_credible_intervals_of_the_probabilities(name, backend, kind):
    X, _ = classification(kind)
    model, coverages = fitted(name, backend, kind), [0.2, 0.5, 0.9]
    lower, upper = np.moveaxis(model.predict_interval(X, coverages), -2, 0)
    dist = model.predict_dist(X)
    assert (lower >= 0).all()
    assert (upper <= 1).all()
    assert (np.diff(lower, axis=-1) <= 0).all()
    assert (np.diff(upper, axis=-1) >= 0).all()
    for i, coverage in enumerate(coverages):
        levels = [0.5 - coverage / 2, 0.5 + coverage / 2]
        alone = model.predict_interval(X, coverage)
        np.testing.assert_array_equal(alone, np.stack([lower[..., i], upper[..., i]], axis=-1))
        np.testing.assert_array_equal(alone, model.predict_quantiles(X, levels))
        np.testing.assert_array_equal(alone, dist.ppf(levels))
    width = (upper - lower).max()
    assert width == 0 if name == "ProbabilisticClassifier" else width > 0


@each_classifier
@classifications
def test_distribution_of_the_label(name, backend, kind):
    X, y = classification(kind)
    model = fitted(name, backend, kind)
    dist, proba = model.predict_dist(X), model.predict_proba(X)
    np.testing.assert_allclose(dist.mean(), proba, rtol=1e-12)
    np.testing.assert_allclose(dist.var(), dist.std() ** 2, rtol=1e-12)
    own = proba[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    np.testing.assert_allclose(dist.logpdf(y), np.log(own), rtol=1e-9)
    labels = dist.rvs(N_SAMPLES, random_state=0)
    frequency = np.stack([(labels == c).mean(axis=1) for c in model.classes_], axis=1)
    assert np.abs(frequency - proba).max() < 5 * 0.5 / np.sqrt(N_SAMPLES)
    with pytest.raises(ValueError, match=r"not seen in fit.*never"):
        dist.logpdf(np.full(len(y), "never"))


@each_classifier
@classifications
def test_sets_are_the_smallest_that_reach_the_coverage(name, backend, kind):
    X, y = classification(kind)
    model = fitted(name, backend, kind)
    proba, largest = model.predict_proba(X), np.ones((len(y), len(model.classes_)), bool)
    for coverage in (0.999, 0.9, 0.6, 0.05):
        inside = model.predict_set(X, coverage)
        held = np.where(inside, proba, 0).sum(axis=1)
        assert (held >= coverage - 1e-12).all()
        # Without its least probable member a set falls short.
        assert (held - np.where(inside, proba, 2).min(axis=1) < coverage).all()
        assert inside[np.arange(len(y)), proba.argmax(axis=1)].all()
        assert (inside <= largest).all()
        largest = inside


@each_classifier
def test_sampled_labels_share_a_function(name, backend):
    X, _ = classification(3)
    model = fitted(name, backend, 3, **many_draws(name))
    draws = model.predict_dist(3 * X).draws
    samples = model.sample_y(np.vstack([3 * X, 3 * X]), N_SAMPLES)
    frequency = np.stack([(samples[: len(X)] == c).mean(axis=1) for c in model.classes_], axis=1)
    # SNGP samples β itself, and its draws are points of the same law: 400 of them are known to 0.5 / √400.
    slack = 5 * 0.5 * (1 / np.sqrt(N_SAMPLES) + (1 / np.sqrt(400) if name == "SNGPClassifier" else 0))
    assert np.abs(frequency - draws.mean(axis=0)).max() < slack
    # Copies of a row agree as often as two labels of one function do.
    agreement = (samples[: len(X)] == samples[len(X) :]).mean(axis=1)
    assert np.abs(agreement - (draws**2).sum(axis=2).mean(axis=0)).max() < slack


# All ten


@each_estimator
def test_linear_model_answers_everything(name, backend):
    X, y = problem(name)
    model = fitted(name, backend, hidden_layer_sizes=())
    assert np.isfinite(model.predict_interval(X)).all()
    assert np.isfinite(model.predict_uncertainty(X)).all()
    assert model.sample_y(X, 5).shape == (len(X), 5)
    assert model.score(X, y) > 0.2


@each_estimator
def test_resnet_answers_everything(name, backend):
    X, y = problem(name)
    model = fitted(name, backend, architecture="resnet", hidden_layer_sizes=(8, 8))
    assert np.isfinite(model.predict_interval(X)).all()
    assert np.isfinite(model.predict_uncertainty(X)).all()
    assert model.sample_y(X, 5).shape == (len(X), 5)
    assert model.score(X, y) > 0.4
