"""Conformal intervals and sets, and temperature.

References: the nominal coverage on fresh rows, MAPIE 1.x, scikit-learn's temperature scaling, a brute-force CV+.
"""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mapie.classification import CrossConformalClassifier, SplitConformalClassifier
from mapie.conformity_scores import StdConformityScore
from mapie.regression import ConformalizedQuantileRegressor, CrossConformalRegressor, SplitConformalRegressor
from scipy import sparse, stats
from sklearn import config_context
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression, QuantileRegressor, RidgeClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, StratifiedKFold
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import skuq
from skuq import backends
from skuq._prediction.conformal import aps_scores, raps_scores
from skuq.calibration import ConformalClassifier, ConformalRegressor, fit_temperature

METHODS = ["split", "cross"]
REGRESSION_SCORES = ["absolute", "normalized", "quantile"]
CLASSIFICATION_SCORES = ["lac", "aps", "raps"]
each_method = pytest.mark.parametrize("method", METHODS)
each_regression_score = pytest.mark.parametrize("score", REGRESSION_SCORES)
each_classification_score = pytest.mark.parametrize("score", CLASSIFICATION_SCORES)


def blitz(test):
    """Mark a test that trains on BLiTZ."""
    missing = pytest.mark.skipif("blitz" not in backends.available(), reason="blitz is not installed")
    return pytest.mark.xdist_group("blitz")(missing(test))


class LinearSpread(RegressorMixin, BaseEstimator):
    """Linear mean and linear spread by least squares; says everything about uncertainty, cheaply."""

    def fit(self, X, y, sample_weight=None):
        self.mean_ = LinearRegression().fit(X, y, sample_weight)
        self.spread_ = LinearRegression().fit(X, np.abs(y - self.mean_.predict(X)), sample_weight)
        return self

    def predict(self, X):
        return self.mean_.predict(X)

    def std(self, X):
        return np.maximum(self.spread_.predict(X) * np.sqrt(np.pi / 2), 1e-3)

    def predict_uncertainty(self, X):
        return SimpleNamespace(total=self.std(X) ** 2)

    def predict_quantiles(self, X, quantiles):
        return self.predict(X)[..., None] + self.std(X)[..., None] * stats.norm.ppf(quantiles)


def regression(n_rows, seed=0, n_outputs=1):
    """Noise that is skewed and grows with the first feature."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(n_rows, 3))
    noise = (1.5 + X[:, :1]) * (rng.exponential(size=(n_rows, n_outputs)) - 1)
    y = (X @ rng.normal(size=(3, n_outputs)) + noise) * 10.0 ** np.arange(n_outputs)
    return X, y[:, 0] if n_outputs == 1 else y


CENTERS = np.random.default_rng(0).normal(size=(6, 4))


def classification(n_rows, seed=0):
    """Six overlapping classes, labels not in order."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(6, size=n_rows)
    return CENTERS[codes] + rng.normal(size=(n_rows, 4)), np.array(list("fbadce"))[codes]


def covered(interval, y):
    return ((interval[:, ..., 0] <= y) & (y <= interval[..., 1])).mean(axis=0)


def set_covers(model, sets, y):
    return sets[np.arange(len(y)), np.searchsorted(model.classes_, y)]


# Coverage


def repeated(make, problem, answer, n_repeats=20, n_rows=1000, n_test=1000):
    """Mean of `answer` over data sets drawn anew: the probability that conformal prediction promises."""
    answers = []
    for seed in range(n_repeats):
        X, y = problem(n_rows + n_test, seed)
        model = make(seed).fit(X[:n_rows], y[:n_rows])
        answers.append(answer(model, X[n_rows:], y[n_rows:]))
    return np.mean(answers, axis=0)


# CV+ with few folds covers more than it promises, as the folds' estimators disagree: 5 folds for "cross".
FOLDS = {"split": 2, "cross": 5}


@each_method
@each_regression_score
def test_intervals_have_their_marginal_coverage(method, score):
    levels = [0.5, 0.9]
    found = repeated(
        lambda seed: ConformalRegressor(
            LinearSpread(), method=method, conformity_score=score, cv=FOLDS[method], random_state=seed
        ),
        regression,
        lambda model, X, y: [covered(i, y) for i in np.moveaxis(model.predict_interval(X, levels), -1, 0)],
    )
    np.testing.assert_allclose(found, levels, atol=0.01)


@each_method
@each_classification_score
def test_sets_have_their_marginal_coverage(method, score):
    levels = [0.8, 0.9]
    found = repeated(
        lambda seed: ConformalClassifier(
            LogisticRegression(), method=method, conformity_score=score, cv=FOLDS[method], random_state=seed
        ),
        classification,
        lambda model, X, y: set_covers(model, model.predict_set(X, levels), y).mean(axis=0),
    )
    np.testing.assert_allclose(found, levels, atol=0.01)


@each_method
def test_weights_shift_the_population_that_is_covered(method):
    # Weights 4 : 1 on the noisy half: intervals must cover a population with four times as many noisy rows.
    def ask(model, X, y):
        interval = model.predict_interval(X, 0.8)
        weight = np.where(X[:, 0] > 0, 4.0, 1.0)
        return np.average((interval[:, 0] <= y) & (y <= interval[:, 1]), weights=weight)

    class Weighted(ConformalRegressor):
        def fit(self, X, y):
            return super().fit(X, y, sample_weight=np.where(X[:, 0] > 0, 4.0, 1.0))

    make = lambda seed: Weighted(LinearRegression(), method=method, cv=FOLDS[method], random_state=seed)  # noqa: E731
    assert abs(repeated(make, regression, ask) - 0.8) < 0.01


def test_the_finite_sample_correction_is_exact():
    # Of n + 1 exchangeable rows the last is covered with probability ⌈c (n + 1)⌉ / (n + 1): here 0.9, at n = 9.
    rng = np.random.default_rng(0)
    frozen = FrozenEstimator(LinearRegression().fit([[0.0], [1.0]], [0.0, 0.0]))
    hits = []
    for _ in range(2000):
        y = rng.exponential(size=10)
        X = np.zeros((10, 1))
        interval = ConformalRegressor(frozen).fit(X[:9], y[:9]).predict_interval(X[9:])
        hits.append(covered(interval, y[9:]))
    assert abs(np.mean(hits) - 0.9) < 4 * np.sqrt(0.09 / 2000)


