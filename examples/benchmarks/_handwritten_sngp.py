"""The SNGP of TensorFlow's tutorial with tf-models-official's layers and a callback that resets the covariance.

After https://www.tensorflow.org/tutorials/understanding/sngp: spectral norm 0.9, 1024 random features, exact covariance
of the last epoch (momentum −1).
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras
from _handwritten_keras import DeepResNet, fit
from _rows import Data, Run
from official.nlp.modeling import layers as nlp_layers


class DeepResNetSNGP(DeepResNet):
    """The residual network with bounded spectral norms and a Gaussian process on top."""

    def make_hidden_layer(self, n_hidden):
        return nlp_layers.SpectralNormalization(super().make_hidden_layer(n_hidden), norm_multiplier=0.9)

    def make_output_layer(self, n_classes):
        return nlp_layers.RandomFeatureGaussianProcess(n_classes, num_inducing=1024, gp_cov_momentum=-1)

    def call(self, inputs, training=False, return_covmat=False):
        logits, covmat = super().call(inputs)
        return (logits, covmat) if return_covmat and not training else logits


class ResetCovariance(keras.callbacks.Callback):
    """Counts each row once: the precision starts anew with every epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch > 0:
            self.model.classifier.reset_covariance_matrix()


def fit_sngp(data: Data, run: Run):
    """Fit; predict mean-field probabilities and variances."""
    keras.utils.set_random_seed(run.seed)
    network = fit(DeepResNetSNGP(), data, run, [ResetCovariance()])

    def predict(X):
        logits, covmat = network(tf.constant(X, tf.float32), return_covmat=True)
        variance = tf.linalg.diag_part(covmat)[:, None]
        adjusted = logits / tf.sqrt(1.0 + (np.pi / 8) * variance)
        return tf.nn.softmax(adjusted).numpy(), variance.numpy()

    return predict
