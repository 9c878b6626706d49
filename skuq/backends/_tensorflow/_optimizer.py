"""What a step does to the parameters: Adam with a limit to the gradient, decay, the proximal step, bounded norms."""

import numpy as np
import tensorflow as tf

from .. import ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON, LONGEST_GRADIENT
from ._trunk import views

# Far below any norm that training meets; keeps quotients finite.
TINY = 1e-30


def adam(program, theta, gradient, first, second, square, t, learning_rate, knobs):
    """One step of Adam (Kingma & Ba 2015, algorithm 1), decoupled decay, proximal step; new (θ, m, v, Σv).

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
    theta = theta * (1 - learning_rate * knobs["weight_decay"] * kernels)
    theta -= rate * first / -tf.math.expm1(t * np.log(ADAM_BETA1))
    if program.l1:
        # Soft threshold in Adam's own metric, so that the fixed point is the Lasso's.
        theta = tf.sign(theta) * tf.nn.relu(tf.abs(theta) - rate * knobs["l1"] * kernels)
    return theta, first, second, square


def bound_spectral_norms(network, theta, vectors, bound):
    """Scale hidden kernels back to the bound by one power iteration from the carried right singular vectors."""
    w = views(theta, network.tensors)
    kernels = network.hidden_kernels
    carried = []
    vectors = tf.split(vectors, [t.shape[1] for t in kernels], axis=-1)
    for tensor, right in zip(kernels, vectors, strict=True):
        kernel = w[tensor.name]
        left, _ = _unit(tf.linalg.matvec(kernel, right))
        ahead, norm = _unit(tf.linalg.matvec(kernel, left, transpose_a=True))
        w[tensor.name] = kernel * tf.minimum(1.0, bound / norm)[..., None]
        # A kernel that is zero for a while would lose its vector, and with it the bound, for good.
        carried.append(tf.where(norm > 2 * TINY, ahead, right))
    blocks = [tf.reshape(w[t.name], (theta.shape[0], -1)) for t in network.tensors]
    return tf.concat(blocks, axis=-1), tf.concat(carried, axis=-1)


def singular_vectors(program, parameters, seed):
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


def _unit(vector):
    norm = tf.norm(vector, axis=-1, keepdims=True) + TINY
    return vector / norm, norm
