"""The update of all members' parameters after a backward pass: Adam, soft threshold, spectral norm."""

from collections.abc import Sequence
from itertools import groupby
from math import log

import torch

from ..._model.network import Network, Tensor
from .._protocol import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, LONGEST_GRADIENT, Knobs

_TINY = 1e-12


class Adam:
    """Adam (Kingma & Ba 2015) on one flat buffer, with what follows each of its steps.

    Parameters
    ----------
    parameters, gradient : Tensor of shape (n_members, n_parameters)
        Updated in place; read.
    mask : Tensor of shape (n_parameters,)
        1 for kernels, to which penalties apply.
    knobs : Knobs
    l1 : bool
        Whether to take the proximal step.
    """

    def __init__(
        self, parameters: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor, knobs: Knobs, l1: bool
    ) -> None:
        self._parameters, self._gradient = parameters, gradient
        self._l2, self._l1 = float(knobs.l2), float(knobs.l1)
        self._mask, self._proximal = mask, l1
        self._moments = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._n_steps = parameters.new_zeros(())
        self._scratch = torch.empty_like(parameters if l1 else parameters[:0])
        on_cpu = parameters.device.type == "cpu"
        self._limit = GradientLimit(gradient) if on_cpu else DeviceGradientLimit(gradient)

    def reset(self) -> None:
        """Forget the moments and the step count."""
        for state in (*self._moments, self._n_steps):
            state.zero_()
        self._limit.reset()

    def step(self, learning_rate: float | torch.Tensor) -> None:
        """Move the parameters along the gradient, in the order penalty, limit, Adam, soft threshold.

        Parameters
        ----------
        learning_rate : float or Tensor of shape ()
        """
        if self._l2:
            self._gradient.addcmul_(self._parameters, self._mask, value=self._l2)
        self._limit.apply()
        first, second = self._moments
        self._n_steps.add_(1)
        # The kernel behind torch.optim.Adam(fused=True), without that class's bookkeeping for each step.
        torch._fused_adam_(
            [self._parameters],
            [self._gradient],
            [first],
            [second],
            [],
            [self._n_steps],
            lr=learning_rate,
            beta1=ADAM_BETA1,
            beta2=ADAM_BETA2,
            weight_decay=0.0,
            eps=ADAM_EPSILON,
            amsgrad=False,
            maximize=False,
        )
        if self._proximal:
            self._soft_threshold(learning_rate)

    def _soft_threshold(self, learning_rate: float | torch.Tensor) -> None:
        # The threshold carries Adam's own preconditioner, so that the fixed point is the Lasso's.
        t = self._scratch
        torch.sqrt(self._moments[1], out=t)
        bias_correction = -torch.expm1(self._n_steps * log(ADAM_BETA2))
        t.mul_(bias_correction.rsqrt_()).add_(ADAM_EPSILON)
        torch.div(self._mask, t, out=t)
        t.mul_(learning_rate * self._l1)
        # x − clip(x, −t, t) is exactly 0 within the threshold.
        torch.clamp(self._parameters, min=-t, max=t, out=t)
        self._parameters.sub_(t)


class GradientLimit:
    """Shortens gradients to at most `LONGEST_GRADIENT` times the length that is usual for a member.

    Parameters
    ----------
    gradient : Tensor of shape (n_members, n_parameters)
        Shortened in place.
    """

    def __init__(self, gradient: torch.Tensor) -> None:
        self._gradient = gradient
        self.reset()

    def reset(self) -> None:
        """Forget what is usual."""
        # Mean of the squared length of each member's gradients, with the memory of Adam's second moment.
        self._squares = [0.0] * len(self._gradient)
        self._memory = 0.0  # sum of that mean's weights

    def apply(self) -> None:
        """Shorten the gradients, and take their lengths into account from now on."""
        lengths = torch.linalg.vector_norm(self._gradient, dim=1).tolist()
        factors = [1.0] * len(lengths)
        for m, length in enumerate(lengths):
            longest = LONGEST_GRADIENT * (self._squares[m] / self._memory) ** 0.5 if self._memory else 0.0
            # Nothing is known before the first gradient that is not zero.
            if length > longest > 0:
                factors[m], length = longest / length, longest
            self._squares[m] += (1 - ADAM_BETA2) * (length**2 - self._squares[m])
        self._memory += (1 - ADAM_BETA2) * (1 - self._memory)
        if min(factors) < 1:
            self._gradient.mul_(self._gradient.new_tensor(factors)[:, None])


