"""Ctrl-C: what it ends.

A fit that a user waits for ends with its best weights so far. One of many, in a search, a cross-validation or a committee,
ends them all: nobody asked for the others to go on, and a result that mixes whole and cut fits is none.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MANY: ContextVar[bool] = ContextVar("one fit of many", default=False)
# Modules of scikit-learn through which a single fit goes, and the last fit of a search, whose scores would be lost.
PASSES_ON = (
    *("sklearn.base", "sklearn.pipeline", "sklearn.compose", "sklearn.utils", "sklearn.frozen", "sklearn.callback"),
    *("sklearn.model_selection._search", "sklearn.model_selection._classification_threshold"),
)


@contextmanager
def many_fits() -> Iterator[None]:
    """Fits inside are parts of one result: Ctrl-C in one of them raises KeyboardInterrupt."""
    token = _MANY.set(True)
    try:
        yield
    finally:
        _MANY.reset(token)


def is_one_of_many() -> bool:
    """Whether the present fit is one of many: of skuq's, of scikit-learn's, or a task of joblib."""
    if _MANY.get():
        return True
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if module.startswith("joblib.") or (module.startswith("sklearn.") and not module.startswith(PASSES_ON)):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
