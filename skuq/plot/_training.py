"""How training went, and what a penalty leaves of the features."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from .._training.interruption import many_fits
from ..composites import find_trained, unwrap
from ._base import BLACK, BLUE, CYCLE, DASHES, GREY, VERMILLION, Display, check_choice, feature_names


class LossCurveDisplay(Display):
    """Training loss of each epoch, and the held-out score where rows were held out.

    Parameters
    ----------
    loss : ndarray of shape (n_epochs,)
        Training loss of each epoch, with the penalty.
    validation_loss : ndarray of shape (n_evaluations,), optional
        Held-out score at each evaluation.
    validation_epochs : ndarray of shape (n_evaluations,), optional
        Epochs of the evaluations.
    loss_name : str, default="loss [nats a row]"
        Name of the vertical axis.
    name : str, optional
        Title.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq.plot import LossCurveDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = skuq.ProbabilisticRegressor(max_iter=10, random_state=0).fit(X, y)
    >>> LossCurveDisplay.from_estimator(model).loss.shape
    (10,)
    """

    def __init__(
        self,
        *,
        loss: Any,
        validation_loss: Any = None,
        validation_epochs: Any = None,
        loss_name: str = "loss [nats a row]",
        name: str | None = None,
    ) -> None:
        self.loss = loss
        self.validation_loss = validation_loss
        self.validation_epochs = validation_epochs
        self.loss_name = loss_name
        self.name = name

    @classmethod
    def from_estimator(cls, estimator: Any, *, name: str | None = None, ax: Any = None) -> Self:
        """Display ``loss_curve_`` and ``validation_loss_curve_`` of a fitted estimator.

        Evaluations stand at ``validation_epochs_`` where the estimator has them, else at equal distances up to the last epoch:
        early in training they may be closer together.

        Parameters
        ----------
        estimator : estimator
            Fitted, or a Pipeline or search around one. Also scikit-learn's ``MLPClassifier`` and ``MLPRegressor``.
        name : str, optional
            Title; None: the predictor's class.
        ax : matplotlib Axes, optional

        Returns
        -------
        LossCurveDisplay
        """
        predictor = find_trained(estimator)
        curve = getattr(predictor, "loss_curve_", None)
        if curve is None:
            raise TypeError(
                f"{type(predictor).__name__} has no loss_curve_: expected a fitted estimator of skuq, or a Pipeline or search "
                f"around one."
            )
        held_out = getattr(predictor, "validation_loss_curve_", None)
        epochs = getattr(predictor, "validation_epochs_", None)
        ours = type(predictor).__module__.partition(".")[0] == "skuq"
        return cls.from_predictions(
            curve,
            held_out,
            validation_epochs=epochs,
            loss_name="loss [nats a row]" if ours else "loss",
            name=type(predictor).__name__ if name is None else name,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        loss: Any,
        validation_loss: Any = None,
        *,
        validation_epochs: Any = None,
        loss_name: str = "loss",
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Display curves that are there already.

        Parameters
        ----------
        loss : array-like of shape (n_epochs,)
        validation_loss : array-like of shape (n_evaluations,), optional
        validation_epochs : array-like of shape (n_evaluations,), optional
            Epochs of the evaluations; None: at equal distances up to the last epoch.
        loss_name, name : str, optional
        ax : matplotlib Axes, optional

        Returns
        -------
        LossCurveDisplay
        """
        loss = np.asarray(loss, dtype=float)
        held_out = None if validation_loss is None else np.asarray(validation_loss, dtype=float)
        epochs = validation_epochs
        if held_out is not None:
            n = len(held_out)
            epochs = np.arange(1, n + 1) * (len(loss) / max(n, 1)) if epochs is None else np.asarray(epochs)
            if len(epochs) != n:
                raise ValueError(
                    f"validation_epochs must hold one epoch for each of {n} evaluations, got {len(epochs)}."
                )
        return cls(loss=loss, validation_loss=held_out, validation_epochs=epochs, loss_name=loss_name, name=name).plot(
            ax
        )

    def _draw(self, ax: Any) -> None:
        """Draw the curves."""
        loss = np.asarray(self.loss)
        ax.plot(np.arange(1, len(loss) + 1), loss, color=BLUE, linewidth=1, alpha=0.8, label="training")
        shown = [loss]
        if self.validation_loss is not None and len(self.validation_loss):
            held_out, epochs = np.asarray(self.validation_loss), np.asarray(self.validation_epochs)
            best = int(np.nanargmin(held_out))
            ax.plot(epochs, held_out, color=VERMILLION, linestyle="--", linewidth=1.5, label="held out")
            ax.scatter(
                epochs[best],
                held_out[best],
                marker="*",
                s=110,
                color=BLACK,
                label=f"best {held_out[best]:.3g}",
                zorder=3,
            )
            shown.append(held_out)
        # The first epochs may stand so high that nothing else is seen: what is left out is marked by the axis's end.
        values = np.concatenate(shown)
        values = values[np.isfinite(values)]
        if len(values) > 20:
            low, high = values.min(), np.quantile(values, 0.98)
            if high > low and values.max() > high + (high - low):
                ax.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
        ax.set(xlabel="epoch", ylabel=self.loss_name, xlim=(0, len(loss) + 1))
        if self.name:
            ax.set_title(self.name)
        ax.legend(frameon=False)


