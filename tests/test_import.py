"""What ``import skuq`` costs and what it leaves alone."""

import re
import statistics
import subprocess
import sys

import skuq

FRAMEWORKS = ("torch", "tensorflow", "tensorflow_probability", "tf_keras", "keras", "blitz")
# Over ``import sklearn``, in seconds.
BUDGET = 0.3


def run_python(*arguments):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_import_loads_no_framework_and_warns_of_nothing():
    code = f"import sys, skuq; print([name for name in {FRAMEWORKS} if name in sys.modules])"
    done = run_python("-W", "error", "-c", code)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_import_is_cheap():
    # What skuq adds where sklearn is there already; the least of several runs is the one that was disturbed least.
    costs = []
    for _ in range(3):
        trace = run_python("-X", "importtime", "-c", "import sklearn, skuq").stderr
        costs.append(int(re.search(r"\|\s*(\d+) \| skuq$", trace, re.MULTILINE).group(1)) / 1e6)
    assert min(costs) < BUDGET, f"import skuq took {min(costs):.2f} s, median {statistics.median(costs):.2f} s"


def test_public_names_exist():
    assert all(hasattr(skuq, name) for name in skuq.__all__)
    assert len([name for name in skuq.__all__ if name.endswith(("Classifier", "Regressor"))]) == 10
    assert re.match(r"\d+\.\d+", skuq.__version__)
