"""The network as data: a frozen spec, the layout of its weights, its forward pass over draws.

Every method trains and predicts with this one family of networks, so the backends and the prediction code agree on
what a vector of weights means. All weights of one draw stand in one flat vector, in the order of
:meth:`Network.tensors`; S draws are an array of shape (S, n_weights). From rows to outputs there are four parts, each of which
meets the others here alone: the encoding of the inputs (:mod:`skuq._data.encoding`), the trunk (:mod:`skuq._model.trunk`), the
random features of a Gaussian process, if any, and the output layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, TypeVar

import numpy as np

from .._data.encoding import InputEncoding
from .forward import ACTIVATIONS, affine, repeated
from .heads import Head
from .pickling import PicklesFields
from .threads import Scratch
from .trunk import TRUNKS, Dense, Role, Trunk

__all__ = ["ACTIVATIONS", "ARCHITECTURES", "Network", "Role", "Tensor", "orthonormal"]

ARCHITECTURES = tuple(TRUNKS)
# Mean squared norm of standardised rows after the projection under a Gaussian process: rows must stand a few length
# scales apart, whatever their number of features, or the kernel sees them all alike or all apart.
PROJECTED_NORM = 4.0
# A first kernel that starts small does so as if each feature were this many. Units then see next to nothing at first, and grow
# along the features that help; along features that are idle they stay small, and do not fit the noise.
SMALL_START = 1000
# Arrays by name; and dropout masks, (n_draws, n_units) or layer by layer.
Weights = Mapping[str, np.ndarray]
Masks = np.ndarray | Sequence[np.ndarray] | None
# NumPy's, or a framework's tensor.
Array = TypeVar("Array", np.ndarray, Any)
# Activations whose units pass on about half the variance of their inputs, as He et al. 2015 assume.
RELU_LIKE = ("relu", "silu", "gelu", "elu", "softplus")


@dataclass(frozen=True)
class Tensor:
    """One named block of a flat weight vector: ``flat[start:stop].reshape(shape)``."""

    name: str
    shape: tuple[int, ...]
    start: int
    role: Role
    is_bias: bool = False

    @property
    def stop(self) -> int:
        """End of the block."""
        return self.start + prod(self.shape)

    @property
    def is_kernel(self) -> bool:
        """Whether this is the matrix of a dense layer (not a bias, and nothing that is a point estimate in every method)."""
        return self.role in (Role.PROJECTION, Role.HIDDEN, Role.OUTPUT) and not self.is_bias


@dataclass(frozen=True)
class Network(PicklesFields):
    """A feed-forward network: what it computes, not its weights.

    The features, or their encoding, pass through the hidden layers of the trunk. With `n_inducing` > 0 the hidden state then
    passes through fixed random Fourier features (Rahimi & Recht 2007), Φ(h) = √(2/M) cos(h A/√kernel_scale + c), and
    the output layer has no bias there: it is the β of a Gaussian process.

    Attributes
    ----------
    n_features : int
        Columns of X.
    hidden_layer_sizes : tuple of int
        Widths of the hidden layers; () is a linear model.
    activation : str
        A key of `ACTIVATIONS`.
    architecture : {"mlp", "resnet"}
        A key of :data:`skuq._model.trunk.TRUNKS`.
    head : Head
        What the outputs mean.
    n_inducing : int
        Number of random features; 0 for a plain output layer.
    frozen_projection : bool
        Whether a resnet's input projection stays as it was drawn.
    encoding : InputEncoding or None
        What stands beside the features; None for the features alone.
    """

    n_features: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    architecture: str
    head: Head
    n_inducing: int = 0
    frozen_projection: bool = False
    encoding: InputEncoding | None = None

    @property
    def n_encoded(self) -> int:
        """Number of features that are encoded."""
        return 0 if self.encoding is None else self.encoding.n_columns(self.n_features)

    @cached_property
    def n_inputs(self) -> int:
        """Width of the first layer's input."""
        return self.n_features if self.encoding is None else self.encoding.n_inputs(self.n_features)

    @cached_property
    def trunk(self) -> Trunk:
        """What maps the inputs to the last hidden state."""
        return TRUNKS[self.architecture](self.n_inputs, self.hidden_layer_sizes, self.activation)

    @property
    def fixed_shapes(self) -> dict[str, tuple[int, ...]]:
        """Arrays that the network computes with and nobody trains.

        Those of the encoding; and ``feature_bias`` (M,) and ``feature_kernel`` (hidden_width, M) of the random features.
        """
        shapes = {} if self.encoding is None else self.encoding.fixed_shapes(self.n_features)
        if self.n_inducing:
            shapes |= {"feature_bias": (self.n_inducing,), "feature_kernel": (self.hidden_width, self.n_inducing)}
        return shapes

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """Layout of the trained weights.

        Kernel and bias of each layer of the trunk, then those of the output layer (no bias after random features), then the
        learned numbers of the encoding, then the head's learned constants.
        """
        out = Dense("out", Role.OUTPUT, self.n_inducing or self.hidden_width, self.head.n_raw)
        blocks: list[tuple[str, tuple[int, ...], Role, bool]] = []
        for layer in (*self.trunk.layout(), out):
            blocks.append((layer.kernel, (layer.n_in, layer.n_out), layer.role, False))
            if layer is not out or not self.n_inducing:
                blocks.append((layer.bias, (layer.n_out,), layer.role, True))
        if self.encoding is not None and self.n_encoded:
            shapes = self.encoding.weight_shapes(self.n_features)
            blocks += [(name, shape, Role.ENCODING, False) for name, shape in shapes.items()]
        if self.head.n_constants:
            blocks.append(("constants", (self.head.n_constants,), Role.CONSTANT, False))
        tensors: list[Tensor] = []
        start = 0
        for name, shape, role, is_bias in blocks:
            tensors.append(Tensor(name, shape, start, role, is_bias))
            start = tensors[-1].stop
        return tuple(tensors)

    @property
    def n_weights(self) -> int:
        """Length of the flat weight vector."""
        return self.tensors[-1].stop

    @cached_property
    def n_layer_weights(self) -> int:
        """Length of the leading part that holds kernels and biases; what follows is a point estimate in every method."""
        return self.layers[-1][-1].stop

    @property
    def hidden_width(self) -> int:
        """Width of the last hidden state (the input of the random features or of the output layer)."""
        return self.trunk.width

    @property
    def n_units(self) -> int:
        """Number of hidden units, the length of one dropout mask."""
        return sum(self.hidden_layer_sizes)

    @cached_property
    def hidden_kernels(self) -> tuple[Tensor, ...]:
        """Kernels of the hidden layers: those that a spectral norm bounds.

        The linear projection of a resnet is not among them: a bound there would only shrink the data.
        """
        return tuple(t for t in self.tensors if t.is_kernel and t.role is Role.HIDDEN)

    @cached_property
    def input_kernel(self) -> Tensor:
        """Kernel of the layer that meets the inputs first; its rows are theirs."""
        return self.tensors[0]

    @cached_property
    def output_kernel(self) -> Tensor:
        """Kernel of the output layer; the β of a Gaussian process."""
        return self.layers[-1][0]

    @cached_property
    def output_bias(self) -> Tensor | None:
        """Bias of the output layer, if it has one."""
        return self.layers[-1][1] if len(self.layers[-1]) > 1 else None

    @cached_property
    def frozen(self) -> tuple[Tensor, ...]:
        """Tensors that training leaves as they are."""
        return tuple(t for t in self.tensors if self.frozen_projection and t.role is Role.PROJECTION)

    @cached_property
    def layers(self) -> tuple[tuple[Tensor, ...], ...]:
        """Tensors layer by layer: (kernel, bias), or (kernel,) for an output layer without bias."""
        layers: list[tuple[Tensor, ...]] = []
        for tensor in self.tensors:
            if tensor.is_kernel:
                layers.append((tensor,))
            elif tensor.is_bias:
                layers[-1] += (tensor,)
        return tuple(layers)

    @cached_property
    def kernel_mask(self) -> np.ndarray:
        """1 where the regularizer applies, else 0; float32 of shape (n_weights,).

        These are the kernels, but not the output weights β on random features: those have the Gaussian process's own prior
        (`Knobs.ridge`), and a penalty that suits kernels would flatten every function it can express.
        """
        mask = np.zeros(self.n_weights, np.float32)
        for tensor in self.tensors:
            regularized = tensor.is_kernel and not (self.n_inducing and tensor.role is Role.OUTPUT)
            if regularized and tensor not in self.frozen:
                mask[tensor.start : tensor.stop] = 1
        return mask

    def views(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Named views into flat weights: each of shape (n_draws, *shape)."""
        return {t.name: flat[:, t.start : t.stop].reshape(len(flat), *t.shape) for t in self.tensors}

    def constants(self, flat: Array) -> Array:
        """The head's learned constants in flat weights or parameters, (…, n_constants); they come last in both."""
        return flat[..., flat.shape[-1] - self.head.n_constants :]

    def initial_weights(
        self, rng: np.random.Generator, raw_bias: np.ndarray, constants: np.ndarray, small: bool = False
    ) -> np.ndarray:
        """One flat vector of starting weights, float32.

        Kernels are uniform as Glorot & Bengio 2010 (He et al. 2015 for relu-like units), biases zero, and the output
        layer starts small at `raw_bias`, the marginal fit, so that training begins from the right noise level.

        Parameters
        ----------
        rng : Generator
        raw_bias : ndarray of shape (head.n_raw,)
        constants : ndarray of shape (head.n_constants,)
        small : bool
            Whether the first kernel starts small (`SMALL_START`).
        """
        flat = np.zeros((1, self.n_weights), np.float32)
        tensors = self.views(flat)
        for tensor in self.tensors:
            if not tensor.is_kernel:
                continue
            if tensor in self.frozen:
                # Drawn as if it were trained, so that what follows does not depend on it.
                rng.uniform(size=tensor.shape)
                scale = np.sqrt(PROJECTED_NORM / min(tensor.shape))
                tensors[tensor.name][0] = scale * orthonormal(tensor.shape, rng)
            else:
                bound = self._initial_bound(tensor, small)
                tensors[tensor.name][0] = rng.uniform(-bound, bound, tensor.shape)
        if self.output_bias is not None:
            tensors[self.output_bias.name][0] = raw_bias
        if self.encoding is not None and self.n_encoded:
            for name, values in self.encoding.initial_weights(self.n_features, rng).items():
                tensors[name][0] = values
        self.constants(flat)[...] = constants
        return flat[0]

    def _initial_bound(self, kernel: Tensor, small: bool) -> float:
        """Largest starting weight of a kernel."""
        fan_in, fan_out = kernel.shape
        if kernel is self.input_kernel and self.encoding is not None:
            # Features that are not encoded start as small as those that are.
            fan_in = self.n_features * (1 + self.encoding.width)
        if kernel is self.input_kernel and small and self.hidden_layer_sizes:
            fan_in = self.n_features * SMALL_START
        if kernel.role is Role.PROJECTION and self.n_inducing:
            return np.sqrt(3 * PROJECTED_NORM / (fan_in * fan_out))
        if kernel.role is Role.HIDDEN and self.activation in RELU_LIKE:
            return np.sqrt(6 / fan_in)
        bound = np.sqrt(6 / (fan_in + fan_out))
        if kernel.role is Role.OUTPUT:
            return 0.1 * bound if self.hidden_layer_sizes else 0.0
        return bound

    def initial_random_features(self, rng: np.random.Generator, kernel_scale: float) -> dict[str, np.ndarray]:
        """Fixed arrays of the random features: ``feature_kernel`` (hidden, M) ~ N(0, 1/kernel_scale), ``feature_bias`` (M,)."""
        if not self.n_inducing:
            return {}
        shape = (self.hidden_width, self.n_inducing)
        return {
            "feature_kernel": (rng.standard_normal(shape) / np.sqrt(kernel_scale)).astype(np.float32),
            "feature_bias": rng.uniform(0, 2 * np.pi, self.n_inducing).astype(np.float32),
        }

    def repeated(
        self, weights: Weights, masks: np.ndarray | None, n_rows: int
    ) -> tuple[dict[str, np.ndarray], list[np.ndarray] | None]:
        """Biases and masks written out for several rows: NumPy adds a few long rows much faster than many short ones.

        Parameters
        ----------
        weights : dict of ndarray, from :meth:`views`
        masks : ndarray of shape (n_draws, n_units), or None
        n_rows : int
            Rows in a block.

        Returns
        -------
        weights, masks
            For :meth:`hidden` of blocks of `n_rows` rows.
        """
        biases = {t.name for t in self.tensors if t.is_bias}
        weights = {name: repeated(w, n_rows) if name in biases else w for name, w in weights.items()}
        return weights, None if masks is None else [repeated(mask, n_rows) for mask in self._split(masks)]

    def _split(self, masks: np.ndarray) -> list[np.ndarray]:
        """Masks of each layer."""
        ends = np.cumsum(self.hidden_layer_sizes, dtype=int)
        return [masks[:, end - size : end] for end, size in zip(ends, self.hidden_layer_sizes, strict=True)]

    def hidden(
        self,
        weights: Weights,
        X: np.ndarray,
        masks: Masks = None,
        fixed: Weights | None = None,
        scratch: Scratch | None = None,
    ) -> np.ndarray:
        """Last hidden state of every draw.

        Parameters
        ----------
        weights : dict of ndarray, from :meth:`views`, leading axis n_draws (or 1, shared by all masks)
        X : ndarray of shape (n_rows, n_features) or (n_draws, n_rows, n_features)
            Or, in place of the features, what :meth:`inputs` makes of them.
        masks : ndarray of shape (n_draws, n_units) or list of ndarray of shape (n_draws, size), optional
            Dropout masks, scaled by 1 / keep probability; the same for every row.
        fixed : dict of ndarray, optional
            What :attr:`fixed_shapes` lists.
        scratch : Scratch, optional
            Holds the result until the next call.

        Returns
        -------
        ndarray of shape (n_draws, n_rows, hidden_width); n_draws is 1 where draws do not differ yet
        """
        scratch = scratch or Scratch()
        if isinstance(masks, np.ndarray):
            masks = self._split(masks)
        h = X if X.ndim == 3 else X[None]
        if h.shape[2] != self.n_inputs:
            h = self.inputs(h, weights, fixed, scratch)
        return self.trunk.apply(weights, h, masks, scratch)

    def inputs(
        self, X: np.ndarray, weights: Weights, fixed: Weights | None, scratch: Scratch | None = None
    ) -> np.ndarray:
        """What the first layer takes, shape (n_draws, n_rows, n_inputs): the features, or their encoding.

        Parameters
        ----------
        X : ndarray of shape (n_draws or 1, n_rows, n_features)
        weights : dict of ndarray, from :meth:`views`
            Read only where the encoding has learned numbers (:attr:`encodes_alike`).
        fixed : dict of ndarray
            What :attr:`fixed_shapes` lists.
        scratch : Scratch, optional
            Holds the result until the next call.
        """
        if self.encoding is None or not self.n_encoded:
            return X
        out = None if scratch is None else scratch("encoded", self.encoding.shape_of(X, weights), X.dtype)
        return self.encoding.apply(X, weights, fixed or {}, out)

    @property
    def encodes_alike(self) -> bool:
        """Whether rows have the same :meth:`inputs` whatever the weights, so that they may be encoded once."""
        return not any(t.role is Role.ENCODING for t in self.tensors)

    @property
    def feature_scale(self) -> float:
        """√(2/M), what makes Φ of the cosines."""
        return float(np.sqrt(2.0 / self.n_inducing))

    def prepared(self, fixed: Weights, dtype: type | np.dtype) -> Weights:
        """`fixed` and, of random features, ``feature_affine`` = [A; c], (hidden_width + 1, M), made once for several calls."""
        if not self.n_inducing:
            return fixed
        affine = np.concatenate([fixed["feature_kernel"], fixed["feature_bias"][None]], dtype=dtype)
        return {**fixed, "feature_affine": affine}

    @staticmethod
    def affine_states(h: np.ndarray, scratch: Scratch | None = None) -> np.ndarray:
        """[h, 1], shape (n_draws, n_rows, hidden_width + 1): with a column of ones a product also adds c, at less cost."""
        shape = (*h.shape[:2], h.shape[2] + 1)
        states = np.empty(shape, h.dtype) if scratch is None else scratch("states", shape, h.dtype)
        states[..., :-1], states[..., -1] = h, 1
        return states

    def cosines(self, states: np.ndarray, fixed: Weights, scratch: Scratch | None = None) -> np.ndarray:
        """Φ(h) before its scale, shape (n_draws, n_rows, n_inducing): cos([h, 1] [A; c]).

        Parameters
        ----------
        states : ndarray of shape (n_draws, n_rows, hidden_width + 1)
            Of :meth:`affine_states`.
        fixed : dict of ndarray
            What :attr:`fixed_shapes` lists, or what :meth:`prepared` makes of it.
        scratch : Scratch, optional
            Holds the result until the next call.
        """
        if "feature_affine" not in fixed:
            fixed = self.prepared(fixed, states.dtype)
        z = affine(states, fixed["feature_affine"][None], None, scratch or Scratch(), "features")
        return np.cos(z, out=z)

    def random_features(self, h: np.ndarray, fixed: Weights, scratch: Scratch | None = None) -> np.ndarray:
        """Φ(h), shape (n_draws, n_rows, n_inducing)."""
        z = self.cosines(self.affine_states(h, scratch), fixed, scratch)
        z *= np.asarray(self.feature_scale, z.dtype)
        return z

    def raw_outputs(
        self,
        weights: Weights,
        X: np.ndarray,
        masks: Masks = None,
        fixed: Weights | None = None,
        scratch: Scratch | None = None,
    ) -> np.ndarray:
        """Raw outputs of every draw, shape (n_draws, n_rows, head.n_raw)."""
        scratch = scratch or Scratch()
        h = self.hidden(weights, X, masks, fixed, scratch)
        if self.n_inducing:
            h = self.random_features(h, fixed or {}, scratch)
        kernel, bias = self.output_kernel, self.output_bias
        return affine(h, weights[kernel.name], None if bias is None else weights[bias.name], scratch, "out")


def orthonormal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random matrix whose rows, or columns where these are fewer, are orthonormal."""
    n_rows, n_columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    # The sign that makes the factorisation unique, whatever library computes it.
    q = q * np.sign(np.diag(r))
    return q if n_rows >= n_columns else q.T
