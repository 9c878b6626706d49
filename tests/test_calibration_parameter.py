"""``calibration=``: conformal intervals and sets, and a temperature, from rows that training did not see.

References: the nominal coverage and the log loss on fresh rows, scipy's optimiser, the uncalibrated model of the same seed,
the backends' native layers.
"""

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pandas as pd
import pytest
from _table import (
    CLASSIFIERS,
    TABLES,
    assert_same,
    case,
    each_backend,
    each_classifier,
    each_estimator,
    each_regressor,
    make,
    outputs,
    problem,
)
from scipy import optimize, sparse, special, stats
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator
from test_native import as_array, call, native_list, probabilities

import skuq
from skuq import backends
from skuq._estimator import base, self_calibration
from skuq._estimator.native import as_fitted
from skuq._estimator.self_calibration import plan_calibration
from skuq._model.draws import Draws
from skuq._prediction.temperature import fit_mixture_temperature
from skuq.calibration import fit_temperature
from skuq.likelihoods import Normal

# Follow the training rows closely and believe them; SNGP too, where it ignores its variance.
OVERCONFIDENT = {
    "hidden_layer_sizes": (64,),
    "early_stopping": False,
    "alpha": 0.0,
    "max_iter": 200,
    "learning_rate_init": 0.02,
    "activation": "silu",
    "input_encoding": None,
}
QUICK = {"max_iter": 15, "early_stopping": False}
modes = pytest.mark.parametrize("mode", ["conformal", "temperature"])
# One network and a closed form: what the tests below are about does not differ between the other methods.
each_calibrated = pytest.mark.parametrize(
    ("name", "mode", "backend"),
    [
        case(backend, name, mode)
        for backend in backends.BACKENDS
        for name, mode in [
            ("DeepEnsembleRegressor", "conformal"),
            ("DeepEnsembleClassifier", "conformal"),
            ("SNGPClassifier", "temperature"),
        ]
    ],
)


