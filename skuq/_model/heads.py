"""What a network's outputs mean: parameters of a density, links, and how compiled functions are found by them.

A head needs of a likelihood its parameters, its log density and its support; the families stand in ``skuq/likelihoods.py``.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from types import FunctionType
from typing import Any

import joblib
import numpy as np
from scipy import special

from .namespace import NUMPY, Namespace

# Of NumPy or of a framework.
Array = Any
Link = str | Callable[[Namespace, Array], Array]

# Means of rows are sought from e^−30 to e^30 ≈ 1e13 times the mean of y: the squares of gradients, which go with y over the mean,
# then stay finite in float32.
EXP_LIMIT = 30.0
# A probability stays 3e-7 away from 0 and 1: float32 tells these from 1.
LOGIT_LIMIT = 15.0
# Raw values between which a link of the user's own is inverted.
RAW_LIMIT = 100.0

# The maps from an unbounded raw value to a parameter's range, with the functions of a namespace.
LINKS: dict[str, Callable[[Namespace, Array], Array]] = {
    "identity": lambda xp, raw: raw,
    "softplus": lambda xp, raw: xp.positive(raw),
    "exp": lambda xp, raw: xp.exp(xp.clip(raw, -EXP_LIMIT, EXP_LIMIT)),
    "logit": lambda xp, raw: xp.sigmoid(xp.clip(raw, -LOGIT_LIMIT, LOGIT_LIMIT)),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a likelihood and where its value comes from.

    Attributes
    ----------
    name : str
        Its name in the family, such as "loc".
    link : {"identity", "softplus", "exp", "logit"} or callable
        How the parameter comes from the unbounded raw value r: ``floor + link(r)``. "identity": r. "softplus":
        log(1 + eʳ) > 0. "exp": eʳ > 0. "logit": 1 / (1 + e⁻ʳ), a probability. Or a monotone function of your own,
        ``link(xp, raw)``, written as a log density is.
    source : {"input", "constant", "fixed"}
        "input": an output of the network, different for each row. "constant": one learned number per
        target. "fixed": a number the user gave, never trained: the likelihood's attribute of the same name.
    floor : float
        Added to the linked value.
    in_units : bool
        Whether the value is then multiplied by the mean of the target over all rows (``target_transform="count"``): counts stay
        whole numbers in training, and the network says how many times the mean of all rows a row's mean is.
    """

    name: str
    link: Link
    source: str
    floor: float = 0.0
    in_units: bool = False


class _GivenAtRunTime:
    """Stands for a fixed number while its density is compiled: the number itself is an input of the compiled function."""

    def __repr__(self) -> str:
        return "<a fixed number: read it from parameters[…], not from self>"


_GIVEN_AT_RUN_TIME = _GivenAtRunTime()


def _content(value: Any) -> Any:
    """Hashable that is equal for equal settings, whatever objects hold them."""
    if isinstance(value, (str, Real, type, type(None), _GivenAtRunTime)):
        return value
    if isinstance(value, tuple):
        return tuple(map(_content, value))
    if isinstance(value, FunctionType):
        cells = tuple(_content(cell.cell_contents) for cell in value.__closure__ or ())
        defaults = _content((value.__defaults__, tuple((value.__kwdefaults__ or {}).items())))
        return value.__module__, value.__code__, defaults, cells
    return joblib.hash(value)


class Density:
    """The log density of a likelihood: equal and hashed by its class and settings, without the numbers the user fixed.

    Parameters
    ----------
    likelihood : Likelihood
    """

    def __init__(self, likelihood: Any) -> None:
        self.likelihood = likelihood

    def __reduce__(self) -> tuple[Any, ...]:
        return Density, (self.likelihood,)

    @cached_property
    def _compiled(self) -> Any:
        likelihood = copy.copy(self.likelihood)
        for parameter in likelihood.parameters():
            if parameter.source == "fixed":
                setattr(likelihood, parameter.name, _GIVEN_AT_RUN_TIME)
        return likelihood

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        settings = self._compiled.get_params(deep=False)
        ignored = self.likelihood._not_in_density
        return type(self.likelihood), tuple((k, _content(v)) for k, v in sorted(settings.items()) if k not in ignored)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Density) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __call__(self, xp: Namespace, y: Array, parameters: dict[str, Array]) -> Array:
        """Log density of targets, in nats: see :meth:`Likelihood.log_density`."""
        return self._compiled.log_density(xp, y, parameters)