def test_scores_that_know_the_spread_follow_it():
    X, y = regression(4000)
    quiet, noisy = np.array([[-1.0, 0, 0]]), np.array([[1.0, 0, 0]])
    for score, widens in (("absolute", False), ("normalized", True), ("quantile", True)):
        model = ConformalRegressor(LinearSpread(), conformity_score=score, random_state=0).fit(X, y)
        few, many = (np.diff(model.predict_interval(row))[0, 0] for row in (quiet, noisy))
        assert (many > 2 * few) if widens else many == pytest.approx(few)


@pytest.mark.parametrize("score", ["absolute", "normalized"])
@each_method
def test_intervals_nest(method, score):
    X, y = regression(300)
    model = ConformalRegressor(LinearSpread(), method=method, conformity_score=score, random_state=0).fit(X, y)
    lower, upper = np.moveaxis(model.predict_interval(X, np.linspace(0.05, 0.95, 19)), 1, 0)
    assert (np.diff(lower) <= 0).all()
    assert (np.diff(upper) >= 0).all()
    assert (lower <= upper).all()


@each_method
@each_classification_score
def test_sets_nest_and_hold_the_likeliest(method, score):
    X, y = classification(400)
    model = ConformalClassifier(LogisticRegression(), method=method, conformity_score=score, random_state=0).fit(X, y)
    sets = model.predict_set(X, np.linspace(0.05, 0.95, 19))
    assert (np.diff(sets.astype(int)) >= 0).all()
    if method == "split":
        # A set is the classes above one probability of its row.
        probabilities = model.predict_proba(X)[..., None]
        least = np.where(sets, probabilities, np.inf).min(axis=1)
        assert (np.where(sets, -np.inf, probabilities).max(axis=1) <= least).all()
    if score != "lac":
        assert sets.any(axis=1).all()


# Coverage within groups


def grouped_regression(n_rows, seed=0):
    """Noise whose size and skewness depend on the last feature, one of three numbers: X, y."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 3))
    X[:, 2] = rng.choice([2.0, 5.0, 7.0], p=[0.6, 0.3, 0.1], size=n_rows)
    noise = np.select([X[:, 2] == 2, X[:, 2] == 5], [rng.normal(size=n_rows), 4 * rng.exponential(size=n_rows)], 20.0)
    return X, X[:, 0] + noise * rng.normal(size=n_rows)


def rare_classification(n_rows, seed=0):
    """Three classes, one of them rare, and a feature that is 0 or 1 by chance: X, y."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, p=[0.6, 0.35, 0.05], size=n_rows)
    X = CENTERS[codes, :3] + rng.normal(size=(n_rows, 3)) * (1 + (codes == 1)[:, None])
    return np.column_stack([X, rng.integers(2, size=n_rows)]), np.array(["c", "a", "b"])[codes]


@each_method
@each_regression_score
def test_intervals_have_their_coverage_within_each_group(method, score):
    def within(model, X, y):
        hit = covered_rows(model.predict_interval(X, 0.8), y)
        return [hit[X[:, 2] == group].mean() for group in (2, 5, 7)]

    options = {"method": method, "conformity_score": score, "cv": FOLDS[method]}
    found = repeated(
        lambda s: ConformalRegressor(LinearSpread(), **options, groups=2, random_state=s), grouped_regression, within
    )
    # CV+ covers more where the folds' estimators disagree about a spread.
    assert (np.array(found) > 0.775).all()
    assert (np.array(found) < (0.88 if method == "cross" else 0.825)).all()
    marginal = repeated(
        lambda s: ConformalRegressor(LinearSpread(), **options, random_state=s), grouped_regression, within, 4
    )
    assert np.ptp(marginal) > 0.2


def covered_rows(interval, y):
    return (interval[:, 0] <= y) & (y <= interval[:, 1])


@each_method
@each_classification_score
def test_sets_have_their_coverage_within_each_class(method, score):
    def within(model, X, y):
        hit = set_covers(model, model.predict_set(X, 0.8), y)
        return [hit[y == label].mean() for label in "cab"]

    options = {"method": method, "conformity_score": score, "cv": FOLDS[method]}
    found = repeated(
        lambda s: ConformalClassifier(LogisticRegression(), **options, groups="class", random_state=s),
        rare_classification,
        within,
    )
    # No set is empty, so "aps" and "raps" cover the likeliest class more often than asked.
    assert (np.array(found) > 0.77).all()
    if score == "lac":
        np.testing.assert_allclose(found, 0.8, atol=0.03)
    marginal = repeated(
        lambda s: ConformalClassifier(LogisticRegression(), **options, random_state=s), rare_classification, within, 4
    )
    assert marginal[2] < 0.6


@each_method
def test_sets_have_their_coverage_within_groups_of_rows(method):
    def problem(n_rows, seed):
        X, y = rare_classification(n_rows, seed)
        rng = np.random.default_rng(seed)
        X[:, :3] += 3 * CENTERS[np.unique(y, return_inverse=True)[1], :3]
        # Where the last feature is 1, two labels of three say nothing.
        return X, np.where((X[:, 3] == 1) & (rng.uniform(size=n_rows) < 2 / 3), rng.permutation(y), y)

    def within(model, X, y):
        hit = set_covers(model, model.predict_set(X, 0.8), y)
        return [hit[X[:, 3] == group].mean() for group in (0, 1)]

    options = {"method": method, "conformity_score": "lac", "cv": FOLDS[method]}
    marginal, found = (
        repeated(
            lambda s: ConformalClassifier(LogisticRegression(), **options, groups=groups, random_state=s),  # noqa: B023
            problem,
            within,
        )
        for groups in (None, lambda X: X[:, 3])
    )
    np.testing.assert_allclose(found, 0.8, atol=0.02)
    assert marginal[0] - marginal[1] > 0.08


