"""PyTorch's side of ``skuq/_model/namespace.py``."""

from collections.abc import Callable
from typing import cast

import torch
from torch.nn import functional as F

from ..._model.namespace import LEAST_SLOPE, Namespace


def _of_two(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> Callable[[torch.Tensor | float, torch.Tensor | float], torch.Tensor]:
    """The function of two tensors, of which one may be a number."""

    def call(x: torch.Tensor | float, y: torch.Tensor | float) -> torch.Tensor:
        # Filled where it stands: to copy a number to the GPU is what no recording allows.
        if not isinstance(x, torch.Tensor):
            x = cast(torch.Tensor, y).new_full((), x)
        if not isinstance(y, torch.Tensor):
            y = x.new_full((), y)
        return function(x, y)

    return call


def _where(condition: torch.Tensor, x: torch.Tensor | float, y: torch.Tensor | float) -> torch.Tensor:
    like = next(
        (v for v in (x, y) if isinstance(v, torch.Tensor)),
        torch.empty((), dtype=torch.float32, device=condition.device),
    )
    x, y = (v if isinstance(v, torch.Tensor) else like.new_full((), v) for v in (x, y))
    return torch.where(condition, x, y)


def _positive(raw: torch.Tensor) -> torch.Tensor:
    value = F.softplus(raw)
    # The same value, with the least slope where softplus is flatter.
    sloped = value.detach() + LEAST_SLOPE * (raw - raw.detach())
    return torch.where(torch.sigmoid(raw.detach()) < LEAST_SLOPE, sloped, value)


TORCH = Namespace(
    "torch",
    abs=torch.abs,
    arctan=torch.atan,
    clip=torch.clamp,
    constant=torch.Tensor.detach,
    cos=torch.cos,
    digamma=torch.digamma,
    erf=torch.erf,
    exp=torch.exp,
    expm1=torch.expm1,
    lgamma=torch.lgamma,
    log=torch.log,
    log1p=torch.log1p,
    logaddexp=_of_two(torch.logaddexp),
    maximum=_of_two(torch.maximum),
    minimum=_of_two(torch.minimum),
    positive=_positive,
    sigmoid=torch.sigmoid,
    sin=torch.sin,
    softplus=F.softplus,
    sqrt=torch.sqrt,
    square=torch.square,
    tanh=torch.tanh,
    where=_where,
    xlogy=_of_two(torch.xlogy),
)
