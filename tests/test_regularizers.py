"""Penalised coefficients against scikit-learn's linear models, and exact zeros in deep networks."""

from functools import cache

import numpy as np
import pytest
from _table import case, each_backend, each_estimator, make, problem, regression
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from skuq import ProbabilisticClassifier, ProbabilisticRegressor, SNGPClassifier, backends
from skuq.likelihoods import Normal

ALPHAS = (0.01, 0.05, 0.2)
EXACT = {"tol": 1e-12, "max_iter": 1_000_000}


@cache
def diabetes():
    """X and y in their own units, and both standardised by scikit-learn."""
    X, y = load_diabetes(return_X_y=True, scaled=False)
    return X, y, StandardScaler().fit_transform(X), (y - y.mean()) / y.std()


def reference(regularizer, alpha, n_rows, l1_ratio=0.5):
    """scikit-learn's estimator with the same objective."""
    if regularizer == "l2":
        return Ridge(alpha * n_rows)
    return ElasticNet(alpha, l1_ratio=1.0 if regularizer == "l1" else l1_ratio, **EXACT)


@cache
def linear(backend, regularizer, alpha, **changes):
    """Linear model of the diabetes data, all other settings at their defaults."""
    model = ProbabilisticRegressor(
        hidden_layer_sizes=(),
        likelihood=Normal(scale=1.0),
        regularizer=regularizer,
        alpha=alpha,
        backend=backend,
        random_state=0,
        **changes,
    )
    X, y, *_ = diabetes()
    return model.fit(X, y)


def assert_close(found, expected, tolerance=1e-3):
    """Relative to the largest coefficient and to the norm."""
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
    assert np.linalg.norm(found - expected) <= tolerance * np.linalg.norm(expected)


penalties = pytest.mark.parametrize(
    ("regularizer", "alpha", "backend"),
    [
        case(backend, regularizer, alpha)
        for backend in backends.BACKENDS
        for regularizer in ("l1", "l2", "elasticnet")
        for alpha in ALPHAS
    ],
)


@penalties
def test_coefficients_are_scikit_learns(regularizer, alpha, backend):
    X, y, Z, z = diabetes()
    model, expected = linear(backend, regularizer, alpha), reference(regularizer, alpha, len(y)).fit(Z, z)
    assert_close(model.coef_ * X.std(axis=0) / y.std(), expected.coef_)
    in_units = expected.coef_ * y.std() / X.std(axis=0)
    assert_close(model.coef_, in_units)
    assert model.intercept_ == pytest.approx(y.mean() - in_units @ X.mean(axis=0), abs=1e-3 * y.std())
    np.testing.assert_allclose(model.predict(X), expected.predict(Z) * y.std() + y.mean(), atol=1e-3 * y.std())
    np.testing.assert_allclose(model.predict(X), X @ model.coef_ + model.intercept_, rtol=1e-5)
    # The same coefficients are exactly zero.
    np.testing.assert_array_equal(model.coef_ == 0, expected.coef_ == 0)
    np.testing.assert_array_equal(model.selected_features_, expected.coef_ != 0)
    assert model.n_nonzero_weights_ == np.count_nonzero(expected.coef_)


@each_backend
def test_zeros_grow_with_alpha_as_lassos(backend):
    X, y, Z, z = diabetes()
    alphas = [*ALPHAS, 0.4, 0.7]
    zeros = [np.sum(linear(backend, "l1", alpha).coef_ == 0) for alpha in alphas]
    assert zeros == [np.sum(Lasso(alpha, **EXACT).fit(Z, z).coef_ == 0) for alpha in alphas]
    assert zeros == sorted(zeros)
    assert zeros[-1] == X.shape[1]
    # Nothing but the intercept is left.
    np.testing.assert_allclose(linear(backend, "l1", 0.7).predict(X), y.mean(), rtol=1e-5)


@each_backend
@pytest.mark.parametrize("l1_ratio", [0.0, 0.2, 0.9, 1.0])
def test_l1_ratio_divides_the_penalty(backend, l1_ratio):
    X, y, Z, z = diabetes()
    expected = reference("elasticnet", 0.05, len(y), l1_ratio).fit(Z, z) if l1_ratio else Ridge(0.05 * len(y)).fit(Z, z)
    model = linear(backend, "elasticnet", 0.05, l1_ratio=l1_ratio)
    assert_close(model.coef_ * X.std(axis=0) / y.std(), expected.coef_)


@each_backend
def test_without_a_regularizer_alpha_does_nothing(backend):
    X, y = regression()
    free = [
        make("ProbabilisticRegressor", backend, **changes).fit(X, y).predict(X)
        for changes in ({"regularizer": None, "alpha": 10.0}, {"regularizer": "l2", "alpha": 0.0})
    ]
    np.testing.assert_array_equal(*free)


@each_backend
def test_weights_of_rows_enter_as_lassos(backend):
    X, y, *_ = diabetes()
    weight = np.random.default_rng(0).uniform(0.1, 3, len(y))
    z = (y - np.average(y, weights=weight)) / np.sqrt(np.cov(y, aweights=weight, ddof=0))
    scaler = StandardScaler().fit(X, sample_weight=weight)
    expected = Lasso(0.05, **EXACT).fit(scaler.transform(X), z, sample_weight=weight)
    model = ProbabilisticRegressor(
        hidden_layer_sizes=(),
        likelihood=Normal(scale=1.0),
        regularizer="l1",
        alpha=0.05,
        backend=backend,
        random_state=0,
    ).fit(X, y, sample_weight=weight)
    in_units = expected.coef_ * np.sqrt(np.cov(y, aweights=weight, ddof=0)) / scaler.scale_
    assert_close(model.coef_, in_units)


