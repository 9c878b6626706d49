"""What ``calibration="conformal"`` and ``"temperature"`` add to a fit: held-out rows, and what is made of them.

A model that has seen a row says nothing about how it errs on new ones. Up to `CROSS_FITTED_ROWS` rows, further models train
without one fold each and predict it, while the estimator itself trains on all rows. Beyond that the estimator holds rows out
itself, at the price of no further fit. Either way the estimator answers alone, by what the held-out rows said.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from ._folds import assign_folds

N_FOLDS = 5
# A fifth of more rows than this says as much as all of them: the coverage it gives has a standard deviation of 1 %.
CROSS_FITTED_ROWS = 5000
# More held-out rows than this buy nothing, and are lost for training.
MOST_HELD_OUT = 10_000
# Logits (draws × rows × classes) beyond which one temperature does not become sharper, only slower.
MOST_LOGITS = 2**22


@dataclass(frozen=True)
class Calibration:
    """What held-out rows said, as part of the fitted state.

    Attributes
    ----------
    method : {"conformal", "temperature"} or None
    temperature : float
        Divides the logits of every draw.
    conformal : ConformalRegressor, ConformalClassifier or None
        Gives intervals and sets in the model's place.
    seed : int or None
        Of the folds; None if nothing was held out.
    held_out : bool
        Whether the estimator itself held rows out.
    folds : tuple of fitted estimators
        Kept for ``warm_start`` only: each fold's model continues too, so that it is no less trained than the estimator.
    """

    method: str | None = None
    temperature: float = 1.0
    conformal: Any = None
    seed: int | None = None
    held_out: bool = False
    folds: tuple = ()


@dataclass(frozen=True)
class Plan:
    """Who predicts which rows without having seen them.

    Attributes
    ----------
    held_out : list of ndarray
        Rows that each fold holds out.
    cross : bool
        Whether a model of its own trains for each fold; else the estimator holds out the only one.
    n_rows : int
    seed : int
    """

    held_out: list
    cross: bool
    n_rows: int
    seed: int

    def training_rows(self, fold: int) -> np.ndarray:
        """Rows outside a fold."""
        return np.setdiff1d(np.arange(self.n_rows), self.held_out[fold], assume_unique=True)

    @property
    def own_rows(self) -> np.ndarray:
        """Rows that the estimator itself trains on."""
        return np.arange(self.n_rows) if self.cross else self.training_rows(0)


def plan_calibration(n_rows: int, strata, seed: int, before: Calibration | None = None) -> Plan:
    """Divide rows into folds.

    Parameters
    ----------
    n_rows : int
        Different rows of positive weight.
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
    if n_rows < 3:
        raise ValueError(
            f"calibration holds rows out, which takes at least 3 different rows of positive weight, got {n_rows}. {remedy}"
        )
    if before is not None and before.seed is not None:
        seed = before.seed
    cross = n_rows <= CROSS_FITTED_ROWS or (before is not None and not before.held_out)
    n_folds = min(N_FOLDS, n_rows) if cross else max(N_FOLDS, n_rows // MOST_HELD_OUT)
    folds = assign_folds(n_rows, n_folds, strata, np.random.default_rng(seed))
    if strata is not None:
        codes = strata
        count = np.bincount(codes)
        if np.count_nonzero(count > 1) < 2:
            raise ValueError(
                f"calibration holds rows of each class out, which takes at least two classes of two different rows or more, "
                f"got rows a class: {count[count > 0].tolist()}. {remedy}"
            )
        folds[count[codes] == 1] = -1
    held_out = [np.flatnonzero(folds == k) for k in range(n_folds if cross else 1)]
    return Plan([rows for rows in held_out if len(rows)], cross, n_rows, seed)


def calibrate(model, X, y, weight, loss_weight, plan: Plan, before: Calibration | None) -> Calibration:
    """Fit the models of the folds, and calibrate on the rows they have not seen.

    Parameters
    ----------
    model : estimator, fitted to ``plan.own_rows``
    X : {ndarray, CSR matrix} of shape (n_rows, n_features)
    y : ndarray of shape (n_rows,) or (n_rows, n_outputs)
        Targets as ``fit`` takes them.
    weight, loss_weight : ndarray of shape (n_rows,)
        Weight of each row for the user, and in the loss: that times its class's.
    plan : Plan
    before : Calibration or None
        Of the fit that ``warm_start`` continues.

    Returns
    -------
    Calibration
    """
    if plan.cross:
        folds = _fit_folds(model, X, y, weight, plan, before)
        calibrated = list(zip(folds, plan.held_out, strict=True))
    else:
        folds, calibrated = [], [(model, plan.held_out[0])]
    kept: dict[str, Any] = {"method": model.calibration, "seed": plan.seed, "held_out": not plan.cross}
    if model.warm_start:
        kept["folds"] = tuple(folds)
    if model.calibration == "temperature":
        from .calibration._temperature import fit_mixture_temperature

        logits, rows = _held_out_logits(calibrated, X, np.random.default_rng([plan.seed, 1]))
        codes = np.searchsorted(calibrated[0][0].classes_, y[rows])
        return Calibration(temperature=fit_mixture_temperature(logits, codes, loss_weight[rows]), **kept)
    return Calibration(conformal=_conformal(model, X, y, weight, calibrated), **kept)


def _fit_folds(model, X, y, weight, plan, before):
    """One fitted model a fold, without calibration of its own."""
    plain = clone(model).set_params(calibration=None, **model._by_position())
    fitted = []
    for k, seed in enumerate(np.random.SeedSequence(plan.seed).generate_state(len(plan.held_out))):
        settings = clone(plain).set_params(random_state=int(seed)).get_params(deep=False)
        continues = before is not None and len(before.folds) == len(plan.held_out)
        fold = copy(before.folds[k]) if continues else clone(plain)
        rows = plan.training_rows(k)
        fitted.append(fold.set_params(**settings).fit(X[rows], y[rows], sample_weight=weight[rows]))
    return fitted


def _conformal(model, X, y, weight, calibrated):
    # Imported late, for these are built on the estimators.
    from .calibration import ConformalClassifier, ConformalRegressor

    plain = clone(model).set_params(calibration=None)
    if is_classifier(model):
        # The calibrated form of predict_set: the likeliest classes up to one total, never none.
        conformal = ConformalClassifier(plain, conformity_score="aps")
    else:
        conformal = ConformalRegressor(plain, conformity_score="normalized")
    # A copy, so that the fitted state does not hold the estimator that holds it.
    return conformal.calibrate_fitted(calibrated, X, y, weight, answers=copy(model))


def _held_out_logits(calibrated, X, rng):
    """Logits of held-out rows, (n_draws, n_rows, n_logits), and which rows; some of them where all are too many."""
    n_held_out = sum(len(rows) for _, rows in calibrated)
    a_row = max(model._n_draws() * model._state.head.n_raw for model, _ in calibrated)
    share = min(1.0, MOST_LOGITS / (a_row * n_held_out))
    parts, used = [], []
    for model, rows in calibrated:
        if share < 1:
            rows = np.sort(rng.choice(rows, max(1, round(share * len(rows))), replace=False))
        parts += [model._predictive_logits(stretch) for stretch in model._chunks(X[rows])]
        used.append(rows)
    return np.concatenate(parts, axis=1), np.concatenate(used)
