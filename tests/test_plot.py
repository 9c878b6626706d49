"""Displays: what they keep is what the estimator answers, and what they draw says what it is."""

import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from _table import classification, each_backend, fitted, make, regression
from scipy import sparse, stats
from sklearn.calibration import CalibrationDisplay
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_moons
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import metrics, plot, scorers
from skuq.plot._base import CYCLE

QUICK = {"max_iter": 5, "early_stopping": False}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def regressor(backend="auto", **changes):
    return make("DeepEnsembleRegressor", backend, **QUICK, **changes)


def classifier(backend="auto", **changes):
    return make("DeepEnsembleClassifier", backend, **QUICK, **changes)


def frame(kind=1):
    X, y = regression(kind)
    return pd.DataFrame(X, columns=["age", "dose", "mass"]), y


def composites(backend):
    """A Pipeline and a search of Pipelines, on a frame, and the predictor inside each with the rows that it sees."""
    X, y = frame()
    pipeline = make_pipeline(StandardScaler(), regressor(backend)).fit(X, y)
    search = GridSearchCV(pipeline, {"deepensembleregressor__alpha": [1e-4]}, cv=2).fit(X, y)
    for composite, inner in ((pipeline, pipeline), (search, search.best_estimator_)):
        yield composite, inner[-1], inner[0].transform(X)


