"""Uncertainty as columns: they are what the estimator answers, named, in Pipelines and frames."""

import numpy as np
import pandas as pd
import pytest
from _table import case, classification, each_backend, make, marks_of, regression
from sklearn.base import clone
from sklearn.ensemble import StackingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skuq
from skuq import UncertaintyTransformer

QUICK = {"max_iter": 5, "early_stopping": False}


def regressor(backend="auto", **changes):
    return make("DeepEnsembleRegressor", backend, **QUICK, **changes)


def classifier(backend="auto", **changes):
    return make("DeepEnsembleClassifier", backend, **QUICK, **changes)


def checked_on(backend):
    def decorate(test):
        inner = [make(f"Probabilistic{task}", backend, **QUICK) for task in ("Regressor", "Classifier")]
        test = parametrize_with_checks([UncertaintyTransformer(estimator) for estimator in inner])(test)
        for mark in marks_of(backend):
            test = mark(test)
        return test

    return decorate


@checked_on("blitz")
def test_checks_of_scikit_learn_on_blitz(estimator, check):
    check(estimator)


@checked_on("tensorflow")
def test_checks_of_scikit_learn_on_tensorflow(estimator, check):
    check(estimator)


@each_backend
def test_columns_of_a_regressor_are_its_answers(backend):
    X, y = regression()
    outputs = ["draws", "epistemic", "mean", "quantiles", "std", "aleatoric", "total"]
    transformer = UncertaintyTransformer(regressor(backend), outputs=outputs, n_draws=3, quantiles=[0.2]).fit(X, y)
    model = transformer.estimator_
    mean, std = model.predict(X, return_std=True)
    split = model.predict_uncertainty(X)
    expected = np.column_stack(
        [
            model.sample_y(X, 3, random_state=0),
            split.epistemic,
            mean,
            model.predict_quantiles(X, quantiles=[0.2]),
            std,
            split.aleatoric,
            split.total,
        ]
    )
    np.testing.assert_array_equal(transformer.transform(X), expected)
    names = ["draw0", "draw1", "draw2", "epistemic", "mean", "quantile0.2", "std", "aleatoric", "total"]
    assert transformer.get_feature_names_out().tolist() == names


@each_backend
def test_columns_of_a_classifier_are_its_answers(backend):
    X, y = classification(3)
    transformer = UncertaintyTransformer(classifier(backend), outputs=["proba", "total", "quantiles"], quantiles=[0.5])
    found = transformer.fit_transform(X, y)
    model = transformer.estimator_
    medians = model.predict_quantiles(X, quantiles=[0.5]).reshape(len(X), -1)
    expected = np.column_stack([model.predict_proba(X), model.predict_uncertainty(X).total, medians])
    np.testing.assert_array_equal(found, expected)
    labels = ["maybe", "no", "yes"]
    names = [f"proba_{label}" for label in labels] + ["total"] + [f"quantile0.5_{label}" for label in labels]
    assert transformer.get_feature_names_out().tolist() == names


def test_columns_of_several_outputs_are_named_one_by_one():
    X, y = regression(2)
    transformer = UncertaintyTransformer(
        regressor(), outputs=["std", "quantiles", "draws"], quantiles=[0.1, 0.9], n_draws=2
    )
    found = transformer.set_output(transform="pandas").fit_transform(X, y)
    model = transformer.estimator_
    np.testing.assert_array_equal(found[["std_0", "std_1"]], model.predict(X, return_std=True)[1])
    np.testing.assert_array_equal(found["quantile0.9_1"], model.predict_quantiles(X, quantiles=[0.1, 0.9])[:, 1, 1])
    np.testing.assert_array_equal(found["draw1_0"], model.sample_y(X, 2)[:, 0, 1])


def test_columns_feed_a_pipeline_with_text_and_a_search():
    X, y = regression()
    table = pd.DataFrame(X, columns=list("abc")).assign(city=np.array(["Rome", "Oslo"])[np.arange(len(y)) % 2])
    encode = make_pipeline(
        make_union(
            FunctionTransformer(lambda t: t[["a", "b"]]),
            make_pipeline(FunctionTransformer(lambda t: t[["city"]]), OneHotEncoder()),
        ),
        regressor(),
    )
    pipeline = make_pipeline(UncertaintyTransformer(encode), LinearRegression()).fit(table, y)
    columns = pipeline[0].transform(table)
    np.testing.assert_array_equal(columns[:, 1], skuq.predict(pipeline[0].estimator_, table, return_std=True)[1])
    np.testing.assert_allclose(pipeline.predict(table), pipeline[1].predict(columns))
    assert pipeline[0].feature_names_in_.tolist() == ["a", "b", "c", "city"]
    search = GridSearchCV(
        make_pipeline(
            UncertaintyTransformer(make_pipeline(StandardScaler(), make("ProbabilisticRegressor", "auto"))),
            LinearRegression(),
        ),
        {"uncertaintytransformer__outputs": [["mean"], ["std"]]},
        cv=2,
    ).fit(X, y)
    # A line through the mean tells more of y than one through the noise.
    assert search.best_params_["uncertaintytransformer__outputs"] == ["mean"]


