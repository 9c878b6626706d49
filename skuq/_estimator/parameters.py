"""Constructor parameters, declared once: default, constraint and documentation stand together.

An estimator is a dataclass of :func:`parameter` fields, so its constructor is explicit, stores its arguments and does
nothing else. :func:`estimator` derives from the same fields what scikit-learn and readers need:
``_parameter_constraints`` and the "Parameters" section of the docstring. The "Attributes" section is put together from what
the task says of its own (``_attributes_doc``) and what all estimators share.
"""

import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, TypeVar, cast, dataclass_transform

from sklearn.utils._param_validation import Interval

from .auto import sentences

SHARED_ATTRIBUTES = """
    n_features_in_ : int
        Number of features seen in ``fit``.
    feature_names_in_ : ndarray of str, shape (n_features,)
        Names of the features, where X has them.
    n_iter_ : int
        Epochs trained.
    loss_ : float
        Last value of the loss curve.
    loss_curve_ : list of float
        Training loss of each epoch in nats a row, mean over networks, with the L2 penalty; for a BNN the negative evidence
        lower bound.
    validation_loss_curve_ : list of float or None
        Held-out score at each evaluation, mean over the networks that hold rows out; None if none does.
    n_nonzero_weights_ : int
        Kernel weights of all networks that are not exactly zero; posterior means for a BNN.
    encoded_features_ : ndarray of bool, shape (n_features,)
        Inputs beside which stands an encoding of them (``input_encoding``): bins, or sines and cosines.
    selected_features_ : ndarray of bool, shape (n_features,)
        Inputs with any nonzero outgoing weight.
    backend_ : str
        The backend that trained.
"""


# No parameter is larger: products of two still fit in float32 with those of the data.
LARGEST = 1e18
# Of a docstring's line, without its indentation.
WIDTH = 110
Class = TypeVar("Class", bound=type)


def parameter(default: Any, constraints: list[Any], doc: str) -> Any:
    r"""Declare a constructor parameter.

    Parameters
    ----------
    default : object
    constraints : list
        As scikit-learn's ``_parameter_constraints`` takes them.
    doc : str
        "type\ndescription", as numpydoc has it, without the default.
    """
    constraints = [Number.of(each) if isinstance(each, Interval) else each for each in constraints]
    return field(default=default, metadata={"constraints": constraints, "doc": inspect.cleandoc(doc)})


class Number(Interval):
    """An interval of numbers that float32, in which networks train, can hold; True and False are none of them."""

    @classmethod
    def of(cls, interval: Interval) -> "Number":
        """The same interval, with an end."""
        right, closed = interval.right, interval.closed
        if interval.type is Real and right is None:
            right, closed = LARGEST, "right" if closed == "neither" else "both"
        return cls(interval.type, interval.left, right, closed=closed)

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether this is a number within the interval."""
        return not isinstance(val, bool) and super().is_satisfied_by(val)


def inherited(owner: type, name: str, default: Any) -> Any:
    """Declare a parameter of `owner` once more, with another default."""
    declared = next(f for f in fields(owner) if f.name == name)
    return field(default=default, metadata=declared.metadata)


def describe(owner: type, auto: Mapping[str, str]) -> str:
    """Numpydoc "Parameters" entries for all fields of an estimator class.

    Parameters
    ----------
    owner : type
    auto : mapping of str to str
        What "auto" or None stands for in this estimator, by parameter: it takes the place of ``{auto}``.
    """
    entries = []
    for f in fields(owner):
        kind, _, text = f.metadata["doc"].partition("\n")
        text = inspect.cleandoc(text).replace("{auto}", auto.get(f.name, ""))
        entries.append(f"{f.name} : {kind}, default={f.default!r}\n" + _wrap(text))
    return "\n".join(_indent_description(entry) for entry in entries)


def _wrap(text: str) -> str:
    """Lines of a docstring's width; paragraphs stay apart."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(textwrap.fill(p, WIDTH, break_long_words=False, break_on_hyphens=False) for p in paragraphs)


def _indent_description(entry: str) -> str:
    head, _, text = entry.partition("\n")
    return head + "".join(f"\n    {line}" if line else "\n" for line in text.splitlines())


@dataclass_transform(kw_only_default=True)
def estimator(owner: Class) -> Class:
    """Turn a class of :func:`parameter` fields into an estimator class: constructor, constraints, docstring."""
    made: Any = dataclass(eq=False, repr=False, match_args=False, kw_only=True)(owner)
    made._parameter_constraints = {f.name: f.metadata["constraints"] for f in fields(made)}
    if made.__doc__ and "{parameters}" in made.__doc__:
        text = inspect.cleandoc(made.__doc__)
        attributes = f"{inspect.cleandoc(made._attributes_doc)}\n{inspect.cleandoc(SHARED_ATTRIBUTES)}"
        parameters = describe(made, sentences(made._auto))
        made.__doc__ = text.replace("{parameters}", parameters).replace("{attributes}", attributes) + "\n"
    return cast(Class, made)
