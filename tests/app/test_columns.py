import struct

import numpy as np
import pytest

from gossamer.app.columns import decode_columns, encode_columns
from gossamer.errors import GossamerError


def test_columns_come_back_and_every_one_begins_at_a_multiple_of_four():
    draw = np.random.default_rng(0)
    columns = {
        "a": draw.integers(0, 255, 3).astype(np.uint8),
        "b": draw.normal(size=(2, 3)).astype(np.float16),
        "c": draw.integers(0, 2**32, 5).astype(np.uint32),
        "empty": np.zeros(0, np.float32),
        "d": draw.normal(size=4).astype(np.float32),
    }
    raw = encode_columns({"said": "␣é", "counts": {"n": 3}}, columns)
    header, found = decode_columns(raw)
    assert header == {"said": "␣é", "counts": {"n": 3}}
    assert list(found) == list(columns)
    for name, one in columns.items():
        assert (found[name] == one.reshape(-1)).all()
    # By hand, as the page reads it.
    (length,) = struct.unpack_from("<I", raw)
    assert length % 4 == 0
    assert list(raw[4 + length : 7 + length]) == columns["a"].tolist()
    assert struct.unpack_from("<6e", raw, 8 + length) == tuple(columns["b"].reshape(-1).astype(float).tolist())
    assert struct.unpack_from("<5I", raw, 8 + length + 12) == tuple(columns["c"].tolist())


def test_what_cannot_be_sent_or_read_is_refused():
    with pytest.raises(TypeError, match=r"column a: one of .* expected, found int64"):
        encode_columns({}, {"a": np.zeros(2, np.int64)})
    whole = encode_columns({}, {"a": np.zeros(9, np.float32)})
    for damaged in (b"", b"\x05", whole[:-8], b"\x04\0\0\0[1] "):
        with pytest.raises(GossamerError, match="columns: a header and its columns expected"):
            decode_columns(damaged)
