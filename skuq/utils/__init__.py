"""A check of any uncertainty estimator, as scikit-learn's ``check_estimator`` is one of any estimator; and types for skops."""

from skuq._files.registry import trusted_types
from skuq.utils._check import check_uq_estimator

__all__ = ["check_uq_estimator", "trusted_types"]
