"""How large the noise is: one factor and one power of the learned noise for each target, from rows that training did not see.

A network's residuals on its own training rows understate the noise, so its held-out rows decide. What they must fit is
the predictive mixture that the estimator will answer with, draws and members included, not one network's noise: where
the draws already spread, less noise is needed. They can be fitted by likelihood, which a few rows far out may rule, or by the
share of them inside intervals.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from .._data.folds import Part
from ..likelihoods import Likelihood
from .loop import Rows

# A mixture's factor is sought between these, as multiples of what its draws need one by one.
SMALLEST, LARGEST = 0.25, 4.0
# Intervals whose coverage of held-out rows counts, and how far from the factor of most likelihood one is sought for them.
COVERAGE, FURTHEST, N_HALVINGS = 0.9, 2.0, 12
# Nats a row that intervals of the right coverage may cost: a normal's scale is then within an eighth of the likeliest.
AFFORDABLE = 0.02
# Members have been told of the noise at a row where they are this many of their standard deviations above the one that has not
# seen it.
TOLD = 2.0
# A member is apart that is this many times as far from the others as most are, or errs so many times as much.
FAR_AWAY, WORSE = 5.0, 2.0
# Shares of their spread among which held-out rows choose that of a method's draws: trained for another purpose than this
# mixture, draws tend to differ by more than they err.
SPREADS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.1)
# Nats by which a narrower spread must be better before held-out rows are believed.
NOTICEABLE = 0.01
# Powers of the learned scales among which held-out rows choose: 1 leaves them as they are, 0 makes them all one; and the nats
# that a smaller one must gain.
POWERS, POWER_GAIN = (1.0, 0.75, 0.5, 0.25, 0.0), 0.002
# Where held-out rows take the scales as they are, an ensemble's standard deviation stays within this ratio of that of its errors,
# if it costs no more nats than that.
MOST_APART, TRIFLE = 1.15, 0.0005
# Shares of the scales at held-out rows at which a limit of them is sought.
LIMIT_LEVELS = (0.9, 0.95, 0.98, 1.0)


def mixture_factor(
    likelihood: Likelihood, parameters: dict[str, np.ndarray], y: np.ndarray, weight: np.ndarray
) -> np.ndarray:
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
    for loss, own, target in _by_output(likelihood, parameters, y, weight):
        # What the draws need one by one, in closed form.
        alone = np.exp(np.log(likelihood.best_scale(target[None], own, weight[None, :, None], axis=1)).mean())
        if len(own["loc"]) == 1:
            factors.append(alone)
            continue
        found = minimize_scalar(
            lambda log_factor, loss=loss: loss(np.exp(log_factor)),
            bounds=np.log([SMALLEST * alone, LARGEST * alone]),
            method="bounded",
        )
        factors.append(np.exp(found.x))
    return np.array(factors)


def _by_output(
    likelihood: Likelihood, parameters: dict[str, np.ndarray], y: np.ndarray, weight: np.ndarray
) -> Iterator[Any]:
    """For each output: mean of −log p as a function of the factor, parameters, and targets (n_rows, 1)."""
    parameters = {name: np.broadcast_to(values, parameters["loc"].shape) for name, values in parameters.items()}
    for j in range(y.shape[1]):
        own = {name: values[..., j : j + 1] for name, values in parameters.items()}
        target = y[:, j : j + 1]

        def loss(factor: float, own: dict[str, np.ndarray] = own, target: np.ndarray = target) -> float:
            density = likelihood.logpdf(target, {**own, "scale": own["scale"] * factor})
            log_mean = logsumexp(density, axis=0)[:, 0] - np.log(len(density))
            return -float(np.average(log_mean, weights=weight))

        yield loss, own, target


def coverage_factor(
    likelihood: Likelihood, parameters: dict[str, np.ndarray], y: np.ndarray, weight: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Factors of the noise with which central intervals of the mixture hold `COVERAGE` of the rows, (n_outputs,).

    Where that costs more than `AFFORDABLE` of the mean log likelihood, as it does where a spike in the targets holds its
    share of the rows by itself, the factor goes only a share of the way, on a logarithmic scale: `AFFORDABLE` over the cost.
    For a normal distribution a factor f times the likeliest costs log f + (1/f² − 1)/2.

    Parameters are those of :func:`mixture_factor`, and `start` its answer, from which the search starts.
    """
    parameters = {name: np.broadcast_to(values, parameters["loc"].shape) for name, values in parameters.items()}
    low, high = np.full(len(start), 1 / FURTHEST), np.full(len(start), FURTHEST)
    for _ in range(N_HALVINGS):
        middle = np.sqrt(low * high)
        scaled = {**parameters, "scale": parameters["scale"] * (start * middle)}
        p = likelihood.cdf(y, scaled).mean(axis=0)
        inside = np.average(np.abs(p - 0.5) <= COVERAGE / 2, axis=0, weights=weight)
        # Rounded sums must not decide whether nine of ten rows are 90 %.
        short = inside < COVERAGE - 1e-9
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    wanted = start * np.sqrt(low * high)
    each = zip(_by_output(likelihood, parameters, y, weight), start, wanted, strict=True)
    return np.array([_affordable(loss, likeliest, factor, AFFORDABLE) for (loss, *_), likeliest, factor in each])


