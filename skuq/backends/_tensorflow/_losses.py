"""Negative log-likelihoods, differentiable: what ``skuq/likelihoods.py`` writes, over TensorFlow's arrays."""

from math import log, pi

import tensorflow as tf

from ..._model.heads import Head, split_parameters
from ._namespace import TENSORFLOW


def negative_log_likelihood(
    head: Head, raw: tf.Tensor, constants: tf.Tensor, fixed: tf.Tensor, y: tf.Tensor, beta: tf.Tensor
) -> tf.Tensor:
    """Negative log-likelihood of every row, summed over targets, in nats.

    Parameters
    ----------
    head : Head
    raw : Tensor of shape (S, B, head.n_raw)
        Raw outputs of the network.
    constants : Tensor of shape (S, head.n_constants)
        Raw values of the learned constants.
    fixed : Tensor of shape (head.n_fixed,)
    y : Tensor of shape (S or 1, B, n_targets)
        Standardised targets or counts; 0/1 for "bernoulli"; one-hot for "categorical".
    beta : scalar Tensor
        β of the β-NLL: each target's loss is weighted by its own scale^(2β), held constant in the gradient
        (Seitzer et al. 2022, eq. 5). Without effect on families whose scale is not an output of the network.

    Returns
    -------
    Tensor of shape (S, B)
    """
    if head.family in _CROSS_ENTROPIES:
        return _CROSS_ENTROPIES[head.family](tf.broadcast_to(y, tf.shape(raw)), raw)
    parameters, y = head.of_rows(link_parameters(head, raw, constants, fixed), y)
    if head.family == "normal":
        # Written out: this is the hot path.
        z = (y - parameters["loc"]) / parameters["scale"]
        nll = 0.5 * tf.square(z) + tf.math.log(parameters["scale"]) + 0.5 * log(2 * pi)
    else:
        nll = -head.log_density(TENSORFLOW, y, parameters)
    if head.scales_loss:
        nll *= tf.stop_gradient(tf.pow(parameters["scale"], 2 * beta))
    return tf.reduce_sum(nll, axis=-1)


# Of labels and raw outputs.
_CROSS_ENTROPIES = {
    "bernoulli": lambda y, raw: tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(y, raw), axis=-1),
    "categorical": tf.nn.softmax_cross_entropy_with_logits,
}


def link_parameters(head: Head, raw: tf.Tensor, constants: tf.Tensor, fixed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Named parameters from raw outputs, as :func:`skuq._model.heads.link_parameters`, for tensors."""
    values = split_parameters(head, raw, constants, fixed, TENSORFLOW)
    return {name: tf.reshape(value, (1, 1, 1)) if value.shape.rank == 0 else value for name, value in values.items()}
