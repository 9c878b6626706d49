"""Every metric against a closed form, another library, or a plain loop."""

import sys
from functools import partial

import numpy as np
import pytest
import scoringrules
from scipy import integrate, stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss, mean_pinball_loss

from skuq import metrics
from skuq._prediction.distributions import PredictiveCategorical, PredictiveMixture
from skuq.likelihoods import Gamma, Normal, Poisson

N = 60
rng = np.random.default_rng(0)
Y = rng.normal(size=N)
MEAN, STD = Y + rng.normal(size=N), rng.uniform(0.5, 2.0, size=N)
LOGITS = rng.normal(size=(N, 3))
PROB = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
LABEL = np.array([rng.choice(3, p=p) for p in PROB])
IS_OOD = rng.integers(0, 2, size=N)
SCORE = np.round(rng.normal(size=N) + IS_OOD, 1)  # Rounded, so that there are ties.


def normal_mixture(n_outputs=1, n_draws=5):
    draws = np.random.default_rng(1)
    loc = draws.normal(size=(n_draws, N, n_outputs))
    scale = draws.uniform(0.3, 1.0, size=(n_draws, N, n_outputs))
    return PredictiveMixture(Normal(), {"loc": loc, "scale": scale}, single_output=n_outputs == 1)


class Continuous:
    """A frozen scipy distribution stripped of all that lets a metric recognise it."""

    def __init__(self, frozen):
        self.mean, self.std, self.cdf, self.ppf, self.logpdf = (
            frozen.mean, frozen.std, frozen.cdf, frozen.ppf, frozen.logpdf,
        )  # fmt: skip


# --- scores of distributions ---


@pytest.mark.parametrize("y_pred", [(MEAN, STD), stats.norm(MEAN, STD)], ids=["arrays", "scipy"])
def test_nll_of_a_normal(y_pred):
    assert metrics.nll(Y, y_pred) == pytest.approx(scoringrules.logs_normal(Y, MEAN, STD).mean())


def test_nll_of_a_mixture():
    mixture = normal_mixture()
    loc, scale = mixture.parameters["loc"][..., 0], mixture.parameters["scale"][..., 0]
    expected = -np.log(stats.norm.pdf(Y, loc, scale).mean(axis=0)).mean()
    assert metrics.nll(Y, mixture) == pytest.approx(expected)


def test_nll_of_counts():
    counts = np.arange(N) % 4
    assert metrics.nll(counts, stats.poisson(STD)) == pytest.approx(-stats.poisson.logpmf(counts, STD).mean())


def test_nll_of_labels_is_log_loss_for_any_order_of_columns():
    names = np.array(["b", "c", "a"])
    expected = log_loss(names[LABEL], PROB[:, [2, 0, 1]])
    assert metrics.nll(names[LABEL], PROB, labels=names) == pytest.approx(expected)
    categorical = PredictiveCategorical(np.array([0, 1, 2]), PROB, PROB[None])
    assert metrics.nll(LABEL, categorical) == pytest.approx(expected)


def test_crps_of_a_normal():
    z = (Y - MEAN) / STD
    # Gneiting et al. (2005), eq. 5.
    expected = STD * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    for y_pred in [(MEAN, STD), stats.norm(MEAN, STD), Continuous(stats.norm(MEAN, STD))]:
        assert metrics.crps(Y, y_pred) == pytest.approx(expected.mean(), rel=1e-7)


@pytest.mark.parametrize("n_draws", [1, 5])
def test_crps_of_a_mixture_is_the_integral(n_draws):
    mixture = normal_mixture(n_draws=n_draws)
    loc, scale = mixture.parameters["loc"][..., 0], mixture.parameters["scale"][..., 0]
    expected = [
        integrate.quad(
            lambda x, i=i: (stats.norm.cdf(x, loc[:, i], scale[:, i]).mean() - (x >= Y[i])) ** 2,
            -12, 12, points=[Y[i]], limit=200,
        )[0]
        for i in range(N)
    ]  # fmt: skip
    assert metrics.crps(Y, mixture) == pytest.approx(np.mean(expected), rel=1e-6)
    assert metrics.crps(Y, Continuous(mixture)) == pytest.approx(np.mean(expected), rel=1e-5)


