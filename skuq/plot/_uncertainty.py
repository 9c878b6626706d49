"""What uncertainty is good for: refusing rows, telling ignorance from noise, and where in the plane it lies."""

from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier

from .. import composites, metrics
from ._base import (
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    VERMILLION,
    Display,
    check_choice,
    feature_names,
    name_of,
    take_output,
    with_unit,
)

PARTS = ("total", "aleatoric", "epistemic")


class RiskCoverageDisplay(Display):
    """Mean loss of the rows kept, as the most uncertain ones are refused.

    Beside the curve stand the mean loss of all rows, which refusing at random keeps, and the best possible curve, which refuses
    by the loss itself.

    Parameters
    ----------
    coverage : ndarray of shape (n_points,)
        Share of the rows kept, increasing in (0, 1].
    risk : ndarray of shape (n_points,)
        Their mean loss.
    threshold : ndarray of shape (n_points,)
        Uncertainty up to which rows are kept.
    oracle_coverage, oracle_risk : ndarray of shape (n_oracle,)
        The same if the loss itself were the uncertainty.
    loss_name : str, default="loss"
        What the loss is.
    unit : str, optional
        Its unit.
    name : str, optional
        Name in the legend.

    See Also
    --------
    skuq.metrics.risk_coverage_curve : The curve.
    skuq.metrics.aurc : The area under it.

    Examples
    --------
    >>> from skuq.plot import RiskCoverageDisplay
    >>> display = RiskCoverageDisplay.from_predictions([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4])
    >>> display.risk.round(2)
    array([0.  , 0.  , 0.33, 0.5 ])
    """

    def __init__(
        self,
        *,
        coverage: Any,
        risk: Any,
        threshold: Any,
        oracle_coverage: Any,
        oracle_risk: Any,
        loss_name: str = "loss",
        unit: str | None = None,
        name: str | None = None,
    ) -> None:
        self.coverage = coverage
        self.risk = risk
        self.threshold = threshold
        self.oracle_coverage = oracle_coverage
        self.oracle_risk = oracle_risk
        self.loss_name = loss_name
        self.unit = unit
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        uncertainty: Any = None,
        sample_weight: Any = None,
        output: int | None = None,
        unit: str | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the curve of an estimator: 0 or 1 for a right or wrong label, the absolute error of a mean.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier or regressor, or a Pipeline or search around one.
        X : array-like of shape (n_rows, n_features)
            Rows that it was not trained on.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Labels or targets.
        uncertainty : {"total", "aleatoric", "epistemic"} or array-like of shape (n_rows,), optional
            What to refuse by. None: one minus the highest probability, or the predictive standard deviation.
        sample_weight : array-like of shape (n_rows,), optional
        output : int, optional
            Which of several outputs.
        unit : str, optional
            Unit of y.
        name : str, optional
            Name in the legend; None: that of the predictor's class.
        ax : matplotlib Axes, optional

        Returns
        -------
        RiskCoverageDisplay
        """
        classifies = is_classifier(estimator)
        if isinstance(uncertainty, str):
            check_choice("uncertainty", uncertainty, PARTS)
            uncertainty = getattr(composites.predict_uncertainty(estimator, X), uncertainty)
        if classifies:
            probabilities = np.asarray(estimator.predict_proba(X))
            loss = (np.asarray(estimator.classes_)[probabilities.argmax(axis=1)] != np.asarray(y)).astype(float)
            uncertainty = 1 - probabilities.max(axis=1) if uncertainty is None else uncertainty
        else:
            mean, std = composites.predict(estimator, X, return_std=True)
            loss = np.abs(take_output(y, output, 1, "y") - take_output(mean, output, 1, "predictions"))
            uncertainty = std if uncertainty is None else uncertainty
        return cls.from_predictions(
            loss,
            take_output(uncertainty, output, 1, "uncertainty"),
            sample_weight=sample_weight,
            loss_name="error rate" if classifies else "mean absolute error",
            unit=unit,
            name=type(composites.find_predictor(estimator)).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        loss: Any,
        uncertainty: Any,
        *,
        sample_weight: Any = None,
        loss_name: str = "mean loss",
        unit: str | None = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display the curve of losses and uncertainties.

        Parameters
        ----------
        loss : array-like of shape (n_rows,)
            Loss of each row.
        uncertainty : array-like of shape (n_rows,)
            Higher is refused first.
        sample_weight : array-like of shape (n_rows,), optional
        loss_name : str, default="mean loss"
        unit : str, optional
            Unit of the loss.
        name : str, optional
        ax : matplotlib Axes, optional

        Returns
        -------
        RiskCoverageDisplay
        """
        curve = metrics.risk_coverage_curve(loss, uncertainty, sample_weight=sample_weight)
        oracle = metrics.risk_coverage_curve(loss, loss, sample_weight=sample_weight)
        display = cls(
            **curve._asdict(),
            oracle_coverage=oracle.coverage,
            oracle_risk=oracle.risk,
            loss_name=loss_name,
            unit=unit,
            name=name,
        )
        return display.plot(ax)

    def plot(self, ax: Any = None, *, color: Any = None) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        color : matplotlib color, optional
            Of the curve.

        Returns
        -------
        RiskCoverageDisplay
        """
        first = ax is None or not ax.lines
        ax = self._start(ax)
        coverage, risk = np.asarray(self.coverage), np.asarray(self.risk)
        area = float(np.sum(np.diff(coverage, prepend=0) * risk))
        label = f"{self.name or 'refused by uncertainty'}, area {area:.3g}"
        ax.plot(coverage, risk, color=BLUE if color is None and first else color, linewidth=1.8, label=label)
        if first:
            best_coverage, best = np.asarray(self.oracle_coverage), np.asarray(self.oracle_risk)
            # Rows of equal loss may be refused one by one: between two points the total loss grows evenly.
            fine = np.union1d(best_coverage, np.linspace(best_coverage[0], 1, 200))
            total = np.interp(fine, best_coverage, best * best_coverage)
            fine, total = np.r_[np.minimum(1e-9, fine[0]), fine], np.r_[total[0] * 1e-9 / max(fine[0], 1e-9), total]
            ax.plot(fine, total / fine, color=BLACK, linestyle="--", linewidth=1, label="refused by the loss itself")
            ax.axhline(risk[-1], color=GREY, linestyle=":", linewidth=1.2, label="refused at random")
        ax.set(xlabel="share of the rows kept", xlim=(0, 1))
        ax.set_ylim(bottom=0)
        ax.set_ylabel(with_unit(f"{self.loss_name} of the rows kept", self.unit))
        ax.legend(frameon=False)
        return self


class UncertaintySplitDisplay(Display):
    """Epistemic against aleatoric uncertainty, row by row: ignorance of the model against noise of the data.

    Above the diagonal more rows to train on would help most, below it only better measurements would.

    Parameters
    ----------
    aleatoric, epistemic : ndarray of shape (n_rows,)
        Variances in squared units of y, or entropies in nats.
    group : ndarray of shape (n_rows,), optional
        Name of the group that each row belongs to.
    measure : {"variance", "entropy"}, default="variance"
        What they are.
    unit : str, optional
        Unit of y; that of a variance is its square, that of an entropy is nats.
    scale : {"log", "linear"}, default="log"
        Of both axes.

    Examples
    --------
    >>> from skuq.plot import UncertaintySplitDisplay
    >>> from skuq import Uncertainty
    >>> import numpy as np
    >>> parts = Uncertainty(np.array([3.0, 2.5]), np.array([1.0, 2.0]), np.array([2.0, 0.5]))
    >>> UncertaintySplitDisplay.from_predictions(parts, unit="cm").ax_.get_xlabel()
    'aleatoric variance [cm²]'
    """

    def __init__(
        self,
        *,
        aleatoric: Any,
        epistemic: Any,
        group: Any = None,
        measure: str = "variance",
        unit: str | None = None,
        scale: str = "log",
    ) -> None:
        self.aleatoric = aleatoric
        self.epistemic = epistemic
        self.group = group
        self.measure = measure
        self.unit = unit
        self.scale = scale

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        X_ood: Any = None,
        group: Any = None,
        output: int | None = None,
        unit: str | None = None,
        scale: str = "log",
        ax: Any = None,
    ) -> Self:
        """Display an estimator's ``predict_uncertainty``.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier or regressor, or a Pipeline or search around one.
        X : array-like of shape (n_rows, n_features)
            Rows as the composite takes them.
        X_ood : array-like of shape (n_ood, n_features), optional
            Rows from out of the domain, a group of their own.
        group : array-like of shape (n_rows,), optional
            Group of each row of `X`, such as its label.
        output : int, optional
            Which of several outputs.
        unit : str, optional
            Unit of y.
        scale : {"log", "linear"}, default="log"
        ax : matplotlib Axes, optional

        Returns
        -------
        UncertaintySplitDisplay
        """
        parts = composites.predict_uncertainty(estimator, X)
        aleatoric, epistemic = (take_output(v, output, 1, "uncertainty") for v in (parts.aleatoric, parts.epistemic))
        if X_ood is not None:
            foreign = composites.predict_uncertainty(estimator, X_ood)
            inside = np.full(len(aleatoric), "in the domain") if group is None else np.asarray(group).astype(str)
            group = np.concatenate([inside, np.full(len(foreign.total), "out of the domain")])
            aleatoric = np.concatenate([aleatoric, take_output(foreign.aleatoric, output, 1, "uncertainty")])
            epistemic = np.concatenate([epistemic, take_output(foreign.epistemic, output, 1, "uncertainty")])
        measure = "entropy" if is_classifier(estimator) else "variance"
        return cls._checked(aleatoric, epistemic, group, measure, unit, scale, ax)

    @classmethod
    def from_predictions(
        cls,
        uncertainty: Any,
        *,
        group: Any = None,
        measure: str = "variance",
        output: int | None = None,
        unit: str | None = None,
        scale: str = "log",
        ax: Any = None,
    ) -> Self:
        """Display uncertainties that are there already.

        Parameters
        ----------
        uncertainty : tuple (total, aleatoric, epistemic) of array-like of shape (n_rows,)
            As ``predict_uncertainty`` returns it.
        group : array-like of shape (n_rows,), optional
        measure : {"variance", "entropy"}, default="variance"
            What they are: of a regressor or of a classifier.
        output : int, optional
        unit : str, optional
        scale : {"log", "linear"}, default="log"
        ax : matplotlib Axes, optional

        Returns
        -------
        UncertaintySplitDisplay
        """
        if len(uncertainty) != 3:
            raise ValueError(
                f"uncertainty must be (total, aleatoric, epistemic), as predict_uncertainty returns it, got "
                f"{len(uncertainty)} elements."
            )
        aleatoric, epistemic = (take_output(part, output, 1, "uncertainty") for part in uncertainty[1:])
        return cls._checked(aleatoric, epistemic, group, measure, unit, scale, ax)

    @classmethod
    def _checked(
        cls, aleatoric: Any, epistemic: Any, group: Any, measure: str, unit: str | None, scale: str, ax: Any
    ) -> Self:
        check_choice("measure", measure, ("variance", "entropy"))
        check_choice("scale", scale, ("log", "linear"))
        if group is not None and len(group) != len(aleatoric):
            raise ValueError(f"group must hold one value for each of {len(aleatoric)} rows, got {len(group)}.")
        group = None if group is None else np.asarray(group)
        return cls(aleatoric=aleatoric, epistemic=epistemic, group=group, measure=measure, unit=unit, scale=scale).plot(
            ax
        )

    def _draw(self, ax: Any) -> None:
        """Draw the rows."""
        aleatoric, epistemic = np.asarray(self.aleatoric), np.asarray(self.epistemic)
        group = np.zeros(len(aleatoric), int) if self.group is None else np.asarray(self.group)
        # An epistemic part of zero (a method with one draw) has no logarithm: it stands at the lower end.
        floor = 1e-6 * float(max(aleatoric.max(), epistemic.max())) or 1e-12
        x, y = (np.maximum(v, floor) if self.scale == "log" else v for v in (aleatoric, epistemic))
        names = list(dict.fromkeys(group.tolist()))
        size = float(np.clip(4000 / len(x), 6, 30))
        for k, name in enumerate(names):
            own = group == name
            ax.scatter(
                x[own],
                y[own],
                s=size,
                marker="os^DvP"[k % 6],
                color=CYCLE[k % len(CYCLE)],
                alpha=0.6,
                linewidth=0,
                label=None if self.group is None else str(name),
            )
        if self.scale == "log":
            ax.set(xscale="log", yscale="log")
            # As near as the rows stand, but with a piece of the line where both are equal.
            low, high = min(y.min(), x.max()), max(y.max(), x.min())
            ax.set(xlim=_decade(x.min(), x.max()), ylim=_decade(low, high))
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_minor_formatter("")
        else:
            ax.set(xlim=(0, 1.05 * x.max() or 1), ylim=(0, 1.05 * y.max() or 1))
        ends = [min(ax.get_xlim()[0], ax.get_ylim()[0]), max(ax.get_xlim()[1], ax.get_ylim()[1])]
        ax.plot(
            ends, ends, color=GREY, linestyle=":", linewidth=1.2, label="equal", zorder=1, scalex=False, scaley=False
        )
        unit = "nats" if self.measure == "entropy" else _squared(self.unit)
        word = "uncertainty" if self.measure == "entropy" else "variance"
        ax.set(xlabel=with_unit(f"aleatoric {word}", unit), ylabel=with_unit(f"epistemic {word}", unit))
        ax.legend(frameon=False)


def _decade(low: float, high: float) -> tuple[float, float]:
    """Ends of a logarithmic axis around two numbers, at least a decade apart, so that it has a labelled tick."""
    widen = max(1.4, np.sqrt(10.5 * low / high))
    return low / widen, high * widen


def _squared(unit: str | None) -> str | None:
    if unit is None:
        return None
    return f"{unit}²" if unit.isalpha() else f"({unit})²"


class SurfaceDisplay(Display):
    """A model of two features over the plane: probability, mean or uncertainty, with rows that it learned from and others.

    Parameters
    ----------
    xx0, xx1 : ndarray of shape (n_grid, n_grid)
        Coordinates of the points.
    response : ndarray of shape (n_grid, n_grid)
        What the model says there.
    response_name : str
        What that is, with its unit.
    limits : tuple of float, optional
        Ends of the colour scale; None: those of `response`.
    X : ndarray of shape (n_rows, 2), optional
        Rows to draw.
    y : ndarray of shape (n_rows,), optional
        Their labels, each drawn with a mark of its own, or their targets.
    X_ood : ndarray of shape (n_ood, 2), optional
        Rows from out of the domain.
    names : tuple of str, default=("feature 0", "feature 1")
        Names of the two features.

    See Also
    --------
    sklearn.inspection.DecisionBoundaryDisplay : Boundaries of any classifier.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import make_moons
    >>> from skuq.plot import SurfaceDisplay
    >>> X, y = make_moons(100, noise=0.1, random_state=0)
    >>> model = skuq.SNGPClassifier(max_iter=5, random_state=0).fit(X, y)
    >>> display = SurfaceDisplay.from_estimator(model, X, y, response="epistemic", grid_resolution=20)
    >>> display.response.shape, display.response_name
    ((20, 20), 'epistemic uncertainty [nats]')
    """

    def __init__(
        self,
        *,
        xx0: Any,
        xx1: Any,
        response: Any,
        response_name: str,
        limits: tuple[float, float] | None = None,
        X: Any = None,
        y: Any = None,
        X_ood: Any = None,
        names: tuple[str, str] = ("feature 0", "feature 1"),
    ) -> None:
        self.xx0 = xx0
        self.xx1 = xx1
        self.response = response
        self.response_name = response_name
        self.limits = limits
        self.X = X
        self.y = y
        self.X_ood = X_ood
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any = None,
        *,
        X_ood: Any = None,
        response: str = "auto",
        pos_label: Any = None,
        grid_resolution: int = 100,
        margin: float = 0.25,
        limits: tuple[float, float] | None = None,
        output: int | None = None,
        unit: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display an estimator over the plane of its two features.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier or regressor of two features, or a Pipeline or search around one.
        X : array-like of shape (n_rows, 2)
            Rows to draw; they also say which part of the plane is shown.
        y : array-like of shape (n_rows,), optional
            Labels or targets.
        X_ood : array-like of shape (n_ood, 2), optional
            Rows from out of the domain.
        response : str, default="auto"
            "probability" (of `pos_label`), "confidence" (the highest probability), "mean", "std", or a part of
            ``predict_uncertainty``, "total", "aleatoric" or "epistemic". "auto": "probability" of two classes, "confidence" of
            more, "mean" of a regressor.
        pos_label : label, optional
            Class whose probability is drawn; None: the last one.
        grid_resolution : int, default=100
            Points along each axis.
        margin : float, default=0.25
            Space around the rows, as a share of their range.
        limits : tuple of float, optional
            Ends of the colour scale, so that pictures can be compared. None: [0, 1] for probabilities, else the response's own.
        output : int, optional
            Which of several outputs.
        unit : str, optional
            Unit of y.
        ax : matplotlib Axes, optional

        Returns
        -------
        SurfaceDisplay
        """
        shapes = {"X": np.shape(X), **({} if X_ood is None else {"X_ood": np.shape(X_ood)})}
        for name, shape in shapes.items():
            if len(shape) != 2 or shape[1] != 2:
                raise ValueError(
                    f"SurfaceDisplay shows a model of two features, got {name} of shape {shape}. Fit a model on two columns."
                )
        if isinstance(grid_resolution, bool) or int(grid_resolution) != grid_resolution or grid_resolution < 2:
            raise ValueError(f"grid_resolution must be an integer of at least 2, got {grid_resolution!r}.")
        columns = feature_names(X)
        points = np.asarray(X, dtype=float)
        foreign = None if X_ood is None else np.asarray(X_ood, dtype=float)
        shown = points if foreign is None else np.concatenate([points, foreign])
        low, high = shown.min(axis=0), shown.max(axis=0)
        pad = margin * np.where(high > low, high - low, 1.0)
        axes = np.linspace(low - pad, high + pad, int(grid_resolution))
        xx0, xx1 = np.meshgrid(axes[:, 0], axes[:, 1])
        grid: Any = np.column_stack([xx0.ravel(), xx1.ravel()])
        if columns is not None:
            grid = type(X)(dict(zip(X.columns, grid.T, strict=True)))
        values, name, own_limits = _respond(estimator, grid, response, pos_label, output, name_of(y, None, "y"), unit)
        display = cls(
            xx0=xx0,
            xx1=xx1,
            response=values.reshape(xx0.shape),
            response_name=name,
            limits=own_limits if limits is None else limits,
            X=points,
            y=None if y is None else take_output(y, output, 1, "y"),
            X_ood=foreign,
            names=("feature 0", "feature 1") if columns is None else (columns[0], columns[1]),
        )
        return display.plot(ax)

    def plot(self, ax: Any = None, *, cmap: Any = None, colorbar: bool = True) -> Self:
        """Draw the surface and the rows.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        cmap : matplotlib colormap, optional
            None: cividis, which runs evenly from dark to light for any kind of colour vision and in grey.
        colorbar : bool, default=True
            Whether to draw the colour scale.

        Returns
        -------
        SurfaceDisplay
        """
        ax = self._start(ax)
        low, high = self.limits if self.limits is not None else (None, None)
        # Each point is the middle of its own cell.
        extent = [
            end
            for values in (np.asarray(self.xx0)[0], np.asarray(self.xx1)[:, 0])
            for end in (values[0] - (values[1] - values[0]) / 2, values[-1] + (values[1] - values[0]) / 2)
        ]
        options = {"cmap": cmap or "cividis", "vmin": low, "vmax": high}
        self.image_ = ax.imshow(self.response, extent=extent, origin="lower", aspect="auto", **options)
        if colorbar:
            self.figure_.colorbar(self.image_, ax=ax, label=self.response_name)
        if self.X is not None:
            size = float(np.clip(6000 / len(self.X), 8, 40))
            style = {"s": size, "edgecolor": "white", "linewidth": 0.6}
            labels = np.asarray(self.y) if self.y is not None else np.full(len(self.X), "rows")
            classes = list(dict.fromkeys(np.sort(labels).tolist()))
            if len(classes) <= 6:
                # Classes differ by the shape of the mark, for the surface takes the colours.
                for k, label in enumerate(classes):
                    own = labels == label
                    fill = (BLACK, "#FFFFFF", BLUE, VERMILLION, GREY, CYCLE[2])[k]
                    edge = {"edgecolor": BLACK} if fill == "#FFFFFF" else {}
                    ax.scatter(*self.X[own].T, marker="o^sDvP"[k], color=fill, label=str(label), **{**style, **edge})
            else:
                ax.scatter(*self.X.T, color=BLACK, label="rows", **style)
        if self.X_ood is not None:
            ax.scatter(
                *self.X_ood.T,
                marker="X",
                s=22,
                color=VERMILLION,
                edgecolor="white",
                linewidth=0.6,
                label="out of the domain",
            )
        ax.set(xlabel=self.names[0], ylabel=self.names[1])
        if self.X is not None or self.X_ood is not None:
            ax.legend(loc="upper left", framealpha=0.85, fontsize="small")
        return self


