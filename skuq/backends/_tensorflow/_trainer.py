"""Training: many optimiser steps of many members inside one function that XLA compiles once.

A step of a small network is a few microseconds of arithmetic, so a loop in Python would spend its time on everything
but that. Here a stretch of steps runs in one compiled function. Its trip count and every number in `Knobs` are
run-time inputs, and it is kept, so a grid search over them compiles once.
"""

import warnings
from contextlib import AbstractContextManager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from .. import _protocol
from .._protocol import Knobs, Program
from ._compiled import Compiled
from ._elementary import dropout_masks, standard_normals
from ._losses import negative_log_likelihood
from ._optimizer import adam, bound_spectral_norms, singular_vectors
from ._padding import Padding
from ._posterior import sampled_weights
from ._trunk import raw_outputs

# A call holds as many steps as hide its cost (about 0.4 ms) while their batches still fit in the processor's cache.
MAX_STEPS, STRETCH_BYTES = 512, 2**21
# Numbers of `Knobs`, in the order in which they travel to the compiled function; then `fixed` and `prior_scale`.
SCALARS = (
    *("l1", "l2", "ridge", "dropout_rate", "spec_norm_bound"),
    *("beta", "kl_weight", "prior_ratio", "prior_mix"),
)
# Compiled functions that are kept: some 14 MB and 120 memory maps each.
KEPT = 32
CPU = "/CPU:0"
# Share of the memory maps that Linux allows a process, above which the user is warned.
MANY_MAPS = 0.85
# Independent random streams within one step.
WEIGHTS, MASKS = 0, 1