def _affordable(loss: Callable[[float], float], now: float, wanted: float, most: float) -> float:
    """`wanted`, or a factor between it and `now`, the nearer to `now` the more nats over `most` it costs."""
    cost = loss(wanted) - loss(now)
    share = most / cost if cost > most else 1.0
    return float(now * (wanted / now) ** share)


def flattened_factor(
    likelihood: Likelihood, parameters: dict[str, np.ndarray], y: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and power of the learned scales that maximise the likelihood, (n_outputs,) each: σ(x) becomes factor · σ(x)^power.

    A network may believe that the noise is large near the few rows of training whose targets lie far out, though it is the same
    everywhere. Rows that it has not seen then prefer scales that differ less (a power below 1), or not at all (0).

    Parameters are those of :func:`mixture_factor`.
    """
    parameters = {name: np.broadcast_to(values, parameters["loc"].shape) for name, values in parameters.items()}
    chosen = []
    for j in range(y.shape[1]):
        own, target = {name: values[..., [j]] for name, values in parameters.items()}, y[:, [j]]
        best = (np.inf, 1.0, 1.0)
        for power in POWERS:
            flattened = {**own, "scale": own["scale"] ** power}
            factor = float(mixture_factor(likelihood, flattened, target, weight)[0])
            ((loss, *_),) = _by_output(likelihood, flattened, target, weight)
            now = loss(factor)
            if now > best[0] - POWER_GAIN:
                break
            best = (now, factor, power)
        chosen.append(best[1:])
    return np.array([factor for factor, _ in chosen]), np.array([power for _, power in chosen])


def fit_siblings(
    likelihood: Likelihood, mixtures: list[dict[str, np.ndarray]], rows: Rows, held_out: list[Part]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit the noise of an estimator whose siblings hold rows out: one factor for all siblings' rows.

    The siblings' rows are few, and a quantile of few rows is rough: the factor is the geometric mean of those that serve the
    likelihood and the intervals.

    Parameters
    ----------
    likelihood : Likelihood
    mixtures : list of dict
        Parameters of each sibling's predictive mixture at its held-out rows.
    rows : Rows
    held_out : list of Part
        Held-out rows of each sibling.

    Returns
    -------
    factor, power : ndarray of shape (n_outputs,)
        The noise's scale σ(x) becomes factor · σ(x)^power.
    loss : float
        Least mean of −log p of the held-out rows under the mixtures with any factor and power, in nats.
    """
    y, weight = targets_and_weights(rows, held_out)
    joined = {
        name: np.concatenate([np.broadcast_to(own[name], own["loc"].shape) for own in mixtures], axis=1)
        for name in mixtures[0]
    }
    likeliest, power = flattened_factor(likelihood, joined, y, weight)
    joined["scale"] = joined["scale"] ** power
    density = likelihood.logpdf(y, {**joined, "scale": joined["scale"] * likeliest})
    log_mean = logsumexp(density, axis=0) - np.log(len(density))
    loss = -float(np.average(log_mean.sum(axis=-1), weights=weight))
    return np.sqrt(likeliest * coverage_factor(likelihood, joined, y, weight, likeliest)), power, loss


def ensemble_factor(
    likelihood: Likelihood, parameters: dict[str, np.ndarray], rows: Rows, held_out: list[Part]
) -> tuple[np.ndarray, np.ndarray]:
    """Factor and power of the noise of an ensemble whose members each hold other rows out, (n_outputs,) each.

    Only one member has not seen a given row, but the ensemble's answer at a new row is the mixture of all. That mixture
    is imitated at each held-out row: the member that has not seen it says where the mixture lies, the others how the
    members spread about it, stretched to how far members spread at rows that none has seen. One member's error is larger than the
    mixture's by the members' own variance, so that share is taken off the errors. (Of two members nothing is known of the
    spread.) All rows are held out by some member, so intervals can be fitted to hold their share.

    Parameters
    ----------
    likelihood : Likelihood
    parameters : dict of ndarray of shape (n_members, n_rows, n_outputs)
        At the held-out rows of the first member, the second, and so on.
    rows : Rows
    held_out : list of Part
        Held-out rows of each member.
    """
    holder = np.repeat(np.arange(len(held_out)), [len(part) for part in held_out])
    y, weight = targets_and_weights(rows, held_out)
    parameters = {name: np.broadcast_to(values, parameters["loc"].shape) for name, values in parameters.items()}
    loc, log_scale = parameters["loc"], np.log(parameters["scale"])
    # Of each row by the member that has not seen it.
    by_holder = holder, np.arange(len(holder))
    foreign = loc[by_holder]
    mistake = y - foreign
    fold = np.array([part.fold for part in held_out])
    has_seen = (fold[:, None] != fold[holder])[..., None]
    far, wrong = _members_apart(loc, has_seen, mistake, holder, weight)
    weight = np.where((far & wrong).all(axis=1)[holder], 0.0, weight)
    counted = has_seen & ~far[:, None]
    n_others = np.maximum(counted.sum(axis=0), 1)
    others = loc.sum(axis=0, where=counted) / n_others
    deviation = np.where(has_seen, loc - others, 0.0)
    squares = (deviation**2).sum(axis=0, where=counted)
    seen = np.average(squares / np.maximum(n_others - 1, 1), axis=0, weights=weight)
    unseen = unseen_variance(mistake, foreign - others, seen, n_others, weight)
    share = unseen / np.average(mistake**2, axis=0, weights=weight)
    # Never less than half of the error is noise or bias that all members have in common.
    error = mistake * np.sqrt(np.maximum(1 - share, 0.25))
    deviation *= np.sqrt(unseen / np.maximum(seen, np.finfo(float).tiny))
    # Members that have seen a target far out know that the noise is large there. Where they say so by more than they differ among
    # each other, they have been told, and the one that has not seen it speaks for them.
    middle = log_scale.sum(axis=0, where=counted) / n_others
    above = middle - log_scale[by_holder]
    among = np.sqrt(((log_scale - middle) ** 2).mean(axis=(0, 1), where=counted))
    told = np.where(above > TOLD * among, above, 0.0)
    scale = np.exp(np.where(has_seen, log_scale - told, log_scale))
    mixture = {**parameters, "loc": deviation, "scale": scale}
    likeliest, power = flattened_factor(likelihood, mixture, error, weight)
    mixture["scale"] = scale**power
    factor = coverage_factor(likelihood, mixture, error, weight, likeliest)
    alone = {name: values[by_holder] for name, values in parameters.items()}
    alone["scale"] = alone["scale"] ** power
    wanted = moment_factor(likelihood.var(alone), unseen, mistake, weight, factor, power)
    # Scales that held-out rows take as they are know where errors are large, and the likelihood is to be trusted.
    each = zip(_by_output(likelihood, mixture, error, weight), factor, wanted, power, strict=True)
    return np.array([_affordable(loss, now, to, TRIFLE) if p == 1 else to for (loss, *_), now, to, p in each]), power


def moment_factor(
    noise: np.ndarray,
    between: np.ndarray,
    error: np.ndarray,
    weight: np.ndarray,
    factor: np.ndarray,
    power: np.ndarray,
) -> np.ndarray:
    """The factor of the noise next to `factor` with which the predictive variance is that of the errors, (n_outputs,).

    The likelihood of a mixture of wide and narrow members hardly depends on how wide the wide ones are, so their variance may be
    anything. Where the power is below 1, the standard deviations are made equal. Where it is 1, so that the scales are believed,
    a ratio up to `MOST_APART` stands, and one standard error of the errors' mean square.

    Parameters
    ----------
    noise : ndarray of shape (n_rows, n_outputs)
        Variance of the noise, before the factor, that members say of rows which they have not seen.
    between : ndarray of shape (n_outputs,)
        Variance of the members' locations at such rows.
    error : ndarray of shape (n_rows, n_outputs)
        Of the members at such rows.
    weight : ndarray of shape (n_rows,)
    factor, power : ndarray of shape (n_outputs,)
    """
    square = np.average(error**2, axis=0, weights=weight)
    share = (weight / weight.sum())[:, None]
    doubt = np.sqrt(((share * (error**2 - square)) ** 2).sum(axis=0)) / np.maximum(square, np.finfo(float).tiny)
    doubt, apart = np.where(power == 1, doubt, 0.0), np.where(power == 1, MOST_APART, 1.0)
    mean = np.average(noise, axis=0, weights=weight)
    known = np.isfinite(mean) & (mean > 0)  # some families have no variance
    mean = np.where(known, mean, 1.0)
    low = np.maximum(square * np.maximum(1 - doubt, 0) / apart**2 - between, 0)
    # At least a quarter of the mean square is noise, as above.
    high = np.maximum(square * (1 + doubt) * apart**2 - between, 0.25 * square)
    return np.where(known, np.clip(factor, np.sqrt(low / mean), np.sqrt(high / mean)), factor)


def _members_apart(
    loc: np.ndarray, has_seen: np.ndarray, error: np.ndarray, holder: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each member is far from the others at rows that it has seen, and errs more at rows that it has not.

    Two arrays of shape (n_members, n_outputs); in each output less than half of the members are either. A member that is far
    from the others, as one is that has stopped short of them where there is hardly any noise, is not taken for their spread.
    If it is wrong too, its errors are not taken for theirs. (Targets far out make members err, too, but not differ where they
    have seen them.)
    """
    middle = np.ma.median(np.ma.array(loc, mask=~np.broadcast_to(has_seen, loc.shape)), axis=0).filled(0.0)
    share = has_seen * weight[None, :, None]
    distance = ((loc - middle) ** 2 * share).sum(axis=1) / share.sum(axis=1)
    own = (np.arange(len(loc))[:, None] == holder) * weight
    mistake = own @ error**2 / np.maximum(own.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    far = distance > FAR_AWAY**2 * np.median(distance, axis=0)
    wrong = mistake > WORSE**2 * np.median(mistake, axis=0)
    return far, wrong


def scale_limit(
    likelihood: Likelihood, mixtures: list[dict[str, np.ndarray]], rows: Rows, parts: list[Part], log_scale: np.ndarray
) -> np.ndarray:
    """Largest scale of log y that rows support, (1, 1, n_outputs), for a mean that one row's scale must not rule.

    The mean of a log-normal y is exp(loc + scale² / 2) and so grows with the largest scales, which few rows speak for, as none of
    the other predictions does. Limits that cost the rows no noticeable likelihood are all alike to it; of these the one stands
    under which the means lie nearest to y.

    Parameters
    ----------
    likelihood : Likelihood
        Of log y, on the training scale.
    mixtures : list of dict
        Parameters of each network's predictive mixture at its rows, (n_draws, n_rows, n_outputs), noise factor included.
    rows : Rows
    parts : list of Part
        Rows of each mixture.
    log_scale : ndarray of shape (n_outputs,)
        Units of log y in one standardised unit.
    """
    y, weight = targets_and_weights(rows, parts)
    joined = {
        name: np.concatenate([np.broadcast_to(own[name], own["loc"].shape) for own in mixtures], axis=1)
        for name in mixtures[0]
    }
    loc, scale = joined["loc"], joined["scale"]
    limits = []
    for j, unit in enumerate(log_scale):
        candidates = np.quantile(scale[..., j], LIMIT_LEVELS)
        # Of all means and targets alike, so that their squares are finite.
        top = max(float((unit * y[:, j]).max()), float((unit * loc[..., j]).max()))
        losses, errors = [], []
        for limit in candidates:
            own = {"loc": loc[..., j], "scale": np.minimum(scale[..., j], limit)}
            density = logsumexp(likelihood.logpdf(y[:, j], own), axis=0) - np.log(len(loc))
            losses.append(-np.average(density, weights=weight))
            exponent = unit * own["loc"] + 0.5 * (unit * own["scale"]) ** 2 - top
            means = np.exp(np.minimum(exponent, 300.0)).mean(axis=0)
            errors.append(np.average((means - np.exp(unit * y[:, j] - top)) ** 2, weights=weight))
        alike = np.array(losses) <= min(losses) + 0.5 * NOTICEABLE
        limits.append(candidates[np.argmin(np.where(alike, errors, np.inf))])
    return np.array(limits)[None, None]


def targets_and_weights(rows: Rows, parts: list[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n_rows, n_outputs), float64, and weights (n_rows,) of some parts of the rows, one after the other."""
    y = np.concatenate([rows.y[part.rows] for part in parts]).astype(float)
    return y, np.concatenate([part.weights(rows.weight) for part in parts])


def unseen_variance(
    error: np.ndarray, pull: np.ndarray, seen: np.ndarray, n_others: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """Variance of the members at rows that none of them has seen, (n_outputs,): between two bounds, their geometric mean.

    The one is the variance of the members which have seen the rows. The other: say the member that has not seen a row errs
    there by r − δ, r the error of very many such members and δ its own part, of variance σ². The row has drawn the others to
    itself by a·r, so they lie a r − δ away, but for their mean's own error. For an a that all rows have in common, the mean
    squares

        T = E[r²] + σ²,   V = a² E[r²] + σ²,   C = a E[r²] + σ²   give   σ² = (V T − C²) / (V + T − 2 C);

    the more a differs from row to row, the less σ² is. Where this is no more than the first bound, that one stands.

    Parameters
    ----------
    error : ndarray of shape (n_rows, n_outputs)
        Errors y − f of the members that have not seen their rows: mean square T.
    pull : ndarray of shape (n_rows, n_outputs)
        How far these lie from the mean of the others: mean square V, mean of its product with `error` −C.
    seen : ndarray of shape (n_outputs,)
        Variance of the others.
    n_others : ndarray of shape (n_rows, 1)
        How many others there are.
    weight : ndarray of shape (n_rows,)
    """

    def mean(values: Any) -> np.ndarray:
        return np.average(values, axis=0, weights=weight)

    total, product = mean(error**2), -mean(error * pull)
    apart = np.maximum(mean(pull**2) - seen * mean(1 / n_others), 0)
    rest = apart + total - 2 * product  # 0 where the others meet their rows exactly
    known = rest > np.finfo(np.float32).eps * total
    highest = np.divide(apart * total - product**2, rest, out=np.zeros_like(total), where=known)
    return np.sqrt(seen * np.maximum(highest, seen))
