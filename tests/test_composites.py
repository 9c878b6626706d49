"""skuq's functions through what scikit-learn and imbalanced-learn put around an estimator, and words of other libraries."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from _table import classification, each_backend, fitted, make, regression
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFE, RFECV
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    LearningCurveDisplay,
    TunedThresholdClassifierCV,
    ValidationCurveDisplay,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

import skuq
from skuq import scorers
from skuq.calibration import ConformalClassifier, ConformalRegressor

QUICK = {"max_iter": 5, "early_stopping": False}


def small(name="ProbabilisticClassifier", backend="auto", **changes):
    return make(name, backend, **QUICK, **changes)


# Wrappers


class Resampler(BaseEstimator):
    """As imbalanced-learn's: has fit_resample and no transform."""

    def fit_resample(self, X, y):
        return np.concatenate([X, X]), np.concatenate([y, y])


class ResamplingPipeline(Pipeline):
    """As imbalanced-learn's: resamples in fit, skips that step in prediction."""

    def fit(self, X, y):
        for _, step in self.steps[:-1]:
            X, y = step.fit_resample(X, y) if hasattr(step, "fit_resample") else (step.fit(X, y).transform(X), y)
        self.steps[-1][1].fit(X, y)
        return self

    def _validate_steps(self):
        pass


def assert_same_answers(composite, X, inner, Z):
    np.testing.assert_array_equal(skuq.predict_uncertainty(composite, X).total, inner.predict_uncertainty(Z).total)
    np.testing.assert_array_equal(skuq.predict_set(composite, X, coverage=0.8), inner.predict_set(Z, coverage=0.8))
    np.testing.assert_array_equal(skuq.predict_dist(composite, X).mean(), inner.predict_proba(Z))
    np.testing.assert_array_equal(skuq.predict(composite, X), composite.predict(X))


@each_backend
def test_steps_that_resample_are_skipped(backend):
    X, y = classification()
    steps = [("scale", StandardScaler()), ("more", Resampler()), ("rest", None), ("model", small(backend=backend))]
    pipeline = ResamplingPipeline([step for step in steps if step[1] is not None]).fit(X, y)
    inner, Z = pipeline[-1], pipeline[0].transform(X)
    np.testing.assert_array_equal(skuq.predict_uncertainty(pipeline, X).total, inner.predict_uncertainty(Z).total)
    np.testing.assert_array_equal(skuq.predict_set(pipeline, X), inner.predict_set(Z))


def test_pipelines_of_imbalanced_learn():
    over_sampling = pytest.importorskip("imblearn.over_sampling")
    imblearn_pipeline = pytest.importorskip("imblearn.pipeline").make_pipeline
    X, y = classification(3)
    model = small()
    pipeline = imblearn_pipeline(
        StandardScaler(), "passthrough", over_sampling.RandomOverSampler(random_state=0), model
    ).fit(X, y)
    assert_same_answers(pipeline, X, pipeline[-1], pipeline[0].transform(X))
    nested = FrozenEstimator(make_pipeline(PCA(3).fit(X), pipeline))
    assert skuq.predict_interval(nested, X).shape == (len(X), 3, 2)


@each_backend
def test_threshold_classifiers(backend):
    X, y = classification()
    for wrapper in (
        FixedThresholdClassifier(small(backend=backend), threshold=0.9, pos_label="yes"),
        TunedThresholdClassifierCV(small(backend=backend), cv=2, scoring="balanced_accuracy"),
        FixedThresholdClassifier(FrozenEstimator(fitted("ProbabilisticClassifier", backend)), threshold=0.6),
    ):
        pipeline = make_pipeline(StandardScaler(), wrapper).fit(X, y)
        inner, Z = pipeline[-1].estimator_, pipeline[0].transform(X)
        inner = inner.estimator if isinstance(inner, FrozenEstimator) else inner
        assert_same_answers(pipeline, X, inner, Z)


def test_self_training_and_feature_elimination():
    X, y = classification()
    codes = np.unique(y, return_inverse=True)[1]
    some = np.where(np.arange(len(y)) % 3 == 0, -1, codes)
    self_training = SelfTrainingClassifier(small(), max_iter=2).fit(X, some)
    assert_same_answers(self_training, X, self_training.estimator_, X)
    linear = small(hidden_layer_sizes=())
    for selection in (RFE(linear, n_features_to_select=2), RFECV(linear, cv=2)):
        selection.fit(X, y)
        assert_same_answers(selection, X, selection.estimator_, selection.transform(X))


