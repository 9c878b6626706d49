r"""Scorers for model selection: ``GridSearchCV(estimator, grid, scoring=skuq.scorers.neg_nll)``.

=====================  =============  =======================================================================
name                   estimators     score (higher is better, as scikit-learn wants)
=====================  =============  =======================================================================
neg_nll                both           −:func:`skuq.metrics.nll`; for classifiers minus the log loss
neg_crps               regressors     −:func:`skuq.metrics.crps`
neg_interval_score     regressors     −:func:`skuq.metrics.interval_score` of ``predict_interval``
coverage_error         regressors     −\|coverage of ``predict_interval`` − nominal\|, so at most 0
neg_ece                classifiers    −:func:`skuq.metrics.ece`
neg_aurc               both           −:func:`skuq.metrics.aurc`
ood_auroc(X_ood)       both           :func:`skuq.metrics.ood_auroc` of the scored rows against `X_ood`
=====================  =============  =======================================================================

Each works on a bare estimator, a Pipeline or a fitted search. scikit-learn keeps no public register of names, so
``scoring="neg_nll"`` is unknown to it: pass the object, ``get_scorer("neg_nll")``, or for several scores a dict, which
may hold scikit-learn's own names too::

    scoring = {name: get_scorer(name) for name in ("neg_nll", "neg_crps")} | {"r2": "r2"}
    GridSearchCV(estimator, grid, scoring=scoring, refit="neg_nll")

With metadata routing, ``get_scorer("neg_nll").set_score_request(sample_weight=True)`` weights the score.
"""

from inspect import signature

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils.metadata_routing import UNUSED

from skuq import metrics

__all__ = [
    "UncertaintyScorer",
    "coverage_error",
    "get_scorer",
    "get_scorer_names",
    "neg_aurc",
    "neg_crps",
    "neg_ece",
    "neg_interval_score",
    "neg_nll",
    "ood_auroc",
]


class UncertaintyScorer(BaseEstimator):
    """Scorer of a fitted estimator's uncertainty, called as ``scorer(estimator, X, y)``.

    Made by :func:`get_scorer` and :func:`ood_auroc`. It is a ``BaseEstimator`` for what comes with one: clone, pickle,
    repr, ``set_score_request``, and parameters that a search can set.

    Parameters
    ----------
    metric : str
        One of :func:`get_scorer_names`, or "ood_auroc".
    options : dict, default=None
        Keyword arguments of the metric, such as ``{"coverage": 0.8}``.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.scorers import UncertaintyScorer
    >>> X, y = load_iris(return_X_y=True)
    >>> scorer = UncertaintyScorer("neg_ece", {"n_bins": 10})
    >>> -1 <= scorer(LogisticRegression(max_iter=1000).fit(X, y), X, y) <= 0
    True
    """

    # `estimator` is no metadata; without this scikit-learn would offer to route it.
    __metadata_request__score = {"estimator": UNUSED}

    def __init__(self, metric, options=None):
        self.metric = metric
        self.options = options

    @property
    def __name__(self):
        """Name of the metric, which scikit-learn's displays write on their axes."""
        return self.metric

    def __call__(self, estimator, X, y=None, *, sample_weight=None):
        """Score as :meth:`score` does."""
        return self.score(estimator, X, y, sample_weight=sample_weight)

    def score(self, estimator, X, y=None, sample_weight=None):
        """Score a fitted estimator on rows it did not see.

        Parameters
        ----------
        estimator : fitted estimator, Pipeline or search
        X : array-like of shape (n, n_features)
            As the estimator takes it: a Pipeline transforms it.
        y : array-like of shape (n,) or (n, t)
            Targets or labels; of no effect for "ood_auroc".
        sample_weight : array-like of shape (n,), default=None
            Weights of the rows.

        Returns
        -------
        float
            Higher is better.
        """
        options = {} if self.options is None else self.options
        return float(_find_metric(self.metric)(estimator, X, y, sample_weight, **options))

    def _accept_sample_weight(self):
        # A scikit-learn search over a dict of scorers asks each this before it hands weights on.
        return True


