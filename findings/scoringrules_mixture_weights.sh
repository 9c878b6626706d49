#!/usr/bin/env bash
# scoringrules 0.10.0: weights of a mixture of normals are not brought to sum one, unlike those of an ensemble.
#
# Expected: weights 1 and 3 mean what 0.25 and 0.75 mean, as in crps_ensemble, which normalises ens_w (and says so), or
# an error. The documentation asks for non-negative weights only.
# Seen: crps_mixnorm and logs_mixnorm use them as they are: the CRPS, which cannot be negative, is -7.6, and the log
# score is too good by log(4), without an error or a warning. Sample weights or counts as weights so win any comparison.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scoringrules==0.10.0
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import scoringrules as sr

print("scoringrules", sr.__version__)
means, scales = np.array([0.0, 2.0]), np.array([1.0, 1.0])
counts = np.array([1.0, 3.0])
shares = counts / counts.sum()
seen = {}
for name, score in (("crps_mixnorm", sr.crps_mixnorm), ("logs_mixnorm", sr.logs_mixnorm)):
    seen[name] = float(score(1.3, means, scales, counts)), float(score(1.3, means, scales, shares))
    print(f"{name}: weights (1, 3) {seen[name][0]:.4f}, weights (0.25, 0.75) {seen[name][1]:.4f}")
ensemble = [float(sr.crps_ensemble(np.array([1.3]), means[None], ens_w=w[None])[0]) for w in (counts, shares)]
print(f"crps_ensemble, for comparison: {ensemble[0]:.4f} and {ensemble[1]:.4f}")
print("expected: equal values in each line; seen: a negative CRPS")
raise SystemExit(0 if seen["crps_mixnorm"][0] < 0 and np.isclose(*ensemble) else 1)
PY
