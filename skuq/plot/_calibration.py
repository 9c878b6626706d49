"""Is what was stated what came? Coverage of intervals, the PIT, and reliability of class probabilities."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy import stats

from .. import composites, metrics
from .._validation import check_levels
from ..metrics._validation import check_weight, is_distribution
from ._base import (
    BLACK,
    BLUE,
    CHANCE,
    GREY,
    SKY,
    Display,
    check_is_no_classifier,
    effective_rows,
    name_of,
    take_output,
)

LEVELS = tuple(np.round(np.linspace(0.05, 0.95, 19), 2).tolist())
EXAMPLE = "For 50 % and 90 % pass coverages=(0.5, 0.9)."


def chance_band(probability: np.ndarray, n_rows: float) -> np.ndarray:
    """Range of the observed share of `n_rows` independent cases of each probability, in 95 % of repetitions, (n, 2)."""
    tails = np.array([(1 - CHANCE) / 2, (1 + CHANCE) / 2])
    rows = max(1, round(n_rows))
    return stats.binom.ppf(tails, rows, np.asarray(probability)[:, None]) / rows


class CoverageDisplay(Display):
    """Observed against nominal coverage of prediction intervals: on the diagonal they hold what they promise.

    Above it the intervals are too wide, below it too narrow. The shaded band is where calibrated intervals of independent rows
    fall by chance in 95 % of repetitions, level by level (a binomial quantile).

    Parameters
    ----------
    nominal : ndarray of shape (n_coverages,)
        Coverage asked for.
    observed : ndarray of shape (n_coverages,)
        Share of the targets inside.
    n_rows : float
        Rows, or what weighted rows are worth (Kish's effective number).
    name : str, optional
        Name in the legend.

    See Also
    --------
    skuq.metrics.coverage : The observed coverage of one level.
    PITDisplay : Where in their distributions the targets fall.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.plot import CoverageDisplay
    >>> rng = np.random.default_rng(0)
    >>> mean, std = np.zeros(1000), np.ones(1000)
    >>> display = CoverageDisplay.from_predictions(rng.normal(size=1000), (mean, std), coverages=[0.5, 0.9])
    >>> display.observed.round(2)
    array([0.51, 0.91])
    """

    def __init__(self, *, nominal: Any, observed: Any, n_rows: float, name: str | None = None) -> None:
        self.nominal = nominal
        self.observed = observed
        self.n_rows = n_rows
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        coverages: Sequence[float] = LEVELS,
        sample_weight: Any = None,
        output: int | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the coverage of an estimator's ``predict_interval``, conformal or its own.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor, or a Pipeline, search or other composite around one.
        X : array-like of shape (n_rows, n_features)
            Rows that it was not trained on.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        coverages : sequence of float, default=(0.05, 0.1, …, 0.95)
            Nominal coverages.
        sample_weight : array-like of shape (n_rows,), optional
        output : int, optional
            Which of several outputs.
        name : str, optional
            Name in the legend; None: that of the predictor's class.
        ax : matplotlib Axes, optional

        Returns
        -------
        CoverageDisplay
        """
        check_is_no_classifier(estimator, cls.__name__)
        levels = np.atleast_1d(check_levels("coverages", coverages, EXAMPLE))
        intervals = composites.predict_interval(estimator, X, coverage=levels.tolist())
        name = type(composites.find_predictor(estimator)).__name__ if name is None else name
        return cls.from_predictions(
            y, intervals, coverages=coverages, sample_weight=sample_weight, output=output, name=name, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        coverages: Sequence[float] = LEVELS,
        sample_weight: Any = None,
        output: int | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the coverage of intervals, or of the central intervals of distributions.

        Parameters
        ----------
        y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        y_pred : array-like of shape (n_rows, 2, n_coverages), predict_dist result, or tuple (mean, std)
            Intervals as ``predict_interval`` returns them (several outputs on the second axis), or distributions as
            :func:`skuq.metrics.coverage` takes them.
        coverages : sequence of float, default=(0.05, 0.1, …, 0.95)
            Nominal coverages, one for each entry of the last axis of intervals.
        sample_weight : array-like of shape (n_rows,), optional
        output : int, optional
            Which of several outputs.
        name : str, optional
            Name in the legend.
        ax : matplotlib Axes, optional

        Returns
        -------
        CoverageDisplay
        """
        nominal = np.atleast_1d(check_levels("coverages", coverages, EXAMPLE))
        if is_distribution(y_pred):
            found = [
                metrics.coverage(y_true, y_pred, coverage=level, sample_weight=sample_weight, multioutput="raw_values")
                for level in nominal.tolist()
            ]
            observed = (
                take_output(np.stack(found).T[None], output, 2, "y_pred")[0] if len(found[0]) > 1 else np.ravel(found)
            )
        else:
            intervals = take_output(y_pred, output, 3, "intervals")
            if intervals.shape[1:] != (2, len(nominal)):
                raise ValueError(
                    f"intervals must have shape (n_rows, 2, n_coverages) with n_coverages={len(nominal)}, got "
                    f"{intervals.shape}. Predict them with coverage=coverages, a sequence."
                )
            y = take_output(y_true, output, 1, "y_true")
            observed = np.array(
                [metrics.coverage(y, intervals[..., k], sample_weight=sample_weight) for k in range(len(nominal))]
            )
        order = np.argsort(nominal)
        rows = effective_rows(check_weight(sample_weight, np.asarray(y_true)))
        return cls(nominal=nominal[order], observed=observed[order], n_rows=rows, name=name).plot(ax)

    def plot(self, ax: Any = None, *, color: Any = None, reference: bool = True) -> Self:
        """Draw observed against nominal coverage.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        color : matplotlib color, optional
            Of the curve.
        reference : bool, default=True
            Whether to draw the diagonal and the band of chance; False for further curves in the same axes.

        Returns
        -------
        CoverageDisplay
        """
        first = ax is None or not ax.lines
        ax = self._start(ax)
        if reference and first:
            levels = np.linspace(0.001, 0.999, 200)
            band = chance_band(levels, self.n_rows)
            ax.fill_between(levels, *band.T, color=GREY, alpha=0.25, linewidth=0, label=f"{CHANCE:.0%} by chance")
            ax.plot([0, 1], [0, 1], color=BLACK, linestyle=":", linewidth=1, label="calibrated")
        color = BLUE if color is None and first else color
        ax.plot(self.nominal, self.observed, color=color, marker="o", markersize=4, label=self.name or "observed")
        ax.set(xlabel="nominal coverage", ylabel="observed coverage", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        ax.legend(frameon=False, loc="upper left")
        return self


class PITDisplay(Display):
    """Histogram of the probability integral transform: level if the distributions are calibrated.

    A hump says too wide, a U too narrow, a slope biased. The shaded band is where the bars of calibrated distributions of
    independent rows fall by chance in 95 % of repetitions, bar by bar.

    Parameters
    ----------
    pit : ndarray of shape (n_rows,)
        F(y | x) of each row, in [0, 1].
    n_bins : int, default=10
        Bars.
    sample_weight : ndarray of shape (n_rows,), optional
        Weights of the rows.
    name : str, optional
        Title.

    See Also
    --------
    skuq.metrics.pit : Its values.

    Examples
    --------
    >>> import numpy as np
    >>> from skuq.plot import PITDisplay
    >>> display = PITDisplay.from_predictions([0.0, 1.96], ([0.0, 0.0], [1.0, 1.0]), n_bins=2)
    >>> display.pit.round(3)
    array([0.5  , 0.975])
    """

    def __init__(self, *, pit: Any, n_bins: int = 10, sample_weight: Any = None, name: str | None = None) -> None:
        self.pit = pit
        self.n_bins = n_bins
        self.sample_weight = sample_weight
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_bins: int = 10,
        random_state: Any = 0,
        sample_weight: Any = None,
        output: int | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the PIT of an estimator's ``predict_dist``.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor, or a Pipeline or search around one.
        X : array-like of shape (n_rows, n_features)
            Rows that it was not trained on.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        n_bins : int, default=10
        random_state : int, RandomState instance or None, default=0
            For counts, whose PIT is randomised.
        sample_weight : array-like of shape (n_rows,), optional
        output : int, optional
            Which of several outputs.
        name : str, optional
            Title; None: the predictor's class.
        ax : matplotlib Axes, optional

        Returns
        -------
        PITDisplay
        """
        check_is_no_classifier(estimator, cls.__name__)
        name = type(composites.find_predictor(estimator)).__name__ if name is None else name
        return cls.from_predictions(
            y,
            composites.predict_dist(estimator, X),
            n_bins=n_bins,
            random_state=random_state,
            sample_weight=sample_weight,
            output=output,
            name=name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_pred: Any,
        *,
        n_bins: int = 10,
        random_state: Any = 0,
        sample_weight: Any = None,
        output: int | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the PIT of targets in distributions.

        Parameters
        ----------
        y_true : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Targets.
        y_pred : predict_dist result, distribution of another library, or tuple (mean, std)
            As :func:`skuq.metrics.pit` takes them.
        n_bins : int, default=10
        random_state : int, RandomState instance or None, default=0
        sample_weight : array-like of shape (n_rows,), optional
        output : int, optional
        name : str, optional
        ax : matplotlib Axes, optional

        Returns
        -------
        PITDisplay
        """
        if isinstance(n_bins, bool) or int(n_bins) != n_bins or n_bins < 1:
            raise ValueError(f"n_bins must be a positive integer, got {n_bins!r}.")
        values = take_output(metrics.pit(y_true, y_pred, random_state=random_state), output, 1, "y_true")
        weight = None if sample_weight is None else check_weight(sample_weight, values)
        return cls(pit=values, n_bins=int(n_bins), sample_weight=weight, name=name).plot(ax)

    def _draw(self, ax: Any) -> None:
        """Draw the histogram."""
        values = np.asarray(self.pit)
        weight = check_weight(self.sample_weight, values)
        edges = np.linspace(0, 1, self.n_bins + 1)
        share = np.histogram(values, edges, weights=weight)[0] / weight.sum()
        ax.bar(edges[:-1], share, np.diff(edges), align="edge", color=SKY, edgecolor="white", label="rows")
        low, high = chance_band(np.array([1 / self.n_bins]), effective_rows(weight))[0]
        for end, label in ((low, f"{CHANCE:.0%} by chance"), (high, None)):
            ax.axhline(end, color=BLUE, linestyle="--", linewidth=1.2, label=label)
        ax.axhline(1 / self.n_bins, color=BLACK, linestyle=":", linewidth=1.2, label="calibrated")
        ax.set(xlabel="PIT, F(y | x)", ylabel="share of rows", xlim=(0, 1))
        ax.set_ylim(0, 1.35 * max(share.max(), high))
        if self.name:
            ax.set_title(self.name)
        ax.legend(frameon=False, ncols=3, loc="upper center")


class ReliabilityDisplay(Display):
    """Observed frequency against stated probability: on the diagonal probabilities are frequencies.

    Each point is a bin; bars from it say where its frequency lies with 95 % confidence (Wilson 1927), and the grey bars below
    how large a share of the rows it holds. scikit-learn's ``CalibrationDisplay`` draws the probability of one class; here it is
    the confidence in the predicted label, unless `pos_label` names a class.

    Parameters
    ----------
    confidence, frequency, mass : ndarray of shape (n_bins_used,)
        Mean probability, observed frequency and share of the weight of each bin, as
        :func:`skuq.metrics.reliability_curve` gives them.
    n_rows : float
        Rows, or what weighted rows are worth.
    event : str, default="predicted label"
        What the probability is of.
    name : str, optional
        Name in the legend.

    See Also
    --------
    skuq.metrics.ece : The mean distance from the diagonal.
    sklearn.calibration.CalibrationDisplay : The same of one class of two.

    Examples
    --------
    >>> from skuq.plot import ReliabilityDisplay
    >>> display = ReliabilityDisplay.from_predictions([0, 1, 1, 0], [0.1, 0.9, 0.9, 0.9], n_bins=5, pos_label=1)
    >>> display.mass
    array([0.25, 0.75])
    """

    def __init__(
        self,
        *,
        confidence: Any,
        frequency: Any,
        mass: Any,
        n_rows: float,
        event: str = "predicted label",
        name: str | None = None,
    ) -> None:
        self.confidence = confidence
        self.frequency = frequency
        self.mass = mass
        self.n_rows = n_rows
        self.event = event
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_bins: int = 10,
        strategy: str = "uniform",
        pos_label: Any = None,
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the reliability of an estimator's ``predict_proba``.

        Parameters
        ----------
        estimator : classifier
            Any fitted classifier with ``predict_proba``, also a Pipeline or a search.
        X : array-like of shape (n_rows, n_features)
            Rows that it was not trained on.
        y : array-like of shape (n_rows,)
            Labels.
        n_bins : int, default=10
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width or of equal weight.
        pos_label : label, optional
            The class whose probability is drawn; None: the predicted label's.
        sample_weight : array-like of shape (n_rows,), optional
        name : str, optional
            Name in the legend; None: that of the predictor's class.
        ax : matplotlib Axes, optional

        Returns
        -------
        ReliabilityDisplay
        """
        if not hasattr(estimator, "predict_proba"):
            raise TypeError(
                f"{type(estimator).__name__} has no predict_proba: ReliabilityDisplay takes classifiers. For a regressor use "
                f"CoverageDisplay or PITDisplay."
            )
        probabilities = estimator.predict_proba(X)
        return cls.from_predictions(
            y,
            probabilities,
            labels=estimator.classes_,
            n_bins=n_bins,
            strategy=strategy,
            pos_label=pos_label,
            sample_weight=sample_weight,
            name=type(composites.find_predictor(estimator)).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        y_prob: Any,
        *,
        labels: Any = None,
        n_bins: int = 10,
        strategy: str = "uniform",
        pos_label: Any = None,
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the reliability of probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_rows,)
            Labels.
        y_prob : array-like of shape (n_rows, n_classes) or (n_rows,), or a classifier's predict_dist result
            Probabilities; of shape (n_rows,), that of the second of two classes.
        labels : array-like of shape (n_classes,), optional
            Classes in the order of the columns.
        n_bins : int, default=10
        strategy : {"uniform", "quantile"}, default="uniform"
        pos_label : label, optional
        sample_weight : array-like of shape (n_rows,), optional
        name : str, optional
        ax : matplotlib Axes, optional

        Returns
        -------
        ReliabilityDisplay
        """
        curve = metrics.reliability_curve(
            y_true,
            y_prob,
            n_bins=n_bins,
            strategy=strategy,
            pos_label=pos_label,
            labels=labels,
            sample_weight=sample_weight,
        )
        event = "predicted label" if pos_label is None else f"{name_of(y_true, None, 'class')} {pos_label}"
        rows = effective_rows(check_weight(sample_weight, np.asarray(y_true)))
        return cls(**curve._asdict(), n_rows=rows, event=event, name=name).plot(ax)

    def plot(self, ax: Any = None, *, color: Any = None) -> Self:
        """Draw the diagram.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        color : matplotlib color, optional
            Of the points.

        Returns
        -------
        ReliabilityDisplay
        """
        first = ax is None or not ax.lines
        ax = self._start(ax)
        confidence, frequency, mass = map(np.asarray, (self.confidence, self.frequency, self.mass))
        if first:
            ax.plot([0, 1], [0, 1], color=BLACK, linestyle=":", linewidth=1, label="calibrated")
            ax.bar(confidence, mass, width=0.02, color=GREY, alpha=0.6, label="share of rows")
        low, high = wilson(frequency, mass * self.n_rows)
        error = float(np.sum(mass * np.abs(confidence - frequency)))
        errors = np.clip([frequency - low, high - frequency], 0, None)
        ax.errorbar(
            confidence,
            frequency,
            yerr=errors,
            color=BLUE if color is None and first else color,
            marker="o",
            markersize=5,
            linewidth=1.2,
            capsize=2,
            label=f"{self.name or 'observed'}, ECE {error:.3f}",
        )
        ax.set(xlim=(-0.02, 1.02), ylim=(0, 1.02), aspect="equal")
        ax.set_xlabel(f"probability of the {self.event}" if self.event == "predicted label" else f"P({self.event})")
        ax.set_ylabel("accuracy" if self.event == "predicted label" else f"observed frequency of {self.event}")
        ax.legend(frameon=False, loc="upper left")
        return self


def wilson(frequency: np.ndarray, n_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of Wilson's (1927) 95 % interval of a probability whose share in `n_rows` cases is `frequency`."""
    z2 = stats.norm.ppf((1 + CHANCE) / 2) ** 2 / n_rows
    middle = (frequency + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * frequency * (1 - frequency) + z2**2 / 4) / (1 + z2)
    return middle - half, middle + half
