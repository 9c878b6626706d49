"""What ``calibration="conformal"`` and ``"temperature"`` add to a fit: held-out rows, and what is made of them.

A model that has seen a row says nothing about how it errs on new ones. Up to `CROSS_FITTED_ROWS` rows, further models train
without one fold each and predict it, while the estimator itself trains on all rows. Beyond that the estimator holds rows out
itself, at the price of no further fit. Either way the estimator answers alone, by what the held-out rows said.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from .._data.folds import Folds, Part, divide
from .._prediction.conformal import Scores
from .._prediction.temperature import fit_mixture_temperature
from .._training.interruption import many_fits
from .state import Calibration

N_FOLDS = 5
# A fifth of more rows than this says as much as all of them: the coverage it gives has a standard deviation of 1 %.
CROSS_FITTED_ROWS = 5000
# More held-out rows than this buy nothing, and are lost for training.
MOST_HELD_OUT = 10_000
# Logits (draws × rows × classes) beyond which one temperature does not become sharper, only slower.
MOST_LOGITS = 2**22


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who predicts which rows without having seen them.

    Attributes
    ----------
    folds : Folds
    used : list of int
        Folds that are held out.
    cross : bool
        Whether a model of its own trains for each of these; else the estimator holds out the only one.
    seed : int
    """

    folds: Folds
    used: list[int]
    cross: bool
    seed: int

    @property
    def held_out(self) -> list[Part]:
        """Rows that each fold holds out, with their share of the weight."""
        return [self.folds.held_out(k) for k in self.used]

    @property
    def training(self) -> list[Part]:
        """What is left of the rows for each fold."""
        return [self.folds.training(k) for k in self.used]

    @property
    def own(self) -> Part:
        """What the estimator itself trains on."""
        return Part(np.arange(len(self.folds.weight))) if self.cross else self.training[0]

    @property
    def own_copies(self) -> np.ndarray:
        """How many rows each of those stands for."""
        return self.folds.copies if self.cross else self.folds.copies_in(self.own, self.used[0])