@dataclass(frozen=True, eq=False)
class Head:
    """What a network's output means: the density, its parameters, the number of targets.

    Raw outputs stand parameter by parameter: columns ``[j * n_outputs, (j + 1) * n_outputs)`` belong to the j-th
    parameter of source "input". The learned constants are laid out the same way. Heads are equal where their settings
    are: compiled functions are found by them.

    Attributes
    ----------
    family : str
        Name of a family of skuq's own, or of a classifier's: "bernoulli", "categorical". Empty for a user's likelihood.
    parameters : tuple of Parameter
    n_outputs : int
    density : Density or None
        None for classifiers, whose cross entropy is each backend's own.
    has_exposure : bool
        Whether the last column of targets is the row's exposure, which multiplies the parameters that are `in_units`.
    """

    family: str
    parameters: tuple[Parameter, ...]
    n_outputs: int
    density: Density | None = None
    has_exposure: bool = False

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        parameters = tuple((p.name, _content(p.link), p.source, p.floor, p.in_units) for p in self.parameters)
        return self.family, parameters, self.n_outputs, self.density, self.has_exposure

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Head) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.density is not None and any(callable(p.link) for p in self.parameters):
            # A link written inside the likelihood has no name to be pickled by: the likelihood makes it anew.
            return _head_of, (self.density.likelihood, self.n_outputs)
        return Head, (self.family, self.parameters, self.n_outputs, self.density, self.has_exposure)

    def of_rows(self, parameters: dict[str, Array], y: Array) -> tuple[dict[str, Array], Array]:
        """Parameters for each row's exposure, and its targets alone, from what holds for exposure 1 and a trainer's targets."""
        if not self.has_exposure:
            return parameters, y
        return self.exposed(parameters, y[..., self.n_outputs :]), y[..., : self.n_outputs]

    def exposed(self, parameters: dict[str, Array], exposure: Array) -> dict[str, Array]:
        """Parameters for an exposure, of shape (..., 1): those that are `in_units` go with it."""
        return parameters | {p.name: parameters[p.name] * exposure for p in self.parameters if p.in_units}

    def log_density(self, xp: Namespace, y: Array, parameters: dict[str, Array]) -> Array:
        """Log density of targets, in nats, for a regressor's head."""
        if self.density is None:
            raise TypeError(f"A head of {self.family!r} has no density: its cross entropy is each backend's own.")
        return self.density(xp, y, parameters)

    def _count(self, source: str) -> int:
        return sum(parameter.source == source for parameter in self.parameters)

    @property
    def n_raw(self) -> int:
        """Width of the network's output layer."""
        return self.n_outputs * self._count("input")

    @property
    def n_constants(self) -> int:
        """Number of learned constants."""
        return self.n_outputs * self._count("constant")

    @property
    def n_fixed(self) -> int:
        """Number of numbers that training does not change: those fixed by the user, then one unit a target, if any."""
        return self._count("fixed") + (self.n_outputs if self.has_units else 0)

    @property
    def has_units(self) -> bool:
        """Whether a parameter is multiplied by the unit of its target."""
        return any(parameter.in_units for parameter in self.parameters)

    @property
    def scales_loss(self) -> bool:
        """Whether the β-NLL weights losses: the scale is an output of the network."""
        return any(p.name == "scale" and p.source == "input" for p in self.parameters)

    @property
    def padding_target(self) -> float:
        """A target inside the support: for rows that only pad a batch."""
        if self.density is None:
            return 1.0
        likelihood = self.density.likelihood
        low, high = likelihood.support
        if low < 1 < high:
            return 1.0
        if np.isfinite(low) and np.isfinite(high):
            middle = 0.5 * (low + high)
            return float(np.floor(middle) if likelihood.discrete else middle)
        return float(low + 1 if np.isfinite(low) else high - 1)


