"""A classification problem, and properties of classifiers."""

from dataclasses import dataclass

import numpy as np

from .._prediction.distributions import entropy
from ._properties import (
    check_answers_are_finite,
    check_coverages,
    check_determinism,
    check_intervals_nest,
    check_quantiles_rise,
    check_rows_stand_alone,
    check_uncertainty_adds_up,
)
from ._subject import (
    COVERAGES,
    N_DRAWN,
    N_ROWS,
    QUANTILES,
    ROUNDING,
    STANDARD_ERRORS,
    Check,
    Subject,
    require,
    require_equal,
    require_rising,
)

METHODS = (
    "predict_proba",
    "predict_interval",
    "predict_quantiles",
    "predict_uncertainty",
    "predict_dist",
    "sample_y",
    "predict_set",
)


@dataclass
class Classification:
    """Three overlapping classes whose labels do not sort by first appearance."""

    methods = METHODS

    def problem(self) -> tuple[np.ndarray, np.ndarray]:
        """X and y."""
        rng = np.random.default_rng(0)
        codes = np.arange(N_ROWS) % 3
        centers = np.array([[0.0, 1.2], [1.0, -0.6], [-1.0, -0.6]])
        return centers[codes] + 0.9 * rng.normal(size=(N_ROWS, 2)), np.array(["yes", "maybe", "no"])[codes]

    @property
    def checks(self) -> tuple[Check, ...]:
        """In the order in which they run."""
        return (
            check_shapes_of_a_classifier,
            check_answers_are_finite,
            check_probabilities,
            check_intervals_nest,
            check_quantiles_rise,
            check_uncertainty_adds_up,
            check_sets_nest,
            check_classifier_agrees_with_itself,
            check_samples_of_a_classifier,
            check_determinism,
            check_rows_stand_alone,
            check_coverages,
        )


def check_shapes_of_a_classifier(subject: Subject) -> None:
    """Check shapes: rows first, then classes, then what was asked for."""
    n, k = len(subject.rows), len(np.unique(subject.y))
    expected = {
        "predict_proba": (n, k),
        "predict_interval": (n, k, 2, len(COVERAGES)),
        "predict_quantiles": (n, k, len(QUANTILES)),
        **{f"predict_uncertainty.{name}": (n,) for name in ("total", "aleatoric", "epistemic")},
        "predict_set": (n, k),
        "predict_dist.mean": (n, k),
    }
    for name, value in subject.answers().items():
        require(value.shape == expected[name], f"{name} must have shape {expected[name]}, got {value.shape}.")
    labels = subject.ask("predict")
    require(labels.shape == (n,), f"predict must have shape {(n,)}, got {labels.shape}.")
    if subject.has("sample_y"):
        found = subject.ask("sample_y", n_samples=3).shape
        require(found == (n, 3), f"sample_y(n_samples=3) must have shape {(n, 3)}, got {found}.")


def check_probabilities(subject: Subject) -> None:
    """Check that probabilities are ≥ 0 and sum to one, and that predict is the most probable class."""
    if subject.has("predict_proba"):
        probabilities = subject.ask("predict_proba")
        require(probabilities.min() >= 0, f"predict_proba must be ≥ 0, got {probabilities.min():.6g}.")
        require_equal(probabilities.sum(axis=1), np.ones(len(probabilities)), "predict_proba: each row must sum to 1")
        likeliest = subject.model.classes_[probabilities.argmax(axis=1)]
        require(
            np.array_equal(subject.ask("predict"), likeliest), "predict must be the class of the highest predict_proba."
        )
    for name, value in subject.answers().items():
        if name in ("predict_interval", "predict_quantiles"):
            inside = value.min() >= -ROUNDING and value.max() <= 1 + ROUNDING
            require(
                inside, f"{name} of class probabilities must lie in [0, 1], got {value.min():.6g} to {value.max():.6g}."
            )


def check_sets_nest(subject: Subject) -> None:
    """Check that sets are booleans, and that a higher coverage only adds classes."""
    if not subject.has("predict_set"):
        return
    sets = [subject.ask("predict_set", coverage=coverage) for coverage in COVERAGES]
    require(sets[0].dtype == bool, f"predict_set must be bool, got {sets[0].dtype}.")
    require_rising(np.stack(sets, axis=-1).astype(int), "predict_set must nest: classes leave as the coverage grows")


def check_classifier_agrees_with_itself(subject: Subject) -> None:
    """Check that probabilities, their entropy and predict_dist are of one distribution."""
    if not subject.has("predict_proba"):
        return
    probabilities = subject.ask("predict_proba")
    if subject.has("predict_uncertainty"):
        total = subject.ask("predict_uncertainty").total
        require_equal(
            total, entropy(probabilities), "predict_uncertainty.total must be the entropy of predict_proba in nats"
        )
    if subject.has("predict_dist"):
        dist = subject.ask("predict_dist")
        require_equal(dist.mean(), probabilities, "predict_dist must agree with predict_proba: mean")
        own = np.log(probabilities[np.arange(len(probabilities)), probabilities.argmax(axis=1)])
        require_equal(dist.logpdf(subject.ask("predict")), own, "predict_dist must agree with predict_proba: logpdf")


def check_samples_of_a_classifier(subject: Subject) -> None:
    """Check that sampled labels are classes, each as frequent as its probability."""
    if not subject.has("sample_y", "predict_proba"):
        return
    samples = subject.ask("sample_y", n_samples=N_DRAWN, random_state=0)
    classes = subject.model.classes_
    require(np.isin(samples, classes).all(), f"sample_y must give labels among {classes.tolist()}.")
    often = np.stack([(samples == label).mean(axis=1) for label in classes], axis=1)
    probabilities = subject.ask("predict_proba")
    # Predictive probabilities may be in closed form, which samples approach only up to its error: a tenth.
    error = np.sqrt(probabilities * (1 - probabilities) / N_DRAWN)
    off = np.abs(often - probabilities) - 0.1
    require(np.all(off < STANDARD_ERRORS * error + 1e-12), "sample_y must draw classes as often as predict_proba says.")
