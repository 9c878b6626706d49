"""The network's forward pass on tensors: :meth:`skuq._model.network.Network.raw_outputs`, differentiable."""

from math import prod

import numpy as np
import tensorflow as tf

from ._elementary import dropout_masks, sine

ACTIVATIONS = {
    "identity": tf.identity,
    "relu": tf.nn.relu,
    "tanh": tf.math.tanh,
    "logistic": tf.math.sigmoid,
    "silu": tf.nn.silu,
    "gelu": tf.nn.gelu,
    "elu": tf.nn.elu,
    "softplus": tf.math.softplus,
}

# Fewer rows than this are no matrix worth a product of its own.
FEWEST_ROWS = 8


def raw_outputs(program, weights, X, dropout_rate, features, stream):
    """Raw outputs (S, B, n_raw) and raw constants of flat weights (S, n_weights): `Network.raw_outputs`, on tensors."""
    network = program.network
    sizes = network.hidden_layer_sizes
    activation, residual = ACTIVATIONS[network.activation], network.architecture == "resnet"
    w = views(weights, network.tensors)
    w |= {t.name: tf.stop_gradient(w[t.name]) for t in network.frozen}
    h = X
    if network.n_binned:
        h = encode(h, features["bins"], features.get("encoded"))
    if residual and sizes:
        h = _affine(h, w["kernel_in"], w["bias_in"])
    if program.dropout and sizes:
        masks = tf.split(dropout_masks((*X.shape[:2], network.n_units), dropout_rate, stream), sizes, axis=-1)
    for i in range(len(sizes)):
        z = activation(_affine(h, w[f"kernel_{i}"], w[f"bias_{i}"]))
        if program.dropout:
            z *= masks[i]
        h = h + z if residual else z
    if network.n_inducing:
        # One product for all members: they share the random features.
        fixed = (features[name] for name in ("feature_bias", "feature_kernel", "transposed"))
        h = _random_features(tf.reshape(h, (-1, network.hidden_width)), *fixed)
        h = tf.reshape(h, (*X.shape[:2], network.n_inducing))
        return _product(h, w["kernel_out"]), w.get("constants")
    return _affine(h, w["kernel_out"], w.get("bias_out")), w.get("constants")


def views(flat, tensors):
    """Named tensors of flat weights; by tf.split, whose gradient is one concatenation."""
    parts = tf.split(flat, [prod(t.shape) for t in tensors], axis=-1)
    return {t.name: tf.reshape(part, (flat.shape[0], *t.shape)) for t, part in zip(tensors, parts, strict=True)}


def encode(X, bins, encoded=None):
    """:func:`skuq._data.encoding.encode`, on tensors."""
    slope, offset, lowest, highest = tf.unstack(bins)
    some = X if encoded is None else tf.gather(X, tf.cast(encoded, tf.int32), axis=-1)
    parts = tf.clip_by_value(some[..., None] * slope + offset, lowest, highest)
    flat = tf.concat([tf.shape(X)[:-1], [bins.shape[1] * bins.shape[2]]], axis=0)
    return tf.concat([X, tf.reshape(parts, flat)], axis=-1)


def _affine(h, kernel, bias):
    z = h @ kernel
    return z if bias is None else z + bias[:, None]


def _random_features(h, bias, kernel, transposed):
    """√(2/M) cos(h A + b), shape (n_rows, M)."""
    height = (2 / kernel.shape[1]) ** 0.5

    @tf.custom_gradient
    def features(h):
        # XLA would call libm's cosine element by element, and transpose the kernel anew in each step.
        turns = (h @ kernel + bias) * (0.5 / np.pi)
        return height * sine(turns + 0.25), lambda g: (-height * g * sine(turns)) @ transposed

    return features(h)


@tf.custom_gradient
def _product(phi, beta):
    """Φ β of each member, with a gradient of β that reads Φ from memory.

    XLA takes a product with one column for a loop of its own, into which it draws Φ: every cosine would be computed once more,
    one by one. With some columns of zeros the gradient is a product of matrices.
    """

    def gradients(g):
        columns = tf.linalg.matrix_transpose(g)
        padded = tf.pad(columns, [[0, 0], [0, max(0, FEWEST_ROWS - columns.shape[1])], [0, 0]])
        towards_beta = (padded @ phi)[:, : columns.shape[1]]
        return tf.matmul(g, beta, transpose_b=True), tf.linalg.matrix_transpose(towards_beta)

    return phi @ beta, gradients
