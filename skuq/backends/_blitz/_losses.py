"""Negative log-likelihoods of the heads, and their gradients with respect to raw outputs.

The three heads of nearly every fit (normal, Bernoulli, categorical) have their gradient written out over preallocated
buffers; the others, of which ``skuq/likelihoods.py`` writes the log density, go through autograd, from the raw outputs only.
"""

from collections.abc import Callable

import torch
from torch import distributions
from torch.nn import functional as F

from ..._model.heads import Head, split_parameters
from ..._model.namespace import LEAST_SLOPE
from ._namespace import TORCH


def link_parameters(
    head: Head, raw: torch.Tensor, constants: torch.Tensor, fixed: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Turn raw outputs into named parameters; the torch twin of :func:`skuq._model.heads.link_parameters`.

    Parameters
    ----------
    head : Head
    raw : Tensor of shape (..., n_rows, head.n_raw)
    constants : Tensor of shape (..., head.n_constants)
    fixed : Tensor of shape (head.n_fixed,)

    Returns
    -------
    dict of Tensor, each broadcastable to (..., n_rows, n_outputs)
    """
    return split_parameters(head, raw, constants, fixed, TORCH)


def negative_log_likelihood(
    head: Head, raw: torch.Tensor, constants: torch.Tensor, fixed: torch.Tensor, y: torch.Tensor, beta: float
) -> torch.Tensor:
    """Negative log-likelihood of each row, summed over targets, in nats.

    Parameters
    ----------
    head : Head
    raw : Tensor of shape (..., n_rows, head.n_raw)
    constants : Tensor of shape (..., head.n_constants)
    fixed : Tensor of shape (head.n_fixed,)
    y : Tensor broadcastable to (..., n_rows, n_outputs)
        Standardised targets, counts, 0/1 for "bernoulli", one-hot for "categorical".
    beta : float
        β of the β-NLL (Seitzer et al. 2022): the loss of each target is multiplied by scale^(2β), held constant.

    Returns
    -------
    Tensor of shape (..., n_rows)
    """
    if head.family == "bernoulli":
        return F.binary_cross_entropy_with_logits(raw, y.expand_as(raw), reduction="none").sum(-1)
    if head.family == "categorical":
        return -(y * raw.log_softmax(-1)).sum(-1)
    parameters, y = head.of_rows(link_parameters(head, raw, constants, fixed), y)
    if head.family == "normal":
        loss = -distributions.Normal(parameters["loc"], parameters["scale"], validate_args=False).log_prob(y)
    else:
        loss = -head.log_density(TORCH, y, parameters)
    if beta and head.scales_loss:
        loss = loss * parameters["scale"].detach() ** (2 * beta)
    return loss.sum(-1)


def _scale_source(head: Head) -> str | None:
    return next((parameter.source for parameter in head.parameters if parameter.name == "scale"), None)


def head_gradient(
    head: Head,
    raw: torch.Tensor,
    constants: torch.Tensor,
    fixed: torch.Tensor,
    beta: float,
    raw_gradient: torch.Tensor,
    constants_gradient: torch.Tensor,
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Return ``write(y, weight)``, which fills the two gradient buffers from the present raw outputs.

    The gradient is that of Σ weight · negative_log_likelihood.

    Parameters
    ----------
    head : Head
    raw, raw_gradient : Tensor of shape (n_members, n_samples, n_rows, head.n_raw)
        Buffers: what they hold when `write` is called is read and overwritten.
    constants, constants_gradient : Tensor of shape (n_members, n_samples, head.n_constants)
    fixed : Tensor of shape (head.n_fixed,)
    beta : float

    Returns
    -------
    callable of y, Tensor of shape (n_members, 1, n_rows, n_targets), and weight, (n_members, 1, n_rows, 1)
    """
    if head.family == "normal":
        return _normal_gradient(head, raw, constants, fixed, beta, raw_gradient, constants_gradient)
    if head.family in ("bernoulli", "categorical"):

        def write_cross_entropy(y: torch.Tensor, weight: torch.Tensor) -> None:
            if head.family == "bernoulli":
                torch.sigmoid(raw, out=raw_gradient)
            else:
                torch.softmax(raw, -1, out=raw_gradient)
            raw_gradient.sub_(y).mul_(weight)

        return write_cross_entropy

    def write(y: torch.Tensor, weight: torch.Tensor) -> None:
        with torch.enable_grad():
            leaves = raw.detach().requires_grad_(), constants.detach().requires_grad_()
            loss = (negative_log_likelihood(head, *leaves, fixed, y, beta).unsqueeze(-1) * weight).sum()
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        raw_gradient.copy_(gradients[0])
        if head.n_constants:
            constants_gradient.copy_(gradients[1])

    return write


def _normal_gradient(
    head: Head,
    raw: torch.Tensor,
    constants: torch.Tensor,
    fixed: torch.Tensor,
    beta: float,
    raw_gradient: torch.Tensor,
    constants_gradient: torch.Tensor,
) -> Callable[[torch.Tensor, torch.Tensor], None]:
    # With z = (loc − y)/s and f = weight · s^(2β − 1):  ∂/∂loc = z f,  ∂/∂s = (1 − z²) f.
    width = head.n_outputs
    loc, loc_gradient = raw[..., :width], raw_gradient[..., :width]
    source, floor = _scale_source(head), raw.new_tensor(head.parameters[1].floor)
    if source == "fixed":
        precision = fixed[0] ** -2

        def write_loc(y: torch.Tensor, weight: torch.Tensor) -> None:
            torch.sub(loc, y, out=loc_gradient)
            loc_gradient.mul_(weight).mul_(precision)

        return write_loc

    from_input = source == "input"
    raw_scale = raw[..., width:] if from_input else constants.unsqueeze(-2)
    scale_gradient = raw_gradient[..., width:] if from_input else constants_gradient
    power = 2.0 * beta - 1.0 if from_input else -1.0
    scale, sigmoid, f = (torch.empty_like(raw_scale) for _ in range(3))
    f = torch.empty_like(loc) if not from_input else f
    z = torch.empty_like(loc)

    def write(y: torch.Tensor, weight: torch.Tensor) -> None:
        factor = weight
        torch._C._nn.softplus(raw_scale, out=scale)  # type: ignore[call-arg]
        scale.add_(floor)
        torch.sub(loc, y, out=z)
        z.div_(scale)
        if power:
            torch.pow(scale, power, out=sigmoid)
            factor = torch.mul(sigmoid, weight, out=f)
        torch.mul(z, factor, out=loc_gradient)
        z.mul_(loc_gradient)
        torch.sub(factor, z, out=z)
        torch.sigmoid(raw_scale, out=sigmoid)
        sigmoid.clamp_min_(LEAST_SLOPE)
        if from_input:
            torch.mul(z, sigmoid, out=scale_gradient)
        else:
            torch.sum(z, dim=-2, out=scale_gradient)
            scale_gradient.mul_(sigmoid.squeeze(-2))

    return write