@each_backend
def test_each_output_has_its_own_lasso(backend):
    X, y, Z, z = diabetes()
    model = ProbabilisticRegressor(
        hidden_layer_sizes=(),
        likelihood=Normal(scale=1.0),
        regularizer="l1",
        alpha=0.05,
        backend=backend,
        random_state=0,
    ).fit(X, np.stack([y, X[:, 2]], axis=1))
    for coef, scale, target in ((model.coef_[0], y.std(), z), (model.coef_[1], X[:, 2].std(), Z[:, 2])):
        assert_close(coef * X.std(axis=0) / scale, Lasso(0.05, **EXACT).fit(Z, target).coef_)


# Classifiers


@each_backend
def test_bernoulli_example_finds_its_weights(backend):
    # TFP's example: labels drawn with weight 1 and bias 0.
    rng = np.random.default_rng(0)
    X = 2 + 3 * rng.normal(size=(3000, 1))
    y = rng.uniform(size=3000) < 1 / (1 + np.exp(-X[:, 0]))
    model = ProbabilisticClassifier(hidden_layer_sizes=(), regularizer=None, backend=backend, random_state=0).fit(X, y)
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-3)
    np.testing.assert_allclose(model.intercept_, expected.intercept_, atol=1e-3)
    assert model.coef_.item() == pytest.approx(1, abs=0.1)
    assert model.intercept_.item() == pytest.approx(0, abs=0.15)


@each_backend
@pytest.mark.parametrize("n_classes", [2, 3])
def test_penalised_classes_are_scikit_learns(backend, n_classes):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < n_classes], y[y < n_classes]
    scaler = StandardScaler().fit(X)
    expected = LogisticRegression(C=1 / (0.1 * len(y)), tol=1e-10).fit(scaler.transform(X), y)
    model = ProbabilisticClassifier(
        hidden_layer_sizes=(), regularizer="l2", alpha=0.1, backend=backend, random_state=0
    ).fit(X, y)
    assert_close(model.coef_ * scaler.scale_, expected.coef_)
    np.testing.assert_allclose(model.predict_proba(X), expected.predict_proba(scaler.transform(X)), atol=1e-3)


# Deep networks


@each_estimator
def test_deep_networks_get_exact_zeros(name, backend):
    X, y = problem(name)
    counts = []
    for alpha in (0.0, 0.01, 0.03):
        model = make(name, backend, regularizer="l1", alpha=alpha, max_iter=120, early_stopping=False).fit(X, y)
        counts.append(model.n_nonzero_weights_)
        assert np.isfinite(model.predict_interval(X)).all()
    assert counts[0] > counts[1] > counts[2]
    dense = make(name, backend, regularizer="l2", alpha=0.03, early_stopping=False, input_encoding=None).fit(X, y)
    assert dense.n_nonzero_weights_ == counts[0]


@each_backend
def test_l1_drops_inputs_that_say_nothing(backend):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = np.tanh(2 * X[:, 1]) + 0.1 * rng.normal(size=400)
    model = make(
        "ProbabilisticRegressor",
        backend,
        regularizer="l1",
        alpha=0.05,
        max_iter=400,
        batch_size=400,
        early_stopping=False,
    ).fit(X, y)
    assert model.selected_features_.tolist() == [False, True, False]
    changed = X.copy()
    changed[:, [0, 2]] = 100 * rng.normal(size=(400, 2))
    np.testing.assert_array_equal(model.predict(changed), model.predict(X))
    assert model.score(X, y) > 0.7


@each_backend
def test_coefficients_go_when_the_model_is_no_longer_linear(backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, hidden_layer_sizes=(), max_iter=5).fit(X, y)
    assert hasattr(model, "coef_")
    assert not hasattr(model.set_params(hidden_layer_sizes=(8,)).fit(X, y), "coef_")


@each_backend
@pytest.mark.parametrize("weighted", [False, True])
def test_the_ridge_of_sngp_is_the_penalty_of_a_logistic_regression_on_its_features(weighted, backend):
    X, y = load_iris(return_X_y=True)
    X, first = np.unique(X[50:], axis=0, return_index=True)
    y = y[50:][first]
    weight = np.where(np.arange(len(y)) % 3, 1.0, 2.0) if weighted else np.ones(len(y))
    model = SNGPClassifier(
        backend=backend, hidden_layer_sizes=(), n_inducing=64, kernel_scale=8.0, ridge_penalty=0.5, random_state=0
    ).fit(X, y, sample_weight=weight)
    state = model._state
    features = state.posterior.draws().random_features(state.x_standardizer(X))
    ridge = LogisticRegression(C=1 / 0.5, fit_intercept=False, tol=1e-10, max_iter=10_000)
    ridge.fit(features, y, sample_weight=weight)
    np.testing.assert_allclose(model.latent_mean_and_variance(X)[0][:, 0], features @ ridge.coef_[0], atol=2e-3)
