#!/usr/bin/env bash
# skops 0.16.0: dictionaries whose keys meet as text lose entries, and a deque comes back empty.
#
# Expected: skops.io.loads(skops.io.dumps(obj)) equals obj, or dumping raises, as it does for dictionaries with tuples
# as keys.
# Seen: {False: 1.0, True: 5.0} (class weights of Boolean labels) comes back with one entry, {1: "a", "1": "b"} too, and
# collections.deque([1, 2, 3], maxlen=3) comes back as an empty deque without a limit. Nothing is raised or warned.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scipy==1.17.1 scikit-learn==1.6.1 skops==0.16.0
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
from collections import deque

import skops
import skops.io as sio
from sklearn.linear_model import LogisticRegression


def round_trip(obj):
    data = sio.dumps(obj)
    return sio.loads(data, trusted=sio.get_untrusted_types(data=data))


print("skops", skops.__version__)
classifier = LogisticRegression(class_weight={False: 1.0, True: 5.0})
weights = round_trip(classifier).class_weight
print("class_weight {False: 1.0, True: 5.0} ->", weights)
mixed = round_trip({1: "a", "1": "b"})
print("{1: 'a', '1': 'b'} ->", mixed)
queue = round_trip(deque([1, 2, 3], maxlen=3))
print("deque([1, 2, 3], maxlen=3) ->", queue)

print("expected: each equals what was dumped, or an error; seen: 1, 1 and 0 entries left")
holds = len(weights) == 1 and len(mixed) == 1 and len(queue) == 0
raise SystemExit(0 if holds else 1)
PY
