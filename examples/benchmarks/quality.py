"""How right the uncertainty is, with defaults only: five regressors on the UCI splits, five classifiers on CLINC150.

    python examples/benchmarks/quality.py [--backend blitz] [--splits 20] [--sets yacht energy]
                                             [--methods DeepEnsemble SNGP] [--only uci clinc discrete] [--conformal]

Nothing is tuned for a set: each estimator is constructed with its backend and seed and nothing else. Writes a CSV of
all splits, a table beside the published numbers, and a picture of both. Splits run side by side, one process a core, so
seconds are those of one core. ``--conformal`` adds ``calibration="conformal"`` for the first method. The section
``discrete`` scores simulated tables of categories, counts and rounded numbers beside scikit-learn's linear models and boosted
trees; it needs no benchmark data.
"""

import argparse
import csv
import gzip
import json
from pathlib import Path
from time import perf_counter

import matplotlib
import numpy as np
from _discrete import run_discrete
from joblib import Parallel, delayed, parallel_config
from scipy.stats import ortho_group
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer

import skuq
from skuq import backends, metrics

matplotlib.use("Agg")
import matplotlib.pyplot as plt

METHODS = ("Probabilistic", "MCDropout", "DeepEnsemble", "BNN", "SNGP")
SECTIONS = ("uci", "clinc", "discrete")
SETS = ("concrete", "energy", "wine-red", "yacht")
# The published rows that most readers will look for; the file holds many more.
PUBLISHED = (
    "PBP",
    "MC dropout (2018 grid search, 100x epochs, 1 layer)",
    "Deep Ensembles (M=5)",
    "NGBoost (Normal)",
    "Gaussian process (ARD; SGPR-1000 if N>2000)",
    "DVI (heteroscedastic)",
)
MEASURES = ("rmse", "nll", "crps", "coverage", "width", "fit_s", "predict_s")


def regression_scores(model, X_train, y_train, X_test, y_test) -> dict:
    """Fit and score one regressor on one split, in y's units."""
    start = perf_counter()
    model.fit(X_train, y_train)
    fitted = perf_counter()
    distribution = model.predict_dist(X_test)
    interval = model.predict_interval(X_test, coverage=0.9)
    predicted = perf_counter()
    return {
        "rmse": float(np.sqrt(np.mean((distribution.mean() - y_test) ** 2))),
        "nll": metrics.nll(y_test, distribution),
        "crps": metrics.crps(y_test, distribution),
        "coverage": metrics.coverage(y_test, interval),
        "width": metrics.mean_width(y_test, interval),
        "fit_s": fitted - start,
        "predict_s": predicted - fitted,
    }


def run_split(data: Path, name: str, method: str, backend: str, split: int, calibration=None) -> dict:
    """One method on one split of one set."""
    with np.load(data / "uci" / f"{name}.npz") as file:
        X, y, test = file["X"], file["y"], file[f"test_index_{split:02d}"]
    train = np.setdiff1d(np.arange(len(y)), test)
    model = getattr(skuq, f"{method}Regressor")(backend=backend, random_state=split, calibration=calibration)
    scores = regression_scores(model, X[train], y[train], X[test], y[test])
    label = method if calibration is None else f"{method}+{calibration[:4]}"
    return {"set": name, "method": label, "backend": backend, "split": split, **scores}


def run_regression(data: Path, backend: str, sets, methods, n_splits: int, conformal: bool) -> list[dict]:
    """Scores of every method on every split: one row each."""
    rows = []
    cases = [(method, None) for method in methods] + ([(methods[0], "conformal")] if conformal else [])
    with parallel_config("loky", inner_max_num_threads=1), Parallel(n_jobs=-1) as parallel:
        for name in sets:
            for method, calibration in cases:
                splits = range(n_splits)
                done = parallel(delayed(run_split)(data, name, method, backend, k, calibration) for k in splits)
                rows += done
                print_summary(rows, name, done[0]["method"], backend)
    return rows


