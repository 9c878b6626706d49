"""What the displays share: matplotlib when it is used, colours, names of axes, and one column or output of many."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import _safe_indexing

# Okabe & Ito (2008), "Color Universal Design": told apart with any kind of colour vision. Where two of them meet in one picture
# they differ in lightness or in the shape of the mark too, so that a print in grey says the same.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PINK = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
BLACK, GREY = "#000000", "#7F7F7F"
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, SKY, PINK)
DASHES = ("-", "--", "-.", ":")
# Outside this share of cases a point is one that chance does not explain.
CHANCE = 0.95


def load_pyplot() -> Any:
    """Import matplotlib.pyplot, or say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'The displays of skuq.plot draw with matplotlib, which is not installed. Install it with pip install "skuq[plot]" '
            "or pip install matplotlib."
        ) from error
    return plt


class Display:
    """Base of the displays: what is drawn stands in attributes, ``plot`` draws it.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it was drawn last.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    """

    ax_: Any
    figure_: Any

    def _start(self, ax: Any) -> Any:
        """Axes to draw in: those given, or new ones."""
        plt = load_pyplot()
        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _draw(self, ax: Any) -> None:
        """Draw in these axes; not of a display whose ``plot`` has options of its own."""
        raise NotImplementedError

    def plot(self, ax: Any = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; None: new axes.

        Returns
        -------
        Display
            Itself, with `ax_` and `figure_`.
        """
        self._draw(self._start(ax))
        return self


def legend_above(ax: Any, **options: Any) -> None:
    """Legend above the axes, where it hides no rows."""
    ax.legend(frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, fontsize="small", **options)


def with_unit(name: str, unit: str | None) -> str:
    """Label of an axis: its name, and in brackets the unit, if there is one."""
    return f"{name} [{unit}]" if unit else name


def name_of(y: Any, given: str | None, fallback: str) -> str:
    """Name of targets or of a column: the one given, that of a Series, or the fallback."""
    if given is not None:
        return given
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else fallback


def feature_names(X: Any) -> list[str] | None:
    """Names of the columns of a frame; None for an array."""
    columns = getattr(X, "columns", None)
    return None if columns is None else [str(name) for name in columns]


def take_feature(X: Any, feature: int | str) -> tuple[np.ndarray, str]:
    """Values and name of one column of X, (n_rows,), chosen by its position or its name.

    Raises
    ------
    ValueError
        If X has no such column.
    """
    names = feature_names(X)
    if isinstance(feature, str) and names is None:
        raise ValueError(
            f"feature={feature!r} names a column, but X has no column names, got {type(X).__name__}. Pass the column's position, "
            f"or X as a DataFrame."
        )
    n_features = np.shape(X)[1]
    known = feature in names if isinstance(feature, str) and names else 0 <= int(feature) < n_features
    if not known:
        columns = f"the columns {names}" if names else f"{n_features} columns"
        raise ValueError(f"feature={feature!r} is no column of X, which has {columns}.")
    column = _safe_indexing(X, feature, axis=1)
    column = column.toarray().ravel() if hasattr(column, "toarray") else np.asarray(column).ravel()
    position = feature if isinstance(feature, str) else names[feature] if names else f"feature {feature}"
    return column, position


def take_output(values: Any, output: int | None, single_ndim: int, name: str) -> np.ndarray:
    """Values of one output, with the axis of outputs (the second) taken off.

    Parameters
    ----------
    values : array-like of shape (n_rows, ...) or (n_rows, n_outputs, ...)
    output : int or None
        Which of several; not needed for one.
    single_ndim : int
        Number of dimensions that values of one output have.
    name : str
        What the values are, for the error.
    """
    values = np.asarray(values)
    if values.ndim == single_ndim and output in (None, 0):
        return values
    if values.ndim != single_ndim + 1:
        raise ValueError(
            f"{name} must have {single_ndim} dimensions, or {single_ndim + 1} with the outputs second, got shape "
            f"{values.shape}" + ("." if output is None else f" and output={output!r}.")
        )
    n_outputs = values.shape[1]
    if output is None and n_outputs > 1:
        raise ValueError(
            f"One display shows one output, got {name} with {n_outputs}. Pass output=0 … {n_outputs - 1} to choose one."
        )
    chosen = 0 if output is None else output
    if not 0 <= chosen < n_outputs:
        raise ValueError(f"output must lie between 0 and {n_outputs - 1}, got {output!r}.")
    return values[:, chosen]


def is_numeric(values: np.ndarray) -> bool:
    """Whether values can stand on a continuous axis."""
    return np.asarray(values).dtype.kind in "biufmM"


def check_is_no_classifier(estimator: Any, display: str) -> None:
    """Raise TypeError if `estimator` predicts labels, for a display of numbers."""
    if is_classifier(estimator):
        raise TypeError(
            f"{display} shows predictions of a number, got the classifier {type(estimator).__name__}. For a classifier use "
            f"ReliabilityDisplay, RiskCoverageDisplay, UncertaintySplitDisplay or SurfaceDisplay."
        )


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise ValueError unless `value` is one of the choices."""
    if not any(value is choice or value == choice for choice in choices):
        options = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {options}, got {value!r}.")


def effective_rows(weight: np.ndarray) -> float:
    """Rows of equal weight whose mean would vary as much (Kish 1965): (Σw)² / Σw²."""
    return float(weight.sum() ** 2 / np.sum(weight**2))
