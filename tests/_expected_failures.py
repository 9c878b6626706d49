"""Checks of scikit-learn that an estimator cannot honestly pass, with the reason: meant to stay empty.

An entry is ``{(class name, backend): {"check_name": "reason"}}``; a statistical test must stand in for each.
"""

EXPECTED_FAILED_CHECKS: dict[tuple[str, str], dict[str, str]] = {}
