"""What users pass, and how a wrong one is told what is right."""

from collections.abc import Iterator
from functools import wraps
from numbers import Integral
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils.validation import _check_sample_weight

# Larger weights, and smaller ones, count as if the largest were of this size; less than this share of the largest counts as none.
EXTREME, LEAST_SHARE = 1e100, 1e-30
COVERAGE_EXAMPLE = "For 90 % pass coverage=0.9."


def check_levels(name: str, values: Any, example: str) -> np.ndarray:
    """Probabilities strictly between 0 and 1, one number or a sequence, as a float array."""
    levels = np.asarray(values, dtype=float)
    if levels.ndim > 1 or levels.size == 0 or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {values!r}. {example}")
    return levels


def check_weights(sample_weight: Any, X: Any) -> np.ndarray:
    """Weights of the rows, ≥ 0 and not all zero, float64."""
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    largest = weight.max()
    if not largest > 0:
        raise ValueError("Sample weights must contain at least one non-zero number; all weights are zero.")
    if not 1 / EXTREME < largest < EXTREME:
        nearest = EXTREME if largest > 1 else 1 / EXTREME
        weight, largest = weight / largest * nearest, nearest
    # A row of so little weight beside another changes no digit of any sum, but its own product may be no number.
    return np.where(weight < LEAST_SHARE * largest, 0.0, weight)


def seed_entropy(random_state: Any) -> int | None:
    """Entropy for a SeedSequence: the seed itself, a number from the caller's generator, or the system's."""
    if random_state is None:
        return None
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(random_state.randint(2**31 - 1))


def seeds_of_fit(random_state: Any) -> dict[str, np.random.SeedSequence]:
    """Independent seed sequences of one fit, by what they are for."""
    names = ("members", "trainer", "folds", "features", "draws", "calibration")
    children = np.random.SeedSequence(seed_entropy(random_state)).spawn(len(names))
    return dict(zip(names, children, strict=True))


def check_hidden_sizes(hidden_layer_sizes: Any, architecture: str) -> tuple[int, ...]:
    """Widths of the hidden layers, one common width for a resnet."""
    wrong = ValueError(
        f"hidden_layer_sizes must be integers ≥ 1, one for each hidden layer, got {hidden_layer_sizes!r}. Pass (64, 64) for two "
        f"layers of 64 units, () for a linear model."
    )
    try:
        given = np.atleast_1d(np.asarray(hidden_layer_sizes))
    except ValueError:  # rows of several lengths
        raise wrong from None
    whole = (
        given.ndim == 1
        and given.dtype.kind in "iuf"
        and np.all(np.isfinite(given) & (given >= 1) & (given == np.trunc(given)))
    )
    if not whole:
        raise wrong
    sizes = tuple(int(size) for size in given)
    if architecture == "resnet" and len(set(sizes)) > 1:
        raise ValueError(
            f"architecture='resnet' adds each layer to the one before, so all hidden layers need one width, got "
            f"hidden_layer_sizes={hidden_layer_sizes!r}. Use equal sizes, or architecture='mlp'."
        )
    return sizes


# What other libraries call the probability inside an interval or set, and the one outside.
INSIDE = ("confidence_level", "confidence", "conf_level", "level")
OUTSIDE = ("alpha", "significance", "significance_level", "miscoverage")
Function = TypeVar("Function", bound=Any)


def says_coverage(function: Function) -> Function:
    """Let a function with the parameter `coverage`, or `quantiles`, say so to whoever passes it under another name."""

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name in (*INSIDE, *OUTSIDE):
            if name in kwargs:
                raise TypeError(_say_coverage(function.__name__, name, kwargs[name]))
        return function(*args, **kwargs)

    return cast(Function, checked)


