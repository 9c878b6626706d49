"""Forward and backward pass of the network over a batch, by hand, for all members and weight samples at once.

Eager autograd costs more than the arithmetic of a small network. Here every product is one batched call into a
preallocated buffer, and gradients land directly in the flat gradient vector. A layer's bias stands behind its kernel
in the flat weights, so together they are one matrix, [kernel; bias], that multiplies [h, 1].
"""

import numpy as np
import torch

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


class _Dense:
    """One layer: [kernel; bias], its gradient and its input [h, 1] as views into the flat buffers.

    Parameters
    ----------
    layer : tuple of Tensor
        The network's layout of kernel and bias.
    weights, gradient : Tensor of shape (n_draws, n_weights)
    inputs : Tensor of shape (n_draws, n_rows, n_in + 1)
        Without the column of ones for a layer without bias.
    """

    def __init__(self, layer, weights, gradient, inputs):
        kernel, last = layer[0], layer[-1]
        n_in, n_out = kernel.shape
        shape = (len(weights), n_in + len(layer) - 1, n_out)
        self._affine, self._gradient = (flat[:, kernel.start : last.stop].view(shape) for flat in (weights, gradient))
        self._inputs = inputs
        self._affine_t, self._inputs_t, self._kernel_t = self._affine.mT, inputs.mT, self._affine[:, :n_in].mT
        # Batched products into rows of the flat gradient would run one by one.
        self._contiguous = inputs.new_empty(shape) if len(weights) > 1 else None

    def forward(self, out):
        """Raw values of the layer, shape (n_draws, n_rows, n_out)."""
        torch.bmm(self._inputs, self._affine, out=out)

    def backward(self, grad):
        """Write the gradient of [kernel; bias], given that of the raw values."""
        if self._contiguous is None:
            torch.bmm(self._inputs_t, grad, out=self._gradient)
        else:
            self._gradient.copy_(torch.bmm(self._inputs_t, grad, out=self._contiguous))

    def propagate(self, grad, out):
        """Write the gradient of the input h."""
        torch.bmm(grad, self._kernel_t, out=out)

    def accumulate(self, grad, out):
        """Add the gradient of the input h."""
        out.baddbmm_(grad, self._kernel_t)