def test_wrappers_that_are_not_fitted_say_so():
    X, _ = regression()
    regressor = small("ProbabilisticRegressor")
    unfitted = [FixedThresholdClassifier(small()), TunedThresholdClassifierCV(small()), SelfTrainingClassifier(small())]
    for composite in (*unfitted, RFE(small()), TransformedTargetRegressor(regressor)):
        with pytest.raises(NotFittedError):
            skuq.predict_interval(composite, X)


# Transformed targets


@pytest.mark.parametrize(
    ("func", "inverse", "falls"),
    [(np.log, np.exp, False), (np.negative, np.negative, True), (np.reciprocal, np.reciprocal, True)],
    ids=["log", "negative", "reciprocal"],
)
def test_quantiles_through_a_monotone_inverse_are_those_of_y(func, inverse, falls):
    X, y = regression()
    y = 5 + np.exp(y / 10)
    model = TransformedTargetRegressor(small("ProbabilisticRegressor"), func=func, inverse_func=inverse).fit(X, y)
    inner = model.regressor_
    levels = np.array([0.3, 0.5, 0.6])
    expected = inverse(inner.predict_quantiles(X, quantiles=1 - levels if falls else levels))
    np.testing.assert_allclose(skuq.predict_quantiles(model, X, quantiles=levels), expected)
    found = skuq.predict_interval(model, X, coverage=[0.1, 0.3])
    assert found.shape == (len(X), 2, 2)
    np.testing.assert_allclose(found[:, 0], np.min(inverse(inner.predict_interval(X, coverage=[0.1, 0.3])), axis=1))
    assert (found[:, 0] <= found[:, 1]).all()
    np.testing.assert_allclose(skuq.predict_interval(model, X, coverage=0.3), found[..., 1])
    np.testing.assert_allclose(skuq.sample_y(model, X, 3), inverse(inner.sample_y(X, 3)))
    np.testing.assert_allclose(skuq.predict(model, X), model.predict(X))


@each_backend
def test_several_transformed_targets(backend):
    X, y = regression(2)
    transformer = make_pipeline(StandardScaler(), PowerTransformer())
    regressor = make_pipeline(StandardScaler(), small("ProbabilisticRegressor", backend))
    model = make_pipeline(StandardScaler(), TransformedTargetRegressor(regressor, transformer=transformer)).fit(X, y)
    inside, Z = model[-1], model[0].transform(X)
    z = skuq.predict_interval(inside.regressor_, Z, coverage=[0.1, 0.2])
    found = skuq.predict_interval(model, X, coverage=[0.1, 0.2])
    assert found.shape == (len(X), 2, 2, 2)
    for end in (0, 1):
        for level in (0, 1):
            expected = inside.transformer_.inverse_transform(z[..., end, level])
            np.testing.assert_allclose(found[..., end, level], expected)


def test_what_no_monotone_inverse_gives_is_refused():
    X, y = regression()
    square = TransformedTargetRegressor(
        small("ProbabilisticRegressor"), func=lambda y: y - 10, inverse_func=np.square, check_inverse=False
    ).fit(X, y)
    with pytest.raises(
        ValueError, match=r"an inverse that rises or falls throughout, .* FunctionTransformer is not monotone"
    ):
        skuq.predict_interval(square, X)
    X, pair = regression(2)
    mixed = TransformedTargetRegressor(small("ProbabilisticRegressor"), transformer=PCA(2)).fit(X, pair)
    with pytest.raises(ValueError, match="PCA mixes outputs"):
        skuq.predict_quantiles(mixed, X)
    for ask in (skuq.predict_uncertainty, skuq.predict_dist, lambda m, X: skuq.predict(m, X, return_std=True)):
        with pytest.raises(TypeError, match="maps quantiles and samples, but not means, variances"):
            ask(mixed, X)


# predict


@each_backend
def test_predict_gives_standard_deviations_through_composites(backend):
    X, y = regression()
    pipeline = make_pipeline(StandardScaler(), small("MCDropoutRegressor", backend)).fit(X, y)
    mean, std = skuq.predict(pipeline, X, return_std=True)
    expected = pipeline[-1].predict(pipeline[0].transform(X), return_std=True)
    np.testing.assert_array_equal(mean, expected[0])
    np.testing.assert_array_equal(std, expected[1])
    np.testing.assert_array_equal(skuq.predict(pipeline, X), mean)


