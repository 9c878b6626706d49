#!/usr/bin/env bash
# blitz-bayesian-pytorch 0.2.8: the prior of a weight is flat beyond about six standard deviations.
#
# Expected: the log density of the default prior, Normal(0, 0.1), falls as -w^2 / (2 * 0.01), and its gradient -w / 0.01
# draws each weight towards zero, the more the further it is.
# Seen: log_prior takes the logarithm of the density plus 1e-6, so it is constant and has no gradient beyond |w| of
# about 0.6, and a large weight costs 14 nats where the prior says 450. The strongest pull is at 0.5; weights that have
# passed it are free. The same holds for a prior given by prior_dist.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.13.0
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps blitz-bayesian-pytorch==0.2.8
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from blitz.modules.weight_sampler import PriorWeightDistribution

print("blitz-bayesian-pytorch", version("blitz-bayesian-pytorch"), "torch", torch.__version__)
sigma = 0.1  # the default prior_sigma_1 of the layers, with prior_pi = 1
prior = PriorWeightDistribution(1, sigma, 0.4)
given = PriorWeightDistribution(dist=torch.distributions.Normal(0.0, sigma))


def value_and_slope(function, w):
    w = torch.tensor([w], requires_grad=True)
    value = function(w)
    value.backward()
    return value.item(), w.grad.item()


slopes = {}
at_zero = value_and_slope(prior.log_prior, 0.0)[0]
for w in (0.1, 0.3, 0.5, 0.6, 1.0, 3.0):
    value, slopes[w] = value_and_slope(prior.log_prior, w)
    expected = -(w**2) / (2 * sigma**2)
    print(f"w {w}: log prior less that at 0: expected {expected:.2f}, seen {value - at_zero:.2f};", end=" ")
    print(f"gradient: expected {-w / sigma**2:.0f}, seen {slopes[w]:.2g}")
print("gradient at 3.0 of a prior given by prior_dist:", value_and_slope(given.log_prior, 3.0)[1])
raise SystemExit(0 if abs(slopes[0.1] + 10) < 0.1 and abs(slopes[1.0]) < 1e-6 and abs(slopes[3.0]) < 1e-6 else 1)
PY
