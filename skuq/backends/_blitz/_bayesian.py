"""Variational posteriors in BLiTZ's layers; imports BLiTZ, so import this module only to build or read such a model."""

import math

import numpy as np
import torch
from blitz.modules import BayesianLinear
from blitz.modules.base_bayesian_module import BayesianModule
from blitz.modules.weight_sampler import PriorWeightDistribution, TrainableRandomDistribution
from blitz.utils import variational_estimator
from torch import distributions, nn
from torch.nn import functional as F

from ._modules import LikelihoodHead, NativeModel, read_encoding, stack_layers


@variational_estimator
class BayesianModel(NativeModel):
    """A :class:`NativeModel` of Bayesian layers with BLiTZ's methods, such as ``sample_elbo`` and ``freeze_``.

    One forward pass uses one set of weights for all rows. BLiTZ's complexity cost is that of one weight sample, and
    the density of its prior has a floor of 1e-6.
    """


class Undrawn:
    """Copies and pickles leave the last draw behind: torch copies no tensor that was computed from parameters."""

    def __getstate__(self):
        return self.__dict__ | {name: value for name, value in self.undrawn.items() if name in self.__dict__}


class Sampler(Undrawn, TrainableRandomDistribution):
    """BLiTZ's distribution of a weight."""

    undrawn = {"w": None, "sigma": None}


class Drawing(Undrawn, BayesianLinear):
    """BLiTZ's dense layer, which can be copied, pickled and moved to another dtype.

    BLiTZ (0.2.8) has two parameters for each mean and each spread, one in the layer and one in its sampler, on the same memory.
    A copy parts them: the sampler's is trained, and the layer's, which a frozen layer uses, stays. Here they are one.
    """

    undrawn = {"log_prior": 0, "log_variational_posterior": 0}

    def tie(self):
        """Give the samplers the parameters of the layer."""
        for name in ("weight", "bias"):
            mean, spread = getattr(self, f"{name}_mu"), getattr(self, f"{name}_rho")
            sampler = Sampler(mean, spread)
            sampler.mu, sampler.rho = mean, spread
            setattr(self, f"{name}_sampler", sampler)


