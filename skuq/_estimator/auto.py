"""What "auto" and None stand for: every rule in one place, as a table and the functions that read it.

The numbers' reasons stand in ``docs/defaults.rst``. Each estimator's documentation, and the table there, are written from
here (:func:`sentences`, :func:`as_rst`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._data.encoding import ENCODINGS, Encoding
from .._model.network import Network
from .._training.loop import Schedule
from .._training.noise import SPREADS

# A linear model's loss is convex: it takes a higher rate, larger batches and a number of steps that does not grow with the rows.
LINEAR_RATE, LINEAR_BATCH, LINEAR_STEPS = 0.05, 4096, 4000
# A batch is one of so many parts of the rows, as a power of two within this range.
BATCHES, BATCH_RANGE = 10, (32, 256)
# Steps grow with this power of the rows, within these multiples of a method's own number; never fewer epochs than this.
EXPONENT, STEPS_RANGE, FEWEST_EPOCHS = 0.45, (2.5, 20.0), 5
# Bins already encode the steps and bends of a function, so fewer updates suffice.
ENCODED_STEPS = 200
# Share of the epochs without improvement after which training stops, and the least number of them.
PATIENCE, LEAST_PATIENCE = 0.6, 10
# Features of many values up to which a table is taken for one; what has more of them (embeddings, texts, images) has no axis
# that means something by itself.
MAX_ENCODED = 64
# Rows that each different one stands for, above which a network that fits each exactly errs by less than 1/50 nat a row.
MANY_COPIES = 25
# Weights of a network, above which five siblings beside it would need more memory than a table of that width takes.
MOST_SIBLING_WEIGHTS = 2**20
# Share of the epochs, the rate still rising, in which every epoch is scored: what is mostly noise is at its best there and soon
# past it.
WATCHED = 0.1


# Of rows that are no table, and where nothing else is said.
SILU = "silu"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast and how long to train a network with hidden layers.

    Attributes
    ----------
    rate : float
        Highest learning rate.
    steps : int
        Steps for each n^0.45 rows.
    """

    rate: float = 0.02
    steps: int = 200


@dataclass(frozen=True, kw_only=True)
class Auto:
    """One estimator's row of the table.

    Attributes
    ----------
    pace : Pace
    trained_projection : Pace or None
        Where a resnet's input projection is trained: each step moves the hidden state in proportion to the features that it adds
        up, and hundreds of them diverge at the rate at which a fixed projection needs few steps. None: as ever.
    encodes : bool
        Whether inputs stand beside their bins, where nothing speaks against it.
    smooth : bool
        Whether what is smooth is to be found first: first kernels start small, and so are the bins of features of many values.
    activation : str
        Of the hidden layers of a network for a table.
    equal_gaps : bool
        Whether the two values of each two-valued feature stand equally far apart, rare or not, where there are hidden layers.
    early_stopping : bool or "cross_fit"
        Of networks with hidden layers.
    only_noisy_tables : bool
        Whether networks train to the end, none holding rows out, where there is no noise to fit (each different row stands for
        many), or where the rows are no table (embeddings are told from foreign ones best by a network trained on all rows).
    n_siblings : int
        Networks that hold rows out for the network of "cross_fit"; 0 has each network of an ensemble hold out its own.
    watched : float
        Share of the epochs, from the first, in which every epoch is scored. Members of an ensemble average their noise out
        and may train past the best moment of one.
    spreads : tuple of float
        Shares of their spread among which held-out rows choose that of a regressor's draws.
    """

    pace: Pace = Pace()
    trained_projection: Pace | None = None
    encodes: bool = False
    smooth: bool = False
    activation: str = SILU
    equal_gaps: bool = True
    early_stopping: bool | str = "cross_fit"
    only_noisy_tables: bool = False
    n_siblings: int = 5
    watched: float = WATCHED
    spreads: tuple[float, ...] = (1.0,)


