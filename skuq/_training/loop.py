"""The training ladder, once for all backends: batches, held-out scores, the best weights, faults, progress.

A backend runs stretches of steps; everything between the stretches happens here, in NumPy.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._data.folds import Part
from .._data.rows import SparseRows
from ..backends import Trainer

# Pre-gathered batches of one stretch take at most this many bytes.
STRETCH_BYTES = 32 * 2**20
# A stretch lasts about this long, so that Ctrl-C and a progress bar are answered.
STRETCH_SECONDS = 1.0
# Held-out rows are scored at most about this often in a run.
N_EVALUATIONS = 100
# What is scored, and kept, is a running mean of the weights over about this share of a run's evaluations, or this many.
AVERAGED_SHARE, MOST_AVERAGED = 0.13, 13
# A loss this far above its start has diverged. Where the noise is at its floor one bad step may cost 5e5 nats, and the next
# ones make it good.
DIVERGENCE = 1e7
# What Ctrl-C is answered with.
INTERRUPTED = "Training interrupted by user; the best weights so far are kept."


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long to train and how fast.

    Attributes
    ----------
    n_epochs : int
    batch_size : int
    learning_rate_init : float
        The constant rate, or the peak of the one-cycle rate.
    learning_rate : {"constant", "one_cycle"}
        "one_cycle" (Smith & Topin 2018): linear warm-up over a tenth of the steps, then a cosine to zero.
    shuffle : bool
    tol : float
    patience : int
        Epochs without an improvement of `tol` after which training stops.
    watched : float
        Share of the epochs, from the first, after each of which held-out rows are scored; then about every hundredth.
    """

    n_epochs: int
    batch_size: int
    learning_rate_init: float
    learning_rate: str
    shuffle: bool
    tol: float
    patience: int
    watched: float = 0.0

    def rates(self, first: int, count: int, total: int) -> np.ndarray:
        """Learning rates of steps first … first + count − 1 out of `total`, float32."""
        if self.learning_rate == "constant":
            return np.full(count, self.learning_rate_init, np.float32)
        step = np.arange(first, first + count) + 1.0
        warm_up = max(1.0, 0.1 * total)
        cosine = 0.5 * (1 + np.cos(np.pi * np.clip((step - warm_up) / max(total - warm_up, 1.0), 0, 1)))
        return (self.learning_rate_init * np.where(step < warm_up, step / warm_up, cosine)).astype(np.float32)


@dataclass(frozen=True)
class Rows:
    """Standardised training rows.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float32, or SparseRows
    y : ndarray of shape (n_rows, n_targets), float32
    weight : ndarray of shape (n_rows,)
        Of each row in the loss.
    copies : ndarray of int, shape (n_rows,)
        How many rows each stands for (:func:`skuq._data.folds.count_copies`).
    """

    X: np.ndarray | SparseRows
    y: np.ndarray
    weight: np.ndarray
    copies: np.ndarray

    def take(self, index: np.ndarray) -> np.ndarray | SparseRows:
        """Some rows of X, as sparse as they are: what draws take."""
        return self.X.take(index) if isinstance(self.X, SparseRows) else self.X[index]

    def dense(self, index: np.ndarray) -> np.ndarray:
        """Some rows of X, dense."""
        return self.X.dense(index) if isinstance(self.X, SparseRows) else self.X[index]


@dataclass
class Outcome:
    """What training leaves behind.

    Attributes
    ----------
    parameters : ndarray of shape (n_members, n_parameters)
    n_epochs : int
        Epochs run.
    losses : list of float
        Training loss of each epoch, mean over members.
    held_out_losses : list of float
        Held-out score at each evaluation, mean over members that hold rows out.
    warnings : list of Warning
        What the user should hear: a ConvergenceWarning where the loss was not finite or diverged (training then stopped
        at the last good parameters) or where a constant learning rate did not converge within the epochs given; a
        UserWarning on Ctrl-C.
    kept : dict of ndarray, members on the first axis
        What a collector kept besides the parameters.
    interrupted : bool
        Whether Ctrl-C ended training.
    """

    parameters: np.ndarray
    n_epochs: int = 0
    losses: list[float] = field(default_factory=list)
    held_out_losses: list[float] = field(default_factory=list)
    warnings: list[Warning] = field(default_factory=list)
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    interrupted: bool = False


