"""The rows of the benchmark: data, the function of each side, the ratios asked for, how quality is judged.

A side is one function ``(data, run) -> predict``, named "module:function" so that only the process that runs it imports
its framework. A row times either that call (the fit) or ``predict(data.query)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import special, stats
from sklearn.datasets import load_diabetes, make_moons
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

BACKENDS = ("tensorflow", "blitz")


@dataclass(frozen=True)
class Data:
    """One task.

    Attributes
    ----------
    X, y : ndarray of shape (n_rows, n_features), (n_rows,)
    X_test, y_test : ndarray
        Rows that judge both sides.
    foreign : ndarray of shape (n_foreign, n_features) or None
        Rows out of the domain.
    query : ndarray or None
        Rows whose prediction is timed.
    """

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    foreign: np.ndarray | None = None
    query: np.ndarray | None = None


@dataclass(frozen=True)
class Run:
    """What a side is told: epochs of the same work, the seed, and for skuq backend and device."""

    epochs: int
    seed: int = 0
    backend: str | None = None
    device: str = "cpu"
    quick: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    title : str
    data : callable(folder of the UCI files, quick) -> Data
    hand, skuq : str or None
        "module:function".
    judge : callable(data, predict) -> dict of float
    epochs, quick_epochs : int
    asked : tuple of float
        Hand-written time over skuq's, for each of `BACKENDS`; () where nothing is asked.
    timed : {"fit", "predict"}
    compared : {"warm", "cold"}
        Which ratio `asked` is about; cold is the first run of a process, compilation included, imports not.
    needs : str or None
        File below the data folder.
    """

    title: str
    data: Callable[[Path, bool], Data]
    hand: str | None
    skuq: str
    judge: Callable[[Data, Callable], dict]
    epochs: int
    quick_epochs: int = 2
    asked: tuple[float, ...] = ()
    timed: str = "fit"
    compared: str = "warm"
    needs: str | None = None


# Data.


def tutorial_moons(folder, quick):
    """Two moons of TensorFlow's SNGP tutorial, with its 100 × 100 grid and its rows out of the domain."""

    def moons(seed):
        X, y = make_moons(1000, noise=0.1, random_state=seed)
        X[y == 0] += [-0.1, 0.2]
        X[y == 1] += [0.1, -0.2]
        return X, y

    n_grid = 20 if quick else 100
    across, up = np.linspace(-3.5, 3.5, n_grid), np.linspace(-2.5, 2.5, n_grid)
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    foreign = np.random.default_rng(0).multivariate_normal([2.5, -1.75], 0.01 * np.eye(2), size=500)
    return Data(*moons(0), *moons(1), foreign, grid)


def small_moons(folder, quick):
    """375 rows of two moons; 2000 more to judge by."""
    return Data(*make_moons(375, noise=0.2, random_state=0), *make_moons(2000, noise=0.2, random_state=1))


def diabetes(folder, quick):
    X, y = load_diabetes(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=42)
    return Data(X, y, X_test, y_test)


def uci(folder, quick, name):
    """First of the 20 standard splits. Both sides get the distinct training rows, for skuq merges equal rows."""
    with np.load(folder / "uci" / f"{name}.npz") as file:
        X, y, test = file["X"], file["y"], file["test_index_00"]
    train = np.ones(len(y), bool)
    train[test] = False
    distinct = np.unique(np.column_stack([X[train], y[train]]), axis=0)
    distinct = np.random.default_rng(0).permutation(distinct)
    return Data(distinct[:, :-1], distinct[:, -1], X[test], y[test], query=X[test])


def tfp_tutorial(folder, quick):
    """Draw a noisy line with a wave, x in [−20, 60], as TFP's tutorial on probabilistic layers does; 100 rows."""

    def draw(n, rng):
        x = rng.uniform(-20, 60, n)
        noise = 3 * (0.25 + ((x + 20) / 80) ** 2)
        return x[:, None], 0.125 * x * (1 + np.sin(x)) + 5 + noise * rng.standard_normal(n)

    rng = np.random.default_rng(43)
    return Data(*draw(100, rng), *draw(1000, rng))


