"""How long training goes on, where it starts and stops, and what it reports."""

import itertools

import numpy as np
import pytest
from _table import (
    assert_same,
    classification,
    each_backend,
    each_estimator,
    fitted,
    make,
    outputs,
    problem,
    regression,
)
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss

import skuq
from skuq import backends
from skuq._data.folds import Part
from skuq._data.rows import Standardizer
from skuq._estimator.state import Output, Target
from skuq._model.network import Network
from skuq._training import loop
from skuq._training.jobs import join_outcomes
from skuq._training.loop import Batches, Rows, Schedule, bucket, train
from skuq._training.members import plan_members
from skuq.backends import Knobs, Program
from skuq.likelihoods import SCALE_FLOOR, Normal

EVERYTHING = {"early_stopping": False}


@each_estimator
def test_reports_of_a_fit(name, backend):
    model = fitted(name, backend)
    assert 1 <= model.n_iter_ <= model.max_iter
    assert len(model.loss_curve_) == model.n_iter_
    assert model.loss_ == model.loss_curve_[-1] < model.loss_curve_[0]
    assert model.backend_ == backend
    assert model.n_features_in_ == 3
    assert model.n_nonzero_weights_ > 0
    assert model.selected_features_.tolist() == [True] * 3


@each_backend
def test_loss_is_the_negative_log_likelihood(backend):
    # In nats a row, of standardised targets, before the last update, which a one-cycle rate makes tiny.
    X, y = regression()
    model = make(
        "ProbabilisticRegressor", backend, likelihood=Normal(beta=0.0), alpha=0, batch_size=200, **EVERYTHING
    ).fit(X, y)
    expected = -model.predict_dist(X).logpdf(y).mean() - np.log(y.std())
    assert model.loss_ == pytest.approx(expected, abs=1e-3)


@each_backend
def test_loss_is_the_cross_entropy(backend):
    X, y = classification(3)
    model = make("ProbabilisticClassifier", backend, alpha=0, batch_size=200, **EVERYTHING).fit(X, y)
    assert model.loss_ == pytest.approx(log_loss(y, model.predict_proba(X)), abs=1e-3)


# Early stopping


@each_estimator
@pytest.mark.parametrize("early_stopping", [False, True, "cross_fit"])
def test_held_out_scores_exist_only_with_early_stopping(name, backend, early_stopping):
    X, y = problem(name)
    model = fitted(name, backend, early_stopping=early_stopping)
    if early_stopping is False:
        assert model.validation_loss_curve_ is None
        assert model.n_iter_ == model.max_iter
    else:
        assert len(model.validation_loss_curve_) >= 1
        assert min(model.validation_loss_curve_) < model.validation_loss_curve_[0]
    assert model.score(X, y) > 0.35


@each_backend
def test_early_stopping_keeps_what_generalises(backend):
    # Few rows, much noise, long training: the last weights have learned the noise by heart.
    rng = np.random.default_rng(0)
    X, X_new = rng.normal(size=(2, 96, 3))
    y, y_new = X[:, 0] + rng.normal(size=96), X_new[:, 0] + rng.normal(size=96)
    scores = {}
    for early_stopping in (False, True, "cross_fit"):
        model = make(
            "ProbabilisticRegressor", backend, early_stopping=early_stopping, hidden_layer_sizes=(64,), max_iter=400
        ).fit(X, y)
        scores[early_stopping] = model.predict_dist(X_new).logpdf(y_new).mean()
        assert early_stopping or model.n_iter_ == 400
    assert scores[True] > scores[False] + 0.1
    assert scores["cross_fit"] > scores[False] + 0.1


