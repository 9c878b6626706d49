"""A regression problem, and properties of regressors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import get_tags

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
    STANDARD_ERRORS,
    Check,
    Subject,
    require,
    require_equal,
    takes_positive_only,
)

LOCATIONS = ("predict", "predict_interval", "predict_quantiles", "predict_dist.mean")
# Two trainings in two units may differ as two seeds do, for a seed may choose rows by their values; half the spread is
# more than that, and less than what an answer in the wrong units is off by.
TRAINING = 0.5
METHODS = ("predict_interval", "predict_quantiles", "predict_uncertainty", "predict_dist", "sample_y")


@dataclass
class Regression:
    """Noise that grows, or counts where targets must be positive."""

    positive: bool
    methods = METHODS

    def problem(self) -> tuple[np.ndarray, np.ndarray]:
        """X and y."""
        rng = np.random.default_rng(0)
        X = rng.normal(size=(N_ROWS, 2))
        signal = X[:, 0] + np.sin(2 * X[:, 1])
        if self.positive:
            return X, 1.0 + rng.poisson(np.exp(0.5 * signal + 1))
        return X, 10 + 4 * signal + (1 + 0.5 * np.abs(X[:, 0])) * rng.normal(size=N_ROWS)

    @property
    def checks(self) -> tuple[Check, ...]:
        """In the order in which they run."""
        always = (
            check_shapes_of_a_regressor,
            check_answers_are_finite,
            check_intervals_nest,
            check_quantiles_rise,
            check_uncertainty_adds_up,
            check_regressor_agrees_with_itself,
            check_samples_of_a_regressor,
            check_determinism,
            check_rows_stand_alone,
            check_coverages,
            check_several_outputs,
        )
        return always if self.positive else (*always, check_units)


def check_shapes_of_a_regressor(subject: Subject, model: Any = None, outputs: tuple[int, ...] = ()) -> None:
    """Check shapes: rows first, then outputs if there are several, then what was asked for."""
    n = len(subject.rows)
    expected = {
        "predict": (n, *outputs),
        "predict(return_std=True)": (n, *outputs),
        "predict_interval": (n, *outputs, 2, len(COVERAGES)),
        "predict_quantiles": (n, *outputs, len(QUANTILES)),
        **{f"predict_uncertainty.{name}": (n, *outputs) for name in ("total", "aleatoric", "epistemic")},
        "predict_dist.mean": (n, *outputs),
    }
    for name, value in subject.answers(model=model).items():
        require(value.shape == expected[name], f"{name} must have shape {expected[name]}, got {value.shape}.")
    if subject.has("predict_interval"):
        for coverage, more in ((0.9, ()), ([0.9], (1,))):
            found, wanted = (
                subject.ask("predict_interval", coverage=coverage, model=model).shape,
                (n, *outputs, 2, *more),
            )
            require(found == wanted, f"predict_interval(coverage={coverage}) must have shape {wanted}, got {found}.")
    if subject.has("sample_y"):
        found = subject.ask("sample_y", n_samples=3, model=model).shape
        require(found == (n, *outputs, 3), f"sample_y(n_samples=3) must have shape {(n, *outputs, 3)}, got {found}.")


def check_several_outputs(subject: Subject) -> None:
    """Check the shapes for two outputs, where the estimator says that it takes them."""
    if get_tags(subject.estimator).target_tags.multi_output:
        y = np.column_stack([subject.y, subject.y[::-1]])
        check_shapes_of_a_regressor(subject, subject.fit(subject.X, y), outputs=(2,))


def check_regressor_agrees_with_itself(subject: Subject) -> None:
    """Check that mean, standard deviation, variance, quantiles and distribution are of one distribution."""
    said = subject.answers()
    std, total = said.get("predict(return_std=True)"), said.get("predict_uncertainty.total")
    if std is not None and total is not None:
        require_equal(std**2, total, "predict(return_std=True) must be the root of predict_uncertainty.total")
    if not subject.has("predict_dist"):
        return
    dist = subject.ask("predict_dist")
    require_equal(dist.mean(), said["predict"], "predict_dist must agree with predict: mean")
    if total is not None:
        require_equal(dist.var(), total, "predict_dist must agree with predict_uncertainty: variance")
    if subject.has("predict_quantiles"):
        quantiles = said["predict_quantiles"]
        require_equal(dist.ppf(QUANTILES), quantiles, "predict_dist must agree with predict_quantiles: ppf")
        if not takes_positive_only(subject.estimator):
            reached = np.stack([dist.cdf(quantiles[..., i]) for i in range(len(QUANTILES))], axis=-1)
            require(
                np.abs(reached - QUANTILES).max() < 1e-3, "predict_dist: its cdf at its quantiles must be their levels."
            )


def check_samples_of_a_regressor(subject: Subject) -> None:
    """Check that samples have the predicted mean."""
    if subject.has("sample_y", "predict_uncertainty"):
        samples = subject.ask("sample_y", n_samples=N_DRAWN, random_state=0)
        error = np.sqrt(subject.ask("predict_uncertainty").total / N_DRAWN)
        off = np.abs(samples.mean(axis=-1) - subject.ask("predict")) / error
        require(
            off.max() < STANDARD_ERRORS,
            f"sample_y must have the mean of predict; off by {off.max():.1f} standard errors.",
        )


def check_units(subject: Subject) -> None:
    """Check that targets in other units give the same answers in those units, as nearly as another seed would."""
    factor, shift = 1024.0, 4096.0
    scaled = subject.answers(model=subject.fit(subject.X, factor * subject.y + shift))
    for name, value in subject.answers().items():
        if name.startswith("predict_uncertainty"):
            found, expected = np.sqrt(scaled[name]) / factor, np.sqrt(value)
        else:
            found, expected = (scaled[name] - (0 if "return_std" in name else shift)) / factor, value
        size = subject.y.std() if name in LOCATIONS else np.median(expected)
        off = np.median(np.abs(found - expected))
        require(
            off <= TRAINING * size,
            f"{name} must follow the units of y: with y {factor:g} times larger it is off by {off:.3g}, of {size:.3g}.",
        )
