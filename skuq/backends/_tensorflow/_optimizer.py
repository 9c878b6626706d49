"""What a step does to the parameters: Adam with a limit to the gradient, the proximal step, bounded norms."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ..._model.network import Network, Tensor
from .._protocol import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, LONGEST_GRADIENT, Program

# Far below any norm that training meets; keeps quotients finite.
TINY = 1e-30


def adam(
    program: Program,
    theta: tf.Tensor,
    gradient: tf.Tensor,
    first: tf.Tensor,
    second: tf.Tensor,
    square: tf.Tensor,
    t: tf.Tensor,
    learning_rate: tf.Tensor,
    knobs: dict[str, tf.Tensor],
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """One step of Adam (Kingma & Ba 2015, algorithm 1), proximal step; new (θ, m, v, Σv).

    `square` is the sum of `second` over each member, (M, 1), carried because adding it up anew would take a pass over memory.
    """
    kernels = program.kernel_mask
    t = tf.cast(t, tf.float32)
    # Squared, both.
    length = tf.reduce_sum(tf.square(gradient), axis=-1, keepdims=True)
    longest = square * (LONGEST_GRADIENT**2 / tf.maximum(-tf.math.expm1((t - 1) * np.log(ADAM_BETA2)), TINY))
    # Nothing is known before the first gradient that is not zero.
    too_long = (longest > 0) & (length > longest)
    gradient *= tf.where(too_long, tf.sqrt(longest / length), 1.0)
    square = ADAM_BETA2 * square + (1 - ADAM_BETA2) * tf.where(too_long, longest, length)
    first = ADAM_BETA1 * first + (1 - ADAM_BETA1) * gradient
    second = ADAM_BETA2 * second + (1 - ADAM_BETA2) * tf.square(gradient)
    corrected = second / -tf.math.expm1(t * np.log(ADAM_BETA2))
    rate = learning_rate / (tf.sqrt(corrected) + ADAM_EPSILON)
    theta = theta - rate * first / -tf.math.expm1(t * np.log(ADAM_BETA1))
    if program.l1:
        # Soft threshold in Adam's own metric, so that the fixed point is the Lasso's.
        theta = tf.sign(theta) * tf.nn.relu(tf.abs(theta) - rate * knobs["l1"] * kernels)
    return theta, first, second, square


def bound_spectral_norms(
    network: Network, theta: tf.Tensor, vectors: tf.Tensor, bound: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale hidden kernels back to the bound by one power iteration from the carried right singular vectors."""
    carried, used = [], 0
    for first, count, stride in _rows_of_kernels(network.hidden_kernels):
        n_members, (fan_in, fan_out) = theta.shape[0], first.shape
        stop, size = first.start + count * stride, fan_in * fan_out
        stretch = tf.reshape(theta[:, first.start : stop], (n_members, count, stride))
        kernels = tf.reshape(stretch[..., :size], (n_members, count, fan_in, fan_out))
        right = tf.reshape(vectors[:, used : used + count * fan_out], (n_members, count, fan_out))
        left, _ = _unit(tf.linalg.matvec(kernels, right))
        ahead, norm = _unit(tf.linalg.matvec(kernels, left, transpose_a=True))
        factor = tf.minimum(1.0, bound / norm)
        for k in range(count):
            # Written in place: a concatenation of all tensors would be copied number by number.
            begin, end = [0, first.start + k * stride], [n_members, first.start + k * stride + size]
            scaled = theta[:, begin[1] : end[1]] * factor[:, k]
            theta = tf.raw_ops.TensorStridedSliceUpdate(input=theta, begin=begin, end=end, strides=[1, 1], value=scaled)
        # A kernel that is zero for a while would lose its vector, and with it the bound, for good.
        carried.append(tf.reshape(tf.where(norm > 2 * TINY, ahead, right), (n_members, -1)))
        used += count * fan_out
    return theta, tf.concat(carried, axis=-1)


def _rows_of_kernels(kernels: Sequence[Tensor]) -> list[tuple[Tensor, int, int]]:
    """Kernels of one shape and at equal distances in the flat parameters: the first, how many, the distance."""
    rows: list[tuple[Tensor, int, int]] = []
    for kernel in kernels:
        if rows:
            first, count, stride = rows[-1]
            distance = kernel.start - first.start
            if kernel.shape == first.shape and (count == 1 or distance == count * stride):
                rows[-1] = first, count + 1, distance // count
                continue
        rows.append((kernel, 1, kernel.stop - kernel.start))
    return rows


def singular_vectors(program: Program, parameters: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Right singular vector of each hidden kernel after some power iterations, side by side, (M, sum of widths)."""
    vectors = [np.zeros((len(parameters), 0), np.float32)]
    rng = np.random.default_rng(seed)
    for tensor in program.network.hidden_kernels if program.spectral_norm else ():
        kernel = parameters[:, tensor.start : tensor.stop].reshape(-1, *tensor.shape)
        right = rng.standard_normal((len(parameters), tensor.shape[1], 1), np.float32)
        for _ in range(10):
            ahead = kernel.transpose(0, 2, 1) @ (kernel @ right)
            norm = np.linalg.norm(ahead, axis=1, keepdims=True)
            right = np.where(norm > TINY, ahead / (norm + TINY), right)
        vectors.append(right[..., 0])
    return np.concatenate(vectors, axis=-1)


def _unit(vector: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    norm = tf.norm(vector, axis=-1, keepdims=True) + TINY
    return vector / norm, norm
