"""Threads of a parallel run; the table of estimators stands in ``_table.py``."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers on two cores: more threads than that make tiny products several times slower.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
