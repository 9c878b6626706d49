"""What users pass, and how a wrong one is told what is right."""

import numpy as np

COVERAGE_EXAMPLE = "For 90 % pass coverage=0.9."


def check_levels(name: str, values, example: str) -> np.ndarray:
    """Probabilities strictly between 0 and 1, one number or a sequence, as a float array."""
    levels = np.asarray(values, dtype=float)
    if levels.ndim > 1 or levels.size == 0 or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {values!r}. {example}")
    return levels
