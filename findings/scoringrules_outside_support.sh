#!/usr/bin/env bash
# scoringrules 0.10.0: the CRPS of a beta, log-normal, log-logistic or log-Laplace forecast is nan for an outcome outside
# its support, that of a gamma or exponential forecast is a number.
#
# Expected: the CRPS, the integral of (F(x) - 1{x >= y})^2, is finite for every real outcome; for a log-normal forecast
# and y = -1 it is the CRPS at 0 and 1 more. That an outcome is impossible under the forecast is what a score is to tell.
# Seen: nan for these four, without an error; the documentation names no such limit. One outcome of zero, or a little
# under it, makes a mean score nan, or drops the forecast's worst cases where nan is left out.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scoringrules==0.10.0
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import scoringrules as sr
from scipy import integrate, stats

print("scoringrules", sr.__version__)
y = -1.0
cases = {
    "beta(2, 3)": (sr.crps_beta(y, 2.0, 3.0), stats.beta(2, 3)),
    "log-normal(0, 0.4)": (sr.crps_lognormal(y, 0.0, 0.4), stats.lognorm(0.4)),
    "log-logistic(0, 0.2)": (sr.crps_loglogistic(y, 0.0, 0.2), stats.fisk(5.0)),
    "log-Laplace(0, 0.2)": (sr.crps_loglaplace(y, 0.0, 0.2), stats.loglaplace(5.0)),
    "gamma(2, rate 3)": (sr.crps_gamma(y, 2.0, 3.0), stats.gamma(2, scale=1 / 3)),
    "exponential(rate 2)": (sr.crps_exponential(y, 2.0), stats.expon(scale=0.5)),
}
seen = {}
for name, (score, distribution) in cases.items():
    seen[name] = float(score)
    above = integrate.quad(lambda t, d=distribution: d.sf(t) ** 2, 0, 1)[0]
    above += integrate.quad(lambda t, d=distribution: d.sf(t) ** 2, 1, np.inf)[0]
    print(f"{name}, outcome {y}: expected {0 - y + above:.4f} (by integration), seen {seen[name]:.4f}")
missing = [name for name, score in seen.items() if np.isnan(score)]
print("nan for", missing)
raise SystemExit(0 if len(missing) == 4 else 1)
PY
