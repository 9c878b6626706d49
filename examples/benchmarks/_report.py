"""Medians and ratios of the repetitions, the machine they ran on, and the tables."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from math import hypot
from pathlib import Path
from statistics import median, stdev
from time import perf_counter

import numpy as np
from _rows import BACKENDS, ROWS, Row

PACKAGES = (
    *("skuq", "numpy", "scipy", "scikit-learn", "tensorflow", "tf_keras", "tensorflow-probability"),
    *("tf-models-official", "torch", "blitz-bayesian-pytorch"),
)
# A median test NLL (AUROC) no further than this above (below) the hand-written median, or than two standard errors of the
# difference over seeds, counts as no worse.
TOLERANCE = 0.01
# Peak memory of a fit on many rows: the float32 data three times and this many MB.
ALLOWED_COPIES, ALLOWED_MB = 3, 600


def machine() -> dict:
    """Processor, measured matrix speed, load, versions."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line for line in cpuinfo.read_text().splitlines() if "model name" in line] if cpuinfo.exists() else []
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    return {
        "processor": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "matrix_gflops": matrix_gflops(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": commit.stdout.strip(),
        "gpu": _gpu(),
    }


def _gpu() -> str:
    """Name of the GPU, "" without one."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def matrix_gflops(size=2048, tries=5) -> float:
    """Best speed of a float32 matrix product, 2·size³ operations, in 10⁹ a second."""
    a = np.ones((size, size), np.float32)
    seconds = []
    for _ in range(tries):
        started = perf_counter()
        a @ a
        seconds.append(perf_counter() - started)
    return 2e-9 * size**3 / min(seconds)


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def summarize(row: Row, repetitions: list[dict]) -> dict:
    """Medians of each side, and of each backend the ratios to the hand-written side."""
    runs = [r["sides"] for r in repetitions]
    sides = {name: _medians([run[name] for run in runs if "error" not in run[name]]) for name in runs[0]}
    sides = {name: side for name, side in sides.items() if side}
    hand = sides.get("hand")
    for backend in set(sides) - {"hand"}:
        side = sides[backend]
        if hand:
            side |= {f"ratio_{kind}": hand[f"{kind}_s"] / side[f"{kind}_s"] for kind in ("warm", "cold", "process")}
            side["no_worse"] = no_worse(hand, side)
        if row.asked:
            side["asked"] = row.asked[BACKENDS.index(backend)]
    return sides


def _medians(runs: list[dict]) -> dict | None:
    if not runs:
        return None
    warm = [w for run in runs for w in run["warm"]]
    cold = median(run["cold"]["s"] for run in runs)
    judged = [r["quality"] for run in runs for r in (run["cold"], *run["warm"]) if "quality" in r]
    qualities = {key: [quality[key] for quality in judged] for key in judged[0]}
    side = {
        "n_cold": len(runs),
        "n_warm": len(warm),
        "warm_s": median(w["s"] for w in warm),
        "import_s": median(run["import_s"] for run in runs),
        "cold_s": cold,
        "process_s": median(run["import_s"] + run["cold"]["s"] for run in runs),
        "over_mb": median(run["cold"]["over_mb"] for run in runs),
        "peak_mb": max(w["peak_mb"] for run in runs for w in (run["cold"], *run["warm"])),
        "shape": runs[0]["shape"],
        "quality": {key: median(values) for key, values in qualities.items()},
        "qualities": qualities,
    }
    return side | {"compile_s": max(0.0, cold - side["warm_s"])}


def no_worse(hand: dict, side: dict) -> bool:
    """Whether no measure of quality is worse than the hand-written side's by more than its seeds leave open."""
    for key, value in side["quality"].items():
        sign = 1 if key == "nll" else -1  # lower is better, or higher
        worse = sign * (value - hand["quality"][key])
        if worse > max(TOLERANCE, 2 * hypot(*(_standard_error(s["qualities"][key]) for s in (hand, side)))):
            return False
    return True


def _standard_error(values):
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0


def text(result: dict) -> str:
    """All tables."""
    summaries = {name: row["summary"] for name, row in result["rows"].items()}
    m = result["machine"]
    head = (
        f"{m['processor']}, {m['cores']} cores, {m['matrix_gflops']:.0f} GFLOP/s matrix peak (float32), load "
        f"{m['load'][0]:.1f}; device {result['settings']['device']}; commit {m['commit']}"
    )
    if result["settings"]["device"] == "cuda":
        head += f"; {m.get('gpu') or 'unknown GPU'}"
    if result["settings"]["quick"]:
        head += "\nA smoke run: few epochs and rows. Its ratios mean nothing."
    parts = [head, _ratios(summaries), _cold(summaries), _scale(summaries, result["settings"]["quick"])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _pairs(summaries):
    for name, sides in summaries.items():
        for backend in BACKENDS:
            if "hand" in sides and backend in sides:
                yield name, backend, sides["hand"], sides[backend]


def _ratios(summaries) -> str:
    lines = []
    for name, backend, hand, side in _pairs(summaries):
        compared = ROWS[name].compared
        met = side[f"ratio_{compared}"] >= side["asked"]
        nll, auroc = (
            [f"{s['quality'][key]:.3f}" if key in s["quality"] else "" for s in (hand, side)] for key in _KEYS
        )
        lines.append(
            [
                *(name, backend, _seconds(hand["warm_s"]), _seconds(side["warm_s"])),
                *(f"{side['ratio_warm']:.3g}", f"{side['ratio_cold']:.3g}"),
                f"≥ {side['asked']:g}" + (" cold" if compared == "cold" else ""),
                *("yes" if met else "no", *nll, *auroc, "yes" if side["no_worse"] else "no"),
            ]
        )
    header = "row|backend|hand s|skuq s|× warm|× cold|asked|met|NLL hand|NLL skuq|AUROC hand|AUROC skuq|no worse"
    return table("Hand-written time over skuq's", header, lines)


_KEYS = ("nll", "auroc")


def _cold(summaries) -> str:
    lines = []
    for name, backend, hand, side in _pairs(summaries):
        seconds = [_seconds(s[key]) for key in ("import_s", "compile_s", "cold_s", "process_s") for s in (hand, side)]
        memory = [f"{s['over_mb']:.0f}" for s in (hand, side)]
        lines.append([name, backend, *seconds, f"{side['ratio_process']:.3g}", *memory])
    header = (
        "row|backend|import hand|import skuq|compile hand|compile skuq|cold hand|cold skuq|with import hand"
        "|with import skuq|× with import|MB hand|MB skuq"
    )
    title = (
        "A fresh process: seconds of imports, of compilation (first run less warm run), of the first run (cold), and of\n"
        "both; memory of the first run over what the process held before"
    )
    return table(title, header, lines)


def _scale(summaries, quick) -> str:
    lines, smallest = [], {}
    for name, sides in summaries.items():
        for backend in BACKENDS:
            if "hand" in sides or backend not in sides:
                continue
            side, row = sides[backend], ROWS[name]
            fitted = row.timed == "fit" and not row.hand
            n_rows, n_features = side["shape"]
            per_row = side["warm_s"] / (n_rows * (row.quick_epochs if quick else row.epochs))
            if fitted:
                smallest.setdefault(backend, per_row)
            lines.append(
                [
                    *(name, backend, f"{n_rows:,}" if fitted else "", _seconds(side["warm_s"])),
                    *((f"{1e6 * per_row:.3g}", f"{per_row / smallest[backend]:.2f}") if fitted else ("", "")),
                    *(f"{side['over_mb']:.0f}", f"{side['peak_mb']:.0f}"),
                    f"{ALLOWED_COPIES * 4e-6 * n_rows * n_features + ALLOWED_MB:.0f}" if fitted else "",
                    " ".join(f"{key} {value:.3f}" for key, value in side["quality"].items()),
                ]
            )
    header = "row|backend|rows|skuq s|µs a row and epoch|× smallest|MB over|MB in all|MB allowed|quality"
    return table("skuq alone: growing tables, and rows whose hand-written side did not run", header, lines)


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def table(title: str, header: str, lines: list[list[str]]) -> str:
    """Aligned columns under a title, text to the left and figures to the right; "" without lines."""
    if not lines:
        return ""
    cells = [header.split("|"), *lines]
    widths = [max(len(line[j]) for line in cells) for j in range(len(cells[0]))]
    text = [
        "  ".join(
            c.ljust(w) if j < 2 else c.rjust(w) for j, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    return "\n".join([title, text[0], "-" * max(map(len, text)), *text[1:]])
