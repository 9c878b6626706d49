"""The modules of native models: standardised inputs, hidden layers, and what the outputs mean.

What builds them of a fitted model, and reads them back, stands in ``_native.py``; layers of BLiTZ in ``_bayesian.py``.
"""

import numpy as np
import torch
from torch import distributions, nn

from ..._model.network import Role
from ..._model.posteriors import GaussianProcess
from ._distributions import distribution
from ._encodings import NATIVE
from ._losses import link_parameters

ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


class NativeModel(nn.Module):
    """Standardised inputs, hidden layers, output layer, and what the outputs mean.

    With random features and a fitted precision P, ``eval()`` makes the forward pass return ``(outputs, variance)``:
    the predictive variance s·Φ P⁻¹ Φᵀ of each row, shape (n_rows, n_precisions) for logits, and (n_rows, n_outputs) for a
    regressor: of the location, in y's units squared (of log y for a log-normal), or of the log mean of a gamma or a count.
    In training mode only the outputs. Training by hand changes Φ but not the buffer `precision`: assign a new one,
    s·I + Σ w Φᵢ Φᵢᵀ with Φ from ``model.hidden(model.standardize(X))``.
    A model can be copied, and its ``state_dict`` saved and loaded into another of the same estimator. It can be pickled, but for
    one of bounded spectral norms (SNGP): torch pickles no parametrized layers.
    Where the inputs are encoded, the first module of `hidden` does it.

    Parameters
    ----------
    fitted : Fitted
    hidden, output : nn.Module
    constants : ndarray of shape (head.n_constants,)
        Raw values of the likelihood's learned constants.
    """

    def __init__(self, fitted, hidden, output, constants):
        super().__init__()
        head = fitted.network.head
        self.standardize = Standardize(fitted.x_shift, fitted.x_scale)
        self.hidden, self.output = hidden, output
        classifies = head.family in ("bernoulli", "categorical")
        self.head = (
            Temperature(fitted.temperature, fitted.log_class_weight)
            if classifies
            else LikelihoodHead(fitted, constants)
        )
        self.exposure, process = fitted.exposure, fitted.posterior
        precision = None
        if isinstance(process, GaussianProcess):
            self.ridge_penalty, precision = process.ridge_penalty, torch.tensor(process.precision)
        self.register_buffer("precision", precision)

    def forward(self, X):
        """Distribution of y, or logits; shape (n_rows, n_outputs)."""
        h = self.hidden(self.standardize(X))
        raw = self.output(h)
        outputs = self.head(raw) if self.exposure is None else self.head(raw, X[..., self.exposure, None])
        if self.training or self.precision is None:
            return outputs
        return outputs, self.variance(h)

    def variance(self, features):
        """Variance of the Gaussian process for random features of shape (n_rows, M)."""
        factor = torch.linalg.cholesky(self.precision)
        whitened = torch.linalg.solve_triangular(factor, features.to(factor.dtype).T, upper=False)
        variance = self.ridge_penalty * whitened.square().sum(-2).T.to(features.dtype)
        return variance * self.head.latent_scale**2 if isinstance(self.head, LikelihoodHead) else variance


class Standardize(nn.Module):
    """(X − shift) / scale; in double precision, so that a large offset costs no digits, then in that of the model."""

    def __init__(self, shift, scale):
        super().__init__()
        self.register_buffer("shift", torch.tensor(np.asarray(shift, dtype=np.float64)))
        self.register_buffer("scale", torch.tensor(np.asarray(scale, dtype=np.float64)))
        # Follows the model to another dtype; torch's default dtype says nothing about a model that is built.
        self.register_buffer("like", torch.zeros((), dtype=torch.float32), persistent=False)

    def forward(self, X):
        """Standardise X of shape (n_rows, n_features)."""
        return ((X - self.shift) / self.scale).to(self.like.dtype)


class Residual(nn.Module):
    """h + branch(h)."""

    def __init__(self, *branch):
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, h):
        """Add the branch."""
        return h + self.branch(h)


class RandomFourierFeatures(nn.Module):
    """Φ(h) = √(2/M) cos(h A + c) with fixed A and c (Rahimi & Recht 2007)."""

    def __init__(self, kernel, bias):
        super().__init__()
        self.register_buffer("kernel", torch.tensor(kernel))
        self.register_buffer("bias", torch.tensor(bias))

    def forward(self, h):
        """Map h of shape (n_rows, width) to (n_rows, M)."""
        return (2.0 / len(self.bias)) ** 0.5 * torch.cos(h @ self.kernel + self.bias)