POSITIVE = np.exp(Y)


@pytest.mark.parametrize(
    ("y", "dist", "expected"),
    [
        (Y, stats.laplace(MEAN, STD), scoringrules.crps_laplace(Y, MEAN, STD)),
        (Y, stats.t(3, MEAN, STD), scoringrules.crps_t(Y, 3, MEAN, STD)),
        (POSITIVE, stats.lognorm(s=STD / 2), scoringrules.crps_lognormal(POSITIVE, 0.0, STD / 2)),
        (POSITIVE, stats.gamma(STD), scoringrules.crps_gamma(POSITIVE, STD, 1.0)),
        (np.arange(N), stats.poisson(20 * STD), scoringrules.crps_poisson(np.arange(N), 20 * STD)),
        (np.arange(N), stats.nbinom(STD, 0.1), scoringrules.crps_negbinom(np.arange(N), STD, 0.1)),
    ],
    ids=["laplace", "t", "lognormal", "gamma", "poisson", "negbinom"],
)
def test_crps_by_quadrature_is_the_closed_form(y, dist, expected):
    assert metrics.crps(y, dist) == pytest.approx(np.mean(expected), rel=1e-6)


def test_crps_of_predict_dist_of_other_families():
    parameters = {"rate": 5 * STD[None, :, None]}
    counts = np.arange(N) % 9
    names = [p.name for p in Poisson().parameters()]
    dist = PredictiveMixture(Poisson(), dict(zip(names, parameters.values(), strict=True)), single_output=True)
    assert metrics.crps(counts, dist) == pytest.approx(scoringrules.crps_poisson(counts, 5 * STD).mean(), rel=1e-6)
    # Two parameters named otherwise than a normal's, or alike: never taken for a normal.
    draws = {p.name: np.full((1, N, 1), 2.0) for p in Gamma().parameters()}
    dist = PredictiveMixture(Gamma(), draws, single_output=True)
    expected = metrics.crps(POSITIVE, Continuous(Gamma().distribution({k: v[0, :, 0] for k, v in draws.items()})))
    assert metrics.crps(POSITIVE, dist) == pytest.approx(expected, rel=1e-6)


def test_crps_of_large_counts():
    k = np.arange(200_000)
    y = np.array([99_000.0, 103_000.0])
    expected = np.mean([np.sum((stats.nbinom.cdf(k, 100, 0.001) - (k >= value)) ** 2) for value in y])
    assert metrics.crps(y, stats.nbinom(np.full(2, 100), 0.001)) == pytest.approx(expected, rel=1e-4)


def test_crps_of_samples_is_unbiased():
    y, mean, std = Y[:20], MEAN[:20], STD[:20]
    few = np.random.default_rng(2).normal(mean[:, None], std[:, None], size=(3000, 20, 3))
    scores = [metrics.crps(y, samples) for samples in few]
    error = np.std(scores) / np.sqrt(len(scores))
    assert abs(np.mean(scores) - metrics.crps(y, (mean, std))) < 4 * error
    assert error < 0.01


def test_energy_score_of_samples_is_the_double_sum():
    y, samples = np.random.default_rng(3).normal(size=(7, 2)), np.random.default_rng(4).normal(size=(7, 2, 5))
    expected = []
    for i in range(7):
        to_y = np.mean([np.linalg.norm(samples[i, :, a] - y[i]) for a in range(5)])
        pairs = [np.linalg.norm(samples[i, :, a] - samples[i, :, b]) for a in range(5) for b in range(5) if a != b]
        expected.append(to_y - np.mean(pairs) / 2)
    assert metrics.energy_score(y, samples) == pytest.approx(np.mean(expected))


def test_energy_score_of_one_output_is_the_crps():
    for y_pred in [(MEAN, STD), normal_mixture()]:
        assert metrics.energy_score(Y, y_pred, n_samples=500) == pytest.approx(metrics.crps(Y, y_pred), rel=0.03)
    samples = np.random.default_rng(5).normal(size=(N, 40))
    assert metrics.energy_score(Y, samples) == pytest.approx(metrics.crps(Y, samples))