# Where a network settles between the rows is worth more steps to a mean than to a class boundary, unless steps are dear.
LONG = Pace(steps=400)
# Labels are noisy: units that end flat fit less of the noise than those that grow without bound.
CLASSES: dict[str, Any] = {"encodes": True, "activation": "tanh"}
NUMBERS: dict[str, Any] = {"encodes": True, "smooth": True}
ENSEMBLE: dict[str, Any] = {"early_stopping": True, "n_siblings": 0, "watched": 0.0}
# Siblings of these are dear: several weight samples each, or a thousand random features. Two say when to stop well enough.
BAYESIAN: dict[str, Any] = {"n_siblings": 2, "spreads": SPREADS}
AUTO = {
    "ProbabilisticClassifier": Auto(**CLASSES),
    "ProbabilisticRegressor": Auto(pace=LONG, **NUMBERS),
    # Dropping units that have ended flat moves the mean of the draws; elu has one such end only.
    "MCDropoutClassifier": Auto(encodes=True, activation="elu", spreads=SPREADS),
    "MCDropoutRegressor": Auto(pace=LONG, **NUMBERS, spreads=SPREADS),
    "DeepEnsembleClassifier": Auto(**CLASSES, **ENSEMBLE),
    "DeepEnsembleRegressor": Auto(pace=LONG, **NUMBERS, **ENSEMBLE),
    "BNNClassifier": Auto(**CLASSES, **BAYESIAN),
    "BNNRegressor": Auto(**NUMBERS, **BAYESIAN),
    # A second network would double the time of a fit.
    "SNGPClassifier": Auto(
        pace=Pace(steps=40),
        trained_projection=Pace(rate=0.003, steps=200),
        early_stopping=True,
        only_noisy_tables=True,
        n_siblings=2,
        equal_gaps=False,
    ),
    # The kernel's distances are to be those of the features, each of variance 1: no bins.
    "SNGPRegressor": Auto(pace=Pace(rate=0.01), n_siblings=2, equal_gaps=False),
}