@each_backend
def test_sngp_classifiers_take_few_steps_where_a_high_rate_is_safe(backend):
    X, y = make_classification(500, 100, n_informative=20, n_redundant=60, random_state=0)
    n_iter = {}
    for n_features, projection in [(20, "auto"), (20, "trained"), (100, "auto")]:
        model = skuq.SNGPClassifier(
            n_inducing=128, input_projection=projection, batch_size=50, backend=backend, random_state=0
        ).fit(X[:400, :n_features], y[:400])
        n_iter[n_features, projection] = model.n_iter_
    # 400^0.45 is 14.8; 8 batches an epoch.
    assert n_iter == {(20, "auto"): 74, (20, "trained"): 371, (100, "auto"): 371}
    assert model.score(X[400:], y[400:]) > 0.8


class Noisy:
    """A trainer whose weights jump about a truth that they approach, as those of stochastic gradients do."""

    def __init__(self, n_members, truth):
        self.rng, self.truth = np.random.default_rng(0), truth
        self.n_steps, self.shape = 0, (n_members, len(truth))
        self.now = self.rng.normal(size=self.shape)

    def parameters(self):
        return self.now

    def load(self, parameters):
        self.now = parameters

    def run(self, X, y, weight, learning_rate):
        self.n_steps += len(X)
        self.now = self.truth + self.rng.normal(size=self.shape) * (self.truth != 0) + 5 / self.n_steps
        self.now[:, self.truth == 0] = 0.0
        return np.ones((len(X), self.shape[0]))


def test_held_out_rows_judge_the_mean_of_the_weights():
    truth = np.array([1.0, -2.0, 0.0, 3.0])
    rows = Rows(np.zeros((64, 1), np.float32), np.zeros((64, 1), np.float32), np.ones(64), np.ones(64, int))
    scores = []

    def score(parameters):
        scores.append(np.abs(parameters - truth).max(axis=1))
        return scores[-1]

    schedule = Schedule(
        n_epochs=100,
        batch_size=16,
        learning_rate_init=0.01,
        learning_rate="one_cycle",
        shuffle=True,
        tol=0.0,
        patience=100,
    )
    parts = [Part(np.arange(64))] * 3
    rngs = [np.random.default_rng(m) for m in range(3)]
    trainer = Noisy(3, truth)
    collector = loop.BestMean(schedule, trainer.parameters(), score)
    outcome = train(trainer, rows, parts, schedule, rngs, collector)
    # The mean of 13 errs less than the best of 100 steps, and each member's best is what comes back.
    assert np.abs(outcome.parameters - truth).max() < 0.6
    np.testing.assert_array_equal(np.abs(outcome.parameters - truth).max(axis=1), np.min(scores, axis=0))
    assert np.all(outcome.parameters[:, 2] == 0)


class Moments:
    """First and second moments of the weights over the last half of training, and the last K deviations (Maddox et al. 2019)."""

    scores = False

    def __init__(self, n_epochs, most):
        self.start, self.most = n_epochs // 2, most
        self.seen, self.deviations = [], []

    def every(self, done, total):
        return 1

    def collect(self, epoch, parameters):
        if epoch > self.start:
            self.seen.append(parameters)
            self.deviations = [*self.deviations, parameters - np.mean(self.seen, axis=0)][-self.most :]

    def result(self, last):
        mean, square = np.mean(self.seen, axis=0), np.mean(np.square(self.seen), axis=0)
        return {"parameters": mean, "variance": square - mean**2, "deviations": np.stack(self.deviations, axis=1)}


