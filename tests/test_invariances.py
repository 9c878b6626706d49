"""What must not change an answer: the order and number of rows, units, the order of training rows, repetition."""

import numpy as np
import pytest
from _table import (
    TABLES,
    assert_same,
    case,
    each_backend,
    each_classifier,
    each_estimator,
    each_regressor,
    fitted,
    make,
    no_dropout,
    outputs,
    problem,
    regression,
    settings,
    stack,
)
from scipy import sparse
from sklearn.utils.class_weight import compute_class_weight

import skuq
from skuq import backends
from skuq._model import draws
from skuq._model.draws import unit_masks
from skuq._model.heads import classification_head
from skuq._model.network import ACTIVATIONS, Network
from skuq._model.threads import Scratch
from skuq.likelihoods import Normal

# Whole-batch training: the order of the rows decides nothing but the rounding of sums.
WHOLE_BATCH = {"batch_size": 200, "early_stopping": False}
each_table = pytest.mark.parametrize("kind", TABLES)
# The problem of continuous columns and one of each other kind.
each_problem = pytest.mark.parametrize("kind", [None, *TABLES], ids=["continuous", *TABLES])


def without_samples(said):
    """Outputs that are functions of a row alone."""
    return {key: value for key, value in said.items() if key != "sample"}


# Prediction


@each_estimator
@each_problem
def test_rows_do_not_depend_on_their_company(name, backend, kind):
    X, _ = problem(name, kind)
    X = stack(X, 2 * X, 3 * X)  # 288 rows: more than one block
    model = fitted(name, backend, kind)
    said = without_samples(outputs(model, X))
    order = np.random.default_rng(0).permutation(X.shape[0])
    for rows in (order, order[:1], order[:100], np.repeat(order, 2)):
        assert_same(outputs(model, X[rows]), {key: value[rows] for key, value in said.items()}, rtol=1e-6, atol=1e-9)


@each_estimator
@each_problem
def test_float64_says_what_float32_says(name, backend, kind, monkeypatch):
    X, _ = problem(name, kind)
    model = fitted(name, backend, kind)
    said = without_samples(outputs(model, X))
    monkeypatch.setattr(draws, "working_type", lambda network: np.float64)
    assert_same(outputs(model, X), said, rtol=1e-4, atol=1e-5)
    assert_same(
        outputs(model, X[::-1]),
        {key: value[::-1] for key, value in without_samples(outputs(model, X)).items()},
        rtol=1e-9,
        atol=1e-12,
    )


@each_estimator
def test_prediction_is_repeatable(name, backend):
    X, _ = problem(name)
    model = fitted(name, backend)
    assert_same(outputs(model, X), outputs(model, X))
    np.testing.assert_array_equal(model.sample_y(X, 2, random_state=7), model.sample_y(X, 2, random_state=7))
    assert (model.sample_y(3 * X, 2, random_state=7) != model.sample_y(3 * X, 2, random_state=8)).any()


@pytest.mark.parametrize(
    ("name", "changes", "backend"),
    [
        case(backend, name, changes, id=f"{name}-{label}")
        for backend in backends.BACKENDS
        for name in ("MCDropoutRegressor", "BNNRegressor", "DeepEnsembleRegressor", "MCDropoutClassifier")
        for label, changes in (
            ("default", {}),
            *([("constant_noise", {"likelihood": Normal(scale="constant")})] if name.endswith("Regressor") else []),
        )
    ],
)
def test_stretches_of_draws_change_nothing(name, changes, backend, monkeypatch):
    X, y = problem(name)
    model = make(name, backend, **changes).fit(X, y)
    said = outputs(model, X)
    # One draw at a time, never kept.
    monkeypatch.setattr(draws, "BLOCK_NUMBERS", 1)
    monkeypatch.setattr(draws, "KEPT_WEIGHTS", 0)
    assert_same(outputs(model, X), said, rtol=1e-6, atol=1e-9)


