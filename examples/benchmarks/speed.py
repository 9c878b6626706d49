"""Time skuq beside the same work written by hand.

Every row runs the work as people write it by hand and the same work with skuq, on each backend, in turn: each side in a
process of its own, fresh in every repetition (its first run is cold, what follows is warm). Prints a table and writes
``speed.txt`` and ``speed.json``, with all repetitions, to the output folder.

    python examples/benchmarks/speed.py --quick
    python examples/benchmarks/speed.py --rows sngp-fit pbnn-draws --backend blitz --repeats 5
"""

import argparse
import json
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from time import perf_counter, sleep

import _report
from _rows import BACKENDS, ROWS, Row

from skuq import backends

HERE = Path(__file__).parent
# Warm runs of a side in one repetition, by the seconds of the longest cold run: short ones vary most from run to run.
WARM_RUNS = {2: 6, 60: 2, float("inf"): 1}
# Seconds before each run: the threads of the side that ran before still spin for a while.
PAUSE = 0.05


class SideFailed(Exception):
    """A side's process ended before it answered."""


class Side:
    """A process that runs one side of a row whenever it is told to."""

    def __init__(self, name: str, row: str, args, seed: int):
        backend = None if name == "hand" else name
        spec = ROWS[row]
        run = {
            "epochs": spec.quick_epochs if args.quick else spec.epochs,
            "seed": seed,
            "backend": backend,
            "device": args.device,
            "quick": args.quick,
        }
        function = spec.hand if backend is None else spec.skuq
        job = {"row": row, "function": function, "run": run, "data": str(args.data)}
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        if args.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = "-1"
        self.log = args.output / "log" / f"{row}-{name}.txt"
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "_worker.py"), json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            env=environment,
            text=True,
        )

    def answer(self) -> dict:
        """Wait for the process's next line."""
        line = self.process.stdout.readline()
        if not line:
            last = self.log.read_text().strip().splitlines()[-1:] or ["no message"]
            raise SideFailed(f"{self.log}: {last[0]}")
        return json.loads(line)

    def run(self) -> dict:
        """Run once; the figures of the run."""
        sleep(PAUSE)
        with suppress(BrokenPipeError):  # a process that has ended says why in its log
            print("run", file=self.process.stdin, flush=True)
        return self.answer()

    def close(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        self.process.communicate()


def repetition(row: str, names: list[str], args, seed: int) -> dict:
    """One repetition of a row: a fresh process a side, one cold run each, then warm runs in turn."""
    figures = {}
    with ExitStack() as stack:
        sides = {}
        for name in names:  # one after the other: an import is part of what is measured
            side = Side(name, row, args, seed)
            stack.callback(side.close)
            try:
                figures[name] = {**side.answer(), "warm": []}
                sides[name] = side
            except SideFailed as error:
                figures[name] = {"error": str(error)}
        turn, n_warm = 0, 0
        while turn <= n_warm:
            for name, side in list(sides.items()):
                try:
                    run = side.run()
                except SideFailed as error:
                    figures[name] = {"error": str(error)}
                    del sides[name]
                    continue
                if turn:
                    figures[name]["warm"].append(run)
                else:
                    figures[name]["cold"] = run
            if turn == 0:
                longest = max((figures[name]["cold"]["s"] for name in sides), default=0.0)
                n_warm = 1 if args.quick else next(n for limit, n in WARM_RUNS.items() if longest <= limit)
            turn += 1
    return figures


def run_row(name: str, row: Row, args) -> list[dict]:
    """Repeat a row, but start no further repetition once it has taken `args.seconds`."""
    names = (["hand"] if row.hand else []) + args.backends
    started, repetitions = perf_counter(), []
    for seed in range(args.repeats):
        if seed and perf_counter() - started > args.seconds:
            break
        load = os.getloadavg()[0]
        repetitions.append({"load": load, "sides": repetition(name, names, args, seed)})
    return repetitions


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time skuq beside the same work written by hand.")
    add = parser.add_argument
    add("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="NAME", help=f"of {', '.join(ROWS)}")
    add("--backend", choices=["all", *BACKENDS], default="all", help="default: all that are installed")
    add("--repeats", type=int, default=3, help="repetitions of a row, each in fresh processes (default 3)")
    add("--seconds", type=float, default=300, help="start no repetition of a row after this long (default 300)")
    add(
        "--quick",
        action="store_true",
        help="a smoke run: few epochs, few rows, one repetition; its ratios mean nothing",
    )
    add("--device", choices=["cpu", "cuda"], default="cpu")
    add("--data", type=Path, default=Path("../shared/data"), help="folder with uci/*.npz (default ../shared/data)")
    add("--output", type=Path, default=Path("bench-output"), help="folder to write to (default bench-output)")
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {args.repeats}.")
    args.backends = list(BACKENDS) if args.backend == "all" else [args.backend]
    missing = [name for name in args.backends if name not in backends.available()]
    if args.backend == "all":
        args.backends = [name for name in args.backends if name not in missing]
    elif missing:
        parser.error(f"backend {missing[0]} is not installed; installed: {backends.available()}.")
    if args.quick:
        args.repeats = 1
    return args


def main() -> int:
    args = arguments()
    (args.output / "log").mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    result = {"settings": settings, "machine": _report.machine(), "rows": {}}
    failed = False
    for name in args.rows:
        row = ROWS[name]
        if row.needs and not (args.data / row.needs).exists():
            print(f"{name}: left out, {args.data / row.needs} is not there. Pass --data FOLDER that holds {row.needs}.")
            continue
        started = perf_counter()
        repetitions = run_row(name, row, args)
        summary = _report.summarize(row, repetitions)
        result["rows"][name] = {"title": row.title, "summary": summary, "repetitions": repetitions}
        (args.output / "speed.json").write_text(json.dumps(result, indent=1))
        errors = {e for r in repetitions for side in r["sides"].values() if (e := side.get("error"))}
        failed |= bool(errors)
        print(f"{name}: {perf_counter() - started:.0f} s", *sorted(errors), sep="\n  ", flush=True)
    text = _report.text(result)
    (args.output / "speed.txt").write_text(text)
    print("\n" + text)
    print(f"Wrote {args.output / 'speed.txt'} and {args.output / 'speed.json'}.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
