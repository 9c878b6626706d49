"""One file: arrays in the format of safetensors, a JSON header as its metadata, a checksum over all bytes.

A safetensors file is the length of its own header (8 bytes), that header (JSON) and the numbers. Ours stands inside it under
the key "skuq", so any reader of safetensors sees the arrays. The checksum is that of the file with zeros where the checksum
stands.
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import re
import secrets
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

KEY, FORMAT, VERSION = "skuq", "skuq", 1
# JSON inside JSON: quotes are escaped once. In a string of the user's they would be escaped twice.
CHECKSUM = re.compile(rb'\\"sha256\\":\\"([0-9a-f]{64})\\"')
NO_CHECKSUM = "0" * 64
# Of the length at the beginning of the file.
N_LENGTH = 8
# safetensors' own limit of a header, 100 MB.
LONGEST_HEADER = 100_000_000
VERSIONS = ("skuq", "numpy", "scipy", "scikit-learn", "safetensors")


def write(path: str | os.PathLike[str], content: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a file whole, or leave what is there.

    Parameters
    ----------
    path : str or path-like
    content : dict
        JSON.
    arrays : dict of ndarray
        Contiguous.
    """
    _replace(path, to_bytes(content, arrays))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file.

    Raises
    ------
    ValueError
        If it is not, or no longer, what :func:`write` wrote.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        return from_bytes(data)
    except ValueError as error:
        raise ValueError(f"{os.fsdecode(path)!r} cannot be loaded: {error}") from error


def to_bytes(content: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """The file's bytes; the same for the same model and versions."""
    from safetensors.numpy import save

    if not all(array.flags.c_contiguous for array in arrays.values()):
        raise ValueError("Arrays must be contiguous, got one that is not: safetensors would write other numbers.")
    header = {"sha256": NO_CHECKSUM, "format": FORMAT, "version": VERSION, "versions": _versions(), **content}
    text = json.dumps(header, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    data = bytearray(save(arrays, {KEY: text}))
    length = int.from_bytes(data[:N_LENGTH], "little")
    if length > LONGEST_HEADER:
        raise ValueError(
            f"The header would have {length} bytes, the format takes at most {LONGEST_HEADER}. Save fewer labels or members."
        )
    at = _place_of_checksum(data[: N_LENGTH + length])
    data[at] = hashlib.sha256(data).hexdigest().encode()
    return bytes(data)


def from_bytes(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file's bytes.

    Raises
    ------
    ValueError
        That says what was got, what was expected and what to do.
    """
    head, length = _safetensors_header(data)
    header = _own_header(head)
    if header.get("version") != VERSION:
        _refuse_version(header)
    stops = [entry["data_offsets"][1] for name, entry in head.items() if name != "__metadata__"]
    expected = N_LENGTH + length + max(stops, default=0)
    if len(data) != expected:
        cut = "is cut short" if len(data) < expected else "has more behind it"
        raise ValueError(
            f"it {cut}: got {len(data)} bytes, expected {expected}. Copy it again from where it was saved."
        )
    at = _place_of_checksum(data[: N_LENGTH + length])
    digest, view = hashlib.sha256(), memoryview(data)
    for part in (view[: at.start], NO_CHECKSUM.encode(), view[at.stop :]):
        digest.update(part)
    found = digest.hexdigest()
    if not found == header.get("sha256") == data[at].decode():
        raise ValueError(
            f"it was altered after it was saved: its checksum is {found}, expected {header.get('sha256')}. Copy it again from "
            f"where it was saved."
        )
    return header, _arrays(data)


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    """Arrays with memory of their own."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return {name: np.array(array) for name, array in load(data).items()}
    except SafetensorError as error:
        raise ValueError(f"safetensors does not read it ({error}). Save the model again.") from error


def _safetensors_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The JSON at the beginning, and its length in bytes."""
    length = int.from_bytes(data[:N_LENGTH], "little")
    begins = data[N_LENGTH : N_LENGTH + 1] in (b"{", b"")
    if not begins or length > LONGEST_HEADER:
        raise ValueError(_not_ours(f"a file that begins with {data[:N_LENGTH]!r}"))
    if len(data) < N_LENGTH + length or len(data) <= N_LENGTH:
        raise ValueError(
            f"it is cut short: got {len(data)} bytes, expected {N_LENGTH + max(length, 2)} or more. Copy it again from where it "
            f"was saved."
        )
    try:
        head = json.loads(data[N_LENGTH : N_LENGTH + length])
        entries = [entry["data_offsets"] for name, entry in head.items() if name != "__metadata__"]
        if not all(type(stop) is int and len(entry) == 2 for entry in entries for stop in entry):
            raise ValueError("no offsets")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(_not_ours(f"a header that safetensors does not have ({error})")) from error
    return head, length


def _own_header(head: dict[str, Any]) -> dict[str, Any]:
    metadata = head.get("__metadata__")
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError(_not_ours(f"a safetensors file without the metadata {KEY!r}"))
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(_not_ours(f"metadata {KEY!r} that is no JSON ({error})")) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(_not_ours(f"metadata {KEY!r} of another format"))
    return header


def _refuse_version(header: dict[str, Any]) -> None:
    found = header.get("version")
    written = header.get("versions")
    by = written.get("skuq") if isinstance(written, dict) else None
    if type(found) is int and found > VERSION:
        raise ValueError(
            f"it is of a newer format: got version {found}, written by skuq {by}; skuq {_versions()['skuq']} reads up to version "
            f"{VERSION}. Update skuq."
        )
    raise ValueError(_not_ours(f"version {found!r} of the format"))


def _not_ours(got: str) -> str:
    return f"expected a file that skuq.save wrote, got {got}. Files of pickle, joblib and skops are read by their own libraries."


def _place_of_checksum(header: bytes | bytearray) -> slice:
    found = CHECKSUM.search(header)
    if found is None:
        raise ValueError(_not_ours("a header without a checksum"))
    return slice(*found.span(1))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source tree that is not installed
            found[name] = "0+unknown"
    return found


def _replace(path: str | os.PathLike[str], data: bytes) -> None:
    """Put bytes in the place of a file: readers see the old file or the new one, also after the machine stops."""
    # A link stays, and what it points to is replaced.
    target = os.path.realpath(os.fsdecode(path))
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "The folder to save in does not exist. Make it first", folder)
    beside = os.path.join(folder, f".skuq-{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    if sys.platform != "win32":
        # The name is on the disk when its folder is.
        with contextlib.suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
