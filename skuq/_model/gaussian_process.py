"""The Gaussian process on random features: its exact precision, predictive variance and draws of β.

With features Φ and Laplace weights w_i the posterior precision of β is P = s·I + Σ w_i ΦᵢΦᵢᵀ (Liu et al. 2020), and the
predictive variance v(x) = s·Φ(x) P⁻¹ Φ(x)ᵀ. In the eigenvectors u_k of the sum, with eigenvalues λ_k,

    v(x) = ‖Φ(x)‖² − Σ_k λ_k / (s + λ_k) · (Φ(x)·u_k)²,

so only the directions that the data visited need be kept: on a table of features they are far fewer than Φ has columns.
Dropping those of λ_k ≤ ε·s makes v larger, by at most ε of itself: a direction's own part of v is s / (s + λ_k) · (Φ·u_k)².
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from .threads import Scratch, single_blas_thread

# ε: a direction is dropped whose variance the data changed by no more than this share.
NEGLIGIBLE = 1e-2
# In float32 a variance below this is too small a difference: its error is near 4e-7 whatever the variance, so that of larger
# ones is at most 1e-4 of them, a hundredth of ε.
CANCELLED = 1e-2
# There, directions of λ above this many s are summed in float64. What the others remove, R, is at most this many times the
# variance v, for each leaves s / (s + λ) of its part, and float32 rounds it by less than 4e-7·√R. So the error of v is at most
# 1e-4 of it where v is 1e-4, and grows as 1/√v.
STRONG = 10.0
# So many rows at once, a quarter of a block: rarely are there more, and float64 takes twice the memory.
AT_ONCE = 64
# A pivoted Cholesky factor stops where what it leaves is this share of the smallest eigenvalue kept.
UNRESOLVED = 1e-6
# Bytes that a processor handles at once.
VECTOR = 64


@dataclass(frozen=True)
class RandomFeatureGP:
    """Posterior covariance of β, for one or several independent outputs.

    Attributes
    ----------
    ridge : float
        s, the prior precision.
    directions : list of ndarray of shape (n_directions, n_inducing)
        Orthonormal eigenvectors, one array an output, or a single one shared by all.
    eigenvalues : list of ndarray of shape (n_directions,)
        λ of each direction, ascending.
    """

    ridge: float
    directions: list
    eigenvalues: list

    @classmethod
    def fit(cls, features: np.ndarray, weights: np.ndarray, ridge: float) -> "RandomFeatureGP":
        """One exact pass over the training rows.

        Parameters
        ----------
        features : ndarray of shape (n_rows, n_inducing)
        weights : ndarray of shape (n_rows, n_precisions)
            Row weight times the curvature of the log-likelihood, for each precision.
        ridge : float
        """
        with single_blas_thread():
            pairs = [_eigen(features, w, ridge) for w in weights.T]
        return cls(ridge, [vectors for _, vectors in pairs], [values for values, _ in pairs])

    @property
    def n_precisions(self) -> int:
        """1 where all outputs share their directions, else one an output."""
        return len(self.directions)

    @property
    def shrinkage(self) -> list:
        """λ / (s + λ) of each direction: the share of its prior variance that the data removed."""
        return [values / (self.ridge + values) for values in self.eigenvalues]

    def moments(
        self, beta: np.ndarray, scale: float = 1.0, dtype: type = float, kept: Scratch | None = None
    ) -> Callable[..., np.ndarray]:
        """Function from features to the mean Φβ beside the variance of each row.

        Parameters
        ----------
        beta : ndarray of shape (n_inducing, n_outputs)
        scale : float
            What the features are still to be multiplied by, to be Φ.
        dtype : {float, numpy.float32}
            Of the features, and of the sums over them.
        kept : Scratch, optional
            Holds what the function multiplies by.

        Returns
        -------
        callable
            Features of shape (n_rows, n_inducing) and optionally a :class:`Scratch` to (n_rows, n_outputs + n_precisions),
            float64; the variance in squared latent units.
        """
        kept = kept or Scratch()
        n_outputs, n_precisions = beta.shape[1], len(self.eigenvalues)
        n_weak = [int(np.searchsorted(values, STRONG * self.ridge)) for values in self.eigenvalues]
        # β stands before the first directions: one product for both.
        nothing = beta[:, :0]
        before = [scale * beta, *[nothing] * (n_precisions - 1)]
        factors = [self._factors(j, 0, scale, b, kept, f"all {j}", dtype) for j, b in enumerate(before)]
        single, strong = dtype is np.float32, []
        if single:
            strong = [self._factors(j, n, scale, nothing, kept, f"strong {j}", float) for j, n in enumerate(n_weak)]

        def moments(features, scratch=None):
            scratch = scratch or Scratch()
            out = np.empty((len(features), n_outputs + n_precisions))
            norm = scale**2 * _squares(features)
            for j, n in enumerate(n_weak):
                shape = len(out), factors[j].shape[1]
                removed = np.matmul(features, factors[j], out=scratch("removed", shape, dtype))
                if not j:
                    out[:, :n_outputs], removed = removed[:, :n_outputs], removed[:, n_outputs:]
                variance = (norm - _squares(removed)).astype(float, copy=False)
                cancelled = np.flatnonzero(variance < CANCELLED) if single else np.empty(0, int)
                for start in range(0, len(cancelled), AT_ONCE):
                    some = cancelled[start : start + AT_ONCE]
                    rows = _exact_rows(features, some, scratch)
                    reduced = scale**2 * _squares(rows) - _squares(rows @ strong[j])
                    variance[some] = reduced - _squares(removed[some, :n])
                np.maximum(variance, 0.0, out=out[:, n_outputs + j])
            return out

        return moments

    def _factors(self, j, first, scale, before, kept, name, dtype):
        """Columns `before`, then directions from the `first` on, each times the root of its share.

        Zeros fill the rows up to whole vectors of the processor, with which a product takes less time.
        """
        vectors, n_before = self.directions[j][first:], before.shape[1]
        stop, per_vector = n_before + len(vectors), VECTOR // np.dtype(dtype).itemsize
        columns = kept(name, (len(before), -(-stop // per_vector) * per_vector), dtype)
        columns[:, :n_before], columns[:, stop:] = before, 0
        root = scale * np.sqrt(self.shrinkage[j][first:])
        np.multiply(vectors.T, root, out=columns[:, n_before:stop], casting="same_kind")
        return columns

    def draw(self, noise: np.ndarray) -> np.ndarray:
        """Deviations β − β̂ ~ N(0, s·P⁻¹) from standard normal noise.

        Parameters
        ----------
        noise : ndarray of shape (n_draws, n_inducing, n_outputs)

        Returns
        -------
        ndarray of shape (n_draws, n_inducing, n_outputs)
        """
        deviation = noise.copy()
        for k in range(noise.shape[2]):
            j = k if len(self.directions) > 1 else 0
            vectors, shrinkage = self.directions[j], self.shrinkage[j]
            shift = (noise[:, :, k] @ vectors.T) * (1 - np.sqrt(1 - shrinkage))
            deviation[:, :, k] -= shift @ vectors
        return deviation

    def precision(self, n_inducing: int) -> np.ndarray:
        """P itself, (n_precisions, n_inducing, n_inducing)."""
        return np.stack(
            [
                self.ridge * np.eye(n_inducing) + (vectors.T * values) @ vectors
                for vectors, values in zip(self.directions, self.eigenvalues, strict=True)
            ]
        )

    @classmethod
    def from_precision(cls, precision: np.ndarray, ridge: float) -> "RandomFeatureGP":
        """Read a precision matrix, (n_precisions, n_inducing, n_inducing), back into eigenvectors."""
        identity = ridge * np.eye(precision.shape[1])
        pairs = [_keep(linalg.eigh(matrix - identity), ridge) for matrix in precision.astype(float)]
        return cls(ridge, [np.ascontiguousarray(vectors.T) for _, vectors in pairs], [values for values, _ in pairs])


def _exact_rows(rows, index, scratch):
    """At most `AT_ONCE` rows in float64."""
    shape = AT_ONCE, rows.shape[1]
    found, exact = scratch("found", shape, rows.dtype)[: len(index)], scratch("exact", shape, float)[: len(index)]
    # A fresh array would cost more for its pages than for its numbers; any mode but "clip" makes one.
    np.take(rows, index, axis=0, out=found, mode="clip")
    exact[:] = found
    return exact


def _squares(rows):
    """Sum of squares of each row."""
    # NumPy 2's is twice as fast, and rounds less.
    return np.vecdot(rows, rows) if hasattr(np, "vecdot") else np.einsum("ij,ij->i", rows, rows)


def posterior_mean(features: np.ndarray, y: np.ndarray, information: np.ndarray, ridge: float) -> np.ndarray:
    """β of Bayesian linear regression, (s·I + Σ w ΦΦᵀ)⁻¹ Σ w Φ y, through the smaller of the two Gram matrices.

    Parameters
    ----------
    features : ndarray of shape (n_rows, n_inducing)
    y : ndarray of shape (n_rows,)
    information : ndarray of shape (n_rows,)
        w: row weight over the variance of the noise.
    ridge : float
    """
    root = np.sqrt(information)
    weighted = features * root[:, None]
    n_rows, n_inducing = weighted.shape
    with single_blas_thread():
        if n_rows >= n_inducing:
            precision = weighted.T @ weighted
            precision[np.diag_indices(n_inducing)] += ridge
            return linalg.solve(precision, weighted.T @ (root * y), assume_a="pos")
        gram = weighted @ weighted.T
        gram[np.diag_indices(n_rows)] += ridge
        return weighted.T @ linalg.solve(gram, root * y, assume_a="pos")


def _eigen(features, weights, ridge):
    """Eigenvalues and eigenvectors of Σ w ΦΦᵀ, through the smaller of its two Gram matrices."""
    weighted = features * np.sqrt(weights)[:, None]
    n_rows, n_inducing = weighted.shape
    if n_rows >= n_inducing:
        values, vectors = _leading(weighted.T @ weighted, ridge)
        return values, np.ascontiguousarray(vectors.T)
    values, left = _leading(weighted @ weighted.T, ridge)
    return values, (weighted.T @ (left / np.sqrt(values))).T


def _leading(gram, ridge):
    """Eigenvalues above ε·s, ascending, and their eigenvectors as columns.

    Where eigenvalues decay fast, as those of a smooth kernel on few dimensions do, a pivoted Cholesky factor that stops
    early (Harbrecht, Peters & Schneider 2012) holds all of them: G ≈ LLᵀ has the eigenvalues of the small LᵀL.
    """
    size = len(gram)
    rounding = size * np.finfo(float).eps * gram.diagonal().max()
    tolerance = max(UNRESOLVED * NEGLIGIBLE * ridge / size, rounding)
    factor, pivots, rank, _ = linalg.lapack.dpstrf(gram, tol=tolerance, lower=1)
    if rank > size // 2:
        return _keep(linalg.eigh(gram, driver="evd", overwrite_a=True, check_finite=False), ridge)
    root = np.empty((size, rank))
    root[pivots - 1] = np.tril(factor[:, :rank])
    values, vectors = _keep(linalg.eigh(root.T @ root, driver="evd", overwrite_a=True, check_finite=False), ridge)
    return values, root @ (vectors / np.sqrt(values))


def _keep(pair, ridge):
    values, vectors = pair
    kept = values > NEGLIGIBLE * ridge
    return values[kept], vectors[:, kept]
