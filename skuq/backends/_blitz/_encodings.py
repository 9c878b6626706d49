"""Encodings of the inputs over a batch, forward and backward: twins of :mod:`skuq._data.encoding`.

Each takes (network, weights, gradient, features, inputs, leading, one_thread) as :class:`._trunk.Trunk` has them, `inputs` being
the first layer's, (n_draws, n_rows, n_inputs), behind whose features it writes. ``load`` takes a batch, ``forward`` reads the
weights, and ``backward``, from the gradient of `inputs`, fills that of the learned numbers. `NATIVE` has the module of each
in a native model; ``learned`` lists its parameters in the order of the layout.
"""

from collections.abc import Mapping
from math import pi

import numpy as np
import torch
from torch import Tensor, nn

from ..._data.encoding import Periodic, PiecewiseLinear
from ..._model.network import Network, Role


class Bins:
    """Piecewise-linear encoding; the same for all samples of a member."""

    def __init__(
        self,
        network: Network,
        weights: Tensor,
        gradient: Tensor,
        features: Mapping[str, Tensor],
        inputs: Tensor,
        leading: tuple[int, int],
        one_thread: bool,
    ) -> None:
        self._slope, self._offset, self._lowest, self._highest = features["bins"].unbind(0)
        self._out = inputs.unflatten(0, leading)[..., network.n_features :]
        n_members, _, n_rows, _ = self._out.shape
        self._parts = inputs.new_empty(n_members, 1, n_rows, *self._slope.shape)
        self._flat = self._parts.flatten(-2)
        self._encoded = features["encoded"].long() if "encoded" in features else None
        self._some = inputs.new_empty(n_members, 1, n_rows, len(self._slope))

    def load(self, X: Tensor) -> None:
        """Write the bins of a batch, (n_members, 1, n_rows, n_features)."""
        if self._encoded is not None:
            X = torch.index_select(X, -1, self._encoded, out=self._some)
        torch.addcmul(self._offset, X.unsqueeze(-1), self._slope, out=self._parts)
        torch.clamp(self._parts, self._lowest, self._highest, out=self._parts)
        self._out.copy_(self._flat)

    def forward(self) -> None:
        """No weights to read."""

    def backward(self, inputs_gradient: Tensor) -> None:
        """Nothing is learned."""


class PeriodicFeatures:
    """Sines and cosines, at the frequencies of each draw.

    On one thread NumPy computes them in the memory of the tensors, several times as fast as torch (2.13).
    """

    def __init__(
        self,
        network: Network,
        weights: Tensor,
        gradient: Tensor,
        features: Mapping[str, Tensor],
        inputs: Tensor,
        leading: tuple[int, int],
        one_thread: bool,
    ) -> None:
        encoding = network.encoding
        assert isinstance(encoding, Periodic)
        n_draws, n_rows, _ = inputs.shape
        (tensor,) = (t for t in network.tensors if t.role is Role.ENCODING)
        n_columns, self._size = tensor.shape
        place = slice(tensor.start, tensor.stop)
        self._frequencies, self._gradient = (
            flat[:, place].view(n_draws, 1, n_columns, self._size) for flat in (weights, gradient)
        )
        self._n_features, self._amplitude = network.n_features, encoding.amplitude
        self._factor = 2 * pi * features["frequency_scale"]
        self._encoded = features["encoded"].long() if "encoded" in features else None
        self._inputs = inputs[..., : network.n_features]
        self._x = inputs.new_empty(n_draws, n_rows, n_columns)
        shape = (n_draws, n_rows, n_columns, self._size)
        self._sines, self._cosines, self._scratch = (inputs.new_empty(shape) for _ in range(3))
        self._scaled = torch.empty_like(self._frequencies, memory_format=torch.contiguous_format)
        self._parts = inputs[..., network.n_features :].unflatten(-1, (n_columns, 2 * self._size))
        by_numpy = one_thread and inputs.device.type == "cpu"
        self._library, array = (np, torch.Tensor.numpy) if by_numpy else (torch, torch.Tensor.detach)
        self._arrays = array(self._sines), array(self._cosines)

    def load(self, X: Tensor) -> None:
        """Keep the encoded columns of the batch that stands in `inputs`."""
        if self._encoded is None:
            self._x.copy_(self._inputs)
        else:
            torch.index_select(self._inputs, -1, self._encoded, out=self._x)

    def forward(self) -> None:
        """Write a·sin(v) and a·(cos(v) − 1) of v = 2πσux."""
        sines, cosines = self._arrays
        torch.mul(self._frequencies, self._factor, out=self._scaled)
        torch.mul(self._x.unsqueeze(-1), self._scaled, out=self._sines)
        self._library.cos(sines, out=cosines)
        self._library.sin(sines, out=sines)
        self._sines.mul_(self._amplitude)
        self._cosines.mul_(self._amplitude)
        self._parts[..., : self._size].copy_(self._sines)
        torch.sub(self._cosines, self._amplitude, out=self._parts[..., self._size :])

    def backward(self, inputs_gradient: Tensor) -> None:
        """Fill the gradient of u: Σ 2πσ x a (cos(v) ∂/∂sin − sin(v) ∂/∂cos)."""
        towards = inputs_gradient[..., self._n_features :].unflatten(-1, (-1, 2 * self._size))
        torch.mul(self._cosines, towards[..., : self._size], out=self._scratch)
        self._scratch.addcmul_(self._sines, towards[..., self._size :], value=-1)
        self._scratch.mul_(self._x.unsqueeze(-1))
        torch.sum(self._scratch, 1, keepdim=True, out=self._scaled)
        torch.mul(self._scaled, self._factor, out=self._gradient)