@pytest.mark.parametrize("weighted", [False, True])
@each_regression_score
def test_groups_are_calibrated_alone(score, weighted):
    """Of a fitted estimator: as if each group had a wrapper of its own."""
    X, y = grouped_regression(900)
    weight = np.random.default_rng(0).exponential(size=900) if weighted else None
    options = {"conformity_score": score, "cv": "prefit"}
    fitted = LinearSpread().fit(X[:300], y[:300])
    levels = [0.5, 0.9]
    together = ConformalRegressor(fitted, **options, groups=2).fit(X, y, weight).predict_interval(X, levels)
    for group in (2, 5, 7):
        rows = X[:, 2] == group
        alone = ConformalRegressor(fitted, **options).fit(X[rows], y[rows], None if weight is None else weight[rows])
        np.testing.assert_allclose(together[rows], alone.predict_interval(X[rows], levels), rtol=1e-12)


def test_groups_are_named_by_columns_or_functions():
    X, y = grouped_regression(900)
    frame = pd.DataFrame(X, columns=["a", "b", "site"])
    model = ConformalRegressor(make_pipeline(StandardScaler(), LinearRegression()), random_state=0)
    expected = clone(model).set_params(groups=2).fit(X, y).predict_interval(X)
    # A Pipeline inside sees scaled columns; groups are those of X as it is given.
    for groups, rows in [
        ("site", frame),
        (2, frame),
        (-1, X),
        (lambda rows: rows["site"].astype(int), frame),
        (2, X.tolist()),
        (2, sparse.csr_array(X)),
    ]:
        inner = (
            make_pipeline(StandardScaler(with_mean=False), LinearRegression())
            if sparse.issparse(rows)
            else model.estimator
        )
        fitted = clone(model).set_params(groups=groups, estimator=inner).fit(rows, y)
        np.testing.assert_allclose(fitted.predict_interval(rows), expected, rtol=1e-9)
        assert fitted.groups_.tolist() == [2, 5, 7]
    words = frame.assign(site=frame["site"].map({2.0: "north", 5.0: "east", 7.0: "west"}).astype("category"))
    inner = make_pipeline(ColumnTransformer([("keep", "passthrough", ["a", "b"])]), LinearRegression())
    fitted = ConformalRegressor(inner, groups="site", method="cross", random_state=0).fit(words, y)
    assert fitted.groups_.tolist() == ["east", "north", "west"]
    # Within a Pipeline the wrapper's X is what the steps before give.
    outer = make_pipeline(StandardScaler(), ConformalRegressor(LinearRegression(), groups=2, random_state=0)).fit(X, y)
    np.testing.assert_allclose(skuq.predict_interval(outer, X), expected, rtol=1e-9)


@each_method
def test_groups_must_be_known_and_large_enough(method):
    X, y = grouped_regression(300)
    model = ConformalRegressor(LinearRegression(), method=method, groups=2, random_state=0).fit(X, y)
    with pytest.raises(
        ValueError, match=r"coverage=0.99 needs at least 99 calibration rows of the group 7.0, got \d+\."
    ):
        model.predict_interval(X[X[:, 2] == 7], 0.99)
    assert np.isfinite(model.predict_interval(X[X[:, 2] == 2], 0.97)).all()  # other groups do not matter to these rows
    with pytest.raises(ValueError, match=r"not seen in fit: \[3.5\]; known: \[2.0, 5.0, 7.0\]"):
        model.predict_interval([[0.0, 0.0, 3.5]])
    X, y = rare_classification(300)
    y[:4] = "d"
    y[y == "b"] = "a"
    by_class = ConformalClassifier(LogisticRegression(), method=method, groups="class", random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"coverage=0.9 needs at least 9 calibration rows of the group 'd', got [0-4]"):
        by_class.predict_set(X)
    assert by_class.groups_.tolist() == by_class.classes_.tolist() == list("acd")
    fitted = LogisticRegression().fit(X, y)
    known = y != "d"
    prefit = ConformalClassifier(fitted, cv="prefit", groups="class").fit(X[known], y[known])
    with pytest.raises(ValueError, match=r"of the group 'd', got 0\. Fit on more rows"):
        prefit.predict_set(X, 0.5)


def test_groups_must_be_labels_of_the_rows():
    X, y = grouped_regression(100)
    frame = pd.DataFrame(X, columns=list("abc"))
    for groups, rows, message in [
        ("site", frame, r"groups='site' must be a column of X, which has columns \['a', 'b', 'c'\]"),
        ("site", X, r"has shape \(100, 3\) and no names of columns"),
        (3, X, "groups=3 must be a column of X"),
        (3, frame, "groups=3 must be a column of X"),
        (lambda X: X[:5, 0], X, r"one label for each row.*\(100,\), got shape \(5,\)"),
        (lambda X: np.where(X[:, 0] > 0, np.nan, 1.0), X, "must not be missing"),
    ]:
        with pytest.raises(ValueError, match=message):
            ConformalRegressor(LinearRegression(), groups=groups).fit(rows, y)
    with pytest.raises(TypeError, match=r"one kind, got \['int', 'str'\]"):
        ConformalRegressor(LinearRegression(), groups=lambda X: np.array(["a", 1] * 50, object)).fit(X, y)
    with pytest.raises(ValueError, match="'groups' parameter"):
        ConformalRegressor(LinearRegression(), groups=1.5).fit(X, y)


def test_thresholds_within_groups_are_crepes():
    crepes = pytest.importorskip("crepes")
    # Where c (n + 1) is a whole number crepes may go one rank further, by rounding or by taking p = 1 − c in.
    levels = (0.511, 0.777, 0.853)
    X, y = grouped_regression(900)
    fitted, calibration, new = LinearRegression().fit(X[:200], y[:200]), slice(200, 497), slice(497, 900)
    ours = ConformalRegressor(fitted, cv="prefit", groups=2).fit(X[calibration], y[calibration])
    theirs = crepes.ConformalRegressor()
    theirs.fit(y[calibration] - fitted.predict(X[calibration]), bins=X[calibration, 2])
    for coverage in levels:
        expected = theirs.predict_int(fitted.predict(X[new]), bins=X[new, 2], confidence=coverage)
        np.testing.assert_allclose(ours.predict_interval(X[new], coverage), expected, rtol=1e-12)
    X, y = rare_classification(900)
    fitted = LogisticRegression().fit(X[:200], y[:200])
    ours = ConformalClassifier(fitted, cv="prefit", groups="class", conformity_score="lac")
    ours.fit(X[calibration], y[calibration])
    theirs = crepes.WrapClassifier(fitted)
    theirs.calibrate(X[calibration], y[calibration], class_cond=True, seed=0)
    for coverage in levels:
        expected = [
            np.isin(fitted.classes_, labels)
            for labels in theirs.predict_set(X[new], confidence=coverage, smoothing=False)
        ]
        np.testing.assert_array_equal(ours.predict_set(X[new], coverage), expected)