class FullCovarianceLinear(Undrawn, BayesianModule):
    """A dense layer whose kernel and bias are jointly normal, which BLiTZ does not have; with its interface.

    Parameters
    ----------
    n_in, n_out : int
    bias : bool
    prior : torch.distributions.Distribution
        Prior of the flat weights, batch shape (n_weights,): the kernel, (n_in, n_out) row by row, then the bias.

    Attributes
    ----------
    mean : nn.Parameter of shape (n_weights,)
    spread : nn.Parameter of shape (n_weights (n_weights + 1) / 2,)
        Lower triangle of the scale matrix, row by row, its diagonal before the softplus.
    log_prior, log_variational_posterior : Tensor
        Of the weights of the last forward pass.
    """

    undrawn = Drawing.undrawn

    def __init__(self, n_in, n_out, bias, prior):
        super().__init__()
        self.n_in, self.n_out, self.bias, self.prior = n_in, n_out, bias, prior
        size = (n_in + bias) * n_out
        self.mean = nn.Parameter(torch.zeros(size, dtype=torch.float32))
        self.spread = nn.Parameter(torch.zeros(size * (size + 1) // 2, dtype=torch.float32))
        self.freeze = False
        self.log_prior = self.log_variational_posterior = 0

    @property
    def scale_tril(self):
        """Lower-triangular scale matrix, shape (n_weights, n_weights)."""
        size = len(self.mean)
        rows, columns = torch.tril_indices(size, size, device=self.mean.device)
        values = torch.where(rows == columns, F.softplus(self.spread), self.spread)
        return self.spread.new_zeros(size, size).index_put((rows, columns), values)

    def forward(self, x):
        """Apply one draw of the weights, or their means if frozen."""
        if self.freeze:
            return self._affine(x, self.mean)
        factor = self.scale_tril
        noise = torch.randn_like(self.mean)
        weights = self.mean + factor @ noise
        # log N(w; μ, L Lᵀ) at w = μ + L ε needs no triangular solve.
        log_density = -0.5 * (noise.square() + math.log(2 * math.pi)) - factor.diagonal().log()
        self.log_variational_posterior = log_density.sum()
        self.log_prior = self.prior.log_prob(weights).sum()
        return self._affine(x, weights)

    def _affine(self, x, weights):
        kernel = weights[: self.n_in * self.n_out].view(self.n_in, self.n_out)
        return x @ kernel + weights[self.n_in * self.n_out :] if self.bias else x @ kernel


def build_bayesian(fitted):
    """Build the :class:`BayesianModel` of a fitted variational posterior.

    ``BayesianLinear`` has one prior for kernel and bias, of one scale. Where `prior_scale` differs between a layer's
    kernel and bias, or from weight to weight, its ``weight_prior_dist`` and ``bias_prior_dist`` are BLiTZ's own prior
    class with those scales, and the layer's ``prior_sigma_1`` tells only the first of them.
    """
    posterior = fitted.posterior
    parameters = torch.tensor(posterior.parameters[0], dtype=torch.float32)
    means, spreads, points = posterior.layout.split(parameters)
    build = _mean_field if posterior.layout.kind == "mean_field" else _full_covariance
    *hidden, output = build(posterior, means, spreads)
    constants = fitted.network.constants(parameters).numpy()
    return BayesianModel(fitted, stack_layers(fitted, hidden, points.numpy()), output, constants).eval()


@torch.no_grad()
def read_bayesian(model, fitted):
    """Flat parameters of the posterior, ndarray of shape (posterior.n_parameters,)."""
    means, spreads = [], []
    for layer in model.modules():
        if isinstance(layer, BayesianLinear):
            # The sampler's parameters are those that are trained.
            samplers = [layer.weight_sampler, layer.bias_sampler][: 1 + layer.bias]
            means += [sampler.mu.transpose(0, -1) for sampler in samplers]
            spreads += [sampler.rho.transpose(0, -1) for sampler in samplers]
        elif isinstance(layer, FullCovarianceLinear):
            means.append(layer.mean)
            spreads.append(layer.spread)
    points = read_encoding(model)
    if isinstance(model.head, LikelihoodHead):
        points.append(model.head.constants)
    flat = np.concatenate([part.cpu().numpy().ravel() for part in (*means, *spreads, *points)])
    return flat.astype(fitted.posterior.parameters.dtype)


def _mean_field(posterior, means, spreads):
    for tensors in posterior.network.layers:
        scales = [_prior_scale(posterior.prior, tensor) for tensor in tensors]
        n_in, n_out = tensors[0].shape
        layer = Drawing(n_in, n_out, bias=len(tensors) == 2, **_prior_arguments(posterior.prior, scales[0]))
        layer.tie()
        layer.float()
        with torch.no_grad():
            for name, tensor in zip(("weight", "bias"), tensors, strict=False):
                for source, parameter in ((means, f"{name}_mu"), (spreads, f"{name}_rho")):
                    getattr(layer, parameter).copy_(
                        source[tensor.start : tensor.stop].view(tensor.shape).transpose(0, -1)
                    )
        if len(tensors) == 2:
            prior = _prior_arguments(posterior.prior, scales[1])
            layer.bias_prior_dist = PriorWeightDistribution(
                prior["prior_pi"], prior["prior_sigma_1"], prior["prior_sigma_2"]
            )
        yield layer


def _prior_scale(prior, tensor):
    """Prior standard deviation of one tensor: a number where it is the same for all its weights."""
    scales = prior.scale[tensor.start : tensor.stop]
    if np.ptp(scales) == 0:
        return float(scales[0])
    return torch.tensor(scales.reshape(tensor.shape).T, dtype=torch.float32)


def _prior_arguments(prior, scale):
    mixture = prior.family == "scale_mixture"
    return {
        "prior_sigma_1": scale,
        "prior_sigma_2": scale * prior.ratio if mixture else scale,
        "prior_pi": prior.mix if mixture else 1,
    }


def _full_covariance(posterior, means, spreads):
    prior_scale = torch.tensor(posterior.prior.scale, dtype=torch.float32)
    used = 0
    for tensors, (start, stop) in zip(posterior.network.layers, posterior.layout.blocks, strict=True):
        prior = _prior_distribution(posterior.prior, prior_scale[start:stop])
        layer = FullCovarianceLinear(*tensors[0].shape, len(tensors) == 2, prior)
        with torch.no_grad():
            layer.mean.copy_(means[start:stop])
            layer.spread.copy_(spreads[used : used + layer.spread.numel()])
        used += layer.spread.numel()
        yield layer


def _prior_distribution(prior, scale):
    if prior.family != "scale_mixture":
        return distributions.Normal(torch.zeros_like(scale), scale)
    mix = scale.new_tensor([prior.mix, 1 - prior.mix]).expand(len(scale), 2)
    scales = torch.stack([scale, prior.ratio * scale], -1)
    return distributions.MixtureSameFamily(
        distributions.Categorical(mix), distributions.Normal(torch.zeros_like(scales), scales)
    )
