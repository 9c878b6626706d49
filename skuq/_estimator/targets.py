"""How a task reads y: from what the user gives to targets that a trainer sees, and back where folds are fitted."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.class_weight import compute_class_weight

from .._data.rows import Standardizer
from .._model.heads import classification_head
from ..likelihoods import Likelihood
from .state import Output, Target

# Training computes in float32, in which rates by these exposures are neither zero nor infinite.
EXPOSURES = 1e-20, 1e20
# Its square, and that of a hundredth of it, are float64 numbers with all their digits.
LEAST_SPREAD = 1e-150


class TargetReader(ABC):
    """What one fit knows of its targets before it has chosen rows; y is always of shape (n_rows, n_outputs), float64."""

    def exposures(self, X: Any, weight: np.ndarray) -> np.ndarray | None:
        """What each row's counts were gathered over, (n_rows,), or None."""
        return None

    def strata(self, y: np.ndarray) -> np.ndarray | None:
        """Class codes, (n_rows,), that held-out rows hold in proportion; None of numbers."""
        return None

    def log_class_weight(self) -> float | np.ndarray:
        """What class weights add to the logits, (n_logits,)."""
        return 0.0

    def settings_of_arrays(self) -> dict[str, Any]:
        """Parameters with which a copy of the estimator fits an array as it fits a frame with names."""
        return {}

    def continues(self, before: Output) -> bool:
        """Whether weights of an earlier fit speak in the units of this one."""
        return True

    @abstractmethod
    def given(self, y: np.ndarray) -> np.ndarray:
        """Targets as ``fit`` takes them."""

    @abstractmethod
    def target(
        self,
        y: np.ndarray,
        weight: np.ndarray,
        exposure: np.ndarray | None,
        *,
        before: Output | None,
        standardize: bool,
    ) -> Target:
        """Targets of the rows to train on.

        Parameters
        ----------
        y : ndarray of shape (n_rows, n_outputs)
        weight : ndarray of shape (n_rows,)
        exposure : ndarray of shape (n_rows,) or None
        before : Output or None
            Of the fit that ``warm_start`` continues, whose units stay.
        standardize : bool
        """


@dataclass(frozen=True, kw_only=True)
class Labels(TargetReader):
    """Classes, read as codes.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    weights : ndarray of shape (n_classes,)
        Class weights in the loss.
    weighted : bool
        Whether the user asked for any.
    """

    classes: np.ndarray
    weights: np.ndarray
    weighted: bool

    def strata(self, y: np.ndarray) -> np.ndarray:
        """Class codes."""
        return y[:, 0].astype(int)

    def given(self, y: np.ndarray) -> np.ndarray:
        """Labels."""
        return self.classes[self.strata(y)]

    def log_class_weight(self) -> float | np.ndarray:
        """A class of weight w is learned as if it came w times as often: log w, for two classes its difference."""
        if not self.weighted:
            return 0.0
        # A class of weight 0 is never seen, and says nothing of how often it comes: it stays as improbable as it is.
        shift = np.log(np.where(self.weights > 0, self.weights, self.weights.max()))
        return shift[1:] - shift[:1] if len(shift) == 2 else shift

    def target(
        self,
        y: np.ndarray,
        weight: np.ndarray,
        exposure: np.ndarray | None,
        *,
        before: Output | None,
        standardize: bool,
    ) -> Target:
        """0/1 or one-hot classes."""
        codes, head = self.strata(y), classification_head(len(self.classes))
        encoded = codes[:, None] if head.n_outputs == 1 else np.eye(len(self.classes), dtype=np.float32)[codes]
        output = Output(head=head, standardizer=Standardizer.identity(head.n_outputs))
        return Target(output=output, y=encoded.astype(np.float32), weight=weight * self.weights[codes], strata=codes)


