"""Sparse X: the same rows train the same model as when dense, in whatever format, in the memory of the matrix."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from _table import ESTIMATORS, assert_same, case, each_backend, each_estimator, make, outputs
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import skuq
from skuq import backends
from skuq._data.encoding import Encoding, PiecewiseLinear, many_valued
from skuq._data.rows import INPUT_LIMIT, SparseRows, Standardizer, canonical_rows

N = 160


def timestamps(rng):
    """One day in seconds since 1970 beside categories: the offset is 7e4 standard deviations."""
    moment = 1.7e9 + rng.uniform(0, 86_400, N).round(3)
    group = rng.integers(0, 8, N)
    return np.c_[np.eye(8)[group], moment], (moment - moment.mean()) / 2e4 + np.sin(group)


def places(rng):
    """Coordinates of one town, both far from zero and one negative, beside categories."""
    x, y, group = rng.uniform(-71.2, -71.0, N), rng.uniform(42.3, 42.4, N), rng.integers(0, 10, N)
    return np.c_[x, np.eye(10)[group], y], 20 * (x + 71.1) ** 2 * 100 + 50 * (y - 42.3) + 0.3 * group


def counts(rng):
    """Words of a text: counts, most of them 0."""
    X = rng.poisson(0.15 * rng.random(12), (N, 12)).astype(float)
    return X, X[:, 0] + 2 * X[:, 5] - X[:, 11]


def odd(rng):
    """Negative values far out, a constant, an empty and a nearly empty column; equal rows."""
    far = np.where(rng.random((N, 3)) < 0.3, -1e6 + rng.normal(size=(N, 3)), 0)
    X = np.c_[far, np.full(N, 7.5), np.zeros(N), np.arange(N) == 3, rng.integers(0, 3, N)]
    X[: N // 4] = X[N // 4 : N // 2]
    return X, (far[:, 0] != 0) + 0.2 * X[:, -1]


TABLES = {"timestamps": timestamps, "places": places, "counts": counts, "odd": odd}


def table(kind, name="Regressor"):
    rng = np.random.default_rng(0)
    X, y = TABLES[kind](rng)
    y = y + 0.1 * rng.normal(size=N)
    return X, y if name.endswith("Regressor") else np.digitize(y, np.quantile(y, [0.5]))


def written_oddly(X):
    """CSR of the same rows: columns backwards, zeros stored, one value as the sum of two."""
    n, d = X.shape
    matrix = sparse.csr_array((X[:, ::-1].ravel(), np.tile(np.arange(d)[::-1], n), np.arange(n + 1) * d), shape=X.shape)
    first = matrix.data[d - 1]
    data = np.concatenate([matrix.data[: d - 1], [first / 2, first / 2], matrix.data[d:]])
    indices = np.insert(matrix.indices, d - 1, 0)
    return sparse.csr_array((data, indices, matrix.indptr + (np.arange(n + 1) > 0)), shape=X.shape)


@pytest.mark.parametrize("kind", TABLES)
@each_estimator
def test_the_same_rows_train_the_same_model(name, backend, kind):
    X, y = table(kind, name)
    weight = np.random.default_rng(1).integers(0, 4, N).astype(float)
    dense = make(name, backend, max_iter=8).fit(X, y, weight)
    thin = clone(dense).fit(sparse.csr_array(X), y, weight)
    assert_same(outputs(thin, sparse.csr_array(X)), outputs(dense, X))
    assert_same(outputs(thin, X), outputs(dense, X))
    np.testing.assert_array_equal(thin.encoded_features_, dense.encoded_features_)


FORMATS = {
    "csr_matrix": sparse.csr_matrix,
    "csc_array": sparse.csc_array,
    "coo_matrix": sparse.coo_matrix,
    "written oddly": written_oddly,
    "int": lambda X: sparse.csr_array(np.rint(X).astype(np.int64)),
    "float32": lambda X: sparse.csr_array(X, dtype=np.float32),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_the_rows_it_holds(kind):
    backend = (backends.available() or ["auto"])[-1]
    X, y = table("places")
    matrix = FORMATS[kind](X)
    before = matrix.copy()
    dense = make("ProbabilisticRegressor", backend, max_iter=5).fit(matrix.toarray(), y)
    thin = clone(dense).fit(matrix, y)
    assert_same(outputs(thin, matrix), outputs(dense, matrix.toarray()))
    for part in ("data", "indices", "indptr") if kind != "coo_matrix" else ("data", "row", "col"):
        np.testing.assert_array_equal(getattr(matrix, part), getattr(before, part))  # X is the user's


@pytest.mark.parametrize(
    "settings",
    [
        {"standardize": False},
        {"hidden_layer_sizes": ()},
        {"architecture": "resnet", "input_encoding": "piecewise_linear", "n_bins": 4},
        {"regularizer": "l1", "alpha": 0.01},
        {"calibration": "conformal", "max_iter": 3},
        {"early_stopping": True},
    ],
    ids=lambda s: next(iter(s)),
)
@each_backend
def test_settings_leave_them_the_same(settings, backend):
    X, y = table("counts")
    dense = make("ProbabilisticRegressor", backend, **{"max_iter": 8, **settings}).fit(X, y)
    thin = clone(dense).fit(sparse.csr_array(X), y)
    assert_same(outputs(thin, sparse.csr_array(X)), outputs(dense, X))
    if not dense.hidden_layer_sizes:
        np.testing.assert_allclose(thin.coef_, dense.coef_, rtol=1e-12)
        np.testing.assert_allclose(thin.predict(X), X @ thin.coef_ + thin.intercept_, rtol=1e-5, atol=1e-5)


@each_backend
def test_warm_start_goes_from_dense_to_sparse_and_back(backend):
    X, y = table("timestamps")
    runs = []
    for kinds in ((np.asarray, np.asarray), (np.asarray, sparse.csr_array), (sparse.csr_array, np.asarray)):
        model = make("ProbabilisticRegressor", backend, max_iter=4, warm_start=True)
        for kind in kinds:
            model.fit(kind(X), y)
        runs.append(model.predict(X))
    np.testing.assert_array_equal(runs[1], runs[0])
    np.testing.assert_array_equal(runs[2], runs[0])


@pytest.mark.parametrize("method", ["Probabilistic", "SNGP"])
@each_backend
def test_native_models_take_the_rows_in_their_own_units(method, backend):
    """Dense X in the user's units, with an offset that float32 could not hold beside its spread."""
    X, y = table("timestamps")
    model = make(f"{method}Regressor", backend, max_iter=10).fit(sparse.csr_array(X), y)
    native = model.to_native()
    if backend == "tensorflow":
        found = native(X)
        mean = (found[0] if isinstance(found, (list, tuple)) else found).mean().numpy()[:, 0]
    else:
        import torch

        found = native(torch.as_tensor(X))
        mean = (found[0] if isinstance(found, tuple) else found).mean.detach().numpy()[:, 0]
    np.testing.assert_allclose(mean, model.predict(X), rtol=0, atol=2e-5 * np.ptp(y))
    np.testing.assert_allclose(model.from_native(native).predict(sparse.csr_array(X)), mean, rtol=0, atol=2e-5)


