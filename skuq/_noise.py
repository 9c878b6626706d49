"""How large the noise is: one factor of the learned noise for each target, from rows that training did not see.

A network's residuals on its own training rows understate the noise, so its held-out rows decide. What they must fit is
the predictive mixture that the estimator will answer with, draws and members included, not one network's noise: where
the draws already spread, less noise is needed.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

# Weight of the trained noise itself beside what the held-out rows of one sibling say of it.
PRIOR_ROWS = 5
# Members disagree this much more at a row that none of them has seen than at a row that all but one have: 1.0 to 1.4
# in standard deviations on the sets of docs/defaults.rst.
UNSEEN_SPREAD = 1.2
# The factor is sought between these.
SMALLEST, LARGEST = 1e-3, 1e3


def mixture_factor(likelihood, parameters, y, weight) -> np.ndarray:
    """Factors of the noise that maximise the likelihood of `y` under the mixture of the draws, (n_outputs,).

    Parameters
    ----------
    likelihood : Likelihood
        On the training scale, with a learned scale.
    parameters : dict of ndarray of shape (n_draws, n_rows, n_outputs)
    y : ndarray of shape (n_rows, n_outputs)
    weight : ndarray of shape (n_rows,)
    """
    factors = []
    parameters = {name: np.broadcast_to(values, parameters["loc"].shape) for name, values in parameters.items()}
    for j in range(y.shape[1]):
        own = {name: values[..., j : j + 1] for name, values in parameters.items()}
        # One normal draw has a closed form; it is also where the search starts for several.
        start = np.exp(np.log(likelihood.best_scale(y[None, :, j : j + 1], own, weight[None, :, None], axis=1)).mean())

        def loss(log_factor, own=own, j=j):
            scaled = {**own, "scale": own["scale"] * np.exp(log_factor)}
            density = logsumexp(likelihood.logpdf(y[:, j : j + 1], scaled), axis=0)[:, 0]
            return -np.average(density, weights=weight)

        if len(own["loc"]) == 1:
            factors.append(start)
            continue
        found = minimize_scalar(loss, bounds=np.log([SMALLEST, LARGEST * start]), method="bounded")
        factors.append(np.exp(found.x))
    return np.array(factors)


def sibling_factor(likelihood, mixtures, rows, held_out) -> np.ndarray:
    """Factor of the noise of an estimator whose siblings hold rows out, (n_outputs,).

    The geometric mean of the siblings' own factors, so that one overconfident sibling moves it little; each is drawn
    towards 1 where few rows speak, as if PRIOR_ROWS more had fitted exactly.

    Parameters
    ----------
    likelihood : Likelihood
    mixtures : iterable of dict
        Parameters of each sibling's predictive mixture at its held-out rows.
    rows : Rows
    held_out : list of ndarray
        Indices of each sibling's held-out rows.
    """
    factors = []
    for parameters, index in zip(mixtures, held_out, strict=True):
        own = mixture_factor(likelihood, parameters, rows.y[index].astype(float), rows.weight[index])
        factors.append(np.sqrt((len(index) * own**2 + PRIOR_ROWS) / (len(index) + PRIOR_ROWS)))
    return np.exp(np.log(factors).mean(axis=0))


def ensemble_factor(likelihood, parameters, rows, held_out) -> np.ndarray:
    """Factor of the noise of an ensemble whose members each hold other rows out, (n_outputs,).

    Only one member has not seen a given row, but the ensemble's answer at a new row is the mixture of all. That mixture
    is imitated at each held-out row: the member that has not seen it says where the mixture lies, the others how the
    members spread about it. One member's error is larger than the mixture's by the members' own variance, so that share
    is taken off the errors.

    Parameters
    ----------
    likelihood : Likelihood
    parameters : dict of ndarray of shape (n_members, n_rows, n_outputs)
        At the held-out rows of the first member, the second, and so on.
    rows : Rows
    held_out : list of ndarray
        Indices of each member's held-out rows, disjoint.
    """
    n_members = len(held_out)
    index = np.concatenate(held_out)
    holder = np.repeat(np.arange(n_members), [len(own) for own in held_out])
    y, weight = rows.y[index].astype(float), rows.weight[index]
    loc = parameters["loc"]
    foreign = loc[holder, np.arange(len(index))]
    total = loc.sum(axis=0) - foreign
    others = total / (n_members - 1)
    deviation = UNSEEN_SPREAD * (loc - others)
    deviation[holder, np.arange(len(index))] = 0.0
    variance = (deviation**2).sum(axis=0) / (n_members - 1)
    error = y - foreign
    share = np.average(variance, axis=0, weights=weight) / np.average(error**2, axis=0, weights=weight)
    # Never less than half of the error is noise or bias that all members have in common.
    error = error * np.sqrt(np.maximum(1 - share, 0.25))
    return mixture_factor(likelihood, {**parameters, "loc": deviation}, error, weight)