@dataclass(frozen=True, kw_only=True)
class Values(TargetReader):
    """Numbers, read by a likelihood.

    Attributes
    ----------
    likelihood : Likelihood
        The fit's own copy.
    exposure : int or None
        Column of X that is no feature but what counts were gathered over.
    single : bool
        Whether y is one column.
    """

    likelihood: Likelihood
    exposure: int | None
    single: bool

    def exposures(self, X: Any, weight: np.ndarray) -> np.ndarray | None:
        """Values of the exposure's column; those of rows that count are checked."""
        return exposures_of(X, self.exposure, self.likelihood, weight)

    def given(self, y: np.ndarray) -> np.ndarray:
        """Of one column, a vector."""
        return y[:, 0] if self.single else y

    def settings_of_arrays(self) -> dict[str, Any]:
        """The likelihood, with the position of the exposure in place of its name."""
        if self.exposure is None:
            return {}
        return {"likelihood": clone(self.likelihood).set_params(exposure=self.exposure)}

    def continues(self, before: Output) -> bool:
        """Whether targets are transformed alike, for the same exposure."""
        family = before.likelihood
        same = family is not None and family.target_transform == self.likelihood.target_transform
        return same and before.exposure == self.exposure

    def target(
        self,
        y: np.ndarray,
        weight: np.ndarray,
        exposure: np.ndarray | None,
        *,
        before: Output | None,
        standardize: bool,
    ) -> Target:
        """Standardised values, multiples of their mean, or counts."""
        likelihood = self.likelihood
        y = likelihood.transform_target(y)
        if before is not None:
            standardizer = before.standardizer
        elif likelihood.target_transform in ("divide", "count"):
            standardizer = Standardizer.by_mean(y, weight, exposure, of_positive=likelihood.has_zero_probability)
        elif standardize and likelihood.target_transform is not None:
            standardizer = Standardizer.fit(y, weight)
        else:
            standardizer = Standardizer.identity(y.shape[1])
        if np.any(standardizer.scale < LEAST_SPREAD):
            raise ValueError(
                f"y varies by {standardizer.scale.min():.3g} only, and float64 has no number for the square of that, a variance. "
                f"Multiply y, by 1e100 for example."
            )
        z = y if likelihood.target_transform == "count" else (y - standardizer.shift) / standardizer.scale
        if likelihood.target_transform == "divide":
            check_multiples(z, likelihood)
        z = (z if exposure is None else np.column_stack([z, exposure])).astype(np.float32)
        output = Output(
            head=likelihood.head(y.shape[1]),
            standardizer=standardizer,
            likelihood=likelihood,
            exposure=self.exposure,
            single=self.single,
        )
        return Target(output=output, y=z, weight=weight)


def class_weights(
    asked: Any, classes: np.ndarray, codes: np.ndarray, y: np.ndarray, sample_weight: np.ndarray
) -> np.ndarray:
    """Weight of each class in the loss, (n_classes,).

    Parameters
    ----------
    asked : dict, "balanced" or None
    classes : ndarray of shape (n_classes,)
    codes : ndarray of int, shape (n_rows,)
    y : ndarray of shape (n_rows,)
        Labels.
    sample_weight : ndarray of shape (n_rows,)

    Raises
    ------
    ValueError
        If weights are negative, not finite, or all zero.
    """
    if isinstance(asked, str):
        mass = np.bincount(codes, weights=sample_weight, minlength=len(classes))
        return np.divide(mass.sum(), len(classes) * mass, out=np.zeros_like(mass), where=mass > 0)
    weights = compute_class_weight(asked, classes=classes, y=y)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"class_weight must hold finite weights ≥ 0, not all of them 0, got {asked!r}.")
    return weights


def exposure_column(likelihood: Likelihood, n_features: int, names: np.ndarray | None) -> int | None:
    """Position of the column of X that a likelihood takes for the exposure; None if it takes none.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    column = getattr(likelihood, "exposure", None)
    if column is None:
        return None
    what = f"{type(likelihood).__name__}(exposure={column!r})"
    if isinstance(column, str):
        if names is None:
            raise ValueError(
                f"{what} names a column, but X has no column names, got an array. Pass a DataFrame, or the column's position."
            )
        found = np.flatnonzero(names == column)
        if not len(found):
            raise ValueError(f"{what} names no column of X, which has {names.tolist()}. Pass one of these names.")
        return int(found[0])
    if column >= n_features:
        raise ValueError(f"{what}: X has {n_features} columns. Pass a position from 0 to {n_features - 1}.")
    return int(column)


def exposures_of(
    X: Any, column: int | None, likelihood: Likelihood, weight: np.ndarray | None = None
) -> np.ndarray | None:
    """What each row's counts are gathered over, (n_rows,), or None without such a column.

    Raises
    ------
    ValueError
        If the exposure of a row that counts (of positive `weight`, or any) is no positive number that float32 holds.
    """
    if column is None:
        return None
    found = X[:, [column]]
    exposure = np.asarray(found.toarray() if sparse.issparse(found) else found, float)[:, 0]
    counted = exposure if weight is None else exposure[weight > 0]
    asked = getattr(likelihood, "exposure", column)
    if np.any(counted <= 0):
        raise ValueError(
            f"The exposure of counts must be positive, got a minimum of {counted.min():g} in column {asked!r} "
            f"({np.count_nonzero(counted <= 0)} of {len(counted)} rows ≤ 0). Leave rows without exposure out, "
            f"and let a transformer that scales X pass this column on."
        )
    low, high = EXPOSURES
    if np.any((counted < low) | (counted > high)):
        raise ValueError(
            f"The exposure of counts must lie between {low:g} and {high:g}, got values between {counted.min():g} and "
            f"{counted.max():g} in column {asked!r}. Give it in another unit."
        )
    return exposure


def check_multiples(z: np.ndarray, likelihood: Likelihood) -> None:
    """Raise ValueError where multiples of the mean are not numbers that float32 tells from zero and infinity."""
    limit = 1e37
    if not np.all((z == 0) | ((np.abs(z) >= 1 / limit) & (np.abs(z) <= limit))):
        raise ValueError(
            f"The {type(likelihood).__name__} likelihood holds targets between 1e-37 and 1e37 times their mean, got y between "
            f"{np.min(z):.3g} and {np.max(z):.3g} times its mean. Use likelihood='lognormal', which is trained on log y."
        )
