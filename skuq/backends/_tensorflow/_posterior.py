"""Weights drawn from a variational posterior and their divergence from the prior, on tensors."""

from collections.abc import Callable
from typing import cast

import numpy as np
import tensorflow as tf

from ..._model.variational import Posterior
from .._protocol import Program
from ._elementary import softplus, standard_normals

# Far below any scale that training meets; keeps logarithms finite.
TINY = 1e-30


def sampled_weights(
    program: Program, theta: tf.Tensor, knobs: dict[str, tf.Tensor], stream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights drawn from the posterior, (M · n_train_samples, n_weights), and KL(posterior ‖ prior), (M,)."""
    network, posterior, n_samples = program.network, cast(Posterior, program.posterior), program.n_train_samples
    n_members, n, s = theta.shape[0], network.n_layer_weights, knobs["prior_scale"]
    mean, spread, constants = tf.split(theta, [n, posterior.n_spreads, network.n_weights - n], axis=-1)
    noise = standard_normals((n_members, n_samples, n), stream)
    # Weights on padded features have no prior, and count for nothing.
    counted = tf.cast(s > 0, tf.float32)
    precision = counted / tf.square(tf.where(s > 0, s, 1.0))
    log_s = tf.reduce_sum(tf.math.log(tf.where(s > 0, s, 1.0)))
    if posterior.kind == "mean_field":
        # Repeated first: the gradient is then a sum over samples, which XLA does not write over the scales.
        log_scale = _log_softplus(tf.repeat(spread[:, None], n_samples, axis=1))
        scale = tf.exp(log_scale)
        deviation = scale * noise
        log_det = tf.reduce_sum(counted * tf.reduce_mean(log_scale, axis=1), axis=-1)
        trace = tf.reduce_sum(precision * tf.reduce_mean(tf.square(scale), axis=1), axis=-1)
    else:
        factors, log_det = _scale_factors(posterior, spread)
        sizes = [stop - start for start, stop in posterior.blocks]
        noises, precisions = tf.split(noise, sizes, axis=-1), tf.split(precision, sizes)
        deviations, traces = [], []
        for factor, e, weight in zip(factors, noises, precisions, strict=True):
            deviations.append(tf.matmul(e, factor, transpose_b=True))
            traces.append(tf.reduce_sum(weight[:, None] * tf.square(factor), axis=(1, 2)))
        deviation, trace = tf.concat(deviations, axis=-1), sum(traces)
    drawn = mean[:, None] + deviation
    if program.prior == "normal":
        square = tf.reduce_sum(precision * tf.square(mean), axis=-1)
        divergence = 0.5 * (trace + square - tf.reduce_sum(counted)) + log_s - log_det
    else:
        # log q − log p, sampled; the factors (2π)^(−1/2) of both cancel.
        log_p = _log_mixture(drawn, precision, knobs["prior_mix"], knobs["prior_ratio"])
        ratio = tf.reduce_mean(0.5 * tf.square(noise) + log_p, axis=1)
        divergence = log_s - log_det - tf.reduce_sum(counted * ratio, axis=-1)
    weights = tf.concat([drawn, tf.repeat(constants[:, None], n_samples, axis=1)], axis=-1)
    return tf.reshape(weights, (n_members * n_samples, network.n_weights)), divergence


@tf.custom_gradient
def _log_softplus(spread: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Logarithm of softplus(spread), the standard deviation."""
    value = tf.math.log(softplus(spread) + TINY)
    return value, lambda gradient: gradient * tf.sigmoid(spread) * tf.exp(-value)


def _log_mixture(weights: tf.Tensor, precision: tf.Tensor, mix: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
    """Log density of Blundell's mixture at each weight, (…, n), less log((2π)^(−1/2) √precision) of its wide component.

    Value and gradient share no exponential: kept for both, it would be written over in scalar code.
    """
    wide, narrow = tf.math.log(mix), tf.math.log(1 - mix) - tf.math.log(ratio)
    excess = 1 / tf.square(ratio) - 1

    @tf.custom_gradient
    def log_density(weights: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        half = 0.5 * precision * tf.square(weights)
        odds = narrow - wide - excess * half
        value = tf.maximum(wide - half, narrow - (1 + excess) * half) + tf.math.log(1 + tf.exp(-tf.abs(odds)))

        def gradient(g: tf.Tensor) -> tf.Tensor:
            return -g * precision * weights * (1 + excess * tf.sigmoid(odds))

        return value, gradient

    return log_density(weights)


def _scale_factors(posterior: Posterior, spread: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
    """Scale matrix of each layer, (M, n, n), as `Posterior.scale_factors`; and the log determinant of them all."""
    sizes = [stop - start for start, stop in posterior.blocks]
    packed = tf.split(spread, [size * (size + 1) // 2 for size in sizes], axis=-1)
    factors, log_dets = zip(*(_scale_factor(p, size) for p, size in zip(packed, sizes, strict=True)), strict=True)
    return factors, sum(log_dets)


def _scale_factor(packed: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale matrix (…, n, n) from the lower triangle row by row, and its log determinant, (…,).

    By gathers both ways: XLA runs a scatter entry by entry. Only the diagonal passes through softplus.
    """
    rows, columns = np.tril_indices(size)
    where = np.full((size, size), len(rows))
    where[rows, columns] = np.arange(len(rows))
    diagonal = np.eye(size, dtype=bool)

    @tf.custom_gradient
    def scale_factor(
        packed: tf.Tensor,
    ) -> tuple[tuple[tf.Tensor, tf.Tensor], Callable[[tf.Tensor, tf.Tensor], tf.Tensor]]:
        on_diagonal = tf.gather(packed, np.diagonal(where), axis=1)
        log_scale = tf.math.log(softplus(on_diagonal) + TINY)
        scale = tf.exp(log_scale)
        padded = tf.pad(packed, [[0, 0], [0, 1]])
        raw = tf.reshape(tf.gather(padded, where.ravel(), axis=1), (-1, size, size))

        def gradient(g: tf.Tensor, g_log_det: tf.Tensor) -> tf.Tensor:
            slope = tf.sigmoid(on_diagonal)[:, None]
            g = tf.where(diagonal, slope * (g + (g_log_det[:, None] / scale)[:, None]), g)
            return tf.gather(tf.reshape(g, (-1, size * size)), rows * size + columns, axis=1)

        return (tf.where(diagonal, scale[:, None], raw), tf.reduce_sum(log_scale, axis=-1)), gradient

    return scale_factor(packed)