class Trainer(_protocol.Trainer):
    """Adam on M members at once, with proximal and projection steps; see ``skuq/backends/_protocol.py``.

    Parameters
    ----------
    program : Program
        What is compiled.
    parameters : ndarray of shape (M, program.n_parameters), float32
    features : dict of ndarray
        What `Network.fixed_shapes` lists, shared by the members.
    knobs : Knobs
    seed : int
        Of every random number drawn; equal seeds give equal runs in any process.
    device : {"cpu", "cuda"}
    """

    def __init__(
        self,
        program: Program,
        parameters: np.ndarray,
        features: dict[str, np.ndarray],
        knobs: Knobs,
        seed: int,
        device: str = "cpu",
    ) -> None:
        with eager():
            self._start(program, parameters, features, knobs, seed, device)

    def _start(
        self,
        program: Program,
        parameters: np.ndarray,
        features: dict[str, np.ndarray],
        knobs: Knobs,
        seed: int,
        device: str,
    ) -> None:
        self._padding = Padding(program)
        self._program = self._padding.inner
        self._device = _device_name(device)
        self._seed = np.random.SeedSequence(seed).generate_state(2)
        self._compiled: Any = None
        self._n_steps = 0  # of the random streams, which never repeat
        numbers = [getattr(knobs, name) for name in SCALARS]
        prior_scale = self._padding.prior_scale(knobs.prior_scale) if program.posterior else np.zeros(0)
        features = self._padding.features(features)
        self._knobs = self._array(np.concatenate([numbers, knobs.fixed, prior_scale]))
        self._features = [self._array(features[name]) for name in program.network.fixed_shapes]
        self.load(parameters)

    def load(self, parameters: np.ndarray) -> None:
        """Continue from these parameters, shape (M, n_parameters), with fresh Adam moments."""
        parameters = self._padding.parameters(np.asarray(parameters, np.float32))
        vectors = singular_vectors(self._program, parameters, self._seed)
        zeros, squares = np.zeros_like(parameters), np.zeros((len(parameters), 1))
        with eager():
            self._state = [self._array(a) for a in (parameters, zeros, zeros, squares, vectors)]
        self._n_updates = 0  # Adam's t since the last load

    def parameters(self) -> np.ndarray:
        """Present parameters, shape (M, n_parameters)."""
        return self._padding.own(np.asarray(self._state[0])).copy()

    def _array(self, array: np.ndarray, dtype: type = np.float32) -> Any:
        """What the compiled function takes: an array, or on a GPU a tensor there."""
        array = np.asarray(array, dtype)
        if self._device == CPU:
            return array
        with tf.device(self._device):
            return tf.constant(array)

    def drawn(self) -> dict[str, np.ndarray]:
        """Noise and masks of the last step, by name; see ``skuq/backends/_protocol.py``."""
        with eager():
            return self._drawn()

    def _drawn(self) -> dict[str, np.ndarray]:
        program, seed = self._program, self._seed.astype(np.int64)
        drawn: dict[str, np.ndarray] = {}
        if self._compiled is None:
            return drawn
        network, n_members = program.network, len(self._state[0])
        n_samples = program.n_train_samples if program.posterior else 1

        def stream(tag: int) -> np.ndarray:
            return np.array([seed[0] + self._n_steps - 1, seed[1] + tag]).astype(np.uint32).view(np.int32)

        if program.posterior:
            draw = _draw_noise((n_members, n_samples, network.n_layer_weights), self._device)
            drawn["noise"] = self._padding.own_weights(draw(tf.constant(stream(WEIGHTS))).numpy())
        if program.dropout and network.n_units:
            n_rows = self._buffers[0].shape[2]
            # The shape decides which number stands where.
            draw = _draw_masks((n_members * n_samples, n_rows, network.n_units), self._device)
            masks = draw(tf.constant(stream(MASKS)), tf.constant(self._knobs[SCALARS.index("dropout_rate")])).numpy()
            drawn["masks"] = masks.reshape(n_members, n_samples, n_rows, network.n_units)
        return drawn

    def run(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Take K steps.

        Parameters
        ----------
        X : ndarray of shape (K, M, B, n_features), float32
        y : ndarray of shape (K, M, B, n_targets), float32
        weight : ndarray of shape (K, M, B), float32
            0 for rows that only pad a batch.
        learning_rate : ndarray of shape (K,), float32

        Returns
        -------
        ndarray of shape (K, M)
            Loss of each step before its update.
        """
        with eager():
            return self._run(X, y, weight, learning_rate)

    def _run(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        if self._compiled is None:
            (_, n_members, n_rows, _), n_targets = X.shape, y.shape[-1]
            n_features = self._program.network.n_features
            self._stretch = _stretch_length(n_members, n_rows, n_features, n_targets)
            n_compiled = _compile.cache_info().misses
            self._compiled = _compile(self._program, self._stretch, n_members, n_rows, n_targets, self._device)
            if _compile.cache_info().misses > n_compiled:
                _warn_of_many_maps()
            shapes = ((n_members, n_rows, n_features), y.shape[1:], weight.shape[1:], ())
            self._buffers = [np.zeros((self._stretch, *shape), np.float32) for shape in shapes]
        inputs, *rest = self._buffers
        arrays = [(inputs[..., : X.shape[-1]], X), *zip(rest, (y, weight, learning_rate), strict=True)]
        losses = []
        for start in range(0, len(X), self._stretch):
            n = min(self._stretch, len(X) - start)
            # Steps after the n-th are not executed, so what their part of the buffers holds does not matter.
            for buffer, array in arrays:
                buffer[:n] = array[start : start + n]
            control = np.array([*self._seed, self._n_steps, self._n_updates, n], np.uint32).view(np.int32)
            batch = [*(self._array(a) for a in self._buffers), self._array(control, np.int32)]
            *self._state, loss = self._compiled(*self._state, *batch, self._knobs, *self._features)
            self._n_steps += n
            self._n_updates += n
            losses.append(np.asarray(loss)[:n])
        return np.concatenate(losses)


def eager() -> AbstractContextManager[None]:
    """Compute at once, though the caller may be building a graph or have disabled eager execution.

    ``tf.init_scope`` stays within a graph that the caller made, and stops gradient tapes.
    """
    return tf.__internal__.eager_context.eager_mode()


@lru_cache(maxsize=KEPT)
def _compile(program: Program, stretch: int, n_members: int, n_rows: int, n_targets: int, device: str) -> Any:
    """Trace the function of up to `stretch` steps for these shapes; XLA compiles it at its first call.

    On the processor the compiled function goes when it is not among the last `KEPT` that were used.
    """
    network = program.network
    n_vectors = sum(t.shape[1] for t in network.hidden_kernels) if program.spectral_norm else 0
    n_layer_weights = network.n_layer_weights if program.posterior else 0
    state = [(n_members, program.n_parameters)] * 3 + [(n_members, 1), (n_members, n_vectors)]
    batches = (stretch, n_members, n_rows)
    shapes = [*state, (*batches, network.n_features), (*batches, n_targets), batches, (stretch,)]
    n_knobs = len(SCALARS) + network.head.n_fixed + n_layer_weights
    signature = [tf.TensorSpec(shape) for shape in shapes]
    signature += [tf.TensorSpec((5,), tf.int32), tf.TensorSpec((n_knobs,))]
    signature += [tf.TensorSpec(shape) for shape in network.fixed_shapes.values()]

    def steps(
        theta: tf.Tensor,
        first: tf.Tensor,
        second: tf.Tensor,
        square: tf.Tensor,
        vectors: tf.Tensor,
        X: tf.Tensor,
        y: tf.Tensor,
        weight: tf.Tensor,
        learning_rate: tf.Tensor,
        control: tf.Tensor,
        knobs: tf.Tensor,
        *features: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        seed0, seed1, n_steps, n_updates, n = tf.unstack(control)
        named = _named(knobs, network.head.n_fixed)
        fixed = dict(zip(network.fixed_shapes, features, strict=True))
        if network.n_inducing:
            fixed["transposed"] = tf.transpose(fixed["feature_kernel"])

        def step(
            i: tf.Tensor,
            theta: tf.Tensor,
            first: tf.Tensor,
            second: tf.Tensor,
            square: tf.Tensor,
            vectors: tf.Tensor,
            losses: tf.TensorArray,
        ) -> tuple[Any, ...]:
            streams = [tf.stack([seed0 + n_steps + i, seed1 + tag]) for tag in (WEIGHTS, MASKS)]
            with tf.GradientTape() as tape:
                tape.watch(theta)
                loss = _batch_loss(program, theta, X[i], y[i], weight[i], named, fixed, streams)
            gradient = tape.gradient(loss, theta)
            moments = first, second, square, n_updates + i + 1
            theta, first, second, square = adam(program, theta, gradient, *moments, learning_rate[i], named)
            if n_vectors:
                theta, vectors = bound_spectral_norms(network, theta, vectors, named["spec_norm_bound"])
            return i + 1, theta, first, second, square, vectors, losses.write(i, loss)

        losses = tf.TensorArray(tf.float32, stretch, element_shape=(n_members,))
        start = (0, theta, first, second, square, vectors, losses)
        _, *state, losses = tf.while_loop(lambda i, *_: i < n, step, start)
        return (*state, losses.stack())

    if device == CPU:
        return Compiled(steps, signature)
    with tf.device(device):
        compiled = tf.function(steps, input_signature=signature, jit_compile=True, autograph=False)
        return compiled.get_concrete_function()


@cache
def _draw_noise(shape: tuple[int, ...], device: str) -> Any:
    """Compiled function of a stream that gives the noise of a step: what a step draws, XLA draws."""
    with tf.device(device):
        draw = tf.function(lambda stream: standard_normals(shape, stream), jit_compile=True, autograph=False)
        return draw.get_concrete_function(tf.TensorSpec((2,), tf.int32))


@cache
def _draw_masks(shape: tuple[int, ...], device: str) -> Any:
    """Compiled function of a stream and a dropout rate that gives the masks of a step."""
    with tf.device(device):
        draw = tf.function(lambda stream, rate: dropout_masks(shape, rate, stream), jit_compile=True, autograph=False)
        return draw.get_concrete_function(tf.TensorSpec((2,), tf.int32), tf.TensorSpec(()))


def _batch_loss(
    program: Program,
    theta: tf.Tensor,
    X: tf.Tensor,
    y: tf.Tensor,
    weight: tf.Tensor,
    knobs: dict[str, tf.Tensor],
    features: dict[str, tf.Tensor],
    streams: list[tf.Tensor],
) -> tf.Tensor:
    """Loss of one step for each member, shape (M,)."""
    network = program.network
    weights, penalty = theta, 0.0
    if program.posterior:
        n = program.n_train_samples
        weights, divergence = sampled_weights(program, theta, knobs, streams[WEIGHTS])
        penalty = knobs["kl_weight"] * divergence
        X, y, weight = tf.repeat(X, n, axis=0), tf.repeat(y, n, axis=0), tf.repeat(weight / n, n, axis=0)
    raw, constants = raw_outputs(program, weights, X, knobs["dropout_rate"], features, streams[MASKS])
    # Rows that only pad a batch get a target inside the support: 0 · inf would be NaN.
    y = tf.where(weight[..., None] > 0, y, network.head.padding_target)
    nll = negative_log_likelihood(network.head, raw, constants, knobs["fixed"], y, knobs["beta"])
    data = tf.reduce_sum(tf.reshape(weight * nll, (theta.shape[0], -1)), axis=-1)
    penalty += 0.5 * knobs["l2"] * tf.reduce_sum(program.kernel_mask * tf.square(theta), axis=-1)
    if network.n_inducing:
        beta = network.output_kernel
        penalty += 0.5 * knobs["ridge"] * tf.reduce_sum(tf.square(theta[:, beta.start : beta.stop]), axis=-1)
    return data + penalty


def _named(knobs: tf.Tensor, n_fixed: int) -> dict[str, tf.Tensor]:
    """Unpack the knobs."""
    scalars, fixed, prior_scale = tf.split(knobs, [len(SCALARS), n_fixed, knobs.shape[0] - len(SCALARS) - n_fixed])
    return dict(zip(SCALARS, tf.unstack(scalars), strict=True)) | {"fixed": fixed, "prior_scale": prior_scale}


def _stretch_length(n_members: int, n_rows: int, n_features: int, n_targets: int) -> int:
    """Most steps of one call: a power of two, so that few shapes are compiled."""
    fitting = STRETCH_BYTES // (4 * n_members * n_rows * (n_features + n_targets + 1))
    return 2 ** int(np.log2(np.clip(fitting, 1, MAX_STEPS)))


def _warn_of_many_maps() -> None:
    """Say so before Linux ends the process: compiled functions hold memory maps, those of others too."""
    maps, limit = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
    if not (maps.exists() and limit.exists()):
        return
    with maps.open("rb") as lines:
        used = sum(1 for _ in lines)
    allowed = int(limit.read_text())
    if used > MANY_MAPS * allowed:
        text = (
            f"This process holds {used} memory maps, and Linux ends one that needs more than {allowed}. TensorFlow keeps "
            f"{_compile.cache_info().currsize} functions compiled for training, 120 maps each. Go on in a new process, raise "
            f"vm.max_map_count, or use backend='blitz', which compiles nothing."
        )
        warnings.warn(text, UserWarning, stacklevel=2)


def _device_name(device: str) -> str:
    if device != "cuda":
        return CPU
    if not tf.config.list_physical_devices("GPU"):
        raise RuntimeError(
            "device='cuda' needs a GPU, and TensorFlow sees none. Install tensorflow[and-cuda] on a machine with an "
            "NVIDIA driver, or pass device='cpu'."
        )
    return "/GPU:0"