def test_energy_score_draws_from_several_outputs():
    one = normal_mixture(n_outputs=2, n_draws=1)
    y = np.column_stack([Y, MEAN])
    loc, scale = one.parameters["loc"], one.parameters["scale"]
    first, second = np.random.default_rng(6).normal(loc, scale, size=(2, 4000, N, 2))
    expected = np.linalg.norm(first - y, axis=-1).mean() - np.linalg.norm(first - second, axis=-1).mean() / 2
    for y_pred in [one, (loc[0], scale[0])]:
        assert metrics.energy_score(y, y_pred, n_samples=300) == pytest.approx(expected, rel=0.01)


def test_energy_score_sees_dependence_that_crps_cannot():
    generator = np.random.default_rng(8)
    covariance = [[1.0, 0.9], [0.9, 1.0]]
    y = generator.multivariate_normal([0, 0], covariance, size=400)
    joint = np.moveaxis(generator.multivariate_normal([0, 0], covariance, size=(400, 200)), 1, 2)
    independent = generator.normal(size=(400, 2, 200))
    assert metrics.crps(y, joint) == pytest.approx(metrics.crps(y, independent), rel=0.02)
    assert metrics.energy_score(y, joint) < 0.99 * metrics.energy_score(y, independent)


def test_pinball_is_scikit_learns_and_integrates_to_the_crps():
    levels = [0.1, 0.7]
    quantiles = stats.norm(MEAN[:, None], STD[:, None]).ppf(levels)
    expected = np.mean([mean_pinball_loss(Y, quantiles[:, j], alpha=q) for j, q in enumerate(levels)])
    assert metrics.pinball_loss(Y, quantiles, quantiles=levels) == pytest.approx(expected)
    assert metrics.pinball_loss(Y, (MEAN, STD), quantiles=levels) == pytest.approx(expected)
    grid = (np.arange(1000) + 0.5) / 1000
    assert 2 * metrics.pinball_loss(Y, (MEAN, STD), quantiles=grid) == pytest.approx(
        metrics.crps(Y, (MEAN, STD)), rel=1e-3
    )


def test_pit_is_uniform_only_for_the_true_distribution():
    generator = np.random.default_rng(9)
    y, counts = generator.normal(0, 2, size=2000), generator.poisson(1.5, size=2000)
    zeros = np.zeros(2000)
    assert stats.kstest(metrics.pit(y, (zeros, zeros + 2)), "uniform").pvalue > 0.01
    assert stats.kstest(metrics.pit(y, (zeros, zeros + 1)), "uniform").pvalue < 1e-6
    assert stats.kstest(metrics.pit(counts, stats.poisson(zeros + 1.5)), "uniform").pvalue > 0.01
    assert stats.kstest(stats.poisson.cdf(counts, 1.5), "uniform").pvalue < 1e-6
    assert metrics.pit(y[:, None], (zeros, zeros + 2)).shape == (2000, 1)


# --- intervals ---

INTERVAL = np.column_stack([MEAN - STD, MEAN + 2 * STD])


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_interval_score_is_a_sum_of_pinball_losses(level):
    # Gneiting & Raftery (2007), section 6.2: 2 / α times the losses of the two quantiles.
    alpha = 1 - level
    losses = mean_pinball_loss(Y, INTERVAL[:, 0], alpha=alpha / 2) + mean_pinball_loss(
        Y, INTERVAL[:, 1], alpha=1 - alpha / 2
    )
    assert metrics.interval_score(Y, INTERVAL, coverage=level) == pytest.approx(2 / alpha * losses)


def test_coverage_and_width_of_intervals():
    inside = [low <= y <= high for y, (low, high) in zip(Y, INTERVAL, strict=True)]
    assert 0 < np.mean(inside) < 1
    assert metrics.coverage(Y, INTERVAL) == pytest.approx(np.mean(inside))
    assert metrics.mean_width(Y, INTERVAL) == pytest.approx(3 * STD.mean())
    assert metrics.coverage([1.0, 2.0], [[1.0, 1.5], [1.0, 2.0]]) == 1.0  # ends belong to it