def noisy(n_rows, seed):
    """Noise that grows with a feature which the mean does not need."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 3))
    return X, X[:, 0] + np.sin(2 * X[:, 1]) + (0.3 + 0.5 * np.abs(X[:, 2])) * rng.normal(size=n_rows)


def overlapping(n_rows=200, n_test=2000):
    """Three classes in ten features with a fifth of the labels drawn anew: training rows, fresh rows."""
    X, y = make_classification(
        n_rows + n_test, 10, n_informative=4, n_redundant=0, n_classes=3, flip_y=0.2, random_state=0
    )
    y = np.array(["yes", "maybe", "no"])[y]
    return X[:n_rows], y[:n_rows], X[n_rows:], y[n_rows:]


def overconfident(name, backend):
    return make(name, backend, **OVERCONFIDENT, **({"mean_field_factor": 0.0} if name.startswith("SNGP") else {}))


def covered(interval, y):
    return ((interval[:, 0] <= y) & (y <= interval[:, 1])).mean()


def log_odds(probabilities):
    """Differences of logits."""
    return np.log(probabilities[..., 1:]) - np.log(probabilities[..., :1])


# Conformal intervals


@each_regressor
def test_intervals_of_a_model_that_is_wrong_about_the_noise_have_their_coverage(name, backend):
    wrong = make(name, backend, likelihood=Normal(scale=0.15), batch_size=64, max_iter=40)
    (X, y), (X_new, y_new) = noisy(400, 0), noisy(4000, 1)
    calibrated = clone(wrong).set_params(calibration="conformal").fit(X, y)
    assert covered(wrong.fit(X, y).predict_interval(X_new), y_new) < 0.7
    for level in (0.5, 0.9):
        assert covered(calibrated.predict_interval(X_new, level), y_new) == pytest.approx(level, abs=0.05)


@pytest.mark.parametrize("width", [1, 2])
@each_regressor
def test_one_factor_of_its_own_spread_serves_all_rows(name, width, backend):
    X, y = problem(name, width)
    model = make(name, backend, calibration="conformal", **QUICK).fit(X, y)
    mean, std = model.predict(X), np.sqrt(model.predict_uncertainty(X).total)
    factors = (model.predict_interval(X) - mean[..., None]) / std[..., None]
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:1], factors.shape), rtol=1e-6)
    np.testing.assert_allclose(factors[..., 0], -factors[..., 1], rtol=1e-6)


@each_backend
def test_the_factor_is_a_rank_of_what_the_folds_models_scored(backend):
    X, y = noisy(40, 0)
    X = X[np.argsort(X[:, 0])]
    model = make("ProbabilisticRegressor", backend, calibration="conformal", warm_start=True, **QUICK).fit(X, y)
    calibration, scores = model._state.calibration, []
    for fold, rows in zip(calibration.folds, held_out_rows(40, calibration.seed), strict=True):
        error = np.abs(y[rows] - fold.predict(X[rows]))
        scores.extend(error / np.sqrt(fold.predict_uncertainty(X[rows]).total))
    for coverage, rank in [(0.5, 21), (0.9, 37)]:  # ⌈41 · coverage⌉
        mean, std = model.predict(X), np.sqrt(model.predict_uncertainty(X).total)
        upper = model.predict_interval(X, coverage)[:, 1]
        np.testing.assert_allclose((upper - mean) / std, sorted(scores)[rank - 1], rtol=1e-6)


@pytest.mark.parametrize("name", ["DeepEnsembleRegressor", "SNGPRegressor", "BNNClassifier", "SNGPClassifier"])
@pytest.mark.parametrize("backend", [case("blitz")])
def test_an_answer_looks_at_its_rows_once(name, backend, monkeypatch):
    X, y = problem(name)
    model = make(name, backend, calibration="conformal", **QUICK).fit(X, y)
    calls = []

    def counted(owner, method):
        original = getattr(owner, method)
        monkeypatch.setattr(owner, method, lambda *args, **kwargs: calls.append(method) or original(*args, **kwargs))

    counted(base, "validate_data")
    for kind, method in [(Draws, "raw"), (Draws, "of_cosines")]:
        counted(kind, method)
    (model.predict_set if name in CLASSIFIERS else model.predict_interval)(X)
    answered = calls.copy()
    calls.clear()
    model.predict_proba(X) if name in CLASSIFIERS else model.predict(X, return_std=True)
    assert answered.count("validate_data") == 1
    assert answered == calls


@pytest.mark.parametrize("split_rows", [5000, 50])
@each_backend
def test_frames_keep_their_names(backend, split_rows, monkeypatch):
    monkeypatch.setattr(self_calibration, "CROSS_FITTED_ROWS", split_rows)
    for name in ("ProbabilisticRegressor", "ProbabilisticClassifier"):
        X, y = problem(name)
        frame = pd.DataFrame(X, columns=list("abc"))
        model = make(name, backend, calibration="conformal", **QUICK)
        # A warning about feature names is an error here.
        assert_same(outputs(clone(model).fit(frame, y), frame), outputs(model.fit(X, y), X))


@pytest.mark.parametrize("name", ["ProbabilisticRegressor", "SNGPClassifier"])
@each_backend
def test_the_fitted_state_holds_arrays_and_no_estimator(name, backend):
    conformal = make(name, backend, calibration="conformal", **QUICK).fit(*problem(name))._state.calibration.conformal
    parts = [getattr(conformal, field.name) for field in fields(conformal)]
    assert all(part is None or isinstance(part, np.ndarray | str) for part in parts)
    with pytest.raises(FrozenInstanceError):
        conformal.weight = None


def test_conformal_rules_stand_below_the_wrappers():
    code = (
        "import sys, skuq; skuq.ProbabilisticClassifier, skuq.ProbabilisticRegressor; "
        "sys.exit(any(name.startswith('skuq.calibration') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@each_backend
def test_the_folds_models_are_not_kept(backend):
    X, y = problem("ProbabilisticRegressor")
    plain = make("ProbabilisticRegressor", backend, hidden_layer_sizes=(200, 200), **QUICK)
    calibrated = clone(plain).set_params(calibration="conformal").fit(X, y)
    assert len(pickle.dumps(calibrated)) < 1.1 * len(pickle.dumps(plain.fit(X, y)))


@pytest.mark.parametrize("kind", [1, 2, *TABLES])
@each_regressor
def test_intervals_nest_and_keep_their_shapes(name, kind, backend):
    X, y = problem(name, kind)
    model = make(name, backend, kind, calibration="conformal", **QUICK).fit(X, y)
    row, coverages = y.shape[1:], [0.2, 0.5, 0.9]
    both = model.predict_interval(X[:7], coverages)
    assert both.shape == (7, *row, 2, 3)
    assert model.predict_interval(X[:7], [0.5]).shape == (7, *row, 2, 1)
    assert (np.diff(both[..., 0, :]) <= 0).all()
    assert (np.diff(both[..., 1, :]) >= 0).all()
    assert (both[..., 0, :] < both[..., 1, :]).all()
    for i, coverage in enumerate(coverages):
        np.testing.assert_array_equal(model.predict_interval(X[:7], coverage), both[..., i])


@each_estimator
def test_all_else_is_the_models_own(name, backend):
    X, y = problem(name)
    plain = make(name, backend, **QUICK)
    calibrated = clone(plain).set_params(calibration="conformal").fit(X, y)
    own, said = outputs(plain.fit(X, y), X), outputs(calibrated, X)
    changed = "set" if name in CLASSIFIERS else "interval"
    assert not np.array_equal(own.pop(changed), said[changed])
    assert_same(said, own)
    assert not hasattr(calibrated, "temperature_")


@each_backend
def test_intervals_of_positive_targets_are_positive(backend):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.gamma(0.3, size=60)
    model = make("ProbabilisticRegressor", backend, likelihood="gamma", calibration="conformal", **QUICK).fit(X, y)
    interval = model.predict_interval(X, 0.9)
    assert interval.min() == 0
    assert covered(interval, y) > 0.8


# Conformal sets


@each_classifier
def test_sets_of_an_overconfident_model_have_their_coverage(name, backend):
    X, y, X_new, y_new = overlapping()
    model = overconfident(name, backend)
    calibrated = clone(model).set_params(calibration="conformal").fit(X, y)
    own = np.arange(len(y_new)), np.searchsorted(calibrated.classes_, y_new)
    assert model.fit(X, y).predict_set(X_new, 0.9)[own].mean() < 0.85
    smaller = np.zeros((len(y_new), 3), bool)
    for level in (0.6, 0.8, 0.9):
        inside = calibrated.predict_set(X_new, level)
        assert level - 0.03 < inside[own].mean() < level + 0.05
        assert inside.any(axis=1).all()
        assert (smaller <= inside).all()
        smaller = inside
    assert not smaller.all()
    with pytest.raises(ValueError, match="one number"):
        calibrated.predict_set(X_new, [0.8, 0.9])


# Temperature


@each_classifier
def test_a_temperature_lowers_the_loss_of_an_overconfident_classifier(name, backend):
    X, y, X_new, y_new = overlapping()
    plain = overconfident(name, backend)
    calibrated = clone(plain).set_params(calibration="temperature").fit(X, y)
    before, after = (log_loss(y_new, model.predict_proba(X_new)) for model in (plain.fit(X, y), calibrated))
    assert calibrated.temperature_ > 2
    assert after < before - 0.3
    best = optimize.minimize_scalar(
        lambda t: log_loss(y_new, mean_of_tempered(plain, X_new, t)), bounds=(0.2, 30), method="bounded"
    )
    # In hindsight, with the fresh rows at hand, no temperature is much better.
    assert after < best.fun + 0.02


def mean_of_tempered(model, X, temperature):
    """Predictive probabilities of an uncalibrated model at a temperature."""
    if isinstance(model, skuq.SNGPClassifier):
        return special.softmax(np.log(model.predict_proba(X)) / temperature, axis=1)
    return special.softmax(np.log(model.predict_dist(X).draws) / temperature, axis=2).mean(axis=0)


def drawn_logits(n_draws, n_rows, n_classes, factor, seed=0):
    """Logits that vary over draws, `factor` times as large as those the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(1, n_rows, n_classes)) + 0.7 * rng.normal(size=(n_draws, n_rows, n_classes))
    p = special.softmax(logits, axis=2).mean(axis=0)
    return factor * logits, (rng.uniform(size=(n_rows, 1)) > p.cumsum(axis=1)).sum(axis=1), rng.exponential(size=n_rows)