@each_backend
def test_a_pipeline_does_not_depend_on_whether_its_columns_come_out_sparse(backend):
    """ColumnTransformer gives CSR below a share of nonzero values, and a dense array above it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"year": rng.integers(1990, 2024, N), "kind": rng.integers(0, 8, N).astype(str)})
    y = 0.3 * (frame["year"] - 2006) + 0.5 * frame["kind"].astype(int) + 0.1 * rng.normal(size=N)
    said = []
    for threshold, is_sparse in ((0.0, False), (1.0, True)):
        columns = make_column_transformer(
            (OneHotEncoder(), ["kind"]), ("passthrough", ["year"]), sparse_threshold=threshold
        )
        assert sparse.issparse(columns.fit_transform(frame)) == is_sparse
        pipeline = make_pipeline(columns, make("DeepEnsembleRegressor", backend, max_iter=40)).fit(frame, y)
        assert pipeline.score(frame, y) > 0.9
        said.append(skuq.predict_interval(pipeline, frame))
    np.testing.assert_array_equal(said[1], said[0])


def test_words_of_texts_are_the_same_dense():
    texts = [" ".join(np.random.default_rng(i).choice(["a1", "b2", "c3", "d4", "e5", "f6"], 5)) for i in range(80)]
    X = TfidfVectorizer().fit_transform(texts)
    y = np.array(["a1" in text for text in texts])
    backend = (backends.available() or ["auto"])[-1]
    thin = make("SNGPClassifier", backend, max_iter=20).fit(X, y)
    dense = clone(thin).fit(X.toarray(), y)
    np.testing.assert_allclose(thin.predict_proba(X), dense.predict_proba(X.toarray()), rtol=0, atol=1e-6)


# Parts


def random_table(seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(2, 60), rng.integers(1, 6)
    X = rng.integers(-2, 3, (n, d)) * (rng.random((n, d)) < rng.random())
    weight = rng.integers(0, 3, n) * rng.random(n)
    weight[0] = 1
    return X.astype(float), rng.integers(0, 2, (n, 1)).astype(float), weight


@pytest.mark.parametrize("seed", range(40))
def test_sparse_rows_stand_in_the_order_of_dense_ones(seed):
    X, y, weight = random_table(seed)
    expected = canonical_rows(X, y, weight)
    # The order of NumPy's own sort by columns, first column first.
    kept = np.flatnonzero(weight > 0)
    by_numpy = kept[np.lexsort(np.column_stack([X, y])[kept].T[::-1])]
    np.testing.assert_array_equal(expected[0], by_numpy[np.isin(by_numpy, expected[0])])
    for matrix in (sparse.csr_array(X), written_oddly(X)):
        index, total = canonical_rows(matrix, y, weight)
        np.testing.assert_array_equal(index, expected[0])
        np.testing.assert_array_equal(total, expected[1])


def test_sparse_values_are_standardised_as_dense_ones():
    rng = np.random.default_rng(0)
    columns = [np.eye(6)[rng.integers(0, 6, 300)], 1.7e9 + rng.normal(size=(300, 1)), np.full((300, 1), 3.0)]
    columns += [np.where(rng.random((300, 2)) < 0.1, [-1e8, 5.0], 0), np.zeros((300, 1))]
    X, weight = np.hstack(columns), rng.uniform(0.1, 3, 300)
    dense = Standardizer.fit(X, weight).without_constants()
    thin = Standardizer.fit(sparse.csr_array(X), weight).without_constants()
    np.testing.assert_allclose(thin.shift, dense.shift, rtol=1e-14)
    np.testing.assert_allclose(thin.scale, dense.scale, rtol=1e-12)
    np.testing.assert_array_equal(dense(sparse.csr_array(X)), dense(X))
    far = X.copy()
    far[0, 0] = 1e12
    assert dense(sparse.csr_array(far))[0, 0] == INPUT_LIMIT
    rows = dense.rows(sparse.csr_array(X))
    assert isinstance(rows, SparseRows)
    np.testing.assert_array_equal(rows.dense([5, -1, 5]), dense(X)[[5, -1, 5]])
    np.testing.assert_array_equal(np.concatenate(list(rows.stretches(32))), dense(X))
    assert rows.values.nnz == np.count_nonzero(X)


@pytest.mark.parametrize("seed", range(20))
def test_more_than_two_values_are_found(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 5000)
    columns = [rng.integers(0, k, n) - shift for k in (1, 2, 3, 4) for shift in (0, 1, 5)]
    columns += [np.arange(n) == n - 1, (np.arange(n) == 0) + 2.0 * (np.arange(n) == n - 1)]
    X = np.stack(columns, axis=1).astype(float)
    expected = [len(np.unique(column)) > 2 for column in X.T]
    np.testing.assert_array_equal(many_valued(X), expected)
    np.testing.assert_array_equal(many_valued(sparse.csr_array(X)), expected)
    stored = sparse.csr_array((X.ravel(), np.tile(np.arange(X.shape[1]), n), np.arange(n + 1) * X.shape[1]))
    np.testing.assert_array_equal(many_valued(stored), expected)


def test_bins_of_sparse_columns_are_those_of_dense_ones(monkeypatch):
    X = table("counts")[0]
    standardizer, weight = Standardizer.fit(X, np.ones(N)), np.random.default_rng(0).uniform(0.5, 2, N)
    encoding = Encoding.of(("auto", None), PiecewiseLinear(8), many_valued(X))
    expected = encoding.fit(standardizer(X), weight)
    monkeypatch.setattr("skuq._data.encoding.COLUMNS_AT_ONCE", 2)
    found = encoding.fit(standardizer.rows(sparse.csr_array(X)), weight)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_wide_rows_are_dense_only_a_few_at_a_time(name, monkeypatch):
    """What is held out, and what the Gaussian process passes over, is computed in stretches, with the same numbers."""
    backend = (backends.available() or ["auto"])[-1]
    X, y = table("places", name)
    whole = make(name, backend, max_iter=4).fit(sparse.csr_array(X), y)
    for module in ("_data.rows", "_training.members"):
        monkeypatch.setattr(f"skuq.{module}.DENSE_NUMBERS", 1000)
    monkeypatch.setattr("skuq._training.members.MAX_KEPT", 0)
    parts = clone(whole).fit(sparse.csr_array(X), y)
    assert_same(outputs(parts, sparse.csr_array(X)), outputs(whole, X), rtol=1e-4, atol=1e-4)


MEMORY = """
import numpy as np, skuq
from scipy import sparse