@each_backend
@pytest.mark.parametrize(
    "name", ["MCDropoutRegressor", "BNNRegressor", "SNGPRegressor", "MCDropoutClassifier", "SNGPClassifier"]
)
def test_stretches_of_rows_change_nothing(name, backend):
    X, _ = problem(name)
    X = np.vstack([3 * X[:20], np.zeros((500, 3)), 3 * X[:20]])
    # So many draws that memory holds 256 rows at a time; dropout at the rate of training, or few of them would differ.
    plain = {"early_stopping": False} if name.startswith("MCDropout") else {}
    model = fitted(name, backend, n_draws=5000, **plain)
    said = outputs(model, X)
    for key, value in outputs(model, X[-20:]).items():
        if key != "sample":
            np.testing.assert_allclose(said[key][-20:], value, rtol=1e-6, atol=1e-9, err_msg=key)
    if name.endswith("Regressor"):
        # The samples of two stretches are of the same functions: copies of a row in both share the epistemic variance.
        sample = model.sample_y(X, 1000)
        first, second = (rows - rows.mean(axis=1, keepdims=True) for rows in (sample[:20], sample[-20:]))
        error = ((first * second).mean(axis=1) - said["epistemic"][:20]) / said["total"][:20]
        assert np.abs(error).max() < 6 / np.sqrt(1000)


@each_backend
@pytest.mark.parametrize(
    "name", ["ProbabilisticRegressor", "ProbabilisticClassifier", "SNGPRegressor", "SNGPClassifier"]
)
def test_blocks_computed_together_change_nothing(name, backend, monkeypatch):
    X = np.random.default_rng(0).normal(size=(9 * draws.BLOCK_ROWS + 50, 3))
    model = fitted(name, backend)
    monkeypatch.setattr(draws, "PARTS", 1)
    said = outputs(model, X)
    monkeypatch.setattr(draws, "PARTS", len(X))
    assert_same(outputs(model, X), said, rtol=1e-12, atol=0)


