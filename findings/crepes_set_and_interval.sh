#!/usr/bin/env bash
# crepes 0.9.1: prediction sets keep labels whose p-value equals 1 - confidence, prediction intervals leave them out.
#
# Expected: one rule for the whole library, and the usual one: a label or value is in the set when p > 1 - confidence.
# Seen: ConformalClassifier.predict_set keeps p >= 1 - confidence, while ConformalRegressor.predict_int is the set
# p > 1 - confidence of the same scores. Where confidence * (n + 1) is whole, the sets are one rank larger. With 3
# scores at 75 % a label of whatever score is kept (its p-value is never under 1/4), so the set is never informative and
# covers always, while the regressor gives a finite interval. 75 % is used since it is exact in binary.
# Exit status: 0 while this holds, 1 once it has changed.
set -euo pipefail
tmp="$(mktemp -d)"
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.4.6 scikit-learn==1.6.1 crepes==0.9.1
OMP_NUM_THREADS=1 "$tmp/venv/bin/python" - <<'PY'
import crepes
import numpy as np
from crepes import ConformalClassifier, ConformalRegressor

print("crepes", crepes.__version__)
confidence = 0.75
differs = []
for n in (3, 7, 11):
    scores = np.arange(1.0, n + 1)
    regressor = ConformalRegressor().fit(scores)
    classifier = ConformalClassifier().fit(scores)
    half_width = regressor.predict_int(np.array([0.0]), confidence=confidence)[0, 1]
    candidates = np.arange(0.5, n + 1)  # between the scores, so that no tie matters
    p_regressor = regressor.predict_p(np.zeros(n + 1), candidates, smoothing=False)
    p_classifier = classifier.predict_p(candidates[:, None], smoothing=False)[:, 0]
    in_interval = candidates <= half_width
    in_set = classifier.predict_set(candidates[:, None], confidence=confidence, smoothing=False)[:, 0].astype(bool)
    assert np.allclose(p_regressor, p_classifier)
    differs.append(int(np.sum(in_set != in_interval)))
    print(f"n {n}: p-values {np.round(p_classifier, 3)}")
    print(f"   interval keeps those above {1 - confidence}:", bool(np.array_equal(in_interval, p_classifier > 0.25)))
    print(f"   set keeps {in_set.sum()} of {n + 1} scores, interval {in_interval.sum()}")
print("expected: the same scores are kept; seen: differences", differs)
raise SystemExit(0 if all(differs) else 1)
PY
