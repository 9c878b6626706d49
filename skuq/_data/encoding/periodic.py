"""Periodic features with learned frequencies.

Beside each feature x stand sin(2πcx) and cos(2πcx) − 1 for k frequencies c (Gorishniy et al. 2022, "On Embeddings for Numerical
Features in Tabular Deep Learning"), which start as c ~ N(0, σ²) and are trained with the network. A small σ makes smooth
functions easy, a large one steep ones. The feature itself stays an input, so that functions can follow a trend beyond the data.

What is trained is u = c / σ. Adam moves every weight by about its learning rate, so a step then changes a frequency by about
as large a share of its size as other steps change their weights; c itself would run through all phases within an epoch. The
constant 1 is left to the layer's bias, so that a frequency of 0 says nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np

from .base import InputEncoding

# Sum of squares of all sines and cosines of a feature, beside 1 for the feature itself, as for bins.
PARTS_VARIANCE = 2.0


@dataclass(frozen=True)
class Periodic(InputEncoding):
    """Sines and cosines of each encoded feature at `size` learned frequencies.

    The weights ``frequencies``, (n_encoded, size), are u; the fixed array ``frequency_scale``, (1,), is σ.

    Attributes
    ----------
    frequency_scale : float
        σ, in periods for each standard deviation of a feature. Networks that differ in it alone are one program.
    """

    frequency_scale: float = field(default=0.05, compare=False)

    name: ClassVar[str] = "periodic"

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Encoding of ``n_frequencies`` frequencies of standard deviation ``frequency_scale``."""
        return cls(parameters["n_frequencies"], frequency_scale=float(parameters["frequency_scale"]))

    @property
    def width(self) -> int:
        """Sines and cosines of each encoded feature."""
        return 2 * self.size

    @property
    def amplitude(self) -> float:
        """Factor of each sine and cosine."""
        return float(np.sqrt(PARTS_VARIANCE / self.size))

    def found_shapes(self, n_columns: int) -> dict[str, tuple[int, ...]]:
        """Shape of σ."""
        return {"frequency_scale": (1,)}

    def weight_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """Shape of u."""
        return {"frequencies": (self.n_columns(n_features), self.size)}

    def initial_weights(self, n_features: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Standard normal u."""
        return {name: rng.standard_normal(shape) for name, shape in self.weight_shapes(n_features).items()}

    def fit(self, X: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """σ; it depends on no row."""
        return {"frequency_scale": np.array([self.frequency_scale], np.float32)}

    def fill(
        self, X: np.ndarray, weights: Mapping[str, np.ndarray], fixed: Mapping[str, np.ndarray], out: np.ndarray
    ) -> None:
        """Write the sines of a feature, then its cosines."""
        parts = out.reshape(*out.shape[:-1], X.shape[-1], self.width)
        sines, cosines = parts[..., : self.size], parts[..., self.size :]
        factor = 2 * np.pi * fixed["frequency_scale"].astype(X.dtype)
        np.multiply(X[..., None], (factor * weights["frequencies"])[:, None], out=sines)
        np.cos(sines, out=cosines)
        np.sin(sines, out=sines)
        cosines -= 1
        parts *= np.asarray(self.amplitude, X.dtype)
