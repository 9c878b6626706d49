"""A check of any uncertainty estimator, as scikit-learn's ``check_estimator`` is one of any estimator."""

from skuq.utils._check import check_uq_estimator

__all__ = ["check_uq_estimator"]
