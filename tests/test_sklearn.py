"""scikit-learn's own checks: ten estimators × two backends, the checks it keeps for itself, and plain defaults."""

import pytest
from _expected_failures import EXPECTED_FAILED_CHECKS
from _table import ESTIMATORS, case, each_estimator, make, marks_of
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_inplace_ensure_writeable,
    check_param_validation,
    parametrize_with_checks,
)

import skuq
from skuq import backends

# Checks fit about fifty shapes of data: few units and no siblings, but steps enough to learn.
FAST = {"hidden_layer_sizes": (8,), "max_iter": 40, "early_stopping": False}
DEFAULTS = ["SNGPClassifier", "BNNRegressor", "ProbabilisticRegressor", "MCDropoutClassifier", "DeepEnsembleClassifier"]


def fast(name, backend):
    """Estimator as the checks take it: they set `random_state` themselves."""
    return make(name, backend, **FAST)


def checks_on(backend):
    """Decorate a test to run over all checks of the ten on a backend, in that backend's worker."""

    def decorate(test):
        estimators = [fast(name, backend) for name in ESTIMATORS]
        test = parametrize_with_checks(estimators, expected_failed_checks=expected_failures)(test)
        for mark in marks_of(backend):
            test = mark(test)
        return test

    return decorate


def expected_failures(estimator):
    return EXPECTED_FAILED_CHECKS.get((type(estimator).__name__, estimator.backend), {})


@checks_on("tensorflow")
def test_checks_on_tensorflow(estimator, check):
    check(estimator)


@checks_on("blitz")
def test_checks_on_blitz(estimator, check):
    check(estimator)


@each_estimator
@pytest.mark.parametrize(
    "check", [check_param_validation, check_dataframe_column_names_consistency, check_inplace_ensure_writeable]
)
def test_check_of_scikit_learns_own(name, backend, check):
    check(name, fast(name, backend))


@pytest.mark.parametrize(
    ("name", "backend"), [case(backend, name) for backend in backends.BACKENDS for name in DEFAULTS]
)
def test_check_estimator_with_defaults(name, backend, monkeypatch):
    # The default backend is "auto": what is tried first is what the test leaves.
    monkeypatch.setattr(backends, "BACKENDS", {backend: backends.BACKENDS[backend]})
    results = check_estimator(getattr(skuq, name)(), on_skip=None)
    assert {result["check_name"] for result in results if result["status"] not in ("passed", "skipped")} == set()
    assert sum(result["status"] == "passed" for result in results) > 40
