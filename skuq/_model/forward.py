"""The arithmetic of a forward pass in NumPy: activations, and products and sums over draws, rows and units."""

from collections.abc import Callable
from math import gcd

import numpy as np
from scipy import special

from .threads import Scratch

# Numbers of a row that is long enough for NumPy.
LONG = 2**12


def _relu(h: np.ndarray) -> np.ndarray:
    # NumPy compares with an array of zeros five times as fast as with the number.
    rows = h.reshape(-1, gcd(h.size, 4096))
    np.maximum(rows, np.zeros(rows.shape[1], h.dtype), out=rows)
    return h


def _sigmoid(h: np.ndarray) -> np.ndarray:
    # Four times as fast as special.expit: numpy's tanh works on whole vectors.
    h *= 0.5
    np.tanh(h, out=h)
    h *= 0.5
    h += 0.5
    return h


# Each may write into its contiguous argument.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda h: h,
    "relu": _relu,
    "tanh": lambda h: np.tanh(h, out=h),
    "logistic": _sigmoid,
    "silu": lambda h: h * _sigmoid(h.copy()),
    "gelu": lambda h: h * special.ndtr(h),
    "elu": lambda h: np.where(h > 0, h, np.expm1(np.minimum(h, 0))),
    "softplus": lambda h: np.log1p(np.exp(-np.abs(h))) + _relu(h),
}


def affine(h: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, scratch: Scratch, name: str) -> np.ndarray:
    """H W + b, one matrix product a draw, so that its shape does not depend on how many draws there are.

    Parameters
    ----------
    h : ndarray of shape (n_draws or 1, n_rows, n_in)
    kernel : ndarray of shape (n_draws or 1, n_in, n_out)
    bias : ndarray of shape (n_draws or 1, n_out), or several times as long (:func:`repeated`), or None
    scratch : Scratch
        Holds the result under `name` until the next call.
    """
    shape = (max(len(h), len(kernel)), h.shape[1], kernel.shape[2])
    z = np.matmul(h, kernel, out=scratch(name, shape, np.result_type(h, kernel)))
    return z if bias is None else by_row(np.add, z, bias, scratch, name)


def by_row(operation: Callable, z: np.ndarray, row: np.ndarray, scratch: Scratch, name: str) -> np.ndarray:
    """Operate on every row of z, (n_draws, n_rows, size), with one row of each draw, or with several in turn."""
    shape = (max(len(z), len(row)), *z.shape[1:])
    out = z if len(z) == shape[0] else scratch(name, shape, z.dtype)
    long = z.reshape(len(z), -1, row.shape[1])
    operation(long, row[:, None], out=out.reshape(len(out), *long.shape[1:]))
    return out


def repeated(row: np.ndarray, n_rows: int) -> np.ndarray:
    """A row of each draw, (n_draws, size), written out for several of `n_rows` rows.

    NumPy adds a few long rows much faster than many short ones.
    """
    most = max(1, LONG // row.shape[1])
    return np.tile(row, gcd(n_rows, 2 ** (most.bit_length() - 1)))
