"""Properties that regressors and classifiers share, one function each."""

import numpy as np

from ._subject import COVERAGES, N_ASKED, QUANTILES, Subject, require, require_equal, require_rising

# Distance of far rows from the training rows, in their standard deviations.
FAR = 30.0


def check_answers_are_finite(subject: Subject) -> None:
    """Check for NaN and infinity."""
    for name, value in subject.answers().items():
        wrong = np.count_nonzero(~np.isfinite(value))
        require(not wrong, f"{name} must be finite, got {wrong} of {value.size} values that are not.")


def check_intervals_nest(subject: Subject) -> None:
    """Check that a higher coverage gives an interval around the lower one's; one coverage is a case of several."""
    if not subject.has("predict_interval"):
        return
    interval = subject.ask("predict_interval", coverage=COVERAGES)
    lower, upper = np.moveaxis(interval, -2, 0)
    require(np.all(lower <= upper), "predict_interval: a lower end must not exceed its upper end.")
    require_rising(-lower, "predict_interval must nest: minus the lower ends fall with the coverage")
    require_rising(upper, "predict_interval must nest: upper ends fall with the coverage")
    for i, coverage in enumerate(COVERAGES):
        alone = subject.ask("predict_interval", coverage=coverage)
        require_equal(alone, interval[..., i], f"predict_interval: coverage={coverage} alone and in a list must agree")


def check_quantiles_rise(subject: Subject) -> None:
    """Check that quantiles rise with their level and are the ends of the intervals, unless these are conformal."""
    if not subject.has("predict_quantiles"):
        return
    require_rising(subject.ask("predict_quantiles", quantiles=QUANTILES), "predict_quantiles must rise with the level")
    # Conformal intervals are calibrated where quantiles stay the model's own.
    if subject.has("predict_interval") and getattr(subject.predictor, "calibration", None) != "conformal":
        ends = subject.ask("predict_quantiles", quantiles=[0.25, 0.75])
        interval = subject.ask("predict_interval", coverage=0.5)
        require_equal(interval, ends, "predict_interval must be central: its ends are quantiles")


def check_uncertainty_adds_up(subject: Subject) -> None:
    """Check that total = aleatoric + epistemic, all ≥ 0."""
    if not subject.has("predict_uncertainty"):
        return
    parts = subject.ask("predict_uncertainty")
    for name in ("total", "aleatoric", "epistemic"):
        least = getattr(parts, name).min()
        require(least >= 0, f"predict_uncertainty.{name} must be ≥ 0, got {least:.6g}.")
    require_equal(
        parts.aleatoric + parts.epistemic, parts.total, "predict_uncertainty: aleatoric + epistemic must be total"
    )


def check_rows_stand_alone(subject: Subject) -> None:
    """Check that answers do not depend on the order, the number or the batching of rows."""
    order = np.random.default_rng(0).permutation(len(subject.rows))
    together = subject.answers()
    shuffled = subject.answers(rows=subject.rows[order])
    pieces = [subject.answers(rows=rows) for rows in np.split(subject.rows, [1, 4, 17])]
    for name, value in together.items():
        require_equal(shuffled[name], value[order], f"{name} must not depend on the order of the rows")
        joined = np.concatenate([piece[name] for piece in pieces])
        require_equal(joined, value, f"{name} must not depend on the rows beside")


def check_determinism(subject: Subject) -> None:
    """Check that one question has one answer, and one seed one model."""
    first, again = subject.answers(), subject.answers()
    twin = subject.answers(model=subject.fit(subject.X, subject.y))
    for name, value in first.items():
        require(np.array_equal(value, again[name]), f"{name} must give the same answer twice.")
        require_equal(twin[name], value, f"{name} must be the same for two fits with one random_state")
    if subject.has("sample_y"):
        one, two = (subject.ask("sample_y", n_samples=3, random_state=5) for _ in range(2))
        require(np.array_equal(one, two), "sample_y must be the same for one random_state.")


def check_coverages(subject: Subject) -> None:
    """Check that a coverage that is no probability is refused."""
    for method in ("predict_interval", "predict_set"):
        for coverage in (0.0, 1.0, 90):
            if not subject.has(method):
                continue
            try:
                subject.ask(method, coverage=coverage)
            except ValueError:
                continue
            raise AssertionError(f"{method} must raise a ValueError for coverage={coverage}; it answered.")


def check_distance(subject: Subject) -> None:
    """Check that the epistemic uncertainty is larger far from the training rows, on average over directions."""
    require(subject.has("predict_uncertainty"), "distance_aware needs predict_uncertainty.")
    angle = np.linspace(0, 2 * np.pi, N_ASKED, endpoint=False)
    far = FAR * np.column_stack([np.cos(angle), np.sin(angle)])
    near = subject.ask("predict_uncertainty", rows=subject.X).epistemic.mean()
    away = subject.ask("predict_uncertainty", rows=far).epistemic.mean()
    require(
        away > near,
        f"predict_uncertainty.epistemic must be larger far from the training rows: {away:.6g}, against {near:.6g}.",
    )
