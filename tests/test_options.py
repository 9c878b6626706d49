"""Every likelihood in every method, and every method's own options: each fits, and its answers hang together."""

import numpy as np
import pytest
from _table import (
    ESTIMATORS,
    REGRESSORS,
    assert_same,
    case,
    classification,
    each_backend,
    each_estimator,
    make,
    outputs,
    problem,
    regression,
)

from skuq import backends
from skuq.likelihoods import NAMED, Gamma, Laplace, LogNormal, NegativeBinomial, Normal, StudentT

LIKELIHOODS = [
    *NAMED,
    Normal(scale="constant"),
    Normal(beta=0.0),
    Laplace(scale=0.5),
    StudentT(scale="constant", df=5.0),
    LogNormal(scale="constant"),
    Gamma(shape="input"),
    NegativeBinomial(concentration="input"),
]
OPTIONS = {
    "Probabilistic": [{"dropout_rate": 0.3}, {"activation": "relu", "hidden_layer_sizes": (8, 4)}, {"shuffle": False}],
    "MCDropout": [{"dropout_rate": 0.5}, {"dropout_rate": 0.0}, {"n_draws": 1}],
    "DeepEnsemble": [{"n_members": 1}, {"early_stopping": "cross_fit", "activation": "tanh"}],
    "BNN": [
        {"posterior": "full_covariance"},
        {"prior": "scale_mixture", "prior_scale": 1.0},
        {"prior": "scale_mixture", "posterior": "full_covariance"},
        {"n_train_samples": 1, "kl_weight": 0.1, "dropout_rate": 0.2},
    ],
    "SNGP": [
        {"spec_norm_bound": None},
        {"architecture": "mlp", "hidden_layer_sizes": (8, 4)},
        {"kernel_scale": 4.0, "ridge_penalty": 0.1, "dropout_rate": 0.2},
    ],
}
SNGP_CLASSIFIER = [{"covariance": "per_class"}, {"mean_field_factor": 0.0}]


def options():
    for backend in backends.BACKENDS:
        for name in ESTIMATORS:
            method = name.removesuffix("Regressor").removesuffix("Classifier")
            for changes in [*OPTIONS[method], *(SNGP_CLASSIFIER if name == "SNGPClassifier" else [])]:
                label = "-".join(f"{key}={value}" for key, value in changes.items())
                yield case(backend, name, changes, id=f"{name}-{label}")


@pytest.mark.parametrize(("name", "changes", "backend"), list(options()))
def test_options(name, changes, backend):
    X, y = problem(name, 3 if name.endswith("Classifier") else 1)
    model = make(name, backend, **changes).fit(X, y)
    said = outputs(model, X)
    assert all(np.isfinite(value).all() for value in said.values())
    np.testing.assert_allclose(said["total"], said["aleatoric"] + said["epistemic"], rtol=1e-9)
    assert (said["interval"][..., 0] <= said["interval"][..., 1]).all()
    assert model.score(X, y) > (0.5 if name.endswith("Classifier") else 0.25)
    assert_same(outputs(make(name, backend, **changes).fit(X, y), X), said)


def likelihoods():
    # Prediction knows no backend, so the one that compiles for each pair shows one method, and one more likelihood.
    for name in REGRESSORS:
        for likelihood in LIKELIHOODS:
            yield case("blitz", name, likelihood)
            if name == "BNNRegressor" or likelihood == "gamma":
                yield case("tensorflow", name, likelihood)


@pytest.mark.parametrize(("name", "likelihood", "backend"), list(likelihoods()))
def test_likelihoods_in_methods(name, likelihood, backend):
    X, y = regression()
    y = np.round(np.clip(y, 0, None)) + 1  # positive counts: in every family's support
    draws = {} if name.startswith(("Probabilistic", "DeepEnsemble")) else {"n_draws": 200}
    model = make(name, backend, likelihood=likelihood, **draws).fit(X, y)
    said = outputs(model, X)
    assert all(np.isfinite(value).all() for value in said.values())
    np.testing.assert_allclose(said["total"], said["std"] ** 2, rtol=1e-9)
    np.testing.assert_allclose(said["total"], said["aleatoric"] + said["epistemic"], rtol=1e-9)
    assert (said["epistemic"] >= 0).all()
    dist, levels = model.predict_dist(X), (0.1, 0.5, 0.9)
    quantiles = model.predict_quantiles(X, levels)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    for i, level in enumerate(levels):
        at = dist.cdf(quantiles[:, i])
        if dist.likelihood.discrete:
            assert (at >= level).all()
            assert (dist.cdf(quantiles[:, i] - 1) < level).all()
        elif dist.likelihood.atom is None:
            np.testing.assert_allclose(at, level, atol=1e-8)
        else:
            assert (at >= level - 1e-8).all()
            np.testing.assert_allclose(at[quantiles[:, i] > dist.likelihood.atom], level, atol=1e-8)
    # As many of the samples lie below a quantile as it says. (SNGP's draws of β stand for its nodes.)
    sample = model.sample_y(X, 2000)
    slack = 6 * 0.5 / np.sqrt(2000)
    assert (np.mean(sample < quantiles[:, 1:2], axis=1) < 0.5 + slack).all()
    assert (np.mean(sample <= quantiles[:, 1:2], axis=1) > 0.5 - slack).all()


@each_backend
def test_several_outputs_of_counts(backend):
    X, y = regression(2)
    counts = np.round(np.clip(y, 0, None))
    model = make("BNNRegressor", backend, likelihood="poisson").fit(X, counts)
    assert model.predict_interval(X).shape == (len(X), 2, 2)
    assert (model.sample_y(X, 3) >= 0).all()


# What changes after a fit


@each_estimator
def test_changing_parameters_later_changes_no_prediction(name, backend):
    X, y = problem(name)
    model = make(name, backend, **({"likelihood": Normal()} if name.endswith("Regressor") else {})).fit(X, y)
    said = outputs(model, X)
    later = {
        "hidden_layer_sizes": (3,),
        "architecture": "mlp" if name.startswith("SNGP") else "resnet",
        "activation": "relu",
        "dropout_rate": 0.5,
        "standardize": False,
        "regularizer": None,
        "random_state": 7,
        **({"likelihood__scale": 1.0} if name.endswith("Regressor") else {"class_weight": "balanced"}),
    }
    assert_same(outputs(model.set_params(**later), X), said)


@each_backend
def test_one_likelihood_may_serve_two_regressors(backend):
    X, y = regression()
    shared = Normal()
    first = make("DeepEnsembleRegressor", backend, likelihood=shared).fit(X, y)
    said = outputs(first, X)
    make("BNNRegressor", backend, likelihood=shared).set_params(likelihood__scale=1.0).fit(X, y)
    assert_same(outputs(first, X), said)


@each_backend
def test_labels_keep_their_type(backend):
    X, y = classification()
    for labels in (y == "yes", np.where(y == "yes", -1, 7), np.where(y == "yes", 0.0, 1.0), y.astype(object)):
        model = make("SNGPClassifier", backend, max_iter=5).fit(X, labels)
        assert model.classes_.dtype == model.predict(X).dtype == model.sample_y(X).dtype == labels.dtype
        assert model.predict_dist(X).logpdf(labels).shape == (len(X),)


@each_backend
def test_parameters_changed_after_fit_change_no_prediction(backend):
    model = make("SNGPClassifier", backend, max_iter=5)
    X, y = problem("SNGPClassifier")
    before = outputs(model.fit(X, y), X)
    assert_same(outputs(model.set_params(n_draws=3, mean_field_factor=10.0), X), before)