def _respond(
    estimator: Any, grid: Any, response: str, pos_label: Any, output: int | None, target: str, unit: str | None
) -> tuple[np.ndarray, str, tuple[float, float] | None]:
    """What an estimator says of each point, (n_points,), its name, and the ends of its scale if it has any."""
    classifies = is_classifier(estimator)
    if response == "auto":
        classes = getattr(estimator, "classes_", ())
        response = (
            "mean" if not classifies else "probability" if len(classes) == 2 or pos_label is not None else "confidence"
        )
    own = ("probability", "confidence") if classifies else ("mean", "std")
    check_choice("response", response, ("auto", *own, *PARTS))
    if response in PARTS:
        values = getattr(composites.predict_uncertainty(estimator, grid), response)
        name = (
            with_unit(f"{response} uncertainty", "nats")
            if classifies
            else with_unit(f"{response} variance", _squared(unit))
        )
        return take_output(values, output, 1, "uncertainty"), name, None
    if classifies:
        probabilities = np.asarray(estimator.predict_proba(grid))
        if response == "confidence":
            return probabilities.max(axis=1), "highest probability", (1 / probabilities.shape[1], 1.0)
        classes = np.asarray(estimator.classes_)
        pos_label = classes[-1] if pos_label is None else pos_label
        column = np.flatnonzero(classes == pos_label)
        if len(column) == 0:
            raise ValueError(f"pos_label must be one of the classes {classes[:10].tolist()}, got {pos_label!r}.")
        name = f"probability of {target} = {pos_label}"
        return probabilities[:, column[0]], name, (0.0, 1.0)
    if response == "mean":
        return (
            take_output(estimator.predict(grid), output, 1, "predictions"),
            with_unit(f"mean of {target}", unit),
            None,
        )
    std = composites.predict(estimator, grid, return_std=True)[1]
    return take_output(std, output, 1, "predictions"), with_unit(f"standard deviation of {target}", unit), None