@pytest.mark.parametrize("learning_rate", ["one_cycle", "constant"])
def test_a_collector_of_ones_own_keeps_what_it_wants(learning_rate):
    truth = np.array([1.0, -2.0, 0.0, 3.0])
    rows = Rows(np.zeros((64, 1), np.float32), np.zeros((64, 1), np.float32), np.ones(64), np.ones(64, int))
    schedule = Schedule(
        n_epochs=400,
        batch_size=16,
        learning_rate_init=0.01,
        learning_rate=learning_rate,
        shuffle=True,
        tol=0.0,
        patience=1000,
    )
    parts, rngs = [Part(np.arange(64))] * 3, [np.random.default_rng(m) for m in range(3)]
    outcome = train(Noisy(3, truth), rows, parts, schedule, rngs, Moments(400, 5))
    # Of 200 epochs, whose parameters are the truth with normal noise of variance 1.
    np.testing.assert_allclose(outcome.parameters, np.tile(truth, (3, 1)), atol=4 / np.sqrt(200))
    np.testing.assert_allclose(outcome.kept["variance"], np.tile(truth != 0, (3, 1)), atol=4 * np.sqrt(2 / 200))
    assert outcome.kept["deviations"].shape == (3, 5, 4)
    assert outcome.held_out_losses == []
    joined = join_outcomes([np.array([0, 1, 2]), np.array([3, 4, 5])], [outcome, outcome])
    np.testing.assert_array_equal(joined.kept["deviations"], np.tile(outcome.kept["deviations"], (2, 1, 1)))


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_may_be_asked_when_it_may_stop_and_not_before(seed):
    rng, n_epochs, per_epoch = np.random.default_rng(seed), 400, 2
    losses = (
        np.exp(-np.arange(n_epochs * per_epoch) / 100) + 0.05 * rng.standard_normal(n_epochs * per_epoch)
    ).tolist()
    schedule = Schedule(
        n_epochs=n_epochs,
        batch_size=10,
        learning_rate_init=0.01,
        learning_rate="constant",
        shuffle=True,
        tol=1e-3,
        patience=30,
    )
    each, some = (loop._StoppingRule(schedule, held_out=False) for _ in range(2))
    epochs = range(1, n_epochs + 1)
    stop = next(e for e in epochs if each.stop(e, losses[: e * per_epoch], per_epoch, []))
    asked = [some.earliest_epoch]
    while not some.stop(asked[-1], losses[: asked[-1] * per_epoch], per_epoch, []):
        asked.append(some.earliest_epoch)
    assert asked[-1] == stop
    assert asked == sorted(set(asked))
    assert len(asked) < stop / 5


@each_backend
def test_patience_ends_training(backend):
    X, y = regression()
    stopped = make("ProbabilisticRegressor", backend, early_stopping=True, max_iter=300, n_iter_no_change=9, tol=0.05)
    assert 10 <= stopped.fit(X, y).n_iter_ < 150
    impatient = make(
        "ProbabilisticRegressor", backend, learning_rate="constant", tol=10.0, n_iter_no_change=7, **EVERYTHING
    )
    # The first epoch improves on nothing; then seven do not improve by ten nats.
    assert impatient.fit(X, y).n_iter_ == 8
    with pytest.warns(ConvergenceWarning, match=r"max_iter=15 epochs.*Raise max_iter"):
        impatient.set_params(max_iter=15, tol=0.0, n_iter_no_change=15).fit(X, y)


@pytest.mark.parametrize("early_stopping", [False, True, "cross_fit"])
@pytest.mark.parametrize("n_siblings", [0, 5])
def test_every_row_trains_or_is_held_out(early_stopping, n_siblings):
    rows = Rows(np.zeros((50, 1)), np.zeros((50, 1)), np.ones(50), np.ones(50, int))
    members = plan_members(4, early_stopping, 0.1, rows, None, np.random.default_rng(0), n_siblings)
    assert len(members.kept) == 4
    for training, held_out in zip(members.training, members.held_out, strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([training.rows, held_out.rows])), np.arange(50))
    held = [len(members.held_out[m]) for m in members.kept]
    if early_stopping == "cross_fit" and n_siblings:
        assert held == [0] * 4
        assert members.count == 4 + n_siblings
    else:
        assert held == [5 if early_stopping else 0] * 4
    if early_stopping:
        folds = np.concatenate([part.rows for part in members.held_out if len(part)])
        assert len(np.unique(folds)) == len(folds)


