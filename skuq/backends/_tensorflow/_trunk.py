"""The network's forward pass on tensors: :meth:`skuq._model.network.Network.raw_outputs`, differentiable.

Its parts are those of the network: `TRUNKS` has the twin of each trunk, by its name, and ``_encodings.py`` those of
the encodings.
"""

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np
import tensorflow as tf

from ..._model.trunk import Mlp, Resnet, Role, Trunk
from ._elementary import dropout_masks, sine
from ._encodings import ENCODINGS

Weights = Mapping[str, tf.Tensor]

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
    w = views(weights, network.tensors)
    w |= {t.name: tf.stop_gradient(w[t.name]) for t in network.frozen}
    h = X
    if network.encoding is not None and network.n_encoded:
        h = ENCODINGS[network.encoding.name](network.encoding, h, w, features)
    masks = None
    if program.dropout and network.n_units:
        shape = (*X.shape[:2], network.n_units)
        masks = tf.split(dropout_masks(shape, dropout_rate, stream), network.hidden_layer_sizes, axis=-1)
    h = TRUNKS[network.architecture](network.trunk, w, h, masks)
    constants = next((w[t.name] for t in network.tensors if t.role is Role.CONSTANT), None)
    kernel, bias = w[network.output_kernel.name], network.output_bias
    if network.n_inducing:
        # One product for all members: they share the random features.
        fixed = (features[name] for name in ("feature_bias", "feature_kernel", "transposed"))
        h = _random_features(tf.reshape(h, (-1, network.hidden_width)), *fixed)
        h = tf.reshape(h, (*X.shape[:2], network.n_inducing))
        return _product(h, kernel), constants
    return _affine(h, kernel, None if bias is None else w[bias.name]), constants


def views(flat, tensors):
    """Named tensors of flat weights; by tf.split, whose gradient is one concatenation."""
    parts = tf.split(flat, [prod(t.shape) for t in tensors], axis=-1)
    return {t.name: tf.reshape(part, (flat.shape[0], *t.shape)) for t, part in zip(tensors, parts, strict=True)}


def plain_layers(trunk: Trunk, w: Weights, h: tf.Tensor, masks: Sequence[tf.Tensor] | None) -> tf.Tensor:
    """:meth:`skuq._model.trunk.Mlp.apply`, on tensors."""
    act = ACTIVATIONS[trunk.activation]
    for i, layer in enumerate(trunk.layout()):
        h = act(_affine(h, w[layer.kernel], w[layer.bias]))
        h = h if masks is None else h * masks[i]
    return h


def residual_layers(trunk: Trunk, w: Weights, h: tf.Tensor, masks: Sequence[tf.Tensor] | None) -> tf.Tensor:
    """:meth:`skuq._model.trunk.Resnet.apply`, on tensors."""
    act = ACTIVATIONS[trunk.activation]
    for i, layer in enumerate(trunk.layout(), start=-1):
        z = _affine(h, w[layer.kernel], w[layer.bias])
        if layer.role is Role.PROJECTION:
            h = z
            continue
        z = act(z)
        h = h + (z if masks is None else z * masks[i])
    return h


TRUNKS = {Mlp.name: plain_layers, Resnet.name: residual_layers}


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