def _head_of(likelihood: Any, n_outputs: int) -> Head:
    head: Head = likelihood.head(n_outputs)
    return head


def apply_link(link: Link, raw: Array, xp: Namespace = NUMPY) -> Array:
    """Map raw values to a parameter's range (before its floor is added)."""
    return link(xp, raw) if callable(link) else LINKS[link](xp, raw)


def invert_link(link: Link, value: np.ndarray) -> np.ndarray:
    """Raw value that the link maps to `value`; the nearest end of the raw range where there is none."""
    if link == "softplus":
        return value + np.log(-np.expm1(-value))
    if link == "exp":
        return np.log(value)
    if link == "logit":
        return special.logit(value)
    if isinstance(link, str):
        return value
    value = np.asarray(value, float)
    low, high = np.full(value.shape, -RAW_LIMIT), np.full(value.shape, RAW_LIMIT)
    with np.errstate(all="ignore"):
        rising = float(link(NUMPY, np.asarray(1.0))) > float(link(NUMPY, np.asarray(-1.0)))
        for _ in range(64):
            middle = 0.5 * (low + high)
            below = (link(NUMPY, middle) < value) == rising
            low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def split_parameters(head: Head, raw: Array, constants: Array, fixed: Array, xp: Namespace = NUMPY) -> dict[str, Array]:
    """Named parameters from raw outputs, with the arrays of any library.

    Parameters
    ----------
    head : Head
    raw : array of shape (..., n_rows, head.n_raw)
    constants : array of shape (..., head.n_constants)
    fixed : array of shape (head.n_fixed,)
        The numbers that the user fixed, then the units of the targets.
    xp : Namespace

    Returns
    -------
    dict of array, each broadcastable to (..., n_rows, n_outputs)
    """
    values = {}
    width, used = head.n_outputs, {"input": 0, "constant": 0, "fixed": 0}
    for parameter in head.parameters:
        i = used[parameter.source]
        used[parameter.source] += 1
        if parameter.source == "fixed":
            values[parameter.name] = fixed[i]
            continue
        source = raw if parameter.source == "input" else constants[..., None, :]
        linked = apply_link(parameter.link, source[..., i * width : (i + 1) * width], xp)
        linked = linked + parameter.floor if parameter.floor else linked
        values[parameter.name] = linked * fixed[head.n_fixed - width :] if parameter.in_units else linked
    return values


def link_parameters(
    head: Head, raw: np.ndarray, constants: np.ndarray, fixed: Sequence[float] | np.ndarray
) -> dict[str, np.ndarray]:
    """Turn raw outputs into named parameters.

    Parameters
    ----------
    head : Head
    raw : ndarray of shape (n_draws, n_rows, head.n_raw)
    constants : ndarray of shape (n_draws, head.n_constants)
    fixed : sequence of float, length head.n_fixed

    Returns
    -------
    dict of ndarray, each of shape (n_draws, n_rows, n_outputs) or broadcastable to it
    """
    values = split_parameters(head, raw, constants, np.asarray(fixed, float))
    return {name: np.reshape(value, (1, 1, 1)) if np.ndim(value) == 0 else value for name, value in values.items()}


def classification_head(n_classes: int) -> Head:
    """Head of a classifier: one logit for two classes, else one logit a class."""
    logits = (Parameter("logits", "identity", "input"),)
    return Head("bernoulli", logits, 1) if n_classes == 2 else Head("categorical", logits, n_classes)