def test_an_epoch_shows_each_member_each_of_its_rows_once():
    rows = Rows(np.arange(50.0)[:, None], np.zeros((50, 1)), np.linspace(0.5, 2, 50), np.ones(50, int))
    own = [Part(np.arange(50)), Part(np.arange(0, 50, 3))]
    schedule = Schedule(
        n_epochs=1, batch_size=16, learning_rate_init=0.1, learning_rate="constant", shuffle=True, tol=0, patience=1
    )
    batches = Batches(rows, own, schedule, [np.random.default_rng(seed) for seed in (0, 1)])
    X, _, weight = batches.take(batches.n_steps)
    for m, part in enumerate(own):
        np.testing.assert_array_equal(np.sort(X[:, m][weight[:, m] > 0, 0]), part.rows)
    again = batches.take(3 * batches.n_steps)
    assert (again[0][: batches.n_steps] != X).any()
    assert bucket(1) == 16
    assert bucket(65) == 128


def test_one_cycle_rises_to_its_peak_and_falls_to_zero():
    schedule = Schedule(
        n_epochs=10, batch_size=32, learning_rate_init=0.01, learning_rate="one_cycle", shuffle=True, tol=0, patience=1
    )
    rates = schedule.rates(0, 200, 200)
    assert rates.argmax() in (18, 19, 20)
    assert rates.max() == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0, abs=1e-9)
    np.testing.assert_array_equal(np.concatenate([schedule.rates(0, 70, 200), schedule.rates(70, 130, 200)]), rates)
    np.testing.assert_array_equal(
        Schedule(
            n_epochs=10,
            batch_size=32,
            learning_rate_init=0.01,
            learning_rate="constant",
            shuffle=True,
            tol=0,
            patience=1,
        ).rates(5, 3, 200),
        np.float32(0.01),
    )


# Warm start


@each_estimator
@pytest.mark.parametrize("seed", [0, None], ids=["seeded", "unseeded"])
def test_warm_start_goes_on_where_the_fit_before_ended(name, backend, seed):
    X, y = problem(name)
    model = make(name, backend, warm_start=True, random_state=seed, **EVERYTHING).fit(X, y)
    first = model.loss_curve_
    second = model.fit(X, y).loss_curve_
    assert abs(second[0] - first[-1]) < 0.25 * (first[0] - first[-1])
    again = model.set_params(warm_start=False).fit(X, y).loss_curve_
    assert abs(again[0] - first[0]) < abs(again[0] - first[-1])


@each_backend
def test_warm_start_may_change_the_data_not_its_form(backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, warm_start=True).fit(X[:50], y[:50])
    assert model.fit(X[50:], y[50:]).predict(X).shape == y.shape
    said = outputs(model, X)
    with pytest.raises(ValueError, match=r"(?s)warm_start.*3.*4|warm_start.*4.*3"):
        model.fit(np.hstack([X, X[:, :1]]), y)
    with pytest.raises(ValueError, match=r"(?s)warm_start.*output"):
        model.fit(X, np.stack([y, y], axis=1))
    assert_same(outputs(model, X), said)
    X, y = classification(3)
    model = make("ProbabilisticClassifier", backend, warm_start=True).fit(X, y)
    said = outputs(model, X)
    with pytest.raises(ValueError, match=r"(?s)warm_start.*classes"):
        model.fit(X, np.where(y == "yes", "other", y))
    assert_same(outputs(model, X), said)


@each_backend
def test_warm_start_with_another_network_starts_anew(backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, warm_start=True, hidden_layer_sizes=(4,)).fit(X, y)
    grown = model.set_params(hidden_layer_sizes=(8,)).fit(X, y)
    np.testing.assert_allclose(grown.predict(X), fitted("ProbabilisticRegressor", backend).predict(X), rtol=1e-6)


# Progress


