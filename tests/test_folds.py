"""What is held out is a fair sample of the rows that weights stand for, and no copy makes a network look right."""

import numpy as np
import pytest
from _table import each_backend
from scipy import sparse
from scipy.stats import multivariate_hypergeom
from sklearn.metrics import log_loss

import skuq
from skuq._data.folds import assign_folds, count_copies, divide
from skuq._data.rows import canonical_rows


def merged(X, y, weight=None):
    """Merged rows of a table: X, y, weight, copies."""
    y = np.asarray(y, float).reshape(len(y), -1)
    index, weight = canonical_rows(X, y, np.ones(len(y)) if weight is None else weight)
    return X[index], y[index], weight, count_copies(X[index], y[index], weight)


def categories(n, shares, rng):
    """One-hot categories and 0/1 outcomes with those shares of ones."""
    group = rng.integers(len(shares), size=n)
    return np.eye(len(shares))[group], (rng.uniform(size=n) < np.asarray(shares)[group]).astype(int)


TABLES = {
    "categories": lambda rng: categories(4000, [0.1, 0.3, 0.5, 0.9], rng),
    "an A/B test": lambda rng: (lambda x: (x, rng.uniform(size=5000) < 0.05 + 0.02 * x[:, 0]))(
        rng.integers(0, 2, (5000, 1)).astype(float)
    ),
    "binary columns": lambda rng: (lambda X: (X, rng.uniform(size=4000) < 0.2 + 0.6 * X.mean(axis=1)))(
        rng.integers(0, 2, (4000, 9)).astype(float)
    ),
    "settings, rounded": lambda rng: (lambda x: (x, np.round(x[:, 0] + rng.normal(size=320))))(
        np.repeat(np.arange(8.0), 40)[:, None]
    ),
    "classes that never vary": lambda rng: (lambda g: (np.eye(4)[g], g % 2))(rng.integers(0, 4, 1000)),
    "many settings whose classes never vary": lambda rng: (lambda X: (X, X[:, 0]))(
        rng.integers(0, 2, (4000, 6)).astype(float)
    ),
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_rows_that_coincide_by_chance_count_one_by_one(table, kind):
    X, y = TABLES[table](np.random.default_rng(0))
    *_, weight, copies = merged(kind(X), y)
    np.testing.assert_array_equal(copies, weight)


@pytest.mark.parametrize("repeats", ["all thrice", "a class seven times", "a bootstrap sample", "real weights"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_copies_of_continuous_rows_count_once(repeats, kind):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 4)).round(2), rng.integers(0, 2, 300)
    weight = {
        "all thrice": np.full(300, 3.0),
        "a class seven times": np.where(y == 1, 7.0, 1.0),
        "a bootstrap sample": rng.multinomial(300, np.full(300, 1 / 300)).astype(float),
        "real weights": rng.uniform(0.1, 30, 300),
    }[repeats]
    *_, copies = merged(kind(X), y, weight)
    assert (copies == 1).all()


def test_counts_over_their_sum_are_the_same_counts():
    X = np.repeat(np.eye(3), 2, axis=0)
    y, counts = np.tile([0, 1], 3), np.array([901.0, 99.0, 350.0, 420.0, 77.0, 1012.0])
    for factor in (1.0, 1 / counts.sum(), 0.1):
        *_, copies = merged(X, y, counts * factor)
        assert sorted(copies) == sorted(counts)
    # Integers are counts, round or not.
    *_, copies = merged(X, y, 100 * counts)
    assert sorted(copies) == sorted(100 * counts)
    # No number divides these: the smallest stands for a row at least.
    *_, copies = merged(X, y, counts + np.array([0, 0.3, 0.77, 0.123, 0.5, 0.1]) * np.sqrt(2))
    np.testing.assert_allclose(np.sort(copies), np.sort(counts), atol=1.5)


@pytest.mark.parametrize("n_folds", [2, 5])
def test_what_is_held_out_and_what_is_left_make_up_the_weight(n_folds):
    rng = np.random.default_rng(0)
    copies = rng.integers(1, 40, 30)
    weight = copies * rng.uniform(0.5, 2, 30)
    folds = divide(weight, copies, n_folds, None, rng)
    held_out = [folds.held_out(k) for k in range(n_folds)]
    total = sum(np.bincount(part.rows, part.weights(weight), 30) for part in held_out)
    np.testing.assert_allclose(total, weight)
    for k, part in enumerate(held_out):
        training = folds.training(k)
        both = np.bincount(part.rows, part.weights(weight), 30) + np.bincount(
            training.rows, training.weights(weight), 30
        )
        np.testing.assert_allclose(both, weight)
        counted = folds.copies_in(part, k).sum() + folds.copies_in(training, k).sum()
        assert counted == folds.n_copies == copies.sum()
    sizes = [folds.copies_in(part, k).sum() for k, part in enumerate(held_out)]
    assert max(sizes) - min(sizes) <= 1


def test_whole_rows_are_folds_as_ever():
    weight = np.random.default_rng(0).uniform(size=50)
    folds = divide(weight, np.ones(50, int), 5, np.arange(50) % 3, np.random.default_rng(1))
    expected = assign_folds(50, 5, np.arange(50) % 3, np.random.default_rng(1))
    for k in range(5):
        np.testing.assert_array_equal(folds.held_out(k).rows, np.flatnonzero(expected == k))
        np.testing.assert_array_equal(folds.training(k).weights(weight), weight[expected != k])


def test_copies_fall_as_a_multivariate_hypergeometric():
    copies = np.array([3, 5, 12])
    found = np.array([divide(copies, copies, 4, None, np.random.default_rng(s)).counts[:, 0] for s in range(4000)])
    expected = multivariate_hypergeom(copies, 5)
    np.testing.assert_allclose(found.mean(axis=0), expected.mean(), atol=0.05)
    np.testing.assert_allclose(np.cov(found.T), expected.cov(), atol=0.08)


def test_huge_counts_are_divided_without_writing_them_out():
    copies = np.array([10**8, 3 * 10**8])
    folds = divide(copies.astype(float), copies, 10, None, np.random.default_rng(0))
    np.testing.assert_allclose(folds.counts / copies[:, None], 0.1, rtol=1e-3)


def test_held_out_loss_of_cells_is_that_of_new_rows():
    """Shares by category, some 8 rows each: held-out copies cost what new rows cost; proportional shares cost less."""
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.05, 0.95, 300)
    held, new, proportional = [], [], []
    for _ in range(60):
        rows = rng.integers(300, size=2400)
        y = rng.uniform(size=2400) < shares[rows]
        count = np.stack([np.bincount(rows[y == c], minlength=300) for c in (0, 1)], axis=1).ravel()
        cells = np.flatnonzero(count)
        folds = divide(count[cells].astype(float), count[cells], 10, None, rng)
        training, held_out = (np.zeros(600), np.zeros(600))
        for part, target in ((folds.training(0), training), (folds.held_out(0), held_out)):
            target[cells[part.rows]] = part.weights(count[cells])
        p = (training.reshape(300, 2) + 0.5) / (training.reshape(300, 2).sum(axis=1, keepdims=True) + 1)
        log_p = np.log(p).ravel()
        held.append(-held_out @ log_p / held_out.sum())
        proportional.append(-count @ log_p / count.sum())
        new.append(-np.mean(shares * np.log(p[:, 1]) + (1 - shares) * np.log(p[:, 0])))
    assert np.mean(held) == pytest.approx(np.mean(new), abs=4 * np.std(held) / np.sqrt(60))
    assert np.mean(proportional) < np.mean(new) - 0.03


