"""A fitted model in the layers of Keras 2, TensorFlow Probability and tf-models-official, and back.

The layers keep the names below, by which :func:`from_native` finds them again; everything else about the model may
be changed by hand. A layer that samples (``DenseVariational``, ``Dropout``) draws from TensorFlow's global generator,
as these layers do: call ``tf.random.set_seed`` before it for repeatable numbers.

``save_weights`` and ``load_weights``, into another ``to_native()`` of the same estimator, keep every model. A whole model can be
copied, pickled and saved as ``.keras`` if it is a classifier of plain layers: TensorFlow Probability's ``DistributionLambda`` and
``DenseVariational`` and tf-models-official's layers cannot say what they were built from.

==========================  ========================================================================================
``standardize``             ``Rescaling`` by arrays: the network's units from the user's, in float64
``encode``                  the features and what stands beside those that are encoded, where any are
``dense_in``, ``dense_0``,  ``Dense``, inside tf-models-official's ``SpectralNormalization`` if the norm is bounded;
…, ``dense_out``            ``DenseVariational`` for a variational posterior
``gaussian_process``        tf-models-official's ``RandomFeatureGaussianProcess`` (``gaussian_process_0``, … where
                            each logit has a precision of its own)
``constants``               the head's learned constants, appended to the raw outputs
``exposure``                the column of X that is the row's exposure, appended to these, where there is one
``temperature``             ``Rescaling`` by arrays: logits over the temperature, less the class weights' part, where there is one
``distribution``            ``DistributionLambda``: p(y | x) in y's units, which samples its mean
==========================  ========================================================================================
"""

import importlib
from dataclasses import replace

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from ..._model.network import Role
from ..._model.posteriors import GaussianProcess, VariationalPosterior
from ._distributions import distribution
from ._encodings import NATIVE
from ._losses import link_parameters
from ._trainer import eager

tfb, tfd, tfpl = tfp.bijectors, tfp.distributions, tfp.layers

# Our names to Keras's.
ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "silu": "swish"}


def to_native(fitted, kl_weight=1.0):
    """Build the fitted model in the framework's own layers.

    Parameters
    ----------
    fitted : Fitted
    kl_weight : float, default=1.0
        Factor of the KL divergence that a variational layer adds to the model's losses. With a mean loss over the
        rows of a batch, as Keras has it, the evidence lower bound takes 1 / (number of training rows).

    Returns
    -------
    tf_keras.Model or list of tf_keras.Model
        One model, or a list of one for each of several members. A model takes X in the user's units. It returns a
        distribution over y (a regressor) or logits (a classifier). With random features it returns a pair: that, and
        s·ΦP⁻¹Φᵀ over the rows given, of shape (n_rows, n_rows), or (n_rows, n_rows, n_logits) where each logit has a
        precision of its own; for a regressor it is the covariance of the standardised function.
    """
    with eager():
        return _to_native(fitted, kl_weight)


def _to_native(fitted, kl_weight):
    posterior = fitted.posterior
    if isinstance(posterior, VariationalPosterior):
        model = _build(fitted, kl_weight)
        _load(_posterior_blocks(model, posterior), posterior.parameters[0])
        return model
    models = []
    for weights in posterior.parameters:
        model = _build(fitted, kl_weight)
        _load(_weight_blocks(model, fitted), weights)
        _load_singular_vectors(model, fitted.network)
        if isinstance(posterior, GaussianProcess):
            for layer, precision in zip(_process_layers(model), posterior.precision, strict=True):
                layer._gp_cov_layer.precision_matrix.assign(precision)
        models.append(model)
    return models[0] if len(models) == 1 else models


def from_native(model, fitted):
    """Read the weights of a native model (or list of models) back.

    Parameters
    ----------
    model : tf_keras.Model or list of tf_keras.Model
        From :func:`to_native`, perhaps trained further.
    fitted : Fitted
        What the model was built from.

    Returns
    -------
    Fitted
    """
    with eager():
        return _from_native(model if isinstance(model, list) else [model], fitted)


def _from_native(models, fitted):
    posterior = fitted.posterior
    if isinstance(posterior, VariationalPosterior):
        flat = _read(_posterior_blocks(models[0], posterior))
        return replace(fitted, posterior=posterior.with_parameters(flat[None]))
    if isinstance(posterior, GaussianProcess):
        read = np.stack([layer._gp_cov_layer.precision_matrix.numpy() for layer in _process_layers(models[0])])
        # Ours is in double precision: keep its digits unless training changed the matrix.
        if not np.array_equal(read, posterior.precision.astype(np.float32)):
            posterior = posterior.with_precision(read.astype(float))
    weights = np.stack([_read(_weight_blocks(m, fitted)) for m in models])
    return replace(fitted, posterior=posterior.with_parameters(weights))


