#!/usr/bin/env bash
# blitz-bayesian-pytorch 0.2.8: a network moved to double, or copied, and then trained predicts the initial means once
# frozen.
#
# Expected: freeze_() makes a trained network predict with the trained means of its weights.
# Seen: a layer holds each mean twice, as weight_mu and as weight_sampler.mu, which share memory when it is made. Only
# the second one is trained; the frozen layer reads the first. Module.double() (other dtypes and devices go the same way) and
# copy.deepcopy give each its own memory, so freeze_() afterwards answers with the means before training. Sampled
# predictions are right, and nothing is raised.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 torch==2.13.0
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps blitz-bayesian-pytorch==0.2.8
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import copy
from importlib.metadata import version

import torch
from blitz.modules import BayesianLinear
from blitz.utils import variational_estimator


@variational_estimator
class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = BayesianLinear(1, 1)

    def forward(self, x):
        return self.layer(x)


def errors_after_training(network):
    x = torch.linspace(-1, 1, 64, dtype=network.layer.weight_mu.dtype)[:, None]
    y = 3 * x + 1
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        network.sample_elbo(x, y, torch.nn.MSELoss(), sample_nbr=1, complexity_cost_weight=1e-5).backward()
        optimizer.step()
    with torch.no_grad():
        sampled = torch.mean((network.mfvi_forward(x, 50)[0] - y) ** 2).item()
        network.freeze_()
        return sampled, torch.mean((network(x) - y) ** 2).item()


print("blitz-bayesian-pytorch", version("blitz-bayesian-pytorch"), "torch", torch.__version__)
torch.manual_seed(0)
seen = {
    "as made": errors_after_training(Line()),
    "double": errors_after_training(Line().double()),
    "deep copy": errors_after_training(copy.deepcopy(Line())),
}
for name, (sampled, frozen) in seen.items():
    print(f"{name}: mean squared error of sampled weights {sampled:.1e}, frozen {frozen:.1e}")
print("expected: frozen errors near zero for all three; seen: the moved and the copied network did not learn")
holds = seen["as made"][1] < 1e-3 and all(seen[k][0] < 1e-3 and seen[k][1] > 0.1 for k in ("double", "deep copy"))
raise SystemExit(0 if holds else 1)
PY