def test_predict_says_who_has_no_standard_deviation():
    X, y = regression()
    process = make_pipeline(StandardScaler(), GaussianProcessRegressor(optimizer=None)).fit(X, y)
    assert skuq.predict(process, X, return_std=True)[1].shape == y.shape  # scikit-learn's own has
    with pytest.raises(TypeError, match=r"LinearRegression\.predict has no return_std"):
        skuq.predict(LinearRegression().fit(X, y), X, return_std=True)
    with pytest.raises(TypeError, match=r"of a classifier is that of skuq\.predict_uncertainty"):
        skuq.predict(small().fit(*classification()), X, return_std=True)


# Scorers in displays


@each_backend
def test_displays_take_scorers(backend):
    matplotlib.use("Agg")
    X, y = regression()
    assert {getattr(scorers, name).__name__ for name in scorers.get_scorer_names()} == set(scorers.get_scorer_names())
    model = small("ProbabilisticRegressor", backend)
    display = LearningCurveDisplay.from_estimator(model, X, y, train_sizes=[0.5, 1.0], cv=2, scoring=scorers.neg_crps)
    assert display.score_name
    display = ValidationCurveDisplay.from_estimator(
        model,
        X,
        y,
        param_name="alpha",
        param_range=[0.1, 1.0],
        cv=2,
        scoring=scorers.get_scorer("neg_nll"),
        negate_score=True,
    )
    assert "nll" in display.ax_.get_ylabel().lower()
    matplotlib.pyplot.close("all")


# Words of other libraries


@each_backend
def test_other_words_for_the_coverage_are_answered_with_it(backend):
    X, y = regression()
    regressor, classifier = fitted("ProbabilisticRegressor", backend), fitted("ProbabilisticClassifier", backend)
    conformal = ConformalRegressor(regressor, cv="prefit").fit(X, y)
    sets = ConformalClassifier(classifier, cv="prefit").fit(*classification())
    for ask in (
        regressor.predict_interval,
        classifier.predict_interval,
        classifier.predict_set,
        conformal.predict_interval,
        sets.predict_set,
        lambda X, **words: skuq.predict_interval(regressor, X, **words),
        lambda X, **words: skuq.predict_set(classifier, X, **words),
    ):
        with pytest.raises(TypeError, match=r"has no alpha, got alpha=0\.1\. Pass .*, coverage=0\.9\."):
            ask(X, alpha=0.1)
        with pytest.raises(TypeError, match=r"has no confidence_level, got .* coverage=0\.8\."):
            ask(X, confidence_level=0.8)
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'colour'"):
            ask(X, colour=0.1)
    with pytest.raises(TypeError, match=r"coverage=\[0\.9, 0\.8\]"):
        regressor.predict_interval(X, alpha=[0.1, 0.2])
    with pytest.raises(TypeError, match=r"coverage=0\.95\."):
        regressor.predict_interval(X, level=95)
    for ask in (regressor.predict_quantiles, lambda X, **words: skuq.predict_quantiles(regressor, X, **words)):
        with pytest.raises(TypeError, match=r"quantiles=\(0\.05, 0\.95\).*predict_interval with coverage=0\.9\."):
            ask(X, alpha=0.1)


@pytest.mark.parametrize("name", ["torch", "pytorch", "PyTorch", "tf", "keras"])
def test_other_names_of_a_backend_are_answered_with_its_own(name):
    X, y = regression()
    own = "tensorflow" if name in ("tf", "keras") else "blitz"
    with pytest.raises(ValueError, match=f"Got '{name}' instead.*backend=\"{own}\""):
        small("ProbabilisticRegressor", name).fit(X, y)
    with pytest.raises(ValueError, match=r"must be 'auto', 'tensorflow' or 'blitz'\. Got 'jax' instead"):
        small("ProbabilisticRegressor", "jax").fit(X, y)


# Frames


def frame():
    X, y = regression()
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table["flag"] = X[:, 0] > 0
    table["count"] = pd.array(np.arange(len(X)), dtype="Int64")
    return table, y