def _build(fitted, kl_weight):
    """Build the model; its weights are still to be loaded."""
    network, posterior = fitted.network, fitted.posterior
    activation = ACTIVATIONS.get(network.activation, network.activation)
    # In double precision, so that a large offset costs no digits; the layers that follow cast to float32.
    X = tf_keras.Input((network.n_features,), name="X", dtype="float64")
    shift, scale = (np.asarray(a, np.float64) for a in (fitted.x_shift, fitted.x_scale))
    h = Affine(1 / scale, -shift / scale, name="standardize", dtype="float64")(X)
    if network.encoding is not None and network.n_encoded:
        encoding = NATIVE[network.encoding.name](network.encoding.size, network.encoding.n_encoded, name="encode")
        h = encoding(h)
        encoding.assign(posterior.features)
    for layer in network.layers[:-1]:
        if layer[0].role is Role.PROJECTION:
            h = _dense(fitted, kl_weight, layer, "linear")(h)
            continue
        suffix = _suffix(layer)
        z = _dense(fitted, kl_weight, layer, activation)(h)
        if posterior.dropout_rate:
            z = tf_keras.layers.Dropout(posterior.dropout_rate, name=f"dropout_{suffix}")(z)
        h = tf_keras.layers.Add(name=f"residual_{suffix}")([h, z]) if network.trunk.is_residual else z
    covariance = None
    if network.n_inducing:
        raw, covariance = _gaussian_process(fitted, h)
    else:
        raw = _dense(fitted, kl_weight, network.layers[-1], "linear")(h)
    if network.head.n_constants:
        raw = AppendConstants(network.head.n_constants, name="constants")(raw)
    if fitted.exposure is not None:
        raw = AppendExposure(fitted.exposure, name="exposure")([raw, X])
    if fitted.temperature != 1 or np.any(fitted.log_class_weight):
        shift = -np.asarray(fitted.log_class_weight, np.float64)
        raw = Affine(1 / fitted.temperature, shift, name="temperature")(raw)
    if network.head.family not in ("bernoulli", "categorical"):
        # IndependentNormal has neither a floor of the scale nor y's units, so the general layer it is made of. Its
        # tensor is the mean: a model whose values change from call to call could not be compared.
        head = tfpl.DistributionLambda(_in_target_units(fitted), tfd.Distribution.mean, name="distribution")
        raw = head(raw)
    return tf_keras.Model(X, raw if covariance is None else [raw, covariance])


def _dense(fitted, kl_weight, layer, activation):
    """One layer of the kind that `fitted` calls for."""
    kernel, name, units = layer[0], _layer_name(layer), layer[0].shape[1]
    posterior = fitted.posterior
    if isinstance(posterior, VariationalPosterior):
        return _variational(posterior, kl_weight, layer, activation)
    # Zeros, since all weights are loaded: no initializer draws from a global generator.
    dense = tf_keras.layers.Dense(units, activation, kernel_initializer="zeros", name=name)
    if posterior.spec_norm_bound is None or kernel not in fitted.network.hidden_kernels:
        return dense
    SpectralNormalization = _official_layer("spectral_normalization", "SpectralNormalization")

    return SpectralNormalization(dense, norm_multiplier=posterior.spec_norm_bound, inhere_layer_name=True)


def _variational(posterior, kl_weight, layer, activation):
    """``DenseVariational`` with the posterior and the prior of that layer."""
    prior = posterior.prior
    start, stop = posterior.layout.blocks[posterior.network.layers.index(layer)]
    s = tf.constant(prior.scale[start:stop], tf.float32)
    full = posterior.layout.kind == "full_covariance"

    def make_posterior(kernel_size, bias_size, dtype):
        n = kernel_size + bias_size
        if full:
            # The layer MultivariateNormalTriL would add 1e-5 to the diagonal.
            fill = tfb.FillScaleTriL(diag_shift=None)
            size = tfpl.MultivariateNormalTriL.params_size(n)
            q = tfpl.DistributionLambda(lambda t: tfd.MultivariateNormalTriL(t[..., :n], fill(t[..., n:])))
        else:
            size = tfpl.IndependentNormal.params_size(n)
            q = tfpl.IndependentNormal(n)
        return tf_keras.Sequential([tfpl.VariableLayer(size, dtype=dtype), q])

    def make_prior(kernel_size, bias_size, dtype):
        if prior.family == "scale_mixture":
            mix = tfd.Categorical(probs=np.full((stop - start, 2), (prior.mix, 1 - prior.mix), np.float32))
            components = tfd.Normal(0.0, tf.stack([s, prior.ratio * s], axis=-1))
            return lambda _: tfd.Independent(tfd.MixtureSameFamily(mix, components), 1)
        if full:
            return lambda _: tfd.MultivariateNormalDiag(tf.zeros_like(s), s)
        return lambda _: tfd.Independent(tfd.Normal(tf.zeros_like(s), s), 1)

    exact = prior.family == "normal"
    return tfpl.DenseVariational(
        layer[0].shape[1],
        make_posterior,
        make_prior,
        kl_weight,
        kl_use_exact=exact,
        activation=activation,
        name=_layer_name(layer),
    )