def test_mean_width_needs_no_targets():
    for y_pred, expected in [
        (INTERVAL, metrics.mean_width(Y, INTERVAL)),
        ((MEAN, STD), metrics.mean_width(Y, (MEAN, STD))),
        (normal_mixture(), metrics.mean_width(Y, normal_mixture())),
        (stats.norm(MEAN, STD), metrics.mean_width(Y, (MEAN, STD))),
    ]:
        assert metrics.mean_width(y_pred) == expected
    pair = np.stack([INTERVAL, 2 * INTERVAL], axis=1)
    np.testing.assert_allclose(metrics.mean_width(pair, multioutput="raw_values"), 3 * STD.mean() * np.array([1, 2]))
    weight = np.arange(N)
    expected = np.average(np.diff(INTERVAL)[:, 0], weights=weight)
    assert metrics.mean_width(INTERVAL, sample_weight=weight) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"shape \(n, 2\) or \(n, t, 2\), got \(60,\)"):
        metrics.mean_width(Y)


@pytest.mark.parametrize("metric", [metrics.interval_score, metrics.coverage, metrics.mean_width])
def test_distributions_give_their_central_interval(metric):
    z = stats.norm.ppf(0.9)
    interval = np.column_stack([MEAN - z * STD, MEAN + z * STD])
    assert metric(Y, (MEAN, STD), coverage=0.8) == pytest.approx(metric(Y, interval, coverage=0.8))


def test_interval_score_of_one_row():
    assert metrics.interval_score([2.0], [[0.0, 1.0]], coverage=0.5) == pytest.approx(5.0)


# --- several outputs ---

TWO = normal_mixture(n_outputs=2)
Y2 = np.column_stack([Y, MEAN])


@pytest.mark.parametrize(
    "metric",
    [metrics.nll, metrics.crps, metrics.interval_score, metrics.coverage, metrics.mean_width, metrics.pinball_loss],
)
def test_outputs_are_scored_one_by_one(metric):
    loc, scale = TWO.parameters["loc"], TWO.parameters["scale"]
    each = [
        metric(Y2[:, j], PredictiveMixture(Normal(), {"loc": loc[..., [j]], "scale": scale[..., [j]]}, True))
        for j in range(2)
    ]
    np.testing.assert_allclose(metric(Y2, TWO, multioutput="raw_values"), each)
    assert metric(Y2, TWO) == pytest.approx(np.mean(each))
    assert metric(Y2, TWO, multioutput=[3, 1]) == pytest.approx(np.average(each, weights=[3, 1]))
    assert isinstance(metric(Y2, TWO), float)


# --- class probabilities ---


def test_brier_is_scikit_learns():
    assert metrics.brier_score(LABEL, PROB) == pytest.approx(brier_score_loss(LABEL, PROB))
    binary = LABEL == 2
    assert metrics.brier_score(binary, PROB[:, 2]) == pytest.approx(np.mean((binary - PROB[:, 2]) ** 2))


@pytest.mark.parametrize("n_bins", [1, 5, None])
def test_brier_decomposition_adds_up(n_bins):
    for y, p in [(LABEL, PROB), (LABEL == 2, PROB[:, 2]), (LABEL == 2, PROB[:, 2].round(1))]:
        parts = metrics.brier_decomposition(y, p, n_bins=n_bins)
        total = parts.reliability - parts.resolution + parts.uncertainty + parts.within_bin
        assert total == pytest.approx(metrics.brier_score(y, p))
        if n_bins is None:
            assert parts.within_bin == pytest.approx(0, abs=1e-12)


def test_brier_decomposition_is_murphys():
    p, y = PROB[:, 2].round(1), (LABEL == 2).astype(float)
    reliability = np.mean([(value - y[p == value].mean()) ** 2 for value in p])
    resolution = np.mean([(y[p == value].mean() - y.mean()) ** 2 for value in p])
    parts = metrics.brier_decomposition(y, p, n_bins=None)
    np.testing.assert_allclose(parts[:3], [reliability, resolution, y.var()])