@each_backend
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"early_stopping": False},
        {"early_stopping": False, "learning_rate": "constant", "tol": 0.05, "n_iter_no_change": 9},
    ],
    ids=["held_out", "one_cycle", "constant"],
)
def test_speed_of_the_machine_changes_nothing(backend, changes, monkeypatch):
    X, y = regression()
    said = outputs(make("MCDropoutRegressor", backend, **changes).fit(X, y), X)
    ticks = itertools.count(step=10.0)
    monkeypatch.setattr(loop, "perf_counter", lambda: next(ticks))  # every stretch takes ten seconds
    assert_same(outputs(make("MCDropoutRegressor", backend, **changes).fit(X, y), X), said)


@each_backend
def test_verbose_shows_progress_and_changes_nothing(backend, capfd):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, verbose=True).fit(X, y)
    assert "ProbabilisticRegressor" in capfd.readouterr().err
    assert_same(outputs(model, X), outputs(fitted("ProbabilisticRegressor", backend), X))
    make("ProbabilisticRegressor", backend).fit(X, y)
    assert capfd.readouterr() == ("", "")


@each_backend
def test_held_out_rows_are_scored_each_epoch_while_the_rate_rises(backend):
    X, y = regression()
    model = make("ProbabilisticRegressor", backend, early_stopping=True, max_iter=400, n_iter_no_change=400).fit(X, y)
    # Each of the first 40 epochs, then every fourth.
    assert len(model.validation_loss_curve_) == 40 + 90


@each_backend
def test_noise_comes_back_from_far_below_its_floor(backend):
    """At a raw scale of −60 a softplus is flat in float32: without its least slope no step would change it."""
    rng = np.random.default_rng(0)
    head = Normal(scale="constant").head(1)
    network = Network(1, (), "tanh", "mlp", head)
    start = np.zeros((1, network.n_weights), np.float32)
    start[0, -1] = -60.0
    trainer = backends.load(backend).Trainer(Program(network), start, {}, Knobs(), 0)
    X = rng.normal(size=(1, 1, 256, 1)).astype(np.float32)
    y = (X + rng.normal(size=X.shape)).astype(np.float32)
    n_steps = 2000
    batch = (np.broadcast_to(a, (n_steps, *a.shape[1:])) for a in (X, y, np.full((1, 1, 256), 1 / 256, np.float32)))
    trainer.run(*batch, np.full(n_steps, 0.1, np.float32))
    assert np.logaddexp(0, trainer.parameters()[0, -1]) > 10 * SCALE_FLOOR


# Networks that go astray


def limited_adam(parameters, gradients, rates):
    """Adam (Kingma & Ba 2015, algorithm 1) of gradients at most five times as long as their root mean square so far."""
    theta, first, second = parameters.astype(float), 0.0, 0.0
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        gradient = gradient(theta)
        if t > 1:
            usual = np.sqrt((second / (1 - 0.999 ** (t - 1))).sum(axis=1, keepdims=True))
            gradient = gradient * np.minimum(1, 5 * usual / np.linalg.norm(gradient, axis=1, keepdims=True))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        theta = theta - rate * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
    return theta