class SpectralBound(nn.Module):
    """Parametrization W · min(1, bound / σ), as SNGP bounds its layers (Liu et al. 2020).

    ``torch.nn.utils.parametrizations.spectral_norm`` always divides by σ, so it cannot leave a smaller norm alone.
    As there, training mode takes one power iteration for each access; ``eval()`` keeps the last factor, 1 at first.
    """

    def __init__(self, weight, bound):
        super().__init__()
        self.bound = bound
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("left", torch.randn(len(weight), generator=generator, dtype=weight.dtype))
        self.register_buffer("factor", torch.ones((), dtype=weight.dtype))
        with torch.no_grad():
            for _ in range(10):
                self._iterate(weight)

    def _iterate(self, weight):
        right = nn.functional.normalize(weight.T @ self.left, dim=0)
        self.left.copy_(nn.functional.normalize(weight @ right, dim=0))
        return right

    def forward(self, weight):
        """Scale the weight back to the bound."""
        if not self.training:
            return weight * self.factor
        with torch.no_grad():
            right = self._iterate(weight)
        norm = self.left.clone() @ weight @ right
        factor = torch.clamp(self.bound / norm, max=1.0)
        self.factor.copy_(factor.detach())
        return weight * factor


class Temperature(nn.Module):
    """Logits / T − log w, with the class weights w of training."""

    def __init__(self, temperature, log_class_weight):
        super().__init__()
        self.register_buffer("temperature", torch.tensor(temperature, dtype=torch.float32))
        self.register_buffer("log_class_weight", torch.tensor(log_class_weight, dtype=torch.float32))

    def forward(self, logits):
        """Divide the logits, and take the class weights off."""
        return logits / self.temperature - self.log_class_weight


class LikelihoodHead(nn.Module):
    """Raw outputs to a ``torch.distributions`` object in y's units.

    Parameters
    ----------
    fitted : Fitted
    constants : ndarray of shape (head.n_constants,)
        Trained along with the network.
    """

    def __init__(self, fitted, constants):
        super().__init__()
        self.layout, self.log_target = fitted.network.head, fitted.log_target
        self.constants = nn.Parameter(torch.tensor(constants, dtype=torch.float32))
        names = ("fixed", "y_shift", "y_scale", "noise_scale", "noise_power", "noise_limit")
        buffers = {name: getattr(fitted, name) for name in names}
        # The first output is the location in standardised units, or, of multiples and counts, the logarithm of their mean.
        in_log = self.layout.density.likelihood.target_transform in ("divide", "count")
        buffers["latent_scale"] = np.ones_like(fitted.y_scale) if in_log else fitted.y_scale
        for name, value in buffers.items():
            self.register_buffer(name, torch.tensor(np.asarray(value, dtype=np.float32)))

    def forward(self, raw, exposure=None):
        """Return the distribution for raw outputs of shape (n_rows, n_raw) and exposures of shape (n_rows, 1), if any."""
        p = link_parameters(self.layout, raw, self.constants, self.fixed)
        likelihood = self.layout.density.likelihood
        if likelihood.learns_scale:
            p["scale"] = torch.minimum(p["scale"] ** self.noise_power * self.noise_scale, self.noise_limit)
        p = likelihood.to_target_units(p, self.y_shift, self.y_scale)
        if exposure is not None:
            p = self.layout.exposed(p, exposure.to(raw.dtype))
        if self.log_target:
            return distributions.LogNormal(p["loc"], p["scale"])
        return distribution(self.layout, p)


def stack_layers(fitted, layers, points):
    """All of the network before its output layer as a module.

    Parameters
    ----------
    fitted : Fitted
    layers : list of nn.Module
        Dense layers of the trunk's layout.
    points : ndarray of shape (n_weights - n_layer_weights,)
        Learned numbers of the encoding, then the head's constants.
    """
    posterior, network = fitted.posterior, fitted.network
    modules = []
    if network.encoding is not None and network.n_encoded:
        modules.append(
            NATIVE[network.encoding.name](network.encoding, posterior.features, encoding_weights(network, points))
        )
    for dense, layer in zip(network.trunk.layout(), layers, strict=True):
        if dense.role is Role.PROJECTION:
            modules.append(layer)
            continue
        block = [layer, ACTIVATIONS[network.activation]()]
        if posterior.dropout_rate:
            block.append(nn.Dropout(posterior.dropout_rate))
        modules += [Residual(*block)] if network.trunk.is_residual else block
    if network.n_inducing:
        modules.append(RandomFourierFeatures(posterior.features["feature_kernel"], posterior.features["feature_bias"]))
    return nn.Sequential(*modules)


def encoding_weights(network, points):
    """Learned numbers of the encoding by name, out of the point estimates that follow the layers' weights."""
    tensors = (t for t in network.tensors if t.role is Role.ENCODING)
    first = network.n_layer_weights
    return {t.name: np.asarray(points[t.start - first : t.stop - first]).reshape(t.shape) for t in tensors}


def read_encoding(model):
    """Learned numbers of a native model's encoding, in the order of the layout."""
    return [array for module in model.modules() for array in getattr(module, "learned", ())]
