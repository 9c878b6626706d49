#!/usr/bin/env bash
# skpro 2.16.0: the variance of a Hurdle distribution is not that of its own probabilities.
#
# Expected: with m and v the mean and variance of the positive part, Var[Y] = p v + p (1 - p) m^2. For p = 0.3 and
# Poisson(2) that is 1.600, as the sum over pmf and the samples give.
# Seen: var() gives 0.958; it adds p (1 - p) m, without the square. The mean, the pmf and the samples are right (the mean
# to a few thousandths), so the standard deviation of every forecast is wrong without a sign: too small where m > 1.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-learn==1.6.1 skpro==2.16.0
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import warnings

import numpy as np
import skpro
from skpro.distributions import Hurdle, NegativeBinomial, Poisson

warnings.simplefilter("ignore")  # about moments that skpro approximates by sampling
print("skpro", skpro.__version__)
np.random.seed(0)
counts = np.arange(200)
wrong = 0
for base in (Poisson(2.0), NegativeBinomial(alpha=1.0, mu=1.0)):
    hurdle = Hurdle(p=0.3, distribution=base)
    pmf = np.array([float(hurdle.pmf(int(count))) for count in counts])
    mean = np.sum(counts * pmf)
    variance = np.sum((counts - mean) ** 2 * pmf)
    seen = float(hurdle.var())
    wrong += abs(seen / variance - 1) > 0.2
    print(f"{base}: probabilities sum to {pmf.sum():.4f}; mean by the pmf {mean:.3f}, seen {float(hurdle.mean()):.3f};")
    sampled = np.var(hurdle.sample(20_000).to_numpy())
    print(f"   variance by the pmf {variance:.3f}, of 20,000 samples {sampled:.3f}, seen {seen:.3f}")
raise SystemExit(0 if wrong == 2 else 1)
PY