def of(rows, name, method, backend, measure) -> np.ndarray:
    """One measure over the splits."""
    chosen = [r for r in rows if (r["set"], r["method"], r["backend"]) == (name, method, backend)]
    return np.array([row[measure] for row in chosen])


def print_summary(rows, name, method, backend):
    """Mean ± standard error over the splits."""
    cells = []
    for measure in MEASURES:
        values = of(rows, name, method, backend, measure)
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        cells.append(f"{values.mean():8.3f} ± {error:.3f}")
    print(f"{name:9s} {method:14s} {backend:11s}" + "".join(f"{cell:>18s}" for cell in cells), flush=True)


def print_published(data: Path, sets):
    """Published means ± standard errors for the same splits."""
    with open(data / "published.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["benchmark"] == "uci20" and row["method"] in PUBLISHED]
    print("\nPublished (RMSE, NLL):")
    for name in sets:
        for method in PUBLISHED:
            found = {r["metric"]: r for r in rows if r["dataset"] == name and r["method"] == method}
            cells = [
                f"{float(found[m]['mean']):.2f} ± {found[m]['stderr'] or '?'}" if m in found else "–"
                for m in ("rmse", "nll")
            ]
            print(f"{name:9s} {method:52s}" + "".join(f"{cell:>20s}" for cell in cells))
    return rows


def draw(rows, published, sets, path: Path):
    """NLL of each method and set, with the published rows as lines."""
    figure, axes = plt.subplots(1, len(sets), figsize=(3.5 * len(sets), 4), layout="constrained", squeeze=False)
    methods, used = (list(dict.fromkeys(row[key] for row in rows)) for key in ("method", "backend"))
    for ax, name in zip(axes[0], sets, strict=True):
        for k, backend in enumerate(used):
            scores = [of(rows, name, method, backend, "nll") for method in methods]
            at = np.arange(len(methods)) + 0.2 * (k - (len(used) - 1) / 2)
            errors = [values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0 for values in scores]
            means = [values.mean() for values in scores]
            ax.errorbar(at, means, yerr=errors, fmt="o", color="C0" if backend == "tensorflow" else "C1", label=backend)
        known = [float(r["mean"]) for r in published if r["dataset"] == name and r["metric"] == "nll"]
        ax.hlines(known, -0.5, len(methods) - 0.5, color="0.7", linewidth=0.8, zorder=0, label="published")
        ax.set_title(name)
        ax.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
    axes[0, 0].set_ylabel("NLL, nats (lower is better)")
    axes[0, 0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def text_features(seed: int, n_components: int = 1500):
    """TF-IDF of words and of characters, reduced by a truncated SVD.

    Hashing has no vocabulary, so what no training text holds still counts in the length of a row, and a text of unknown
    words comes out short. The rotation spreads the few large components over all columns: models that standardise columns
    would otherwise blow up the small ones.
    """

    def tf_idf(**form):
        counts = HashingVectorizer(norm=None, alternate_sign=False, n_features=2**18, **form)
        return make_pipeline(counts, TfidfTransformer(sublinear_tf=True))

    rotation = ortho_group.rvs(n_components, random_state=seed)
    return make_pipeline(
        make_union(tf_idf(ngram_range=(1, 2)), tf_idf(analyzer="char_wb", ngram_range=(1, 4))),
        VarianceThreshold(),  # columns that no training text fills
        TruncatedSVD(n_components, n_iter=4, random_state=seed),
        FunctionTransformer(np.dot, kw_args={"b": rotation}),
    )


def run_clinc(data: Path, backend: str, seed: int) -> list[dict]:
    """Accuracy, NLL, ECE and out-of-scope ranking of the classifiers, and of scikit-learn's on the same features."""
    with gzip.open(data / "clinc" / "clinc150.json.gz", "rt") as file:
        clinc = json.load(file)
    train, test = (list(zip(*clinc[part], strict=True)) for part in ("train", "test"))
    foreign = [row[0] if isinstance(row, list) else row for row in clinc["oos_test"]]
    features = text_features(seed).fit(train[0])
    X, X_test, X_foreign = (features.transform(part) for part in (train[0], test[0], foreign))
    models = {
        f"{method}Classifier": getattr(skuq, f"{method}Classifier")(backend=backend, random_state=seed)
        for method in METHODS
    }
    models |= {
        "LogisticRegression": LogisticRegression(C=10, max_iter=1000),
        "MLPClassifier": MLPClassifier(early_stopping=True, random_state=seed),
    }
    rows = []
    for name, model in models.items():
        start = perf_counter()
        model.fit(X, np.array(train[1]))
        fitted = perf_counter()
        inside, outside = model.predict_proba(X_test), model.predict_proba(X_foreign)
        is_ood = np.repeat([False, True], [len(inside), len(outside)])
        doubt = 1 - np.concatenate([inside, outside]).max(axis=1)
        row = {
            "model": name,
            "backend": backend if name.startswith(METHODS) else "scikit-learn",
            "accuracy": float(np.mean(model.classes_[inside.argmax(axis=1)] == np.array(test[1]))),
            "nll": metrics.nll(np.array(test[1]), inside, labels=model.classes_),
            "ece": metrics.ece(np.array(test[1]), inside, labels=model.classes_),
            "auroc": metrics.ood_auroc(is_ood, doubt),
            "aupr": metrics.ood_aupr(is_ood, doubt),
            "fit_s": fitted - start,
        }
        if name.startswith(METHODS):
            uncertainty = model.predict_uncertainty(np.concatenate([X_test, X_foreign]))
            row |= {
                f"auroc_{part}": metrics.ood_auroc(is_ood, getattr(uncertainty, part))
                for part in ("total", "epistemic")
            }
        rows.append(row)
        print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{v:22s}" for k, v in row.items()), flush=True)
    return rows


def write_csv(rows, path: Path):
    """All rows under the union of their columns."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def main():
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the benchmark data")
    parser.add_argument("--output", type=Path, default=Path("bench-output"))
    parser.add_argument("--backend", choices=list(backends.BACKENDS), help="default: each that is installed")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--splits", type=int, default=20, choices=range(1, 21), metavar="1…20")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections to run; default: all")
    parser.add_argument("--no-clinc", action="store_true")
    parser.add_argument("--conformal", action="store_true", help="also score calibrated intervals (six fits a split)")
    options = parser.parse_args()
    sections = set(options.only) - ({"clinc"} if options.no_clinc else set())
    if sections & {"uci", "clinc"} and not (options.data / "uci").is_dir():
        parser.error(f"no benchmark data at {options.data}: expected uci/<set>.npz there; name the folder with --data")
    options.output.mkdir(parents=True, exist_ok=True)
    used = [options.backend] if options.backend else backends.available()
    if "uci" in sections:
        header = "".join(f"{measure:>18s}" for measure in MEASURES)
        print(f"{'set':9s} {'method':14s} {'backend':11s}{header}")
        rows = [
            row
            for backend in used
            for row in run_regression(
                options.data, backend, options.sets, options.methods, options.splits, options.conformal
            )
        ]
        write_csv(rows, options.output / "quality_regression.csv")
        draw(rows, print_published(options.data, options.sets), options.sets, options.output / "quality_regression.png")
    if "clinc" in sections:
        print("\nCLINC150:")
        write_csv(
            [row for backend in used for row in run_clinc(options.data, backend, options.seed)],
            options.output / "quality_clinc.csv",
        )
    if "discrete" in sections:
        print("\nCategories, counts and rounded numbers:")
        write_csv(
            [row for backend in used for row in run_discrete(options.methods, backend, options.seed)],
            options.output / "quality_discrete.csv",
        )


if __name__ == "__main__":
    main()
