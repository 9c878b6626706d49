"""The two moons of the SNGP tutorial: what a method says far from the data."""

import numpy as np
import pytest
from _table import case
from sklearn.datasets import make_moons
from sklearn.metrics import roc_auc_score

import skuq
from skuq import backends


def moons(seed):
    """1000 rows of each of two half circles pulled apart, and 500 rows out of the domain."""
    X, y = make_moons(1000, noise=0.1, random_state=seed)
    X[y == 0] += [-0.1, 0.2]
    X[y == 1] += [0.1, -0.2]
    foreign = np.random.default_rng(seed).normal([2.5, -1.75], 0.1, size=(500, 2))
    return X, y, foreign


@pytest.mark.parametrize(("seed", "backend"), [case(backend, seed) for backend in backends.BACKENDS for seed in (0, 3)])
def test_sngp_knows_foreign_rows_from_moons(seed, backend):
    X, y, foreign = moons(seed)
    X_test, y_test, _ = moons(seed + 100)
    model = skuq.SNGPClassifier(backend=backend, random_state=seed).fit(X, y)
    own, others = model.predict_proba(X_test).max(axis=1), model.predict_proba(foreign).max(axis=1)
    is_foreign = np.repeat([False, True], [len(own), len(others)])
    assert model.score(X_test, y_test) >= 0.998
    # The hand-written tutorial reaches 0.999.
    assert roc_auc_score(is_foreign, 1 - np.concatenate([own, others])) >= 0.999
    assert others.mean() < 0.75


@pytest.mark.parametrize("backend", [case(backend) for backend in backends.BACKENDS])
def test_a_deterministic_network_is_sure_of_foreign_rows(backend):
    X, y, foreign = moons(0)
    model = skuq.ProbabilisticClassifier(backend=backend, random_state=0).fit(X, y)
    assert model.predict_proba(foreign).max(axis=1).mean() > 0.99