def get_scorer_names():
    """Names that :func:`get_scorer` knows.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from skuq.scorers import get_scorer_names
    >>> get_scorer_names()
    ['coverage_error', 'neg_aurc', 'neg_crps', 'neg_ece', 'neg_interval_score', 'neg_nll']
    """
    return sorted(_METRICS)


def get_scorer(name, **options):
    """Make a new scorer by name.

    New, so that a ``set_score_request`` on it does not reach other users of :data:`neg_nll` and the rest.

    Parameters
    ----------
    name : str
        One of :func:`get_scorer_names`.
    **options
        Keyword arguments of the metric: ``coverage`` for "neg_interval_score" and "coverage_error" (default 0.9),
        ``n_bins``, ``strategy`` and ``classwise`` for "neg_ece", ``uncertainty`` for "neg_aurc".

    Returns
    -------
    UncertaintyScorer

    Examples
    --------
    >>> from skuq.scorers import get_scorer
    >>> get_scorer("neg_interval_score", coverage=0.8)
    UncertaintyScorer(metric='neg_interval_score', options={'coverage': 0.8})
    """
    if name not in _METRICS:
        raise ValueError(
            f"name must be one of {get_scorer_names()}, got {name!r}. scikit-learn's own names go to "
            "sklearn.metrics.get_scorer; ood_auroc needs rows: skuq.scorers.ood_auroc(X_ood)."
        )
    accepted = list(signature(_METRICS[name]).parameters)[4:]
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise TypeError(f"{name} takes the options {accepted}, got {unknown}.")
    return UncertaintyScorer(name, options or None)


def ood_auroc(X_ood, *, uncertainty="total"):
    """Make a scorer of how well the uncertainty tells foreign rows from the rows it is scored on.

    Parameters
    ----------
    X_ood : array-like of shape (n_ood, n_features)
        Rows unlike the training data, as the estimator takes them. Not the ones that will be tested on.
    uncertainty : {"total", "aleatoric", "epistemic", "max_proba"}, default="total"
        A part of ``predict_uncertainty`` (its mean over several outputs), or one minus the highest probability,
        which any classifier of scikit-learn has too. A method of one network has no epistemic part.

    Returns
    -------
    UncertaintyScorer
        Score in [0, 1]; 0.5 is chance.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skuq.scorers import ood_auroc
    >>> X, y = load_iris(return_X_y=True)
    >>> scorer = ood_auroc(X[50:].mean(axis=0, keepdims=True), uncertainty="max_proba")
    >>> scorer(LogisticRegression(max_iter=1000).fit(X, y), X, y) > 0.9
    True
    """
    if uncertainty not in _UNCERTAINTIES:
        raise ValueError(f"uncertainty must be one of {list(_UNCERTAINTIES)}, got {uncertainty!r}.")
    return UncertaintyScorer("ood_auroc", {"X_ood": X_ood, "uncertainty": uncertainty})


_UNCERTAINTIES = ("total", "aleatoric", "epistemic", "max_proba")


def _find_metric(name):
    metric = _ood_auroc if name == "ood_auroc" else _METRICS.get(name)
    if metric is None:
        raise ValueError(f"metric must be 'ood_auroc' or one of {get_scorer_names()}, got {name!r}.")
    return metric


def _predict(estimator, X):
    """Predict what the metrics take as y_pred, distributions or probabilities, and the classes or None."""
    if is_classifier(estimator):
        # Pipelines and searches forward this one themselves.
        return estimator.predict_proba(X), estimator.classes_
    from skuq.composites import predict_dist

    return predict_dist(estimator, X), None


def _require(estimator, name, task, instead):
    if is_classifier(estimator) != (task == "classifier"):
        raise ValueError(f"{name} scores a {task}, got {type(estimator).__name__}. Use {instead}.")


def _neg_nll(estimator, X, y, sample_weight):
    y_pred, labels = _predict(estimator, X)
    return -metrics.nll(y, y_pred, labels=labels, sample_weight=sample_weight)