# Tables of few different rows


SHARES = np.array([[0.02, 0.03, 0.95], [0.1, 0.3, 0.6], [0.96, 0.02, 0.02], [0.34, 0.33, 0.33], [0.5, 0.49, 0.01]])


def categories(n_rows, seed=0):
    """Five categories, one-hot, and three classes with those shares: X, y."""
    rng = np.random.default_rng(seed)
    group = rng.integers(5, size=n_rows)
    return np.eye(5)[group], (rng.uniform(size=(n_rows, 1)) > SHARES[group].cumsum(axis=1)).sum(axis=1)


def counted(X, y):
    """The same rows as a table: different ones, and how often each comes."""
    cells, count = np.unique(np.column_stack([X, y]), axis=0, return_counts=True)
    return cells[:, :-1], cells[:, -1].astype(int), count


@each_method
@pytest.mark.parametrize("as_table", [False, True])
def test_sets_of_categories_are_those_of_their_shares(as_table, method):
    class Table(ConformalClassifier):
        def fit(self, X, y):
            return super().fit(*(counted(X, y) if as_table else (X, y)))

    scores = aps_scores(SHARES)
    # The smallest total probability with the coverage; scores are those of the cells, in their shares.
    order = np.argsort(scores, axis=None)
    reached = np.cumsum(SHARES.ravel()[order] / 5)

    def ask(model, X, y):
        sets = model.predict_set(X, [0.75, 0.93])
        return sets.mean(axis=(0, 1)), set_covers(model, sets, y).mean(axis=0)

    found = repeated(
        lambda s: Table(LogisticRegression(C=1e3), method=method, random_state=s), categories, ask, n_rows=4000
    )
    for coverage, size, hit in zip((0.75, 0.93), *found, strict=True):
        most = scores.ravel()[order][np.searchsorted(reached, coverage)]
        assert size == pytest.approx((scores <= most + 1e-9).mean(), abs=0.05)
        assert hit > coverage - 0.01


@pytest.mark.parametrize("kind", ["array", "sparse", "frame", "words"])
def test_counts_of_a_table_are_rows(kind):
    X, y, count = counted(*categories(2000))
    words = pd.DataFrame({"kind": np.array(["ash", "oak", "elm", "fir", "yew"])[X.argmax(axis=1)]})
    rows = {"array": X, "sparse": sparse.csr_array(X), "frame": pd.DataFrame(X, columns=list("abcde")), "words": words}[
        kind
    ]
    inner = make_pipeline(OneHotEncoder(), LogisticRegression()) if kind == "words" else LogisticRegression()
    for method, n in (("split", 400), ("cross", 2000)):
        for unit in (1, 1 / 2000):
            model = ConformalClassifier(inner, method=method, random_state=0).fit(rows, y, unit * count)
            assert model.n_calibration_ == n
            assert model.predict_set(rows, 0.97).shape == (len(y), 3)
    assert ConformalClassifier(inner.fit(rows, y), cv="prefit").fit(rows, y, count).n_calibration_ == 2000
    # Weights of rows that differ in a number say how much each counts, not how many there are.
    noisy, target = classification(200)
    weight = np.random.default_rng(0).integers(1, 9, 200)
    assert ConformalClassifier(LogisticRegression(), random_state=0).fit(noisy, target, weight).n_calibration_ == 40


def test_a_two_by_two_table_covers_its_rows():
    """Success by treatment, as counts: intervals of the mean of a 0/1 outcome hold nine of ten outcomes."""
    X, y, count = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0.0, 1.0, 0.0, 1.0]), np.array([700, 300, 450, 550])
    hits = []
    for seed in range(20):
        model = ConformalRegressor(LinearRegression(), method="cross", random_state=seed).fit(X, y, count)
        assert model.n_calibration_ == 2000
        np.testing.assert_allclose(model.predict([[0.0], [1.0]]), [0.3, 0.55], rtol=1e-9)
        hits.append(np.average(covered_rows(model.predict_interval(X, 0.6), y), weights=count))
    # The two smaller errors, 0.3 and 0.45, are those of 1250 rows of 2000: 62.5 %.
    np.testing.assert_allclose(hits, 0.625)


# Against formulas written out


def test_class_scores():
    p = np.array([[0.1, 0.6, 0.3], [0.4, 0.2, 0.4]])
    np.testing.assert_allclose(aps_scores(p), [[0.9, 0.0, 0.6], [0.0, 0.8, 0.4]])
    np.testing.assert_allclose(raps_scores(p, 0.5, 1), [[1.9, 0.0, 1.1], [0.0, 1.8, 0.9]])
    np.testing.assert_allclose(raps_scores(p, 0.5, 2), [[1.4, 0.0, 0.6], [0.0, 1.3, 0.4]])
    np.testing.assert_array_equal(raps_scores(p, 0.0, 0), aps_scores(p))


