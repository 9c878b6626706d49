#!/usr/bin/env bash
# safetensors 0.8.0: the NumPy side writes transposed and Fortran-ordered arrays with their elements permuted.
#
# Expected: what is read equals what was written, or an error, as safetensors.torch raises for a tensor that is not
# contiguous.
# Seen: safetensors.numpy writes the buffer in memory order with the shape of the view, without an error or a warning,
# so a file of weights reads back with the right shape and dtype and the wrong numbers.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 safetensors==0.8.0
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import safetensors
from safetensors.numpy import load, save

print("safetensors", safetensors.__version__)
weights = np.arange(6.0).reshape(2, 3)
views = {
    "C order": weights,
    "transposed": weights.T,
    "Fortran order": np.asfortranarray(weights),
    "every other column": np.arange(12.0).reshape(2, 6)[:, ::2],
}
same = {}
for name, array in views.items():
    read = load(save({"weights": array}))["weights"]
    same[name] = bool(np.array_equal(array, read))
    print(f"{name}: written {array.tolist()}, read {read.tolist()}")
print("expected: all equal; seen:", same)
repaired = load(save({"weights": np.ascontiguousarray(weights.T)}))["weights"]
print("np.ascontiguousarray first gives equal arrays:", bool(np.array_equal(repaired, weights.T)))
raise SystemExit(0 if same["C order"] and not same["transposed"] and not same["Fortran order"] else 1)
PY
