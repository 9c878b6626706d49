#!/usr/bin/env bash
# scipy 1.17.1: tails and quantiles of Poisson distributions with large means.
#
# Expected: the Poisson distribution of a large mean is close to a normal one of the same mean and variance: 4.75 standard
# deviations above a mean of 1e9 lies a probability of 1.0e-6, and the median of a mean of 1e12 is 1e12.
# Seen: special.pdtrc, and with it stats.poisson.sf, gives about a quarter of that probability; stats.poisson.ppf gives NaN for a
# mean of 1e12, without a warning.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import math

import numpy as np
import scipy
from scipy import special, stats

print("scipy", scipy.__version__)
mean, z = 1e9, 4.7535
found = special.pdtrc(mean + z * math.sqrt(mean), mean)
expected = special.ndtr(-z)
print(f"P(Y > mean + {z} sd) of a Poisson mean of 1e9: found {found:.3e}, a normal one's {expected:.3e}")
with np.errstate(all="ignore"):
    median = stats.poisson(1e12).ppf(0.5)
print("median of a Poisson mean of 1e12:", median)
raise SystemExit(0 if found < 0.5 * expected and np.isnan(median) else 1)
PY