@each_regression_score
@pytest.mark.parametrize("weighted", [False, True])
def test_cv_plus_is_the_published_formula(score, weighted):
    X, y = regression(60)
    weight = np.random.default_rng(1).integers(1, 4, size=60).astype(float) if weighted else np.ones(60)
    cv = KFold(4, shuffle=True, random_state=0)
    model = ConformalRegressor(LinearSpread(), method="cross", conformity_score=score, cv=cv)
    model.fit(X, y, weight if weighted else None)
    new, coverage = regression(5, seed=1)[0], 0.8

    def band(fitted, rows):
        mean, ones = fitted.predict(rows), np.ones(len(rows))
        if score == "quantile":
            return (*fitted.predict_quantiles(rows, [0.1, 0.9]).T, ones)
        return mean, mean, fitted.std(rows) if score == "normalized" else ones

    ends, weights = [], []
    for train, test in cv.split(X):
        fitted = LinearSpread().fit(X[train], y[train], weight[train])
        lower, upper, scale = band(fitted, X[test])
        residual = np.maximum(lower - y[test], y[test] - upper) / scale
        lower, upper, scale = band(fitted, new)
        ends.append(np.stack([lower + -residual[:, None] * scale, upper + residual[:, None] * scale]))
        weights.append(weight[test])
    ends, weights = np.concatenate(ends, axis=1), np.concatenate(weights)
    needed = coverage * (weights.sum() + weights.mean())
    for i in range(len(new)):
        lower = max(v for v in ends[0, :, i] if weights[ends[0, :, i] >= v].sum() >= needed)
        upper = min(v for v in ends[1, :, i] if weights[ends[1, :, i] <= v].sum() >= needed)
        np.testing.assert_allclose(model.predict_interval(new, coverage)[i], [lower, upper], rtol=1e-12)


@each_regression_score
def test_weights_count_rows(score):
    X, y = regression(200)
    weight = np.random.default_rng(0).integers(0, 3, size=200)
    fitted = LinearSpread().fit(X, y)
    options = {"conformity_score": score, "cv": "prefit"}
    few = ConformalRegressor(fitted, **options).fit(X, y, weight)
    many = ConformalRegressor(fitted, **options).fit(X[weight > 0], y[weight > 0], 7.5 * weight[weight > 0])
    np.testing.assert_allclose(few.predict_interval(X, 0.7), many.predict_interval(X, 0.7), rtol=1e-12)
    assert few.n_calibration_ == many.n_calibration_ == np.count_nonzero(weight)
    assert (
        np.abs(ConformalRegressor(fitted, **options).fit(X, y).predict_interval(X) - few.predict_interval(X)).max() > 0
    )
    equal = ConformalRegressor(fitted, **options).fit(X, y, np.full(200, 0.3))
    np.testing.assert_array_equal(
        equal.predict_interval(X), ConformalRegressor(fitted, **options).fit(X, y).predict_interval(X)
    )


# Against MAPIE


LEVELS = [0.5, 0.8, 0.93]


def test_split_intervals_are_mapies():
    X, y = regression(600)
    fitted = LinearRegression().fit(X[:200], y[:200])
    ours = ConformalRegressor(fitted, cv="prefit").fit(X[200:457], y[200:457])
    theirs = SplitConformalRegressor(fitted, confidence_level=LEVELS).conformalize(X[200:457], y[200:457])
    points, intervals = theirs.predict_interval(X[457:])
    np.testing.assert_array_equal(ours.predict(X[457:]), points)
    np.testing.assert_array_equal(ours.predict_interval(X[457:], LEVELS), intervals)


def test_normalized_intervals_are_mapies():
    X, y = regression(600)
    cv = KFold(3)
    ours = ConformalRegressor(BayesianRidge(), method="cross", conformity_score="normalized", cv=cv).fit(
        X[:300], y[:300]
    )
    theirs = CrossConformalRegressor(
        BayesianRidge(), confidence_level=LEVELS, conformity_score=StdConformityScore(), cv=cv
    ).fit_conformalize(X[:300], y[:300])
    np.testing.assert_allclose(
        ours.predict_interval(X[300:], LEVELS), theirs.predict_interval(X[300:])[1], rtol=1e-10, atol=1e-10
    )


def test_cross_intervals_are_mapies():
    X, y = regression(500)
    cv = KFold(5, shuffle=True, random_state=0)
    ours = ConformalRegressor(LinearRegression(), method="cross", cv=cv).fit(X[:301], y[:301])
    theirs = CrossConformalRegressor(LinearRegression(), confidence_level=LEVELS, cv=cv).fit_conformalize(
        X[:301], y[:301]
    )
    points, intervals = theirs.predict_interval(X[301:], aggregate_point_predictions=None)
    np.testing.assert_allclose(ours.predict(X[301:]), points, rtol=1e-12)
    np.testing.assert_allclose(ours.predict_interval(X[301:], LEVELS), intervals, rtol=1e-12)


def test_quantile_intervals_are_mapies():
    X, y = regression(600)
    lower, upper, median = (QuantileRegressor(quantile=q, alpha=0).fit(X[:200], y[:200]) for q in (0.1, 0.9, 0.5))

    class Three(RegressorMixin, BaseEstimator):
        def fit(self, X, y):
            raise AssertionError("a fitted estimator must not be fitted again")

        def __sklearn_is_fitted__(self):
            return True

        def predict(self, X):
            return median.predict(X)

        def predict_interval(self, X, coverage):
            assert coverage in (0.8, 0.9)
            return np.stack([lower.predict(X), upper.predict(X)], axis=-1)

    ours = ConformalRegressor(Three(), conformity_score="quantile", cv="prefit").fit(X[200:450], y[200:450])
    theirs = ConformalizedQuantileRegressor([lower, upper, median], confidence_level=0.8, prefit=True)
    theirs = theirs.conformalize(X[200:450], y[200:450])
    _, interval = theirs.predict_interval(X[450:], symmetric_correction=True)
    np.testing.assert_array_equal(ours.predict_interval(X[450:], 0.8), interval[..., 0])


def test_lac_sets_are_mapies():
    X, y = classification(900)
    fitted = LogisticRegression().fit(X[:200], y[:200])
    ours = ConformalClassifier(fitted, conformity_score="lac", cv="prefit").fit(X[200:457], y[200:457])
    theirs = SplitConformalClassifier(fitted, confidence_level=LEVELS).conformalize(X[200:457], y[200:457])
    labels, sets = theirs.predict_set(X[457:])
    np.testing.assert_array_equal(ours.predict(X[457:]), labels)
    np.testing.assert_array_equal(ours.predict_set(X[457:], LEVELS), sets)


