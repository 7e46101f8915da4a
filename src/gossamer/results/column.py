"""Many numbers in a file of results: as bytes, exact and half as large as their digits."""

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.display import short_repr

_TYPES = ("uint8", "uint16", "int32", "float32")


@dataclass(frozen=True, eq=False)
class Column:
    """Numbers in a row, written as TYPE:BASE64 of their little-endian bytes; TYPE as in JavaScript's typed arrays.

    5.3 characters a number of 4 bytes. In a browser: `new Float32Array(Uint8Array.from(atob(text), ...).buffer)`.

    Attributes:
        values: a flat array of uint8, uint16, int32 or float32.
    """

    values: np.ndarray

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.values)} {self.values.dtype}"

    @classmethod
    def of(cls, values: Any, kind: str) -> "Column":
        """From anything that numpy makes a flat array of.

        Raises:
            ValueError: an unknown type, or numbers that it does not hold.
        """
        if kind not in _TYPES:
            raise ValueError(f"numbers of type {', '.join(_TYPES)} expected, found {kind}")
        given = np.asarray(values).reshape(-1)
        found = given.astype(np.dtype(kind).newbyteorder("<"))
        if kind != "float32" and not np.array_equal(found, given):
            raise ValueError(f"numbers that {kind} holds expected, found {given.min()} to {given.max()}")
        return cls(found)

    @classmethod
    def parse(cls, text: str) -> "Column":
        """The numbers that `text` holds.

        Raises:
            ValueError: it is no such text.
        """
        kind, colon, encoded = text.partition(":")
        if kind not in _TYPES or not colon:
            raise ValueError(f"TYPE:BASE64 expected, TYPE one of {', '.join(_TYPES)}, found {text[:40]!r}")
        try:
            data = base64.b64decode(encoded, validate=True)
            return cls(np.frombuffer(data, np.dtype(kind).newbyteorder("<")))
        except (binascii.Error, ValueError) as error:
            raise ValueError(f"TYPE:BASE64 expected, found {text[:40]!r} ({error})") from error

    def __str__(self) -> str:
        return f"{self.values.dtype.name}:{base64.b64encode(self.values.tobytes()).decode()}"

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Column):
            return NotImplemented
        return self.values.dtype == other.values.dtype and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(self.values.tobytes())

    def tolist(self) -> list[Any]:
        """As Python's numbers."""
        return self.values.tolist()