class DeviceGradientLimit:
    """The same as :class:`GradientLimit` in the memory of a GPU, which the processor then need not wait for."""

    def __init__(self, gradient: torch.Tensor) -> None:
        self._gradient, self._one = gradient, gradient.new_ones(())
        self._squares, self._memory = gradient.new_zeros(len(gradient)), gradient.new_zeros(())

    def reset(self) -> None:
        """Forget what is usual."""
        self._squares.zero_()
        self._memory.zero_()

    def apply(self) -> None:
        """Shorten the gradients, and take their lengths into account from now on."""
        lengths = torch.linalg.vector_norm(self._gradient, dim=1)
        longest = LONGEST_GRADIENT * (self._squares / self._memory.clamp_min(_TINY)).sqrt()
        too_long = (lengths > longest) & (longest > 0)
        limited = torch.where(too_long, longest, lengths)
        self._gradient.mul_(torch.where(too_long, longest / lengths, self._one)[:, None])
        self._squares.lerp_(limited.square(), 1 - ADAM_BETA2)
        self._memory.lerp_(self._one, 1 - ADAM_BETA2)


class SpectralBound:
    """W ← W · min(1, bound / σ̂) for every hidden kernel, σ̂ by one power iteration carried from step to step.

    Parameters
    ----------
    network : Network
    parameters : Tensor of shape (n_members, n_parameters)
        Updated in place.
    bound : float
    generator : torch.Generator
    n_warm_up : int
        Power iterations before the first step.
    """

    def __init__(
        self, network: Network, parameters: torch.Tensor, bound: float, generator: torch.Generator, n_warm_up: int = 10
    ) -> None:
        self._bound = bound
        self._kernels = kernel_stacks(network.hidden_kernels, parameters)
        self._left = [
            parameters.new_empty(len(kernels), 1, kernels.shape[1]).normal_(generator=generator)
            for kernels in self._kernels
        ]
        self._n_warm_up = n_warm_up
        self.warm_up()

    def warm_up(self) -> None:
        """Bring the singular vectors up to date with the kernels."""
        for _ in range(self._n_warm_up):
            for kernels, left in zip(self._kernels, self._left, strict=True):
                _power_iteration(kernels, left)

    def step(self) -> None:
        """Estimate the norms and scale the kernels that exceed the bound."""
        for kernels, left in zip(self._kernels, self._left, strict=True):
            norm = _power_iteration(kernels, left)
            kernels.mul_(torch.clamp_max_(self._bound / norm, 1.0))


def kernel_stacks(tensors: Sequence[Tensor], flat: torch.Tensor) -> list[torch.Tensor]:
    """Batches of equal-shaped kernels, as views into flat parameters.

    Equal layers follow each other at equal distances, so for one member all of them make one batch; for several the
    batch is over members.
    """
    if len(flat) > 1:
        return [flat[:, t.start : t.stop].view(len(flat), *t.shape) for t in tensors]
    stacks = []
    for shape, group in groupby(tensors, key=lambda t: t.shape):
        equal = list(group)
        distance = equal[1].start - equal[0].start if len(equal) > 1 else 0
        strides = (distance, shape[1], 1)
        stacks.append(flat.as_strided((len(equal), *shape), strides, flat.storage_offset() + equal[0].start))
    return stacks


def _power_iteration(kernels: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
    """Update the left singular vectors, shape (batch, 1, n_in), in place; return the norms, (batch, 1, 1)."""
    right = torch.bmm(left, kernels)
    right.div_(torch.linalg.vector_norm(right, dim=2, keepdim=True).clamp_min_(_TINY))
    product = torch.bmm(right, kernels.mT)
    norm = torch.linalg.vector_norm(product, dim=2, keepdim=True).clamp_min_(_TINY)
    # A kernel that is zero now keeps its vector, for when it no longer is.
    torch.where(norm > _TINY, product.div_(norm), left, out=left)
    return norm
