"""``python -m skuq.demo [--backend tensorflow|blitz] [--output demo-output] [--seed 0]``."""

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter

from .. import backends


def main(arguments=None) -> int:
    """Run the demo on the chosen backend, or on all that are installed; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m skuq.demo", description="skuq's five methods on real data.")
    parser.add_argument("--backend", choices=list(backends.BACKENDS), help="default: every installed backend")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder for pictures (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random_state of data splits and fits (default: %(default)s)"
    )
    options = parser.parse_args(arguments)

    # TensorFlow's start-up notices would stand between the tables; set before it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from . import classification, moons, regression

    try:
        chosen = [backends.resolve(options.backend)] if options.backend else backends.available()
        if not chosen:
            backends.resolve("auto")
    except ImportError as error:
        print(error, file=sys.stderr)
        return 1
    started = perf_counter()
    for backend in chosen:
        print(f"==== backend: {backend} ====\n")
        for part in (regression, classification):
            part.run(backend, options.seed)
        moons.run(backend, options.seed, options.output)
    print(f"Done in {perf_counter() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
