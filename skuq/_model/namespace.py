"""The functions of arrays that a log density is written with, so that it stands once for NumPy and for every backend.

A likelihood's ``log_density(self, xp, y, parameters)`` computes with operators (``+ - * / ** < >``), indexing and the functions
of `xp`. Here `xp` is filled by NumPy and SciPy; each backend fills it with its framework in a module of the same name.

``abs, arctan, cos, digamma, erf, exp, expm1, lgamma, log, log1p, sigmoid, sin, softplus, sqrt, square, tanh`` take an array;
``maximum, minimum, logaddexp, xlogy`` two arrays of which one may be a number; ``where`` a condition and two values, and
``clip`` an array and two numbers. ``constant`` is its argument without a gradient. ``positive`` is softplus whose gradient
is at least `LEAST_SLOPE`: a noise that one bad step threw far below its floor would else never come back.
"""

from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np
from scipy import special

# The slope of softplus at −6.9.
LEAST_SLOPE = 1e-3


@dataclass(frozen=True)
class Namespace:
    """Functions of one library's arrays, under the names of NumPy and SciPy."""

    name: str
    abs: Any
    arctan: Any
    clip: Any
    constant: Any
    cos: Any
    digamma: Any
    erf: Any
    exp: Any
    expm1: Any
    lgamma: Any
    log: Any
    log1p: Any
    logaddexp: Any
    maximum: Any
    minimum: Any
    positive: Any
    sigmoid: Any
    sin: Any
    softplus: Any
    sqrt: Any
    square: Any
    tanh: Any
    where: Any
    xlogy: Any


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


NUMPY = Namespace(
    "numpy",
    abs=np.abs,
    arctan=np.arctan,
    clip=np.clip,
    constant=np.asarray,
    cos=np.cos,
    digamma=special.digamma,
    erf=special.erf,
    exp=np.exp,
    expm1=np.expm1,
    lgamma=special.gammaln,
    log=np.log,
    log1p=np.log1p,
    logaddexp=np.logaddexp,
    maximum=np.maximum,
    minimum=np.minimum,
    positive=_softplus,
    sigmoid=special.expit,
    sin=np.sin,
    softplus=_softplus,
    sqrt=np.sqrt,
    square=np.square,
    tanh=np.tanh,
    where=np.where,
    xlogy=special.xlogy,
)

# From here on the asymptotic series are exact to 1e-12, and below it differences of log Γ keep their digits in float32.
_LARGE = 10.0


def stirling_rest(xp: Namespace, x: Any) -> Any:
    """Rest of Stirling's formula, log Γ(x) − [(x − ½) log x − x + ½ log 2π] for x > 0: no difference of large terms."""
    inverse = 1.0 / xp.maximum(x, _LARGE)
    square = inverse * inverse
    series = 1 / 1680 - square / 1188
    for coefficient in (1 / 1260, 1 / 360, 1 / 12):
        series = coefficient - square * series
    small = xp.minimum(x, _LARGE)
    direct = xp.lgamma(small) - (small - 0.5) * xp.log(small) + small - 0.5 * log(2 * pi)
    return xp.where(x >= _LARGE, inverse * series, direct)


def log_gamma_half_step(xp: Namespace, x: Any) -> Any:
    """Return log Γ(x + ½) − log Γ(x) − ½ log x for x > 0: no difference of large terms."""
    inverse = 1.0 / xp.maximum(x, _LARGE)
    square = inverse * inverse
    series = -1 / 8 + square * (1 / 192 - square * (1 / 640 - square * (17 / 14336 - square * 31 / 18432)))
    small = xp.minimum(x, _LARGE)
    direct = xp.lgamma(small + 0.5) - xp.lgamma(small) - 0.5 * xp.log(small)
    return xp.where(x >= _LARGE, inverse * series, direct)


def log_excess(xp: Namespace, d: Any, ratio: Any) -> Any:
    """The number d − log(1 + d) for d > −1, where `ratio` is 1 + d: given apart, for 1 + d keeps no digits of a small ratio."""
    near = xp.abs(d) < 0.5
    return d - xp.where(near, xp.log1p(xp.where(near, d, 0 * d)), xp.log(xp.where(near, 1.0 + 0 * d, ratio)))
