"""Training in PyTorch; native models in ``torch.nn`` and BLiTZ layers."""

from ._native import from_native, to_native
from ._trainer import Trainer

__all__ = ["Trainer", "from_native", "to_native"]