@blitz
def test_mapie_takes_our_regressors():
    X, y = regression(400)
    model = skuq.ProbabilisticRegressor(hidden_layer_sizes=(8,), max_iter=10, backend="blitz", random_state=0)
    fitted = clone(model).fit(X[:200], y[:200])
    split = SplitConformalRegressor(fitted, confidence_level=0.8).conformalize(X[200:], y[200:])
    ours = ConformalRegressor(fitted, cv="prefit").fit(X[200:], y[200:])
    np.testing.assert_allclose(ours.predict_interval(X, 0.8), split.predict_interval(X)[1][..., 0], rtol=1e-12)
    cross = CrossConformalRegressor(model, confidence_level=0.8, cv=KFold(3)).fit_conformalize(X, y)
    assert abs(covered(cross.predict_interval(X)[1][..., 0], y) - 0.8) < 0.05
    # MAPIE's own normalised score reads our standard deviation.
    normalized = CrossConformalRegressor(
        model, confidence_level=0.8, cv=KFold(3), conformity_score=StdConformityScore()
    )
    interval = normalized.fit_conformalize(X, y).predict_interval(X)[1][..., 0]
    own = ConformalRegressor(model, method="cross", conformity_score="normalized", cv=KFold(3)).fit(X, y)
    np.testing.assert_allclose(own.predict_interval(X, 0.8), interval, rtol=1e-9)


@blitz
def test_mapie_takes_our_classifiers():
    X, y = classification(500)
    model = skuq.ProbabilisticClassifier(hidden_layer_sizes=(8,), max_iter=10, backend="blitz", random_state=0)
    fitted = clone(model).fit(X[:250], y[:250])
    split = SplitConformalClassifier(fitted, confidence_level=0.8).conformalize(X[250:], y[250:])
    ours = ConformalClassifier(fitted, conformity_score="lac", cv="prefit").fit(X[250:], y[250:])
    np.testing.assert_array_equal(ours.predict_set(X, 0.8), split.predict_set(X)[1][..., 0])
    cross = CrossConformalClassifier(model, confidence_level=0.8, cv=3, random_state=0).fit_conformalize(X, y)
    assert abs(set_covers(fitted, cross.predict_set(X)[1][..., 0], y).mean() - 0.8) < 0.07


# Around skuq's own estimators


@blitz
@pytest.mark.parametrize("score", ["normalized", "quantile"])
def test_our_regressor_is_calibrated(score):
    X, y = regression(31_000, seed=1)
    inner = skuq.ProbabilisticRegressor(hidden_layer_sizes=(8,), max_iter=20, backend="blitz", random_state=0)
    inner.fit(X[:1000], y[:1000])
    model = ConformalRegressor(inner, conformity_score=score, cv="prefit").fit(X[1000:21_000], y[1000:21_000])
    interval = model.predict_interval(X[21_000:], [0.8, 0.9])
    np.testing.assert_allclose([covered(interval[..., i], y[21_000:]) for i in (0, 1)], [0.8, 0.9], atol=0.01)


@blitz
def test_our_classifier_is_calibrated():
    X, y = classification(31_000)
    inner = skuq.ProbabilisticClassifier(hidden_layer_sizes=(8,), max_iter=20, backend="blitz", random_state=0)
    inner.fit(X[:1000], y[:1000])
    model = ConformalClassifier(inner, cv="prefit").fit(X[1000:21_000], y[1000:21_000])
    assert abs(set_covers(model, model.predict_set(X[21_000:]), y[21_000:]).mean() - 0.9) < 0.01
    np.testing.assert_array_equal(model.predict_proba(X), model.estimator_.predict_proba(X))


@blitz
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_default_estimator_is_ours(task):
    X, y = (regression if task == "regression" else classification)(60)
    outer = (ConformalRegressor if task == "regression" else ConformalClassifier)(cv=2, random_state=0).fit(X, y)
    assert type(outer.estimator_).__name__ == f"Probabilistic{'Regressor' if task == 'regression' else 'Classifier'}"
    assert outer.estimator_.random_state == 0
    assert len(outer.predict_interval(X) if task == "regression" else outer.predict_set(X)) == 60


@blitz
@each_method
def test_several_outputs(method):
    X, y = regression(300, n_outputs=2)
    inner = skuq.ProbabilisticRegressor(hidden_layer_sizes=(), max_iter=20, backend="blitz", random_state=0)
    for score in REGRESSION_SCORES:
        model = ConformalRegressor(inner, method=method, conformity_score=score, cv=3, random_state=0).fit(X, y)
        assert model.predict(X).shape == (300, 2)
        assert model.predict_interval(X[:7]).shape == (7, 2, 2)
        interval = model.predict_interval(X, [0.5, 0.8, 0.9])
        assert interval.shape == (300, 2, 2, 3)
        np.testing.assert_allclose([covered(interval[..., 2], y)], 0.9, atol=0.08)
        np.testing.assert_array_equal(interval[..., 1], model.predict_interval(X, 0.8))


# Composites


def test_prefit_and_frozen_are_one():
    X, y = regression(300)
    fitted = make_pipeline(StandardScaler(), LinearSpread()).fit(X[:100], y[:100])
    for score in REGRESSION_SCORES:
        prefit = ConformalRegressor(fitted, conformity_score=score, cv="prefit").fit(X[100:], y[100:])
        frozen = ConformalRegressor(FrozenEstimator(fitted), conformity_score=score).fit(X[100:], y[100:])
        assert prefit.estimator_ is fitted
        assert prefit.n_calibration_ == frozen.n_calibration_ == 200
        np.testing.assert_array_equal(prefit.predict_interval(X), frozen.predict_interval(X))


@each_method
@each_regression_score
def test_pipelines_and_searches(method, score):
    X, y = regression(300)
    options = {"method": method, "conformity_score": score, "random_state": 0}
    bare = ConformalRegressor(LinearSpread(), **options).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), LinearSpread())
    inside = ConformalRegressor(pipeline, **options).fit(X, y)
    np.testing.assert_allclose(inside.predict_interval(X), bare.predict_interval(X), rtol=1e-9)
    outside = make_pipeline(StandardScaler(), clone(bare)).fit(X, y)
    np.testing.assert_allclose(skuq.predict_interval(outside, X), bare.predict_interval(X), rtol=1e-9)
    search = GridSearchCV(pipeline, {"standardscaler__with_std": [True]}, cv=2)
    searched = ConformalRegressor(search, **options).fit(X, y, np.full(300, 2.0))
    np.testing.assert_allclose(searched.predict_interval(X), bare.predict_interval(X), rtol=1e-9)


