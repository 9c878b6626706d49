#!/usr/bin/env bash
# crepes 0.9.1: at 90 % confidence the rank of the calibration score is rounded down, so intervals are a rank too wide.
#
# Expected: with n scores the half width is the k-th largest one, k = floor((1 - c)(n + 1)): the largest for n = 9 and
# c = 0.9, the 10th largest for n = 99. MAPIE 1.6.0 uses that rank from n = 10 on.
# Seen: int((1 - confidence) * (n + 1)) in floats: 1 - 0.9 is 0.09999999999999998, so k is one too small whenever
# (n + 1) is a multiple of ten: for n = 9 the interval is infinite, with a warning that there are too few examples.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scikit-learn==1.6.1 crepes==0.9.1
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import warnings
from fractions import Fraction
from math import floor

import crepes
import numpy as np
from crepes import ConformalRegressor

print("crepes", crepes.__version__)
wrong = 0
for confidence, n in [("0.9", 9), ("0.9", 19), ("0.9", 99), ("0.8", 9), ("0.8", 99), ("0.95", 99)]:
    residuals = np.arange(1.0, n + 1)  # the k-th largest is n + 1 - k
    rank = floor((1 - Fraction(confidence)) * (n + 1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        interval = ConformalRegressor().fit(residuals).predict_int(np.array([0.0]), confidence=float(confidence))[0]
    seen = interval[1]
    wrong += seen != n + 1 - rank
    print(f"confidence {confidence}, n {n}: expected half width {n + 1 - rank}, seen {seen}, warnings {len(caught)}")
print("widths that are not the expected ones:", wrong)
raise SystemExit(0 if wrong else 1)
PY
