"""Encodings of the inputs: which there are, and which features of a fit are encoded.

An encoding writes beside each encoded feature some functions of it. Each one is a file here, a subclass of
:class:`InputEncoding`, and has a twin in each backend that trains it.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ..rows import SparseRows
from .base import InputEncoding
from .columns import many_valued
from .periodic import Periodic
from .piecewise_linear import PiecewiseLinear

__all__ = ["ENCODINGS", "Encoding", "InputEncoding", "Periodic", "PiecewiseLinear", "many_valued"]

ENCODINGS: dict[str, type[InputEncoding]] = {kind.name: kind for kind in (PiecewiseLinear, Periodic)}
# Columns that are fitted together, so that sparse rows need not become dense at once.
COLUMNS_AT_ONCE = 64
# Statistics of a column of more rows than this do not move noticeably.
MAX_ROWS = 50_000


@dataclass(frozen=True)
class Encoding:
    """Which features of a fit are encoded, and how.

    Attributes
    ----------
    asked : tuple
        What was asked for: `input_encoding`, and the encoding that it stands for, None for none.
    kind : InputEncoding or None
        None where nothing is to be encoded.
    features : ndarray of bool, shape (n_features,)
        The encoded ones.
    """

    asked: tuple = (None, None)
    kind: InputEncoding | None = None
    features: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    @classmethod
    def of(cls, asked: tuple, kind: InputEncoding | None, features: np.ndarray) -> "Encoding":
        """Encoding of these features, or of none where `kind` is None."""
        if kind is None:
            return cls(asked, None, np.zeros(len(features), bool))
        return cls(asked, replace(kind, n_encoded=None if features.all() else int(features.sum())), features)

    def is_like(self, kind: InputEncoding) -> bool:
        """Whether features are encoded by `kind`, whichever they are."""
        return self.kind is not None and replace(self.kind, n_encoded=None) == kind

    def fit(self, X: np.ndarray | SparseRows, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Arrays of the encoding that the network computes with and nobody trains; none where nothing is encoded.

        Parameters
        ----------
        X : ndarray of shape (n_rows, n_features), float32, or SparseRows
        weight : ndarray of shape (n_rows,)
        """
        columns, step = np.flatnonzero(self.features), -(-X.shape[0] // MAX_ROWS)
        if self.kind is None or not len(columns):
            return {}
        weight = weight[::step]
        if isinstance(X, SparseRows):
            parts = np.split(columns, range(COLUMNS_AT_ONCE, len(columns), COLUMNS_AT_ONCE))
            found = [self.kind.fit(X.columns(part, step), weight) for part in parts]
            arrays = {
                name: np.concatenate([part[name] for part in found], axis=-2) if found[0][name].ndim > 1 else array
                for name, array in found[0].items()
            }
        else:
            arrays = self.kind.fit(X[::step] if self.kind.n_encoded is None else X[::step, columns], weight)
        return arrays if self.kind.n_encoded is None else {**arrays, "encoded": columns}
