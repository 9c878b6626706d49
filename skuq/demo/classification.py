"""Classification: digits 0–7 to learn, 8 and 9 never seen before the test."""

from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skuq
from skuq import metrics, scorers

from ._tables import table

CLASSIFIERS = (
    skuq.ProbabilisticClassifier,
    skuq.MCDropoutClassifier,
    skuq.DeepEnsembleClassifier,
    skuq.BNNClassifier,
    skuq.SNGPClassifier,
)
UNSEEN = (8, 9)
ALPHAS = [1e-5, 1e-4, 1e-3, 1e-2]


def run(backend: str, seed: int) -> None:
    """Fit the five classifiers; print how well they classify seen digits and tell unseen ones; tune alpha."""
    X, y = load_digits(return_X_y=True)
    unseen = np.isin(y, UNSEEN)
    X_train, X_test, y_train, y_test = train_test_split(
        X[~unseen], y[~unseen], test_size=0.25, random_state=seed, stratify=y[~unseen]
    )
    X_unseen = X[unseen]
    print(
        f"Classification: digits 0–7, {len(y_train)} images to train on, {len(y_test)} to test on; "
        f"{len(X_unseen)} images of 8 and 9 were never seen.\n"
    )
    rows = []
    for classifier in CLASSIFIERS:
        model = make_pipeline(StandardScaler(), classifier(backend=backend, random_state=seed))
        started = perf_counter()
        model.fit(X_train, y_train)
        seconds = perf_counter() - started
        scores = score(model, X_test, y_test, X_unseen)
        rows.append([classifier.__name__.removesuffix("Classifier"), *scores, f"{seconds:.1f}"])
    print(table(["method", "accuracy", "NLL", "AUROC total", "AUROC epistemic", "fit, s"], rows))
    print(
        "(AUROC: how often predict_uncertainty ranks an unseen digit above a held-out seen one.\n"
        "One network alone has no epistemic part.)\n"
    )
    tune(backend, seed, X_train, y_train, X_test, y_test, X_unseen)


def score(model, X_test, y_test, X_unseen) -> list[str]:
    """Accuracy, NLL and both AUROCs of a fitted model, as text."""
    seen, unseen = (skuq.predict_uncertainty(model, rows) for rows in (X_test, X_unseen))
    is_unseen = np.repeat([0, 1], [len(X_test), len(X_unseen)])
    total = metrics.ood_auroc(is_unseen, np.concatenate([seen.total, unseen.total]))
    epistemic = np.concatenate([seen.epistemic, unseen.epistemic])
    return [
        f"{model.score(X_test, y_test):.1%}",
        f"{metrics.nll(y_test, model.predict_proba(X_test)):.3f}",
        f"{total:.3f}",
        f"{metrics.ood_auroc(is_unseen, epistemic):.3f}" if epistemic.any() else "–",
    ]


def tune(backend, seed, X_train, y_train, X_test, y_test, X_unseen) -> None:
    """Choose alpha by the cross-validated likelihood and score the choice on the held-out digits."""
    pipeline = make_pipeline(StandardScaler(), skuq.ProbabilisticClassifier(backend=backend, random_state=seed))
    search = GridSearchCV(
        pipeline,
        {"probabilisticclassifier__alpha": ALPHAS},
        scoring=scorers.neg_nll,
        cv=StratifiedKFold(3, shuffle=True, random_state=seed),
    )
    started = perf_counter()
    search.fit(X_train, y_train)
    seconds = perf_counter() - started
    best = search.best_params_["probabilisticclassifier__alpha"]
    rows = [
        [f"{alpha:g}{' (best)' if alpha == best else ''}", f"{-value:.4f}"]
        for alpha, value in zip(ALPHAS, search.cv_results_["mean_test_score"], strict=True)
    ]
    print(f"GridSearchCV over alpha of ProbabilisticClassifier, 3 folds, {seconds:.1f} s:\n")
    print(table(["alpha", "NLL of held-out folds"], rows))
    # search.score would be the negative NLL; the best estimator's own is the accuracy.
    accuracy, nll, total, _ = score(search.best_estimator_, X_test, y_test, X_unseen)
    print(f"On the test images: accuracy {accuracy}, NLL {nll}, AUROC total {total}.\n")