class _NarrowDense(_Dense):
    """A layer of few outputs: the same products transposed, which MKL does several times faster."""

    def __init__(self, layer, weights, gradient, inputs):
        super().__init__(layer, weights, gradient, inputs)
        n_out = self._affine.shape[2]
        self._out_t = inputs.new_empty(len(weights), n_out, inputs.shape[1])
        self._contiguous_t = torch.empty_like(self._affine_t, memory_format=torch.contiguous_format)
        self._single = n_out == 1

    def forward(self, out):
        out.copy_(torch.bmm(self._affine_t, self._inputs_t, out=self._out_t).mT)

    def backward(self, grad):
        self._gradient.copy_(torch.bmm(grad.mT, self._inputs, out=self._contiguous_t).mT)

    def propagate(self, grad, out):
        if self._single:
            torch.mul(grad, self._kernel_t, out=out)
        else:
            super().propagate(grad, out)


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

    def __init__(self, network, weights, gradient, n_rows, leading, features, masks=None, one_thread=False):
        n_draws = len(weights)
        self._act, self._act_backward = ACTIVATIONS[network.activation]
        self._masks = masks
        self._residual = network.architecture == "resnet" and bool(network.hidden_layer_sizes)
        sizes = network.hidden_layer_sizes

        def buffers(widths):
            return [weights.new_empty(n_draws, n_rows, width) for width in widths]

        # States [h, 1]: the batch, (its projection,) and one after each hidden layer.
        widths = [network.n_inputs, *sizes[:1] * self._residual, *sizes]
        states = [weights.new_ones(n_draws, n_rows, width + 1) for width in widths]
        self._states = [state[..., :-1] for state in states]
        inputs = self._states[0].unflatten(0, leading)
        self._inputs, self._bins = inputs[..., : network.n_features], None
        if network.n_binned:
            self._bins = _Bins(features["bins"], features.get("encoded"), inputs[..., network.n_features :])
        self.raw, self.raw_gradient = buffers([network.head.n_raw] * 2)

        self._features = None
        if network.n_inducing:
            self._features = _RandomFeatures(features, states[-1], one_thread)
            states[-1] = self._features.cosines
        *layers, out = zip(network.layers, states, strict=True)
        layers = [_Dense(layer, weights, gradient, state) for layer, state in layers]
        self._out = (_NarrowDense if network.head.n_raw < NARROW else _Dense)(out[0], weights, gradient, out[1])
        self._projection = layers.pop(0) if self._residual else None
        self._layers = layers
        self._z = buffers(sizes)
        self._a = buffers(sizes) if self._residual or masks else self._states[1:]
        # The residual stream's gradient is accumulated in one buffer; an mlp has one for each width.
        self._gradients = buffers(sizes[:1]) * len(sizes) if self._residual else buffers(sizes)
        self._z_gradients = buffers(sizes[:1]) * len(sizes) if self._residual else self._gradients

    def load(self, X):
        """Take a batch, of shape (n_members, 1, n_rows, n_features)."""
        self._inputs.copy_(X)
        if self._bins:
            self._bins.fill(X)

    def forward(self):
        """Fill `raw` from the batch, the weights and the masks."""
        states = self._states
        if self._residual:
            self._projection.forward(states[1])
            states = states[1:]
        for i, layer in enumerate(self._layers):
            z, a = self._z[i], self._a[i]
            layer.forward(z)
            self._act(z, a)
            if self._residual and self._masks:
                torch.addcmul(states[i], a, self._masks[i], out=states[i + 1])
            elif self._residual:
                torch.add(states[i], a, out=states[i + 1])
            elif self._masks:
                torch.mul(a, self._masks[i], out=states[i + 1])
        if self._features:
            self._features.forward()
        self._out.forward(self.raw)
        if self._features:
            self.raw.mul_(self._features.scale)

    def backward(self):
        """Fill the gradient of the weights from `raw_gradient`, which is overwritten."""
        if self._features:
            self.raw_gradient.mul_(self._features.scale)
        self._out.backward(self.raw_gradient)
        top = self._gradients[-1] if self._layers else None
        if self._features and self._layers:
            self._out.propagate(self.raw_gradient, self._features.gradient)
            self._features.backward(top)
        elif self._layers:
            self._out.propagate(self.raw_gradient, top)
        for i in reversed(range(len(self._layers))):
            layer, grad, z_grad = self._layers[i], self._gradients[i], self._z_gradients[i]
            if self._masks:
                torch.mul(grad, self._masks[i], out=z_grad)
            self._act_backward(z_grad if self._masks else grad, self._z[i], self._a[i], z_grad)
            layer.backward(z_grad)
            if self._residual:
                layer.accumulate(z_grad, grad)
            elif i:
                layer.propagate(z_grad, self._gradients[i - 1])
        if self._residual:
            self._projection.backward(top)


class _Bins:
    """Piecewise-linear encoding of a batch, written behind its features; the same for all samples of a member."""

    def __init__(self, bins, encoded, out):
        self._slope, self._offset, self._lowest, self._highest = bins.unbind(0)
        n_members, _, n_rows, _ = out.shape
        self._parts = out.new_empty(n_members, 1, n_rows, *self._slope.shape)
        self._flat, self._out = self._parts.flatten(-2), out
        self._encoded = None if encoded is None else encoded.long()
        self._some = out.new_empty(n_members, 1, n_rows, len(self._slope))

    def fill(self, X):
        if self._encoded is not None:
            X = torch.index_select(X, -1, self._encoded, out=self._some)
        torch.addcmul(self._offset, X.unsqueeze(-1), self._slope, out=self._parts)
        torch.clamp(self._parts, self._lowest, self._highest, out=self._parts)
        self._out.copy_(self._flat)


class _RandomFeatures:
    """cos(h A + c), the same for all draws; the factor √(2/M) is left to the few raw outputs.

    On one thread NumPy computes it in the memory of the tensors: its cosine takes a third of the time of torch's (2.13), and its
    products half of it where MKL, on processors not made by Intel, goes without AVX-512.
    """

    def __init__(self, features, state, one_thread):
        kernel, bias = features["feature_kernel"], features["feature_bias"]
        n_draws, n_rows, _ = state.shape
        by_numpy = one_thread and state.device.type == "cpu"
        self._library, self._array = (np, torch.Tensor.numpy) if by_numpy else (torch, torch.Tensor.detach)
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

    def forward(self):
        self._library.matmul(self._state, self._affine, out=self._z)
        self._library.cos(self._z, out=self._cosines)

    def backward(self, out):
        self._library.sin(self._z, out=self._z)
        self._library.multiply(self._z, self._gradient, out=self._z)
        self._library.matmul(self._z, self._minus_transposed, out=self._array(out.view(len(self._z), -1)))
