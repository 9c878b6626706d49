"""The wall between skuq and the frameworks: which backends there are, and how one is found.

What crosses the wall, and what a trainer owes, stands in ``_protocol.py``. A backend is a package of four modules:

``_namespace.py``
    The functions of ``skuq/_model/namespace.py`` for the framework's arrays.
``_losses.py``
    ``negative_log_likelihood(head, raw, constants, fixed, y, beta)``, of the log density that the head holds.
``_trainer.py``
    ``Trainer``, as :class:`~skuq.backends._protocol.Trainer` describes it.
``_native.py``
    ``to_native(fitted)`` and ``from_native(model, fitted)``: the same weights in the framework's own layers; what a
    regressor returns stands in ``_distributions.py``.

The package offers ``Trainer``, ``to_native`` and ``from_native``, and is registered by a line in `BACKENDS`.

Arrays cross the wall, nothing else. A backend never validates, scales, splits rows or knows scikit-learn; the ladder
in ``skuq/_training/loop.py`` does the rest in NumPy, once for all backends.
"""

import importlib
import os
import sys
from importlib.util import find_spec
from typing import NamedTuple, cast

from sklearn.utils._param_validation import InvalidParameterError

from ._protocol import (
    ADAM_BETA1,
    ADAM_BETA2,
    ADAM_EPSILON,
    LONGEST_GRADIENT,
    Backend,
    Fitted,
    Knobs,
    Program,
    Trainer,
)

__all__ = [
    "ADAM_BETA1",
    "ADAM_BETA2",
    "ADAM_EPSILON",
    "BACKENDS",
    "LONGEST_GRADIENT",
    "Backend",
    "Entry",
    "Fitted",
    "Knobs",
    "Program",
    "Trainer",
    "available",
    "check_name",
    "load",
    "resolve",
]


class Entry(NamedTuple):
    """A line of the registry.

    Attributes
    ----------
    package : str
        Where `Trainer`, `to_native` and `from_native` are imported from.
    needs : tuple of str
        Modules without which the backend is not installed.
    extra : str
        What pip installs it by.
    library : str
        What it is, in a sentence.
    aliases : tuple of str
        Names that users try for it.
    """

    package: str
    needs: tuple[str, ...]
    extra: str
    library: str
    aliases: tuple[str, ...] = ()


# Order of preference for backend="auto": compiled training first.
BACKENDS = {
    "tensorflow": Entry(
        "skuq.backends._tensorflow",
        ("tensorflow", "tensorflow_probability", "tf_keras"),
        "skuq[tensorflow]",
        "TensorFlow",
        ("tf", "keras", "tf_keras", "tfp", "tensorflow_probability"),
    ),
    "blitz": Entry(
        "skuq.backends._blitz",
        ("torch", "blitz"),
        "skuq[blitz]",
        "PyTorch, with BLiTZ,",
        ("torch", "pytorch", "blitz-bayesian-pytorch", "blitz_bayesian_pytorch"),
    ),
}


def available() -> list[str]:
    """Names of the backends whose libraries are installed, in the order ``backend="auto"`` tries them.

    Nothing is imported.

    Examples
    --------
    >>> from skuq import backends
    >>> set(backends.available()) <= {"tensorflow", "blitz"}
    True
    """
    return [name for name, entry in BACKENDS.items() if not _missing(entry)]


def resolve(name: str) -> str:
    """Return the name of an installed backend, or raise ImportError naming the extra to install."""
    installed = available()
    if name == "auto":
        if not installed:
            extras = " or ".join(f"pip install '{entry.extra}'" for entry in BACKENDS.values())
            raise ImportError(f"No backend is installed: training needs TensorFlow or PyTorch. Install one: {extras}.")
        return installed[0]
    if name not in installed:
        entry = BACKENDS[name]
        raise ImportError(
            f"backend={name!r} needs {', '.join(_missing(entry))}, which is not installed. Install it with "
            f"pip install '{entry.extra}', or choose another backend (installed: {installed or 'none'})."
        )
    return name


def load(name: str) -> Backend:
    """Import and return the backend of that name.

    Raises
    ------
    RuntimeError
        In a process that was forked after the framework had started: it would wait for ever for threads that are not there.
    """
    package = BACKENDS[resolve(name)].package
    if name in _STARTED_BEFORE_FORK:
        library = BACKENDS[name].library.split(",")[0]
        raise RuntimeError(
            f"This process was forked from one in which {library} had started. Threads do not survive a fork, and training here "
            f"would wait for them for ever. Train in processes that start fresh: joblib's loky (the default of n_jobs), "
            f"JOBLIB_START_METHOD=spawn for joblib's multiprocessing, or multiprocessing.get_context('spawn'). To predict in a "
            f"forked process is safe."
        )
    _STARTED.add(name)
    return cast(Backend, importlib.import_module(package))


# Frameworks that this process has started, and those that the process it was forked from had.
_STARTED: set[str] = set()
_STARTED_BEFORE_FORK: set[str] = set()


def _forked() -> None:
    """Remember, in a forked process, what had started before."""
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    if getattr(context, "_initialized", False):  # by whoever it was
        _STARTED.add("tensorflow")
    _STARTED_BEFORE_FORK.update(_STARTED)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def check_name(name: object, owner: str) -> None:
    """Raise ``InvalidParameterError`` if no backend has this name; it says what a backend is called here."""
    if name in ("auto", *BACKENDS):
        return
    *names, last = (repr(known) for known in ("auto", *BACKENDS))
    text = f"The 'backend' parameter of {owner} must be {', '.join(names)} or {last}. Got {name!r} instead."
    for known, entry in BACKENDS.items():
        if isinstance(name, str) and name.lower() in entry.aliases:
            text += f' {entry.library} is backend="{known}".'
    raise InvalidParameterError(text)


def _missing(entry: Entry) -> list[str]:
    return [module for module in entry.needs if find_spec(module) is None]
