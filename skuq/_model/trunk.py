"""Trunks: what maps the inputs of the first layer to the last hidden state.

A trunk has two verbs here, :meth:`Trunk.layout` and :meth:`Trunk.apply`, and a twin of the second in each backend
(``_trunk.py``), which finds it by the name of the architecture. Nothing else knows which layers a trunk has: the layout gives
each one a role, and weights are found by it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

import numpy as np

from .forward import ACTIVATIONS, affine, by_row
from .threads import Scratch


class Role(Enum):
    """What a block of weights is for.

    ``PROJECTION``: a linear layer from the inputs to the width of a residual stream. ``HIDDEN``: a hidden layer, whose kernel a
    spectral norm may bound. ``OUTPUT``: the output layer; on random features, the β of a Gaussian process. ``ENCODING``: learned
    numbers of the encoding of the inputs. ``CONSTANT``: the head's learned constants. The last two are point estimates in every
    method, and no penalty applies to them.
    """

    PROJECTION = "projection"
    HIDDEN = "hidden"
    OUTPUT = "output"
    ENCODING = "encoding"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Dense:
    """One dense layer of a layout, h W + b."""

    name: str
    role: Role
    n_in: int
    n_out: int

    @property
    def kernel(self) -> str:
        """Name of W, of shape (n_in, n_out)."""
        return f"kernel_{self.name}"

    @property
    def bias(self) -> str:
        """Name of b, of shape (n_out,)."""
        return f"bias_{self.name}"


@dataclass(frozen=True)
class Trunk(ABC):
    """Hidden layers of one architecture.

    Attributes
    ----------
    n_inputs : int
        Width of what the first layer takes.
    hidden_layer_sizes : tuple of int
    activation : str
        A key of :data:`skuq._model.forward.ACTIVATIONS`.
    """

    n_inputs: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str

    # Value of `architecture`, and whether a hidden layer adds to the state before it.
    name: ClassVar[str]
    is_residual: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """Width of the last hidden state."""
        return self.hidden_layer_sizes[-1] if self.hidden_layer_sizes else self.n_inputs

    @abstractmethod
    def layout(self) -> tuple[Dense, ...]:
        """Layers in the order in which their weights stand: what the inputs meet first comes first."""

    @abstractmethod
    def apply(
        self, weights: Mapping[str, np.ndarray], h: np.ndarray, masks: Sequence[np.ndarray] | None, scratch: Scratch
    ) -> np.ndarray:
        """Last hidden state, (n_draws, n_rows, width); n_draws is 1 where draws do not differ yet.

        Parameters
        ----------
        weights : dict of ndarray
            By the names of :meth:`layout`, leading axis n_draws or 1.
        h : ndarray of shape (n_draws or 1, n_rows, n_inputs)
        masks : list of ndarray of shape (n_draws, size), one of each hidden layer, or None
        scratch : Scratch
            Holds the result until the next call.
        """

    def _hidden(self, n_in: int) -> tuple[Dense, ...]:
        """Hidden layers one after the other, the first of which takes `n_in` numbers."""
        widths = (n_in, *self.hidden_layer_sizes)
        return tuple(Dense(str(i), Role.HIDDEN, *widths[i : i + 2]) for i in range(len(self.hidden_layer_sizes)))


@dataclass(frozen=True)
class Mlp(Trunk):
    """Plain layers: h ← dropout(act(h W + b))."""

    name: ClassVar[str] = "mlp"

    def layout(self) -> tuple[Dense, ...]:
        """Hidden layers."""
        return self._hidden(self.n_inputs)

    def apply(
        self, weights: Mapping[str, np.ndarray], h: np.ndarray, masks: Sequence[np.ndarray] | None, scratch: Scratch
    ) -> np.ndarray:
        """One layer after the other."""
        act = ACTIVATIONS[self.activation]
        for i, layer in enumerate(self.layout()):
            h = act(affine(h, weights[layer.kernel], weights[layer.bias], scratch, ("odd", "even")[i % 2]))
            if masks is not None:
                h = by_row(np.multiply, h, masks[i], scratch, "masked")
        return h


@dataclass(frozen=True)
class Resnet(Trunk):
    """A linear projection to the common width, then h ← h + dropout(act(h W + b)) for each hidden layer."""

    name: ClassVar[str] = "resnet"
    is_residual: ClassVar[bool] = True

    def layout(self) -> tuple[Dense, ...]:
        """The projection, if anything follows it, and the hidden layers."""
        if not self.hidden_layer_sizes:
            return ()
        width = self.hidden_layer_sizes[0]
        return (Dense("in", Role.PROJECTION, self.n_inputs, width), *self._hidden(width))

    def apply(
        self, weights: Mapping[str, np.ndarray], h: np.ndarray, masks: Sequence[np.ndarray] | None, scratch: Scratch
    ) -> np.ndarray:
        """Each layer adds to the stream."""
        act = ACTIVATIONS[self.activation]
        for i, layer in enumerate(self.layout(), start=-1):
            if layer.role is Role.PROJECTION:
                h = affine(h, weights[layer.kernel], weights[layer.bias], scratch, "in")
                continue
            z = act(affine(h, weights[layer.kernel], weights[layer.bias], scratch, "branch"))
            if masks is not None:
                z = by_row(np.multiply, z, masks[i], scratch, "masked")
            h = np.add(h, z, out=h if len(h) == len(z) else z)
        return h


TRUNKS: dict[str, type[Trunk]] = {trunk.name: trunk for trunk in (Mlp, Resnet)}