def binned_error(p, hit, bins):
    return sum(len(b) / len(p) * abs(p[b].mean() - hit[b].mean()) for b in bins if len(b))


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("classwise", [False, True])
def test_ece_is_the_plain_loop(strategy, classwise):
    if classwise:
        events = [(PROB[:, k], k == LABEL) for k in range(3)]
    else:
        events = [(PROB.max(axis=1), PROB.argmax(axis=1) == LABEL)]
    errors = []
    for p, hit in events:
        if strategy == "uniform":
            bins = [np.flatnonzero((p > b / 6) & (p <= (b + 1) / 6)) for b in range(6)]
        else:
            bins = np.array_split(np.argsort(p), 6)
        errors.append(binned_error(p, hit, bins))
    result = metrics.ece(LABEL, PROB, n_bins=6, strategy=strategy, classwise=classwise)
    assert result == pytest.approx(np.mean(errors))


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_reliability_curve_is_scikit_learns(strategy):
    generator = np.random.default_rng(10)
    p = generator.uniform(size=500)
    y = generator.uniform(size=500) < p**2
    curve = metrics.reliability_curve(y, p, n_bins=5, strategy=strategy, pos_label=True)
    frequency, confidence = calibration_curve(y, p, n_bins=5, strategy=strategy)
    np.testing.assert_allclose(curve.frequency, frequency, atol=0.01 if strategy == "quantile" else 1e-12)
    np.testing.assert_allclose(curve.confidence, confidence, atol=0.01 if strategy == "quantile" else 1e-12)
    assert curve.mass.sum() == pytest.approx(1)


def test_reliability_curve_holds_the_ece():
    curve = metrics.reliability_curve(LABEL, PROB, n_bins=7)
    gap = np.sum(curve.mass * np.abs(curve.confidence - curve.frequency))
    assert gap == pytest.approx(metrics.ece(LABEL, PROB, n_bins=7))


# --- ranking ---


def test_aurc_is_the_mean_risk_of_the_most_certain_rows():
    wrong = PROB.argmax(axis=1) != LABEL
    kept = wrong[np.argsort(1 - PROB.max(axis=1))]
    assert metrics.aurc(LABEL, PROB) == pytest.approx(np.mean(np.cumsum(kept) / np.arange(1, N + 1)))
    error = np.abs(Y - MEAN)[np.argsort(STD)]
    assert metrics.aurc(Y, (MEAN, STD)) == pytest.approx(np.mean(np.cumsum(error) / np.arange(1, N + 1)))


def test_aurc_of_constant_and_of_perfect_uncertainty():
    wrong = (PROB.argmax(axis=1) != LABEL).astype(float)
    assert metrics.aurc(LABEL, PROB, uncertainty=np.ones(N)) == pytest.approx(wrong.mean())
    orders = [metrics.aurc(LABEL, PROB, uncertainty=u) for u in (wrong, 1 - PROB.max(axis=1), -wrong)]
    assert orders == sorted(orders)
    assert orders[0] < orders[2]


def test_risk_coverage_curve_does_not_depend_on_the_order_of_ties():
    loss, order = rng.uniform(size=N), rng.permutation(N)
    curve = metrics.risk_coverage_curve(loss, SCORE)
    shuffled = metrics.risk_coverage_curve(loss[order], SCORE[order])
    for a, b in zip(curve, shuffled, strict=True):
        np.testing.assert_allclose(a, b)
    assert curve.coverage[-1] == pytest.approx(1)
    assert curve.risk[-1] == pytest.approx(loss.mean())
    t = curve.threshold[3]
    assert curve.risk[3] == pytest.approx(loss[t >= SCORE].mean())


def test_ood_auroc_is_the_rank_statistic():
    foreign, familiar = SCORE[IS_OOD == 1], SCORE[IS_OOD == 0]
    u = stats.mannwhitneyu(foreign, familiar).statistic / (len(foreign) * len(familiar))
    assert metrics.ood_auroc(IS_OOD, SCORE) == pytest.approx(u)


