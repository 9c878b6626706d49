#!/usr/bin/env bash
# tf_keras 2.20.1 (tensorflow 2.20.0): a model whose Rescaling layer was given arrays saves as .keras and does not load.
#
# Expected: what Model.save wrote without a word, load_model reads.
# Seen: Rescaling(scale=array, offset=array) is saved, since arrays are written as constants of the layer's configuration; loading
# calls the layer with these descriptions instead of numbers and raises. The same numbers as lists load.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 tensorflow==2.20.0 tf_keras==2.20.1
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES="" "$tmp/venv/bin/python" - "$tmp" <<'PY'
import sys

import numpy as np
import tensorflow as tf
import tf_keras

print("tf_keras", tf_keras.__version__, "tensorflow", tf.__version__)
outcome = {}
for name, kind in (("arrays", np.array), ("lists", list)):
    layer = tf_keras.layers.Rescaling(scale=kind([0.5, 2.0]), offset=kind([1.0, -1.0]))
    model = tf_keras.Sequential([tf_keras.layers.Input((2,)), layer])
    path = f"{sys.argv[1]}/{name}.keras"
    model.save(path)
    try:
        loaded = tf_keras.models.load_model(path)
        outcome[name] = loaded(np.ones((1, 2), np.float32)).numpy().tolist()
    except Exception as error:
        outcome[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:90]}"
print("expected: [[1.5, 1.0]] from both; seen:", outcome)
raise SystemExit(0 if isinstance(outcome["arrays"], str) and outcome["lists"] == [[1.5, 1.0]] else 1)
PY
