"""Forward and backward pass of the network over a batch, by hand, for all members and weight samples at once.

Eager autograd costs more than the arithmetic of a small network. Here every product is one batched call into a
preallocated buffer, and gradients land directly in the flat gradient vector.

The parts are those of :class:`skuq._model.network.Network`: `ENCODINGS` has the twin of each encoding of the inputs and `TRUNKS`
that of each trunk, by their names.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._data.encoding import Periodic, PiecewiseLinear
from ..._model.network import Network
from ..._model.trunk import Mlp, Resnet
from ._encodings import Bins, PeriodicFeatures
from ._layers import ACTIVATIONS, NARROW, Dense, NarrowDense

ENCODINGS: dict[str, type[Bins] | type[PeriodicFeatures]] = {
    PiecewiseLinear.name: Bins,
    Periodic.name: PeriodicFeatures,
}


class Trunk:
    """The network from standardised inputs to raw outputs.

    Parameters
    ----------
    network : Network
    weights, gradient : Tensor of shape (n_draws, n_weights)
        Buffers that :meth:`forward` reads and :meth:`backward` fills (all but the head's constants).
    n_rows : int
    leading : (n_members, n_samples)
        What the draws are; their product is n_draws.
    features : dict of Tensor
        What `Network.fixed_shapes` lists.
    masks : list of Tensor of shape (n_draws, n_rows, size), or None
        Buffers of the dropout masks of each hidden layer, already divided by the keep probability.
    one_thread : bool
        Whether all of it runs on one thread.

    Attributes
    ----------
    raw, raw_gradient : Tensor of shape (n_draws, n_rows, n_raw)
        Raw outputs; write the loss's gradient there before :meth:`backward`.
    """

    def __init__(
        self,
        network: Network,
        weights: Tensor,
        gradient: Tensor,
        n_rows: int,
        leading: tuple[int, int],
        features: Mapping[str, Tensor],
        masks: Sequence[Tensor] | None = None,
        one_thread: bool = False,
    ) -> None:
        n_draws = len(weights)
        layout = network.trunk.layout()
        # States [h, 1]: the batch and what follows each layer of the trunk.
        widths = [network.n_inputs, *(layer.n_out for layer in layout)]
        states = [weights.new_ones(n_draws, n_rows, width + 1) for width in widths]
        inputs = states[0][..., :-1]
        self._inputs = inputs.unflatten(0, leading)[..., : network.n_features]
        self._encoding: Bins | PeriodicFeatures | None = None
        self._inputs_gradient: Tensor | None = None
        if network.encoding is not None and network.n_encoded:
            twin = ENCODINGS[network.encoding.name]
            self._encoding = twin(network, weights, gradient, features, inputs, leading, one_thread)
            if not network.encodes_alike:
                self._inputs_gradient = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        self.raw, self.raw_gradient = (weights.new_empty(n_draws, n_rows, network.head.n_raw) for _ in range(2))
        *layers, out = network.layers
        hidden = [Dense(layer, weights, gradient, state) for layer, state in zip(layers, states[:-1], strict=True)]
        self._hidden = TRUNKS[network.architecture](network, hidden, states, masks, self._inputs_gradient)
        self._features = _RandomFeatures(features, states[-1], one_thread) if network.n_inducing else None
        last = states[-1] if self._features is None else self._features.cosines
        self._out = (NarrowDense if network.head.n_raw < NARROW else Dense)(out, weights, gradient, last)

    def load(self, X: Tensor) -> None:
        """Take a batch, of shape (n_members, 1, n_rows, n_features)."""
        self._inputs.copy_(X)
        if self._encoding:
            self._encoding.load(X)

    def forward(self) -> None:
        """Fill `raw` from the batch, the weights and the masks."""
        if self._encoding:
            self._encoding.forward()
        self._hidden.forward()
        if self._features:
            self._features.forward()
        self._out.forward(self.raw)
        if self._features:
            self.raw.mul_(self._features.scale)

    def backward(self) -> None:
        """Fill the gradient of the weights from `raw_gradient`, which is overwritten."""
        if self._features:
            self.raw_gradient.mul_(self._features.scale)
        self._out.backward(self.raw_gradient)
        top = self._hidden.top
        if self._features and top is not None:
            self._out.propagate(self.raw_gradient, self._features.gradient)
            self._features.backward(top)
        elif top is not None:
            self._out.propagate(self.raw_gradient, top)
        self._hidden.backward()
        if self._encoding and self._inputs_gradient is not None:
            self._encoding.backward(self._inputs_gradient)


class PlainLayers:
    """Hidden layers of an mlp.

    Parameters
    ----------
    network : Network
    layers : list of Dense
        Those of the trunk's layout.
    states : list of Tensor of shape (n_draws, n_rows, width + 1)
        [h, 1] before the first layer and after each one.
    masks : list of Tensor of shape (n_draws, n_rows, size), or None
    inputs_gradient : Tensor of shape (n_draws, n_rows, n_inputs), or None
        Filled by :meth:`backward`, where something before the first layer is trained.

    Attributes
    ----------
    top : Tensor of shape (n_draws, n_rows, width), or None
        Gradient of the last hidden state: write it there before :meth:`backward`. None where nobody reads it.
    """

    def __init__(
        self,
        network: Network,
        layers: Sequence[Dense],
        states: Sequence[Tensor],
        masks: Sequence[Tensor] | None,
        inputs_gradient: Tensor | None,
    ) -> None:
        self._act, self._act_backward = ACTIVATIONS[network.activation]
        self._masks, self._inputs_gradient = masks, inputs_gradient
        self._layers, self._states = list(layers), [state[..., :-1] for state in states]
        self._allocate(network.hidden_layer_sizes)

    def _allocate(self, sizes: Sequence[int]) -> None:
        self._z = self._buffers(sizes)
        self._a = self._buffers(sizes) if self._masks else self._states[1:]
        self._gradients = self._buffers(sizes)
        self.top: Tensor | None = self._gradients[-1] if sizes else self._inputs_gradient

    def _buffers(self, widths: Sequence[int]) -> list[Tensor]:
        like = self._states[0]
        return [like.new_empty(*like.shape[:2], width) for width in widths]

    def forward(self) -> None:
        """Fill the states after the first from the first."""
        for i, layer in enumerate(self._layers):
            layer.forward(self._z[i])
            self._act(self._z[i], self._a[i])
            if self._masks:
                torch.mul(self._a[i], self._masks[i], out=self._states[i + 1])

    def backward(self) -> None:
        """Fill the gradient of the layers from `top`, which is overwritten."""
        below: list[Tensor | None] = [self._inputs_gradient, *self._gradients]
        for i in reversed(range(len(self._layers))):
            layer, grad = self._layers[i], self._gradients[i]
            if self._masks:
                torch.mul(grad, self._masks[i], out=grad)
            self._act_backward(grad, self._z[i], self._a[i], grad)
            layer.backward(grad)
            onward = below[i]
            if onward is not None:
                layer.propagate(grad, onward)


class ResidualLayers(PlainLayers):
    """A projection and the residual layers of a resnet."""

    def _allocate(self, sizes: Sequence[int]) -> None:
        self._projection = self._layers.pop(0) if sizes else None
        self._z, self._a = self._buffers(sizes), self._buffers(sizes)
        # The gradient of the stream is accumulated in one buffer.
        self._branch_gradient, stream = (self._buffers(sizes[:1]) for _ in range(2))
        self.top = stream[0] if sizes else self._inputs_gradient

    def forward(self) -> None:
        """Fill the states after the first from the first."""
        if self._projection is None:
            return
        self._projection.forward(self._states[1])
        for i, (layer, (before, after)) in enumerate(zip(self._layers, pairwise(self._states[1:]), strict=True)):
            layer.forward(self._z[i])
            self._act(self._z[i], self._a[i])
            if self._masks:
                torch.addcmul(before, self._a[i], self._masks[i], out=after)
            else:
                torch.add(before, self._a[i], out=after)

    def backward(self) -> None:
        """Fill the gradient of the layers from `top`, which is overwritten."""
        if self._projection is None or self.top is None:
            return
        (grad,) = self._branch_gradient
        for i in reversed(range(len(self._layers))):
            if self._masks:
                torch.mul(self.top, self._masks[i], out=grad)
            self._act_backward(grad if self._masks else self.top, self._z[i], self._a[i], grad)
            self._layers[i].backward(grad)
            self._layers[i].accumulate(grad, self.top)
        self._projection.backward(self.top)
        if self._inputs_gradient is not None:
            self._projection.propagate(self.top, self._inputs_gradient)


TRUNKS: dict[str, type[PlainLayers]] = {Mlp.name: PlainLayers, Resnet.name: ResidualLayers}


class _RandomFeatures:
    """cos(h A + c), the same for all draws; the factor √(2/M) is left to the few raw outputs.

    On one thread NumPy computes it in the memory of the tensors: its cosine takes a third of the time of torch's (2.13), and its
    products half of it where MKL, on processors not made by Intel, goes without AVX-512.
    """

    def __init__(self, features: Mapping[str, Tensor], state: Tensor, one_thread: bool) -> None:
        kernel, bias = features["feature_kernel"], features["feature_bias"]
        n_draws, n_rows, _ = state.shape
        by_numpy = one_thread and state.device.type == "cpu"
        self._library: Any = np if by_numpy else torch
        self._array: Callable[[Tensor], Any] = torch.Tensor.numpy if by_numpy else torch.Tensor.detach
        self.scale = (2.0 / len(bias)) ** 0.5
        self.cosines, self.gradient = (state.new_empty(n_draws, n_rows, len(bias)) for _ in range(2))
        self._cosines, self._gradient = (
            self._array(t.view(n_draws * n_rows, -1)) for t in (self.cosines, self.gradient)
        )
        self._affine = self._array(torch.cat([kernel, bias[None]]))
        # ∂/∂h = −[sin(z) ⊙ ∂/∂cos] Aᵀ
        self._minus_transposed = self._array(-kernel.T.contiguous())
        self._state = self._array(state.view(n_draws * n_rows, -1))
        self._z = self._array(state.new_empty(n_draws * n_rows, len(bias)))

    def forward(self) -> None:
        self._library.matmul(self._state, self._affine, out=self._z)
        self._library.cos(self._z, out=self._cosines)

    def backward(self, out: Tensor) -> None:
        self._library.sin(self._z, out=self._z)
        self._library.multiply(self._z, self._gradient, out=self._z)
        self._library.matmul(self._z, self._minus_transposed, out=self._array(out.view(len(self._z), -1)))
