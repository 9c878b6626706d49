"""Piecewise-linear encoding of the inputs.

A network bends a function slowly along one feature, where tables often want a step. So beside each feature stand its bins
(Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"): the b-th says how far the value has
come through the b-th stretch between two quantiles, 0 before it and 1 after it. The feature itself stays an input, so that
functions still extend beyond the data. A feature of two values stays alone: any function of it is linear.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from .base import InputEncoding

# Variance of all bins of a feature together, beside 1 for the feature itself. Where bins stand between neighbouring values of a
# feature of few values, they are all that there is between these; where they cut a feature of many values into stretches, a
# smooth function of the feature itself is to be found first, and small bins are taken up late.
BINS_VARIANCE, SMOOTH_VARIANCE = 2.0, 0.1
# Edges nearer to each other than this, relative to their own size, are one: float32 could not tell values between them.
RESOLUTION = 1e-4


@dataclass(frozen=True)
class PiecewiseLinear(InputEncoding):
    """Bins between the quantiles of each encoded feature; `size` of them.

    The fixed array ``bins`` has shape (4, n_encoded, size): see :func:`fit_bins`.

    Attributes
    ----------
    smooth : bool
        Whether a smooth function of a feature of many values is to be found before its steps.
    """

    name: ClassVar[str] = "piecewise_linear"
    smooth: bool = False

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Encoding of ``n_bins`` bins."""
        return cls(parameters["n_bins"], smooth=parameters["smooth"])

    @property
    def width(self) -> int:
        """Bins of each encoded feature."""
        return self.size

    def found_shapes(self, n_columns: int) -> dict[str, tuple[int, ...]]:
        """Shape of the bins."""
        return {"bins": (4, n_columns, self.size)}

    def fit(self, X: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Bins of each column."""
        return {"bins": fit_bins(X, weight, self.size, self.smooth)}

    def fill(
        self, X: np.ndarray, weights: Mapping[str, np.ndarray], fixed: Mapping[str, np.ndarray], out: np.ndarray
    ) -> None:
        """Write how far each value has come through each bin."""
        slope, offset, lowest, highest = fixed["bins"].reshape(4, -1).astype(X.dtype, copy=False)
        np.multiply(np.repeat(X, self.size, axis=-1), slope, out=out)
        out += offset
        np.clip(out, lowest, highest, out=out)


def fit_bins(X: np.ndarray, weight: np.ndarray, n_bins: int, smooth: bool = False) -> np.ndarray:
    """Bins of each column between its weighted quantiles.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32
    weight : ndarray of shape (n_rows,)
    n_bins : int
    smooth : bool
        Whether the bins of features of more values than bins are small.

    Returns
    -------
    ndarray of shape (4, n_features, n_bins), float32
        Slope, offset, lowest and highest value of each bin. All are zero for bins that a
        feature of fewer different values does without; a feature of two values needs none.
    """
    X = X.astype(float)
    bins = np.zeros((4, X.shape[1], n_bins))
    for j, x in enumerate(X.T):
        order = np.argsort(x)
        values, own = x[order], weight[order]
        edges = _edges(values, own, n_bins)
        if len(edges) < 3:
            continue
        width = np.diff(edges)
        mean, variance = _moments_of_parts(values, own, edges)
        together = SMOOTH_VARIANCE if smooth and len(width) == n_bins else BINS_VARIANCE
        scale = np.sqrt(together / n_bins / variance)
        bins[:, j, : len(width)] = (
            scale / width,
            -scale * (edges[:-1] / width + mean),
            -scale * mean,
            scale * (1 - mean),
        )
    return bins.astype(np.float32)


def _edges(values, weight, n_bins):
    """Different weighted quantiles of a column in ascending order, its ends included."""
    total = np.cumsum(weight)
    share = total / total[-1]
    # A hair below, so that rounding of the weights' sum does not decide between two values.
    positions = np.searchsorted(share, np.arange(1, n_bins) / n_bins - 1e-9)
    edges = [values[0]]
    for value in (*values[positions], values[-1]):
        if value - edges[-1] > RESOLUTION * max(abs(value), abs(edges[-1])):
            edges.append(value)
    return np.array(edges)


def _moments_of_parts(values, weight, edges):
    """Weighted mean and variance of each bin's part, 0 before its edges and 1 after them, of a column in ascending order."""
    n_bins = len(edges) - 1
    bounds = np.searchsorted(values, edges[1:-1], side="right")
    own = np.repeat(np.arange(n_bins), np.diff(bounds, prepend=0, append=len(values)))
    part = np.clip((values - edges[own]) / np.diff(edges)[own], 0, 1)

    def within(numbers):
        return np.bincount(own, weight * numbers, n_bins)

    share = within(1.0)
    before, total = np.cumsum(share) - share, share.sum()
    after = total - before - share
    mean = (within(part) + after) / total
    # Not the mean square less the squared mean: where nearly all rows are on one side, they differ by little.
    variance = (within((part - mean[own]) ** 2) + before * mean**2 + after * (1 - mean) ** 2) / total
    return mean, variance
