"""Weight samples of a variational posterior, their gradient, and the KL divergence to the prior.

Blundell et al. 2015, "Weight Uncertainty in Neural Networks". Both posteriors are handled through one flat vector of
scale values: σ of every weight ("mean_field"), or the entries of each layer's lower-triangular factor
("full_covariance"), of which the diagonal ones are positive.
"""

from typing import cast

import numpy as np
import torch
from torch.nn import functional as F

from ..._model.variational import Posterior
from .._protocol import Knobs, Program


class MeanField:
    """w = μ + softplus(ρ) ε for each weight, over preallocated buffers.

    Parameters
    ----------
    program : Program
    parameters, gradient : Tensor of shape (n_members, n_parameters)
        ``[means | spreads | constants]``; :meth:`collect` fills the gradient.
    knobs : Knobs

    Attributes
    ----------
    weights, weights_gradient : Tensor of shape (n_members, n_train_samples, n_weights)
    """

    def __init__(self, program: Program, parameters: torch.Tensor, gradient: torch.Tensor, knobs: Knobs) -> None:
        n_members, self.n_samples = len(parameters), program.n_train_samples
        self._posterior = cast(Posterior, program.posterior)
        self.n_layer_weights = program.network.n_layer_weights
        self._means, self._spreads, self._constants = self._posterior.split(parameters)
        self._mean_gradient, self._spread_gradient, self._constants_gradient = self._posterior.split(gradient)
        shape = (n_members, self.n_samples, program.network.n_weights)
        self.weights, self.weights_gradient = parameters.new_zeros(shape), parameters.new_zeros(shape)
        self._layers = self.weights[..., : self.n_layer_weights]
        self._layers_gradient = self.weights_gradient[..., : self.n_layer_weights]
        self._values = torch.empty_like(self._spreads, memory_format=torch.contiguous_format)
        self._value_gradient = torch.empty_like(self._values)
        self._scratch = torch.empty_like(self._layers, memory_format=torch.contiguous_format)
        self._set_index()
        self._set_prior(program.prior, knobs)

    def _set_index(self) -> None:
        """Positions of the diagonal among the scale values, and the weight (row) that each value scales."""
        self._diagonal: slice | torch.Tensor = slice(None)
        self._row: slice | torch.Tensor = slice(None)

    def _set_prior(self, prior: str | None, knobs: Knobs) -> None:
        prior_scale = np.broadcast_to(knobs.prior_scale, self.n_layer_weights)
        scale = torch.tensor(prior_scale, dtype=torch.float32, device=self._means.device)
        self._mixture, ratio, mix = prior == "scale_mixture", float(knobs.prior_ratio), float(knobs.prior_mix)
        if self._mixture and not mix:
            # The narrow component alone: it takes the place of the first, to which the second is related.
            scale, mix = ratio * scale, 1.0
        self._kl_weight = float(knobs.kl_weight)
        self._prior_scale = scale
        self._weighted_precision = self._kl_weight / scale**2
        self._value_precision = self._weighted_precision[self._row]
        if self._mixture:
            with np.errstate(divide="ignore"):
                log_odds = np.log1p(-mix) - np.log(mix) - np.log(ratio)
            # Second component over first: exp(log odds + ½ w² (1/s₁² − 1/s₂²)).
            self._log_odds = scale.new_tensor(log_odds)
            self._half_excess = 0.5 * scale**-2 * (1 - ratio**-2)
            self._log_mix = float(np.log(mix))
            per_sample = self._kl_weight / self.n_samples
            self._precision = per_sample * scale**-2
            self._precision_step = -2.0 * per_sample * self._half_excess

    def draw(self, noise: torch.Tensor) -> None:
        """Fill `weights` from standard normal `noise` of shape (n_members, n_samples, n_layer_weights)."""
        self._set_values()
        self._apply(noise)
        if self._constants.shape[-1]:
            self.weights[..., self.n_layer_weights :] = self._constants.unsqueeze(1)

    def collect(self, noise: torch.Tensor) -> None:
        """Fill the gradient of the posterior's parameters from that of the weights, and add the KL divergence's."""
        if self._mixture and self._kl_weight:
            self._add_mixture_gradient()
        torch.sum(self._layers_gradient, 1, out=self._mean_gradient)
        self._collect_values(noise)
        if self._kl_weight:
            if not self._mixture:
                self._mean_gradient.addcmul_(self._means, self._weighted_precision)
                self._value_gradient.addcmul_(self._values, self._value_precision)
            self._add_entropy_gradient()
        self._collect_spreads()
        if self._constants.shape[-1]:
            torch.sum(self.weights_gradient[..., self.n_layer_weights :], 1, out=self._constants_gradient)

    def _add_mixture_gradient(self) -> None:
        # ∂(−log p)/∂w = w [r₁/s₁² + r₂/s₂²]
        w, t = self._layers, self._scratch
        torch.mul(w, w, out=t)
        torch.addcmul(self._log_odds, t, self._half_excess, out=t)
        torch.sigmoid(t, out=t)
        torch.addcmul(self._precision, t, self._precision_step, out=t)
        self._layers_gradient.addcmul_(w, t)

    def divergence(
        self, parameters: torch.Tensor, weights: torch.Tensor | None = None, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """KL divergence to the prior: in closed form, or the mean of log q − log p over the weight samples.

        Parameters
        ----------
        parameters : Tensor of shape (..., n_parameters)
        weights : Tensor of shape (..., n_samples, n_weights)
        noise : Tensor of shape (..., n_samples, n_layer_weights)
            `weights` and the `noise` they were drawn from are read for the scale mixture only.

        Returns
        -------
        Tensor of shape (...), nats
        """
        means, spreads, _ = self._posterior.split(parameters)
        precision = self._prior_scale**-2
        log_scale = self._prior_scale.log().sum()
        values = self._values_of(spreads)
        log_determinant = values[..., self._diagonal].log().sum(-1)
        if not self._mixture:
            squares = means.square() @ precision + values.square() @ precision[self._row]
            return log_scale - log_determinant + 0.5 * (squares - self.n_layer_weights)
        if weights is None or noise is None:
            raise TypeError("The divergence from a scale mixture is sampled: it needs the weights and their noise.")
        # log p = log N(w; 0, s₁) + log π + log(1 + ratio of the components), and (w − μ)/σ is the noise.
        squares = weights[..., : self.n_layer_weights].square()
        ratios = F.softplus(torch.addcmul(self._log_odds, squares, self._half_excess)).sum(-1)
        log_p = ratios - 0.5 * (squares @ precision) + self.n_layer_weights * self._log_mix - log_scale
        log_q = -0.5 * noise.square().sum(-1) - log_determinant.unsqueeze(-1)
        return (log_q - log_p).mean(-1)

    def _values_of(self, spreads: torch.Tensor) -> torch.Tensor:
        """Scale values of the spreads, any leading axes."""
        return F.softplus(spreads)

    def _set_values(self) -> None:
        torch._C._nn.softplus(self._spreads, out=self._values)  # type: ignore[call-arg]

    def _apply(self, noise: torch.Tensor) -> None:
        torch.addcmul(self._means.unsqueeze(1), self._values.unsqueeze(1), noise, out=self._layers)

    def _collect_values(self, noise: torch.Tensor) -> None:
        torch.mul(self._layers_gradient, noise, out=self._scratch)
        torch.sum(self._scratch, 1, out=self._value_gradient)

    def _add_entropy_gradient(self) -> None:
        # ∂(log q)/∂σ = −1/σ along w = μ + σ ε, for a sampled log q as for a closed-form entropy.
        torch.reciprocal(self._values, out=self._values)
        self._value_gradient.sub_(self._values, alpha=self._kl_weight)

    def _collect_spreads(self) -> None:
        torch.sigmoid(self._spreads, out=self._values)
        torch.mul(self._value_gradient, self._values, out=self._spread_gradient)


class FullCovariance(MeanField):
    """w = μ + L ε layer by layer; L's lower triangle is trained row by row, its diagonal through softplus."""

    def _set_index(self) -> None:
        diagonal, row, dense, used, n_dense = [], [], [], 0, 0
        for start, stop in self._posterior.blocks:
            size = stop - start
            i, j = np.tril_indices(size)
            diagonal.append(used + np.flatnonzero(i == j))
            row.append(start + i)
            dense.append(n_dense + i * size + j)
            used += len(i)
            n_dense += size * size
        device = self._means.device
        self._diagonal, self._row, self._dense = (
            torch.tensor(np.concatenate(parts), device=device) for parts in (diagonal, row, dense)
        )
        self._factors, self._factors_gradient = (self._means.new_zeros(len(self._means), n_dense) for _ in range(2))
        self._blocks = []
        n_dense = 0
        for start, stop in self._posterior.blocks:
            size = stop - start
            shape, entries = (-1, size, size), slice(n_dense, n_dense + size * size)
            factor, gradient = (f[:, entries].view(shape) for f in (self._factors, self._factors_gradient))
            self._blocks.append((slice(start, stop), factor.mT, gradient))
            n_dense += size * size

    def _values_of(self, spreads: torch.Tensor) -> torch.Tensor:
        values = spreads.clone()
        values[..., self._diagonal] = F.softplus(spreads[..., self._diagonal])
        return values

    def _set_values(self) -> None:
        self._values.copy_(self._values_of(self._spreads))

    def _apply(self, noise: torch.Tensor) -> None:
        self._factors[:, self._dense] = self._values
        for block, transposed, _ in self._blocks:
            torch.bmm(noise[..., block], transposed, out=self._scratch[..., block])
        torch.add(self._means.unsqueeze(1), self._scratch, out=self._layers)

    def _collect_values(self, noise: torch.Tensor) -> None:
        for block, _, gradient in self._blocks:
            torch.bmm(self._layers_gradient[..., block].mT, noise[..., block], out=gradient)
        torch.index_select(self._factors_gradient, 1, self._dense, out=self._value_gradient)

    def _add_entropy_gradient(self) -> None:
        self._value_gradient[:, self._diagonal] -= self._kl_weight / self._values[:, self._diagonal]

    def _collect_spreads(self) -> None:
        self._value_gradient[:, self._diagonal] *= torch.sigmoid(self._spreads[:, self._diagonal])
        self._spread_gradient.copy_(self._value_gradient)


def weight_sampler(program: Program, parameters: torch.Tensor, gradient: torch.Tensor, knobs: Knobs) -> MeanField:
    """Sampler of the program's posterior."""
    kind = MeanField if cast(Posterior, program.posterior).kind == "mean_field" else FullCovariance
    return kind(program, parameters, gradient, knobs)
