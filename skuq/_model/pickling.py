"""Frozen specs keep what they have worked out; a pickle holds their fields alone, so that using one never changes it."""

from dataclasses import fields
from typing import Any


class PicklesFields:
    """A dataclass whose pickles, copies and hashes of pickles are the same before and after a cached property was read."""

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
