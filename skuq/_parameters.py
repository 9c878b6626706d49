"""Constructor parameters, declared once: default, constraint and documentation stand together.

An estimator is a dataclass of :func:`parameter` fields, so its constructor is explicit, stores its arguments and does
nothing else. :func:`estimator` derives from the same fields what scikit-learn and readers need:
``_parameter_constraints`` and the "Parameters" section of the docstring.
"""

import inspect
from dataclasses import dataclass, field, fields
from typing import Any, dataclass_transform

PLACEHOLDER = "{parameters}"


def parameter(default: Any, constraints: list, doc: str) -> Any:
    r"""Declare a constructor parameter.

    Parameters
    ----------
    default : object
    constraints : list
        As scikit-learn's ``_parameter_constraints`` takes them.
    doc : str
        "type\ndescription", as numpydoc has it, without the default.
    """
    return field(default=default, metadata={"constraints": constraints, "doc": inspect.cleandoc(doc)})


def describe(owner: type) -> str:
    """Numpydoc "Parameters" entries for all fields of an estimator class."""
    entries = []
    for f in fields(owner):
        kind, _, text = f.metadata["doc"].partition("\n")
        entries.append(f"{f.name} : {kind}, default={f.default!r}\n" + inspect.cleandoc(text).replace("\n", "\n"))
    return "\n".join(_indent_description(entry) for entry in entries)


def _indent_description(entry):
    head, _, text = entry.partition("\n")
    return head + "".join(f"\n    {line}" if line else "\n" for line in text.splitlines())


@dataclass_transform(kw_only_default=True)
def estimator(owner):
    """Turn a class of :func:`parameter` fields into an estimator class: constructor, constraints, docstring."""
    owner = dataclass(eq=False, repr=False, match_args=False, kw_only=True)(owner)
    owner._parameter_constraints = {f.name: f.metadata["constraints"] for f in fields(owner)}
    if owner.__doc__ and PLACEHOLDER in owner.__doc__:
        text = inspect.cleandoc(owner.__doc__)
        owner.__doc__ = text.replace(PLACEHOLDER, describe(owner))
    return owner
