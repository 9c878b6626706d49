"""Estimators on a GPU, where there is one."""

import pytest
from _table import assert_same, each_estimator, fitted, make, outputs, problem


def has_gpu(backend):
    if backend == "blitz":
        import torch

        return torch.cuda.is_available()
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


@each_estimator
def test_fit_on_a_gpu(name, backend):
    if not has_gpu(backend):
        pytest.skip("needs a GPU")
    X, y = problem(name)
    model, again = (make(name, backend, device="cuda").fit(X, y) for _ in range(2))
    # XLA chooses its kernels by timing them.
    assert_same(outputs(model, X), outputs(again, X), rtol=0.0 if backend == "blitz" else 1e-3)
    assert model.score(X, y) > fitted(name, backend).score(X, y) - 0.1
