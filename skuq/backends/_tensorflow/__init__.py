"""The TensorFlow backend: compiled training (XLA), TensorFlow Probability's densities, Keras 2 layers."""

import os
from typing import Any

# TensorFlow reads this once, while it is imported: errors and warnings only, unless the user chose otherwise.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

from ._trainer import Trainer

__all__ = ["Trainer", "from_native", "to_native"]


def __getattr__(name: str) -> Any:
    # Keras and TensorFlow Probability take most of a second to import, and training needs neither.
    if name in ("from_native", "to_native"):
        from . import _native

        return getattr(_native, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
