"""Weights drawn from a variational posterior and their divergence from the prior, on tensors."""

import numpy as np
import tensorflow as tf

# Far below any scale that training meets; keeps logarithms finite.
TINY = 1e-30


def sampled_weights(program, theta, knobs, stream):
    """Weights drawn from the posterior, (M · n_train_samples, n_weights), and KL(posterior ‖ prior), (M,)."""
    network, posterior, n_samples = program.network, program.posterior, program.n_train_samples
    n_members, n, s = theta.shape[0], network.n_layer_weights, knobs["prior_scale"]
    mean, spread, constants = tf.split(theta, [n, posterior.n_spreads, network.head.n_constants], axis=-1)
    noise = tf.random.stateless_normal((n_members, n_samples, n), stream, alg="threefry")
    # Weights on padded features have no prior, and count for nothing.
    counted = tf.cast(s > 0, tf.float32)
    s = tf.where(s > 0, s, 1.0)
    if posterior.kind == "mean_field":
        scale = tf.math.softplus(spread)
        log_det = tf.reduce_sum(counted * tf.math.log(scale + TINY), axis=-1)
        deviation = scale[:, None] * noise
        trace = tf.reduce_sum(counted * tf.square(scale / s), axis=-1)
    else:
        factors, log_det = _scale_factors(posterior, spread)
        sizes = [stop - start for start, stop in posterior.blocks]
        noises, scales = tf.split(noise, sizes, axis=-1), tf.split(s, sizes)
        deviations, traces = [], []
        for factor, e, s_block in zip(factors, noises, scales, strict=True):
            deviations.append(tf.matmul(e, factor, transpose_b=True))
            traces.append(tf.reduce_sum(tf.square(factor / s_block[:, None]), axis=(1, 2)))
        deviation, trace = tf.concat(deviations, axis=-1), sum(traces)
    drawn = mean[:, None] + deviation
    if program.prior == "normal":
        log_s = tf.reduce_sum(tf.math.log(s))
        square = tf.reduce_sum(tf.square(mean / s), axis=-1)
        divergence = 0.5 * (trace + square - tf.reduce_sum(counted)) + log_s - log_det
    else:
        # log q − log p, sampled; the factors (2π)^(−1/2) of both cancel.
        log_q = -0.5 * tf.reduce_sum(counted * tf.square(noise), axis=-1) - log_det[:, None]
        components = [(knobs["prior_mix"], s), (1 - knobs["prior_mix"], s * knobs["prior_ratio"])]
        log_p = [tf.math.log(p) - tf.math.log(s_i) - 0.5 * tf.square(drawn / s_i) for p, s_i in components]
        log_p = tf.reduce_sum(counted * tf.reduce_logsumexp(tf.stack(log_p), axis=0), axis=-1)
        divergence = tf.reduce_mean(log_q - log_p, axis=-1)
    weights = tf.concat([drawn, tf.repeat(constants[:, None], n_samples, axis=1)], axis=-1)
    return tf.reshape(weights, (n_members * n_samples, network.n_weights)), divergence


def _scale_factors(posterior, spread):
    """Scale matrix of each layer, (M, n, n), as `Posterior.scale_factors`; and the log determinant of them all."""
    sizes = [stop - start for start, stop in posterior.blocks]
    diagonal = np.concatenate([np.equal(*np.tril_indices(size)) for size in sizes])
    entries = tf.where(diagonal, tf.math.softplus(spread), spread)
    log_det = tf.reduce_sum(tf.math.log(tf.where(diagonal, entries + TINY, 1.0)), axis=-1)
    packed = tf.split(entries, [size * (size + 1) // 2 for size in sizes], axis=-1)
    return [_lower_triangle(p, size) for p, size in zip(packed, sizes, strict=True)], log_det


def _lower_triangle(packed, size):
    """(…, n, n) from the lower triangle row by row, by gathers both ways: XLA runs a scatter entry by entry."""
    rows, columns = np.tril_indices(size)
    where = np.full((size, size), len(rows))
    where[rows, columns] = np.arange(len(rows))

    @tf.custom_gradient
    def unpack(packed):
        padded = tf.pad(packed, [[0, 0], [0, 1]])
        matrix = tf.reshape(tf.gather(padded, where.ravel(), axis=1), (-1, size, size))
        return matrix, lambda g: tf.gather(tf.reshape(g, (-1, size * size)), rows * size + columns, axis=1)

    return unpack(packed)
