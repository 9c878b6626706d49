"""What every encoding of the inputs is: features, then the parts of each encoded one, from fixed and from learned numbers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np


@dataclass(frozen=True)
class InputEncoding(ABC):
    """A front end of the network: beside the features stand `width` parts of each encoded one.

    An encoding is a description, not its numbers. Those are arrays of two kinds: what :meth:`fit` finds and nobody trains
    (`fixed_shapes`), and what is trained with the network (`weight_shapes`), a point estimate in every method.

    Attributes
    ----------
    size : int
        How fine the encoding is: bins or frequencies of a feature.
    n_encoded : int or None
        Number of encoded features where not all are; None for all of them.
    """

    size: int
    n_encoded: int | None = None

    # Value of `input_encoding`.
    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Encoding of all features that an estimator's constructor parameters describe."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Parts of each encoded feature."""

    def n_columns(self, n_features: int) -> int:
        """Number of encoded features among `n_features`."""
        return n_features if self.n_encoded is None else self.n_encoded

    def n_inputs(self, n_features: int) -> int:
        """Width of what the first layer takes: the features and all parts."""
        return n_features + self.n_columns(n_features) * self.width

    def fixed_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """Arrays that nobody trains, in alphabetic order.

        ``encoded`` (n_encoded,), the columns of the encoded features, where not all are; and what :meth:`fit` finds.
        """
        if not self.n_columns(n_features):
            return {}
        found = self.found_shapes(self.n_columns(n_features))
        columns = {} if self.n_encoded is None else {"encoded": (self.n_encoded,)}
        return dict(sorted({**columns, **found}.items()))

    @abstractmethod
    def found_shapes(self, n_columns: int) -> dict[str, tuple[int, ...]]:
        """Shapes of what :meth:`fit` finds for `n_columns` encoded features."""

    def weight_shapes(self, n_features: int) -> dict[str, tuple[int, ...]]:
        """Shapes of what is trained, the axis of the encoded features first; none for most encodings."""
        return {}

    def initial_weights(self, n_features: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Where training of `weight_shapes` starts."""
        return {}

    @abstractmethod
    def fit(self, X: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Fixed arrays of some columns, with their axis before the last where they have one; float32.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_columns), float32
            Encoded features only, standardised.
        weight : ndarray of shape (n_rows,)
        """

    @abstractmethod
    def fill(
        self, X: np.ndarray, weights: Mapping[str, np.ndarray], fixed: Mapping[str, np.ndarray], out: np.ndarray
    ) -> None:
        """Write the parts.

        Parameters
        ----------
        X : ndarray of shape (n_draws or 1, n_rows, n_columns)
            Encoded features only.
        weights : dict of ndarray
            What `weight_shapes` lists, with a leading axis n_draws or 1.
        fixed : dict of ndarray
            What `fixed_shapes` lists.
        out : ndarray of shape (n_draws, n_rows, n_columns · width)
            The parts of the first encoded feature, then those of the second, and so on.
        """

    def apply(
        self,
        X: np.ndarray,
        weights: Mapping[str, np.ndarray],
        fixed: Mapping[str, np.ndarray],
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Features and parts, (n_draws, n_rows, n_inputs): what the first layer takes.

        Parameters
        ----------
        X : ndarray of shape (n_draws or 1, n_rows, n_features)
        weights, fixed : dict of ndarray
            As in :meth:`fill`; other entries are not read.
        out : ndarray of the result's shape and type, optional
            Where to write it.
        """
        n_features = X.shape[-1]
        if out is None:
            out = np.empty(self.shape_of(X, weights), X.dtype)
        out[..., :n_features] = X
        self.fill(X if self.n_encoded is None else X[..., fixed["encoded"]], weights, fixed, out[..., n_features:])
        return out

    def shape_of(self, X: np.ndarray, weights: Mapping[str, np.ndarray]) -> tuple[int, ...]:
        """Shape of what :meth:`apply` returns."""
        n_draws = max((X.shape[0], *(len(weights[name]) for name in self.weight_shapes(1))))
        return (n_draws, X.shape[1], self.n_inputs(X.shape[2]))