@each_backend
@pytest.mark.parametrize("method", ["Probabilistic", "MCDropout", "DeepEnsemble", "BNN", "SNGP"])
def test_probabilities_of_categories_are_their_shares(method, backend):
    rng = np.random.default_rng(1)
    X, y = categories(3000, [0.1, 0.3, 0.9], rng)
    model = getattr(skuq, f"{method}Classifier")(backend=backend, random_state=0, max_iter=400).fit(X, y)
    shares = [y[X[:, k] == 1].mean() for k in range(3)]
    np.testing.assert_allclose(model.predict_proba(np.eye(3))[:, 1], shares, atol=0.03)
    counted = [(k, c, np.sum((X[:, k] == 1) & (y == c))) for k in range(3) for c in (0, 1)]
    group, outcome, count = np.array(counted).T
    again = getattr(skuq, f"{method}Classifier")(backend=backend, random_state=0, max_iter=400)
    again.fit(np.eye(3)[group], outcome, sample_weight=count)
    np.testing.assert_array_equal(again.predict_proba(np.eye(3)), model.predict_proba(np.eye(3)))


@each_backend
def test_copies_do_not_make_a_network_look_right(backend):
    """Noisy continuous rows, each three times or with weights: training stops as it does without the copies."""
    rng = np.random.default_rng(2)
    X, X_new = rng.normal(size=(150, 5)), rng.normal(size=(3000, 5))
    p, p_new = (1 / (1 + np.exp(-x[:, 0])) for x in (X, X_new))
    y, y_new = rng.uniform(size=150) < p, rng.uniform(size=3000) < p_new
    weight = rng.integers(1, 9, 150)
    losses = {}
    for name, (rows, targets, weights) in {
        "once": (X, y, None),
        "thrice": (np.tile(X, (3, 1)), np.tile(y, 3), None),
        "weighted": (X, y, weight),
    }.items():
        model = skuq.ProbabilisticClassifier(backend=backend, random_state=0, max_iter=300)
        model.fit(rows, targets, sample_weight=weights)
        losses[name] = log_loss(y_new, model.predict_proba(X_new))
    assert losses["thrice"] == losses["once"]
    assert losses["weighted"] < losses["once"] + 0.05