def test_ood_aupr_is_the_step_integral():
    foreign = SCORE[IS_OOD == 1]
    # Each found row counts with the precision at its own threshold.
    expected = np.mean([np.mean(IS_OOD[s <= SCORE]) for s in foreign])
    assert metrics.ood_aupr(IS_OOD, SCORE) == pytest.approx(expected)


def test_ood_fpr95_is_the_search_over_thresholds():
    foreign, familiar = SCORE[IS_OOD == 1], SCORE[IS_OOD == 0]
    caught = max(t for t in SCORE if np.mean(foreign >= t) >= 0.95)
    expected = np.mean(familiar >= caught)
    assert 0 < expected < 1
    assert metrics.ood_fpr95(IS_OOD, SCORE) == pytest.approx(expected)
    # On a straight line of ties too, which roc_curve would thin to its ends.
    assert metrics.ood_fpr95(np.tile([0, 1], 20), np.repeat(np.arange(20), 2)) == pytest.approx(0.95)


# --- properties of all ---

ALL = {
    "nll": (metrics.nll, Y, (MEAN, STD)),
    "nll labels": (metrics.nll, LABEL, PROB),
    "crps": (metrics.crps, Y, (MEAN, STD)),
    "crps samples": (metrics.crps, Y, rng.normal(size=(N, 8))),
    "energy_score": (metrics.energy_score, Y2, rng.normal(size=(N, 2, 8))),
    "interval_score": (metrics.interval_score, Y, INTERVAL),
    "coverage": (metrics.coverage, Y, INTERVAL),
    "mean_width": (metrics.mean_width, Y, INTERVAL),
    "pinball_loss": (partial(metrics.pinball_loss, quantiles=[0.2, 0.8]), Y, INTERVAL),
    "brier_score": (metrics.brier_score, LABEL, PROB),
    "brier_decomposition": (metrics.brier_decomposition, LABEL, PROB),
    "ece": (metrics.ece, LABEL, PROB),
    "ece adaptive": (partial(metrics.ece, strategy="quantile", n_bins=4), LABEL, PROB),
    "ece class-wise": (partial(metrics.ece, strategy="quantile", classwise=True), LABEL, PROB),
    "reliability_curve": (partial(metrics.reliability_curve, n_bins=4), LABEL, PROB),
    "risk_coverage_curve": (metrics.risk_coverage_curve, np.abs(Y), SCORE),
    "aurc": (metrics.aurc, LABEL, PROB),
    "aurc regression": (metrics.aurc, Y, (MEAN, STD)),
    "ood_auroc": (metrics.ood_auroc, IS_OOD, SCORE),
    "ood_aupr": (metrics.ood_aupr, IS_OOD, SCORE),
    "ood_fpr95": (metrics.ood_fpr95, IS_OOD, SCORE),
}


def take(y_pred, rows):
    return tuple(part[rows] for part in y_pred) if isinstance(y_pred, tuple) else y_pred[rows]


@pytest.mark.parametrize("name", ALL)
def test_integer_weights_are_repetitions(name):
    metric, y, y_pred = ALL[name]
    weight = np.random.default_rng(11).integers(0, 4, size=N)
    rows = np.repeat(np.arange(N), weight)
    weighted = np.ravel(metric(y, y_pred, sample_weight=weight))
    np.testing.assert_allclose(weighted, np.ravel(metric(y[rows], take(y_pred, rows))), atol=1e-14)
    # And the weights matter.
    assert not np.array_equal(weighted, np.ravel(metric(y, y_pred)))


@pytest.mark.parametrize("name", ALL)
def test_bad_weights_are_refused(name):
    metric, y, y_pred = ALL[name]
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        metric(y, y_pred, sample_weight=np.linspace(-1, 1, N))
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        metric(y, y_pred, sample_weight=np.ones(N - 1))


