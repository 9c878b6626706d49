"""The Gaussian process on random features against dense linear algebra."""

import numpy as np
import pytest
from scipy import linalg

from skuq._model.gaussian_process import NEGLIGIBLE, RandomFeatureGP


# Of two inputs features have eigenvalues from far above the ridge to far below it; of forty all of them count.
@pytest.mark.parametrize("n_inputs", [2, 40])
@pytest.mark.parametrize("n_rows", [60, 400])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_are_those_of_the_dense_precision(dtype, ridge, n_rows, n_inputs):
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=(n_inputs, 200)), rng.uniform(0, 2 * np.pi, 200)
    angles = (scale * rng.normal(size=(n_rows, n_inputs)) @ kernel + bias for scale in (1, 5))
    train, far = (np.sqrt(2 / 200) * np.cos(angle) for angle in angles)
    weights, beta = rng.uniform(0.1, 2, (n_rows, 2)), rng.normal(size=(200, 3))
    posterior = RandomFeatureGP.fit(train, weights, ridge)
    if n_inputs == 2:
        assert all(len(values) < 200 for values in posterior.eigenvalues)
    features = np.concatenate([train, far]).astype(dtype)
    found = posterior.moments(beta, dtype=dtype)(features)
    exact = features.astype(float)
    # Each sum as exact as its terms.
    assert (np.abs(found[:, :3] - exact @ beta) <= 4 * np.finfo(dtype).eps * np.abs(exact) @ np.abs(beta)).all()
    for variance, w in zip(found[:, 3:].T, weights.T, strict=True):
        precision = ridge * np.eye(200) + (train.T * w) @ train
        expected = ridge * np.einsum("ij,ji->i", exact, linalg.cho_solve(linalg.cho_factor(precision), exact.T))
        excess = variance / expected - 1
        rounding = 1e-4 if dtype is np.float32 else 1e-8
        assert excess.min() > -rounding
        assert excess.max() < NEGLIGIBLE + rounding


def test_rows_without_weight_leave_the_prior():
    posterior = RandomFeatureGP.fit(np.ones((5, 8)), np.zeros((5, 1)), 2.0)
    features = np.arange(16.0).reshape(2, 8)
    np.testing.assert_allclose(posterior.moments(np.ones((8, 1)))(features)[:, 1], np.square(features).sum(axis=1))


def test_a_scale_of_features_is_that_of_phi():
    rng = np.random.default_rng(0)
    features, beta = rng.normal(size=(300, 20)), rng.normal(size=(20, 2))
    posterior = RandomFeatureGP.fit(0.1 * features, np.ones((300, 1)), 0.01)
    np.testing.assert_allclose(
        posterior.moments(beta, 0.1)(features), posterior.moments(beta)(0.1 * features), rtol=1e-9, atol=1e-12
    )