def curves(ax):
    """Lines of more than two points, as (n_points, 2) arrays, by label."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if len(line.get_xydata()) > 2}


def assert_labelled(ax):
    assert ax.get_xlabel()
    assert ax.get_ylabel()


# Every display


def every_display(axes=None):
    """All displays, drawn once, by name, each in its own of the axes."""
    X, y = frame()
    model = fitted("DeepEnsembleRegressor", "auto")
    X = X.to_numpy()
    Xc, yc = classification()
    labels = classifier().fit(Xc, yc)
    plane = regressor().fit(X[:, :2], y)
    linear = regressor(hidden_layer_sizes=())
    draw = {
        "PredictionIntervalDisplay": lambda ax: plot.PredictionIntervalDisplay.from_estimator(model, X, y, ax=ax),
        "DrawsDisplay": lambda ax: plot.DrawsDisplay.from_estimator(model, X, y, ax=ax),
        "DensityDisplay": lambda ax: plot.DensityDisplay.from_estimator(model, X, y, ax=ax),
        "CoverageDisplay": lambda ax: plot.CoverageDisplay.from_estimator(model, X, y, ax=ax),
        "PITDisplay": lambda ax: plot.PITDisplay.from_estimator(model, X, y, ax=ax),
        "ReliabilityDisplay": lambda ax: plot.ReliabilityDisplay.from_estimator(labels, Xc, yc, ax=ax),
        "RiskCoverageDisplay": lambda ax: plot.RiskCoverageDisplay.from_estimator(model, X, y, ax=ax),
        "UncertaintySplitDisplay": lambda ax: plot.UncertaintySplitDisplay.from_estimator(model, X, ax=ax),
        "SurfaceDisplay": lambda ax: plot.SurfaceDisplay.from_estimator(plane, X[:, :2], y, grid_resolution=5, ax=ax),
        "LossCurveDisplay": lambda ax: plot.LossCurveDisplay.from_estimator(model, ax=ax),
        "RegularizationPathDisplay": lambda ax: plot.RegularizationPathDisplay.from_estimator(
            linear, X, y, alphas=[0.01, 1], ax=ax
        ),
    }
    return {name: made(None if axes is None else axes[name]) for name, made in draw.items()}


def test_every_display_is_labelled_and_draws_again_where_it_is_told():
    displays = every_display()
    assert sorted(displays) == sorted(plot.__all__)
    for name, display in displays.items():
        assert type(display).__name__ == name
        assert_labelled(display.ax_)
        assert display.figure_ is display.ax_.figure
        _, ax = plt.subplots()
        assert display.plot(ax=ax) is display
        assert display.ax_ is ax, name
        assert_labelled(ax)
        plt.close(ax.figure)


def test_every_display_takes_axes():
    figure = plt.figure()
    axes = dict(zip(plot.__all__, figure.subplots(3, 4).ravel(), strict=False))
    for name, display in every_display(axes).items():
        assert display.ax_ is axes[name], name
        assert display.figure_ is figure
    assert plt.get_fignums() == [figure.number]


def test_colours_are_told_apart_in_lightness_or_by_okabe_and_ito():
    # Their palette, in the order of skuq's; Okabe & Ito 2008.
    assert set(CYCLE) <= {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}


def test_matplotlib_is_imported_when_used_and_its_absence_says_the_extra():
    code = (
        "import sys, skuq.plot; assert 'matplotlib' not in sys.modules; sys.modules['matplotlib'] = None; "
        "sys.modules['matplotlib.pyplot'] = None\n"
        "try: skuq.plot.PITDisplay.from_predictions([0.0], ([0.0], [1.0]))\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert "skuq[plot]" in done.stdout


# Intervals, draws, densities


@each_backend
def test_intervals_are_those_of_the_estimator_inside(backend):
    X, y = frame()
    for composite, inner, Z in composites(backend):
        display = plot.PredictionIntervalDisplay.from_estimator(
            composite, X, y, coverage=[0.9, 0.5], feature="dose", unit="m", feature_unit="mg"
        )
        np.testing.assert_array_equal(display.coverages, [0.5, 0.9])
        np.testing.assert_array_equal(display.intervals, inner.predict_interval(Z, coverage=[0.5, 0.9]))
        np.testing.assert_array_equal(display.y_pred, inner.predict(Z))
        np.testing.assert_array_equal(display.position, X["dose"])
        assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("dose [mg]", "y [m]")


def test_intervals_stand_in_the_order_of_y_and_count_the_rows_outside():
    X, y = frame()
    y = pd.Series(y, name="height")
    model = regressor().fit(X, y)
    display = plot.PredictionIntervalDisplay.from_estimator(model, X, y, coverage=0.5)
    np.testing.assert_array_equal(y.to_numpy()[np.argsort(display.position)], np.sort(y))
    share = 1 - metrics.coverage(y, model.predict_interval(X, coverage=0.5))
    labels = display.ax_.get_legend_handles_labels()[1]
    assert f"y outside ({share:.0%})" in labels
    assert display.ax_.get_xlabel() == "rows in the order of height"
    assert plot.PredictionIntervalDisplay.from_estimator(model, X).ax_.get_xlabel().endswith("the prediction")


def test_intervals_of_one_feature_are_a_band_and_of_a_category_stand_side_by_side():
    X, y = frame()
    one = regressor().fit(X[["age"]], y)
    assert plot.PredictionIntervalDisplay.from_estimator(one, X[["age"]], y).kind == "band"
    city = np.array(["Rome", "Oslo"])[np.arange(len(y)) % 2]
    ax = plot.PredictionIntervalDisplay.from_predictions(y, one.predict_interval(X[["age"]]), x=city).ax_
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["Oslo", "Rome"]


def test_one_of_several_outputs_is_chosen_by_output():
    X, y = regression(2)
    model = regressor().fit(X, y)
    with pytest.raises(ValueError, match="Pass output=0 … 1"):
        plot.PredictionIntervalDisplay.from_estimator(model, X, y)
    second = plot.PredictionIntervalDisplay.from_estimator(model, X, y, output=1)
    np.testing.assert_array_equal(second.intervals[..., 0], model.predict_interval(X)[:, 1])
    assert plot.DrawsDisplay.from_estimator(model, X, y, output=0).samples.shape == (len(X), 20)
    np.testing.assert_array_equal(
        plot.PITDisplay.from_estimator(model, X, y, output=1).pit, metrics.pit(y, model.predict_dist(X))[:, 1]
    )
    both = metrics.coverage(y, model.predict_dist(X), coverage=0.5, multioutput="raw_values")
    for source in (model.predict_dist(X), model.predict_interval(X, coverage=[0.5])):
        found = plot.CoverageDisplay.from_predictions(y, source, coverages=[0.5], output=1).observed
        np.testing.assert_allclose(found, both[1:])
    density = plot.DensityDisplay.from_estimator(model, X, y, output=1, row=2)
    assert density.mean == pytest.approx(model.predict(X)[2, 1])
    split = plot.UncertaintySplitDisplay.from_estimator(model, X, output=1)
    np.testing.assert_array_equal(split.epistemic, model.predict_uncertainty(X).epistemic[:, 1])
    risk = plot.RiskCoverageDisplay.from_estimator(model, X, y, output=1)
    assert risk.risk[-1] == pytest.approx(np.mean(np.abs(y - model.predict(X))[:, 1]))


def test_transformed_targets_have_intervals_and_draws_in_their_own_units():
    X, y = regression()
    model = TransformedTargetRegressor(regressor(), func=np.negative, inverse_func=np.negative).fit(X, y)
    display = plot.PredictionIntervalDisplay.from_estimator(model, X, y)
    np.testing.assert_array_equal(display.intervals[..., 0], skuq.predict_interval(model, X))
    samples = plot.DrawsDisplay.from_estimator(model, X, y, n_samples=3).samples
    np.testing.assert_array_equal(samples, skuq.sample_y(model, X, 3))


@each_backend
def test_draws_are_those_of_sample_y(backend):
    X, y = frame()
    for composite, inner, Z in composites(backend):
        display = plot.DrawsDisplay.from_estimator(composite, X, y, n_samples=4, random_state=3, unit="m")
        np.testing.assert_array_equal(display.samples, inner.sample_y(Z, 4, random_state=3))
        # The cumulative curve of the targets is scipy's.
        expected = stats.ecdf(y).cdf
        drawn = curves(display.ax_)["y"]
        np.testing.assert_allclose(drawn[:, 0], expected.quantiles)
        np.testing.assert_allclose(drawn[:, 1], expected.probabilities)
        beside = plot.DrawsDisplay.from_estimator(composite, X, y, feature=1)
        np.testing.assert_array_equal(beside.position, X["dose"])
        assert beside.ax_.get_xlabel() == "dose"


def test_densities_are_those_of_scipy():
    mean, std = np.array([0.0, 5.0]), np.array([1.0, 2.0])
    for y_pred in ((mean, std), stats.norm(mean, std)):
        display = plot.DensityDisplay.from_predictions(y_pred, [0.0, 4.0], row=-1, coverage=0.8, unit="cm")
        np.testing.assert_allclose(display.density, stats.norm.pdf(display.values, 5, 2))
        np.testing.assert_allclose(display.interval, stats.norm.interval(0.8, 5, 2))
        assert (display.mean, display.y_true) == (5, 4)
    counts = plot.DensityDisplay.from_predictions(stats.poisson([3.0, 40.0]), row=0)
    np.testing.assert_allclose(counts.density, stats.poisson.pmf(counts.values, 3))
    assert counts.discrete
    assert counts.ax_.get_ylabel() == "probability"


@each_backend
def test_density_of_a_row_is_that_of_its_predict_dist_and_has_mass_one(backend):
    X, _ = frame()
    for composite, inner, Z in composites(backend):
        display = plot.DensityDisplay.from_estimator(composite, X, row=5)
        dist = inner.predict_dist(Z)[5]
        expected = [dist.pdf(value)[0] for value in display.values[::40]]
        np.testing.assert_allclose(display.density[::40], expected)
        assert np.trapezoid(display.density, display.values) == pytest.approx(1, abs=0.01)


def test_zeros_of_their_own_are_drawn_as_mass():
    X, y = regression()
    y = np.where(y > 10, y, 0)
    model = make("ProbabilisticRegressor", "auto", likelihood="zero_inflated_gamma", **QUICK).fit(X, y)
    display = plot.DensityDisplay.from_estimator(model, X, y, row=1)
    value, mass = display.atom
    assert value == 0
    assert mass == pytest.approx(model.predict_dist(X).cdf(0)[1])
    assert np.trapezoid(display.density, display.values) == pytest.approx(1 - mass, abs=0.02)


# Calibration


@each_backend
def test_coverage_is_that_of_the_metric(backend):
    X, y = frame()
    weight = np.arange(1.0, len(y) + 1)
    for composite, inner, Z in composites(backend):
        display = plot.CoverageDisplay.from_estimator(composite, X, y, coverages=[0.9, 0.2], sample_weight=weight)
        expected = [
            metrics.coverage(y, inner.predict_interval(Z, coverage=level), sample_weight=weight) for level in (0.2, 0.9)
        ]
        np.testing.assert_allclose(display.observed, expected)
        np.testing.assert_allclose(
            curves(plot.CoverageDisplay.from_estimator(inner, Z, y).ax_).popitem()[1].shape, (19, 2)
        )
    assert display.name == "DeepEnsembleRegressor"


def test_coverage_of_a_calibrated_normal_lies_in_the_band_of_chance_and_of_others_not():
    rng = np.random.default_rng(0)
    y, mean = rng.normal(size=2000), np.zeros(2000)
    ax = plot.CoverageDisplay.from_predictions(y, (mean, np.ones(2000))).ax_
    plot.CoverageDisplay.from_predictions(y, (mean, np.full(2000, 2.0)), name="too wide", ax=ax)
    band = ax.collections[0].get_paths()[0]
    inside = {name: band.contains_points(points).mean() for name, points in curves(ax).items()}
    assert inside["observed"] > 0.85
    assert inside["too wide"] == 0
    # A second curve adds no second diagonal.
    assert len(ax.collections) == 1


@each_backend
def test_pit_is_that_of_the_metric_and_its_bars_are_shares(backend):
    X, y = frame()
    weight = np.arange(len(y)) + 1.0
    for composite, inner, Z in composites(backend):
        display = plot.PITDisplay.from_estimator(composite, X, y, n_bins=5, sample_weight=weight)
        np.testing.assert_array_equal(display.pit, metrics.pit(y, inner.predict_dist(Z)))
        heights = [bar.get_height() for bar in display.ax_.patches]
        expected = np.histogram(display.pit, 5, (0, 1), weights=weight)[0] / weight.sum()
        np.testing.assert_allclose(heights, expected)


def test_reliability_of_one_class_is_that_of_scikit_learn():
    X, y = make_moons(400, noise=0.4, random_state=0)
    model = LogisticRegression().fit(X, y)
    theirs = CalibrationDisplay.from_estimator(model, X, y, n_bins=8)
    ours = plot.ReliabilityDisplay.from_estimator(model, X, y, n_bins=8, pos_label=1)
    np.testing.assert_allclose(ours.confidence, theirs.prob_pred)
    np.testing.assert_allclose(ours.frequency, theirs.prob_true)


@each_backend
def test_reliability_has_the_error_of_the_metric_and_wilsons_interval(backend):
    X, y = classification(3)
    model = make_pipeline(StandardScaler(), classifier(backend)).fit(X, y)
    display = plot.ReliabilityDisplay.from_estimator(model, X, y)
    error = np.sum(display.mass * np.abs(display.confidence - display.frequency))
    assert error == pytest.approx(metrics.ece(y, model.predict_proba(X), n_bins=10, labels=model.classes_))
    segments = display.ax_.collections[0].get_segments()
    for frequency, mass, segment in zip(display.frequency, display.mass, segments, strict=True):
        n = round(mass * len(y))
        expected = stats.binomtest(round(frequency * n), n).proportion_ci(method="wilson")
        np.testing.assert_allclose(np.asarray(segment)[:, 1], expected, atol=1e-6)


# Uncertainty


@each_backend
def test_risk_is_that_of_the_metric(backend):
    X, y = classification()
    model = make_pipeline(StandardScaler(), classifier(backend)).fit(X, y)
    probabilities = model.predict_proba(X)
    display = plot.RiskCoverageDisplay.from_estimator(model, X, y)
    area = np.sum(np.diff(display.coverage, prepend=0) * display.risk)
    assert area == pytest.approx(metrics.aurc(y, probabilities, labels=model.classes_))
    assert display.risk[-1] == pytest.approx(1 - model.score(X, y))
    by_part = plot.RiskCoverageDisplay.from_estimator(model, X, y, uncertainty="epistemic")
    epistemic = skuq.predict_uncertainty(model, X).epistemic
    expected = metrics.risk_coverage_curve(model.predict(X) != y, epistemic)
    np.testing.assert_array_equal(by_part.threshold, expected.threshold)
    np.testing.assert_allclose(by_part.risk, expected.risk)
    with pytest.raises(ValueError, match="'total', 'aleatoric', 'epistemic'"):
        plot.RiskCoverageDisplay.from_estimator(model, X, y, uncertainty="entropy")


def test_no_order_of_the_rows_is_below_the_oracle():
    rng = np.random.default_rng(0)
    loss = rng.exponential(size=50)
    ax = plot.RiskCoverageDisplay.from_predictions(loss, rng.random(50)).ax_
    drawn = curves(ax)
    oracle = drawn["refused by the loss itself"]
    (own,) = (points for label, points in drawn.items() if label.startswith("refused by uncertainty"))
    assert (np.interp(own[:, 0], *oracle.T) <= own[:, 1] + 1e-9).all()
    # Of errors 0 and 1 the best order keeps the right ones first: (c − accuracy) / c.
    ax = plot.RiskCoverageDisplay.from_predictions([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4]).ax_
    share, risk = curves(ax)["refused by the loss itself"].T
    np.testing.assert_allclose(risk, np.maximum(0, share - 0.75) / share, atol=1e-9)


@each_backend
def test_split_is_that_of_the_estimator_inside(backend):
    X, _ = frame()
    for composite, inner, Z in composites(backend):
        display = plot.UncertaintySplitDisplay.from_estimator(composite, X, X_ood=X + 5, unit="kg/m")
        expected = inner.predict_uncertainty(Z)
        np.testing.assert_array_equal(display.aleatoric[: len(X)], expected.aleatoric)
        np.testing.assert_array_equal(display.epistemic[: len(X)], expected.epistemic)
        assert display.group[-1] == "out of the domain"
        assert display.ax_.get_xlabel() == "aleatoric variance [(kg/m)²]"
    Xc, yc = classification()
    model = classifier(backend).fit(Xc, yc)
    assert plot.UncertaintySplitDisplay.from_estimator(model, Xc, group=yc).ax_.get_ylabel() == (
        "epistemic uncertainty [nats]"
    )


def test_methods_without_epistemic_uncertainty_are_drawn_too():
    X, y = regression()
    model = make("ProbabilisticRegressor", "auto", **QUICK).fit(X, y)
    for scale in ("log", "linear"):
        display = plot.UncertaintySplitDisplay.from_estimator(model, X, scale=scale)
        assert not display.epistemic.any()
        display.figure_.canvas.draw()


@each_backend
def test_surface_is_what_the_model_says_of_each_point(backend):
    X, y = make_moons(60, noise=0.1, random_state=0)
    X = pd.DataFrame(X, columns=["east", "north"])
    model = make_pipeline(StandardScaler(), classifier(backend)).fit(X, y)
    foreign = pd.DataFrame([[4.0, -3.0]], columns=X.columns)
    grids = {}
    for response in ("auto", "confidence", "total", "epistemic"):
        display = plot.SurfaceDisplay.from_estimator(model, X, y, X_ood=foreign, response=response, grid_resolution=7)
        grids[response] = display.response
    points = pd.DataFrame({"east": display.xx0.ravel(), "north": display.xx1.ravel()})
    probability = model.predict_proba(points)
    np.testing.assert_array_equal(grids["auto"].ravel(), probability[:, 1])
    np.testing.assert_array_equal(grids["confidence"].ravel(), probability.max(axis=1))
    np.testing.assert_array_equal(grids["epistemic"].ravel(), skuq.predict_uncertainty(model, points).epistemic)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("east", "north")
    # The foreign row is in the picture, and each cell has its point in the middle.
    assert display.xx0.max() > 4
    west, east, *_ = display.image_.get_extent()
    step = display.xx0[0, 1] - display.xx0[0, 0]
    assert (west, east) == pytest.approx((display.xx0.min() - step / 2, display.xx0.max() + step / 2))


def test_surface_of_a_regressor_and_its_errors():
    X, y = regression()
    model = regressor().fit(X[:, :2], y)
    display = plot.SurfaceDisplay.from_estimator(model, X[:, :2], y, response="std", grid_resolution=5, unit="m")
    points = np.column_stack([display.xx0.ravel(), display.xx1.ravel()])
    np.testing.assert_array_equal(display.response.ravel(), model.predict(points, return_std=True)[1])
    assert display.response_name == "standard deviation of y [m]"
    with pytest.raises(ValueError, match="two features, got X of shape"):
        plot.SurfaceDisplay.from_estimator(model, X, y)
    with pytest.raises(ValueError, match="response must be one of 'auto', 'mean', 'std'"):
        plot.SurfaceDisplay.from_estimator(model, X[:, :2], y, response="probability")


# Training


@each_backend
def test_loss_curves_are_the_estimators(backend):
    X, y = frame()
    model = make("DeepEnsembleRegressor", backend, max_iter=30).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), make("DeepEnsembleRegressor", backend, max_iter=30)).fit(X, y)
    for estimator, inner in ((model, model), (pipeline, pipeline[-1])):
        display = plot.LossCurveDisplay.from_estimator(estimator)
        np.testing.assert_array_equal(display.loss, inner.loss_curve_)
        np.testing.assert_array_equal(display.validation_loss, inner.validation_loss_curve_)
        assert display.validation_epochs[-1] == pytest.approx(inner.n_iter_)
        assert display.ax_.get_ylabel() == "loss [nats a row]"
    with pytest.raises(TypeError, match="LinearRegression has no loss_curve_"):
        plot.LossCurveDisplay.from_estimator(LinearRegression().fit(X, y))


def test_loss_curves_of_scikit_learn():
    X, y = regression()
    theirs = MLPRegressor(solver="adam", tol=1e3, random_state=0).fit(X, y)
    display = plot.LossCurveDisplay.from_estimator(theirs)
    np.testing.assert_array_equal(display.loss, theirs.loss_curve_)
    assert display.validation_loss is None


def test_path_of_a_linear_model_is_the_lassos():
    X, y = frame()
    linear = make(
        "ProbabilisticRegressor",
        "auto",
        hidden_layer_sizes=(),
        regularizer="l1",
        likelihood=skuq.likelihoods.Normal(scale=1.0),
        max_iter=None,
    )
    alphas = [0.3, 0.05]
    model = make_pipeline(StandardScaler(), linear)
    neg_nll = scorers.get_scorer("neg_nll")
    display = plot.RegularizationPathDisplay.from_estimator(
        model, X, y, alphas=alphas, X_test=X, y_test=y, scoring=neg_nll, unit="m"
    )
    np.testing.assert_array_equal(display.alphas, [0.05, 0.3])
    Z = StandardScaler().fit_transform(X)
    scale = y.std()
    expected = [Lasso(alpha=alpha).fit(Z, (y - y.mean()) / scale).coef_ * scale for alpha in display.alphas]
    np.testing.assert_allclose(display.coef, expected, atol=0.02 * scale)
    np.testing.assert_array_equal(display.selected, np.array(expected) != 0)
    assert display.names == ["age", "dose", "mass"]
    assert display.score.shape == (2,)
    assert "[m]" in display.ax_.get_ylabel()


def test_path_of_a_network_says_which_features_are_left():
    X, y = regression()
    network = make("ProbabilisticRegressor", "auto", regularizer="l1", hidden_layer_sizes=(4,), max_iter=60)
    display = plot.RegularizationPathDisplay.from_estimator(network, X, y, alphas=[0.0, 30.0])
    assert display.coef is None
    assert display.selected[0].all()
    assert not display.selected[1].any()
    assert display.n_nonzero_weights[0] > display.n_nonzero_weights[1] == 0
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["feature 0", "feature 1", "feature 2"]
    with pytest.raises(ValueError, match="kind='coef' needs a linear model"):
        plot.RegularizationPathDisplay.from_estimator(network, X, y, alphas=[0.1], kind="coef")
    with pytest.raises(ValueError, match="LinearRegression has no parameter 'alpha'"):
        plot.RegularizationPathDisplay.from_estimator(LinearRegression(), X, y, alphas=[0.1])
    with pytest.raises(TypeError, match="Lasso has no selected_features_"):
        plot.RegularizationPathDisplay.from_estimator(Lasso(), X, y, alphas=[0.1])


# Errors


def test_errors_say_what_was_expected():
    X, y = frame()
    interval = np.stack([y - 1, y + 1], axis=1)
    for call, error, message in (
        (lambda: plot.PredictionIntervalDisplay.from_predictions(y, interval, coverage=90), ValueError, "coverage=0.9"),
        (
            lambda: plot.PredictionIntervalDisplay.from_predictions(y, interval, coverage=[0.5, 0.9]),
            ValueError,
            "intervals must have",
        ),
        (lambda: plot.PredictionIntervalDisplay.from_predictions(y[:5], interval), ValueError, "for each of 96 rows"),
        (
            lambda: plot.PredictionIntervalDisplay.from_predictions(y, interval, kind="area"),
            ValueError,
            "'bars', 'band'",
        ),
        (lambda: plot.CoverageDisplay.from_predictions(y, interval), ValueError, "3 dimensions"),
        (lambda: plot.PITDisplay.from_predictions(y, (y, np.ones(96)), n_bins=0), ValueError, "n_bins"),
        (lambda: plot.DensityDisplay.from_predictions((y, np.ones(96)), row=96), ValueError, "one of 96 rows"),
        (lambda: plot.DrawsDisplay.from_predictions(None, np.array([["a"], ["b"]])), TypeError, "must be numbers"),
        (lambda: plot.ReliabilityDisplay.from_estimator(LinearRegression().fit(X, y), X, y), TypeError, "classifiers"),
        (lambda: plot.UncertaintySplitDisplay.from_predictions((y, y)), ValueError, "total, aleatoric, epistemic"),
        (lambda: plot.PITDisplay.from_estimator(LinearRegression().fit(X, y), X, y), TypeError, "has no predict_dist"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_displays_of_numbers_say_no_to_classifiers():
    X, y = classification()
    codes = (y == "yes").astype(int)
    model = make_pipeline(StandardScaler(), classifier()).fit(X, codes)
    for display in (
        plot.PredictionIntervalDisplay,
        plot.DrawsDisplay,
        plot.DensityDisplay,
        plot.CoverageDisplay,
        plot.PITDisplay,
    ):
        with pytest.raises(TypeError, match=f"{display.__name__} shows predictions of a number, got the classifier"):
            display.from_estimator(model, X, codes)
    with pytest.raises(TypeError, match="got class probabilities"):
        plot.DensityDisplay.from_predictions(skuq.predict_dist(model, X))
    with pytest.raises(ValueError, match="one distribution for each row"):
        plot.DensityDisplay.from_predictions(stats.norm(0, 1))
    with pytest.raises(ValueError, match=r"must be \(mean, std\)"):
        plot.DensityDisplay.from_predictions((codes, codes, codes))


def test_features_are_found_by_name_or_position():
    X, y = frame()
    model = regressor().fit(X.to_numpy(), y)
    rows = sparse.csr_array(X.to_numpy())
    display = plot.PredictionIntervalDisplay.from_estimator(model, rows, y, feature=1)
    np.testing.assert_array_equal(display.position, X["dose"])
    assert display.ax_.get_xlabel() == "feature 1"
    with pytest.raises(ValueError, match="no column names"):
        plot.PredictionIntervalDisplay.from_estimator(model, X.to_numpy(), y, feature="dose")
    with pytest.raises(ValueError, match="feature=7 is no column"):
        plot.PredictionIntervalDisplay.from_estimator(model, X.to_numpy(), y, feature=7)
    named = regressor().fit(X, y)
    with pytest.raises(ValueError, match="feature='size' is no column of X, which has the columns"):
        plot.PredictionIntervalDisplay.from_estimator(named, X, y, feature="size")