class Batches:
    """Endless stream of shuffled batches for several members, each with its own rows.

    All members take the same number of batches an epoch; a member with fewer rows gets smaller ones, padded with rows
    of weight 0, so each member sees each of its rows once an epoch.

    Parameters
    ----------
    rows : Rows
    parts : list of Part
        Training rows of each member.
    schedule : Schedule
    rngs : list of Generator, one a member
    epoch_rows : int, optional
        Rows by which the batches of an epoch are counted; those of the member that has most, if None.
    """

    def __init__(
        self,
        rows: Rows,
        parts: list[Part],
        schedule: Schedule,
        rngs: list[np.random.Generator],
        epoch_rows: int | None = None,
    ) -> None:
        self.rows, self.parts, self.shuffle, self.rngs = rows, parts, schedule.shuffle, rngs
        most = epoch_rows or max(len(part) for part in parts)
        self.n_steps = -(-most // schedule.batch_size)
        self.width = schedule.batch_size if most >= schedule.batch_size else bucket(most)
        # Slots of each member's batches that hold a row, and the row count of each batch.
        counts = [np.diff(np.linspace(0, len(part), self.n_steps + 1).astype(int)) for part in parts]
        self.slots = [np.arange(self.width) < count[:, None] for count in counts]
        total = [part.weights(rows.weight).sum() for part in parts]
        scale = [len(p) / t / np.maximum(c, 1) for p, t, c in zip(parts, total, counts, strict=True)]
        self.scale = np.stack(scale, axis=1)[:, :, None]
        self.weight = self._weights()
        self.pending = self._epochs()
        self.rest: tuple[np.ndarray, np.ndarray] | None = None

    def _weights(self) -> np.ndarray | None:
        """Weight of each row for each member, (n_members, n_rows), where they differ between members; else None."""
        if all(part.weight is None for part in self.parts):
            return None
        weight = np.zeros((len(self.parts), len(self.rows.weight)))
        for own, part in zip(weight, self.parts, strict=True):
            own[part.rows] = part.weights(self.rows.weight)
        return weight

    @property
    def bytes_per_step(self) -> int:
        """Size of one step's batches."""
        return 4 * len(self.parts) * self.width * (self.rows.X.shape[1] + self.rows.y.shape[1] + 1)

    def _epochs(self) -> Iterator[np.ndarray]:
        while True:
            index = np.full((self.n_steps, len(self.parts), self.width), -1)
            for m, (part, slots, rng) in enumerate(zip(self.parts, self.slots, self.rngs, strict=True)):
                index[:, m][slots] = rng.permutation(part.rows) if self.shuffle else part.rows
            yield index

    def take(self, n_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Next `n_steps` batches: X (n_steps, M, B, d), y (n_steps, M, B, t), weight (n_steps, M, B)."""
        parts, scales, missing = [], [], n_steps
        while missing:
            index, scale = self.rest if self.rest is not None else (next(self.pending), self.scale)
            parts.append(index[:missing])
            scales.append(scale[:missing])
            self.rest = (index[missing:], scale[missing:]) if len(index) > missing else None
            missing -= len(parts[-1])
        index = np.concatenate(parts) if len(parts) > 1 else parts[0]
        scale = np.concatenate(scales) if len(scales) > 1 else scales[0]
        # Scaled first: weights of any size are then near 1, which float32 holds.
        own = self.rows.weight[index] if self.weight is None else np.take_along_axis(self.weight[None], index, axis=2)
        weight = np.where(index >= 0, own, 0) * scale
        return _gather(self.rows.X, index), self.rows.y[index], weight.astype(np.float32)


def _gather(X: np.ndarray | SparseRows, index: np.ndarray) -> np.ndarray:
    if not isinstance(X, SparseRows):
        return np.take(X, index, axis=0)
    return X.dense(index.ravel()).reshape(*index.shape, X.shape[1])


def bucket(size: int) -> int:
    """Smallest power of two ≥ 16 that holds `size`: few shapes, so few compilations."""
    return max(16, 1 << (size - 1).bit_length())


class Collector(Protocol):
    """What is kept of the weights along the way: :func:`train` shows them to it, and asks at the end.

    Attributes
    ----------
    scores : bool
        Whether `collect` returns held-out scores. They then decide when training stops, and not the training loss.
    """

    scores: bool

    def every(self, done: int, total: int) -> int:
        """Epochs between two calls of `collect`, after `done` of `total` steps; 0 for none."""
        ...

    def collect(self, epoch: int, parameters: np.ndarray) -> float | None:
        """Take what it needs of the parameters after so many epochs, and at the end of training.

        Parameters
        ----------
        epoch : int
        parameters : ndarray of shape (n_members, n_parameters)
            Finite, not to be changed, and the collector's to keep.

        Returns
        -------
        float or None
            Held-out score, mean over members.
        """
        ...

    def result(self, last: np.ndarray) -> dict[str, np.ndarray]:
        """What was kept, by name, members on the first axis: ``parameters``, those to go on with, and what else a method needs.

        Parameters
        ----------
        last : ndarray of shape (n_members, n_parameters)
            The last good parameters.
        """
        ...


# Maps parameters (n_members, n_parameters) to each member's held-out score, (n_members,); lower is better.
Score = Callable[[np.ndarray], np.ndarray]


class BestMean:
    """Each member's best running mean of its weights by the held-out score; the last weights where there is no score.

    Means of the parameters over the evaluations (Izmailov et al. 2018) err less than the parameters of any one step.

    Parameters
    ----------
    schedule : Schedule
    start : ndarray of shape (n_members, n_parameters)
        Parameters before training.
    score : callable, optional
    """

    def __init__(self, schedule: Schedule, start: np.ndarray, score: Score | None = None) -> None:
        self.scores = score is not None
        self._score, self._start = score, start
        self._watched, self._coarse = schedule.watched, max(1, schedule.n_epochs // N_EVALUATIONS)
        n_evaluations = schedule.n_epochs * (schedule.watched + (1 - schedule.watched) / self._coarse)
        self._n_averaged = min(AVERAGED_SHARE * n_evaluations, MOST_AVERAGED)
        self._mean = np.zeros_like(start)
        self._n_evaluated = 0
        self._best = start.copy()
        self._best_score = np.full(len(start), np.inf)

    def every(self, done: int, total: int) -> int:
        """Epochs between evaluations: one at first, later about a hundredth of all; 0 without a score."""
        if self._score is None:
            return 0
        return 1 if done < total * self._watched else self._coarse

    def collect(self, epoch: int, parameters: np.ndarray) -> float | None:
        """Score the running mean of the parameters, keep it where it is a member's best; mean score."""
        if self._score is None:
            return None
        self._n_evaluated += 1
        # A plain mean at first, and no mean at all of a run too short to have one.
        self._mean += (parameters - self._mean) / np.float32(max(1, min(self._n_evaluated, self._n_averaged)))
        # What an l1 penalty has set to zero stays zero.
        candidate = np.where(parameters == 0, parameters, self._mean)
        scores = self._score(candidate)
        better = scores < self._best_score
        self._best[better] = candidate[better]
        self._best_score = np.where(better, scores, self._best_score)
        return float(np.mean(scores))

    def result(self, last: np.ndarray) -> dict[str, np.ndarray]:
        """Each member's best parameters; where none has a score those it started from, or else its last ones."""
        scored = np.isfinite(self._best_score)
        if self._score is not None and self._n_evaluated and not scored.all():
            scored |= np.isfinite(self._score(self._start))
        return {"parameters": np.where(scored[:, None], self._best, last)}


def train(
    trainer: Trainer,
    rows: Rows,
    parts: list[Part],
    schedule: Schedule,
    rngs: list[np.random.Generator],
    collector: Collector | None = None,
    progress: Callable[[int, int, float], object] | None = None,
    epoch_rows: int | None = None,
) -> Outcome:
    """Run the schedule and return what the collector kept, by default the last parameters.

    Parameters
    ----------
    trainer : Trainer of a backend, holding the starting parameters
    rows : Rows
    parts : list of Part
        Rows each member trains on.
    schedule : Schedule
    rngs : list of Generator, one a member
        For the order of the rows.
    collector : Collector, optional
    progress : callable(epochs done, epochs in all, loss), optional
        Called after each stretch; a true answer ends training.
    epoch_rows : int, optional
        As :class:`Batches` has it.

    Returns
    -------
    Outcome
        On Ctrl-C and where training fails, with what was kept so far and a warning that says so.
    """
    batches = Batches(rows, parts, schedule, rngs, epoch_rows)
    per_epoch = batches.n_steps
    total = schedule.n_epochs * per_epoch
    longest = max(1, min(STRETCH_BYTES // batches.bytes_per_step, 4096))
    last = _LastGood(trainer)
    if collector is None:
        collector = BestMean(schedule, last.parameters)
    outcome = Outcome(last.parameters)
    step_losses: list[float] = []
    done, length = 0, min(16, longest)
    rule = _StoppingRule(schedule, collector.scores)
    try:
        while done < total:
            # The rule looks at whole epochs, whatever the stretches, whose length is a matter of the machine's speed.
            every = collector.every(done, total) * per_epoch
            next_stop = collected = min(total, (done // every + 1) * every) if every else total
            if not collector.scores:
                next_stop = min(collected, rule.earliest_epoch * per_epoch)
            count = min(length, next_stop - done)
            started = perf_counter()
            losses = trainer.run(*batches.take(count), schedule.rates(done, count, total))
            done += count
            if not last.accept(losses):
                text = (
                    f"Training stopped after {done // per_epoch} epochs: the loss was not finite or grew without bound. "
                    f"The last good weights are kept. Lower learning_rate_init (now {schedule.learning_rate_init:g}), or "
                    f"check y for extreme values."
                )
                outcome.warnings.append(ConvergenceWarning(text))
                break
            step_losses.extend(losses.mean(axis=1))
            # The first stretches measure the speed (the very first one compiles), then each lasts about a second.
            seconds = perf_counter() - started
            length = int(np.clip(count * STRETCH_SECONDS / max(seconds, 1e-6), 1, min(longest, 4 * length)))
            if every and done == collected:
                score = collector.collect(done // per_epoch, last.parameters)
                if score is not None:
                    outcome.held_out_losses.append(score)
            if progress is not None and progress(done // per_epoch, schedule.n_epochs, step_losses[-1]):
                break
            if done == next_stop and rule.stop(done // per_epoch, step_losses, per_epoch, outcome.held_out_losses):
                break
        else:
            outcome.warnings += rule.warnings_at_end()
    except KeyboardInterrupt:
        outcome.interrupted = True
        outcome.warnings.append(UserWarning(INTERRUPTED))
    kept = collector.result(last.parameters)
    outcome.parameters = kept.pop("parameters")
    outcome.kept = kept
    outcome.n_epochs = max(1, done // per_epoch)
    outcome.losses = _epoch_means(step_losses, per_epoch)
    return outcome


def _epoch_means(step_losses: list[float], per_epoch: int) -> list[float]:
    whole = len(step_losses) // per_epoch * per_epoch
    if not whole:
        return [float(np.mean(step_losses))] if step_losses else []
    return np.reshape(step_losses[:whole], (-1, per_epoch)).mean(axis=1).tolist()


class _LastGood:
    """The last parameters whose losses were sound."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.parameters = np.array(trainer.parameters())
        self.first_loss: float | None = None

    def accept(self, losses: np.ndarray) -> bool:
        """Take over the trainer's parameters if its losses are sound, else put the last good ones back."""
        if self.first_loss is None:
            self.first_loss = float(np.abs(losses[0]).max()) if np.isfinite(losses[0]).all() else 0.0
        parameters = self.trainer.parameters()
        sound = np.isfinite(losses).all() and losses.max() < DIVERGENCE * (1 + self.first_loss)
        if not sound or not np.isfinite(parameters).all():
            self.trainer.load(self.parameters)
            return False
        self.parameters = parameters
        return True


class _StoppingRule:
    """Stop when the held-out score, or the training loss at a constant rate, has not improved for a while.

    A one-cycle rate without held-out rows always runs to its end: the loss falls furthest in the last steps.
    """

    def __init__(self, schedule: Schedule, held_out: bool) -> None:
        self.schedule, self.held_out = schedule, held_out
        self.active = held_out or schedule.learning_rate == "constant"
        self.best = np.inf
        self.best_epoch = 0
        self.epochs_seen = 0

    @property
    def earliest_epoch(self) -> int:
        """Epoch before which the rule cannot stop training."""
        return self.best_epoch + self.schedule.patience if self.active else self.schedule.n_epochs

    def stop(self, epoch: int, step_losses: list[float], per_epoch: int, held_out_losses: list[float]) -> bool:
        """Whether to stop after `epoch` epochs."""
        if not self.active or epoch == self.epochs_seen:
            return False
        if self.held_out:
            if not held_out_losses:
                return False
            self._see(epoch, held_out_losses[-1])
        else:
            for e in range(self.epochs_seen, epoch):
                self._see(e + 1, float(np.mean(step_losses[e * per_epoch : (e + 1) * per_epoch])))
        self.epochs_seen = epoch
        return epoch - self.best_epoch >= self.schedule.patience

    def _see(self, epoch: int, loss: float) -> None:
        if loss < self.best - self.schedule.tol:
            self.best, self.best_epoch = loss, epoch

    def warnings_at_end(self) -> list[Warning]:
        """Warn as scikit-learn's networks do when a constant rate used up its epochs."""
        if not self.active or self.held_out or self.schedule.patience > self.schedule.n_epochs:
            return []
        text = (
            f"Training reached max_iter={self.schedule.n_epochs} epochs and the loss had not yet settled. Raise "
            f"max_iter, or use learning_rate='one_cycle', which ends by itself."
        )
        return [ConvergenceWarning(text)]