def schedule_of(settings: Any, auto: Auto, network: Network, n_rows: int) -> Schedule:
    """How long to train and how fast.

    Parameters
    ----------
    settings : CommonParameters
        As the user set them.
    auto : Auto
    network : Network
    n_rows : int
        Different rows to train on.
    """
    linear = not network.hidden_layer_sizes
    batch_size = batch_size_of(settings.batch_size, n_rows, linear)
    pace = pace_of(auto, network)
    n_epochs = settings.max_iter
    if n_epochs is None:
        low, high = (pace.steps * factor for factor in STEPS_RANGE)
        steps = LINEAR_STEPS if linear else np.clip(pace.steps * n_rows**EXPONENT, low, high)
        n_epochs = max(FEWEST_EPOCHS, round(steps / -(-n_rows // batch_size)))
    rate = settings.learning_rate_init
    if isinstance(rate, str):
        rate = LINEAR_RATE if linear else pace.rate
    return Schedule(
        n_epochs=n_epochs,
        batch_size=batch_size,
        learning_rate_init=float(rate),
        learning_rate=settings.learning_rate,
        shuffle=settings.shuffle,
        tol=settings.tol,
        patience=settings.n_iter_no_change or max(LEAST_PATIENCE, int(PATIENCE * n_epochs)),
        watched=auto.watched,
    )


def batch_size_of(asked: int | str, n_rows: int, linear: bool) -> int:
    """Rows of a training step."""
    if not isinstance(asked, str):
        return min(int(asked), n_rows)
    if linear:
        return min(n_rows, LINEAR_BATCH)
    return min(n_rows, int(np.clip(2 ** round(np.log2(max(n_rows, 1) / BATCHES)), *BATCH_RANGE)))


def pace_of(auto: Auto, network: Network) -> Pace:
    """How fast and how long to train this network."""
    pace = auto.pace
    if auto.trained_projection is not None and not network.frozen_projection:
        pace = auto.trained_projection
    return replace(pace, steps=min(pace.steps, ENCODED_STEPS)) if network.encoding is not None else pace


def early_stopping_of(
    asked: bool | str, auto: Auto, network: Network, copies: np.ndarray, is_table: bool
) -> bool | str:
    """What ``early_stopping`` stands for.

    Parameters
    ----------
    asked : bool, "cross_fit" or "auto"
    auto : Auto
    network : Network
    copies : ndarray of int, shape (n_rows,)
        Rows that each different one stands for.
    is_table : bool
        See :func:`is_a_table`.
    """
    if asked != "auto":
        return asked
    if not network.hidden_layer_sizes:
        return False
    needless = not is_table or copies.sum(dtype=float) >= MANY_COPIES * len(copies)
    if auto.only_noisy_tables and needless:
        return False
    is_wide = auto.early_stopping == "cross_fit" and network.n_weights > MOST_SIBLING_WEIGHTS
    return True if is_wide else auto.early_stopping


def activation_of(asked: str, auto: Auto, is_table: bool) -> str:
    """Activation of the hidden layers."""
    if asked != "auto":
        return asked
    return auto.activation if is_table else SILU


def is_a_table(several: np.ndarray) -> bool:
    """Whether columns mean something by themselves, unlike those of embeddings: few have more than two different values."""
    return int(several.sum()) <= MAX_ENCODED


def encoding_of(
    parameters: Mapping[str, Any], several: np.ndarray, sizes: tuple[int, ...], before: Encoding | None, fits: bool
) -> Encoding:
    """Which features are encoded, and how.

    Parameters
    ----------
    parameters : dict
        Of the constructor: `input_encoding`, a key of :data:`skuq._data.encoding.ENCODINGS`, "auto" or None, and the numbers
        of the encodings.
    several : ndarray of bool, shape (n_features,)
        Features of more than two values.
    sizes : tuple of int
        Widths of the hidden layers.
    before : Encoding or None
        Of the fit that ``warm_start`` continues: weights that are trained further belong to the features that were encoded when
        training began.
    fits : bool
        Whether "auto" may encode at all.

    Raises
    ------
    ValueError
        If the encoding is asked for without hidden layers.
    """
    asked = parameters["input_encoding"]
    if asked in ENCODINGS and not sizes:
        raise ValueError(
            f"input_encoding={asked!r} needs hidden layers, got hidden_layer_sizes=(). Use input_encoding=None."
        )
    auto = asked == "auto"
    wanted = fits and bool(sizes) if auto else asked is not None
    kind = ENCODINGS["piecewise_linear" if auto else asked].from_parameters(parameters) if wanted else None
    request = (asked, kind)
    if before is not None and before.asked == request:
        return before
    if before is not None and kind is not None and before.is_like(kind):
        return replace(before, asked=request)
    return Encoding.of(request, None if auto and not is_a_table(several) else kind, several)


# The table as documentation.


def sentences(auto: Auto) -> dict[str, str]:
    """What "auto" or None stands for, in words, by the name of the parameter."""
    low, high = BATCH_RANGE
    stopping, only = _stopping(auto), f" (embeddings: more than {MAX_ENCODED} features of more than two values)"
    if auto.only_noisy_tables:
        stopping += (
            f", but False where the rows are no table{only} or each different row stands for {MANY_COPIES} or more"
        )
    encoding = "None"
    if auto.encodes:
        encoding = (
            f'"piecewise_linear" where there are hidden layers and at most {MAX_ENCODED} features have more than two values, but '
            f"None under an L1 penalty, which selects features, and for likelihoods with a probability of zero"
        )
    activation = f'"{auto.activation}"'
    if auto.activation != SILU:
        activation += f', "{SILU}" where the rows are no table{only}'
    return {
        "activation": activation,
        "input_encoding": encoding,
        "batch_size": (
            f"about 1/{BATCHES} of the rows, between {low} and {high}; up to {LINEAR_BATCH}, all of them, for a linear model"
        ),
        "learning_rate_init": _join(_rate(auto), f"{LINEAR_RATE:g} for a linear model"),
        "max_iter": (
            f"as many as make about {_steps(auto)} n^{EXPONENT:g} steps for n different rows, n^{EXPONENT:g} taken between "
            f"{STEPS_RANGE[0]:g} and {STEPS_RANGE[1]:g}, but at least {FEWEST_EPOCHS} epochs; {LINEAR_STEPS} steps for a linear "
            f"model"
        ),
        "early_stopping": _join(stopping, "False for a linear model"),
        "n_iter_no_change": f"{PATIENCE:.0%} of the epochs, at least {LEAST_PATIENCE}".replace("%", " %"),
    }


def _join(*parts: str) -> str:
    return "; ".join(parts)


def _rate(auto: Auto) -> str:
    trained = auto.trained_projection
    return f"{auto.pace.rate:g}" + (f" ({trained.rate:g} where the input projection is trained)" if trained else "")


def _steps(auto: Auto) -> str:
    trained, steps = auto.trained_projection, auto.pace.steps
    notes = [f"{trained.steps} where the input projection is trained"] if trained else []
    notes += [f"{ENCODED_STEPS} where inputs are encoded"] if steps > ENCODED_STEPS else []
    return f"{steps}" + (f" ({', '.join(notes)})" if notes else "")


def _stopping(auto: Auto) -> str:
    if auto.early_stopping == "cross_fit":
        return f'"cross_fit" with {auto.n_siblings} siblings (True above 2^20 weights)'
    return "True, each member with another fold" if not auto.n_siblings else f"{auto.early_stopping}"


def as_rst() -> str:
    """The table, as ``docs/defaults.rst`` shows it."""
    header = (
        "estimator",
        "highest rate",
        "steps / n\\ :sup:`0.45`",
        "early stopping",
        "activation",
        "bins",
        "spreads of the draws",
    )
    rows = [header]
    for name, auto in AUTO.items():
        regressor = name.endswith("Regressor")
        spreads = f"{min(auto.spreads):g} to 1" if regressor and len(auto.spreads) > 1 else ""
        tables = " (tables with noise)" if auto.only_noisy_tables else ""
        bins = ("small" if auto.smooth else "yes") if auto.encodes else ""
        rows.append((name, _rate(auto), _steps(auto), _stopping(auto) + tables, auto.activation, bins, spreads))
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"