def resident(what):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024

rng = np.random.default_rng(0)
X = sparse.random_array((10_000, 10_000), density=0.001, format="csr", rng=rng)
y = np.asarray(X[:, :50].sum(axis=1)).ravel() + rng.normal(size=X.shape[0])
y = y > 0 if name.endswith("Classifier") else y
model = getattr(skuq, name)(hidden_layer_sizes=(8,), max_iter=1, backend=backend, random_state=0, **settings)
few = rng.normal(size=(40, 3))
warm = model.__class__(**{**model.get_params(), "max_iter": 1}).fit(few, few[:, 0] > 0 if y.dtype == bool else few[:, 0])
before = resident("VmRSS")
model.fit(X, y).predict(X)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "settings", "backend"),
    [
        case(backend, f"{method}{task}", settings)
        for backend in backends.BACKENDS
        for method, task, settings in (
            ("Probabilistic", "Regressor", {"batch_size": 64}),
            ("SNGP", "Classifier", {"n_inducing": 64}),
        )
    ],
)
def test_memory_is_that_of_the_batches(name, settings, backend):
    """Dense, these rows are 400 MB in float32 and 800 MB in float64."""
    program = f"name, settings, backend = {name!r}, {settings!r}, {backend!r}\n{MEMORY}"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert float(found.stdout.splitlines()[-1]) < 300
