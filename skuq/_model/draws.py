"""Draws: the finite set of functions that a fitted estimator is, and their outputs for rows.

Rows are computed in blocks of one fixed shape, so a row's numbers do not depend on which rows stand beside it: the matrix
products see the same shapes whatever the size of X. They are float32 where the machine's products also sum alike at every
place of a block, and else float64, where what a row's place still changes is near 1e-16: see :func:`working_type`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np

from .._data.rows import SparseRows
from .network import Network
from .threads import Scratch, borrowed_scratch, parallel_map, single_blas_thread
from .variational import Posterior

BLOCK_ROWS = 256
# Activations computed at once, of several draws or several blocks, hold at most this many numbers (1 MB): as many as a
# processor keeps near. Of fewer, threads that share Python's lock wait for each other more often.
BLOCK_NUMBERS = 2**18
# Blocks are computed together only as far as rows then still come in this many parts, which threads can share.
PARTS = 8
# Weights of all draws are kept as long as the draws themselves up to this many numbers (256 MB), else drawn again for each block
# of sparse rows.
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
    if network.encoding is not None and network.n_encoded:
        features |= network.encoding.fit(X[:, : network.n_encoded], np.ones(BLOCK_ROWS))
        features["encoded"] = np.arange(network.n_encoded)
    with single_blas_thread():
        here, there = (network.raw_outputs(weights, rows, fixed=features)[0] for rows in (X, X[order]))
    return np.float32 if np.array_equal(here[order], there) else np.float64


@contextmanager
def by_blocks(X: np.ndarray, together: int = 1) -> Iterator[Callable[[np.ndarray, Callable[..., np.ndarray]], None]]:
    """Give a function that fills an array (n_draws, n_rows, k) block by block of X.

    It takes that array and a function from blocks, (n_blocks, BLOCK_ROWS, d), and a :class:`Scratch` to what they come to:
    (n_blocks, BLOCK_ROWS, k) of one draw, or (n_draws or 1, BLOCK_ROWS, k) of one block.

    Parameters
    ----------
    X : ndarray of shape (n_rows, d)
        The last block is padded with zeros to the size of the others.
    together : int
        Blocks that one call of the function takes at most.
    """
    size = BLOCK_ROWS * max(1, min(together, len(X) // (BLOCK_ROWS * PARTS)))
    parts = []
    for start in range(0, len(X), size):
        rows = slice(start, min(start + size, len(X)))
        x, missing = X[rows], (rows.start - rows.stop) % BLOCK_ROWS
        if missing:
            x = np.concatenate([x, np.zeros((missing, X.shape[1]), X.dtype)])
        parts.append((rows, x.reshape(-1, BLOCK_ROWS, X.shape[1])))

    with parallel_map(len(parts)) as each:

        def fill(out: np.ndarray, function: Callable[..., np.ndarray]) -> None:
            def part(rows_and_blocks: tuple[slice, np.ndarray]) -> None:
                rows, blocks = rows_and_blocks
                here = out[:, rows]
                with borrowed_scratch() as scratch:
                    found = function(blocks, scratch=scratch)
                    here[:] = found.reshape(-1, len(blocks) * BLOCK_ROWS, found.shape[2])[:, : here.shape[1]]

            each(part, parts)

        yield fill


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
    features: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_draws(self) -> int:
        """Number of functions."""
        return len(self.weights)

    def take(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights (stop − start or 1, n_weights) and masks of some draws."""
        return self.weights[start:stop], None

    def raw(self, X: np.ndarray | SparseRows) -> tuple[np.ndarray, np.ndarray]:
        """Raw outputs (n_draws, n_rows, n_raw) and learned constants (n_draws, n_constants), float64.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32, or SparseRows
            Standardised.
        """
        if isinstance(X, SparseRows):
            raws, constants = zip(*(self.raw(rows) for rows in X.stretches(BLOCK_ROWS)), strict=True)
            return np.concatenate(raws, axis=1), constants[0]
        network, dtype = self.network, working_type(self.network)
        fixed = network.prepared(self.features, dtype)
        widest = max((network.n_inputs, *network.hidden_layer_sizes, network.n_inducing, network.head.n_raw))
        step = max(1, BLOCK_NUMBERS // (BLOCK_ROWS * widest))
        raw = np.empty((self.n_draws, len(X), network.head.n_raw))
        constants = np.empty((self.n_draws, network.head.n_constants))
        alone = self.n_draws == 1 and self.take(0, 1)[1] is None
        with by_blocks(X.astype(dtype, copy=False), step if alone else 1) as fill:
            for start in range(0, self.n_draws, step):
                stretch = slice(start, start + step)
                flat, masks = self.take(start, min(start + step, self.n_draws))
                weights = network.views(flat.astype(dtype, copy=False))
                constants[stretch] = network.constants(flat)
                weights, repeated = network.repeated(weights, masks, BLOCK_ROWS)
                fill(raw[stretch], partial(network.raw_outputs, weights, masks=repeated, fixed=fixed))
        return raw, constants

    def random_features(self, X: np.ndarray | SparseRows) -> np.ndarray:
        """Φ of the first draw, (n_rows, n_inducing), float64.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32, or SparseRows
            Standardised.
        """
        phi = self.of_cosines(X, lambda cosines, scratch: cosines, self.network.n_inducing)
        phi *= self.network.feature_scale
        return phi

    def of_cosines(
        self, X: np.ndarray | SparseRows, function: Callable[[np.ndarray, Scratch], np.ndarray], n_columns: int
    ) -> np.ndarray:
        """What `function` makes of Φ of the first draw before its scale, (n_rows, n_columns), float64.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32, or SparseRows
            Standardised.
        function : callable
            From the cosines of a block, (rows, n_inducing), and a :class:`Scratch` to (rows, n_columns).
        n_columns : int
        """
        if isinstance(X, SparseRows):
            return np.concatenate([self.of_cosines(rows, function, n_columns) for rows in X.stretches(BLOCK_ROWS)])
        network, dtype = self.network, working_type(self.network)
        weights, _ = network.repeated(network.views(self.weights[:1].astype(dtype, copy=False)), None, BLOCK_ROWS)
        fixed = network.prepared(self.features, dtype)

        def of_blocks(blocks: np.ndarray, scratch: Scratch) -> np.ndarray:
            states = network.affine_states(network.hidden(weights, blocks, fixed=fixed, scratch=scratch), scratch)
            found = np.empty((len(blocks), BLOCK_ROWS, n_columns))
            for here, state in zip(found, states, strict=True):
                here[:] = function(network.cosines(state[None], fixed, scratch)[0], scratch)
            return found

        out = np.empty((1, len(X), n_columns))
        together = max(1, BLOCK_NUMBERS // (BLOCK_ROWS * max(network.n_inputs, network.hidden_width)))
        with by_blocks(X.astype(dtype, copy=False), together) as fill:
            fill(out, of_blocks)
        return out[0]


@dataclass(kw_only=True)
class MaskedDraws(Draws):
    """One network thinned by S sets of unit masks (Gal & Ghahramani 2016), the same masks for every row.

    Parameters
    ----------
    masks : ndarray of shape (n_draws, n_units)
        0 or 1 / keep probability.
    """

    masks: np.ndarray

    @property
    def n_draws(self) -> int:
        """Number of functions."""
        return len(self.masks)

    def take(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Shared weights and the masks of some draws."""
        return self.weights, self.masks[start:stop]


@dataclass(kw_only=True)
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

    posterior: Posterior
    parameters: np.ndarray
    count: int
    seed: int

    @property
    def n_draws(self) -> int:
        """Number of functions."""
        return self.count

    def take(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights of some draws."""
        if self.count * self.network.n_weights <= KEPT_WEIGHTS:
            if not len(self.weights):
                self.weights = self._draw(0, self.count)
            return self.weights[start:stop], None
        return self._draw(start, stop), None

    def _draw(self, start: int, stop: int) -> np.ndarray:
        size = self.network.n_layer_weights
        noise = [np.random.default_rng([self.seed, s]).standard_normal(size, np.float32) for s in range(start, stop)]
        return self.posterior.draw(self.parameters, np.stack(noise))


def unit_masks(n_draws: int, n_units: int, dropout_rate: float, rng: np.random.Generator) -> np.ndarray:
    """Inverted dropout masks, (n_draws, n_units): 0 with probability `dropout_rate`, else 1 / (1 − rate)."""
    kept = rng.random((n_draws, n_units)) >= dropout_rate
    return (kept / (1 - dropout_rate)).astype(np.float32)