def plan_calibration(
    weight: np.ndarray, copies: np.ndarray, strata: np.ndarray | None, seed: int, before: Calibration | None = None
) -> Plan:
    """Divide rows into folds.

    Parameters
    ----------
    weight : ndarray of shape (n_rows,)
        Of different rows, > 0.
    copies : ndarray of int, shape (n_rows,)
        How many rows each stands for.
    strata : ndarray of int, shape (n_rows,), or None
        Class codes. A class of one row stays in training, where it is needed for the model to know the class at all.
    seed : int
    before : Calibration, optional
        Of the fit that ``warm_start`` continues. Its weights have seen their rows, so the same are held out again; if they
        have seen all, other models have to predict.

    Raises
    ------
    ValueError
        If a model could not be trained without some fold.
    """
    remedy = "Fit on more rows, or set calibration=None."
    n_rows, n_copies = len(weight), copies.sum(dtype=float)
    if n_copies < 3:
        raise ValueError(
            f"calibration holds rows out, which takes at least 3 rows of positive weight, got {n_copies:.0f} (rows that only "
            f"repeat another count once). {remedy}"
        )
    alone = None
    if strata is not None:
        count = np.bincount(strata, weights=copies)
        if np.count_nonzero(count > 1) < 2:
            raise ValueError(
                f"calibration holds rows of each class out, which takes at least two classes of two rows or more, got rows a "
                f"class: {count[count > 0].astype(int).tolist()} (rows that only repeat another count once). {remedy}"
            )
        alone = count[strata] == 1
    if before is not None and before.seed is not None:
        seed = before.seed
    cross = n_rows <= CROSS_FITTED_ROWS or (before is not None and not before.held_out)
    n_folds = int(min(N_FOLDS, n_copies)) if cross else max(N_FOLDS, n_rows // MOST_HELD_OUT)
    folds = divide(weight, copies, n_folds, strata, np.random.default_rng(seed), alone)
    used = [k for k in range(n_folds if cross else 1) if len(folds.held_out(k))]
    return Plan(folds=folds, used=used, cross=cross, seed=seed)


def calibrate(
    model: Any,
    X: Any,
    y: np.ndarray,
    weight: np.ndarray,
    plan: Plan,
    before: Calibration | None,
    *,
    log_class_weight: float | np.ndarray = 0.0,
    settings: dict[str, Any] | None = None,
) -> Calibration:
    """Fit the models of the folds, and calibrate on the rows they have not seen.

    Parameters
    ----------
    model : estimator, fitted to ``plan.own``
    X : {ndarray, CSR matrix} of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Targets as ``fit`` takes them.
    weight : ndarray of shape (n_rows,)
        Weight of each row for the user.
    plan : Plan
    before : Calibration or None
        Of the fit that ``warm_start`` continues.
    log_class_weight : float or ndarray of shape (n_logits,)
        What class weights of training add to the logits.
    settings : dict, optional
        Parameters with which a copy of the model fits arrays.

    Returns
    -------
    Calibration
    """
    held_out = plan.held_out
    folds = _fit_folds(model, X, y, weight, plan, before, settings or {}) if plan.cross else []
    scorers = folds if plan.cross else [model]
    kept: dict[str, Any] = {"method": model.calibration, "seed": plan.seed, "held_out": not plan.cross}
    if model.warm_start:
        kept["folds"] = tuple(folds)
    if model.calibration == "temperature":
        held_out = _few_enough(scorers, held_out, np.random.default_rng([plan.seed, 1]))
        pairs = list(zip(scorers, held_out, strict=True))
        answers = [scorer._held_out_logits(X[part.rows]) for scorer, part in pairs]
        logits, tempering = (np.concatenate(each, axis=-2) for each in zip(*answers, strict=True))
        codes = np.concatenate([np.searchsorted(scorer.classes_, y[part.rows]) for scorer, part in pairs])
        n_rows = sum(plan.folds.copies_in(part, part.fold).sum(dtype=float) for part in held_out)
        shift = log_class_weight * tempering
        temperature = fit_mixture_temperature(logits, codes, _weights(held_out, weight), shift, n_rows)
        return Calibration(temperature=temperature, log_class_weight=log_class_weight, **kept)
    values = [
        scorer._conformity_scores(X[part.rows], y[part.rows]) for scorer, part in zip(scorers, held_out, strict=True)
    ]
    copies = np.concatenate([plan.folds.copies_in(part, part.fold) for part in held_out])
    # The estimator answers alone, so all scores count as its own.
    scores = Scores.of(values, _weights(held_out, weight), copies).pooled()
    return Calibration(conformal=scores, **kept)


def _weights(parts: list[Part], weight: np.ndarray) -> np.ndarray:
    return np.concatenate([part.weights(weight) for part in parts])


def _fit_folds(
    model: Any,
    X: Any,
    y: np.ndarray,
    weight: np.ndarray,
    plan: Plan,
    before: Calibration | None,
    of_arrays: dict[str, Any],
) -> list[Any]:
    """One fitted model a fold, without calibration of its own."""
    plain = clone(model).set_params(calibration=None, **of_arrays)
    fitted = []
    for k, seed in enumerate(np.random.SeedSequence(plan.seed).generate_state(len(plan.used))):
        settings = clone(plain).set_params(random_state=int(seed)).get_params(deep=False)
        earlier = () if before is None else before.folds
        fold = copy(earlier[k]) if len(earlier) == len(plan.used) else clone(plain)
        part = plan.training[k]
        rows, own = part.rows, part.weights(weight)
        if len(rows) == 1:
            # fit wants two rows; two halves of one are merged again.
            rows, own = np.repeat(rows, 2), np.repeat(own / 2, 2)
        with many_fits():
            fitted.append(fold.set_params(**settings).fit(X[rows], y[rows], sample_weight=own))
    return fitted


def _few_enough(scorers: list[Any], held_out: list[Part], rng: np.random.Generator) -> list[Part]:
    """Held-out rows, or some of them where the logits of all are too many."""
    n_held_out = sum(len(part) for part in held_out)
    a_row = max(model._state.posterior.n_draws * model._state.output.head.n_raw for model in scorers)
    share = min(1.0, MOST_LOGITS / (a_row * n_held_out))
    return [part.some(max(1, round(share * len(part))), rng) for part in held_out]
