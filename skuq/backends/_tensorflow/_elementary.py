"""Elementary functions and random numbers by plain arithmetic, which XLA turns into vector code.

On a processor XLA calls libm element by element for sine and cosine, and its log1p, softplus and normal numbers come out as
loops that do not vectorise either: they take 4 to 20 times as long as these.

Two more rules decide the speed of a step of some thousand weights. XLA computes cheap operations anew in each loop that uses
their result; exponentials, logarithms, roots and quotients it computes once and keeps, if several loops use them. And where
the last loop to use an array gives one of the same shape, it writes over that array, in scalar code, since the compiler cannot
know that the two do not overlap; loops that sum, slice or gather never do.
"""

from collections.abc import Callable, Sequence
from math import log, prod

import numpy as np
import tensorflow as tf
from numpy.polynomial import Polynomial

# Rotations and parity constant of Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
_ROTATIONS, _PARITY = ((13, 15, 26, 6), (17, 29, 16, 24)), 0x1BD11BDA


def _coefficients(function: Callable[[np.ndarray], np.ndarray], low: float, high: float, degree: int) -> list[float]:
    """Coefficients of the Chebyshev fit of `function` on [low, high], lowest power first."""
    nodes = np.cos(np.pi * (np.arange(64) + 0.5) / 64)
    x = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    return [float(c) for c in Polynomial.fit(x, function(x), degree).convert().coef]


def _sine_share(square: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * np.sqrt(square)) / np.sqrt(square)


# sin(2πt) = t · polynomial(t²) for |t| ≤ ½, or t · another (t²) / (1 + t²);
# log(1 + x) = x · polynomial(x) from √½ − 1 to √2 − 1, and another one for 0 ≤ x ≤ 1. All are as exact as float32.
_SINE = _coefficients(_sine_share, 0.0, 0.25, 6)
_SINE_OVER = _coefficients(lambda square: (1 + square) * _sine_share(square), 0.0, 0.25, 6)
_LOG = _coefficients(lambda x: np.log1p(x) / x, 0.5**0.5 - 1, 2**0.5 - 1, 9)
_LOG1P = _coefficients(lambda x: np.log1p(x) / x, 0.0, 1.0, 9)


def _polynomial(coefficients: list[float], x: tf.Tensor) -> tf.Tensor:
    value = coefficients[-1]
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value


def sine(turns: tf.Tensor) -> tf.Tensor:
    """sin(2π · turns)."""
    t = turns - tf.floor(turns + 0.5)
    return t * _polynomial(_SINE, t * t)


def logarithm(x: tf.Tensor) -> tf.Tensor:
    """Natural logarithm of positive normal float32 numbers; no gradient."""
    bits = tf.bitcast(x, tf.int32)
    # x = 2^exponent · (1 + rest) with 1 + rest between √½ and √2, whose bits are 0x3F3504F3.
    exponent = tf.bitwise.right_shift(bits - 0x3F3504F3, 23)
    rest = tf.bitcast(bits - tf.bitwise.left_shift(exponent, 23), tf.float32) - 1.0
    return tf.cast(exponent, tf.float32) * log(2) + rest * _polynomial(_LOG, rest)


def softplus(x: tf.Tensor) -> tf.Tensor:
    """log(1 + eˣ) to its own last bits; no gradient."""
    e = tf.exp(-tf.abs(x))
    return tf.maximum(x, 0.0) + e * _polynomial(_LOG1P, e)


def standard_normals(shape: tuple[int, ...], stream: tf.Tensor) -> tf.Tensor:
    """Independent standard normal float32 numbers, the same for the same stream, two int32 numbers.

    Each comes from a block of Threefry of its own, by the cosine of Box & Muller (1958). Their sine would be another one,
    but two outputs of one computation are two computations to XLA, or one that does not vectorise.
    """
    counter = tf.cast(tf.reshape(tf.range(prod(shape)), shape), tf.uint32)
    key = tf.unstack(tf.bitcast(stream, tf.uint32))
    first, second = (_uniform(word) for word in threefry(key, (counter, tf.zeros_like(counter))))
    radius = tf.sqrt(-2.0 * logarithm(first))
    t = second - 0.5
    square = t * t
    # A quotient, because XLA keeps what was divided: a product it would compute anew, the words too, for each use.
    return radius * t * _polynomial(_SINE_OVER, square) / (1.0 + square)


def dropout_masks(shape: tuple[int, ...], rate: tf.Tensor, stream: tf.Tensor) -> tf.Tensor:
    """Masks of 0 and 1 / (1 − rate), the same for the same stream.

    Threefry is the counter generator that is cheap without a wide multiplier: a third of Philox's time on a processor.
    """
    keep = 1 - rate
    return tf.where(tf.random.stateless_uniform(shape, stream, alg="threefry") < keep, 1 / keep, 0.0)


def _uniform(word: tf.Tensor) -> tf.Tensor:
    """Middles of 2^23 equal parts of (0, 1), from a word's upper bits."""
    upper = tf.cast(tf.bitcast(tf.bitwise.right_shift(word, tf.constant(9, tf.uint32)), tf.int32), tf.float32)
    return upper * 2**-23 + 2**-24


def threefry(key: Sequence[tf.Tensor], counter: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Threefry-2x32 of 20 rounds: the two words of each counter, a pair of uint32 tensors, under a pair of numbers."""
    keys = [*key, tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(*key), tf.constant(_PARITY, tf.uint32))]
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for i in range(5):
        for by in _ROTATIONS[i % 2]:
            x += y
            left, right = tf.constant(by, tf.uint32), tf.constant(32 - by, tf.uint32)
            y = tf.bitwise.bitwise_or(tf.bitwise.left_shift(y, left), tf.bitwise.right_shift(y, right))
            y = tf.bitwise.bitwise_xor(x, y)
        x += keys[(i + 1) % 3]
        y += keys[(i + 2) % 3] + tf.constant(i + 1, tf.uint32)
    return x, y