def _neg_crps(estimator, X, y, sample_weight):
    _require(estimator, "neg_crps", "regressor", 'neg_nll, or scikit-learn\'s "neg_brier_score"')
    return -metrics.crps(y, _predict(estimator, X)[0], sample_weight=sample_weight)


def _predict_interval(estimator, X, name, coverage):
    _require(estimator, name, "regressor", "neg_nll or neg_ece")
    # The estimator's own intervals, not its distribution's quantiles: conformal ones differ.
    from skuq.composites import predict_interval

    return predict_interval(estimator, X, coverage=coverage)


def _neg_interval_score(estimator, X, y, sample_weight, coverage=0.9):
    interval = _predict_interval(estimator, X, "neg_interval_score", coverage)
    return -metrics.interval_score(y, interval, coverage=coverage, sample_weight=sample_weight)


def _coverage_error(estimator, X, y, sample_weight, coverage=0.9):
    interval = _predict_interval(estimator, X, "coverage_error", coverage)
    # Output by output: one that covers too much must not hide another that covers too little.
    reached = metrics.coverage(y, interval, sample_weight=sample_weight, multioutput="raw_values")
    return -np.abs(reached - coverage).mean()


def _neg_ece(estimator, X, y, sample_weight, n_bins=15, strategy="uniform", classwise=False):
    _require(estimator, "neg_ece", "classifier", "coverage_error or neg_nll")
    prob, labels = _predict(estimator, X)
    options = {"n_bins": n_bins, "strategy": strategy, "classwise": classwise}
    return -metrics.ece(y, prob, labels=labels, sample_weight=sample_weight, **options)


def _neg_aurc(estimator, X, y, sample_weight, uncertainty=None):
    y_pred, labels = _predict(estimator, X)
    ranking = None if uncertainty is None else _uncertainty(estimator, X, uncertainty)
    return -metrics.aurc(y, y_pred, uncertainty=ranking, labels=labels, sample_weight=sample_weight)


def _ood_auroc(estimator, X, y, sample_weight, X_ood=None, uncertainty="total"):
    known, foreign = (_uncertainty(estimator, rows, uncertainty) for rows in (X, X_ood))
    known, foreign = (values.reshape(len(values), -1).mean(axis=1) for values in (known, foreign))
    if sample_weight is not None:
        # The area compares pairs across the two groups, so the weight that the foreign rows share cancels out.
        sample_weight = np.concatenate([sample_weight, np.ones(len(foreign))])
    is_ood = np.repeat([0, 1], [len(known), len(foreign)])
    return metrics.ood_auroc(is_ood, np.concatenate([known, foreign]), sample_weight=sample_weight)


def _uncertainty(estimator, X, kind):
    if kind == "max_proba":
        _require(estimator, "uncertainty='max_proba'", "classifier", "uncertainty='total'")
        return 1 - estimator.predict_proba(X).max(axis=1)
    from skuq.composites import predict_uncertainty

    return np.asarray(getattr(predict_uncertainty(estimator, X), kind))


_METRICS = {
    "coverage_error": _coverage_error,
    "neg_aurc": _neg_aurc,
    "neg_crps": _neg_crps,
    "neg_ece": _neg_ece,
    "neg_interval_score": _neg_interval_score,
    "neg_nll": _neg_nll,
}

#: Minus the negative log-likelihood, in nats: for classifiers minus the log loss.
neg_nll = get_scorer("neg_nll")
#: Minus the continuous ranked probability score, in y's units.
neg_crps = get_scorer("neg_crps")
#: Minus the interval score of 90 % intervals, in y's units.
neg_interval_score = get_scorer("neg_interval_score")
#: Minus the distance of the coverage of 90 % intervals from 0.9.
coverage_error = get_scorer("coverage_error")
#: Minus the expected calibration error of the predicted label over 15 equal-width bins.
neg_ece = get_scorer("neg_ece")
#: Minus the area under the risk–coverage curve.
neg_aurc = get_scorer("neg_aurc")
