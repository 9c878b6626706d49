"""Tune the prior and the regularizer on the negative log-likelihood, as one tunes any scikit-learn estimator.

    python examples/tune_on_nll.py [--backend blitz]

Two searches on scikit-learn's diabetes data: ``alpha`` of a probabilistic network, and ``prior_scale`` of a Bayesian
one. R² cannot see whether the noise is right; the NLL judges the whole predictive distribution, so it is the score to
search on. ``alpha`` and ``prior_scale`` are numbers of the compiled training function: a grid over them compiles once.
"""

import argparse

from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

import skuq
from skuq import metrics, scorers


def search(estimator, grid, X, y):
    """Grid search on the NLL; also records CRPS and the coverage error of the same folds."""
    pipeline = make_pipeline(QuantileTransformer(n_quantiles=100, output_distribution="normal"), estimator)
    scoring = {"nll": scorers.neg_nll, "crps": scorers.neg_crps, "coverage": scorers.coverage_error}
    folds = KFold(5, shuffle=True, random_state=0)
    return GridSearchCV(pipeline, grid, scoring=scoring, refit="nll", cv=folds).fit(X, y)


def report(fitted, name, X_test, y_test):
    """Print the table of the search, then the chosen model's scores on rows the search has not seen."""
    results = fitted.cv_results_
    print(f"\n{name:>40s}      NLL     CRPS  coverage error")
    for value, nll, crps, coverage in zip(
        results[f"param_{name}"],
        results["mean_test_nll"],
        results["mean_test_crps"],
        results["mean_test_coverage"],
        strict=True,
    ):
        print(f"{value:40g}  {-nll:7.3f}  {-crps:7.2f}  {-coverage:14.3f}")
    distribution = skuq.predict_dist(fitted, X_test)
    interval = skuq.predict_interval(fitted, X_test, coverage=0.9)
    print(
        f"chosen: {fitted.best_params_[name]:g}; test NLL {metrics.nll(y_test, distribution):.3f}, CRPS "
        f"{metrics.crps(y_test, distribution):.2f}, coverage of 90 % intervals {metrics.coverage(y_test, interval):.3f}"
    )


def main():
    """Search both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["auto", "tensorflow", "blitz"], default="auto")
    backend = parser.parse_args().backend
    X, y = load_diabetes(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=0)

    network = skuq.ProbabilisticRegressor(backend=backend, random_state=0)
    name = "probabilisticregressor__alpha"
    report(search(network, {name: [1e-5, 1e-3, 1e-2, 1e-1]}, X_train, y_train), name, X_test, y_test)

    bayesian = skuq.BNNRegressor(prior_scale=1.0, kl_weight=1.0, backend=backend, random_state=0)
    name = "bnnregressor__prior_scale"
    report(search(bayesian, {name: [0.03, 0.1, 0.3, 1.0]}, X_train, y_train), name, X_test, y_test)


if __name__ == "__main__":
    main()
