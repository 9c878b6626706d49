"""Activations and dense layers, forward and backward into preallocated buffers.

A layer's bias stands behind its kernel in the flat weights, so together they are one matrix, [kernel; bias], that
multiplies [h, 1].
"""

import torch
from torch import Tensor

aten = torch.ops.aten
_nn = torch._C._nn
# An output layer of fewer units than this is computed transposed.
NARROW = 16


# As tensors: a Python number would be converted anew in each call, which costs more than a small product.
_HALF, _ROOT_HALF, _TWO, _MINUS_ONE = (
    torch.tensor(value, dtype=torch.float32, device="cpu") for value in (0.5, 0.5**0.5, 2.0, -1.0)
)


def _tanh(z, out):
    # 2σ(2z) − 1: torch's vectorised sigmoid is several times faster than its tanh. Overwrites z, not needed again.
    torch.mul(z, _TWO, out=z)
    torch.sigmoid(z, out=z)
    torch.add(_MINUS_ONE, z, alpha=2, out=out)


def _gelu(z, out):
    # z Φ(z) = ½ (z + z erf(z/√2)). torch's own gelu (2.13, oneDNN) ignores the strides of `out`.
    torch.mul(z, _ROOT_HALF, out=out)
    torch.erf(out, out=out)
    torch.addcmul(z, z, out, out=out)
    out.mul_(_HALF)


# Activation into `out`; gradient with respect to z into `out`, given that with respect to a = act(z).
ACTIVATIONS = {
    "identity": (
        lambda z, out: out.copy_(z),
        lambda grad, z, a, out: out if out is grad else out.copy_(grad),
    ),
    "relu": (
        lambda z, out: torch.clamp_min(z, 0.0, out=out),
        lambda grad, z, a, out: aten.threshold_backward.grad_input(grad, a, 0.0, grad_input=out),
    ),
    "tanh": (
        _tanh,
        lambda grad, z, a, out: aten.tanh_backward.grad_input(grad, a, grad_input=out),
    ),
    "logistic": (
        lambda z, out: torch.sigmoid(z, out=out),
        lambda grad, z, a, out: aten.sigmoid_backward.grad_input(grad, a, grad_input=out),
    ),
    "silu": (
        lambda z, out: aten.silu.out(z, out=out),
        lambda grad, z, a, out: aten.silu_backward.grad_input(grad, z, grad_input=out),
    ),
    "gelu": (
        _gelu,
        lambda grad, z, a, out: aten.gelu_backward.grad_input(grad, z, grad_input=out),
    ),
    "elu": (
        lambda z, out: _nn.elu(z, out=out),  # type: ignore[call-arg]
        lambda grad, z, a, out: aten.elu_backward.grad_input(grad, 1.0, 1.0, 1.0, False, z, grad_input=out),
    ),
    "softplus": (
        lambda z, out: _nn.softplus(z, out=out),  # type: ignore[call-arg]
        lambda grad, z, a, out: aten.softplus_backward.grad_input(grad, z, 1.0, 20.0, grad_input=out),
    ),
}


class Dense:
    """One layer: [kernel; bias], its gradient and its input [h, 1] as views into the flat buffers.

    Parameters
    ----------
    layer : tuple of Tensor
        The network's layout of kernel and bias.
    weights, gradient : Tensor of shape (n_draws, n_weights)
    inputs : Tensor of shape (n_draws, n_rows, n_in + 1)
        Without the column of ones for a layer without bias.
    """

    def __init__(self, layer, weights: Tensor, gradient: Tensor, inputs: Tensor) -> None:
        kernel, last = layer[0], layer[-1]
        n_in, n_out = kernel.shape
        shape = (len(weights), n_in + len(layer) - 1, n_out)
        self._affine, self._gradient = (flat[:, kernel.start : last.stop].view(shape) for flat in (weights, gradient))
        self._inputs = inputs
        self._affine_t, self._inputs_t, self._kernel_t = self._affine.mT, inputs.mT, self._affine[:, :n_in].mT
        # Batched products into rows of the flat gradient would run one by one.
        self._contiguous = inputs.new_empty(shape) if len(weights) > 1 else None

    def forward(self, out: Tensor) -> None:
        """Raw values of the layer, shape (n_draws, n_rows, n_out)."""
        torch.bmm(self._inputs, self._affine, out=out)

    def backward(self, grad: Tensor) -> None:
        """Write the gradient of [kernel; bias], given that of the raw values."""
        if self._contiguous is None:
            torch.bmm(self._inputs_t, grad, out=self._gradient)
        else:
            self._gradient.copy_(torch.bmm(self._inputs_t, grad, out=self._contiguous))

    def propagate(self, grad: Tensor, out: Tensor) -> None:
        """Write the gradient of the input h."""
        torch.bmm(grad, self._kernel_t, out=out)

    def accumulate(self, grad: Tensor, out: Tensor) -> None:
        """Add the gradient of the input h."""
        out.baddbmm_(grad, self._kernel_t)


class NarrowDense(Dense):
    """A layer of few outputs: the same products transposed, which MKL does several times faster."""

    def __init__(self, layer, weights: Tensor, gradient: Tensor, inputs: Tensor) -> None:
        super().__init__(layer, weights, gradient, inputs)
        n_out = self._affine.shape[2]
        self._out_t = inputs.new_empty(len(weights), n_out, inputs.shape[1])
        self._contiguous_t = torch.empty_like(self._affine_t, memory_format=torch.contiguous_format)
        self._single = n_out == 1

    def forward(self, out: Tensor) -> None:
        out.copy_(torch.bmm(self._affine_t, self._inputs_t, out=self._out_t).mT)

    def backward(self, grad: Tensor) -> None:
        self._gradient.copy_(torch.bmm(grad.mT, self._inputs, out=self._contiguous_t).mT)

    def propagate(self, grad: Tensor, out: Tensor) -> None:
        if self._single:
            torch.mul(grad, self._kernel_t, out=out)
        else:
            super().propagate(grad, out)
