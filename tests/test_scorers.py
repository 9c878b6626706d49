"""Scorers inside scikit-learn's own model selection."""

import pickle
from collections import namedtuple

import numpy as np
import pytest
import sklearn
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer as sklearn_get_scorer
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metadata_routing import get_routing_for_object

from skuq import metrics, scorers

Uncertainty = namedtuple("Uncertainty", ["total", "aleatoric", "epistemic"])


class GaussianProcess(GaussianProcessRegressor):
    """scikit-learn's GP with the methods of skuq's contract that the scorers need."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)

    def predict_dist(self, X):
        return stats.norm(*self.predict(X, return_std=True))

    def predict_interval(self, X, coverage=0.9):
        # Not the distribution's own, as a conformal interval may be.
        mean, std = self.predict(X, return_std=True)
        z = 0.6 * stats.norm.ppf((1 + coverage) / 2)
        return np.column_stack([mean - z * std, mean + z * std])

    def predict_uncertainty(self, X):
        total = self.predict(X, return_std=True)[1] ** 2
        return Uncertainty(total, 0.1 * total, 0.9 * total)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, size=(80, 1))
Y = np.sin(2 * X[:, 0]) + rng.normal(0, 0.2, size=80)
WEIGHT = rng.integers(1, 5, size=80).astype(float)
XC, YC = make_classification(80, 5, n_informative=3, n_classes=3, random_state=0)
YC = np.array(["c", "a", "b"])[YC]


def make_gp(noise=0.05):
    return GaussianProcess(RBF(0.5) + WhiteKernel(noise), optimizer=None)


GP = make_gp().fit(X[:50], Y[:50])
CLASSIFIER = LogisticRegression(C=0.1).fit(XC[:50], YC[:50])
INTERVAL = GP.predict_interval(X[50:])
REGRESSION = {
    "neg_nll": -metrics.nll(Y[50:], GP.predict_dist(X[50:])),
    "neg_crps": -metrics.crps(Y[50:], GP.predict_dist(X[50:])),
    "neg_interval_score": -metrics.interval_score(Y[50:], INTERVAL),
    "coverage_error": -abs(metrics.coverage(Y[50:], INTERVAL) - 0.9),
    "neg_aurc": -metrics.aurc(Y[50:], GP.predict_dist(X[50:])),
}
PROB = CLASSIFIER.predict_proba(XC[50:])
CLASSIFICATION = {
    "neg_nll": -log_loss(YC[50:], PROB),
    "neg_ece": -metrics.ece(YC[50:], PROB),
    "neg_aurc": -metrics.aurc(YC[50:], PROB),
}


def test_every_name_has_an_object_and_is_tested():
    assert set(scorers.get_scorer_names()) == {*REGRESSION, *CLASSIFICATION}
    for name in scorers.get_scorer_names():
        assert getattr(scorers, name).metric == name


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "pipeline"])
def test_regression_scores(name, wrapped):
    score, expected = scorers.get_scorer(name), REGRESSION[name]
    assert score(GP, X[50:], Y[50:]) == pytest.approx(expected)
    if wrapped:
        # The pipeline undoes a change of units; rows that skipped it would score otherwise.
        pipeline = make_pipeline(StandardScaler(), make_gp()).fit(X[:50], Y[:50])
        rows = pipeline[0].transform(X[50:])
        direct = score(pipeline[-1], rows, Y[50:])
        assert score(pipeline, X[50:], Y[50:]) == pytest.approx(direct)
        assert score(pipeline[-1], X[50:], Y[50:]) != pytest.approx(direct)


@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_scores(name):
    score = scorers.get_scorer(name)
    assert score(CLASSIFIER, XC[50:], YC[50:]) == pytest.approx(CLASSIFICATION[name])
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(XC[:50], YC[:50])
    direct = score(pipeline[-1], pipeline[0].transform(XC[50:]), YC[50:])
    assert score(pipeline, XC[50:], YC[50:]) == pytest.approx(direct)


def test_a_fold_without_a_class_is_scored():
    rows = YC[50:] != "b"
    score = scorers.neg_nll(CLASSIFIER, XC[50:][rows], YC[50:][rows])
    assert score == pytest.approx(-log_loss(YC[50:][rows], PROB[rows], labels=CLASSIFIER.classes_))


@pytest.mark.parametrize("name", [*REGRESSION, *CLASSIFICATION])
def test_sample_weight_is_repetition(name):
    estimator, rows, y = (CLASSIFIER, XC, YC) if name in CLASSIFICATION else (GP, X, Y)
    repeated = np.repeat(np.arange(80), WEIGHT.astype(int))
    score = scorers.get_scorer(name)
    weighted = score(estimator, rows, y, sample_weight=WEIGHT)
    assert weighted == pytest.approx(score(estimator, rows[repeated], y[repeated]))
    assert weighted != score(estimator, rows, y)


def test_coverage_error_does_not_let_outputs_cancel():
    class TwoOutputs(GaussianProcess):
        def predict_interval(self, X, coverage=0.9):
            always, never = np.array([-100.0, 100.0]), np.array([99.0, 100.0])
            return np.tile(np.stack([always, never]), (len(X), 1, 1))

    y = np.zeros((10, 2))
    assert scorers.get_scorer("coverage_error", coverage=0.5)(TwoOutputs(), X[:10], y) == pytest.approx(-0.5)


def test_options_reach_the_metric():
    score = scorers.get_scorer("neg_interval_score", coverage=0.5)
    expected = -metrics.interval_score(Y[50:], GP.predict_interval(X[50:], coverage=0.5), coverage=0.5)
    assert score(GP, X[50:], Y[50:]) == pytest.approx(expected)
    score = scorers.get_scorer("neg_ece", n_bins=4, strategy="quantile", classwise=True)
    expected = -metrics.ece(YC[50:], PROB, n_bins=4, strategy="quantile", classwise=True)
    assert score(CLASSIFIER, XC[50:], YC[50:]) == pytest.approx(expected)


@pytest.mark.parametrize("uncertainty", ["total", "epistemic"])
def test_ood_auroc_tells_far_rows(uncertainty):
    far = np.linspace(1.5, 6, 40)[:, None]
    variance = [GP.predict(rows, return_std=True)[1] for rows in (X[50:], far)]
    expected = roc_auc_score(np.repeat([0, 1], [30, 40]), np.concatenate(variance))
    score = scorers.ood_auroc(far, uncertainty=uncertainty)
    assert 0.6 < expected < 1
    assert score(GP, X[50:], Y[50:]) == pytest.approx(expected)
    assert score(GP, X[50:], None) == pytest.approx(expected)
    repeated = np.repeat(np.arange(50, 80), WEIGHT[50:].astype(int))
    assert score(GP, X[50:], Y[50:], sample_weight=WEIGHT[50:]) == pytest.approx(score(GP, X[repeated], Y[repeated]))


def test_ood_auroc_of_any_classifier():
    score = scorers.ood_auroc(XC[50:] * 0.05, uncertainty="max_proba")
    confidence = [CLASSIFIER.predict_proba(rows).max(axis=1) for rows in (XC[50:], XC[50:] * 0.05)]
    expected = roc_auc_score(np.repeat([0, 1], 30), -np.concatenate(confidence))
    assert score(CLASSIFIER, XC[50:], YC[50:]) == pytest.approx(expected)


# --- inside scikit-learn ---


def test_grid_search_finds_the_noise_that_was_drawn():
    grid = {"gaussianprocess__kernel": [RBF(0.5) + WhiteKernel(v) for v in (0.001, 0.04, 2.0)]}
    pipeline = make_pipeline(StandardScaler(with_std=False), make_gp())
    for scoring in (scorers.neg_nll, scorers.neg_crps):
        search = GridSearchCV(pipeline, grid, scoring=scoring, cv=3, error_score="raise").fit(X, Y)
        assert search.best_params_["gaussianprocess__kernel"].k2.noise_level == 0.04
    assert scorers.neg_nll(search, X, Y) == pytest.approx(scorers.neg_nll(search.best_estimator_, X, Y))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_neg_nll_is_neg_log_loss_in_a_search(n_jobs):
    grid = {"C": [1e-3, 0.1]}
    ours, theirs = (
        GridSearchCV(LogisticRegression(), grid, scoring=scoring, cv=3, n_jobs=n_jobs).fit(XC, YC)
        for scoring in (scorers.neg_nll, "neg_log_loss")
    )
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


def test_several_scores_at_once():
    scoring = {name: scorers.get_scorer(name) for name in REGRESSION} | {"r2": "r2"}
    result = cross_validate(make_gp(), X, Y, scoring=scoring, cv=3, error_score="raise")
    for name in REGRESSION:
        alone = cross_validate(make_gp(), X, Y, scoring=scorers.get_scorer(name), cv=3)["test_score"]
        np.testing.assert_allclose(result[f"test_{name}"], alone)
    search = GridSearchCV(make_gp(), {"alpha": [1e-10, 1e-2]}, scoring=scoring, refit="neg_nll", cv=3).fit(X, Y)
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_neg_nll"])


def expected_scores(estimator, rows, y, weight, metric):
    scores = []
    for train, test in KFold(3).split(rows):
        fitted = clone(estimator).fit(rows[train], y[train])
        scores.append(metric(fitted, rows[test], y[test], sample_weight=None if weight is None else weight[test]))
    return scores


@pytest.mark.parametrize("request_weight", [True, False])
@pytest.mark.parametrize("several", [False, True])
def test_routing_passes_weights_when_asked(routing, request_weight, several):
    estimator = make_gp().set_fit_request(sample_weight=True)
    scoring = scorers.get_scorer("neg_nll").set_score_request(sample_weight=request_weight)
    expected = expected_scores(estimator, X, Y, WEIGHT if request_weight else None, scorers.neg_nll)
    result = cross_validate(
        estimator,
        X,
        Y,
        scoring={"score": scoring} if several else scoring,
        cv=KFold(3),
        params={"sample_weight": WEIGHT},
    )
    np.testing.assert_allclose(result["test_score"], expected)
    search = GridSearchCV(estimator, {"alpha": [1e-10]}, scoring=scoring, cv=KFold(3)).fit(X, Y, sample_weight=WEIGHT)
    assert search.best_score_ == pytest.approx(np.mean(expected))


def test_routing_takes_another_name_and_refuses_silence(routing):
    estimator = make_gp().set_fit_request(sample_weight=False)
    scoring = scorers.get_scorer("neg_crps").set_score_request(sample_weight="importance")
    result = cross_validate(estimator, X, Y, scoring=scoring, cv=KFold(3), params={"importance": WEIGHT})
    np.testing.assert_allclose(result["test_score"], expected_scores(estimator, X, Y, WEIGHT, scorers.neg_crps))
    with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
        cross_validate(estimator, X, Y, scoring=scorers.get_scorer("neg_crps"), cv=3, params={"sample_weight": WEIGHT})
    assert get_routing_for_object(scoring).score.requests == {"sample_weight": "importance"}
    assert get_routing_for_object(scorers.neg_crps).score.requests == {"sample_weight": None}


@pytest.mark.parametrize("several", [False, True])
def test_without_routing_a_search_weights_the_score(several):
    scoring = {"score": scorers.neg_nll} if several else scorers.neg_nll
    search = GridSearchCV(
        make_gp(), {"alpha": [1e-10]}, scoring=scoring, cv=KFold(3), refit="score" if several else True
    )
    search.fit(X, Y, sample_weight=WEIGHT)
    expected = expected_scores(make_gp(), X, Y, WEIGHT, scorers.neg_nll)
    assert search.best_score_ == pytest.approx(np.mean(expected))


def test_clone_and_pickle_keep_everything(routing):
    far = np.ones((3, 1)) * 5
    for score in [scorers.get_scorer("neg_ece", n_bins=3), scorers.ood_auroc(far)]:
        score.set_score_request(sample_weight=True)
        for copy in (clone(score), pickle.loads(pickle.dumps(score))):
            assert copy is not score
            assert str(copy.get_params()) == str(score.get_params())
            assert get_routing_for_object(copy).score.requests == {"sample_weight": True}
    assert clone(scorers.ood_auroc(far))(GP, X, Y) == scorers.ood_auroc(far)(GP, X, Y)


def test_a_scorer_in_a_search_survives_clone():
    search = clone(GridSearchCV(make_gp(), {"alpha": [1e-10]}, scoring=scorers.get_scorer("neg_nll"), cv=2))
    assert np.isfinite(search.fit(X, Y).best_score_)


# --- errors ---


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: scorers.get_scorer("nll"), ValueError, "got 'nll'"),
        (lambda: scorers.get_scorer("r2"), ValueError, "sklearn.metrics.get_scorer"),
        (lambda: scorers.get_scorer("neg_interval_score", alpha=0.1), TypeError, r"\['coverage'\]"),
        (lambda: scorers.ood_auroc(X, uncertainty="entropy"), ValueError, "got 'entropy'"),
        (lambda: scorers.UncertaintyScorer("nll")(GP, X, Y), ValueError, "got 'nll'"),
        (lambda: scorers.neg_crps(CLASSIFIER, XC, YC), ValueError, "scores a regressor, got LogisticRegression"),
        (lambda: scorers.coverage_error(CLASSIFIER, XC, YC), ValueError, "scores a regressor"),
        (lambda: scorers.neg_interval_score(CLASSIFIER, XC, YC), ValueError, "scores a regressor"),
        (lambda: scorers.neg_ece(GP, X, Y), ValueError, "scores a classifier"),
        (lambda: scorers.ood_auroc(X, uncertainty="max_proba")(GP, X, Y), ValueError, "scores a classifier"),
        (lambda: scorers.get_scorer("neg_interval_score", coverage=90)(GP, X, Y), ValueError, "got 90"),
    ],
)
def test_errors_say_what_was_got_and_what_to_do(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_scikit_learn_accepts_the_object_as_a_scorer():
    assert sklearn_get_scorer(scorers.neg_nll) is scorers.neg_nll
