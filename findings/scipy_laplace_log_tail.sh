#!/usr/bin/env bash
# scipy 1.17.1: stats.laplace.logpdf far from its centre.
#
# Expected: the log density of a Laplace distribution is −|x| − log 2, so −800.69 at 800.
# Seen: −inf beyond about 745, where the density itself rounds to zero; the mean log score of a table with one such row is −inf.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import scipy
from scipy import stats

print("scipy", scipy.__version__)
with np.errstate(all="ignore"):
    for x in (700.0, 800.0):
        print(f"x {x:g}: found {stats.laplace.logpdf(x)}, expected {-x - np.log(2):.2f}; normal {stats.norm.logpdf(x):.2f}")
    found = stats.laplace.logpdf(800.0)
raise SystemExit(0 if np.isneginf(found) else 1)
PY