@pytest.mark.parametrize("n_draws", [1, 7])
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_the_temperature_is_that_of_the_mean_over_draws(factor, n_draws):
    logits, y, weight = drawn_logits(n_draws, 30_000, 3, factor)
    found = fit_mixture_temperature(logits, y, weight)
    assert found == pytest.approx(factor, rel=0.05)

    def loss(inverse):
        p = np.mean([special.softmax(draw * inverse, axis=1) for draw in logits], axis=0)
        return log_loss(y, p, sample_weight=weight)

    assert found == pytest.approx(1 / optimize.minimize(loss, 1.0, method="Nelder-Mead", tol=1e-8).x[0], rel=1e-3)


def test_the_temperature_of_one_draw_is_fit_temperatures():
    logits, y, weight = drawn_logits(1, 5000, 4, 2.0)
    assert fit_mixture_temperature(logits, y, weight) == pytest.approx(fit_temperature(logits[0], y, weight), rel=0.01)
    two = logits[..., 1:2] - logits[..., :1]
    label = (np.random.default_rng(0).uniform(size=5000) < special.expit(two[0, :, 0] / 2)).astype(int)
    assert fit_mixture_temperature(two, label, weight) == pytest.approx(
        fit_temperature(two[0], label, weight), rel=0.01
    )


@pytest.mark.parametrize("n_rows", [1, 10, 1000])
def test_rows_that_are_all_right_do_not_freeze_the_temperature(n_rows):
    logits = np.full((1, n_rows, 1), 3.0)
    found = fit_mixture_temperature(logits, np.ones(n_rows, int), np.ones(n_rows))
    # With one row of even labels beside them the chance of the second class is (n + 1/2) / (n + 1).
    assert special.expit(3 / found) == pytest.approx((n_rows + 0.5) / (n_rows + 1), rel=1e-3)
    assert fit_temperature(logits[0], np.ones(n_rows, int)) == 0.01


@pytest.mark.parametrize("n_logits", [1, 3])
def test_the_temperature_beside_class_weights_is_the_best_there(n_logits):
    rng = np.random.default_rng(0)
    logits, shift = 2 * rng.normal(size=(5, 4000, n_logits)), np.array([1.5, -0.5, 0.3])[:n_logits]

    def answers(temperature):
        z = logits / temperature - shift
        z = np.concatenate([np.zeros_like(z), z], axis=2) if n_logits == 1 else z
        return special.softmax(z, axis=2).mean(axis=0)

    y = (rng.uniform(size=(4000, 1)) > answers(1.7).cumsum(axis=1)).sum(axis=1)
    best = optimize.minimize_scalar(lambda t: log_loss(y, answers(t)), bounds=(0.1, 10), method="bounded").x
    assert fit_mixture_temperature(logits, y, np.ones(4000), shift) == pytest.approx(best, rel=1e-2)
    # A row of weight 3 that stands for three rows is three rows.
    weight = rng.integers(1, 4, 4000)
    repeated = fit_mixture_temperature(
        np.repeat(logits, weight, axis=1), np.repeat(y, weight), np.ones(weight.sum()), shift
    )
    assert fit_mixture_temperature(logits, y, weight, shift, weight.sum()) == pytest.approx(repeated, rel=1e-4)


@pytest.mark.parametrize("width", [2, 3])
@each_classifier
def test_a_temperature_divides_the_logits_of_every_draw(name, width, backend):
    X, y = problem(name, width)
    plain = make(name, backend, **QUICK)
    model = clone(plain).set_params(calibration="temperature").fit(X, y)
    plain.fit(X, y)
    T = model.temperature_
    assert abs(T - 1) > 0.02
    np.testing.assert_allclose(T * log_odds(model.predict_dist(X).draws), log_odds(plain.predict_dist(X).draws), 1e-6)
    functions, expected = (
        m._function_sampler(5, np.random.RandomState(0))(next(m._state.stretches(X))) for m in (model, plain)
    )
    np.testing.assert_allclose(T * log_odds(functions), log_odds(expected), 1e-6)
    if name == "SNGPClassifier":
        np.testing.assert_allclose(T * log_odds(model.predict_proba(X)), log_odds(plain.predict_proba(X)), 1e-6)


