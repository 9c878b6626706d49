"""Two moons: who is certain where there are no data? The picture of the SNGP paper and of TensorFlow's tutorial."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.datasets import make_moons

import skuq
from skuq import metrics

from ._tables import table

METHODS = {
    "deterministic": skuq.ProbabilisticClassifier,
    "MC dropout": skuq.MCDropoutClassifier,
    "deep ensemble": skuq.DeepEnsembleClassifier,
    "SNGP": skuq.SNGPClassifier,
}
X_RANGE, Y_RANGE, N_GRID = (-3.5, 3.5), (-2.5, 2.5), 140
CLASS_COLORS, FOREIGN_COLOR = ("#ffb25e", "#7db8ff"), "#ee2b3b"


def make_data(seed: int):
    """1000 rows of two moons pulled apart: X (1000, 2) and classes y (1000,)."""
    X, y = make_moons(1000, noise=0.1, random_state=seed)
    X[y == 0] += [-0.1, 0.2]
    X[y == 1] += [0.1, -0.2]
    return X, y


def make_foreign(seed: int):
    """500 rows far from both moons, (500, 2)."""
    return np.random.default_rng(seed).multivariate_normal([2.5, -1.75], 0.01 * np.eye(2), size=500)


def run(backend: str, seed: int, output: Path) -> None:
    """Fit the four methods; print how certain they are out of the domain; draw it."""
    X, y = make_data(seed)
    X_test, y_test = make_data(seed + 1000)
    foreign = make_foreign(seed)
    print(f"Two moons: {len(y)} rows to train on, {len(y_test)} to test on, {len(foreign)} out of the domain.\n")
    rows, models = [], {}
    is_foreign = np.repeat([0, 1], [len(X_test), len(foreign)])
    for name, classifier in METHODS.items():
        model = models[name] = classifier(backend=backend, random_state=seed).fit(X, y)
        top, top_foreign = model.predict_proba(X_test).max(axis=1), model.predict_proba(foreign).max(axis=1)
        auroc = metrics.ood_auroc(is_foreign, 1 - np.concatenate([top, top_foreign]))
        rows.append([name, f"{model.score(X_test, y_test):.3f}", f"{auroc:.3f}", f"{top_foreign.mean():.2f}"])
    print(table(["method", "accuracy", "OOD AUROC", "top probability out of domain"], rows))
    print("(OOD AUROC: how often 1 − highest probability ranks a row out of the domain above a test row.)\n")
    if find_spec("matplotlib") is None:
        print("No picture: matplotlib is not installed. Install it with pip install 'skuq[plot]'.\n")
        return
    output.mkdir(parents=True, exist_ok=True)
    path = output / f"two_moons_{backend}.png"
    draw(models, X, y, foreign, path)
    print(f"Picture: {path}\n")


def draw(models, X, y, foreign, path: Path) -> None:
    """Probability (above) and uncertainty (below) of every model over the plane, as one PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across, up = np.linspace(*X_RANGE, N_GRID), np.linspace(*Y_RANGE, N_GRID)
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(models), sharex=True, sharey=True)
    for column, (name, model) in zip(axes.T, models.items(), strict=True):
        probability = model.predict_proba(grid)
        surfaces = (
            (probability[:, 1], {"cmap": "PuOr", "vmin": 0, "vmax": 1}),
            (1 - probability.max(axis=1), {"cmap": "viridis", "vmin": 0, "vmax": 0.5}),
        )
        for axis, (surface, options) in zip(column, surfaces, strict=True):
            axis.imshow(
                surface.reshape(N_GRID, N_GRID), extent=(*X_RANGE, *Y_RANGE), origin="lower", aspect="auto", **options
            )
            for code, color in enumerate(CLASS_COLORS):
                axis.scatter(*X[y == code].T, s=2, color=color, label=f"class {code}")
            axis.scatter(*foreign.T, s=2, color=FOREIGN_COLOR, label="out of domain")
            axis.set(xlim=X_RANGE, ylim=Y_RANGE)
        column[0].set_title(name)
    for row, label in zip(axes, ("probability of class 1", "1 − highest probability"), strict=True):
        figure.colorbar(row[0].images[0], ax=row, pad=0.01).set_label(label)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, markerscale=4, frameon=False
    )
    figure.savefig(path, dpi=150)
