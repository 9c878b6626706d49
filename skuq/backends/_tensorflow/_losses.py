"""Negative log-likelihoods of the families, differentiable: the TensorFlow side of ``skuq/likelihoods.py``."""

from math import log, pi

import tensorflow as tf

from ...likelihoods import EXP_LIMIT, LEAST_SLOPE


def negative_log_likelihood(head, raw, constants, fixed, y, beta):
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
    if head.family == "bernoulli":
        labels = tf.broadcast_to(y, tf.shape(raw))
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels, raw), axis=-1)
    if head.family == "categorical":
        return tf.nn.softmax_cross_entropy_with_logits(tf.broadcast_to(y, tf.shape(raw)), raw)
    parameters = link_parameters(head, raw, constants, fixed)
    if head.family == "normal":
        # Written out: this is the hot path, and TensorFlow Probability takes a second to import.
        z = (y - parameters["loc"]) / parameters["scale"]
        nll = 0.5 * tf.square(z) + tf.math.log(parameters["scale"]) + 0.5 * log(2 * pi)
    else:
        nll = -distribution(head.family, parameters).log_prob(y)
    if any(p.name == "scale" and p.source == "input" for p in head.parameters):
        nll *= tf.stop_gradient(tf.pow(parameters["scale"], 2 * beta))
    return tf.reduce_sum(nll, axis=-1)


def link_parameters(head, raw, constants, fixed):
    """Named parameters from raw outputs, as :func:`skuq.likelihoods.link_parameters`, for tensors."""
    values = {}
    width, used = head.n_outputs, {"input": 0, "constant": 0, "fixed": 0}
    for parameter in head.parameters:
        i = used[parameter.source]
        used[parameter.source] += 1
        if parameter.source == "fixed":
            values[parameter.name] = tf.reshape(fixed[i], (1, 1, 1))
            continue
        source = raw if parameter.source == "input" else constants[:, None]
        linked = _LINKS[parameter.link](source[..., i * width : (i + 1) * width])
        values[parameter.name] = linked + parameter.floor if parameter.floor else linked
    return values


@tf.custom_gradient
def _softplus(raw):
    return tf.math.softplus(raw), lambda gradient: gradient * tf.maximum(tf.math.sigmoid(raw), LEAST_SLOPE)


_LINKS = {
    "identity": lambda raw: raw,
    "softplus": _softplus,
    "exp": lambda raw: tf.exp(tf.clip_by_value(raw, -EXP_LIMIT, EXP_LIMIT)),
}


def distribution(family, parameters):
    """TensorFlow Probability's distribution of that family with these parameters."""
    from tensorflow_probability import distributions as tfd

    p = parameters
    if family == "normal":
        return tfd.Normal(p["loc"], p["scale"])
    if family == "laplace":
        return tfd.Laplace(p["loc"], p["scale"])
    if family == "student_t":
        return tfd.StudentT(p["df"], p["loc"], p["scale"])
    if family == "gamma":
        return tfd.Gamma(p["shape"], rate=p["shape"] / p["mean"])
    if family == "poisson":
        return tfd.Poisson(p["rate"])
    if family == "negative_binomial":
        # Odds mean / concentration, by their logarithm: a probability rounds to 1 where the mean is large.
        logits = tf.math.log(p["mean"]) - tf.math.log(p["concentration"])
        return tfd.NegativeBinomial(p["concentration"], logits=logits)
    raise ValueError(f"The TensorFlow backend has no likelihood {family!r}. Add it to distribution() in {__name__}.")