@each_backend
@pytest.mark.parametrize("name", ["ProbabilisticRegressor", "MCDropoutRegressor", "BNNRegressor", "SNGPRegressor"])
def test_a_prediction_is_not_overwritten_by_the_next(name, backend):
    X, _ = problem(name)
    model = fitted(name, backend)
    first = model.predict_dist(X).parameters
    kept = {key: value.copy() for key, value in first.items()}
    model.predict_dist(2 * X)
    assert_same(first, kept)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("architecture", ["mlp", "resnet"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_rows_of_biases_and_masks_are_all_alike(activation, architecture, masked):
    rng = np.random.default_rng(0)
    network = Network(3, (5, 5), activation, architecture, classification_head(3))
    weights = network.views(rng.standard_normal((1, network.n_weights), np.float32))
    masks = unit_masks(4, network.n_units, 0.3, rng) if masked else None
    X, scratch = rng.standard_normal((64, 3), np.float32), Scratch()
    several, of_layers = network.repeated(weights, masks, len(X))
    assert several["bias_0"].shape == (1, 64 * 5)
    # Row by row no bias or mask can have been another row's; twice, for what the arrays held before.
    expected = np.concatenate([network.raw_outputs(weights, x[None], masks) for x in X], axis=1)
    for _ in range(2):
        found = network.raw_outputs(several, X, of_layers, scratch=scratch)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


# Training: what is the same data gives the same model


@each_estimator
@each_problem
def test_order_of_training_rows_does_not_matter(name, backend, kind):
    X, y = problem(name, kind)
    order = np.random.default_rng(0).permutation(len(y))
    model = make(name, backend, kind).fit(X[order], y[order])
    assert_same(outputs(model, X), outputs(fitted(name, backend, kind), X))


@each_estimator
@each_problem
def test_integer_weights_are_repetitions(name, backend, kind):
    X, y = problem(name, kind)
    weight = np.arange(len(y)) % 3
    copies = np.random.default_rng(0).permutation(np.repeat(np.arange(len(y)), weight))
    weighted = make(name, backend, kind).fit(X, y, sample_weight=weight)
    repeated = make(name, backend, kind).fit(X[copies], y[copies])
    assert_same(outputs(weighted, X), outputs(repeated, X))


@each_estimator
@pytest.mark.parametrize("kind", ["discrete", "mixed"])
def test_rows_that_stand_twice_have_their_weights_together(name, backend, kind):
    X, y = problem(name, kind)
    # Quarters, whose sums are exact.
    weight = np.random.default_rng(0).integers(1, 9, len(y)) / 4
    rows, index = np.unique(np.c_[X, np.unique(y, return_inverse=True)[1]], axis=0, return_inverse=True)
    first = np.array([np.flatnonzero(index == i)[0] for i in range(len(rows))])
    apart = make(name, backend).fit(X, y, sample_weight=weight)
    together = make(name, backend).fit(X[first], y[first], sample_weight=np.bincount(index, weight))
    assert_same(outputs(together, X), outputs(apart, X))


@each_backend
@pytest.mark.parametrize("name", ["ProbabilisticRegressor", "DeepEnsembleClassifier"])
@pytest.mark.parametrize("size", [1e-300, 1e-50, 1e20, 1e50])
def test_the_size_of_weights_does_not_matter(name, size, backend):
    # Of a likelihood's weights; a prior has its own, so that more data narrow it.
    X, y = problem(name)
    said = outputs(make(name, backend).fit(X, y, sample_weight=np.full(len(y), size)), X)
    assert_same(said, outputs(fitted(name, backend), X), rtol=1e-5, atol=1e-9)


@each_estimator
def test_weights_matter(name, backend):
    X, y = problem(name)
    weight = np.where(X[:, 0] > 0, 10.0, 0.1)
    said = outputs(make(name, backend).fit(X, y, sample_weight=weight), X)
    assert np.abs(said["total"] - outputs(fitted(name, backend), X)["total"]).max() > 1e-3


@each_classifier
def test_class_weights_are_weights_of_rows(name, backend):
    X, y = problem(name)
    fixed = {"standardize": False, "input_encoding": None}  # which go by the weights of rows alone
    by_class = make(name, backend, class_weight={"yes": 3.0}, **fixed).fit(X, y)
    by_row = make(name, backend, **fixed).fit(X, y, sample_weight=np.where(y == "yes", 3.0, 1.0))
    assert_same(outputs(by_class, X), outputs(by_row, X))
    plain = make(name, backend, **fixed).fit(X, y)
    yes = list(plain.classes_).index("yes")
    assert by_class.predict_proba(X)[:, yes].mean() > plain.predict_proba(X)[:, yes].mean() + 0.02


@each_classifier
@pytest.mark.parametrize("kind", ["continuous", "discrete", "skewed"])
def test_balanced_weights_are_scikit_learns(name, backend, kind):
    X, y = problem(name, None if kind == "continuous" else kind)
    if kind == "continuous":
        keep = (y != "yes") | (np.arange(len(y)) % 3 == 0)
        X, y = X[keep], y[keep]
    weight = dict(zip(np.unique(y), compute_class_weight("balanced", classes=np.unique(y), y=y), strict=True))
    balanced = make(name, backend, class_weight="balanced").fit(X, y)
    assert_same(outputs(balanced, X), outputs(make(name, backend, class_weight=weight).fit(X, y), X), rtol=1e-6)


# Units


@each_estimator
def test_powers_of_two_change_no_bit(name, backend):
    # They leave every standardised number as it is, and so must the order of rows, shuffles, folds and masks.
    X, y = problem(name)
    unit = np.array([4.0, 0.5, 1024.0])
    expected = outputs(fitted(name, backend), X)
    if name.endswith("Classifier"):
        assert_same(outputs(make(name, backend).fit(unit * X, y), unit * X), expected, rtol=1e-12)
        return
    for key, value in outputs(make(name, backend).fit(unit * X, 1024 * y), unit * X).items():
        scale = 1024**2 if key in ("total", "aleatoric", "epistemic") else 1024
        np.testing.assert_allclose(value / scale, expected[key], rtol=1e-9, err_msg=key)


@each_estimator
@each_table
def test_powers_of_two_in_any_table_change_no_bit(name, backend, kind):
    # A log-normal's logarithms are shifted by the unit, and log 2 is no exact number.
    X, y = problem(name, kind)
    unit = np.array([4.0, 0.5, 1024.0])
    scaled = X @ sparse.diags_array(unit) if sparse.issparse(X) else X * unit
    factor = 1.0 if name.endswith("Classifier") or kind == "skewed" else 1024.0
    target = y if name.endswith("Classifier") else factor * y
    found, expected = (
        outputs(make(name, backend, kind).fit(scaled, target), scaled),
        outputs(fitted(name, backend, kind), X),
    )
    for key, value in found.items():
        power = 0 if name.endswith("Classifier") else 2 if key in ("total", "aleatoric", "epistemic") else 1
        np.testing.assert_allclose(value / factor**power, expected[key], rtol=1e-9, err_msg=key)


@each_regressor
def test_answers_follow_the_units_of_y(name, backend):
    X, y = regression()
    plain = outputs(make(name, backend, **WHOLE_BATCH, **no_dropout(name)).fit(X, y), X)
    scaled = outputs(make(name, backend, **WHOLE_BATCH, **no_dropout(name)).fit(X, 1000 * y + 5e4), X)
    for key, value in plain.items():
        if key in ("total", "aleatoric", "epistemic"):
            np.testing.assert_allclose(scaled[key], 1e6 * value, rtol=1e-2, atol=1e2, err_msg=key)
        else:
            shift = 0 if key == "std" else 5e4
            np.testing.assert_allclose(
                scaled[key], 1000 * value + shift, rtol=0, atol=3e-3 * 1000 * y.std(), err_msg=key
            )


@each_estimator
def test_units_of_x_do_not_matter(name, backend):
    X, y = problem(name)
    scale, shift = np.array([1e3, 1e-3, 7.0]), np.array([5e4, 0.0, -3.0])
    changes = {**WHOLE_BATCH, **no_dropout(name)}
    plain = outputs(make(name, backend, **changes).fit(X, y), X)
    scaled = outputs(make(name, backend, **changes).fit(scale * X + shift, y), scale * X + shift)
    for key in ("predict", "std", "proba", "interval", "quantiles"):
        if key in plain and not (key == "predict" and "proba" in plain):
            np.testing.assert_allclose(scaled[key], plain[key], rtol=0, atol=3e-3 * np.ptp(plain[key]), err_msg=key)


# Seeds


@each_estimator
def test_the_seed_decides(name, backend):
    X, y = problem(name)
    expected = outputs(fitted(name, backend), X)
    assert_same(outputs(make(name, backend).fit(X, y), X), expected)
    others = [make(name, backend, random_state=seed).fit(X, y) for seed in (1, None, None)]
    totals = [expected["total"], *(outputs(other, X)["total"] for other in others)]
    for i, one in enumerate(totals):
        for other in totals[:i]:
            assert np.abs(one - other).max() > 1e-6


@each_estimator
def test_a_random_state_instance_is_used_up(name, backend):
    X, y = problem(name)
    generator, twin = np.random.RandomState(3), np.random.RandomState(3)
    first = outputs(make(name, backend, random_state=generator).fit(X, y), X)
    second = outputs(make(name, backend, random_state=generator).fit(X, y), X)
    assert_same(outputs(make(name, backend, random_state=twin).fit(X, y), X), first)
    assert np.abs(first["total"] - second["total"]).max() > 1e-6


# Parameters


@each_estimator
def test_constructor_only_stores(name, backend):
    given = {**settings(name), "backend": backend}
    model = getattr(skuq, name)(**given)
    assert vars(model) == model.get_params(deep=False)
    assert given.items() <= vars(model).items()
    with pytest.raises(TypeError, match="positional"):
        getattr(skuq, name)((8,))
