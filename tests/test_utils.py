"""check_uq_estimator: what keeps the contract passes, and what breaks any one property is told so."""

import numpy as np
import pytest
from _table import ESTIMATORS, case, make
from scipy import special, stats
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.linear_model import BayesianRidge, LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_random_state

from skuq._prediction.distributions import Uncertainty, smallest_sets
from skuq.calibration import ConformalClassifier, ConformalRegressor
from skuq.utils import check_uq_estimator


class GoodRegressor(RegressorMixin, BaseEstimator):
    """Bayesian linear regression in closed form; owes nothing to skuq's estimators."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y):
        self.single_ = y.ndim == 1
        y = y.reshape(len(y), -1)
        self.center_, self.unit_ = y.mean(axis=0), y.std(axis=0)
        self.models_ = [BayesianRidge().fit(X, z) for z in ((y - self.center_) / self.unit_).T]
        return self

    def moments(self, X):
        mean = np.stack([m.predict(X) for m in self.models_], axis=1) * self.unit_ + self.center_
        total = np.stack([m.predict(X, return_std=True)[1] for m in self.models_], axis=1) ** 2 * self.unit_**2
        noise = np.array([1 / m.alpha_ for m in self.models_]) * self.unit_**2 * np.ones_like(total)
        return [part[:, 0] if self.single_ else part for part in (mean, total, noise)]

    def predict(self, X, return_std=False):
        mean, total, _ = self.moments(X)
        return (mean, np.sqrt(total)) if return_std else mean

    def predict_uncertainty(self, X):
        _, total, noise = self.moments(X)
        return Uncertainty(total, noise, total - noise)

    def predict_quantiles(self, X, quantiles=(0.05, 0.5, 0.95)):
        return Normal(*self.predict(X, return_std=True)).ppf(np.atleast_1d(quantiles))

    def predict_interval(self, X, coverage=0.9):
        coverage = np.asarray(coverage)
        if not np.all((coverage > 0) & (coverage < 1)):
            raise ValueError("coverage")
        tails = np.stack([0.5 - coverage / 2, 0.5 + coverage / 2])
        ends = Normal(*self.predict(X, return_std=True)).ppf(tails.ravel())
        return ends.reshape(*ends.shape[:-1], *tails.shape)

    def predict_dist(self, X):
        return Normal(*self.predict(X, return_std=True))

    def sample_y(self, X, n_samples=1, random_state=0):
        mean, std = self.predict(X, return_std=True)
        return mean[..., None] + std[..., None] * check_random_state(random_state).normal(size=(*mean.shape, n_samples))


class Normal:
    def __init__(self, mean, std):
        self.dist = stats.norm(mean, std)
        self.mean, self.var, self.std, self.cdf = self.dist.mean, self.dist.var, self.dist.std, self.dist.cdf

    def ppf(self, q):
        return np.stack([self.dist.ppf(level) for level in q], axis=-1)


class GoodClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regressions on halves of the rows: each is a draw."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y):
        rng = check_random_state(self.random_state)
        halves = [rng.permutation(len(y))[: len(y) // 2] for _ in range(8)]
        self.models_ = [LogisticRegression(C=100.0).fit(X[half], y[half]) for half in halves]
        self.classes_ = np.unique(y)
        return self

    def draws(self, X):
        return np.stack([m.predict_proba(X) for m in self.models_])

    def predict_proba(self, X):
        return self.draws(X).mean(axis=0)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def predict_uncertainty(self, X):
        total = special.entr(self.predict_proba(X)).sum(axis=1)
        aleatoric = special.entr(self.draws(X)).sum(axis=2).mean(axis=0)
        return Uncertainty(total, aleatoric, total - aleatoric)

    def predict_quantiles(self, X, quantiles=(0.05, 0.5, 0.95)):
        return np.moveaxis(np.quantile(self.draws(X), np.atleast_1d(quantiles), axis=0), 0, -1)

    def predict_interval(self, X, coverage=0.9):
        coverage = np.asarray(coverage)
        if not np.all((coverage > 0) & (coverage < 1)):
            raise ValueError("coverage")
        tails = np.stack([0.5 - coverage / 2, 0.5 + coverage / 2])
        ends = self.predict_quantiles(X, tails.ravel())
        return ends.reshape(*ends.shape[:-1], *tails.shape)

    def predict_set(self, X, coverage=0.9):
        if not 0 < coverage < 1:
            raise ValueError("coverage")
        return smallest_sets(self.predict_proba(X), coverage)

    def predict_dist(self, X):
        return Categorical(self.predict_proba(X), self.classes_)

    def sample_y(self, X, n_samples=1, random_state=0):
        rng, proba = check_random_state(random_state), self.predict_proba(X)
        return np.stack([rng.choice(self.classes_, size=n_samples, p=p) for p in proba])


class Categorical:
    def __init__(self, probabilities, classes):
        self.probabilities, self.classes = probabilities, classes

    def mean(self):
        return self.probabilities

    def logpdf(self, y):
        return np.log(self.probabilities[np.arange(len(y)), np.searchsorted(self.classes, y)])


# What passes


@pytest.mark.parametrize(("name", "backend"), [case("blitz", name) for name in ESTIMATORS])
def test_our_estimators_pass(name, backend):
    estimator = make(name, backend, hidden_layer_sizes=(16,))
    check_uq_estimator(estimator, distance_aware=not name.startswith("Probabilistic"))
    assert vars(estimator) == estimator.get_params(deep=False)


@pytest.mark.parametrize(("family", "backend"), [case("blitz", family) for family in ("poisson", "gamma", "lognormal")])
def test_our_positive_likelihoods_pass(family, backend):
    check_uq_estimator(make("DeepEnsembleRegressor", backend, likelihood=family))


@pytest.mark.parametrize("estimator", [GoodRegressor(), GoodClassifier()], ids=["regressor", "classifier"])
def test_third_parties_pass(estimator):
    check_uq_estimator(estimator, distance_aware=True)
    check_uq_estimator(make_pipeline(StandardScaler(), estimator))
    check_uq_estimator(clone(estimator).fit(np.arange(16.0)[:, None], np.arange(16) % 2))


@pytest.mark.parametrize("method", ["split", "cross"])
@pytest.mark.parametrize("score", ["absolute", "normalized", "quantile"])
def test_conformal_regressors_pass(method, score):
    check_uq_estimator(
        ConformalRegressor(GoodRegressor(), method=method, conformity_score=score, cv=3), methods=["predict_interval"]
    )


@pytest.mark.parametrize("method", ["split", "cross"])
@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
def test_conformal_classifiers_pass(method, score):
    check_uq_estimator(
        ConformalClassifier(LogisticRegression(), method=method, conformity_score=score),
        methods=["predict_proba", "predict_set"],
    )


# What does not. Each fake changes one answer of a good estimator; where the change would break several properties, the
# check is told to look at that answer alone.


def override(base, **methods):
    return type("Broken" + base.__name__, (base,), methods)()


def changed(base, method, change):
    """Good estimator whose answer of `method` goes through ``change(answer, X)``."""

    def answer(self, X, *args, **kwargs):
        return change(getattr(base, method)(self, X, *args, **kwargs), X)

    return override(base, **{method: answer})


def moments(change):
    """Good regressor whose (mean, total, noise) go through ``change(mean, total, noise, X)``; consistent otherwise."""
    return changed(GoodRegressor, "moments", lambda m, X: change(*m, X))


def distribution(kind):
    """Good regressor whose predict_dist is of another kind."""
    return override(GoodRegressor, predict_dist=lambda self, X: kind(*self.predict(X, return_std=True)))


def along_rows(answer, values):
    return np.reshape(values, (-1, *[1] * (answer.ndim - 1)))


def counting(answer, _, calls=[]):  # noqa: B006
    """A number that rises with every call, as global state does."""
    calls.append(1)
    return answer + 1e-3 * len(calls)


def refuses_nothing(self, X, coverage=0.9):
    return GoodRegressor.predict_interval(self, X, np.clip(coverage, 0.01, 0.99))


def unseeded(self, X, y):
    GoodRegressor.fit(self, X, y)
    self.center_ = self.center_ + 0.01 * self.unit_ * np.random.default_rng().normal()
    return self


def unseeded_samples(self, X, n_samples=1, random_state=0):
    return GoodRegressor.sample_y(self, X, n_samples, None)


class Shifted(Normal):
    def __init__(self, mean, std):
        super().__init__(mean + 0.1, std)


class Wider(Normal):
    def __init__(self, mean, std):
        super().__init__(mean, 1.1 * std)


class OtherQuantiles(Normal):
    def ppf(self, q):
        return super().ppf(q) + 0.1


class OtherCdf(Normal):
    def __init__(self, mean, std):
        super().__init__(mean, std)
        self.cdf = stats.logistic(mean, std).cdf


class Bits(Categorical):
    def logpdf(self, y):
        return super().logpdf(y) / np.log(2)


R, C = GoodRegressor, GoodClassifier
BROKEN = {
    # what: (estimator, methods to check, what the check must say)
    "a method is missing": (override(R, predict_dist=property()), None, "has no predict_dist"),
    "shape of predict": (changed(R, "predict", lambda a, X: np.array(a)[..., None]), [], "predict must have shape"),
    "shape of std": (
        override(
            R, predict=lambda self, X, return_std=False: (R.predict(self, X), 1.0) if return_std else R.predict(self, X)
        ),
        [],
        r"predict\(return_std=True\) must have shape",
    ),
    "shape of intervals": (
        changed(R, "predict_interval", lambda a, X: np.moveaxis(a, 1, -1)),
        None,
        "predict_interval must have shape",
    ),
    "shape of a list of one": (
        changed(R, "predict_interval", lambda a, X: a[..., 0] if a.shape[-1] == 1 else a),
        None,
        r"predict_interval\(coverage=\[0.9\]\) must have shape",
    ),
    "shape of samples": (changed(R, "sample_y", lambda a, X: a[..., 0]), None, "sample_y.* must have shape"),
    "shape of several outputs": (
        changed(R, "predict_quantiles", lambda a, X: np.moveaxis(a, 1, -1) if a.ndim == 3 else a),
        None,
        r"predict_quantiles must have shape \(40, 2, 5\)",
    ),
    "shape of sets": (changed(C, "predict_set", lambda a, X: a[..., None]), None, "predict_set must have shape"),
    "shape of labels": (changed(C, "predict", lambda a, X: a[..., None]), None, "predict must have shape"),
    "shape of sampled labels": (changed(C, "sample_y", lambda a, X: a.T), None, "sample_y.* must have shape"),
    "not finite": (
        changed(R, "predict_quantiles", lambda a, X: np.where(a > a.min(), a, np.nan)),
        None,
        "predict_quantiles must be finite, got 1 of 200",
    ),
    "ends swapped": (changed(R, "predict_interval", lambda a, X: a[:, ::-1]), None, "must not exceed its upper end"),
    "intervals do not nest": (
        changed(R, "predict_interval", lambda a, X: a[..., ::-1] if a.ndim == 3 else a),
        None,
        "predict_interval must nest",
    ),
    "credible intervals do not nest": (
        changed(C, "predict_interval", lambda a, X: a[..., ::-1] if a.ndim == 4 else a),
        None,
        "predict_interval must nest",
    ),
    "a list is another thing": (
        changed(R, "predict_interval", lambda a, X: a + (0.1 if a.ndim == 2 else 0)),
        None,
        "alone and in a list must agree",
    ),
    "quantiles fall": (changed(R, "predict_quantiles", lambda a, X: a[..., ::-1]), None, "must rise with the level"),
    "not central": (changed(R, "predict_interval", lambda a, X: a + 0.1), None, "predict_interval must be central"),
    "negative": (
        changed(R, "predict_uncertainty", lambda u, X: Uncertainty(u.total, u.total + 1, -np.ones_like(u.total))),
        None,
        "epistemic must be ≥ 0, got -1",
    ),
    "does not add up": (
        changed(R, "predict_uncertainty", lambda u, X: u._replace(epistemic=np.sqrt(u.epistemic))),
        None,
        r"aleatoric \+ epistemic must be total",
    ),
    "not the variance": (
        changed(R, "predict_uncertainty", lambda u, X: Uncertainty(*(2 * part for part in u))),
        None,
        "must be the root of predict_uncertainty.total",
    ),
    "another mean": (distribution(Shifted), ["predict_dist"], "must agree with predict: mean"),
    "another variance": (distribution(Wider), ["predict_dist", "predict_uncertainty"], "must agree with .*: variance"),
    "other quantiles": (distribution(OtherQuantiles), ["predict_dist", "predict_quantiles"], "predict_quantiles: ppf"),
    "another cdf": (distribution(OtherCdf), None, "its cdf at its quantiles must be their levels"),
    "samples are off": (changed(R, "sample_y", lambda a, X: a + 3 * a.std()), None, "must have the mean of predict"),
    "samples are not seeded": (override(R, sample_y=unseeded_samples), None, "sample_y must be the same for one"),
    "answers change": (override(R, predict=lambda self, X: counting(R.predict(self, X), X)), [], "same answer twice"),
    "the seed is ignored": (override(R, fit=unseeded), None, "two fits with one random_state"),
    "the order matters": (
        moments(lambda mean, total, noise, X: (mean + along_rows(mean, np.linspace(0, 1, len(X))), total, noise)),
        None,
        "must not depend on the order of the rows",
    ),
    "the rows beside matter": (
        moments(lambda mean, total, noise, X: (mean, total + np.mean(X**2), noise)),
        None,
        "must not depend on the rows beside",
    ),
    "refuses nothing": (override(R, predict_interval=refuses_nothing), None, "must raise a ValueError for coverage=0"),
    "noise in absolute units": (
        moments(lambda mean, total, noise, X: (mean, total - noise + 2, 2 + 0 * noise)),
        None,
        "must follow the units of y",
    ),
    "mean in absolute units": (
        moments(lambda mean, total, noise, X: (np.clip(mean, 0, 50), total, noise)),
        None,
        "predict must follow the units of y",
    ),
    "certain far away": (
        moments(
            lambda mean, total, noise, X: (
                mean,
                noise + (total - noise) / along_rows(total, 1 + np.sum(X**2, axis=1) ** 2),
                noise,
            )
        ),
        None,
        "must be larger far from the training rows",
    ),
    "probabilities do not sum to one": (
        changed(C, "draws", lambda a, X: 1.1 * a),
        ["predict_proba"],
        "each row must sum to 1",
    ),
    "negative probabilities": (
        changed(C, "draws", lambda a, X: 3 * a - 2 / 3),
        ["predict_proba"],
        "predict_proba must be ≥ 0",
    ),
    "another label": (changed(C, "predict", lambda a, X: a[::-1]), None, "class of the highest predict_proba"),
    "ends above one": (changed(C, "predict_quantiles", lambda a, X: a + 0.2), None, r"must lie in \[0, 1\]"),
    "sets of numbers": (changed(C, "predict_set", lambda a, X: a.astype(float)), None, "predict_set must be bool"),
    "sets shrink": (
        changed(C, "predict_set", lambda a, X: ~a),
        None,
        "predict_set must nest",
    ),
    "entropy in bits": (
        changed(C, "predict_uncertainty", lambda u, X: Uncertainty(*(part / np.log(2) for part in u))),
        None,
        "must be the entropy of predict_proba in nats",
    ),
    "other probabilities": (
        changed(C, "predict_dist", lambda d, X: Categorical(d.probabilities[::-1], d.classes)),
        None,
        "predict_dist must agree with predict_proba: mean",
    ),
    "another log density": (
        override(C, predict_dist=lambda self, X: Bits(self.predict_proba(X), self.classes_)),
        None,
        "predict_dist must agree with predict_proba: logpdf",
    ),
    "codes for labels": (
        override(C, sample_y=lambda self, X, n_samples=1, random_state=0: np.zeros((len(X), n_samples), int)),
        None,
        "sample_y must give labels among",
    ),
    "one label only": (
        changed(C, "sample_y", lambda a, X: np.full_like(a, "no")),
        None,
        "as often as predict_proba says",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_estimators_are_told_what_they_break(what):
    estimator, methods, message = BROKEN[what]
    aware = methods is None
    with pytest.raises(AssertionError, match=message):
        check_uq_estimator(estimator, methods=methods, distance_aware=aware)


def test_methods_are_names():
    with pytest.raises(ValueError, match=r"got \['predict_intervals'\]"):
        check_uq_estimator(LinearRegression(), methods=["predict_intervals"])
    with pytest.raises(AssertionError, match="LinearRegression has no predict_interval"):
        check_uq_estimator(LinearRegression())
    with pytest.raises(AssertionError, match="distance_aware needs predict_uncertainty"):
        check_uq_estimator(LinearRegression(), methods=[], distance_aware=True)