class RegularizationPathDisplay(Display):
    """Features that survive each strength of the regularizer, and the coefficients of a linear model on the way.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Strengths, increasing.
    selected : ndarray of bool, shape (n_alphas, n_features)
        Features with any nonzero weight.
    n_nonzero_weights : ndarray of shape (n_alphas,)
        Kernel weights that are not exactly zero.
    coef : ndarray of shape (n_alphas, n_features), optional
        Coefficients of a linear model of one output, each times the standard deviation of its feature.
    names : list of str
        Names of the features.
    score : ndarray of shape (n_alphas,), optional
        Score of each model on rows kept apart; higher is better.
    score_name : str, default="score"
        What it is.
    unit : str, optional
        Unit of y, and with it of the coefficients.
    kind : {"coef", "features"}
        What is drawn.

    See Also
    --------
    sklearn.linear_model.lasso_path : The path of a linear model in closed form.

    Examples
    --------
    >>> import skuq
    >>> from sklearn.datasets import load_diabetes
    >>> from skuq.plot import RegularizationPathDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> linear = skuq.ProbabilisticRegressor(hidden_layer_sizes=(), regularizer="l1", max_iter=300, random_state=0)
    >>> display = RegularizationPathDisplay.from_estimator(linear, X, y, alphas=[0.001, 10.0])
    >>> display.selected.sum(axis=1)
    array([10,  0])
    """

    def __init__(
        self,
        *,
        alphas: Any,
        selected: Any,
        n_nonzero_weights: Any,
        names: list[str],
        coef: Any = None,
        score: Any = None,
        score_name: str = "score",
        unit: str | None = None,
        kind: str = "features",
    ) -> None:
        self.alphas = alphas
        self.selected = selected
        self.n_nonzero_weights = n_nonzero_weights
        self.names = names
        self.coef = coef
        self.score = score
        self.score_name = score_name
        self.unit = unit
        self.kind = kind

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        alphas: Sequence[float],
        X_test: Any = None,
        y_test: Any = None,
        scoring: Any = None,
        param_name: str | None = None,
        kind: str = "auto",
        unit: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Fit a clone of the estimator for each alpha and display what is left.

        Parameters
        ----------
        estimator : estimator
            One of skuq's, or a Pipeline that ends in one, with ``regularizer="l1"`` or "elasticnet" for weights that become
            exactly zero. It is cloned. Of a fitted search its best estimator.
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
            Training rows.
        alphas : sequence of float
            Strengths, ≥ 0.
        X_test, y_test : array-like, optional
            Rows kept apart, on which each model is scored.
        scoring : callable, optional
            Such as ``skuq.scorers.get_scorer("neg_nll")``, called as scoring(model, X, y); None: the estimator's ``score``.
        param_name : str, optional
            Name of the parameter; None: "alpha" of the final estimator.
        kind : {"auto", "coef", "features"}, default="auto"
            "coef": the coefficients of a linear model. "features": which features are left. "auto": "coef" where there are
            coefficients.
        unit : str, optional
            Unit of y.
        ax : matplotlib Axes, optional

        Returns
        -------
        RegularizationPathDisplay
        """
        check_choice("kind", kind, ("auto", "coef", "features"))
        strengths = np.sort(np.atleast_1d(np.asarray(alphas, dtype=float)))
        if (X_test is None) != (y_test is None):
            raise ValueError("X_test and y_test belong together, got one of them.")
        estimator = getattr(estimator, "best_estimator_", estimator)
        name = _parameter_name(estimator, "alpha") if param_name is None else param_name
        selected, counts, coefs, scores = [], [], [], []
        for alpha in strengths.tolist():
            with many_fits():
                model = clone(estimator).set_params(**{name: alpha}).fit(X, y)
            predictor, inner = unwrap(model, X)
            if not hasattr(predictor, "selected_features_"):
                raise TypeError(
                    f"{type(predictor).__name__} has no selected_features_: expected one of skuq's estimators, or a Pipeline "
                    f"that ends in one."
                )
            selected.append(predictor.selected_features_)
            counts.append(predictor.n_nonzero_weights_)
            coef = np.squeeze(np.asarray(getattr(predictor, "coef_", np.nan)))
            if coef.shape == selected[-1].shape:
                coefs.append(coef * _spread(inner))
            if X_test is not None:
                scores.append((model.score if scoring is None else _bound(scoring, model))(X_test, y_test))
        linear = len(coefs) == len(strengths)
        if kind == "coef" and not linear:
            raise ValueError(
                "kind='coef' needs a linear model of one output, hidden_layer_sizes=(). Use kind='features'."
            )
        display = cls(
            alphas=strengths,
            selected=np.array(selected),
            n_nonzero_weights=np.array(counts),
            names=_names_inside(model, X, len(selected[0])),
            coef=np.array(coefs) if linear else None,
            score=np.array(scores) if scores else None,
            score_name=getattr(scoring, "__name__", "score"),
            unit=unit,
            kind="coef" if kind == "auto" and linear else "features" if kind == "auto" else kind,
        )
        return display.plot(ax)

    def _draw(self, ax: Any) -> None:
        """Draw the path."""
        alphas, selected = np.asarray(self.alphas), np.asarray(self.selected)
        zero = bool(np.any(alphas == 0))
        if self.kind == "coef":
            coef = np.asarray(self.coef)
            for j in range(coef.shape[1]):
                # Marks tell the lines apart in grey.
                style = {"color": CYCLE[j % 6], "linestyle": DASHES[j % 4], "marker": "os^DvP*"[j % 7], "markersize": 5}
                ax.plot(alphas, coef[:, j], linewidth=1.4, label=self.names[j], **style)
            ax.axhline(0, color=GREY, linewidth=0.8)
            what = "coefficient × standard deviation of the feature"
            ax.set_ylabel(f"{what} [{self.unit}]" if self.unit else what)
            columns = 1 if coef.shape[1] <= 12 else 2
            ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5), ncols=columns)
        else:
            order = np.argsort(selected.sum(axis=0), kind="stable")
            for height, j in enumerate(order):
                own = selected[:, j]
                ax.scatter(alphas[own], np.full(own.sum(), height), s=28, color=BLUE, marker="s")
                ax.scatter(
                    alphas[~own], np.full((~own).sum(), height), s=10, facecolor="none", edgecolor=GREY, linewidth=0.8
                )
            ax.set_yticks(range(len(order)), [self.names[j] for j in order])
            ax.scatter([], [], s=28, color=BLUE, marker="s", label="used")
            ax.scatter([], [], s=10, facecolor="none", edgecolor=GREY, label="all weights zero")
            ax.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1.0), fontsize="small")
        ax.set_xscale("symlog", linthresh=alphas[alphas > 0].min()) if zero and np.any(alphas > 0) else ax.set_xscale(
            "log"
        )
        ax.set_xlabel("alpha")
        self.score_ax_ = None
        if self.score is not None:
            score = np.asarray(self.score)
            self.score_ax_ = other = ax.twinx()
            other.plot(alphas, score, color=BLACK, marker="o", markersize=4, linestyle=":", label=self.score_name)
            best = int(np.argmax(score))
            other.axvline(alphas[best], color=BLACK, linewidth=0.8)
            other.set_ylabel(f"{self.score_name} (dotted, higher is better)")
            if self.kind == "coef":
                ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1.18, 0.5))


def _parameter_name(estimator: Any, name: str) -> str:
    """Name that `name` of the final estimator has for a composite."""
    prefix = ""
    while isinstance(estimator, Pipeline):
        step, estimator = estimator.steps[-1]
        prefix += f"{step}__"
    if name not in estimator.get_params(deep=False):
        nested = [key for key in estimator.get_params() if key.endswith(f"__{name}")]
        raise ValueError(
            f"{type(estimator).__name__} has no parameter {name!r}. Pass param_name"
            + (f", one of {[prefix + key for key in nested]}." if nested else ".")
        )
    return prefix + name


def _bound(scoring: Any, model: Any) -> Any:
    return lambda X, y: scoring(model, X, y)


def _spread(X: Any) -> np.ndarray:
    """Standard deviation of each column."""
    if hasattr(X, "multiply"):  # sparse
        mean = np.asarray(X.mean(axis=0)).ravel()
        return np.sqrt(np.maximum(np.asarray(X.multiply(X).mean(axis=0)).ravel() - mean**2, 0))
    return np.asarray(X, dtype=float).std(axis=0)


def _names_inside(model: Any, X: Any, n_features: int) -> list[str]:
    """Names of the features that the final estimator sees."""
    if isinstance(model, Pipeline) and len(model) > 1:
        try:
            return [str(name) for name in model[:-1].get_feature_names_out()]
        except (AttributeError, ValueError):  # a step that does not name its output
            return [f"feature {j}" for j in range(n_features)]
    return feature_names(X) or [f"feature {j}" for j in range(n_features)]
