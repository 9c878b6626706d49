"""Fitted models in PyTorch's and BLiTZ's own layers, and back.

A native model takes X in the user's units. A regressor's returns a ``torch.distributions`` object in y's units, of
batch shape (n_rows, n_outputs); a classifier's returns logits, (n_rows, n_logits): one column for two classes. With
random features, in ``eval()``, it returns a pair whose second entry is the variance of the Gaussian process, see
:class:`NativeModel`. It is an ordinary ``nn.Module``: train it further by hand, then read it back.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from ..._model.posteriors import GaussianProcess, VariationalPosterior
from ._modules import LikelihoodHead, NativeModel, SpectralBound, read_encoding, stack_layers


def to_native(fitted):
    """Build the native model, or a list of them for several members.

    Parameters
    ----------
    fitted : Fitted

    Returns
    -------
    NativeModel or list of NativeModel, in evaluation mode
        With a variational posterior, one model of BLiTZ layers with BLiTZ's own methods (``sample_elbo``, …): every
        forward pass draws weights, from torch's global generator, as BLiTZ does; ``freeze_()`` uses the means.
    """
    # Layers initialise themselves from the global generator before their weights are overwritten.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        if isinstance(fitted.posterior, VariationalPosterior):
            from ._bayesian import build_bayesian

            return build_bayesian(fitted)
        models = [_build(fitted, weights) for weights in fitted.posterior.parameters]
    return models[0] if len(models) == 1 else models


def from_native(model, fitted):
    """Read weights, posterior and precision of a native model back.

    Parameters
    ----------
    model : NativeModel or list of NativeModel
        As :func:`to_native` returned it for `fitted`, trained further or not.
    fitted : Fitted

    Returns
    -------
    Fitted
    """
    posterior = fitted.posterior
    if isinstance(posterior, VariationalPosterior):
        from ._bayesian import read_bayesian

        return replace(fitted, posterior=posterior.with_parameters(read_bayesian(model, fitted)[None]))
    models = model if isinstance(model, (list, tuple)) else [model]
    expected = len(posterior.parameters)
    if len(models) != expected:
        raise ValueError(f"Got {len(models)} native models, expected {expected}, as to_native returns them.")
    if isinstance(posterior, GaussianProcess):
        precision, read = posterior.precision, models[0].precision.detach().cpu().numpy()
        if not np.array_equal(read, precision):
            posterior = posterior.with_precision(read.astype(precision.dtype))
    weights = np.stack([_read(m) for m in models]).astype(posterior.parameters.dtype)
    return replace(fitted, posterior=posterior.with_parameters(weights))


def _build(fitted, weights):
    tensors = {t.name: weights[t.start : t.stop].reshape(t.shape) for t in fitted.network.tensors}
    bound = fitted.posterior.spec_norm_bound
    layers = []
    for kernel, *bias in fitted.network.layers:
        n_in, n_out = kernel.shape
        layer = nn.Linear(n_in, n_out, bias=bool(bias), dtype=torch.float32)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(tensors[kernel.name].T))
            if bias:
                layer.bias.copy_(torch.tensor(tensors[bias[0].name]))
        if bound is not None and kernel in fitted.network.hidden_kernels:
            layer.eval()
            parametrize.register_parametrization(layer, "weight", SpectralBound(layer.weight, bound).eval())
        layers.append(layer)
    *hidden, output = layers
    stack = stack_layers(fitted, hidden, weights[fitted.network.n_layer_weights :])
    return NativeModel(fitted, stack, output, fitted.network.constants(weights)).eval()


@torch.no_grad()
def _read(model):
    """Flat weights of a native model in the order of ``Network.tensors``."""
    training = model.training
    # In training mode reading a bounded weight would take a power iteration.
    model.eval()
    parts = []
    for layer in (module for module in model.modules() if isinstance(module, nn.Linear)):
        parts.append(layer.weight.T)
        if layer.bias is not None:
            parts.append(layer.bias)
    parts += read_encoding(model)
    if isinstance(model.head, LikelihoodHead):
        parts.append(model.head.constants)
    model.train(training)
    return np.concatenate([part.detach().cpu().numpy().ravel() for part in parts])
