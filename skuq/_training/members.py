"""Who trains on which rows: members, siblings, held-out folds, and when the held-out rows say to stop.

A network that sees all rows cannot tell when it starts to fit their noise. So either each network holds rows out, or
siblings do in its place: they train beside it, each without another fold, and the network itself, trained on all rows,
keeps the weights of the moment at which the siblings predict their held-out rows best, unless it has itself gone astray.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._data.folds import Part, divide
from .._data.rows import DENSE_NUMBERS, SparseRows
from .._model.heads import link_parameters
from .._model.network import Network
from .._model.threads import Scratch, single_blas_thread
from .loop import Rows, Score

# More held-out rows than this do not make a score noticeably sharper.
MAX_HELD_OUT = 4000
# Held-out rows are kept dense up to this many numbers, 64 MB.
MAX_KEPT = 2**24
# A network that siblings speak for has gone astray where it fits training rows this much worse than the worst of them, in nats
# a target; so many rows tell.
ASTRAY, N_COMPARED = 1.0, 32


@dataclass
class Members:
    """Networks trained side by side.

    Attributes
    ----------
    count : int
        Networks in all, siblings included.
    kept : ndarray of int
        Those that make up the fitted estimator.
    training : list of Part
        Rows each trains on.
    held_out : list of Part
        Rows each is scored on; empty for a network that trains on all rows.
    """

    count: int
    kept: np.ndarray
    training: list[Part]
    held_out: list[Part]

    @property
    def holds_out(self) -> bool:
        """Whether any network is scored on rows it does not see."""
        return any(len(part) for part in self.held_out)

    @property
    def scored(self) -> np.ndarray:
        """Networks that hold rows out."""
        return np.flatnonzero([len(part) for part in self.held_out])

    def group(self, which: np.ndarray) -> "Members":
        """Some of the members by themselves, none of them a sibling."""
        training, held_out = ([own[m] for m in which] for own in (self.training, self.held_out))
        return Members(len(which), np.arange(len(which)), training, held_out)

    def scorer(
        self,
        rows: Rows,
        network: Network,
        target: Any,
        weights_of: Callable[[np.ndarray], np.ndarray],
        features: dict[str, np.ndarray],
    ) -> Score:
        """Held-out score of trained parameters: (n_members, n_parameters) → (n_members,), in nats, lower is better.

        A learned noise is rescaled to the held-out rows before it is scored: early in training the mean is worth
        keeping long before the noise is right. Where siblings hold rows out for another network, the mean of their scores
        is everyone's: all keep their weights of the same moment, which is never one at which that network has gone
        astray by itself. Siblings cannot tell, but how all of them fit the same training rows does.
        """
        held_out = [self.held_out[m] for m in self.scored]
        scoring = HeldOut(self.scored, held_out, rows, network, target, features)
        if len(self.scored) == self.count:
            return lambda parameters: scoring(weights_of(parameters))
        spoken_for = np.setdiff1d(np.arange(self.count), self.scored)
        n_rows = len(rows.weight)
        compared = Part(np.arange(0, n_rows, -(-n_rows // N_COMPARED)))
        fitting = HeldOut(np.arange(self.count), [compared] * self.count, rows, network, target, features)
        leeway = ASTRAY * network.head.n_outputs

        def score(parameters: np.ndarray) -> np.ndarray:
            weights = weights_of(parameters)
            fit = fitting(weights)
            siblings = fit[self.scored]
            # Losses of counts far from Poisson are large numbers; there, as far as siblings differ among themselves.
            if np.any(fit[spoken_for] > siblings.max() + max(leeway, np.ptp(siblings))):
                return np.full(self.count, np.inf)
            own = scoring(weights)
            # A sibling that diverged must not keep the others from being heard.
            finite = own[np.isfinite(own)]
            return np.full(self.count, finite.mean() if len(finite) else np.inf)

        return score


def plan_members(
    n_networks: int,
    early_stopping: bool | str,
    validation_fraction: float,
    rows: Rows,
    strata: np.ndarray | None,
    rng: np.random.Generator,
    n_siblings: int,
) -> Members:
    """Divide the rows among `n_networks` networks.

    Parameters
    ----------
    n_networks : int
    early_stopping : {False, True, "cross_fit"}
    validation_fraction : float
    rows : Rows
    strata : ndarray or None
    rng : Generator
    n_siblings : int
        Siblings that "cross_fit" adds; 0 has each network hold out a fold of its own.
    """
    everything = Part(np.arange(len(rows.weight)))
    nothing = Part(everything.rows[:0])
    n_folds = min(max(2, round(1 / validation_fraction)), int(rows.copies.sum(dtype=float)) // 2)
    if not early_stopping or n_folds < 2:
        return Members(n_networks, np.arange(n_networks), [everything] * n_networks, [nothing] * n_networks)
    folds = divide(rows.weight, rows.copies, n_folds, strata, rng)
    cross = early_stopping == "cross_fit" and n_siblings > 0
    holders = min(n_siblings, n_folds) if cross else n_networks
    training, held_out = [], []
    for m in range(holders):
        training.append(folds.training(m % n_folds))
        held_out.append(folds.held_out(m % n_folds).some(MAX_HELD_OUT, rng))
    if cross:
        training += [everything] * n_networks
        held_out += [nothing] * n_networks
        return Members(holders + n_networks, np.arange(holders, holders + n_networks), training, held_out)
    return Members(n_networks, np.arange(n_networks), training, held_out)


class HeldOut:
    """Rows that some networks are scored on, side by side, padded with rows of weight 0.

    Parameters
    ----------
    scored : ndarray of int
        Networks.
    parts : list of Part
        Rows of each one.
    rows, network, target, features
        As :meth:`Members.scorer` has them.
    """

    def __init__(
        self,
        scored: np.ndarray,
        parts: list[Part],
        rows: Rows,
        network: Network,
        target: Any,
        features: dict[str, np.ndarray],
    ) -> None:
        self.network, self.target, self.features = network, target, features
        self.scored = scored
        size = max(len(part) for part in parts)
        index = np.zeros((len(scored), size), int)
        self.weight = np.zeros((len(scored), size))
        for k, part in enumerate(parts):
            index[k, : len(part)] = part.rows
            self.weight[k, : len(part)] = part.weights(rows.weight)
        self.rows, self.index = rows, index
        # Encoded once where the encoding is not learned, as it takes longer than all that follows; but wide sparse rows
        # would not fit in memory.
        fits = not isinstance(rows.X, SparseRows) or index.size * network.n_inputs <= MAX_KEPT
        self.X = self._inputs(index) if fits else None
        self.y = rows.y[index].astype(float)
        self.scratch = Scratch()

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Scores of these networks, in their order, from the weights of all, (n_members, n_weights)."""
        views = self.network.views(weights[self.scored])
        # A network on the verge of diverging may overflow here; its score is then not finite and loses.
        with np.errstate(over="ignore", invalid="ignore"), single_blas_thread():
            raw = self._raw(views)
            constants = self.network.constants(weights[self.scored]).astype(float)
            parameters = link_parameters(self.target.head, raw, constants, self.target.fixed)
            loss = self._loss(*self.target.head.of_rows(parameters, self.y))
        return np.where(np.isfinite(loss), loss, np.inf)

    def _inputs(self, index: np.ndarray) -> np.ndarray:
        X = self.rows.dense(index.ravel()).reshape(*index.shape, -1)
        return self.network.inputs(X, {}, self.features) if self.network.encodes_alike else X

    def _raw(self, views: dict[str, np.ndarray]) -> np.ndarray:
        """Raw outputs of these networks at their rows, (n_scored, n_rows, n_raw), float64."""

        def raw(X: np.ndarray) -> np.ndarray:
            return self.network.raw_outputs(views, X, fixed=self.features, scratch=self.scratch).astype(float)

        if self.X is not None:
            return raw(self.X)
        step = max(1, DENSE_NUMBERS // (len(self.index) * self.network.n_inputs))
        starts = range(0, self.index.shape[1], step)
        return np.concatenate([raw(self._inputs(self.index[:, i : i + step])) for i in starts], axis=1)

    def _loss(self, parameters: dict[str, np.ndarray], y: np.ndarray) -> np.ndarray:
        head, weight = self.target.head, self.weight
        # A fold may hold nothing but rows of a class of weight 0.
        total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
        if self.target.likelihood is None:
            logits = parameters["logits"]
            if head.family == "bernoulli":
                nll = np.logaddexp(0, np.where(y > 0, -logits, logits))[..., 0]
            else:
                shifted = logits - logits.max(axis=-1, keepdims=True)
                nll = np.log(np.exp(shifted).sum(axis=-1)) - (shifted * y).sum(axis=-1)
            return (weight * nll).sum(axis=1) / total
        standardised = self.target.likelihood.on_training_scale()
        if not standardised.learns_scale:
            nll = -standardised.logpdf(y, parameters).sum(axis=-1)
            return (weight * nll).sum(axis=1) / total
        own = standardised.best_scale(y, parameters, weight[..., None], axis=1)
        rescaled = {**parameters, "scale": parameters["scale"] * own}
        nll = -standardised.logpdf(y, rescaled).sum(axis=-1)
        return (weight * nll).sum(axis=1) / total