def _say_coverage(function: str, name: str, value: Any) -> str:
    try:
        inside = np.asarray(value, dtype=float)
        inside = inside / 100 if np.all(inside > 1) and np.all(inside < 100) else inside
        example = (1 - inside if name in OUTSIDE else inside).round(10).tolist()
    except (TypeError, ValueError):
        example = 0.9
    got = f"{function} has no {name}, got {name}={value!r}."
    if function == "predict_quantiles":
        return (
            f"{got} For quantiles pass their levels, quantiles=(0.05, 0.95); for the central interval of that probability "
            f"use predict_interval with coverage={example}."
        )
    return f"{got} Pass the probability inside, coverage={example}."


def check_columns(X: Any) -> None:
    """Raise ``ValueError`` if a DataFrame has columns that are no numbers; it says which, and what turns them into numbers.

    Parameters
    ----------
    X : object
        Only frames of pandas and polars are looked at.
    """
    wrong = [column for column in _columns(X) if column is not None]
    if not wrong:
        return
    named = ", ".join(f"{name!r} ({dtype}, {kind})" for name, dtype, kind in wrong)
    remedies = " ".join(
        REMEDIES[kind].format(columns=[name for name, _, other in wrong if other == kind])
        for kind in REMEDIES
        if any(other == kind for *_, other in wrong)
    )
    raise ValueError(
        f"X must hold numbers, got columns that do not: {named}. {remedies} Put them before the estimator: "
        f"make_pipeline(make_column_transformer(..., remainder='passthrough'), estimator)."
    )


REMEDIES = {
    "dates": "Turn dates {columns} into numbers: days since a date, and parts such as the month or the hour (.dt).",
    "durations": "Turn durations {columns} into numbers of one unit, such as seconds (.dt.total_seconds()).",
    "categories": "Encode categories {columns} by OneHotEncoder, or TargetEncoder where they are many.",
    "texts": "Turn texts {columns} into numbers by TfidfVectorizer or an embedding, one column at a time.",
    "objects": "Turn objects {columns} into columns of numbers, or drop them.",
}


def _columns(X: Any) -> Iterator[tuple[Any, str, str] | None]:
    """For each column of a frame None, or (name, dtype, kind) if it holds no numbers."""
    if hasattr(X, "get_columns") and hasattr(X, "schema"):  # polars
        for column in X.get_columns():
            dtype = column.dtype
            if dtype.is_numeric() or str(dtype) in ("Boolean", "Null"):
                yield None
            elif dtype.is_temporal():
                yield column.name, str(dtype), "durations" if str(dtype).startswith("Duration") else "dates"
            else:
                yield _look(column.name, str(dtype), column.drop_nulls().to_numpy())
    elif hasattr(X, "iloc") and hasattr(X, "columns"):  # pandas; by position, for names may repeat
        for i, (name, dtype) in enumerate(zip(X.columns, X.dtypes, strict=True)):
            kind = getattr(dtype, "kind", "O")
            if kind in "biufc":
                yield None
            elif kind in "mM":
                yield name, str(dtype), "durations" if kind == "m" else "dates"
            else:
                values = getattr(dtype, "categories", None)
                values = X.iloc[:, i].dropna() if values is None else values
                yield _look(name, str(dtype), np.asarray(values))


def _look(name: Any, dtype: str, values: np.ndarray) -> tuple[Any, str, str] | None:
    """None if all values are numbers, or texts of numbers as scikit-learn takes them; else what the column is."""
    if values.dtype.kind in "biufc":
        return None
    try:
        values.astype(float)
    except (TypeError, ValueError):
        pass
    else:
        if values.dtype.kind not in "mM":
            return None
    first = next((value for value in values.ravel() if not _is_number(value)), None)
    if isinstance(first, str | bytes):
        words = np.mean([len(str(value).split()) for value in values[:1000]])
        return name, dtype, "texts" if words >= 4 else "categories"
    if hasattr(first, "total_seconds") or values.dtype.kind == "m":
        return name, dtype, "durations"
    if hasattr(first, "year") or hasattr(first, "hour") or values.dtype.kind == "M":
        return name, dtype, "dates"
    return name, dtype, "objects"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