@pytest.mark.parametrize("kind", [2, 3, *TABLES])
@each_classifier
def test_answers_at_a_temperature_agree(name, kind, backend):
    X, y = problem(name, kind)
    model = make(name, backend, calibration="temperature", **QUICK).fit(X, y)
    proba, dist = model.predict_proba(X), model.predict_dist(X)
    if name != "SNGPClassifier":
        np.testing.assert_allclose(dist.draws.mean(axis=0), proba, rtol=1e-9)
    total, aleatoric, epistemic = model.predict_uncertainty(X)
    np.testing.assert_allclose(total, stats.entropy(proba, axis=1), rtol=1e-9)
    np.testing.assert_allclose(total, aleatoric + epistemic, rtol=1e-9)
    np.testing.assert_allclose(model.predict_interval(X, 0.8), dist.ppf([0.1, 0.9]), rtol=1e-9)
    inside = model.predict_set(X, 0.8)
    assert (np.where(inside, proba, 0).sum(axis=1) >= 0.8 - 1e-12).all()
    if name != "SNGPClassifier":  # which samples β itself
        sample = model.sample_y(X, 2000)
        frequency = np.stack([(sample == c).mean(axis=1) for c in model.classes_], axis=1)
        assert np.abs(frequency - proba).max() < 5 * 0.5 / np.sqrt(2000)


@each_backend
def test_coefficients_are_those_of_the_probabilities(backend):
    X, y = problem("ProbabilisticClassifier")
    model = make("ProbabilisticClassifier", backend, hidden_layer_sizes=(), calibration="temperature")
    model.set_params(class_weight={"maybe": 1.0, "yes": 3.0}).fit(X, y)
    p = special.expit(X @ model.coef_[0] + model.intercept_[0])
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], p, rtol=1e-5)


@each_backend
def test_a_temperature_weighs_rows_as_the_user_does(backend, monkeypatch):
    seen = []

    def spy(logits, y, weight, shift, n_rows):
        seen.append((logits, y, weight, shift, n_rows))
        return 1.0

    monkeypatch.setattr(self_calibration, "fit_mixture_temperature", spy)
    X, y = problem("BNNClassifier", 3)
    weight = np.arange(len(y)) + 1.0
    class_weight = {"no": 5.0, "yes": 2.0, "maybe": 1.0}
    make("BNNClassifier", backend, calibration="temperature", class_weight=class_weight, **QUICK).fit(X, y, weight)
    ((logits, codes, found, shift, n_rows),) = seen
    assert logits.shape == (16, len(y), 3)
    assert n_rows == len(y)
    assert sorted(zip(codes, found, strict=True)) == sorted(
        zip(np.searchsorted(["maybe", "no", "yes"], y), weight, strict=True)
    )
    np.testing.assert_allclose(shift, np.broadcast_to(np.log([1.0, 5.0, 2.0]), shift.shape))


