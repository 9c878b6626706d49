"""Networks that train together: all of them in this process, or in groups, each group in a joblib worker.

What is sent to a worker is a :class:`Job`: specs, arrays and generators, no framework object. The worker imports its
framework, trains the group as one batched computation, and sends an :class:`Outcome` back.
"""

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs
from joblib.parallel import get_active_backend

from .. import backends
from .._model.threads import single_blas_thread
from ..backends import Knobs, Program
from .loop import INTERRUPTED, BestMean, Collector, Outcome, Rows, Schedule, Score, train
from .members import Members


@dataclass(frozen=True, kw_only=True)
class Job:
    """Networks to train and all it takes, as plain data.

    Attributes
    ----------
    backend, device : str
    program : Program
    knobs : Knobs
    features : dict of ndarray
        Fixed random features, or empty.
    rows : Rows
    target : Target
    members : Members
    epoch_rows : int
        Rows of the largest training set of all members, in whichever group: it sets the steps of an epoch.
    schedule : Schedule
    start : ndarray of shape (n_members, n_parameters)
        Where training starts.
    rngs : list of Generator, one a member
        For the order of the rows.
    seed : int
        Of what the trainer itself draws: dropout masks and weight samples.
    collector : callable(schedule, starting parameters, held-out score or None)
        Makes what keeps weights along the way; a module's own class or function, for workers are sent it by its name.
    """

    backend: str
    device: str
    program: Program
    knobs: Knobs
    features: dict[str, np.ndarray]
    rows: Rows
    target: Any
    members: Members
    epoch_rows: int
    schedule: Schedule
    start: np.ndarray
    rngs: list[np.random.Generator]
    seed: int
    collector: Callable[[Schedule, np.ndarray, Score | None], Collector] = BestMean

    def group(self, which: np.ndarray, seed: int) -> "Job":
        """Job of some of the members."""
        members, rngs = self.members.group(which), [self.rngs[m] for m in which]
        return replace(self, members=members, start=self.start[which], rngs=rngs, seed=seed)


def train_group(job: Job, progress: Callable[[int, int, float], object] | None = None) -> Outcome:
    """Train all networks of a job as one batched computation in this process."""
    trainer = backends.load(job.backend).Trainer(job.program, job.start, job.features, job.knobs, job.seed, job.device)
    score = None
    if job.members.holds_out:
        score = job.members.scorer(job.rows, job.program.network, job.target, job.program.mean_weights, job.features)
    collector = job.collector(job.schedule, trainer.parameters(), score)
    return train(trainer, job.rows, job.members.training, job.schedule, job.rngs, collector, progress, job.epoch_rows)


def group_members(n_members: int, n_jobs: int | None) -> list[np.ndarray]:
    """Divide members into as many nearly equal groups as there are jobs; None is one group.

    A positive `n_jobs` is taken at its word, so that the numbers do not depend on where the fit runs.
    """
    if n_jobs is None:
        n_groups = 1
    else:
        n_groups = n_jobs if n_jobs > 0 else effective_n_jobs(n_jobs)
    return np.array_split(np.arange(n_members), min(n_groups, n_members))


def train_in_groups(job: Job, groups: list[np.ndarray], verbose: bool = False) -> Outcome:
    """Train groups of networks in joblib workers and put the results together.

    Inside another parallel call the groups train one after the other: that call has the cores already.

    Parameters
    ----------
    job : Job
    groups : list of ndarray
        Indices of each group's members, in order.
    verbose : bool
        Whether joblib says which groups are done.
    """
    seeds = np.random.SeedSequence(job.seed).generate_state(len(groups))
    jobs = [job.group(which, int(seed)) for which, seed in zip(groups, seeds, strict=True)]
    nested = (get_active_backend()[0].nesting_level or 0) > 0
    parallel = Parallel(n_jobs=1 if nested else len(jobs), verbose=10 if verbose else 0)
    # Groups in threads of this process share its cores; workers of other processes have limits of their own.
    with single_blas_thread(), _interruption_as_file() as stop:
        try:
            outcomes = parallel(delayed(_work)(job, os.getpid(), stop) for job in jobs)
        except Exception as error:
            if os.path.exists(stop):  # Ctrl-C found a worker that was still starting
                raise KeyboardInterrupt from error
            raise
    return join_outcomes(groups, outcomes)


