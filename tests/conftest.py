"""Threads of a parallel run, and what runs without a backend; the table of estimators stands in ``_table.py``."""

import os
import re
from importlib import metadata

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers on two cores: more threads than that make tiny products several times slower.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Each function that XLA compiles takes about 120 memory maps in TensorFlow 2.20, for it is compiled in parts, side by side,
# and is kept for a while. Linux allows a process 65,530 maps, of which a native model takes some too: in one part it takes 40.
ONE_PART = "--xla_cpu_parallel_codegen_split_count=1"
try:
    known = metadata.version("tensorflow").startswith("2.20.")  # XLA ends a process for a flag that it does not know
except metadata.PackageNotFoundError:
    known = False
if known:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {ONE_PART}".strip()

# Files from this one on train with TensorFlow in a group of their own: its tests take longest, and two processes share them.
SECOND_GROUP = "test_n"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Let two processes share the tests that train with TensorFlow."""
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        if mark is not None and mark.args == ("tensorflow",) and item.path.name >= SECOND_GROUP:
            item.add_marker(pytest.mark.xdist_group("tensorflow-2"), append=False)


# What training says where no backend is installed.
NO_BACKEND = re.compile(r"No backend is installed|backend='\w+' needs .*, which is not installed")


def skip_what_trains(item):
    """Run a test; skip it if it wants to train and no backend is installed."""
    try:
        return (yield)
    except ImportError as error:
        from skuq import backends  # when used: the environment above is set first

        if backends.available() or not NO_BACKEND.match(str(error)):
            raise
        pytest.skip(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    return (yield from skip_what_trains(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    return (yield from skip_what_trains(item))
