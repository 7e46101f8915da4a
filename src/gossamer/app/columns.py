"""Answers in columns of numbers, for what is too large for JSON.

One piece of bytes, little-endian: the length of a header as uint32; the header, JSON padded with spaces to a multiple
of four; then the columns one after the other, each padded with zeros to a multiple of four. The header's `columns` say
of each its name, its type (uint8, uint16, uint32, float16, float32) and how many numbers it has.
"""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import GossamerError
from gossamer.relations.graph_view import GraphPart

MEDIA_TYPE = "application/vnd.gossamer.columns"
_TYPES = {"uint8", "uint16", "uint32", "float16", "float32"}
_LENGTH = struct.Struct("<I")


def encode_columns(header: Mapping[str, Any], columns: Mapping[str, NDArray[Any]]) -> bytes:
    """One piece of a header and columns; arrays of more dimensions are written row by row."""
    listed = [{"name": name, "type": str(one.dtype), "length": int(one.size)} for name, one in columns.items()]
    for one in listed:
        if one["type"] not in _TYPES:
            raise TypeError(f"column {one['name']}: one of {', '.join(sorted(_TYPES))} expected, found {one['type']}")
    said = json.dumps({**header, "columns": listed}, separators=(",", ":"), allow_nan=False).encode()
    said += b" " * (-len(said) % 4)
    parts = [_LENGTH.pack(len(said)), said]
    for column in columns.values():
        raw = np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes()
        parts += [raw, b"\0" * (-len(raw) % 4)]
    return b"".join(parts)


def decode_columns(raw: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The header and the columns of such a piece.

    Raises:
        GossamerError: it is none.
    """
    try:
        (length,) = _LENGTH.unpack_from(raw)
        header = json.loads(raw[4 : 4 + length])
        place, columns = 4 + length, {}
        for one in header.pop("columns"):
            kind = np.dtype(one["type"]).newbyteorder("<")
            columns[str(one["name"])] = np.frombuffer(raw, kind, int(one["length"]), place)
            place += -(-kind.itemsize * int(one["length"]) // 4) * 4
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise GossamerError(f"columns: a header and its columns expected, found damage ({error}); ask again") from error
    return header, columns


def graph_columns(part: GraphPart) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A part of a graph as it is sent: 18 bytes a node and 14 an edge."""
    # A sum of many edges between communities may be beyond float16's range.
    weight = np.minimum(part.weight, np.finfo(np.float16).max)
    return {"detail": part.detail, "counts": part.counts}, {
        "ids": part.ids.astype(np.uint32),
        "x": part.x,
        "y": part.y,
        "size": part.size,
        "colour": part.colour,
        "members": part.members.astype(np.uint32),
        "edges": part.edges.astype(np.uint32),
        "weight": weight.astype(np.float16),
        "bundled": part.bundled.astype(np.uint32),
    }