def rare(n_rows, seed):
    """An event of one row in twenty, which two features tell something of: X, y."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 3))
    return X, (rng.uniform(size=n_rows) < special.expit(1.5 * X[:, 0] + X[:, 1] - 4.2)).astype(int)


@each_classifier
def test_a_temperature_takes_class_weights_off_the_probabilities(name, backend):
    (X, y), (X_new, y_new) = rare(2000, 0), rare(20_000, 1)
    plain = make(name, backend, max_iter=40)
    balanced = clone(plain).set_params(class_weight="balanced")
    calibrated = clone(balanced).set_params(calibration="temperature").fit(X, y)
    assert balanced.fit(X, y).predict_proba(X_new)[:, 1].mean() > 4 * y_new.mean()
    p = calibrated.predict_proba(X_new)[:, 1]
    assert p.mean() == pytest.approx(y_new.mean(), rel=0.3)
    assert log_loss(y_new, p) < log_loss(y_new, plain.fit(X, y).predict_proba(X_new)) + 0.01


@pytest.mark.parametrize("width", [2, 3])
@each_classifier
def test_class_weights_are_divided_out_exactly(name, width, backend):
    """Bayes: a class that counts w times has w times the odds; of each draw, before these are averaged."""
    X, y = problem(name, width)
    classes = np.unique(y)
    weights = np.array([1.0, 4.0, 0.5])[: len(classes)]
    plain = make(name, backend, class_weight=dict(zip(classes.tolist(), weights, strict=True)), **QUICK)
    model = clone(plain).set_params(calibration="temperature").fit(X, y)
    plain.fit(X, y)
    T, shift = model.temperature_, np.log(weights[1:] / weights[0])
    odds = log_odds(plain.predict_dist(X).draws) / T - shift
    np.testing.assert_allclose(log_odds(model.predict_dist(X).draws), odds, rtol=1e-6, atol=1e-6)
    if name != "SNGPClassifier":
        return
    mean, variance = model.latent_mean_and_variance(X)
    mean = mean if width == 3 else np.column_stack([np.zeros(len(mean)), mean])
    logits = (mean / T - np.log(weights)) / np.sqrt(1 + model.mean_field_factor * variance)
    np.testing.assert_allclose(model.predict_proba(X), special.softmax(logits, axis=1), rtol=1e-6)


# Rows that training did not see


def plan_of(n_rows, strata=None, seed=0):
    """Plan for rows that each stand for themselves."""
    return plan_calibration(np.ones(n_rows), np.ones(n_rows, int), strata, seed)


def held_out_rows(n_rows, seed):
    return [part.rows for part in plan_of(n_rows, seed=seed).held_out]


@pytest.mark.parametrize("n_rows", [3, 4, 57])
def test_each_row_is_held_out_once(n_rows):
    plan = plan_of(n_rows)
    assert len(plan.held_out) == min(5, n_rows)
    assert sorted(np.concatenate([part.rows for part in plan.held_out])) == list(range(n_rows))
    for held_out, training in zip(plan.held_out, plan.training, strict=True):
        assert sorted([*held_out.rows, *training.rows]) == list(range(n_rows))
    assert len(plan.own) == n_rows


@pytest.mark.parametrize(("n_rows", "share"), [(5001, 0.2), (200_000, 0.05)])
def test_many_rows_are_split_instead(n_rows, share):
    plan = plan_of(n_rows, np.arange(n_rows) % 4)
    (held_out,) = (part.rows for part in plan.held_out)
    assert len(held_out) == pytest.approx(share * n_rows, abs=1)
    np.testing.assert_allclose(np.bincount(held_out % 4), len(held_out) / 4, atol=1)
    assert sorted([*held_out, *plan.own.rows]) == list(range(n_rows))


def test_every_training_part_knows_every_class():
    strata = np.repeat([0, 1, 2, 3], [40, 2, 1, 5])
    plan = plan_of(len(strata), strata)
    assert 2 not in strata[np.concatenate([part.rows for part in plan.held_out])]
    for part in plan.training:
        assert set(strata[part.rows]) == {0, 1, 2, 3}


@pytest.mark.parametrize("cross", [True, False])
def test_cells_are_divided_by_their_copies(cross, monkeypatch):
    monkeypatch.setattr(self_calibration, "CROSS_FITTED_ROWS", 5000 if cross else 2)
    copies = np.array([300, 700, 40, 160, 1])
    strata, weight = np.array([0, 1, 0, 1, 2]), 2.5 * copies
    plan = plan_calibration(weight, copies, strata, seed=0)
    for held_out, training in zip(plan.held_out, plan.training, strict=True):
        both = np.bincount(held_out.rows, held_out.weights(weight), 5) + np.bincount(
            training.rows, training.weights(weight), 5
        )
        np.testing.assert_allclose(both, weight)
        # A fifth of each class; the class of one row stays in training.
        share = np.bincount(strata[held_out.rows], held_out.weights(weight), 3)
        np.testing.assert_allclose(share, [2.5 * 340 / 5, 2.5 * 860 / 5, 0], atol=2.5)
    own = np.bincount(plan.own.rows, plan.own.weights(weight), 5)
    np.testing.assert_allclose(own.sum(), weight.sum() if cross else 2.5 * (1201 - 240))
    np.testing.assert_allclose(plan.own_copies * 2.5, own[plan.own.rows])


@pytest.fixture
def split(monkeypatch):
    """Hold out a fifth of small data, as is done with many rows."""
    monkeypatch.setattr(self_calibration, "CROSS_FITTED_ROWS", 50)


@each_calibrated
def test_a_split_costs_rows_and_no_fit(name, mode, backend, split, monkeypatch):
    X, y = problem(name)
    trained_on = []

    def train(self, backend, problem, *others):
        trained_on.append(len(problem.rows.weight))
        return original(self, backend, problem, *others)

    original = getattr(skuq, name)._train
    monkeypatch.setattr(getattr(skuq, name), "_train", train)
    make(name, backend, calibration=mode, **QUICK).fit(X, y)
    assert trained_on == [pytest.approx(0.8 * len(y), abs=1)]


@each_backend
def test_held_out_rows_do_not_train(backend, split):
    X, y = noisy(60, 0)
    X = X[np.argsort(X[:, 0])]  # the order in which fit looks at rows
    model = make("ProbabilisticRegressor", backend, calibration="conformal", **QUICK).fit(X, y)
    (held_out,) = held_out_rows(len(y), model._state.calibration.seed)
    other = y.copy()
    other[held_out] += 1000
    again = clone(model).fit(X, other)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert np.ptp(again.predict_interval(X), axis=1).min() > np.ptp(model.predict_interval(X), axis=1).max()


@each_backend
def test_no_fold_trains_on_its_rows(backend):
    X, y = noisy(40, 0)
    X = X[np.argsort(X[:, 0])]
    model = make("ProbabilisticRegressor", backend, calibration="conformal", warm_start=True, **QUICK).fit(X, y)
    folds = model._state.calibration.folds
    held_out = held_out_rows(len(y), model._state.calibration.seed)
    assert len(folds) == len(held_out) == 5
    for k, rows in enumerate(held_out):
        other = y.copy()
        other[rows] += 1000
        again = clone(model).fit(X, other)._state.calibration.folds
        same = [np.array_equal(a.predict(X), b.predict(X)) for a, b in zip(folds, again, strict=True)]
        assert same == [j == k for j in range(5)]


@each_regressor
def test_split_intervals_have_their_coverage(name, backend, split):
    wrong = make(name, backend, likelihood=Normal(scale=0.15), batch_size=64, max_iter=40, calibration="conformal")
    (X, y), (X_new, y_new) = noisy(1000, 0), noisy(4000, 1)
    interval = wrong.fit(X, y).predict_interval(X_new, 0.9)
    # 200 calibration rows: the coverage they give has a standard deviation of 2 %.
    assert covered(interval, y_new) == pytest.approx(0.9, abs=0.06)


# Tables of few different rows


def table_of_counts(n_rows=4000, seed=0):
    """Four categories, one-hot, and 0/1 outcomes with shares .1 to .9: X, y of each cell, and its number of rows."""
    rng = np.random.default_rng(seed)
    group = rng.integers(4, size=n_rows)
    y = (rng.uniform(size=n_rows) < np.array([0.1, 0.3, 0.5, 0.9])[group]).astype(int)
    count = np.bincount(2 * group + y, minlength=8)
    return np.repeat(np.eye(4), 2, axis=0), np.tile([0, 1], 4), count


@pytest.mark.parametrize("split_rows", [5000, 5])
@each_calibrated
def test_a_table_of_counts_is_its_rows(name, mode, backend, split_rows, monkeypatch):
    monkeypatch.setattr(self_calibration, "CROSS_FITTED_ROWS", split_rows)
    X, y, count = table_of_counts()
    model = make(name, backend, calibration=mode, **QUICK)
    table = clone(model).fit(X, y, sample_weight=count)
    rows = clone(model).fit(np.repeat(X, count, axis=0), np.repeat(y, count))
    assert_same(outputs(table, X), outputs(rows, X))
    if mode == "conformal":
        assert table._state.calibration.conformal.n_rows == (4000 if split_rows == 5000 else 800)
        ask = table.predict_set if name in CLASSIFIERS else table.predict_interval
        assert np.isfinite(ask(X, 0.95)).all()


@each_backend
def test_sets_of_categories_are_those_of_their_shares(backend):
    X, y, count = table_of_counts()
    model = make("ProbabilisticClassifier", backend, calibration="conformal", max_iter=200).fit(X, y, count)
    # The likelier outcomes make up .75 of all rows, with both where outcomes are even .875, with both where the shares are .3
    # and .7 too .95; models of the folds and the estimator itself differ by little.
    for coverage, both in [(0.7, []), (0.865, [2]), (0.94, [1, 2])]:
        inside = model.predict_set(np.eye(4), coverage)
        np.testing.assert_array_equal(np.flatnonzero(inside.all(axis=1)), both)
        assert np.average(model.predict_set(X, coverage)[np.arange(8), y], weights=count) > coverage


@each_backend
def test_temperatures_of_tables_are_those_of_fresh_rows(backend):
    X, y, count = table_of_counts(2000)
    X = X + 0.1 * X[:, ::-1]
    model = make("ProbabilisticClassifier", backend, calibration="temperature", max_iter=100, batch_size=8)
    found = model.fit(X, y, count).temperature_
    shares = np.repeat([0.1, 0.3, 0.5, 0.9], 2)
    fresh = np.where(y == 1, shares, 1 - shares)
    logit = model.set_params(calibration=None).fit(X, y, count).predict_proba(X)
    best = fit_temperature(logit, y, fresh)
    assert found == pytest.approx(best, rel=0.2)


@each_backend
def test_a_class_that_stands_for_one_row_stays_in_training(backend):
    X, y, count = table_of_counts(400)
    X, y, count = np.vstack([X, X[:1]]), np.append(y, 2), np.append(count, 1)
    model = make("ProbabilisticClassifier", backend, calibration="conformal", warm_start=True, **QUICK)
    calibration = model.fit(X, y, count)._state.calibration
    assert calibration.conformal.n_rows == 400
    assert all(len(fold.classes_) == 3 for fold in calibration.folds)


# Rows, weights, seeds


@pytest.mark.parametrize("kind", [None, *TABLES], ids=["continuous", *TABLES])
@each_calibrated
def test_a_weight_of_two_is_two_rows_and_none_is_no_row(name, mode, backend, kind):
    X, y = problem(name, kind)
    model = make(name, backend, kind, calibration=mode, **QUICK)
    weight = np.random.default_rng(0).integers(0, 3, size=len(y))
    weighted = clone(model).fit(X, y, sample_weight=weight)
    copies = np.repeat(np.arange(len(y)), weight)
    repeated = clone(model).fit(X[copies], y[copies])
    assert_same(outputs(weighted, X), outputs(repeated, X))
    order = np.random.default_rng(1).permutation(len(y))
    assert_same(outputs(clone(model).fit(X[order], y[order], sample_weight=weight[order]), X), outputs(weighted, X))


@each_backend
def test_rows_of_more_weight_have_more_say_in_the_intervals(backend):
    X, y = noisy(200, 0)
    loud = np.abs(X[:, 2]) > 1
    model = make("ProbabilisticRegressor", backend, likelihood=Normal(scale=0.15), calibration="conformal", **QUICK)
    width = [
        np.ptp(clone(model).fit(X, y, sample_weight=np.where(loud, w, 1.0)).predict_interval(X), axis=1).mean()
        for w in (0.05, 20.0)
    ]
    assert width[1] > 1.2 * width[0]


@each_backend
def test_folds_train_with_their_weights(backend):
    X, y = noisy(40, 0)
    X = X[np.argsort(X[:, 0])]
    weight = np.random.default_rng(0).exponential(size=40)
    model = make("ProbabilisticRegressor", backend, calibration="conformal", warm_start=True, **QUICK)
    calibration = model.fit(X, y, sample_weight=weight)._state.calibration
    for fold, held_out in zip(calibration.folds, held_out_rows(40, calibration.seed), strict=True):
        rows = np.setdiff1d(np.arange(40), held_out)
        by_hand = make("ProbabilisticRegressor", backend, **{**QUICK, "random_state": fold.random_state})
        by_hand.fit(X[rows], y[rows], sample_weight=weight[rows])
        np.testing.assert_array_equal(fold.predict(X), by_hand.predict(X))


@each_calibrated
def test_the_seed_says_it_all(name, mode, backend):
    X, y = problem(name)
    model = make(name, backend, calibration=mode, **QUICK)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    said = outputs(clone(model).fit(X, y), X)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    assert_same(outputs(clone(model).fit(X, y), X), said)
    generators = [outputs(clone(model).set_params(random_state=np.random.RandomState(3)).fit(X, y), X) for _ in "12"]
    assert_same(*generators)
    key = "proba" if name in CLASSIFIERS else "interval"
    assert not np.array_equal(generators[0][key], said[key])


@each_calibrated
def test_sparse_rows_are_held_out_too(name, mode, backend):
    X, y = problem(name)
    model = make(name, backend, calibration=mode, **QUICK).fit(sparse.csr_array(X), y)
    assert_same(outputs(model, sparse.csr_array(X)), outputs(model, X))


# After a fit


@each_calibrated
def test_an_estimator_keeps_what_it_was_fitted_with(name, mode, backend):
    X, y = problem(name)
    model = make(name, backend, calibration=mode, **QUICK).fit(X, y)
    plain = make(name, backend, **QUICK).fit(X, y)
    said, own = outputs(model, X), outputs(plain, X)
    assert_same(outputs(model.set_params(calibration=None, random_state=5, n_iter_no_change=3), X), said)
    assert_same(outputs(plain.set_params(calibration=mode), X), own)
    model.set_params(random_state=0, n_iter_no_change=None).fit(X, y)
    assert_same(outputs(model, X), own)
    assert not hasattr(model, "temperature_")


@each_calibrated
def test_pickles_say_the_same(name, mode, backend):
    X, y = problem(name)
    model = make(name, backend, calibration=mode, **QUICK).fit(X, y)
    assert_same(outputs(pickle.loads(pickle.dumps(model)), X), outputs(model, X))


@each_classifier
def test_warm_start_goes_on_from_undivided_weights(name, backend):
    X, y = problem(name)
    plain = make(name, backend, warm_start=True, max_iter=3, early_stopping=False, learning_rate="constant")
    model = clone(plain).set_params(calibration="temperature")
    for _ in range(2):
        before = model._state.calibration.folds if hasattr(model, "_state") else ()
        model.fit(X, y)
        plain.fit(X, y)
    odds = model.temperature_ * log_odds(model.predict_dist(X).draws)
    np.testing.assert_allclose(odds, log_odds(plain.predict_dist(X).draws), rtol=1e-5, atol=1e-6)
    # The folds' models go on too, or the temperature would be that of models less trained.
    for earlier, later in zip(before, model._state.calibration.folds, strict=True):
        assert later.loss_ < earlier.loss_


@each_backend
def test_weights_that_have_seen_all_rows_hold_none_out(backend, split):
    X, y = problem("ProbabilisticClassifier")
    model = make("ProbabilisticClassifier", backend, warm_start=True, **QUICK).fit(X, y)
    model.set_params(calibration="temperature").fit(X, y)
    assert len(model._state.calibration.folds) == 5
    model = make("ProbabilisticClassifier", backend, warm_start=True, calibration="temperature", **QUICK).fit(X, y)
    seed = model._state.calibration.seed
    model.set_params(random_state=9).fit(X, y)
    assert model._state.calibration.folds == ()
    assert model._state.calibration.seed == seed


@each_backend
def test_a_fit_that_fails_changes_nothing(backend, monkeypatch):
    X, y = problem("ProbabilisticClassifier")
    model = make("ProbabilisticClassifier", backend, calibration="temperature", **QUICK).fit(X, y)
    said = outputs(model, X)

    def fail(*args):
        raise MemoryError

    monkeypatch.setattr(self_calibration, "_fit_folds", fail)
    with pytest.raises(MemoryError):
        model.fit(X, y[::-1])
    assert_same(outputs(model, X), said)


# Native models


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("width", [2, 3])
@each_classifier
def test_native_models_hold_the_temperature(name, width, class_weight, backend):
    X, y = problem(name, width)
    model = make(name, backend, calibration="temperature", class_weight=class_weight, **QUICK).fit(X, y)
    proba, T = model.predict_proba(X), model.temperature_
    exported = as_fitted(model._state)
    divided, undivided = (
        [native_logits(backend, native, X) for native in as_list(backends.load(backend).to_native(fitted))]
        for fitted in (exported, replace(exported, temperature=1.0, log_class_weight=0.0))
    )
    whole = T * (np.array(divided) + exported.log_class_weight)
    np.testing.assert_allclose(whole, np.array(undivided), rtol=1e-4, atol=1e-5)
    if name == "MCDropoutClassifier":
        draws = [probabilities(call(backend, model.draw_to_native(s), X)) for s in range(model.n_draws)]
        np.testing.assert_allclose(np.mean(draws, axis=0), proba, rtol=2e-4, atol=1e-6)
    elif name == "SNGPClassifier":
        logits, covariance = (as_array(part) for part in call(backend, model.to_native(), X))
        variance = np.diagonal(covariance)[:, None] if backend == "tensorflow" else covariance
        tempered = probabilities(logits / np.sqrt(1 + model.mean_field_factor * variance))
        np.testing.assert_allclose(tempered, proba, rtol=2e-3, atol=1e-5)
    elif name != "BNNClassifier":
        native = [probabilities(call(backend, native, X)) for native in native_list(model)]
        np.testing.assert_allclose(np.mean(native, axis=0), proba, rtol=2e-4, atol=1e-6)
    model.from_native(model.to_native())
    assert model.temperature_ == T
    np.testing.assert_allclose(model.predict_proba(X), proba, rtol=2e-3, atol=1e-6)


def as_list(native):
    return native if isinstance(native, list) else [native]


def native_logits(backend, native, X):
    """Logits of one forward pass, of the same random numbers each time."""
    if backend == "tensorflow":
        import tensorflow as tf

        tf.random.set_seed(0)
        output = call(backend, native, X)
    else:
        import torch

        with torch.random.fork_rng():
            torch.manual_seed(0)
            output = call(backend, native, X)
    return as_array(output[0] if isinstance(output, list | tuple) else output)


@each_backend
def test_conformal_intervals_hold_for_the_weights_of_fit(backend):
    X, y = problem("ProbabilisticRegressor")
    model = make("ProbabilisticRegressor", backend, calibration="conformal", **QUICK).fit(X, y)
    native, said = model.to_native(), outputs(model, X)
    with pytest.raises(ValueError, match="weights of fit"):
        model.from_native(native)
    assert_same(outputs(model, X), said)


# Composites


@each_calibrated
def test_pipelines_and_searches_reach_it(name, mode, backend):
    X, y = problem(name)
    Z = StandardScaler().fit_transform(X)
    model = make(name, backend, calibration=mode, **QUICK)
    pipeline = make_pipeline(StandardScaler(), model)
    step = name.lower()
    search = GridSearchCV(pipeline, {f"{step}__calibration": [None, mode]}, cv=2, scoring=prefers(mode, step)).fit(X, y)
    assert search.best_params_ == {f"{step}__calibration": mode}
    alone = clone(model).fit(Z, y)
    ask = skuq.predict_set if name in CLASSIFIERS else skuq.predict_interval
    expected = alone.predict_set(Z) if name in CLASSIFIERS else alone.predict_interval(Z)
    for composite in (pipeline.fit(X, y), search):
        np.testing.assert_array_equal(ask(composite, X), expected)
    with config_context(enable_metadata_routing=True):
        np.testing.assert_array_equal(ask(clone(pipeline).fit(X, y), X), expected)


def prefers(mode, step):
    """Scorer that takes the calibrated one."""
    return lambda pipeline, X, y: float(pipeline.get_params()[f"{step}__calibration"] == mode)


# Errors


@pytest.mark.parametrize(
    ("name", "value"),
    [("ProbabilisticRegressor", "temperature"), ("SNGPRegressor", "cross"), ("BNNClassifier", "isotonic")],
)
def test_values_of_another_task_are_refused(name, value):
    with pytest.raises(InvalidParameterError, match="'calibration' parameter"):
        getattr(skuq, name)(calibration=value).fit(*problem(name))


@each_backend
def test_too_few_rows_are_refused_before_any_work(backend, monkeypatch):
    monkeypatch.setattr(backends, "load", None)
    X = np.arange(8.0)[:, None]
    model = make("ProbabilisticRegressor", backend, calibration="conformal")
    with pytest.raises(ValueError, match="at least 3 rows of positive weight, got 2"):
        model.fit(X, X[:, 0], sample_weight=[1, 1, 0, 0, 0, 0, 0, 0])
    model = make("ProbabilisticClassifier", backend, calibration="temperature")
    with pytest.raises(ValueError, match=r"at least two classes of two rows.*\[7, 1\].*calibration=None"):
        model.fit(X, [0] * 7 + [1])


@each_backend
@pytest.mark.parametrize("rows", [[[1.0]] * 8, [[0.0], *[[1.0]] * 7]], ids=["one", "two"])
def test_hardly_any_different_rows_are_rows_too(rows, backend):
    X = np.array(rows)
    model = make("ProbabilisticRegressor", backend, calibration="conformal", **QUICK).fit(X, X[:, 0])
    assert model._state.calibration.conformal.n_rows == 8
    assert np.isfinite(model.predict_interval(X, 0.8)).all()


@each_backend
def test_few_rows_give_few_folds(backend):
    X = np.arange(4.0)[:, None]
    model = make("ProbabilisticRegressor", backend, calibration="conformal", **QUICK).fit(X, [0.0, 1.0, 2.0, 4.0])
    assert np.isfinite(model.predict_interval(X, 0.5)).all()
    with pytest.raises(ValueError, match="at least 9 calibration rows, got 4"):
        model.predict_interval(X, 0.9)
    X, y = problem("ProbabilisticClassifier", 3)
    rare = np.append(np.flatnonzero(y != "no"), np.flatnonzero(y == "no")[:1])
    for mode in ("conformal", "temperature"):
        model = make("ProbabilisticClassifier", backend, calibration=mode, **QUICK).fit(X[rare], y[rare])
        assert model.predict_set(X).shape == (len(X), 3)
    assert np.isfinite(model.temperature_)


# scikit-learn


@pytest.mark.parametrize(
    ("name", "mode", "backend"),
    [
        case("blitz", "ProbabilisticRegressor", "conformal"),
        case("blitz", "ProbabilisticClassifier", "temperature"),
    ],
)
def test_check_estimator(name, mode, backend):
    model = make(name, backend, calibration=mode, hidden_layer_sizes=(8,), max_iter=40, early_stopping=False)
    results = check_estimator(model, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] not in ("passed", "skipped")} == set()
    assert sum(result["status"] == "passed" for result in results) > 40
