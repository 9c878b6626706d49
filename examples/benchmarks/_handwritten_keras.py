"""The deterministic network of TensorFlow's SNGP tutorial, its ensemble and its MC dropout, with Keras 2.

After https://www.tensorflow.org/tutorials/understanding/sngp: a residual network of 6 × 128 relu units with dropout 0.1
behind a frozen linear projection, two logits, Adam at 1e-4, batches of 128, 100 epochs.
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras
from _rows import Data, Run

N_NETWORKS = 10
N_PASSES = 10


class DeepResNet(keras.Model):
    """Residual network; subclasses change the hidden and the output layers."""

    def __init__(self, n_classes=2, n_layers=6, n_hidden=128, dropout_rate=0.1):
        super().__init__()
        self.projection = keras.layers.Dense(n_hidden, trainable=False)
        self.hidden_layers = [self.make_hidden_layer(n_hidden) for _ in range(n_layers)]
        self.dropouts = [keras.layers.Dropout(dropout_rate) for _ in range(n_layers)]
        self.classifier = self.make_output_layer(n_classes)

    def make_hidden_layer(self, n_hidden):
        return keras.layers.Dense(n_hidden, activation="relu")

    def make_output_layer(self, n_classes):
        return keras.layers.Dense(n_classes)

    def call(self, inputs):
        hidden = self.projection(inputs)
        for layer, dropout in zip(self.hidden_layers, self.dropouts, strict=True):
            hidden += dropout(layer(hidden))
        return self.classifier(hidden)


def fit(network: keras.Model, data: Data, run: Run, callbacks=()) -> keras.Model:
    """Compile and fit as the tutorial does."""
    network.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy()],
        optimizer=keras.optimizers.Adam(learning_rate=1e-4),
    )
    network.fit(data.X, data.y, batch_size=128, epochs=run.epochs, verbose=0, callbacks=list(callbacks))
    return network


def fit_ensemble(data: Data, run: Run):
    """Networks one after the other; the mean of their probabilities."""
    keras.utils.set_random_seed(run.seed)
    networks = [fit(DeepResNet(), data, run) for _ in range(N_NETWORKS)]

    def predict(X):
        X = tf.constant(X, tf.float32)
        return np.mean([tf.nn.softmax(network(X)).numpy() for network in networks], axis=0)

    return predict


def fit_dropout(data: Data, run: Run):
    """One network; the mean of the probabilities of passes with dropout on."""
    keras.utils.set_random_seed(run.seed)
    network = fit(DeepResNet(), data, run)

    def predict(X):
        X = tf.constant(X, tf.float32)
        return np.mean([tf.nn.softmax(network(X, training=True)).numpy() for _ in range(N_PASSES)], axis=0)

    return predict
