"""Draws: the finite set of functions that a fitted estimator is, and their outputs for rows.

Rows are computed in blocks of one fixed shape, so a row's numbers do not depend on which rows stand beside it: the matrix
products see the same shapes whatever the size of X. They are float32 where the machine's products also sum alike at every
place of a block, and else float64, where what a row's place still changes is near 1e-16: see :func:`working_type`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from ._encoding import fit_bins
from ._network import Network
from ._threads import map_blocks, single_blas_thread
from ._variational import Posterior

BLOCK_ROWS = 256
# Activations of one block, over the draws taken at once, hold at most this many numbers: as many as a processor keeps near.
BLOCK_NUMBERS = 2**17
# Weights of all draws are kept for one call up to this many numbers (256 MB), else drawn again for each stretch of rows.
KEPT_WEIGHTS = 2**26


@lru_cache(maxsize=256)
def working_type(network: Network) -> type:
    """float32 if the rows of a block, put in another order, come out of this network the same to the last bit; else float64.

    Some matrix libraries add the same terms in another order at another place of a block (OpenBLAS does on AVX2, not on
    AVX-512). In float32 a row's numbers would then move by 1e-6 with its place, which breaks scikit-learn's invariance
    checks. Shapes and machine decide, so random weights tell, once a process.
    """
    rng = np.random.default_rng(0)
    width = max(network.n_inputs, network.hidden_width)
    weights = network.views(rng.standard_normal((1, network.n_weights), np.float32) / np.float32(np.sqrt(width)))
    features = network.initial_random_features(rng, 1.0)
    X, order = rng.standard_normal((BLOCK_ROWS, network.n_features), np.float32), rng.permutation(BLOCK_ROWS)
    if network.n_bins:
        features["bins"] = fit_bins(X, np.ones(BLOCK_ROWS), network.n_bins)
    with single_blas_thread():
        here, there = (network.raw_outputs(weights, rows, fixed=features)[0] for rows in (X, X[order]))
    return np.float32 if np.array_equal(here[order], there) else np.float64


def by_blocks(function: Callable[[np.ndarray], np.ndarray], X: np.ndarray) -> np.ndarray:
    """Apply `function`, (rows, d) → (n_draws, rows, k), block by block: (n_draws, n_rows, k).

    The last block is padded with zeros to the size of the others.
    """

    def padded(start):
        block = X[start : start + BLOCK_ROWS]
        if len(block) < BLOCK_ROWS:
            block = np.concatenate([block, np.zeros((BLOCK_ROWS - len(block), X.shape[1]), X.dtype)])
        return function(block)

    return np.concatenate(map_blocks(padded, range(0, len(X), BLOCK_ROWS)), axis=1)[:, : len(X)]


@dataclass
class Draws:
    """S functions that share one network; this one holds their weights outright.

    Parameters
    ----------
    network : Network
    weights : ndarray of shape (n_draws, n_weights), float32
    features : dict of ndarray
        What :attr:`Network.fixed_shapes` lists.
    """

    network: Network
    weights: np.ndarray
    features: dict = field(default_factory=dict)

    @property
    def n_draws(self) -> int:
        """Number of functions."""
        return len(self.weights)

    def take(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights (stop − start or 1, n_weights) and masks of some draws."""
        return self.weights[start:stop], None

    def raw(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw outputs (n_draws, n_rows, n_raw) and learned constants (n_draws, n_constants), float64.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32, standardised
        """
        network, dtype = self.network, working_type(self.network)
        X = X.astype(dtype, copy=False)
        widest = max((network.n_inputs, *network.hidden_layer_sizes, network.n_inducing, network.head.n_raw))
        step = max(1, BLOCK_NUMBERS // (BLOCK_ROWS * widest))
        raw, constants = [], []
        for start in range(0, self.n_draws, step):
            stop = min(start + step, self.n_draws)
            flat, masks = self.take(start, stop)
            weights = network.views(flat.astype(dtype, copy=False))
            part = by_blocks(partial(self._block_outputs, weights, masks), X).astype(float)
            # Draws that share all weights and have no unit to mask come out once.
            raw.append(np.broadcast_to(part, (stop - start, *part.shape[1:])))
            shared = weights.get("constants", np.zeros((len(flat), 0)))
            constants.append(np.broadcast_to(shared, (stop - start, shared.shape[1])))
        return np.concatenate(raw), np.concatenate(constants).astype(float)

    def _block_outputs(self, weights, masks, block):
        return self.network.raw_outputs(weights, block, masks, self.features)

    def random_features(self, X: np.ndarray, then: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """Φ of the first draw, (n_rows, n_inducing), or what `then` makes of each block of it, (rows, k); float64."""
        network, dtype = self.network, working_type(self.network)
        weights = network.views(self.weights[:1].astype(dtype, copy=False))

        def features(block):
            hidden = network.hidden(weights, block, fixed=self.features)
            phi = network.random_features(hidden, self.features)
            return (phi if then is None else then(phi[0])[None]).astype(float, copy=False)

        return by_blocks(features, X.astype(dtype, copy=False))[0]


@dataclass
class MaskedDraws(Draws):
    """One network thinned by S sets of unit masks (Gal & Ghahramani 2016), the same masks for every row.

    Parameters
    ----------
    masks : ndarray of shape (n_draws, n_units)
        0 or 1 / keep probability.
    """

    masks: np.ndarray = field(default_factory=lambda: np.ones((1, 0), np.float32))

    @property
    def n_draws(self):
        """Number of functions."""
        return len(self.masks)

    def take(self, start, stop):
        """Shared weights and the masks of some draws."""
        return self.weights, self.masks[start:stop]


@dataclass
class PosteriorDraws(Draws):
    """S sets of weights drawn from a variational posterior, each from its own seed.

    Parameters
    ----------
    posterior : Posterior
    parameters : ndarray of shape (n_parameters,)
    count : int
        Number of draws.
    seed : int
    """

    posterior: Posterior | None = None
    parameters: np.ndarray | None = None
    count: int = 1
    seed: int = 0

    @property
    def n_draws(self):
        """Number of functions."""
        return self.count

    def take(self, start, stop):
        """Weights of some draws."""
        if self.count * self.network.n_weights <= KEPT_WEIGHTS:
            if not len(self.weights):
                self.weights = self._draw(0, self.count)
            return self.weights[start:stop], None
        return self._draw(start, stop), None

    def _draw(self, start, stop):
        size = self.network.n_layer_weights
        noise = [np.random.default_rng([self.seed, s]).standard_normal(size, np.float32) for s in range(start, stop)]
        return self.posterior.draw(self.parameters, np.stack(noise))


def unit_masks(n_draws: int, n_units: int, dropout_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Inverted dropout masks, (n_draws, n_units): 0 with probability `dropout_rate`, else 1 / (1 − rate)."""
    kept = rng.random((n_draws, n_units)) >= dropout_rate
    return (kept / (1 - dropout_rate)).astype(np.float32)
