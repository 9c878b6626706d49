"""TensorFlow's side of ``skuq/_model/namespace.py``."""

from typing import Any

import tensorflow as tf

from ..._model.namespace import LEAST_SLOPE, Namespace


@tf.custom_gradient
def _positive(raw: tf.Tensor) -> Any:
    return tf.math.softplus(raw), lambda gradient: gradient * tf.maximum(tf.math.sigmoid(raw), LEAST_SLOPE)


def _logaddexp(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    return tf.maximum(x, y) + tf.math.log1p(tf.exp(-tf.abs(x - y)))


TENSORFLOW = Namespace(
    "tensorflow",
    abs=tf.abs,
    arctan=tf.atan,
    clip=tf.clip_by_value,
    constant=tf.stop_gradient,
    cos=tf.cos,
    digamma=tf.math.digamma,
    erf=tf.math.erf,
    exp=tf.exp,
    expm1=tf.math.expm1,
    lgamma=tf.math.lgamma,
    log=tf.math.log,
    log1p=tf.math.log1p,
    logaddexp=_logaddexp,
    maximum=tf.maximum,
    minimum=tf.minimum,
    positive=_positive,
    sigmoid=tf.math.sigmoid,
    sin=tf.sin,
    softplus=tf.math.softplus,
    sqrt=tf.sqrt,
    square=tf.square,
    tanh=tf.tanh,
    where=tf.where,
    xlogy=tf.math.xlogy,
)
