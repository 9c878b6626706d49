"""Rates: counts whose exposure is a column of X, against scikit-learn's models of rates and simulation."""

import pickle

import numpy as np
import pandas as pd
import pytest
from _table import case, each_backend, make
from scipy import sparse, stats
from sklearn.base import clone
from sklearn.linear_model import PoissonRegressor
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skuq
from skuq import backends
from skuq.calibration import ConformalRegressor
from skuq.likelihoods import (
    Likelihood,
    NegativeBinomial,
    Parameter,
    Poisson,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)

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
@pytest.mark.parametrize(("unit", "standardize"), [(1.0, True), (1.0, False), (1e-9, True), (1e9, True)])
def test_linear_rates_are_scikit_learns(unit, standardize, backend):
    X, y, _ = claims(unit=unit)
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure="years"), **LINEAR)
    model.set_params(standardize=standardize).fit(X, y)
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
    model.set_params(max_iter=600).fit(X.to_numpy(), y)
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


def many_decades(n=96, concentration=None, n_outputs=1, seed=0):
    """Rows whose exposures, in the second column, spread over three decades; counts and their means."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(n, 3))
    X[:, 1] = 10 ** rng.uniform(-1, 2, size=n)
    rate = np.exp(0.5 + np.outer(X[:, 0], [1.0, -0.5][:n_outputs]) - 0.7 * X[:, 2:])
    mean = rate * X[:, [1]]
    y = rng.poisson(mean if concentration is None else rng.gamma(concentration, mean / concentration)).astype(float)
    return (X, y[:, 0], mean[:, 0]) if n_outputs == 1 else (X, y, mean)


@each_backend
def test_warm_starts_keep_the_unit(backend):
    X, y, _ = claims(200)
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure="years"), warm_start=True, **QUICK)
    before = model.fit(X, y).predict(X)
    model.set_params(learning_rate_init=1e-9, learning_rate="constant", max_iter=1).fit(X, 3 * y)
    np.testing.assert_allclose(model.predict(X), before, rtol=1e-4)


@each_backend
def test_a_negative_binomial_scores_as_the_truth(backend):
    X, y, _ = many_decades(3000, concentration=3.0)
    likelihood = NegativeBinomial(exposure=1)
    model = skuq.ProbabilisticRegressor(likelihood=likelihood, backend=backend, random_state=0, max_iter=60).fit(X, y)
    X, y, mean = many_decades(4000, concentration=3.0, seed=1)
    truth = stats.nbinom(3.0, 3.0 / (3.0 + mean)).logpmf(y).mean()
    assert -model.predict_dist(X).logpdf(y).mean() < -truth + 0.02


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_training_starts_at_the_moments_of_counts_given_their_exposures(unit):
    # Without features Σ (y − e m)² / e less Σ y / e, whose expectation is Σ e m² / r, says r whatever the unit of e.
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(5000, 2))
    e = 10 ** rng.uniform(-1, 2, size=5000)
    y = rng.poisson(rng.gamma(3.0, 2 * e / 3.0)).astype(float)
    X[:, 1] = unit * e
    frozen = {"learning_rate_init": 1e-12, "learning_rate": "constant", "max_iter": 1, "hidden_layer_sizes": ()}
    model = make("ProbabilisticRegressor", "auto", likelihood=NegativeBinomial(exposure=1), **frozen).fit(X, y)
    m = y.sum() / e.sum()
    expected = m**2 * e.sum() / ((y - e * m) ** 2 / e - m).sum()
    parameters = model.predict_dist(X).parameters
    assert parameters["concentration"][0, 0, 0] == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(3.0, rel=0.1)
    assert parameters["mean"].sum() == pytest.approx(y.sum(), rel=0.3)


def native_mean(native, backend, X):
    """Means that a native model gives rows, (n_rows, n_outputs)."""
    if backend == "blitz":
        import torch

        outputs = native(torch.tensor(X))
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        return outputs.mean.detach().numpy()
    outputs = native(X)
    return (outputs[0] if isinstance(outputs, list) else outputs).mean().numpy()


@each_backend
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_native_model_is_for_the_rows_own_exposure(n_outputs, backend):
    X, y, _ = many_decades(n_outputs=n_outputs)
    model = make("ProbabilisticRegressor", backend, likelihood=NegativeBinomial(exposure=1), max_iter=5).fit(X, y)
    native = model.to_native()
    mean = native_mean(native, backend, X)
    expected = model.predict(X)
    np.testing.assert_allclose(mean, expected.reshape(mean.shape), rtol=1e-4)
    np.testing.assert_allclose(model.from_native(native).predict(X), expected, rtol=1e-6)


@each_backend
@pytest.mark.parametrize("method", ["DeepEnsemble", "BNN", "SNGP"])
def test_native_models_of_every_method_multiply_by_the_exposure(method, backend):
    X, y, _ = many_decades()
    model = make(f"{method}Regressor", backend, likelihood=Poisson(exposure=1), max_iter=5).fit(X, y)
    native = model.to_native()
    native = native[0] if isinstance(native, list) else native
    if method == "BNN" and backend == "blitz":
        native.freeze_()
    row = np.repeat(X[:1], 4, axis=0)
    row[:, 1] = [0.1, 1.0, 7.0, 100.0]
    # One forward pass has one set of weights for all rows.
    rates = native_mean(native, backend, row)[:, 0] / row[:, 1]
    np.testing.assert_allclose(rates, rates[0], rtol=1e-5)


@each_backend
def test_the_column_is_neither_encoded_nor_selected(backend):
    X, y, _ = many_decades()
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure=1), max_iter=2).fit(X, y)
    assert model.encoded_features_.tolist() == [True, False, True]
    assert model.selected_features_.tolist() == [True, False, True]
    frame = pd.DataFrame(X, columns=["a", "years", "b"])
    linear = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure="years"), **LINEAR)
    linear.set_params(max_iter=2).fit(frame, y)
    assert linear.selected_features_.tolist() == [True, False, True]
    assert linear.coef_[1] == 0
    # 64 features are as many as "auto" encodes; the exposure is no 65th.
    wide = np.random.default_rng(0).normal(size=(40, 65))
    wide[:, 64] = np.exp(wide[:, 64])
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure=64), max_iter=1)
    assert model.fit(wide, y[:40]).encoded_features_.sum() == 64


@each_backend
@pytest.mark.parametrize("encoding", ["auto", None])
def test_sparse_rows_are_dense_ones_to_the_last_bit(encoding, backend):
    X, y, _ = many_decades()
    X[np.abs(X) < 0.5] = 0.0
    X[:, 1] = np.where(X[:, 1] == 0, 0.25, X[:, 1])
    model = make("ProbabilisticRegressor", backend, likelihood=NegativeBinomial(exposure=1), max_iter=5)
    model.set_params(input_encoding=encoding)
    dense = model.fit(X, y).predict_interval(X)
    for kind in (sparse.csr_matrix, sparse.csc_array):
        rows = kind(X)
        np.testing.assert_array_equal(model.predict_interval(rows), dense)
        np.testing.assert_array_equal(clone(model).fit(rows, y).predict_interval(rows), dense)


@each_backend
def test_conformal_intervals_of_a_named_column_are_those_of_its_position(backend):
    X, y, _ = many_decades()
    frame = pd.DataFrame(X, columns=["a", "years", "b"])
    settings = {"calibration": "conformal", "max_iter": 5}
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure=1), **settings).fit(X, y)
    named = clone(model).set_params(likelihood__exposure="years").fit(frame, y)
    np.testing.assert_array_equal(named.predict_interval(frame), model.predict_interval(X))
    assert named.likelihood.exposure == "years"
    longer = named.predict_interval(frame.assign(years=100 * frame["years"]))
    assert np.all(np.diff(longer) > np.diff(named.predict_interval(frame)))


@each_backend
def test_several_counts_share_their_exposure(backend):
    X, y, mean = many_decades(600, n_outputs=2)
    model = make("ProbabilisticRegressor", backend, likelihood=Poisson(exposure=1), max_iter=100).fit(X, y)
    assert model.predict(X).shape == y.shape
    assert np.corrcoef(np.log(model.predict(X)).ravel(), np.log(mean).ravel())[0, 1] > 0.98


@each_backend
def test_copies_and_pickles_keep_the_column(backend):
    X, y, _ = many_decades()
    frame = pd.DataFrame(X, columns=["a", "years", "b"])
    model = make("ProbabilisticRegressor", backend, likelihood=NegativeBinomial(exposure="years"), max_iter=5)
    expected = model.fit(frame, y).predict(frame)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame), expected)
    assert clone(again).likelihood.exposure == "years"
    np.testing.assert_array_equal(clone(again).fit(frame, y).predict(frame), expected)
    # What is set after fit changes no prediction.
    again.likelihood.set_params(exposure="a")
    np.testing.assert_array_equal(again.predict(frame), expected)
    # Rows move with their column.
    moved = frame[["years", "b", "a"]]
    assert np.corrcoef(np.log(clone(model).fit(moved, y).predict(moved)), np.log(expected))[0, 1] > 0.9


@each_backend
def test_weight_two_is_two_copies(backend):
    X, y, _ = many_decades()
    weight = np.random.default_rng(0).integers(0, 3, len(y))
    # A row that does not count may have no exposure.
    X[weight == 0, 1] = 0.0
    model = make("ProbabilisticRegressor", backend, likelihood=NegativeBinomial(exposure=1), max_iter=10)
    weighted = clone(model).fit(X, y, sample_weight=weight).predict(X[weight > 0])
    repeated = clone(model).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight)).predict(X[weight > 0])
    np.testing.assert_allclose(weighted, repeated, rtol=1e-4)


class Own(Likelihood):
    """Poisson counts as a user writes them, with a column of exposures."""

    target_transform = "count"
    discrete = True
    support = (0.0, np.inf)

    def __init__(self, exposure=None):
        self.exposure = exposure

    def parameters(self):
        return (Parameter("mu", "exp", "input", in_units=True),)

    def log_density(self, xp, y, parameters):
        return xp.xlogy(y, parameters["mu"]) - parameters["mu"] - xp.lgamma(y + 1)

    def distribution(self, parameters):
        return stats.poisson(parameters["mu"])


@each_backend
def test_a_likelihood_of_ones_own_may_have_an_exposure(backend):
    X, y, _ = claims()
    settings = {**LINEAR, "max_iter": 800}
    own, poisson = (
        make("ProbabilisticRegressor", backend, likelihood=family(exposure="years"), **settings).fit(X, y)
        for family in (Own, Poisson)
    )
    np.testing.assert_allclose(own.predict(X), poisson.predict(X), rtol=2e-3)


def test_an_exposure_needs_a_parameter_that_goes_with_it():
    class Still(Own):
        def parameters(self):
            return (Parameter("mu", "exp", "input"),)

    with pytest.raises(ValueError, match="has an exposure, got no parameter that goes with it"):
        make("ProbabilisticRegressor", "auto", likelihood=Still(exposure=1)).fit(*many_decades()[:2])


@pytest.mark.parametrize("likelihood", [Poisson, NegativeBinomial])
def test_exposures_out_of_range_are_said_and_leave_nothing_fitted(likelihood):
    X, y, _ = many_decades()
    model = make("ProbabilisticRegressor", "auto", likelihood=likelihood(exposure=1))
    X[3, 1] = 1e-30
    with pytest.raises(ValueError, match=r"must lie between 1e-20 and 1e\+20, got values between 1e-30.*another unit"):
        model.fit(X, y)
    X[3, 1] = 0.0
    with pytest.raises(ValueError, match=r"minimum of 0 in column 1 \(1 of 96 rows"):
        model.fit(X, y)
    assert not hasattr(model, "n_features_in_")


@pytest.mark.parametrize("likelihood", [ZeroInflatedPoisson, ZeroInflatedNegativeBinomial])
def test_hurdle_counts_take_none_and_say_which_do(likelihood):
    X, y, _ = many_decades()
    with pytest.raises(ValueError, match="Poisson"):
        make("ProbabilisticRegressor", "auto", likelihood=likelihood()).fit(X, y / X[:, 1])
    with pytest.raises(ValueError, match="Invalid parameter 'exposure'"):
        likelihood().set_params(exposure=1)
