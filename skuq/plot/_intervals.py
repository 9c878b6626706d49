"""Predictions of a regressor row by row: intervals, draws, and one row's density."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from scipy import stats

from .. import composites
from .._prediction.distributions import PredictiveMixture
from .._validation import COVERAGE_EXAMPLE, check_levels
from ..metrics._adapters import adapt, is_discrete
from ..metrics._validation import check_distribution
from ._base import (
    BLACK,
    BLUE,
    GREY,
    SKY,
    VERMILLION,
    Display,
    check_choice,
    check_is_no_classifier,
    is_numeric,
    legend_above,
    name_of,
    take_feature,
    take_output,
    with_unit,
)


class PredictionIntervalDisplay(Display):
    """Prediction intervals and targets, against one feature or in the order of y.

    Rows whose y lies outside the widest interval stand out. Made by :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    position : ndarray of shape (n_rows,)
        Where each row stands on the horizontal axis: the feature's value, or the rank of y.
    intervals : ndarray of shape (n_rows, 2, n_coverages)
        Lower and upper ends, in y's units.
    coverages : ndarray of shape (n_coverages,)
        Nominal coverage of each, increasing.
    y_pred : ndarray of shape (n_rows,), optional
        Predictive mean.
    y_true : ndarray of shape (n_rows,), optional
        Targets.
    feature_name : str, optional
        Name of the horizontal axis; None: the rank of y.
    target_name : str, default="y"
        Name of the target.
    unit, feature_unit : str, optional
        Units of y and of the feature, for the labels.
    kind : {"bars", "band"}, default="bars"
        "bars": one vertical line a row. "band": one band over all rows, for a model of one feature.

    See Also
    --------
    CoverageDisplay : Whether intervals of every level hold as many targets as they say.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq.plot import PredictionIntervalDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = skuq.ProbabilisticRegressor(max_iter=10, random_state=0).fit(X, y)
    >>> display = PredictionIntervalDisplay.from_estimator(model, X[:50], y[:50], coverage=[0.5, 0.9])
    >>> display.intervals.shape
    (50, 2, 2)
    >>> display.ax_.get_xlabel()
    'rows in the order of y'
    """

    def __init__(
        self,
        *,
        position: Any,
        intervals: Any,
        coverages: Any,
        y_pred: Any = None,
        y_true: Any = None,
        feature_name: str | None = None,
        target_name: str = "y",
        unit: str | None = None,
        feature_unit: str | None = None,
        kind: str = "bars",
    ) -> None:
        self.position = position
        self.intervals = intervals
        self.coverages = coverages
        self.y_pred = y_pred
        self.y_true = y_true
        self.feature_name = feature_name
        self.target_name = target_name
        self.unit = unit
        self.feature_unit = feature_unit
        self.kind = kind

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        coverage: float | Sequence[float] = 0.9,
        feature: int | str | None = None,
        output: int | None = None,
        target_name: str | None = None,
        unit: str | None = None,
        feature_unit: str | None = None,
        kind: str = "auto",
        ax: Any = None,
    ) -> Self:
        """Display the intervals that an estimator predicts.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor, or a Pipeline, search or other composite around one.
        X : array-like of shape (n_rows, n_features)
            Rows as the composite takes them.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            Targets.
        coverage : float or sequence of float, default=0.9
            Nominal coverages, strictly between 0 and 1.
        feature : int or str, optional
            Column of X to draw against, by position or name. None: the order of y, or of the predictive mean where there
            is no y; the only column, where X has one.
        output : int, optional
            Which of several outputs.
        target_name : str, optional
            Name of the target; None: that of a Series `y`, or "y".
        unit, feature_unit : str, optional
            Units of y and of the feature.
        kind : {"auto", "bars", "band"}, default="auto"
            "auto": a band where X has one numeric column, else bars.
        ax : matplotlib Axes, optional
            Where to draw; None: new axes.

        Returns
        -------
        PredictionIntervalDisplay
        """
        check_is_no_classifier(estimator, cls.__name__)
        intervals = composites.predict_interval(estimator, X, coverage=np.atleast_1d(coverage).tolist())
        y_pred = np.asarray(estimator.predict(X))
        if feature is None and np.shape(X)[1] == 1:
            feature = 0
        values, feature_name = (None, None) if feature is None else take_feature(X, feature)
        if kind == "auto":
            kind = "band" if np.shape(X)[1] == 1 and values is not None and is_numeric(values) else "bars"
        return cls.from_predictions(
            y,
            intervals,
            coverage=coverage,
            y_pred=y_pred,
            x=values,
            output=output,
            feature_name=feature_name,
            target_name=target_name,
            unit=unit,
            feature_unit=feature_unit,
            kind=kind,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        intervals: Any,
        *,
        coverage: float | Sequence[float] = 0.9,
        y_pred: Any = None,
        x: Any = None,
        output: int | None = None,
        feature_name: str | None = None,
        target_name: str | None = None,
        unit: str | None = None,
        feature_unit: str | None = None,
        kind: str = "bars",
        ax: Any = None,
    ) -> Self:
        """Display intervals that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_rows,) or (n_rows, n_outputs), or None
            Targets.
        intervals : array-like of shape (n_rows, 2), (n_rows, 2, n_coverages), or with an axis of outputs second
            As ``predict_interval`` returns them.
        coverage : float or sequence of float, default=0.9
            What they are to hold.
        y_pred : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            Predictive means.
        x : array-like of shape (n_rows,), optional
            A feature to draw against. None: the order of y, or else of `y_pred`, or else of the intervals' middles.
        output : int, optional
            Which of several outputs.
        feature_name, target_name, unit, feature_unit : str, optional
            For the labels.
        kind : {"bars", "band"}, default="bars"
        ax : matplotlib Axes, optional

        Returns
        -------
        PredictionIntervalDisplay
        """
        check_choice("kind", kind, ("bars", "band"))
        coverages = np.atleast_1d(check_levels("coverage", coverage, COVERAGE_EXAMPLE))
        intervals = np.asarray(intervals, dtype=float)
        one_level = np.ndim(coverage) == 0 and intervals.shape[-1] == 2
        intervals = take_output(intervals, output, 2 if one_level else 3, "intervals").reshape(len(intervals), 2, -1)
        if intervals.shape[2] != len(coverages):
            raise ValueError(
                f"intervals must have shape (n_rows, 2, n_coverages) with one last entry for each of {len(coverages)} "
                f"coverage(s), got {intervals.shape}."
            )
        name = name_of(y_true, target_name, "y")
        order = np.argsort(coverages)
        intervals, coverages = intervals[..., order], coverages[order]
        y = None if y_true is None else _column(y_true, output, len(intervals), "y_true")
        mean = None if y_pred is None else _column(y_pred, output, len(intervals), "y_pred")
        if x is not None:
            feature_name = name_of(x, feature_name, "feature")
            position = np.asarray(x).ravel()
            if len(position) != len(intervals):
                raise ValueError(f"x must hold one value for each of {len(intervals)} rows, got {len(position)}.")
        else:
            ranked = y if y is not None else mean if mean is not None else intervals[:, :, 0].mean(axis=1)
            position = stats.rankdata(ranked, method="ordinal")
        display = cls(
            position=position,
            intervals=intervals,
            coverages=coverages,
            y_pred=mean,
            y_true=y,
            feature_name=feature_name,
            target_name=name,
            unit=unit,
            feature_unit=feature_unit,
            kind=kind,
        )
        return display.plot(ax)

    def _draw(self, ax: Any) -> None:
        """Draw the intervals."""
        x = np.asarray(self.position)
        numeric = is_numeric(x)
        order = np.argsort(x, kind="stable")
        x, intervals = x[order], self.intervals[order]
        if not numeric:  # categories stand side by side, in alphabetical order
            names, codes = np.unique(x.astype(str), return_inverse=True)
            # Rows of a category stand beside each other, so that each can be seen.
            rank = np.arange(len(codes)) - np.searchsorted(codes, codes)
            x = codes + 0.7 * ((rank + 0.5) / np.bincount(codes)[codes] - 0.5)
            ax.set_xticks(range(len(names)), names)
        widest = len(self.coverages) - 1
        for k in range(widest, -1, -1):
            low, high = intervals[:, 0, k], intervals[:, 1, k]
            label = f"{self.coverages[k]:.0%} interval"
            if self.kind == "band":
                shade = 0.25 + 0.35 * (widest - k) / max(widest, 1)
                ax.fill_between(x, low, high, color=BLUE, alpha=shade, linewidth=0, label=label)
            else:
                width = float(np.clip(120 / len(x), 0.6, 3)) * (1 + widest - k)
                ax.vlines(x, low, high, color=SKY if k == widest else BLUE, linewidth=width, alpha=0.8, label=label)
        if self.y_pred is not None:
            mean = np.asarray(self.y_pred)[order]
            if self.kind == "band":
                ax.plot(x, mean, color=BLUE, linewidth=2, label="mean")
            else:
                size = float(np.clip(4000 / len(x), 12.0, 60.0))
                ax.scatter(x, mean, s=size, marker="_", color=BLUE, linewidth=1.5, label="mean", zorder=2.5)
        if self.y_true is not None:
            y = np.asarray(self.y_true)[order]
            inside = (intervals[:, 0, widest] <= y) & (y <= intervals[:, 1, widest])
            size = float(np.clip(1500 / len(x), 6, 18))
            ax.scatter(x[inside], y[inside], s=size, color=BLACK, linewidth=0, label="y inside", zorder=3)
            if not inside.all():
                share = 1 - inside.mean()
                ax.scatter(
                    x[~inside],
                    y[~inside],
                    s=3.5 * size,
                    marker="X",
                    color=VERMILLION,
                    edgecolor=BLACK,
                    linewidth=0.5,
                    label=f"y outside ({share:.0%})",
                    zorder=3,
                )
        if self.feature_name is None:
            ranked = self.target_name if self.y_true is not None else "the prediction"
            ax.set_xlabel(f"rows in the order of {ranked}")
        else:
            ax.set_xlabel(with_unit(self.feature_name, self.feature_unit))
        ax.set_ylabel(with_unit(self.target_name, self.unit))
        legend_above(ax)


def _column(values: Any, output: int | None, n_rows: int, name: str) -> np.ndarray:
    column = take_output(np.asarray(values, dtype=float), output, 1, name)
    if len(column) != n_rows:
        raise ValueError(f"{name} must hold one value for each of {n_rows} rows, got {len(column)}.")
    return column


class DrawsDisplay(Display):
    """Posterior-predictive draws beside the targets: whether what the model would produce looks like the data.

    Against one feature, each draw is one set of points (one function of the model, plus its noise). Without a feature, the
    distribution of y over all rows, as one cumulative curve for each draw and one for the targets (a posterior predictive check,
    Gelman et al. 1996, "Posterior Predictive Assessment of Model Fitness").

    Parameters
    ----------
    samples : ndarray of shape (n_rows, n_samples)
        Draws of y, in its units.
    y_true : ndarray of shape (n_rows,), optional
        Targets.
    position : ndarray of shape (n_rows,), optional
        The feature's values.
    feature_name : str, optional
        Name of the feature.
    target_name : str, default="y"
        Name of the target.
    unit, feature_unit : str, optional
        Units of y and of the feature.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq.plot import DrawsDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = skuq.ProbabilisticRegressor(max_iter=10, random_state=0).fit(X, y)
    >>> DrawsDisplay.from_estimator(model, X, y, n_samples=10, unit="score").samples.shape
    (442, 10)
    """

    def __init__(
        self,
        *,
        samples: Any,
        y_true: Any = None,
        position: Any = None,
        feature_name: str | None = None,
        target_name: str = "y",
        unit: str | None = None,
        feature_unit: str | None = None,
    ) -> None:
        self.samples = samples
        self.y_true = y_true
        self.position = position
        self.feature_name = feature_name
        self.target_name = target_name
        self.unit = unit
        self.feature_unit = feature_unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        feature: int | str | None = None,
        n_samples: int = 20,
        random_state: Any = 0,
        output: int | None = None,
        target_name: str | None = None,
        unit: str | None = None,
        feature_unit: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display draws from an estimator's ``sample_y``.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor, or a Pipeline, search or other composite around one.
        X : array-like of shape (n_rows, n_features)
            Rows as the composite takes them.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            Targets.
        feature : int or str, optional
            Column of X to draw against. None: the distribution over all rows.
        n_samples : int, default=20
            Number of draws.
        random_state : int, RandomState instance or None, default=0
            Seed of the draws.
        output : int, optional
            Which of several outputs.
        target_name, unit, feature_unit : str, optional
            For the labels.
        ax : matplotlib Axes, optional

        Returns
        -------
        DrawsDisplay
        """
        check_is_no_classifier(estimator, cls.__name__)
        samples = composites.sample_y(estimator, X, n_samples=n_samples, random_state=random_state)
        values, feature_name = (None, None) if feature is None else take_feature(X, feature)
        return cls.from_predictions(
            y,
            samples,
            x=values,
            output=output,
            feature_name=feature_name,
            target_name=target_name,
            unit=unit,
            feature_unit=feature_unit,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        samples: Any,
        *,
        x: Any = None,
        output: int | None = None,
        feature_name: str | None = None,
        target_name: str | None = None,
        unit: str | None = None,
        feature_unit: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display draws that are there already.

        Parameters
        ----------
        y_true : array-like of shape (n_rows,) or (n_rows, n_outputs), or None
            Targets.
        samples : array-like of shape (n_rows, n_samples) or (n_rows, n_outputs, n_samples)
            As ``sample_y`` returns them.
        x : array-like of shape (n_rows,), optional
            A feature to draw against.
        output : int, optional
            Which of several outputs.
        feature_name, target_name, unit, feature_unit : str, optional
            For the labels.
        ax : matplotlib Axes, optional

        Returns
        -------
        DrawsDisplay
        """
        samples = np.asarray(samples)
        if samples.dtype.kind not in "biuf":
            raise TypeError(
                f"Draws of y must be numbers, got {samples.dtype}. For a classifier use ReliabilityDisplay or SurfaceDisplay."
            )
        samples = take_output(samples, output, 2, "samples")
        y = None if y_true is None else _column(y_true, output, len(samples), "y_true")
        display = cls(
            samples=samples,
            y_true=y,
            position=None if x is None else np.asarray(x).ravel(),
            feature_name=None if x is None else name_of(x, feature_name, "feature"),
            target_name=name_of(y_true, target_name, "y"),
            unit=unit,
            feature_unit=feature_unit,
        )
        return display.plot(ax)

    def _draw(self, ax: Any) -> None:
        """Draw the samples."""
        samples = np.asarray(self.samples)
        n_rows, n_samples = samples.shape
        draws = f"{n_samples} draws"
        if self.position is None:
            share = np.arange(1, n_rows + 1) / n_rows
            for k, draw in enumerate(np.sort(samples, axis=0).T):
                ax.step(draw, share, where="post", color=SKY, linewidth=0.9, alpha=0.8, label=draws if k == 0 else None)
            if self.y_true is not None:
                y = np.sort(np.asarray(self.y_true))
                ax.step(y, share, where="post", color=BLACK, linewidth=1.8, label=self.target_name)
            ax.set(xlabel=with_unit(self.target_name, self.unit), ylabel="share of rows at or below", ylim=(0, 1))
        else:
            x = np.asarray(self.position)
            x = x if is_numeric(x) else x.astype(str)
            size = float(np.clip(12000 / samples.size, 4.0, 12.0))
            ax.scatter(np.repeat(x, n_samples), samples.ravel(), s=size, color=SKY, linewidth=0, alpha=0.7, label=draws)
            if self.y_true is not None:
                ax.scatter(x, self.y_true, s=12, color=BLACK, linewidth=0, label=self.target_name, zorder=3)
            ax.set_xlabel(with_unit(self.feature_name or "feature", self.feature_unit))
            ax.set_ylabel(with_unit(self.target_name, self.unit))
        legend_above(ax, markerscale=1.5)


class DensityDisplay(Display):
    """Predictive density of one row: of counts the probability of each, of other targets a curve.

    Parameters
    ----------
    values : ndarray of shape (n_points,)
        Values of y, in its units.
    density : ndarray of shape (n_points,)
        Density at each (1 / y's units), or probability of each count.
    discrete : bool, default=False
        Whether y is a count.
    interval : ndarray of shape (2,), optional
        Central interval.
    coverage : float, default=0.9
        Its probability.
    mean : float, optional
        Predictive mean.
    y_true : float, optional
        The row's target.
    atom : tuple of float, optional
        A value with a probability of its own, and that probability, as zero has in a hurdle model.
    target_name : str, default="y"
        Name of the target.
    unit : str, optional
        Unit of y.

    Examples
    --------
    >>> from scipy import stats
    >>> from skuq.plot import DensityDisplay
    >>> display = DensityDisplay.from_predictions(stats.norm([0.0, 5.0], [1.0, 2.0]), row=1)
    >>> display.interval.round(2)
    array([1.71, 8.29])
    """

    def __init__(
        self,
        *,
        values: Any,
        density: Any,
        discrete: bool = False,
        interval: Any = None,
        coverage: float = 0.9,
        mean: float | None = None,
        y_true: float | None = None,
        atom: tuple[float, float] | None = None,
        target_name: str = "y",
        unit: str | None = None,
    ) -> None:
        self.values = values
        self.density = density
        self.discrete = discrete
        self.interval = interval
        self.coverage = coverage
        self.mean = mean
        self.y_true = y_true
        self.atom = atom
        self.target_name = target_name
        self.unit = unit

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        row: int = 0,
        coverage: float = 0.9,
        n_points: int = 400,
        output: int | None = None,
        target_name: str | None = None,
        unit: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the density that an estimator predicts for one row.

        Parameters
        ----------
        estimator : estimator
            Fitted regressor, or a Pipeline or search around one.
        X : array-like of shape (n_rows, n_features)
            Rows as the composite takes them.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            Targets.
        row : int, default=0
            Which row.
        coverage : float, default=0.9
            Probability of the shaded central interval of the density; it is not that of a conformal calibration.
        n_points : int, default=400
            Points of the curve.
        output : int, optional
            Which of several outputs.
        target_name, unit : str, optional
            For the labels.
        ax : matplotlib Axes, optional

        Returns
        -------
        DensityDisplay
        """
        check_is_no_classifier(estimator, cls.__name__)
        return cls.from_predictions(
            composites.predict_dist(estimator, X),
            y,
            row=row,
            coverage=coverage,
            n_points=n_points,
            output=output,
            target_name=target_name,
            unit=unit,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        y_pred: Any,
        y_true: Any = None,
        *,
        row: int = 0,
        coverage: float = 0.9,
        n_points: int = 400,
        output: int | None = None,
        target_name: str | None = None,
        unit: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display one row of distributions that are there already.

        Parameters
        ----------
        y_pred : predict_dist result, distribution of another library, or tuple (mean, std)
            As :func:`skuq.metrics.nll` takes them.
        y_true : array-like of shape (n_rows,) or (n_rows, n_outputs), optional
            Targets.
        row : int, default=0
            Which row.
        coverage : float, default=0.9
            Probability of the shaded central interval.
        n_points : int, default=400
            Points of the curve.
        output : int, optional
            Which of several outputs.
        target_name, unit : str, optional
            For the labels.
        ax : matplotlib Axes, optional

        Returns
        -------
        DensityDisplay
        """
        level = float(check_levels("coverage", coverage, COVERAGE_EXAMPLE))
        if hasattr(y_pred, "classes"):
            raise TypeError(
                "DensityDisplay shows the distribution of a number, got class probabilities. Use predict_proba, or "
                "ReliabilityDisplay and SurfaceDisplay for a classifier."
            )
        dist = adapt(y_pred) if not isinstance(y_pred, tuple) else check_distribution(y_pred, _like(y_pred[0]))[0]
        means = np.asarray(dist.mean())
        if means.ndim == 0:
            raise ValueError(
                "y_pred must hold one distribution for each row, got a single one. Give it arrays of parameters."
            )
        if not -len(means) <= row < len(means):
            raise ValueError(f"row must be one of {len(means)} rows, got {row!r}.")
        row = row % len(means)
        if isinstance(dist, PredictiveMixture):  # one row alone: its density is asked for at many points
            dist, at = dist[row], 0
        else:
            at = row

        def pick(values: Any) -> float:
            return float(take_output(np.asarray(values, dtype=float), output, 1, "y_pred")[at])

        tails = np.array([(1 - level) / 2, (1 + level) / 2])
        interval = np.array([pick(dist.ppf(tail)) for tail in tails])
        low, high = pick(dist.ppf(0.001)), pick(dist.ppf(0.999))
        target = None if y_true is None else float(_column(y_true, output, len(means), "y_true")[row])
        if target is not None and np.isfinite(target):
            low, high = min(low, target), max(high, target)
        discrete = is_discrete(dist)
        if discrete:
            # Counts in steps where they are many: no more marks than a picture can hold.
            step = max(1, int(np.ceil((high - low) / n_points)))
            values = np.arange(np.floor(low), np.ceil(high) + 1, step)
        else:
            pad = 0.05 * (high - low)
            values = np.linspace(low - pad, high + pad, n_points)
            bottom, top = getattr(getattr(dist, "likelihood", None), "support", (-np.inf, np.inf))
            values = values[(values >= bottom) & (values <= top)]
        atom = getattr(getattr(dist, "likelihood", None), "atom", None)
        mass = None
        if atom is not None and not discrete:
            mass = (float(atom), pick(dist.cdf(atom)))
            values = values[values != atom]
        log_density = dist.logpdf if hasattr(dist, "logpdf") and not _is_scipy_count(dist) else dist.logpmf
        if isinstance(dist, PredictiveMixture):
            repeated = dist[np.zeros(len(values), int)]
            points = values if dist.single_output else np.repeat(values[:, None], means.shape[1], axis=1)
            density = np.exp(take_output(repeated.logpdf(points), output, 1, "y_pred"))
        else:
            density = np.exp([pick(log_density(np.full(means.shape, value))) for value in values])
        display = cls(
            values=values,
            density=density,
            discrete=discrete,
            interval=interval,
            coverage=level,
            mean=pick(dist.mean()),
            y_true=target,
            atom=mass,
            target_name=name_of(y_true, target_name, "y"),
            unit=unit,
        )
        return display.plot(ax)

    def _draw(self, ax: Any) -> None:
        """Draw the density."""
        values, density = np.asarray(self.values), np.asarray(self.density)
        inside = np.zeros(len(values), bool)
        if self.interval is not None:
            inside = (values >= self.interval[0]) & (values <= self.interval[1])
        label = f"{self.coverage:.0%} interval"
        if self.discrete:
            ax.bar(values[inside], density[inside], width=0.8, color=BLUE, label=label)
            ax.bar(values[~inside], density[~inside], width=0.8, color=SKY)
        else:
            ax.fill_between(values, density, where=inside, color=SKY, alpha=0.6, linewidth=0, label=label)
            ax.plot(values, density, color=BLUE, linewidth=1.8)
        if self.atom is not None:
            at, probability = self.atom
            peak = float(density.max()) if len(density) else 1.0
            label = f"P({self.target_name} = {at:g}) = {probability:.2f}"
            ax.vlines(at, 0, peak, color=GREY, linewidth=8, label=label)
        if self.mean is not None:
            ax.axvline(self.mean, color=BLACK, linestyle="--", linewidth=1.2, label=f"mean {self.mean:.4g}")
        if self.y_true is not None:
            ax.axvline(self.y_true, color=VERMILLION, linewidth=1.8, label=f"{self.target_name} {self.y_true:.4g}")
        ax.set_ylim(bottom=0)
        ax.set_xlabel(with_unit(self.target_name, self.unit))
        per_unit = None if not self.unit else f"1/{self.unit}" if len(self.unit.split("/")) == 1 else f"1/({self.unit})"
        ax.set_ylabel("probability" if self.discrete else with_unit("density", per_unit))
        ax.legend(frameon=False)


def _like(values: Any) -> np.ndarray:
    """Zeros of shape (n_rows, n_outputs) for as many values."""
    return np.zeros(np.shape(values)).reshape(len(values), -1)


def _is_scipy_count(dist: Any) -> bool:
    return isinstance(getattr(dist, "dist", None), stats.rv_discrete)
