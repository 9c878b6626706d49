"""Rates: counts whose exposure is a column of X, against scikit-learn's models of rates and simulation."""

import numpy as np
import pandas as pd
import pytest
from _table import case, each_backend, make
from scipy import sparse, stats
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skuq
from skuq import backends
from skuq.calibration import ConformalRegressor
from skuq.likelihoods import NegativeBinomial, Poisson

LINEAR = {"hidden_layer_sizes": (), "alpha": 0, "max_iter": 2500, "batch_size": 1000}
QUICK = {"hidden_layer_sizes": (8,), "max_iter": 20, "early_stopping": False}


def claims(n=1000, unit=1.0, seed=0):
    """Features, years of exposure and counts of a log-linear rate."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    years = unit * rng.uniform(0.1, 5.0, n)
    rate = 2 / unit * np.exp(0.6 * X[:, 0] - 0.3 * X[:, 1])
    frame = pd.DataFrame({"age": X[:, 0], "years": years, "size": X[:, 1]})
    return frame, rng.poisson(rate * years).astype(float), rate


@each_backend
@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_linear_rates_are_scikit_learns(unit, backend):
    X, y, _ = claims(unit=unit)
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure="years"), **LINEAR).fit(X, y)
    years = X["years"].to_numpy()
    features = X[["age", "size"]].to_numpy()
    reference = PoissonRegressor(alpha=0, tol=1e-9, max_iter=1000)
    reference.fit(features, y / years * unit, sample_weight=years / unit)
    np.testing.assert_allclose(model.coef_, [reference.coef_[0], 0.0, reference.coef_[1]], atol=1e-3)
    assert model.intercept_ == pytest.approx(reference.intercept_ - np.log(unit), abs=1e-3)
    np.testing.assert_allclose(model.predict(X), reference.predict(features) / unit * years, rtol=3e-3)


@each_backend
def test_negative_binomial_rates_are_found(backend):
    X, _, rate = claims(3000)
    rng = np.random.default_rng(1)
    years = X["years"].to_numpy()
    y = rng.poisson(rng.gamma(3.0, rate * years / 3.0)).astype(float)
    model = make("ProbabilisticRegressor", backend, likelihood=NegativeBinomial(exposure=1), **LINEAR)
    model.fit(X.to_numpy(), y)
    np.testing.assert_allclose(model.coef_, [0.6, 0.0, -0.3], atol=0.06)
    parameters = model.predict_dist(X.to_numpy()).parameters
    assert parameters["concentration"][0, 0, 0] == pytest.approx(3.0, rel=0.2)
    np.testing.assert_allclose(parameters["mean"][0, :, 0], rate * years, rtol=0.15)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        case(backend, f"{m}Regressor")
        for backend in backends.BACKENDS
        for m in ("Probabilistic", "MCDropout", "DeepEnsemble", "BNN", "SNGP")
    ],
)
def test_every_answer_is_for_the_rows_own_exposure(name, backend):
    X, y, rate = claims(600)
    model = make(name, backend, likelihood=Poisson(exposure="years"), max_iter=40, early_stopping=False).fit(X, y)
    once, thrice = X.assign(years=1.0), X.assign(years=3.0)
    np.testing.assert_allclose(model.predict(thrice), 3 * model.predict(once), rtol=1e-6)
    assert np.corrcoef(np.log(model.predict(once)), np.log(rate))[0, 1] > 0.9
    mixture = model.predict_dist(thrice)
    np.testing.assert_allclose(mixture.parameters["rate"], 3 * model.predict_dist(once).parameters["rate"], rtol=1e-6)
    np.testing.assert_array_equal(model.predict_interval(thrice), mixture.ppf([0.05, 0.95]))
    noise = model.predict_uncertainty(thrice).aleatoric
    np.testing.assert_allclose(noise, model.predict(thrice), rtol=1e-6)  # a Poisson's variance is its mean
    sample = model.sample_y(thrice, 300)
    np.testing.assert_allclose(sample.mean(), model.predict(thrice).mean(), rtol=0.03)


@each_backend
def test_the_column_is_no_feature(backend):
    # Were it one, rates that differ from the exposure's pattern would follow it.
    X, y, _ = claims(400)
    one = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure="years"), **QUICK).fit(X, y)
    assert (
        np.ptp(one.predict(X.iloc[[0] * 5].assign(years=[0.1, 1.0, 2.0, 4.0, 50.0])) / [0.1, 1.0, 2.0, 4.0, 50.0])
        < 1e-6
    )


@each_backend
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_it_travels_through_pipelines_searches_and_wrappers(backend):
    X, y, _ = claims(300)
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure="years"), **QUICK)
    plain = model.fit(X, y).predict(X)
    piped = make_pipeline(FunctionTransformer(), model).fit(X, y)
    np.testing.assert_array_equal(piped.predict(X), plain)
    search = GridSearchCV(
        model, {"likelihood__exposure": ["years", None]}, cv=2, scoring="neg_mean_poisson_deviance"
    ).fit(X, y)
    assert search.best_params_ == {"likelihood__exposure": "years"}
    held_out = cross_val_predict(model, X, y, cv=2)
    assert np.corrcoef(held_out, X["years"])[0, 1] > 0.3
    for wrapper in (
        ConformalRegressor(model, method="split", conformity_score="normalized", random_state=0),
        skuq.ProbabilisticRegressor(**{**model.get_params(deep=False), "calibration": "conformal"}),
    ):
        interval = wrapper.fit(X, y).predict_interval(X)
        assert np.mean((interval[:, 0] <= y) & (y <= interval[:, 1])) > 0.8
        # Wider for longer exposures.
        assert np.corrcoef(interval[:, 1] - interval[:, 0], X["years"])[0, 1] > 0.3
    by_position = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure=1), **QUICK)
    np.testing.assert_array_equal(by_position.fit(X.to_numpy(), y).predict(X.to_numpy()), plain)
    csr = sparse.csr_array(X.to_numpy())
    assert np.corrcoef(by_position.set_params(input_encoding=None).fit(csr, y).predict(csr), y)[0, 1] > 0.5


@each_backend
def test_exposures_count_in_held_out_scores_and_weights(backend):
    # Twice the rows, or twice the weight, is the same model; members that hold rows out score them for their own exposure.
    X, y, _ = claims(200)
    X = X.assign(years=X["years"] * 10.0 ** np.random.default_rng(3).integers(-1, 3, 200))
    y = np.random.default_rng(4).poisson(2 * X["years"]).astype(float)
    settings = {"likelihood": Poisson(exposure="years"), "max_iter": 30, "hidden_layer_sizes": (8,)}
    model = make("ProbabilisticRegressor", backend, **settings)
    weighted = model.fit(X, y, sample_weight=np.full(200, 2.0)).predict(X)
    repeated = model.fit(pd.concat([X, X]), np.tile(y, 2)).predict(X)
    np.testing.assert_allclose(repeated, weighted, rtol=1e-6)
    np.testing.assert_allclose(weighted.sum(), y.sum(), rtol=0.1)
    # The best that constant rates can reach is 1.4 nats or so; a score that knew no exposures would be hundreds of nats.
    best = -stats.poisson(2 * X["years"]).logpmf(y).mean()
    assert min(model.validation_loss_curve_) < best + 0.5


def test_wrong_exposures_are_said():
    X, y, _ = claims(60)

    def fit(exposure, X=X, y=y):
        make("ProbabilisticRegressor", "auto", likelihood=Poisson(exposure=exposure), **QUICK).fit(X, y)

    with pytest.raises(
        ValueError, match=r"Poisson\(exposure='year'\) names no column of X, which has \['age', 'years', 'size'\]"
    ):
        fit("year")
    with pytest.raises(
        ValueError, match=r"names a column, but X has no column names.*DataFrame, or the column's position"
    ):
        fit("years", X.to_numpy())
    with pytest.raises(ValueError, match=r"exposure=3\): X has 3 columns. Pass a position from 0 to 2"):
        fit(3)
    with pytest.raises(ValueError, match=r"exposure' parameter of Poisson must be"):
        fit(-1)
    with pytest.raises(
        ValueError, match=r"exposure of counts must be positive, got a minimum of 0 in column 'years' \(1 of 60"
    ):
        fit("years", X.assign(years=np.append(np.ones(59), 0.0)))
    with pytest.raises(ValueError, match=r"counts.*For rates, give the counts as y.*Poisson\(exposure='its name'\)"):
        fit(None, y=y / X["years"])
    model = make("ProbabilisticRegressor", "auto", likelihood=Poisson(exposure="years"), **QUICK).fit(X, y)
    with pytest.raises(ValueError, match="exposure of counts must be positive, got a minimum of -1"):
        model.predict(X.assign(years=-1.0))


@each_backend
def test_warm_starts_keep_the_unit_and_a_native_model_is_for_exposure_one(backend):
    X, y, _ = claims(200)
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure="years"), warm_start=True, **QUICK)
    before = model.fit(X, y).predict(X)
    model.set_params(learning_rate_init=1e-9, learning_rate="constant", max_iter=1).fit(X, 3 * y)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-4)
    if backend == "blitz":
        import torch

        mean = model.to_native()(torch.tensor(X.to_numpy())).mean.detach().numpy()
    else:
        mean = model.to_native()(X.to_numpy().astype(np.float32)).mean().numpy()
    np.testing.assert_allclose(mean[:, 0], before / X["years"], rtol=1e-3)