def tall(folder, quick, n_rows, classes=False, n_query=0):
    """`n_rows` × 20 normal inputs, float32; a smooth target with noise, or two classes by its sign."""
    n_rows, n_query = (n_rows // 100, n_query // 100) if quick else (n_rows, n_query)
    rng = np.random.default_rng(0)

    def draw(n):
        X = rng.standard_normal((n, 20), dtype=np.float32)
        y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * X[:, 3] + 0.3 * rng.standard_normal(n, dtype=np.float32)
        return X, (y > 0).astype(int) if classes else y.astype(float)

    query = rng.standard_normal((n_query, 20), dtype=np.float32) if n_query else None
    return Data(*draw(n_rows), *draw(2000), query=query)


# Quality.


def judge_classes(data, predict):
    """Test NLL in nats; AUROC of 1 − highest probability for rows out of the domain against test rows."""

    def probabilities(X):
        answer = predict(X)
        return answer[0] if isinstance(answer, tuple) else answer

    test = probabilities(data.X_test)
    quality = {"nll": float(-np.log(np.clip(test[np.arange(len(test)), data.y_test], 1e-12, None)).mean())}
    if data.foreign is not None:
        doubt = 1 - np.concatenate([test, probabilities(data.foreign)]).max(axis=1)
        quality["auroc"] = float(roc_auc_score(np.repeat([0, 1], [len(test), len(data.foreign)]), doubt))
    return quality


def judge_values(data, predict):
    """Test NLL in nats, in y's units, of the equal mixture of the draws (loc, scale), each (n_draws, n_rows)."""
    loc, scale = predict(data.X_test)
    log_density = special.logsumexp(stats.norm.logpdf(data.y_test, loc, scale), axis=0) - np.log(len(loc))
    return {"nll": float(-log_density.mean())}


def judge_intervals(data, predict):
    """Share of the test rows inside their 90 % intervals."""
    low, high = predict(data.X_test).T
    return {"coverage": float(np.mean((low <= data.y_test) & (data.y_test <= high)))}


def scale_row(n_rows):
    """Fit skuq alone, with its defaults, five epochs, on `n_rows` × 20."""
    return Row(
        f"ProbabilisticRegressor, {n_rows:,} × 20, 5 epochs",
        partial(tall, n_rows=n_rows),
        None,
        "_with_skuq:fit_tall",
        judge_values,
        epochs=5,
    )


wine = partial(uci, name="wine-red")
wine_needs = "uci/wine-red.npz"

ROWS = {
    "sngp-fit": Row(
        "SNGP tutorial, fit",
        tutorial_moons,
        "_handwritten_sngp:fit_sngp",
        "_with_skuq:fit_sngp",
        judge_classes,
        epochs=100,
        asked=(5, 2),
    ),
    "sngp-grid": Row(
        "SNGP tutorial, probabilities and variances of its grid",
        tutorial_moons,
        "_handwritten_sngp:fit_sngp",
        "_with_skuq:fit_sngp",
        judge_classes,
        epochs=100,
        asked=(20, 20),
        timed="predict",
    ),
    "ensemble-fit": Row(
        "10 deterministic networks of the SNGP tutorial, fit",
        tutorial_moons,
        "_handwritten_keras:fit_ensemble",
        "_with_skuq:fit_ensemble",
        judge_classes,
        epochs=100,
        asked=(4, 2),
    ),
    "dropout-grid": Row(
        "MC dropout, 10 passes over the grid",
        tutorial_moons,
        "_handwritten_keras:fit_dropout",
        "_with_skuq:fit_dropout",
        judge_classes,
        epochs=100,
        asked=(4, 4),
        timed="predict",
    ),
    "bnn-moons": Row(
        "BNN on moons, 2-15-10-2, 3 samples a step, fit",
        small_moons,
        "_handwritten_blitz:fit_moons",
        "_with_skuq:fit_moons",
        judge_classes,
        epochs=100,
        asked=(50, 10),
    ),
    "bnn-diabetes": Row(
        "BNN on diabetes, 512 hidden, 3 samples a step, fit",
        diabetes,
        "_handwritten_blitz:fit_diabetes",
        "_with_skuq:fit_diabetes",
        judge_values,
        epochs=100,
        asked=(20, 8),
    ),
    "pbnn-fit": Row(
        "PBNN on wine-red, full covariance, fit",
        wine,
        "_handwritten_tfp:fit_wine",
        "_with_skuq:fit_wine",
        judge_values,
        epochs=100,
        asked=(15, 5),
        needs=wine_needs,
    ),
    "pbnn-draws": Row(
        "PBNN on wine-red, 100 draws of 160 rows",
        wine,
        "_handwritten_tfp:fit_wine",
        "_with_skuq:fit_wine",
        judge_values,
        epochs=100,
        asked=(500, 500),
        timed="predict",
        needs=wine_needs,
    ),
    "linear-fit": Row(
        "Linear normal regression of TFP's tutorial, fit",
        tfp_tutorial,
        "_handwritten_tfp:fit_linear",
        "_with_skuq:fit_linear",
        judge_values,
        epochs=200,
        asked=(10, 5),
    ),
    "defaults-sngp": Row(
        "SNGP tutorial against skuq's defaults, fit",
        tutorial_moons,
        "_handwritten_sngp:fit_sngp",
        "_with_skuq:default_sngp",
        judge_classes,
        epochs=100,
        asked=(15, 8),
    ),
    "defaults-ensemble": Row(
        "10 networks of the tutorial against skuq's defaults, fit",
        tutorial_moons,
        "_handwritten_keras:fit_ensemble",
        "_with_skuq:default_ensemble",
        judge_classes,
        epochs=100,
        asked=(10, 5),
    ),
    "defaults-bnn": Row(
        "BLiTZ moons of 1000 epochs against skuq's defaults, fit",
        small_moons,
        "_handwritten_blitz:fit_moons",
        "_with_skuq:default_bnn",
        judge_classes,
        epochs=1000,
        asked=(50, 30),
    ),
    "mlp-regressor": Row(
        "MLPRegressor, 10,000 × 20, fit",
        partial(tall, n_rows=10_000),
        "_handwritten_sklearn:fit_regressor",
        "_with_skuq:fit_mlp_regressor",
        judge_values,
        epochs=200,
        asked=(2, 1),
        compared="cold",
    ),
    "mlp-classifier": Row(
        "MLPClassifier, 10,000 × 20, fit",
        partial(tall, n_rows=10_000, classes=True),
        "_handwritten_sklearn:fit_classifier",
        "_with_skuq:fit_mlp_classifier",
        judge_classes,
        epochs=200,
        asked=(2, 1),
        compared="cold",
    ),
    "grid-search": Row(
        "GridSearchCV, 8 alphas × 5 folds on concrete",
        partial(uci, name="concrete"),
        "_handwritten_sklearn:search",
        "_with_skuq:search",
        judge_values,
        epochs=100,
        asked=(2, 1),
        needs="uci/concrete.npz",
    ),
    "scale-1e4": scale_row(10_000),
    "scale-1e5": scale_row(100_000),
    "scale-1e6": scale_row(1_000_000),
    "scale-interval": Row(
        "predict_interval, 100 draws of 1,000,000 rows",
        partial(tall, n_rows=10_000, n_query=1_000_000),
        None,
        "_with_skuq:fit_intervals",
        judge_intervals,
        epochs=20,
        timed="predict",
    ),
}
