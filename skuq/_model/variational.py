"""The variational posterior of a Bayesian network: the layout of its parameters and how weights are drawn.

Blundell et al. 2015, "Weight Uncertainty in Neural Networks". The parameters trained for one posterior stand in one
flat vector: ``[means | spreads | constants]``. Means are laid out as the network's own kernels and biases;
constants (a learned noise, say) are point estimates.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .network import Network
from .pickling import PicklesFields

# Full covariance holds n(n+1)/2 numbers for a layer of n weights; beyond this a layer alone takes 32 MB.
MAX_FULL_COVARIANCE = 4000


@dataclass(frozen=True, kw_only=True, eq=False)
class Prior:
    """What is believed of each weight before training.

    Attributes
    ----------
    family : {"normal", "scale_mixture"}
        "scale_mixture": Blundell's mixture of a wide and a narrow normal.
    scale : ndarray of shape (n_layer_weights,), float32
        Standard deviation of each kernel and bias weight; the wide component's of a mixture.
    ratio : float
        Narrow component's standard deviation over the wide one's ("scale_mixture").
    mix : float
        Weight of the wide component ("scale_mixture").
    """

    family: str
    scale: np.ndarray
    ratio: float = 1.0
    mix: float = 1.0


@dataclass(frozen=True)
class Posterior(PicklesFields):
    """q(weights): mean-field normal, or a multivariate normal for each layer.

    Attributes
    ----------
    network : Network
    kind : {"mean_field", "full_covariance"}
        "mean_field": spread ρ for each weight, σ = softplus(ρ), as BLiTZ and TFP parameterise it. "full_covariance":
        for each layer (kernel and bias together) the lower triangle, row by row, of a scale matrix whose diagonal is
        passed through softplus.
    """

    network: Network
    kind: str

    @cached_property
    def blocks(self) -> tuple[tuple[int, int], ...]:
        """(start, stop) in the weight vector of each layer's kernel and bias."""
        return tuple((layer[0].start, layer[-1].stop) for layer in self.network.layers)

    @cached_property
    def n_spreads(self) -> int:
        """Number of spread parameters."""
        if self.kind == "mean_field":
            return self.network.n_layer_weights
        return sum((stop - start) * (stop - start + 1) // 2 for start, stop in self.blocks)

    @property
    def n_parameters(self) -> int:
        """Length of the flat vector that is trained."""
        return self.network.n_weights + self.n_spreads

    def split(self, flat: Any) -> tuple[Any, Any, Any]:
        """Means, spreads and constants of flat parameters, along the last axis (any array library)."""
        n = self.network.n_layer_weights
        return flat[..., :n], flat[..., n : n + self.n_spreads], flat[..., n + self.n_spreads :]

    def mean_weights(self, flat: np.ndarray) -> np.ndarray:
        """Weights, constants included, at the posterior's means."""
        means, _, constants = self.split(flat)
        return np.concatenate([means, constants], axis=-1)

    def initial(self, weights: np.ndarray, sigma: float) -> np.ndarray:
        """Flat parameters of a posterior around `weights` with standard deviation `sigma` for every weight."""
        n = self.network.n_layer_weights
        rho = np.log(np.expm1(sigma))
        if self.kind == "mean_field":
            spreads = np.full(n, rho)
        else:
            spreads = np.concatenate([_tril_of_diagonal(stop - start, rho) for start, stop in self.blocks])
        return np.concatenate([weights[:n], spreads, weights[n:]]).astype(np.float32)

    def narrowed(self, flat: np.ndarray, share: float) -> np.ndarray:
        """Parameters (…, n_parameters) of the posterior whose standard deviations are `share` times those of `flat`."""
        if share == 1:
            return flat
        means, spreads, constants = self.split(flat)
        # softplus⁻¹(s) = s + log(1 − exp(−s))
        scale = share * np.logaddexp(0, spreads.astype(float))
        values = scale + np.log(-np.expm1(-scale))
        if self.kind == "full_covariance":
            values = np.where(self._on_diagonal, values, share * spreads)
        return np.concatenate([means, values.astype(flat.dtype), constants], axis=-1)

    @cached_property
    def _on_diagonal(self) -> np.ndarray:
        """Which spread parameters stand on the diagonal of a layer's scale matrix."""
        return np.concatenate([_tril_of_diagonal(stop - start, 1.0) for start, stop in self.blocks]) > 0

    def scale_factors(self, spreads: np.ndarray) -> list[np.ndarray]:
        """Lower-triangular scale matrix of each layer ("full_covariance")."""
        factors, used = [], 0
        for start, stop in self.blocks:
            size = stop - start
            count = size * (size + 1) // 2
            factor = np.zeros((size, size), spreads.dtype)
            factor[np.tril_indices(size)] = spreads[used : used + count]
            np.fill_diagonal(factor, np.logaddexp(0, np.diagonal(factor)))
            factors.append(factor)
            used += count
        return factors

    def draw(self, flat: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Weights for standard normal `noise`.

        Parameters
        ----------
        flat : ndarray of shape (n_parameters,)
        noise : ndarray of shape (n_draws, n_layer_weights)

        Returns
        -------
        ndarray of shape (n_draws, n_weights), float32
        """
        means, spreads, constants = self.split(flat)
        if self.kind == "mean_field":
            layers = means + np.logaddexp(0, spreads) * noise
        else:
            layers = np.empty_like(noise)
            for (start, stop), factor in zip(self.blocks, self.scale_factors(spreads), strict=True):
                layers[:, start:stop] = means[start:stop] + noise[:, start:stop] @ factor.T
        return np.hstack([layers, np.broadcast_to(constants, (len(noise), constants.size))]).astype(np.float32)


def _tril_of_diagonal(size: int, value: float) -> np.ndarray:
    matrix = np.zeros((size, size))
    np.fill_diagonal(matrix, value)
    return matrix[np.tril_indices(size)]