def _gaussian_process(fitted, h):
    """Raw outputs and predictive covariance (None without a precision) of the official layer or layers."""
    RandomFeatureGaussianProcess = _official_layer("gaussian_process", "RandomFeatureGaussianProcess")

    n_raw, posterior = fitted.network.head.n_raw, fitted.posterior
    process = posterior if isinstance(posterior, GaussianProcess) else None
    shared = process is None or process.covariance.n_precisions == 1
    names = ["gaussian_process"] if shared else [f"gaussian_process_{i}" for i in range(n_raw)]
    outputs = []
    for name in names:
        layer = RandomFeatureGaussianProcess(
            n_raw if shared else 1,
            fitted.network.n_inducing,
            gp_kernel_scale=1.0,  # feature_kernel is scaled already
            # An exact sum over one pass, not a moving average: before training further, and before each new pass over
            # the data, call the layer's reset_covariance_matrix().
            gp_cov_momentum=-1,
            gp_cov_ridge_penalty=1.0 if process is None else process.ridge_penalty,
            custom_random_features_initializer="zeros",
            l2_regularization=0.0,
            kernel_initializer="zeros",
            return_gp_cov=process is not None,
            name=name,
        )
        outputs.append(layer(h))
        layer._random_feature.kernel.assign(posterior.features["feature_kernel"])
        layer._random_feature.bias.assign(posterior.features["feature_bias"])
    if shared:
        return outputs[0] if process is not None else (outputs[0][0], None)
    raw = tf_keras.layers.Concatenate(name="logits")([logit for logit, _ in outputs])
    return raw, tf_keras.layers.Lambda(lambda c: tf.stack(c, axis=-1), name="covariance")([c for _, c in outputs])


