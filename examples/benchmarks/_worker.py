"""One side of one row in a process of its own: imports, then a run for every line that the benchmark sends.

Started by speed.py with a JSON description; answers with one JSON object a line. What frameworks print goes to the log.
"""

import importlib
import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from _rows import ROWS, Run

MEGABYTE = 2**20
# From the seed of a process's run to that of its next one; repetitions have the seeds between.
TURN = 1000


def memory(key: str) -> float:
    """Resident memory of this process in MB: VmRSS now, or VmHWM, the most since `reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    return float("nan")


def reset_peak() -> None:
    """Let VmHWM count from here (proc(5)); unlike ru_maxrss it then leaves out what came before."""
    Path("/proc/self/clear_refs").write_text("5")


def size(answer) -> float:
    """MB of the arrays in an answer."""
    arrays = answer if isinstance(answer, tuple) else (answer,)
    return sum(a.nbytes for a in arrays if isinstance(a, np.ndarray)) / MEGABYTE


def load(reference: str, backend: str | None):
    """Import a side's function, and the framework that skuq would otherwise import inside the first fit."""
    module, name = reference.split(":")
    function = getattr(importlib.import_module(module), name)
    if backend is not None:
        importlib.import_module("skuq").backends.load(backend)
    return function


def measured(work) -> tuple[object, dict]:
    """Call `work`: its result, seconds, and memory over what was there before."""
    before = memory("VmRSS")
    reset_peak()
    started = perf_counter()
    result = work()
    seconds = perf_counter() - started
    peak = memory("VmHWM")
    return result, {"s": seconds, "peak_mb": peak, "over_mb": peak - before - size(result)}


def main() -> None:
    job = json.loads(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(**message):
        print(json.dumps(message), file=replies, flush=True)

    row, run = ROWS[job["row"]], Run(**job["run"])
    started = perf_counter()
    function = load(job["function"], run.backend)
    import_s = perf_counter() - started
    data = row.data(Path(job["data"]), run.quick)
    fitted = function(data, run) if row.timed == "predict" else None
    reply(import_s=import_s, shape=data.X.shape)
    for turn, _ in enumerate(sys.stdin):
        # A seed of its own for each fit: what one seed says of the quality is mostly chance.
        again = replace(run, seed=run.seed + TURN * turn)
        result, figures = measured(partial(fitted, data.query) if fitted else partial(function, data, again))
        if turn == 0 or not fitted:
            figures["quality"] = row.judge(data, fitted or result)
        reply(**figures)


if __name__ == "__main__":
    main()