@each_backend
def test_one_long_gradient_moves_a_member_little(backend):
    # A linear model of two members, the second of which meets one batch of targets of 1e4; then its next 40 steps.
    rng = np.random.default_rng(0)
    n_steps, spike = 300, 260
    X = rng.normal(size=(n_steps, 2, 32, 3)).astype(np.float32)
    y = (X[..., :1] - X[..., 1:2] + rng.normal(size=(n_steps, 2, 32, 1))).astype(np.float32)
    y[spike, 1] = 1e4 * X[spike, 1, :, 2:]
    network = Network(3, (), "tanh", "mlp", Normal(scale=1.0).head(1))
    rates = np.full(n_steps, 0.01, np.float32)
    weight = np.full(y.shape[:3], 1 / 32, np.float32)

    def gradient(k):
        ones = np.concatenate([X[k], np.ones((2, 32, 1))], axis=-1).astype(float)
        return lambda theta: (ones.mT @ (ones @ theta[..., None] - y[k]) / 32)[..., 0]

    start = np.zeros((2, 4), np.float32)
    trainer = backends.load(backend).Trainer(Program(network), start, {}, Knobs(fixed=np.ones(1, np.float32)), 0)
    parts = [(slice(a, b)) for a, b in [(0, 100), (100, spike), (spike, n_steps)]]
    reached = []
    for part in parts:
        trainer.run(X[part], y[part], weight[part], rates[part])
        reached.append(trainer.parameters())
    expected = limited_adam(start, [gradient(k) for k in range(n_steps)], rates)
    np.testing.assert_allclose(reached[-1], expected, atol=2e-4)
    # Without the limit Adam goes on in that direction by about 30 rates.
    assert np.abs(reached[-1] - reached[-2]).max() < 10 * 0.01


class Runaway:
    """A trainer of linear models that near the truth y = x, the last of which jumps away after so many calls."""

    def __init__(self, n_members, leaves):
        self.n_members, self.leaves, self.n_calls = n_members, leaves, 0

    def parameters(self):
        slope = np.full((self.n_members, 1), 1 - 1 / (1 + self.n_calls))
        slope[-1] += 1e4 * (self.n_calls > self.leaves)
        return np.hstack([slope, np.zeros_like(slope), np.full_like(slope, -1.0)]).astype(np.float32)

    def load(self, parameters):
        raise AssertionError("no loss was bad")

    def run(self, X, y, weight, learning_rate):
        self.n_calls += 1
        return np.ones((len(X), self.n_members))


@pytest.mark.parametrize("leaves", [0, 8])
def test_siblings_cannot_vouch_for_a_network_that_left_them(leaves):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1)).astype(np.float32)
    rows = Rows(x, (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32), np.ones(200), np.ones(200, int))
    likelihood = Normal(scale="constant")
    network = Network(1, (), "tanh", "mlp", likelihood.head(1))
    output = Output(head=network.head, standardizer=Standardizer.identity(1), likelihood=likelihood)
    target = Target(output=output, y=rows.y, weight=rows.weight)
    members = plan_members(1, "cross_fit", 0.1, rows, None, rng, 5)
    score = members.scorer(rows, network, target, lambda parameters: parameters, {})
    schedule = Schedule(
        n_epochs=16,
        batch_size=200,
        learning_rate_init=0.01,
        learning_rate="one_cycle",
        shuffle=True,
        tol=0.0,
        patience=16,
    )
    rngs = [np.random.default_rng(m) for m in range(6)]
    trainer = Runaway(6, leaves)
    collector = loop.BestMean(schedule, trainer.parameters(), score)
    outcome = train(trainer, rows, members.training, schedule, rngs, collector)
    # The weights kept are those before, or where it began, for all of them: noise is fitted to what siblings do then.
    slopes = outcome.parameters[:, 0]
    np.testing.assert_array_equal(slopes, slopes[0])
    assert slopes[0] == 0 if leaves == 0 else 0.5 < slopes[0] < 1
    assert outcome.held_out_losses[-1] == np.inf


@each_backend
def test_a_high_rate_with_dropout_ends_where_a_lower_one_does(backend):
    # Nearly free of noise, so that the learned noise soon stands at its floor: without the limit to gradients all four end
    # several standard deviations of y away, or far beyond.
    rng = np.random.default_rng(0)
    X, X_new = rng.uniform(-2, 2, size=(2, 200, 3))
    y, y_new = (np.sin(2 * x[:, 0]) * x[:, 1] + x[:, 2] ** 2 for x in (X, X_new))
    for seed in range(4):
        model = skuq.MCDropoutRegressor(learning_rate_init=0.05, random_state=seed, backend=backend).fit(X, y)
        assert model.score(X_new, y_new) > 0.8