def _official_layer(module, name):
    """Layer of tf-models-official, imported only here: training and prediction do without it."""
    try:
        return getattr(importlib.import_module(f"official.nlp.modeling.layers.{module}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The native SNGP model is built of tf-models-official's {name}, which is not installed. Install it with "
            f"pip install 'skuq[tf-models]'."
        ) from error


@tf_keras.utils.register_keras_serializable("skuq")
class Affine(tf_keras.layers.Rescaling):
    """``Rescaling`` by arrays, which can be saved: Keras writes no arrays, and would read lists in float32."""

    def __init__(self, scale, offset=0.0, **kwargs):
        super().__init__(np.asarray(scale, np.float64), np.asarray(offset, np.float64), **kwargs)

    def get_config(self):
        """Arguments of the constructor."""
        return super().get_config() | {"scale": self.scale.tolist(), "offset": self.offset.tolist()}


@tf_keras.utils.register_keras_serializable("skuq")
class AppendConstants(tf_keras.layers.Layer):
    """Append the same learned numbers to every row, such as the logarithm of a constant noise."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.constants = self.add_weight("constants", (size,), initializer="zeros")

    def call(self, inputs):
        """Raw outputs and the constants beside them, shape (n_rows, n_raw + size)."""
        return tf.concat([inputs, tf.broadcast_to(self.constants, (tf.shape(inputs)[0], self.size))], axis=-1)

    def get_config(self):
        """Arguments of the constructor."""
        return super().get_config() | {"size": self.size}


@tf_keras.utils.register_keras_serializable("skuq")
class AppendExposure(tf_keras.layers.Layer):
    """Append one column of X, the exposure of each row."""

    def __init__(self, column, **kwargs):
        super().__init__(**kwargs)
        self.column = column

    def call(self, inputs):
        """Raw outputs and the exposure beside them, shape (n_rows, n_raw + 1)."""
        raw, X = inputs
        return tf.concat([raw, X[:, self.column : self.column + 1]], axis=-1)

    def get_config(self):
        """Arguments of the constructor."""
        return super().get_config() | {"column": self.column}


def _in_target_units(fitted):
    """Return the function from raw outputs, constants beside them, (and exposures), to the distribution of y in its own units."""
    head = fitted.network.head
    arrays = (fitted.fixed, fitted.y_shift, fitted.y_scale, fitted.noise_scale, fitted.noise_power, fitted.noise_limit)
    fixed, shift, scale, noise, power, limit = (tf.constant(a, tf.float32) for a in arrays)

    def make_distribution(t):
        stop = head.n_raw + head.n_constants
        raw, constants = t[:, None, : head.n_raw], t[:, head.n_raw : stop]
        parameters = {k: v[:, 0] for k, v in link_parameters(head, raw, constants, fixed).items()}
        likelihood = head.density.likelihood
        if likelihood.learns_scale:
            parameters["scale"] = tf.minimum(parameters["scale"] ** power * noise, limit)
        parameters = likelihood.to_target_units(parameters, shift, scale)
        if head.has_exposure:
            parameters = head.exposed(parameters, t[:, stop:])
        y = tfd.LogNormal(**parameters) if fitted.log_target else distribution(head, parameters)
        return tfd.Independent(y, reinterpreted_batch_ndims=1)

    return make_distribution


def _layer_name(layer):
    return f"dense_{_suffix(layer)}"


def _suffix(layer):
    return layer[0].name.partition("_")[2]


def _process_layers(model):
    return [layer for layer in model.layers if layer.name.startswith("gaussian_process")]


# A block is a variable's place in the flat vector: the variable, and the flat positions that its entries take.
def _weight_blocks(model, fitted):
    """Blocks of one member's point weights."""
    blocks, network = [], fitted.network
    for layer in network.layers:
        if network.n_inducing and layer[0].role is Role.OUTPUT:
            layers = _process_layers(model)
            columns = np.split(_positions(layer[0]), len(layers), axis=1)
            blocks += [(process._gp_output_layer.kernel, part) for process, part in zip(layers, columns, strict=True)]
            continue
        dense = model.get_layer(_layer_name(layer))
        variables = getattr(dense, "layer", dense)
        for tensor in layer:
            blocks.append((variables.bias if tensor.is_bias else variables.kernel, _positions(tensor)))
    return blocks + _point_blocks(model, network, 0)


def _point_blocks(model, network, shift):
    """Blocks of what is a point estimate in every method, whose positions come `shift` later than in the weights."""
    blocks = []
    for tensor in network.tensors:
        if tensor.role is Role.CONSTANT:
            blocks.append((model.get_layer("constants").constants, shift + _positions(tensor)))
        elif tensor.role is Role.ENCODING:
            blocks.append((getattr(model.get_layer("encode"), tensor.name), shift + _positions(tensor)))
    return blocks


def _positions(tensor):
    """Where a tensor's numbers stand in the flat weights, in its own shape."""
    return np.arange(tensor.start, tensor.stop).reshape(tensor.shape)


def _posterior_blocks(model, posterior):
    """Blocks of the posterior's flat parameters: means, then spreads, layer by layer, as TFP's layers hold them."""
    layout, network = posterior.layout, posterior.network
    n_means, used, blocks = network.n_layer_weights, 0, []
    for layer, (start, stop) in zip(network.layers, layout.blocks, strict=True):
        if layout.kind == "mean_field":
            spreads = n_means + np.arange(start, stop)
        else:
            # TFP fills a triangle in a spiral of its own; ours is row by row.
            size = stop - start
            rows = np.tril_indices(size)
            spiral = tfp.math.fill_triangular(np.arange(size * (size + 1) // 2)).numpy()[rows]
            spreads = n_means + used + np.argsort(spiral)
            used += len(spiral)
        (variable,) = model.get_layer(_layer_name(layer)).weights
        blocks.append((variable, np.concatenate([np.arange(start, stop), spreads])))
    return blocks + _point_blocks(model, network, layout.n_spreads)


def _load(blocks, flat):
    for variable, positions in blocks:
        variable.assign(flat[positions])


def _read(blocks):
    flat = np.empty(sum(positions.size for _, positions in blocks), np.float32)
    for variable, positions in blocks:
        flat[positions] = variable.numpy()
    return flat


def _load_singular_vectors(model, network):
    """Give each ``SpectralNormalization`` the leading singular vectors of its kernel: zero kernels left it none."""
    for tensor in network.hidden_kernels:
        layer = model.get_layer(_layer_name((tensor,)))
        if hasattr(layer, "layer"):
            left, (norm, *_), right = np.linalg.svd(layer.layer.kernel.numpy())
            layer.v.assign(left[:, :1].T)
            layer.u.assign(right[:1])
            # Training's estimate of the norm runs a little behind, and this layer scales its kernel back whenever it is
            # called without training=False: leave it the norm that it has.
            layer.norm_multiplier = max(layer.norm_multiplier, 1.00001 * float(norm))
