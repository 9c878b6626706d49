"""The network as data: a frozen spec, the layout of its weights, its forward pass over draws.

Every method trains and predicts with this one family of networks, so the backends and the prediction code agree on
what a vector of weights means. All weights of one draw stand in one flat vector, in the order of
:meth:`Network.tensors`; S draws are an array of shape (S, n_weights).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import gcd, prod

import numpy as np
from scipy import special

from .._data.encoding import encode
from .heads import Head
from .pickling import PicklesFields
from .threads import Scratch


def _relu(h):
    # NumPy compares with an array of zeros five times as fast as with the number.
    rows = h.reshape(-1, gcd(h.size, 4096))
    np.maximum(rows, np.zeros(rows.shape[1], h.dtype), out=rows)
    return h


def _sigmoid(h):
    # Four times as fast as special.expit: numpy's tanh works on whole vectors.
    h *= 0.5
    np.tanh(h, out=h)
    h *= 0.5
    h += 0.5
    return h


# Each may write into its contiguous argument.
ACTIVATIONS: dict[str, Callable] = {
    "identity": lambda h: h,
    "relu": _relu,
    "tanh": lambda h: np.tanh(h, out=h),
    "logistic": _sigmoid,
    "silu": lambda h: h * _sigmoid(h.copy()),
    "gelu": lambda h: h * special.ndtr(h),
    "elu": lambda h: np.where(h > 0, h, np.expm1(np.minimum(h, 0))),
    "softplus": lambda h: np.log1p(np.exp(-np.abs(h))) + _relu(h),
}
ARCHITECTURES = ("mlp", "resnet")
# Mean squared norm of standardised rows after the projection under a Gaussian process: rows must stand a few length
# scales apart, whatever their number of features, or the kernel sees them all alike or all apart.
PROJECTED_NORM = 4.0


# Numbers of a row that is long enough for NumPy.
LONG = 2**12


@dataclass(frozen=True)
class Tensor:
    """One named block of a flat weight vector: ``flat[start:stop].reshape(shape)``."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """End of the block."""
        return self.start + prod(self.shape)

    @property
    def is_kernel(self) -> bool:
        """Whether the regularizer applies (kernels, not biases or constants)."""
        return self.name.startswith("kernel")


@dataclass(frozen=True)
class Network(PicklesFields):
    """A feed-forward network: what it computes, not its weights.

    ``architecture="mlp"``: h ← dropout(act(h W + b)) for each hidden layer. ``"resnet"``: a linear projection to the
    common width, then h ← h + dropout(act(h W + b)) for each hidden layer. With `n_bins` > 0 each encoded feature enters beside
    its piecewise-linear encoding (:mod:`skuq._data.encoding`). With `n_inducing` > 0 the hidden state then
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
    head : Head
        What the outputs mean.
    n_inducing : int
        Number of random features; 0 for a plain output layer.
    frozen_projection : bool
        Whether a resnet's input projection stays as it was drawn.
    n_bins : int
        Bins beside each encoded feature; 0 for the features alone.
    n_encoded : int or None
        Number of encoded features where not all are; None for all of them.
    """

    n_features: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    architecture: str
    head: Head
    n_inducing: int = 0
    frozen_projection: bool = False
    n_bins: int = 0
    n_encoded: int | None = None

    @property
    def n_binned(self) -> int:
        """Number of features that stand beside bins."""
        if not self.n_bins:
            return 0
        return self.n_features if self.n_encoded is None else self.n_encoded

    @property
    def n_inputs(self) -> int:
        """Width of the first layer's input."""
        return self.n_features + self.n_binned * self.n_bins

    @property
    def fixed_shapes(self) -> dict[str, tuple[int, ...]]:
        """Arrays that the network computes with and nobody trains, in alphabetic order.

        ``bins`` (4, n_encoded, n_bins), as :func:`skuq._data.encoding.fit_bins` has them, and, where not all features are
        encoded, ``encoded`` (n_encoded,), their columns; ``feature_bias`` (M,) and ``feature_kernel`` (hidden_width, M) of
        the random features.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        if self.n_binned:
            shapes["bins"] = (4, self.n_binned, self.n_bins)
            if self.n_encoded is not None:
                shapes["encoded"] = (self.n_binned,)
        if self.n_inducing:
            shapes |= {"feature_bias": (self.n_inducing,), "feature_kernel": (self.hidden_width, self.n_inducing)}
        return shapes

    @cached_property
    def tensors(self) -> tuple[Tensor, ...]:
        """Layout of the trained weights.

        ``kernel_in, bias_in`` (resnet only), ``kernel_0, bias_0, …`` for the hidden layers, ``kernel_out``,
        ``bias_out`` (not after random features), ``constants`` (the head's learned constants, if any).
        """
        shapes = []
        width = self.n_inputs
        if self.architecture == "resnet" and self.hidden_layer_sizes:
            shapes += self._dense("in", width, self.hidden_layer_sizes[0])
            width = self.hidden_layer_sizes[0]
        for i, size in enumerate(self.hidden_layer_sizes):
            shapes += self._dense(str(i), width, size)
            width = size
        out = self._dense("out", self.n_inducing or width, self.head.n_raw)
        shapes += out[:1] if self.n_inducing else out
        if self.head.n_constants:
            shapes.append(("constants", (self.head.n_constants,)))
        tensors, start = [], 0
        for name, shape in shapes:
            tensors.append(Tensor(name, shape, start))
            start = tensors[-1].stop
        return tuple(tensors)

    @staticmethod
    def _dense(name, n_in, n_out):
        return [(f"kernel_{name}", (n_in, n_out)), (f"bias_{name}", (n_out,))]

    @property
    def n_weights(self) -> int:
        """Length of the flat weight vector."""
        return self.tensors[-1].stop

    @property
    def n_layer_weights(self) -> int:
        """Length of the leading part that holds kernels and biases, without the head's constants."""
        return self.n_weights - self.head.n_constants

    @property
    def hidden_width(self) -> int:
        """Width of the last hidden state (the input of the random features or of the output layer)."""
        return self.hidden_layer_sizes[-1] if self.hidden_layer_sizes else self.n_inputs

    @property
    def n_units(self) -> int:
        """Number of hidden units, the length of one dropout mask."""
        return sum(self.hidden_layer_sizes)

    @cached_property
    def hidden_kernels(self) -> tuple[Tensor, ...]:
        """Kernels of the hidden layers: those that a spectral norm bounds.

        The linear projection of a resnet is not among them: a bound there would only shrink the data.
        """
        return tuple(t for t in self.tensors if t.is_kernel and t.name not in ("kernel_in", "kernel_out"))

    @cached_property
    def output_kernel(self) -> Tensor:
        """Kernel of the output layer; the β of a Gaussian process."""
        return next(t for t in self.tensors if t.name == "kernel_out")

    @cached_property
    def frozen(self) -> tuple[Tensor, ...]:
        """Tensors that training leaves as they are."""
        return tuple(t for t in self.tensors if self.frozen_projection and t.name in ("kernel_in", "bias_in"))

    @cached_property
    def layers(self) -> tuple[tuple[Tensor, ...], ...]:
        """Tensors layer by layer: (kernel, bias), or (kernel,) for an output layer without bias."""
        blocks = [t for t in self.tensors if t.name != "constants"]
        pairs, i = [], 0
        while i < len(blocks):
            size = 2 if i + 1 < len(blocks) and not blocks[i + 1].is_kernel else 1
            pairs.append(tuple(blocks[i : i + size]))
            i += size
        return tuple(pairs)

    @cached_property
    def kernel_mask(self) -> np.ndarray:
        """1 where the regularizer applies, else 0; float32 of shape (n_weights,).

        These are the kernels, but not the output weights β on random features: those have the Gaussian process's own prior
        (`Knobs.ridge`), and a penalty that suits kernels would flatten every function it can express.
        """
        mask = np.zeros(self.n_weights, np.float32)
        for tensor in self.tensors:
            regularized = tensor.is_kernel and not (self.n_inducing and tensor.name == "kernel_out")
            if regularized and tensor not in self.frozen:
                mask[tensor.start : tensor.stop] = 1
        return mask

    def views(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Named views into flat weights: each of shape (n_draws, *shape)."""
        return {t.name: flat[:, t.start : t.stop].reshape(len(flat), *t.shape) for t in self.tensors}

    def initial_weights(self, rng: np.random.Generator, raw_bias, constants) -> np.ndarray:
        """One flat vector of starting weights, float32.

        Kernels are uniform as Glorot & Bengio 2010 (He et al. 2015 for relu-like units), biases zero, and the output
        layer starts small at `raw_bias`, the marginal fit, so that training begins from the right noise level.
        """
        flat = np.zeros((1, self.n_weights), np.float32)
        tensors = self.views(flat)
        relu_like = self.activation in ("relu", "silu", "gelu", "elu", "softplus")
        for tensor in self.tensors:
            if tensor.is_kernel:
                fan_in, fan_out = tensor.shape
                if tensor.start == 0 and self.n_bins:
                    # Features that need no bins start as small as those beside bins.
                    fan_in = self.n_features * (1 + self.n_bins)
                hidden = tensor.name not in ("kernel_out", "kernel_in")
                bound = np.sqrt(6 / fan_in) if hidden and relu_like else np.sqrt(6 / (fan_in + fan_out))
                if tensor.name == "kernel_in" and self.n_inducing:
                    bound = np.sqrt(3 * PROJECTED_NORM / (fan_in * fan_out))
                if tensor.name == "kernel_out":
                    bound = 0.0 if not self.hidden_layer_sizes else 0.1 * bound
                tensors[tensor.name][0] = rng.uniform(-bound, bound, tensor.shape)
                if tensor in self.frozen:
                    tensors[tensor.name][0] = np.sqrt(PROJECTED_NORM / min(tensor.shape)) * orthonormal(
                        tensor.shape, rng
                    )
        if "bias_out" in tensors:
            tensors["bias_out"][0] = raw_bias
        if "constants" in tensors:
            tensors["constants"][0] = constants
        return flat[0]

    def initial_random_features(self, rng: np.random.Generator, kernel_scale: float) -> dict[str, np.ndarray]:
        """Fixed arrays of the random features: ``feature_kernel`` (hidden, M) ~ N(0, 1/kernel_scale), ``feature_bias`` (M,)."""
        if not self.n_inducing:
            return {}
        shape = (self.hidden_width, self.n_inducing)
        return {
            "feature_kernel": (rng.standard_normal(shape) / np.sqrt(kernel_scale)).astype(np.float32),
            "feature_bias": rng.uniform(0, 2 * np.pi, self.n_inducing).astype(np.float32),
        }

    def repeated(self, weights: dict[str, np.ndarray], masks, n_rows: int) -> tuple[dict[str, np.ndarray], list | None]:
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

        def repeat(row):
            most = max(1, LONG // row.shape[1])
            return np.tile(row, gcd(n_rows, 2 ** (most.bit_length() - 1)))

        weights = {name: repeat(w) if name.startswith("bias") else w for name, w in weights.items()}
        return weights, None if masks is None else [repeat(mask) for mask in self._split(masks)]

    def _split(self, masks):
        """Masks of each layer."""
        ends = np.cumsum(self.hidden_layer_sizes, dtype=int)
        return [masks[:, end - size : end] for end, size in zip(ends, self.hidden_layer_sizes, strict=True)]

    def hidden(self, weights: dict[str, np.ndarray], X: np.ndarray, masks=None, fixed=None, scratch=None) -> np.ndarray:
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
        act, scratch = ACTIVATIONS[self.activation], scratch or Scratch()
        if isinstance(masks, np.ndarray):
            masks = self._split(masks)
        h = X if X.ndim == 3 else X[None]
        if h.shape[2] != self.n_inputs:
            h = self.inputs(h, fixed, scratch)
        residual = self.architecture == "resnet"
        if residual and self.hidden_layer_sizes:
            h = _affine(h, weights["kernel_in"], weights["bias_in"], scratch, "in")
        for i in range(len(self.hidden_layer_sizes)):
            name = "branch" if residual else ("odd", "even")[i % 2]
            z = act(_affine(h, weights[f"kernel_{i}"], weights[f"bias_{i}"], scratch, name))
            if masks is not None:
                z = _by_row(np.multiply, z, masks[i], scratch, "masked")
            h = np.add(h, z, out=h if len(h) == len(z) else z) if residual else z
        return h

    def inputs(self, X: np.ndarray, fixed, scratch=None) -> np.ndarray:
        """What the first layer takes, shape (n_draws, n_rows, n_inputs): the features, or their encoding."""
        if not self.n_binned:
            return X
        out = None if scratch is None else scratch("encoded", (*X.shape[:2], self.n_inputs), X.dtype)
        return encode(X, fixed["bins"], out, fixed.get("encoded"))

    @property
    def feature_scale(self) -> float:
        """√(2/M), what makes Φ of the cosines."""
        return float(np.sqrt(2.0 / self.n_inducing))

    def prepared(self, fixed: dict[str, np.ndarray], dtype) -> dict[str, np.ndarray]:
        """`fixed` and, of random features, ``feature_affine`` = [A; c], (hidden_width + 1, M), made once for several calls."""
        if not self.n_inducing:
            return fixed
        affine = np.concatenate([fixed["feature_kernel"], fixed["feature_bias"][None]], dtype=dtype)
        return {**fixed, "feature_affine": affine}

    @staticmethod
    def affine_states(h: np.ndarray, scratch=None) -> np.ndarray:
        """[h, 1], shape (n_draws, n_rows, hidden_width + 1): with a column of ones a product also adds c, at less cost."""
        shape = (*h.shape[:2], h.shape[2] + 1)
        states = np.empty(shape, h.dtype) if scratch is None else scratch("states", shape, h.dtype)
        states[..., :-1], states[..., -1] = h, 1
        return states

    def cosines(self, states: np.ndarray, fixed: dict[str, np.ndarray], scratch=None) -> np.ndarray:
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
        z = _affine(states, fixed["feature_affine"][None], None, scratch or Scratch(), "features")
        return np.cos(z, out=z)

    def random_features(self, h: np.ndarray, fixed: dict[str, np.ndarray], scratch=None) -> np.ndarray:
        """Φ(h), shape (n_draws, n_rows, n_inducing)."""
        z = self.cosines(self.affine_states(h, scratch), fixed, scratch)
        z *= np.asarray(self.feature_scale, z.dtype)
        return z

    def raw_outputs(self, weights, X, masks=None, fixed=None, scratch=None) -> np.ndarray:
        """Raw outputs of every draw, shape (n_draws, n_rows, head.n_raw)."""
        scratch = scratch or Scratch()
        h = self.hidden(weights, X, masks, fixed, scratch)
        if self.n_inducing:
            h = self.random_features(h, fixed, scratch)
        return _affine(h, weights["kernel_out"], weights.get("bias_out"), scratch, "out")


def orthonormal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Random matrix whose rows, or columns where these are fewer, are orthonormal."""
    n_rows, n_columns = shape
    q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
    # The sign that makes the factorisation unique, whatever library computes it.
    q = q * np.sign(np.diag(r))
    return q if n_rows >= n_columns else q.T


def _affine(h, kernel, bias, scratch, name):
    """H W + b, one matrix product a draw, so that its shape does not depend on how many draws there are."""
    shape = (max(len(h), len(kernel)), h.shape[1], kernel.shape[2])
    z = np.matmul(h, kernel, out=scratch(name, shape, np.result_type(h, kernel)))
    return z if bias is None else _by_row(np.add, z, bias, scratch, name)


def _by_row(operation, z, row, scratch, name):
    """Operate on every row of z, (n_draws, n_rows, size), with one row of each draw, or with several in turn."""
    shape = (max(len(z), len(row)), *z.shape[1:])
    out = z if len(z) == shape[0] else scratch(name, shape, z.dtype)
    long = z.reshape(len(z), -1, row.shape[1])
    operation(long, row[:, None], out=out.reshape(len(out), *long.shape[1:]))
    return out
