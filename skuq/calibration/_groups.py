"""Groups of rows for coverage within each: read from the rows, and recognised again in new ones."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.utils import _safe_indexing
from sklearn.utils._missing import is_pandas_na


@dataclass(frozen=True)
class Groups:
    """Groups seen in calibration.

    Attributes
    ----------
    source : str, int or callable
        Column that holds them, or function that gives them.
    labels : ndarray of shape (n_groups,)
        Sorted.
    """

    source: object
    labels: np.ndarray

    def codes(self, X) -> np.ndarray:
        """Number of each new row's group.

        Raises
        ------
        ValueError
            If a group is not among those of the calibration rows.
        """
        found = group_labels(self.source, X)
        number = {label: k for k, label in enumerate(self.labels.tolist())}
        unknown = {label: None for label in found.tolist() if label not in number}
        if unknown:
            raise ValueError(
                f"X holds groups that were not seen in fit: {list(unknown)[:5]}; known: {self.labels[:10].tolist()}. Fit on "
                f"rows of every group, or have groups= put them into one that was seen."
            )
        return np.array([number[label] for label in found.tolist()], dtype=int)


def find_groups(source, X) -> tuple[Groups, np.ndarray]:
    """Groups of calibration rows, and the number of each row's."""
    found = group_labels(source, X)
    try:
        labels, codes = np.unique(found, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(label).__name__ for label in found.tolist()})
        raise TypeError(f"groups must be labels of one kind, got {kinds}. Make them strings or integers.") from error
    return Groups(source, labels), codes


def group_labels(source, X) -> np.ndarray:
    """Label of each row's group, (n_rows,), from a column of X or a function of X.

    Raises
    ------
    ValueError
        If there is no such column, or not one label for each row.
    """
    n_rows = X.shape[0] if hasattr(X, "shape") else len(X)
    labels = np.asarray(source(X)) if callable(source) else _column(source, X)
    if labels.shape != (n_rows,):
        raise ValueError(
            f"groups must give one label for each row, an array of shape ({n_rows},), got shape {labels.shape}."
        )
    if any(label is None or is_pandas_na(label) or label != label for label in labels.tolist()):
        raise ValueError(
            "groups must not be missing, got NaN or None for some rows. Give such rows a group of their own."
        )
    return labels


def _column(key, X) -> np.ndarray:
    names = getattr(X, "columns", None)
    try:
        if sparse.issparse(X):
            return sparse.csr_array(X)[:, [key]].toarray().ravel()
        if names is not None:
            return np.asarray(_safe_indexing(X, int(key) if isinstance(key, Integral) else key, axis=1))
        return np.asarray(X)[:, key]
    except (IndexError, KeyError, ValueError, TypeError) as error:
        has = f"columns {list(names)[:10]}" if names is not None else f"shape {np.shape(X)} and no names of columns"
        raise ValueError(f"groups={key!r} must be a column of X, which has {has}. Or pass a function of X.") from error
