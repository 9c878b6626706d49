"""The temperature of a mixture of draws (Guo et al. 2017, arXiv:1706.04599)."""

import numpy as np
from scipy import special
from scipy.optimize import minimize_scalar

# Beyond these the probabilities are one-hot, or uniform, for any purpose.
LOWEST, HIGHEST = 1e-2, 1e2
_GRID_POINTS = 17


def fit_mixture_temperature(logits, y, weight, shift=0.0, n_rows=None) -> float:
    r"""Temperature T for which the mean over draws of softmax(logits / T − shift) has the smallest log loss.

    Beside the held-out rows stands one row of even labels, spread over them: it keeps T away from 0 where they are all
    classified right, as the targets of Platt (1999) do, and is next to nothing beside many rows.

    Parameters
    ----------
    logits : ndarray of shape (n_draws, n_samples, n_classes), or (n_draws, n_samples, 1) for two classes
        Of held-out rows.
    y : ndarray of int, shape (n_samples,)
        Column number of each row's class.
    weight : ndarray of shape (n_samples,)
        Weights ≥ 0, not all 0; only their proportions matter.
    shift : float or ndarray that broadcasts to `logits`
        What is taken off the divided logits: the logarithms of the class weights of training.
    n_rows : float, optional
        Rows that the weights stand for; those of positive weight, if not given.

    Returns
    -------
    float
        In [0.01, 100].
    """
    if logits.shape[-1] == 1:
        logits, shift = (with_first_class(part) for part in (logits, np.broadcast_to(shift, logits.shape)))
    own, even = np.arange(len(y)), 1 / (n_rows or np.count_nonzero(weight))

    def loss(log_temperature):
        # Not convex for several draws, so a grid brackets the lowest of its minima.
        tempered = logits * np.exp(-log_temperature) - shift
        log_p = special.logsumexp(special.log_softmax(tempered, axis=-1), axis=0)
        return -np.average(log_p[own, y] + even * log_p.mean(axis=1), weights=weight)

    grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), _GRID_POINTS)
    lowest = int(np.argmin([loss(point) for point in grid]))
    bracket = grid[max(lowest - 1, 0)], grid[min(lowest + 1, _GRID_POINTS - 1)]
    return float(np.exp(minimize_scalar(loss, bounds=bracket, method="bounded", options={"xatol": 1e-6}).x))


def with_first_class(logits: np.ndarray) -> np.ndarray:
    """Logits of both classes, (…, 2), from the one of the second, (…, 1)."""
    return np.concatenate([np.zeros_like(logits), logits], axis=-1)
