"""What a native regressor returns: TensorFlow Probability's distributions, of its own families where it has them."""

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd
from tensorflow_probability import random as tfp_random
from tensorflow_probability import util as tfp_util

from ._namespace import TENSORFLOW


def _negative_binomial(p):
    # Odds mean / concentration, by their logarithm: a probability rounds to 1 where the mean is large.
    return tfd.NegativeBinomial(p["concentration"], logits=tf.math.log(p["mean"]) - tf.math.log(p["concentration"]))


OWN = {
    "normal": lambda p: tfd.Normal(p["loc"], p["scale"]),
    "laplace": lambda p: tfd.Laplace(p["loc"], p["scale"]),
    "student_t": lambda p: tfd.StudentT(p["df"], p["loc"], p["scale"]),
    "gamma": lambda p: tfd.Gamma(p["shape"], rate=p["shape"] / p["mean"]),
    "poisson": lambda p: tfd.Poisson(p["rate"]),
    "negative_binomial": _negative_binomial,
}


def distribution(head, parameters):
    """Distribution of a regression head with these named parameters: TFP's own, or of the likelihood's formulas."""
    if head.family in OWN:
        return OWN[head.family](parameters)
    names = list(parameters)
    arrays = [parameters[name] for name in names]
    shape = tf.shape(sum(arrays))
    joined = tf.stack([tf.broadcast_to(array, shape) for array in arrays], axis=-1)
    return LikelihoodDistribution(joined, head.density.likelihood, names)


class LikelihoodDistribution(tfd.Distribution):
    """A likelihood's formulas as a distribution: the log density has gradients, all else is computed by NumPy.

    Parameters
    ----------
    joined : Tensor of shape (..., n_parameters)
        Parameters in y's units, those of one target on the last axis.
    likelihood : Likelihood
    names : list of str
        Of the parameters.
    """

    def __init__(self, joined, likelihood, names, name="Likelihood"):
        parameters = dict(locals())
        self._joined, self._likelihood, self._names = joined, likelihood, names
        super().__init__(
            dtype=joined.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {"joined": tfp_util.ParameterProperties(event_ndims=1)}

    def _event_shape(self):
        return tf.TensorShape([])

    def _event_shape_tensor(self, joined=None):
        return tf.constant([], tf.int32)

    def _named(self, joined):
        return dict(zip(self._names, [joined[..., i] for i in range(len(self._names))], strict=True))

    def _log_prob(self, value):
        return self._likelihood.log_density(TENSORFLOW, value, self._named(self._joined))

    def _by_numpy(self, function, *values):
        def compute(joined, *values):
            values = [value.astype(float) for value in values]
            return np.asarray(function(*values, self._named(joined.astype(float))), self.dtype.as_numpy_dtype)

        answer = tf.numpy_function(compute, [self._joined, *values], self.dtype)
        shape = self._joined.shape[:-1]
        for value in values:
            shape = tf.broadcast_static_shape(shape, value.shape)
        return tf.ensure_shape(answer, shape)

    def _mean(self):
        return self._by_numpy(self._likelihood.mean)

    def _variance(self):
        return self._by_numpy(self._likelihood.var)

    def _stddev(self):
        return tf.sqrt(self._variance())

    def _cdf(self, value):
        return self._by_numpy(self._likelihood.cdf, value)

    def _quantile(self, value):
        return self._by_numpy(self._likelihood.ppf, value)

    def _sample_n(self, n, seed=None):
        shape = tf.concat([[n], tf.shape(self._joined)[:-1]], axis=0)
        seed = tfp_random.sanitize_seed(seed, salt="likelihood")
        return self._quantile(tf.random.stateless_uniform(shape, seed, minval=1e-7, maxval=1.0, dtype=self.dtype))
