#!/usr/bin/env bash
# PyTorch 2.13.0: StudentT.log_prob in float32 with many degrees of freedom.
#
# Expected: with a million degrees of freedom Student's t is a normal distribution: log density −1.0439 at 0.5.
# Seen: −1.125 (two log-gamma values near 6e6 are subtracted in float32, whose spacing there is 0.5).
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 torch==2.13.0
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import torch
from scipy import stats

print("torch", torch.__version__)
for df in (1e2, 1e4, 1e6):
    found = torch.distributions.StudentT(torch.tensor(df)).log_prob(torch.tensor(0.5)).item()
    print(f"df {df:g}: found {found:.4f}, expected {stats.t(df).logpdf(0.5):.4f}")
raise SystemExit(0 if abs(found - stats.t(1e6).logpdf(0.5)) > 0.03 else 1)
PY
