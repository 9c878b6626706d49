"""Keras' probabilistic Bayesian network on wine, and the line of TFP's tutorial, with TFP's own layers."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras as keras
from _rows import Data, Run

N_DRAWS = 100


def negative_log_likelihood(y, distribution):
    return -distribution.log_prob(y)


def prior(kernel_size, bias_size, dtype=None):
    n = kernel_size + bias_size
    return keras.Sequential(
        [tfp.layers.DistributionLambda(lambda t: tfp.distributions.MultivariateNormalDiag(tf.zeros(n), tf.ones(n)))]
    )


def posterior(kernel_size, bias_size, dtype=None):
    n = kernel_size + bias_size
    size = tfp.layers.MultivariateNormalTriL.params_size(n)
    return keras.Sequential([tfp.layers.VariableLayer(size, dtype=dtype), tfp.layers.MultivariateNormalTriL(n)])


def fit_wine(data: Data, run: Run):
    """After https://keras.io/examples/keras_recipes/bayesian_neural_networks/, its third experiment.

    Two changes that let 100 epochs of these few rows train it: the target is standardised, and RMSprop runs at 0.01, the
    best of 0.003, 0.01 and 0.03.
    """
    keras.utils.set_random_seed(run.seed)
    shift, scale = data.y.mean(), data.y.std()
    inputs = keras.Input(shape=(data.X.shape[1],))
    features = keras.layers.BatchNormalization()(inputs)
    for units in (8, 8):
        features = tfp.layers.DenseVariational(
            units, posterior, prior, kl_weight=1 / len(data.X), activation="sigmoid"
        )(features)
    outputs = tfp.layers.IndependentNormal(1)(keras.layers.Dense(2)(features))
    network = keras.Model(inputs, outputs)
    network.compile(keras.optimizers.RMSprop(0.01), loss=negative_log_likelihood)
    network.fit(data.X, ((data.y - shift) / scale)[:, None], batch_size=256, epochs=run.epochs, verbose=0)

    def predict(X):
        X = tf.constant(X, tf.float32)
        draws = [network(X) for _ in range(5 if run.quick else N_DRAWS)]
        loc = np.stack([draw.mean().numpy()[:, 0] for draw in draws])
        std = np.stack([draw.stddev().numpy()[:, 0] for draw in draws])
        return shift + scale * loc, scale * std

    return predict


def fit_linear(data: Data, run: Run):
    """After https://www.tensorflow.org/probability/examples/Probabilistic_Layers_Regression, case 1."""
    keras.utils.set_random_seed(run.seed)
    network = keras.Sequential(
        [
            keras.layers.Dense(1),
            tfp.layers.DistributionLambda(lambda t: tfp.distributions.Normal(loc=t, scale=1)),
        ]
    )
    network.compile(keras.optimizers.Adam(learning_rate=0.01), loss=negative_log_likelihood)
    network.fit(data.X, data.y[:, None], epochs=run.epochs, verbose=0)

    def predict(X):
        loc = network(tf.constant(X, tf.float32)).mean().numpy().T
        return loc, np.ones_like(loc)

    return predict