class PiecewiseLinearEncoding(nn.Module):
    """Features and their bins, as :class:`skuq._data.encoding.PiecewiseLinear`."""

    bins: Tensor
    encoded: Tensor | None

    def __init__(
        self, encoding: PiecewiseLinear, features: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
    ) -> None:
        super().__init__()
        self.register_buffer("bins", torch.tensor(features["bins"]))
        self.register_buffer("encoded", torch.tensor(features["encoded"]) if "encoded" in features else None)

    def forward(self, X: Tensor) -> Tensor:
        """Map X of shape (n_rows, n_features) to (n_rows, n_features + n_encoded · n_bins)."""
        slope, offset, lowest, highest = self.bins.to(X.dtype)
        some = X if self.encoded is None else X[..., self.encoded]
        parts = torch.clamp(some[..., None] * slope + offset, lowest, highest)
        return torch.cat([X, parts.flatten(-2)], dim=-1)


class PeriodicEncoding(nn.Module):
    """Features, sines and cosines, as :class:`skuq._data.encoding.Periodic`; `frequencies` is trained."""

    frequency_scale: Tensor
    encoded: Tensor | None

    def __init__(
        self, encoding: Periodic, features: Mapping[str, np.ndarray], weights: Mapping[str, np.ndarray]
    ) -> None:
        super().__init__()
        self.amplitude = encoding.amplitude
        self.frequencies = nn.Parameter(torch.tensor(weights["frequencies"]))
        self.register_buffer("frequency_scale", torch.tensor(features["frequency_scale"]))
        self.register_buffer("encoded", torch.tensor(features["encoded"]) if "encoded" in features else None)

    @property
    def learned(self) -> list[Tensor]:
        """What the layout lists."""
        return [self.frequencies]

    def forward(self, X: Tensor) -> Tensor:
        """Map X of shape (n_rows, n_features) to (n_rows, n_features + n_encoded · 2 n_frequencies)."""
        some = X if self.encoded is None else X[..., self.encoded]
        angle = some[..., None] * (2 * pi * self.frequency_scale * self.frequencies)
        parts = self.amplitude * torch.cat([torch.sin(angle), torch.cos(angle) - 1], dim=-1)
        return torch.cat([X, parts.flatten(-2)], dim=-1)


NATIVE: dict[str, type[nn.Module]] = {
    PiecewiseLinear.name: PiecewiseLinearEncoding,
    Periodic.name: PeriodicEncoding,
}