@pytest.mark.parametrize("inner", ["pipeline", "search"])
def test_weights_reach_the_predictor(inner):
    X, y = regression(300)
    weight = np.where(X[:, 0] > 0, 1.0, 1e-9)
    pipeline = make_pipeline(StandardScaler(with_mean=False, with_std=False), LinearRegression())
    estimator = (
        pipeline if inner == "pipeline" else GridSearchCV(pipeline, {"linearregression__positive": [False]}, cv=2)
    )
    bare = ConformalRegressor(LinearRegression(), random_state=0).fit(X, y, weight)
    around = ConformalRegressor(estimator, random_state=0).fit(X, y, weight)
    np.testing.assert_allclose(around.predict_interval(X), bare.predict_interval(X))


def test_weights_are_routed():
    X, y = regression(200)
    weight = np.random.default_rng(0).uniform(size=200)
    expected = (
        ConformalRegressor(make_pipeline(LinearRegression()), random_state=0).fit(X, y, weight).predict_interval(X)
    )
    with config_context(enable_metadata_routing=True):
        inner = make_pipeline(LinearRegression().set_fit_request(sample_weight=True))
        found = ConformalRegressor(inner, random_state=0).fit(X, y, sample_weight=weight).predict_interval(X)
        outer = make_pipeline(ConformalRegressor(inner, random_state=0).set_fit_request(sample_weight=True))
        around = skuq.predict_interval(outer.fit(X, y, sample_weight=weight), X)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(around, expected)


def test_frames_keep_their_names():
    X, y = regression(100)
    frame, target = pd.DataFrame(X, columns=list("abc")), pd.Series(y)
    model = ConformalRegressor(make_pipeline(StandardScaler(), LinearRegression()), random_state=0).fit(frame, target)
    assert model.feature_names_in_.tolist() == list("abc")
    assert model.n_features_in_ == 3
    plain = ConformalRegressor(make_pipeline(StandardScaler(), LinearRegression()), random_state=0).fit(X, y)
    np.testing.assert_allclose(model.predict_interval(frame), plain.predict_interval(X), rtol=1e-9)


def test_rows_may_be_text():
    X, y = ["red apple", "green apple", "red rose", "blue sea"] * 30, ["food", "food", "plant", "water"] * 30
    model = ConformalClassifier(make_pipeline(TfidfVectorizer(), LogisticRegression()), random_state=0).fit(X, y)
    assert model.predict_set(["green apple", "sea"]).tolist() == [[True, False, False], [False, False, True]]
    assert not hasattr(model, "n_features_in_")


def test_cv_says_who_is_held_out():
    X, y = regression(100)
    for cv, expected in ((None, 20), (4, 25), (ShuffleSplit(1, test_size=0.3, random_state=0), 30), (KFold(10), 10)):
        assert ConformalRegressor(LinearRegression(), cv=cv).fit(X, y).n_calibration_ == expected
    model = ConformalRegressor(LinearRegression(), method="cross", cv=4).fit(X, y)
    assert model.n_calibration_ == 100
    assert len(model.estimators_) == 4
    np.testing.assert_allclose(model.estimator_.coef_, LinearRegression().fit(X, y).coef_)


def test_a_class_may_be_missing_from_a_fold():
    X, y = classification(120)
    y[:] = np.where(y == "a", "b", y)
    y[0] = "a"
    model = ConformalClassifier(LogisticRegression(), method="cross", cv=KFold(3)).fit(X, y)
    assert model.classes_.tolist() == list("abcdef")
    assert sorted(len(inner.classes_) for inner in model.estimators_) == [5, 6, 6]
    assert model.predict_proba(X).shape == model.predict_set(X).shape == (120, 6)
    split = ConformalClassifier(LogisticRegression(), cv=KFold(3)).fit(X, y)
    assert (split.predict_proba(X)[:, 0] == 0).all()


@parametrize_with_checks(
    [
        *(ConformalRegressor(LinearRegression(), method=method) for method in METHODS),
        *(ConformalClassifier(LogisticRegression(), method=method) for method in METHODS),
    ]
)
def test_check_estimator(estimator, check):
    check(estimator)


def test_sets_do_not_depend_on_the_rows_beside():
    X, y = classification(300)
    model = ConformalClassifier(LogisticRegression(), method="cross", random_state=0).fit(X, y)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(model.predict_set(X[order]), model.predict_set(X)[order])
    np.testing.assert_array_equal(np.concatenate([model.predict_set(row[None]) for row in X]), model.predict_set(X))


# Bad input


@pytest.mark.parametrize("coverage", [0, 1, 90, -0.1, [0.5, 1.0], []])
def test_a_coverage_is_a_probability(coverage):
    X, y = regression(100)
    with pytest.raises(ValueError, match="coverage must lie strictly between 0 and 1"):
        ConformalRegressor(LinearRegression()).fit(X, y).predict_interval(X, coverage)
    with pytest.raises(ValueError, match="coverage must lie strictly between 0 and 1"):
        ConformalClassifier(LogisticRegression()).fit(X, y > 0).predict_set(X, coverage)


@each_method
def test_a_coverage_needs_rows(method):
    X, y = regression(50)
    n = 10 if method == "split" else 50
    message = f"coverage=0.99 needs at least 99 calibration rows, got {n}"
    with pytest.raises(ValueError, match=message):
        ConformalRegressor(LinearRegression(), method=method).fit(X, y).predict_interval(X, [0.5, 0.99])
    with pytest.raises(ValueError, match=message):
        ConformalClassifier(LogisticRegression(), method=method).fit(X, y > 0).predict_set(X, 0.99)
    just = ConformalRegressor(LinearRegression(), method=method).fit(X, y)
    assert np.isfinite(just.predict_interval(X, n / (n + 1))).all()
    with pytest.raises(ValueError, match=f"got {n}"):
        just.predict_interval(X, n / (n + 1) + 1e-6)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (ConformalRegressor(KNeighborsRegressor(), conformity_score="normalized"), "needs a predicted spread"),
        (ConformalRegressor(LinearRegression(), conformity_score="quantile"), "needs predicted quantiles"),
        (ConformalRegressor(LogisticRegression()), "needs a regressor"),
        (ConformalClassifier(LinearRegression()), "needs a classifier"),
        (ConformalClassifier(RidgeClassifier()), "no predict_proba"),
    ],
)
def test_an_estimator_must_say_enough(estimator, message):
    X, y = regression(50)
    with pytest.raises(TypeError, match=message):
        estimator.fit(X, y if isinstance(estimator, ConformalRegressor) else y > 0)


