#!/usr/bin/env bash
# onnxruntime 1.32.0: Softplus in double precision exists at one opset only, and overflows there.
#
# Expected: a standard operator that the ONNX specification allows for double runs at every opset or at none, and
# softplus(800) is 800, as in single precision.
# Seen: for opset 13, 17, 20, 21 and 22 the session refuses the double model (no kernel), at opset 18 the same model
# runs through the formula log(exp(x) + 1): softplus(800) is infinite and softplus(-90) is 0 instead of 8e-40. Networks
# that give a scale by softplus so have infinite standard deviations in a double model and right ones in a single one.
# Erf has no double kernel at any of these opsets.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

print("onnx", onnx.__version__, "onnxruntime", onnxruntime.__version__)
onnxruntime.set_default_logger_severity(4)


def run(op, opset, dtype):
    kind = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}[dtype]
    tensors = [helper.make_tensor_value_info(name, kind, [None]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception as error:  # the class for a missing kernel is not public
        return type(error).__name__
    return session.run(None, {"x": np.array([-90.0, 0.5, 800.0], dtype=dtype)})[0]


result = {}
for op in ("Softplus", "Erf"):
    for dtype in (np.float32, np.float64):
        for opset in (13, 17, 18, 20, 21, 22):
            result[op, dtype, opset] = run(op, opset, dtype)
            print(op, dtype.__name__, "opset", opset, "->", result[op, dtype, opset])

refused = [opset for opset in (13, 17, 20, 21, 22) if isinstance(result["Softplus", np.float64, opset], str)]
only = result["Softplus", np.float64, 18]
print("expected: softplus(800) = 800 in double at every opset; seen: refused at", refused, "and at 18:", only)
raise SystemExit(0 if len(refused) == 5 and not isinstance(only, str) and np.isinf(only[2]) else 1)
PY
