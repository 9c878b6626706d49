#!/usr/bin/env bash
# tensorflow 2.20.0: what XLA has compiled for a tf.function on the processor stays mapped after the function is gone.
#
# Expected: a function of jit_compile=True that nobody holds any more is freed, with the code compiled for it.
# Seen: each one leaves tens of memory maps behind, garbage collection or not, so a process that trains networks of ever new
# shapes runs toward the kernel's limit of maps (65,530 by default). The same computation in a tf.compat.v1.Session that is
# closed leaves none.
# Exit status: 0 while this holds, 1 once it has changed. Linux only: maps are counted in /proc.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 tensorflow==2.20.0
TF_CPP_MIN_LOG_LEVEL=3 CUDA_VISIBLE_DEVICES="" "$tmp/venv/bin/python" - <<'PY'
import gc

import tensorflow as tf


def step(x, w):
    for _ in range(4):
        x = tf.tanh(tf.matmul(x, w))
    return tf.reduce_sum(x)


def by_function(n):
    function = tf.function(step, jit_compile=True)
    function(tf.ones((n, n)), tf.ones((n, n)))


def by_session(n):
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (n, n))
        with tf.compat.v1.Session(graph=graph) as session:
            compiled = tf.function(step, jit_compile=True)(x, x)
            session.run(compiled, {x: [[1.0] * n] * n})


def maps():
    gc.collect()
    with open("/proc/self/maps") as file:
        return sum(1 for _ in file)


print("tensorflow", tf.__version__)
grown = {}
for name, run in (("session", by_session), ("function", by_function)):
    for n in range(5, 10):
        run(n)  # what is loaded once
    before = maps()
    for n in range(10, 40):
        run(n)
    grown[name] = maps() - before
print("maps more after 30 shapes, nothing held: tf.function", grown["function"], "closed sessions", grown["session"])
print("expected: about none of either; seen: those of tf.function stay")
raise SystemExit(0 if grown["function"] > 100 and grown["session"] < grown["function"] / 4 else 1)
PY