@pytest.mark.parametrize("kind", [ConformalRegressor, ConformalClassifier])
def test_parameters_are_checked(kind):
    X, y = regression(50)
    y = y > 0
    inner = LinearRegression() if kind is ConformalRegressor else LogisticRegression()
    for wrong in (
        {"method": "jackknife"},
        {"conformity_score": "residual"},
        {"cv": "frozen"},
        {"cv": 1},
        {"estimator": 3},
        {"random_state": "x"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            kind(**{"estimator": inner, **wrong}).fit(X, y)
    for frozen in ({"estimator": inner.fit(X, y), "cv": "prefit"}, {"estimator": FrozenEstimator(inner)}):
        with pytest.raises(ValueError, match="Use method='split'"):
            kind(**frozen, method="cross").fit(X, y)
    with pytest.raises(ValueError, match="in at most one held-out fold"):
        kind(inner, method="cross", cv=ShuffleSplit(4, random_state=0)).fit(X, y)
    with pytest.raises(ValueError, match="need at least 60 rows"):
        kind(inner, cv=60).fit(X, y)
    with pytest.raises(NotFittedError):
        kind(clone(inner), cv="prefit").fit(X, y)
    with pytest.raises(NotFittedError):
        kind(inner).predict(X)
    with pytest.raises(ValueError, match="weight of zero"):
        kind(inner, cv=KFold(5)).fit(X, y, np.repeat([0.0, 1.0], [10, 40]))
    unweighted = KNeighborsRegressor() if kind is ConformalRegressor else make_pipeline(NoWeights())
    with pytest.raises(ValueError, match="takes no sample_weight"):
        kind(unweighted).fit(X, y, np.ones(50))


class NoWeights(DummyClassifier):
    def fit(self, X, y):
        return super().fit(X, y)


def test_targets_must_suit_the_fitted_estimator():
    X, y = classification(100)
    fitted = LogisticRegression().fit(X[y < "e"], y[y < "e"])
    with pytest.raises(ValueError, match=r"does not know: \['e', 'f'\]"):
        ConformalClassifier(fitted, cv="prefit").fit(X, y)
    X, y = regression(100, n_outputs=2)
    with pytest.raises(ValueError, match=r"predicts 1 output\(s\), y has 2"):
        ConformalRegressor(LinearRegression().fit(X, y[:, 0]), cv="prefit").fit(X, y)


# Temperature


def logits_and_labels(n_rows=2000, temperature=2.5, n_classes=4, seed=0):
    """Logits `temperature` times too large for the labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n_rows, n_classes))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return temperature * logits, y


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_temperature_is_the_one_that_made_the_logits_too_large():
    assert fit_temperature(*logits_and_labels(50_000)) == pytest.approx(2.5, rel=0.03)
    assert fit_temperature(*logits_and_labels(50_000, temperature=0.4)) == pytest.approx(0.4, rel=0.03)


def test_temperature_minimises_the_log_loss():
    logits, y = logits_and_labels()
    weight = np.random.default_rng(0).uniform(size=len(y))
    for w in (None, weight):
        best = fit_temperature(logits, y, w)
        losses = [log_loss(y, softmax(logits / t), sample_weight=w) for t in (best, 0.99 * best, 1.01 * best)]
        assert losses[0] == min(losses)


def test_temperature_is_scikit_learns():
    class Logits(LogisticRegression):
        """Says what it is given."""

        def decision_function(self, X):
            return X

        def predict_proba(self, X):
            return softmax(X)

    logits, y = logits_and_labels()
    inner = FrozenEstimator(Logits().fit(logits, y))
    theirs = CalibratedClassifierCV(inner, method="temperature").fit(logits, y)
    expected = 1 / theirs.calibrated_classifiers_[0].calibrators[0].beta_
    assert fit_temperature(logits, y) == pytest.approx(expected, rel=1e-3)


def test_temperature_of_probabilities_and_of_one_logit():
    logits, y = logits_and_labels()
    expected = fit_temperature(logits, y)
    assert fit_temperature(softmax(logits), y) == pytest.approx(expected, rel=1e-9)
    assert fit_temperature(logits + 100, y) == pytest.approx(expected, rel=1e-9)
    logits, y = logits_and_labels(n_classes=2)
    expected = fit_temperature(logits, y)
    for one in (logits[:, 1] - logits[:, 0], (logits[:, 1] - logits[:, 0])[:, None]):
        assert fit_temperature(one, y) == pytest.approx(expected, rel=1e-9)


def test_temperature_has_ends():
    sure = 5.0 * np.eye(3)
    assert fit_temperature(sure, [0, 1, 2]) == 0.01
    assert fit_temperature(sure, [1, 2, 0]) == 100.0
    assert fit_temperature(np.array([[1.0, 0.0], [0.5, 0.5]]), [0, 1]) == 0.01


@pytest.mark.parametrize("y", [[0, 3], [-1, 0], ["a", "b"], [0.5, 1.0]])
def test_temperature_takes_column_numbers(y):
    with pytest.raises(ValueError, match="y must hold column numbers 0 to 2"):
        fit_temperature(np.zeros((2, 3)), y)


def test_stratified_folds_are_the_default_for_classes():
    X, y = classification(300)
    y[:] = np.where(np.arange(300) % 30 == 0, "a", "b")
    model = ConformalClassifier(DummyClassifier(), method="cross", random_state=0).fit(X, y)
    assert [inner.class_prior_[0] for inner in model.estimators_] == [8 / 240] * 5
    own = ConformalClassifier(LogisticRegression(), method="cross", cv=StratifiedKFold(3)).fit(X, y)
    assert own.n_calibration_ == 300