def test_union_keeps_the_columns_beside():
    X, y = classification()
    union = make_union("passthrough", UncertaintyTransformer(classifier())).set_output(transform="pandas")
    found = union.fit_transform(pd.DataFrame(X, columns=list("abc")), y)
    names = union.transformer_list[1][1].get_feature_names_out()
    assert [name.split("__")[1] for name in found.columns] == ["a", "b", "c", *names]


def test_a_frozen_model_is_not_fitted_again():
    X, y = regression()
    model = regressor().fit(X, y)
    transformer = UncertaintyTransformer(FrozenEstimator(model)).fit(X[:10], y[:10])
    np.testing.assert_array_equal(transformer.transform(X)[:, 0], model.predict(X))


@pytest.mark.parametrize("backend", [case("blitz")])
def test_cross_fitted_columns_are_those_that_scikit_learn_stacks(backend):
    X, y = regression()
    inner = make_pipeline(StandardScaler(), regressor(backend))
    cv = KFold(3)
    transformer = UncertaintyTransformer(inner, outputs=["mean"], cv=cv)
    found = transformer.fit_transform(X, y)
    seen = {}

    class Spy(LinearRegression):
        def fit(self, X, y, **kwargs):
            seen["columns"] = X.copy()
            return super().fit(X, y, **kwargs)

    StackingRegressor([("inner", clone(inner))], final_estimator=Spy(), cv=cv).fit(X, y)
    np.testing.assert_allclose(found, seen["columns"])
    # Other rows are predicted by the model of all rows.
    np.testing.assert_array_equal(transformer.transform(X)[:, 0], transformer.estimator_.predict(X))
    assert np.mean((found[:, 0] - y) ** 2) > np.mean((transformer.transform(X)[:, 0] - y) ** 2)


def test_weights_reach_the_estimator_inside():
    X, y = regression()
    weight = np.where(np.arange(len(y)) < 48, 2, 0)
    weighted = UncertaintyTransformer(make_pipeline(StandardScaler(), regressor())).fit(X, y, sample_weight=weight)
    plain = make_pipeline(StandardScaler(), regressor()).fit(X, y, deepensembleregressor__sample_weight=weight)
    np.testing.assert_array_equal(weighted.transform(X)[:, 0], plain.predict(X))


def test_parameters_set_after_fit_change_no_column():
    X, y = regression()
    transformer = UncertaintyTransformer(regressor(), outputs=["quantiles", "draws"]).fit(X, y)
    before, names = transformer.transform(X), transformer.get_feature_names_out().tolist()
    transformer.set_params(quantiles=[0.3], n_draws=1, outputs=["mean"], random_state=5)
    np.testing.assert_array_equal(transformer.transform(X), before)
    assert transformer.get_feature_names_out().tolist() == names


def test_errors_say_what_was_expected():
    X, y = regression()
    labels = classification()[1]
    for transformer, target, error, message in (
        (
            UncertaintyTransformer(regressor(), outputs=["proba"]),
            y,
            ValueError,
            "outputs must be some of .*'mean'.* for a regressor",
        ),
        (UncertaintyTransformer(regressor(), outputs=["mean", "mean"]), y, ValueError, "each at most once"),
        (UncertaintyTransformer(regressor(), outputs=[]), y, ValueError, "outputs must be some of"),
        (UncertaintyTransformer(classifier(), outputs=["draws"]), labels, ValueError, "for a classifier"),
        (UncertaintyTransformer(regressor(), quantiles=[90]), y, ValueError, "strictly between 0 and 1"),
        (UncertaintyTransformer(regressor(), n_draws=0), y, ValueError, "n_draws"),
        (
            UncertaintyTransformer(LogisticRegression(), outputs=["total"]),
            labels,
            TypeError,
            "has no predict_uncertainty",
        ),
        (
            UncertaintyTransformer(regressor(), cv=ShuffleSplit(2, random_state=0)),
            y,
            ValueError,
            "cv must be a partition",
        ),
    ):
        with pytest.raises(error, match=message):
            transformer.fit_transform(X, target)
    with pytest.raises(NotFittedError):
        UncertaintyTransformer(regressor()).transform(X)
