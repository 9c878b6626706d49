"""Objects as JSON and arrays, and back: the kinds that are listed here and no others.

The JSON of a value is itself where JSON has it (None, booleans, integers, finite floats, strings, lists), else an object with
one key that says what it is: ``{"tuple": […]}``, ``{"dict": [[key, value], …]}``, ``{"float": "nan"}``, ``{"scalar": …}``,
``{"array": …}``, ``{"labels": …}``, ``{"sparse": …}``, ``{"frame": …}``, or ``{"object": k}``, the k-th of the header's
objects. Objects stand in the order in which they can be made, each once however often it is referred to.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from inspect import signature
from typing import Any

import numpy as np
from scipy import sparse

from .._estimator.base import Estimator
from .._model.heads import Density, Head
from .registry import DENSITY, ESTIMATORS, HEAD_OF, NAMES, OBJECTS, OWN, RECORDS, Own

Json = Any
# Kinds of numbers that safetensors holds: booleans, integers and floats of up to 8 bytes.
NUMBERS, WIDEST = "biuf", 8
SPARSE = {
    "csr_array": sparse.csr_array,
    "csr_matrix": sparse.csr_matrix,
    "csc_array": sparse.csc_array,
    "csc_matrix": sparse.csc_matrix,
}
# What a RandomState draws from, unless one is built around another bit generator; and how many numbers it holds.
GENERATOR, N_KEYS = "MT19937", 624
# Where scikit-learn keeps what was asked of metadata routing.
REQUESTS = "_metadata_request"


def encode(estimator: Any) -> tuple[dict[str, Json], dict[str, np.ndarray]]:
    """Header and arrays of an estimator.

    Raises
    ------
    TypeError
        If it, or something in it, has no place in the format.
    """
    kind = type(estimator)
    if kind not in ESTIMATORS.values() and not isinstance(estimator, Estimator):
        raise TypeError(
            f"skuq.save takes an estimator of skuq, got {kind.__name__}. Whole Pipelines, searches and estimators of other "
            f"libraries go through skops: skops.io.dump(model, path), and skops.io.load(path, "
            f"trusted=skuq.utils.trusted_types())."
        )
    encoder = Encoder()
    root = encoder.value(estimator, kind.__name__)
    return {"root": root, "objects": encoder.objects}, encoder.arrays


def decode(
    header: dict[str, Json], arrays: dict[str, np.ndarray], *, classes: Sequence[type], path: str | os.PathLike[str]
) -> Any:
    """Estimator of a header and its arrays, as :func:`encode` makes them."""
    own = Own.of(classes)
    try:
        return Decoder(header["objects"], arrays, own).value(header["root"])
    except Refused as error:
        raise ValueError(f"{os.fsdecode(path)!r} cannot be loaded: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{os.fsdecode(path)!r} cannot be loaded: its header is not what skuq.save writes ({error}). Save the model again."
        ) from error


class Refused(ValueError):
    """A file that is whole, but says what this version or this call does not know."""


class Encoder:
    """One pass over an estimator: `objects` and `arrays` fill as :meth:`value` meets them."""

    def __init__(self) -> None:
        self.objects: list[Json] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._number: dict[int, int | None] = {}
        self._name: dict[int, str] = {}
        # Holds what was met, so that an id stays its own.
        self._met: list[Any] = []

    def value(self, x: Any, where: str) -> Json:
        """JSON of a value; `where` says in errors what it is."""
        kind = type(x)
        if x is None or kind in (bool, int, str):
            return x
        if kind is float:
            return x if math.isfinite(x) else {"float": str(x)}
        if kind is list:
            return [self.value(v, f"{where}[{i}]") for i, v in enumerate(x)]
        if kind is tuple:
            return {"tuple": [self.value(v, f"{where}[{i}]") for i, v in enumerate(x)]}
        if kind is dict:
            return {"dict": [[self.value(k, f"{where} key"), self.value(v, f"{where}[{k!r}]")] for k, v in x.items()]}
        if kind in (np.ndarray, np.memmap):
            return self._array(np.asarray(x), where)
        if isinstance(x, np.generic):
            return self._scalar(x, where)
        if kind in SPARSE.values():
            parts = {"data": x.data, "indices": x.indices, "indptr": x.indptr, "shape": tuple(map(int, x.shape))}
            return {"sparse": {"kind": kind.__name__, **self._parts(parts, where)}}
        if kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] == "pandas":
            columns = [x.iloc[:, j].to_numpy() for j in range(x.shape[1])]
            if any(dtype not in (column.dtype, object, "str") for dtype, column in zip(x.dtypes, columns, strict=True)):
                raise _unknown(x, where, f"a DataFrame of types {sorted(set(map(str, x.dtypes)))}")
            return {"frame": self._parts({"names": x.columns.tolist(), "columns": columns, "n_rows": len(x)}, where)}
        if kind is np.random.RandomState:
            return self._object(x, where, self._random_state)
        if kind in RECORDS.values():
            return self._object(x, where, self._head if kind is Head else self._record)
        if kind is Density:
            return self._object(x, where, lambda d, at: {"class": DENSITY, "likelihood": self.value(d.likelihood, at)})
        if kind in OBJECTS.values() or isinstance(x, OWN):
            return self._object(x, where, self._attributes)
        raise _unknown(x, where)

    def _parts(self, parts: dict[str, Any], where: str) -> dict[str, Json]:
        return {name: self.value(part, f"{where}.{name}") for name, part in parts.items()}

    def _array(self, x: np.ndarray, where: str) -> Json:
        if x.dtype.kind == "U" or x.dtype == object:
            labels = [self.value(label, where) for label in x.ravel().tolist()]
            return {"labels": labels, "dtype": x.dtype.str, "shape": list(x.shape)}
        if x.dtype.kind not in NUMBERS or x.dtype.itemsize > WIDEST:
            raise _unknown(x, where, f"an array of {x.dtype}")
        if id(x) not in self._name:
            self._met.append(x)
            self._name[id(x)] = name = f"a{len(self.arrays)}"
            # safetensors takes the memory as it lies, whatever the strides say. A matrix in Fortran order keeps its order, for
            # products add up in another one otherwise.
            self.arrays[name] = np.ascontiguousarray(x.T if _is_fortran(x) else x, x.dtype.newbyteorder("=")).reshape(
                x.T.shape if _is_fortran(x) else x.shape
            )
        return {"array": self._name[id(x)], **({"order": "F"} if _is_fortran(x) else {})}

    def _scalar(self, x: np.generic, where: str) -> Json:
        if not isinstance(x, np.str_) and (x.dtype.kind not in NUMBERS or x.dtype.itemsize > WIDEST):
            raise _unknown(x, where)
        return {"scalar": self.value(x.item(), where), "dtype": "str" if isinstance(x, np.str_) else x.dtype.name}

    def _object(self, x: Any, where: str, describe: Callable[[Any, str], Json]) -> Json:
        """Reference to an object, which is described when it is first met."""
        if id(x) not in self._number:
            self._met.append(x)
            self._number[id(x)] = None
            description = describe(x, where)
            self._number[id(x)] = len(self.objects)
            self.objects.append(description)
        number = self._number[id(x)]
        if number is None:
            raise TypeError(f"skuq.save cannot hold {where}, a {type(x).__name__} that contains itself.")
        return {"object": number}

    def _random_state(self, x: np.random.RandomState, where: str) -> Json:
        state: Any = x.get_state(legacy=False)
        if state["bit_generator"] != GENERATOR:
            raise _unknown(x, where, f"a RandomState of {state['bit_generator']}")
        return {"class": "RandomState", "state": self.value(state, where)}

    def _record(self, x: Any, where: str) -> Json:
        parts = self._parts({f.name: getattr(x, f.name) for f in fields(x)}, where)
        return {"class": NAMES[type(x)], "fields": parts}

    def _head(self, x: Head, where: str) -> Json:
        if x.density is None or not any(callable(p.link) for p in x.parameters):
            return self._record(x, where)
        likelihood = self.value(x.density.likelihood, f"{where}.likelihood")
        return {"class": HEAD_OF, "likelihood": likelihood, "n_outputs": x.n_outputs}

    def _attributes(self, x: Any, where: str) -> Json:
        kind, own = type(x), dict(vars(x))
        requests = own.pop(REQUESTS, None)
        name = {"class": NAMES[kind]} if kind in NAMES else {"own": kind.__name__, "module": kind.__module__}
        described = {**name, "attributes": self._parts(own, where)}
        if requests is not None:
            asked = {m: dict(getattr(requests, m).requests) for m in _methods(requests)}
            described["requests"] = self._parts({m: r for m, r in asked.items() if r}, f"{where}.{REQUESTS}")
        return described


class Decoder:
    """Values of a header; its objects are made in their order, once each.

    Parameters
    ----------
    objects : list
        The header's.
    arrays : dict of ndarray
    own : Own
    """

    def __init__(self, objects: list[Json], arrays: dict[str, np.ndarray], own: Own) -> None:
        self._arrays, self._own = arrays, own
        self._turned: dict[str, np.ndarray] = {}
        self._made: list[Any] = []
        for described in objects:
            self._made.append(self._object(described))

    def value(self, node: Json) -> Any:
        """What a piece of JSON stands for."""
        if isinstance(node, list):
            return [self.value(v) for v in node]
        if not isinstance(node, dict):
            return node
        if "object" in node:
            return self._made[_index(node["object"], len(self._made))]
        if "array" in node:
            return self._array(node["array"], node.get("order"))
        if "tuple" in node:
            return tuple(map(self.value, node["tuple"]))
        if "dict" in node:
            return {self.value(k): self.value(v) for k, v in node["dict"]}
        if "float" in node:
            return float(node["float"])
        if "scalar" in node:
            number = self.value(node["scalar"])
            return np.str_(number) if node["dtype"] == "str" else _number_type(node["dtype"]).type(number)
        if "labels" in node:
            labels = np.empty(len(node["labels"]), object)
            labels[:] = [self.value(label) for label in node["labels"]]
            dtype = np.dtype(node["dtype"])
            if dtype.kind not in "UO":
                raise ValueError(f"labels of {dtype}")
            return labels.astype(dtype).reshape(node["shape"])
        if "sparse" in node:
            parts = {name: self.value(part) for name, part in node["sparse"].items()}
            made = SPARSE[parts["kind"]]((parts["data"], parts["indices"], parts["indptr"]), shape=parts["shape"])
            made.check_format(full_check=True)  # scipy believes the indices later
            return made
        if "frame" in node:
            return _frame(**{name: self.value(part) for name, part in node["frame"].items()})
        raise Refused(f"it holds a value of the kind {sorted(node)}, which this version does not know. Update skuq.")

    def _array(self, name: str, order: str | None) -> np.ndarray:
        if order != "F":
            return self._arrays[name]
        return self._turned.setdefault(name, self._arrays[name].T)

    def _object(self, node: Json) -> Any:
        if "own" in node:
            return self._with_attributes(self._own_class(node), node)
        name = node["class"]
        if name == "RandomState":
            return _random_state(self.value(node["state"]))
        if name == DENSITY:
            return Density(self.value(node["likelihood"]))
        if name == HEAD_OF:
            return self.value(node["likelihood"]).head(self.value(node["n_outputs"]))
        if name in RECORDS:
            return self._with_fields(RECORDS[name], node)
        if name in OBJECTS:
            return self._with_attributes(OBJECTS[name], node)
        raise Refused(f"it names the class {name!r}, which this version does not know. Update skuq.")

    def _own_class(self, node: Json) -> type:
        name = node["own"]
        if name not in self._own.classes:
            raise Refused(
                f"it needs the class {name} of {node['module']!r}, which is not skuq's own, and nothing is imported because a "
                f"file names it. Pass it: skuq.load(path, classes=[{name}])."
            )
        return self._own.classes[name]

    def _with_fields(self, kind: type, node: Json) -> Any:
        given = {name: self.value(part) for name, part in node["fields"].items()}
        known = {f.name: f for f in fields(kind)}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise Refused(f"its {kind.__name__} has {unknown}, which this version does not know. Update skuq.")
        missing = [
            name
            for name, f in known.items()
            if name not in given and f.default is MISSING and f.default_factory is MISSING
        ]
        if missing:
            raise ValueError(f"its {kind.__name__} lacks {missing}")
        return kind(**given)

    def _with_attributes(self, kind: Any, node: Json) -> Any:
        made = kind.__new__(kind)
        # A parameter that an older version did not have is at its default.
        defaults = {
            name: p.default
            for name, p in signature(kind).parameters.items()
            if p.default is not p.empty and p.kind is not p.VAR_KEYWORD
        }
        given = {name: self.value(part) for name, part in node["attributes"].items()}
        made.__dict__.update({**defaults, **given})
        if "requests" in node:
            requests = made._get_metadata_request()  # those of the class, and a copy
            for method, asked in node["requests"].items():
                for parameter, alias in self.value(asked).items():
                    getattr(requests, method).add_request(param=parameter, alias=alias)
            setattr(made, REQUESTS, requests)
        return made


def _unknown(x: Any, where: str, what: str = "") -> TypeError:
    kind = type(x)
    return TypeError(
        f"skuq.save cannot hold {where}: got {what or f'{kind.__module__}.{kind.__qualname__}'}, expected numbers, strings, "
        f"None, arrays, lists, tuples, dicts, RandomState, likelihoods or estimators of skuq. Set it to one of these; a "
        f"Pipeline, or an estimator of another library, goes through skops (see skuq.utils.trusted_types)."
    )


def _methods(requests: Any) -> list[str]:
    return [name for name, value in vars(requests).items() if hasattr(value, "requests")]


def _is_fortran(x: np.ndarray) -> bool:
    return x.flags.f_contiguous and not x.flags.c_contiguous


def _number_type(name: str) -> np.dtype:
    dtype = np.dtype(name)
    if dtype.kind not in NUMBERS:
        raise ValueError(f"a number of {dtype}")
    return dtype


def _index(number: Any, n_made: int) -> int:
    if type(number) is not int or not 0 <= number < n_made:
        raise ValueError(f"object {number!r} of {n_made}")
    return number


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    key, position = state["state"]["key"], state["state"]["pos"]
    # NumPy believes the position, and would read beyond the key.
    if state["bit_generator"] != GENERATOR or key.shape != (N_KEYS,) or not 0 <= position <= N_KEYS:
        raise ValueError("no state of a RandomState")
    made = np.random.RandomState(0)
    made.set_state(state)
    return made


def _frame(names: list[Any], columns: list[np.ndarray], n_rows: int) -> Any:
    import pandas as pd

    frame = pd.DataFrame(dict(enumerate(columns)), index=range(n_rows))
    frame.columns = names
    return frame
