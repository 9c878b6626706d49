"""The Gaussian process on random features against dense linear algebra."""

import numpy as np
import pytest
from scipy import linalg

from skuq._gaussian_process import NEGLIGIBLE, RandomFeatureGP


@pytest.mark.parametrize("n_rows", [60, 400])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_are_those_of_the_dense_precision(dtype, ridge, n_rows):
    rng = np.random.default_rng(0)
    # Smooth features of two inputs: eigenvalues from far above the ridge to far below it.
    kernel, bias = rng.normal(size=(2, 200)), rng.uniform(0, 2 * np.pi, 200)
    train, far = (np.sqrt(2 / 200) * np.cos(scale * rng.normal(size=(n_rows, 2)) @ kernel + bias) for scale in (1, 5))
    weights, beta = rng.uniform(0.1, 2, (n_rows, 2)), rng.normal(size=(200, 3))
    posterior = RandomFeatureGP.fit(train, weights, ridge)
    assert all(len(values) < 200 for values in posterior.eigenvalues)
    features = np.concatenate([train, far]).astype(dtype)
    found = posterior.moments(beta)(features)
    exact = features.astype(float)
    np.testing.assert_allclose(found[:, :3], exact @ beta, rtol=1e-9, atol=1e-12)
    for variance, w in zip(found[:, 3:].T, weights.T, strict=True):
        precision = ridge * np.eye(200) + (train.T * w) @ train
        expected = ridge * np.einsum("ij,ji->i", exact, linalg.cho_solve(linalg.cho_factor(precision), exact.T))
        excess = variance / expected - 1
        rounding = 2e-5 if dtype is np.float32 else 1e-8
        assert excess.min() > -rounding
        assert excess.max() < NEGLIGIBLE + rounding
