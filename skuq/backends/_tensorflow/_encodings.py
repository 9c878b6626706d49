"""Encodings of the inputs on tensors: twins of :mod:`skuq._data.encoding`, in training and as layers of native models.

`ENCODINGS` has the function of each, of (encoding, X, weights, features), X of shape (S, B, n_features), differentiable by the
weights. `NATIVE` has the layer of each; ``assign`` gives it the fixed arrays, and its variables bear the names of the layout.
"""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras

from ..._data.encoding import Periodic, PiecewiseLinear
from ._elementary import sine

Arrays = Mapping[str, tf.Tensor]


def piecewise_linear(encoding: PiecewiseLinear, X: tf.Tensor, weights: Arrays, features: Arrays) -> tf.Tensor:
    """Features and bins."""
    slope, offset, lowest, highest = tf.unstack(features["bins"])
    some = _encoded(X, features.get("encoded"))
    return _beside(X, tf.clip_by_value(some[..., None] * slope + offset, lowest, highest))


def periodic(encoding: Periodic, X: tf.Tensor, weights: Arrays, features: Arrays) -> tf.Tensor:
    """Features, sines and cosines."""
    frequencies = features["frequency_scale"] * weights["frequencies"][:, None]
    turns = _encoded(X, features.get("encoded"))[..., None] * frequencies
    return _beside(X, encoding.amplitude * sines_and_cosines(turns))


@tf.custom_gradient
def sines_and_cosines(turns: tf.Tensor) -> tuple:
    """[sin(2πt), cos(2πt) − 1] along the last axis, in vector code, and its gradient."""
    sines, cosines = sine(turns), sine(turns + 0.25)

    def gradient(g):
        towards_sines, towards_cosines = tf.split(g, 2, axis=-1)
        return 2 * np.pi * (cosines * towards_sines - sines * towards_cosines)

    return tf.concat([sines, cosines - 1.0], axis=-1), gradient


def _encoded(X, encoded):
    return X if encoded is None else tf.gather(X, tf.cast(encoded, tf.int32), axis=-1)


def _beside(X, parts):
    """Features, then the parts (…, n_encoded, width) of each encoded one."""
    flat = tf.concat([tf.shape(X)[:-1], [parts.shape[-2] * parts.shape[-1]]], axis=0)
    return tf.concat([X, tf.reshape(parts, flat)], axis=-1)


ENCODINGS = {PiecewiseLinear.name: piecewise_linear, Periodic.name: periodic}


class _EncodingLayer(tf_keras.layers.Layer):
    """Layer of an encoding of `size` and `n_encoded`; a subclass builds its variables and calls the function above."""

    def __init__(self, size, n_encoded=None, **kwargs):
        super().__init__(**kwargs)
        self.size, self.n_encoded = size, n_encoded

    def build(self, input_shape):
        """Make room for the columns that are encoded, where not all are."""
        self.encoded = None
        if self.n_encoded is not None:
            self.encoded = self._fixed("encoded", (self.n_encoded,), tf.int32)

    def _fixed(self, name, shape, dtype=None):
        return self.add_weight(name, shape, dtype, initializer="zeros", trainable=False)

    def assign(self, features):
        """Take over the fixed arrays."""
        for name, array in features.items():
            if getattr(self, name, None) is not None:
                getattr(self, name).assign(array)

    def _features(self, *names):
        arrays = {name: tf.convert_to_tensor(getattr(self, name)) for name in names}
        return arrays if self.encoded is None else {**arrays, "encoded": tf.convert_to_tensor(self.encoded)}

    def _n_columns(self, input_shape):
        return input_shape[-1] if self.n_encoded is None else self.n_encoded

    def get_config(self):
        """Arguments of the constructor."""
        return super().get_config() | {"size": self.size, "n_encoded": self.n_encoded}


@tf_keras.utils.register_keras_serializable("skuq")
class PiecewiseLinearEncoding(_EncodingLayer):
    """Features and their bins; `bins` and `encoded` are not trained."""

    def build(self, input_shape):
        """Make room for slope, offset, lowest and highest value of each bin, and for the columns that have bins."""
        self.bins = self._fixed("bins", (4, self._n_columns(input_shape), self.size))
        super().build(input_shape)

    def call(self, inputs):
        """Shape (n_rows, n_features + n_encoded · size)."""
        return piecewise_linear(PiecewiseLinear(self.size), inputs, {}, self._features("bins"))


@tf_keras.utils.register_keras_serializable("skuq")
class PeriodicEncoding(_EncodingLayer):
    """Features, sines and cosines; `frequencies` is trained."""

    def build(self, input_shape):
        """Make room for the frequencies and their scale."""
        self.frequency_scale = self._fixed("frequency_scale", (1,))
        self.frequencies = self.add_weight(
            "frequencies", (self._n_columns(input_shape), self.size), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, inputs):
        """Shape (n_rows, n_features + n_encoded · 2 · size)."""
        weights = {"frequencies": tf.convert_to_tensor(self.frequencies)[None]}
        return periodic(Periodic(self.size), inputs[None], weights, self._features("frequency_scale"))[0]


NATIVE = {PiecewiseLinear.name: PiecewiseLinearEncoding, Periodic.name: PeriodicEncoding}