@pytest.mark.parametrize("metric", [metrics.nll, metrics.crps, metrics.interval_score, metrics.pinball_loss])
@pytest.mark.parametrize("wrong", [(0.5, 1.0), (0.0, 0.6), (0.0, 1.6)], ids=["shifted", "narrow", "wide"])
def test_scores_are_proper(metric, wrong):
    y = np.random.default_rng(12).normal(size=4000)
    zeros = np.zeros(4000)
    assert metric(y, (zeros, zeros + 1)) < metric(y, (zeros + wrong[0], zeros + wrong[1]))


# --- errors ---


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: metrics.coverage(Y, (MEAN, STD), coverage=90), ValueError, "got 90. For 90 % pass coverage=0.9"),
        (lambda: metrics.interval_score(Y, INTERVAL, coverage=1.0), ValueError, "strictly between 0 and 1"),
        (lambda: metrics.mean_width(Y, INTERVAL, coverage="0.9"), ValueError, "strictly between 0 and 1"),
        (lambda: metrics.pinball_loss(Y, INTERVAL, quantiles=[0.0, 0.5]), ValueError, "quantiles must lie"),
        (lambda: metrics.coverage(Y, INTERVAL[:, ::-1]), ValueError, "lower end above"),
        (lambda: metrics.coverage(Y, INTERVAL[:-1]), ValueError, r"must have shape \(n, 2\)"),
        (lambda: metrics.coverage(Y2, INTERVAL), ValueError, r"must have shape \(n, t, 2\)"),
        (lambda: metrics.nll(Y, (MEAN, -STD)), ValueError, "must be positive"),
        (lambda: metrics.nll(Y, (MEAN, STD[:-1])), ValueError, "same shape"),
        (lambda: metrics.nll(Y, (MEAN, STD, STD)), ValueError, "got 3 elements"),
        (lambda: metrics.nll(Y2, (MEAN, STD)), ValueError, "2 output"),
        (lambda: metrics.nll(Y[:-1], (MEAN, STD)), ValueError, "59 rows"),
        (lambda: metrics.nll([np.nan, 1.0], (MEAN[:2], STD[:2])), ValueError, "NaN"),
        (lambda: metrics.nll(Y, (MEAN, STD), multioutput="mean"), ValueError, "multioutput must be"),
        (lambda: metrics.pit(Y, MEAN), TypeError, r"pass \(mean, std\)"),
        (lambda: metrics.crps(Y, PROB[:, :1]), ValueError, "two samples"),
        (lambda: metrics.energy_score(Y, (MEAN, STD), n_samples=1), ValueError, "at least 2"),
        (lambda: metrics.crps(Y, PredictiveCategorical(np.arange(3), PROB, PROB[None])), TypeError, "real targets"),
        (lambda: metrics.ece(LABEL, (MEAN, STD)), TypeError, "class probabilities"),
        (lambda: metrics.nll(LABEL, LOGITS), ValueError, r"\[0, 1\]"),
        (lambda: metrics.ece(LABEL, PROB / 2), ValueError, "sum to 1"),
        (lambda: metrics.ece(LABEL % 2, PROB), ValueError, "labels=estimator.classes_"),
        (lambda: metrics.ece(LABEL + 1, PROB, labels=[0, 1, 2]), ValueError, r"no column.*\[3\]"),
        (lambda: metrics.ece(LABEL, PROB, n_bins=0), ValueError, "n_bins"),
        (lambda: metrics.ece(LABEL, PROB, strategy="adaptive"), ValueError, "'uniform' or 'quantile'"),
        (lambda: metrics.reliability_curve(LABEL, PROB, pos_label=7), ValueError, "got 7"),
        (lambda: metrics.aurc(LABEL, PROB, uncertainty=PROB), ValueError, "one value for each"),
        (lambda: metrics.ood_auroc(np.zeros(N), SCORE), ValueError, "both 0"),
        (lambda: metrics.ood_fpr95(LABEL, SCORE), ValueError, "both 0"),
    ],
)
def test_errors_say_what_was_got_and_what_to_do(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_absent_scoringrules_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "scoringrules", None)
    with pytest.raises(ImportError, match=r"skuq\[metrics\]"):
        metrics.crps(Y, (MEAN, STD))
    assert np.isfinite(metrics.nll(Y, (MEAN, STD)))