WHEN = pd.date_range("2020-01-01", periods=96, freq="D")
KINDS = np.where(np.arange(96) % 2 == 0, "small", "very big")
TEXT = np.array([f"the {i} words of a longer text" for i in range(96)])
COLUMNS = {
    "dates": (WHEN, r"'x' \(datetime64\[.*\], dates\).*days since a date"),
    "dates with a zone": (WHEN.tz_localize("UTC"), r"'x' \(datetime64\[.*UTC\], dates\)"),
    "periods": (WHEN.to_period("M"), r"'x' \(period\[M\], dates\)"),
    "dates as objects": (pd.Series(WHEN).dt.date.astype(object), r"'x' \(object, dates\)"),
    "durations": (WHEN - WHEN[0], r"'x' \(timedelta64\[.*\], durations\).*total_seconds"),
    "categories": (pd.Categorical(KINDS), r"'x' \(category, categories\).*OneHotEncoder, or TargetEncoder"),
    "strings": (pd.array(KINDS, dtype="string"), r"'x' \(str.*, categories\).*OneHotEncoder"),
    "default strings": (pd.Series(list(KINDS)), r"'x' \((object|str), categories\)"),
    "objects": (pd.Series(KINDS, dtype=object), r"'x' \(object, categories\)"),
    "objects with gaps": (pd.Series([None, np.nan, *KINDS[2:]], dtype=object), r"'x' \(object, categories\)"),
    "texts": (pd.Series(TEXT, dtype=object), r"'x' \(object, texts\).*TfidfVectorizer"),
    "lists": (pd.Series([[1, 2]] * 96), r"'x' \(object, objects\)"),
}


@pytest.mark.parametrize("name", ["ProbabilisticRegressor", "ProbabilisticClassifier"])
@pytest.mark.parametrize(("column", "message"), COLUMNS.values(), ids=COLUMNS)
def test_columns_that_are_no_numbers_are_named_with_what_helps(column, message, name):
    table, y = frame()
    y = y if name.endswith("Regressor") else y > 10
    table["x"] = np.asarray(column) if isinstance(column, pd.Series) and column.dtype != object else column
    with pytest.raises(ValueError, match=message) as error:
        small(name).fit(table, y)
    assert "'a'" not in str(error.value)
    assert "make_column_transformer" in str(error.value)


def test_all_columns_that_are_no_numbers_are_named_in_prediction_too():
    table, y = frame()
    model = small("ProbabilisticRegressor").fit(table, y)
    assert model.n_features_in_ == 5
    wrong = table.assign(a=WHEN, c=KINDS)
    for ask in (model.predict, model.predict_interval, model.predict_dist, model.sample_y):
        with pytest.raises(ValueError, match=r"'a' \(datetime64.*'c' \(.*categories\)"):
            ask(wrong)
    repeated = pd.concat([table, table.assign(a=KINDS)[["a"]]], axis=1)
    with pytest.raises(ValueError, match=r"'a' \(.*, categories\)"):
        small("ProbabilisticRegressor").fit(repeated, y)


def test_columns_of_numbers_in_any_dtype_are_taken():
    table, y = frame()
    number = np.arange(96.0)
    columns = {
        "boolean": pd.array(number > 5, dtype="boolean"),
        "float": pd.array(number, dtype="Float32"),
        "category": pd.Categorical(number % 3),
        "object": pd.Series(number, dtype=object),
        "uint8": number.astype(np.uint8),
    }
    expected = small("ProbabilisticRegressor").fit(table.assign(x=number), y)
    assert expected.n_features_in_ == 6
    for name, column in columns.items():
        small("ProbabilisticRegressor").fit(table.assign(x=column), y)
        assert name
    gaps = table.assign(count=pd.array([None, *range(95)], dtype="Int64"))
    with pytest.raises(ValueError, match="contains NaN"):
        small("ProbabilisticRegressor").fit(gaps, y)


def test_frames_of_polars():
    polars = pytest.importorskip("polars")
    table, y = frame()
    numbers = polars.DataFrame(
        {name: table[name].to_numpy(dtype=float) for name in "abc"} | {"flag": [True, False] * 48}
    )
    model = small("ProbabilisticRegressor").fit(numbers, y)
    assert model.predict(numbers).shape == y.shape
    for values, message in (
        (polars.Series(list(WHEN.to_pydatetime())), r"'x' \(Datetime.*, dates\)"),
        (polars.Series(list(WHEN.to_pydatetime())).cast(polars.Date), r"'x' \(Date, dates\)"),
        (polars.Series([None, *KINDS[1:]]), r"'x' \(String, categories\)"),
        (polars.Series(KINDS).cast(polars.Categorical), r"'x' \(Categorical.*, categories\)"),
        (polars.Series([[1.0, 2.0]] * 96), r"'x' \(List.*, objects\)"),
    ):
        wrong = numbers.with_columns(values.alias("x"))
        with pytest.raises(ValueError, match=message):
            small("ProbabilisticRegressor").fit(wrong, y)