def join_outcomes(groups: list[np.ndarray], outcomes: list[Outcome]) -> Outcome:
    """One outcome for all members, from one of each group.

    A group that stopped earlier stands in the curves with its last value. What only some groups warn of is said of
    their members.
    """
    sizes = [len(which) for which in groups]
    warned: dict[tuple[type[Warning], str], list[np.ndarray]] = {}
    for which, outcome in zip(groups, outcomes, strict=True):
        for warning in outcome.warnings:
            warned.setdefault((type(warning), str(warning)), []).append(which)
    joined: list[Warning] = []
    for (category, text), who in warned.items():
        named = " and ".join(_names(which) for which in who)
        joined.append(category(text if len(who) == len(groups) else f"{named}: {text}"))
    kept = {name: np.concatenate([outcome.kept[name] for outcome in outcomes]) for name in outcomes[0].kept}
    return Outcome(
        np.concatenate([outcome.parameters for outcome in outcomes]),
        max(outcome.n_epochs for outcome in outcomes),
        _mean_curve([outcome.losses for outcome in outcomes], sizes),
        _mean_curve([outcome.held_out_losses for outcome in outcomes], sizes),
        joined,
        kept,
        any(outcome.interrupted for outcome in outcomes),
    )


def _names(which: np.ndarray) -> str:
    return f"Member {which[0]}" if len(which) == 1 else f"Members {which[0]} to {which[-1]}"


def _mean_curve(curves: list[list[float]], sizes: list[int]) -> list[float]:
    """Mean over members, each group's curve going on at its last value; groups without one do not count."""
    given = [(curve, size) for curve, size in zip(curves, sizes, strict=True) if curve]
    if not given:
        return []
    longest = max(len(curve) for curve, _ in given)
    padded = [curve + curve[-1:] * (longest - len(curve)) for curve, _ in given]
    return np.average(padded, axis=0, weights=[size for _, size in given]).tolist()


def _work(job: Job, caller: int, stop: str) -> Outcome:
    """Train a group, in whatever process joblib chose, until the file `stop` exists."""
    if os.getpid() != caller and threading.current_thread() is threading.main_thread():
        # A terminal sends Ctrl-C to workers too. It would kill those that wait or import, and with them the pool; the
        # file reaches all. Not put back: a worker is as idle after its group as before it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch(*_: object) -> None:
        if os.path.exists(stop):
            raise KeyboardInterrupt

    try:
        return train_group(job, watch)
    except KeyboardInterrupt:  # before training began
        return Outcome(np.array(job.start), n_epochs=1, warnings=[UserWarning(INTERRUPTED)], interrupted=True)


@contextmanager
def _interruption_as_file() -> Iterator[str]:
    """Give the name of a file that the first Ctrl-C creates instead of raising KeyboardInterrupt; the second raises.

    joblib answers an exception by throwing all results away, while workers that find the file return their best weights.
    """
    with TemporaryDirectory(prefix="skuq-", ignore_cleanup_errors=True) as folder:
        stop = Path(folder, "stop")
        before = signal.getsignal(signal.SIGINT)
        # Signals come to the main thread alone, and a handler of the user's own keeps its meaning.
        ours = threading.current_thread() is threading.main_thread() and before is signal.default_int_handler
        if not ours:
            yield str(stop)
            return

        def create(*_: object) -> None:
            stop.touch()
            signal.signal(signal.SIGINT, before)

        signal.signal(signal.SIGINT, create)
        try:
            yield str(stop)
        finally:
            signal.signal(signal.SIGINT, before)


def report(outcome: Outcome, stacklevel: int) -> None:
    """Warn of what training met."""
    for warning in outcome.warnings:
        warnings.warn(warning, stacklevel=stacklevel + 1)
