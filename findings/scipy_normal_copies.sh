#!/usr/bin/env bash
# scipy 1.17.1: a deep copy of stats.Normal(mu, sigma) computes as a standard normal.
#
# Expected: copy.deepcopy and a pickle round trip of a distribution give the same distribution, as they do
# for stats.Uniform and stats.Binomial of the same module.
# Seen: the copy is made without arguments, Normal.__new__ then picks the class StandardNormal; the copied state still
# prints mu=3.0, sigma=2.0, while mean, pdf and quantiles are those of a standard normal. Nothing is raised.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import copy
import pickle

import scipy
from scipy import stats

print("scipy", scipy.__version__)
normal = stats.Normal(mu=3.0, sigma=2.0)
copies = {
    "copy.deepcopy": copy.deepcopy(normal),
    "pickle": pickle.loads(pickle.dumps(normal)),
}
print("original:", normal, "mean", normal.mean(), "0.975 quantile", normal.icdf(0.975))
for how, copied in copies.items():
    print(f"{how}: {copied} mean {copied.mean()} 0.975 quantile {copied.icdf(0.975)}")
uniform = stats.Uniform(a=2.0, b=5.0)
print("Uniform, for comparison: mean", uniform.mean(), "and of its deep copy", copy.deepcopy(uniform).mean())

wrong = [how for how, copied in copies.items() if copied.mean() == 0.0 and copied.standard_deviation() == 1.0]
print("expected: mean 3.0 for every copy; seen: mean 0.0 for", wrong)
raise SystemExit(0 if len(wrong) == len(copies) else 1)
PY
