"""Dataclasses to JSON and back."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import pytest

from gossamer.errors import NotFiniteError, UsageError
from gossamer.results.values import from_json, to_json


class Place(NamedTuple):
    site: str
    latent: int


@dataclass(frozen=True)
class Inner:
    value: float
    words: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Outer:
    name: str
    kind: Literal["a", "b"]
    inner: Inner
    several: tuple[Inner, ...]
    pair: tuple[str, int]
    place: Place
    maybe: int | None = None
    either: Inner | str = "none"
    by_name: Mapping[str, float] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    flags: list[bool] = field(default_factory=list)
    share: float | None = None


WHOLE = Outer(
    "n",
    "b",
    Inner(1.0, (("x", -2.5), ("y", math.inf))),
    (Inner(0.1), Inner(-math.inf)),
    ("s", 3),
    Place("z.1", 4),
    None,
    Inner(2.0),
    {"a": 1e-300, "b": math.inf},
    {"deep": [1, {"x": None}]},
    [True, False],
    -math.inf,
)


def test_everything_comes_back_through_text_as_it_was() -> None:
    text = json.dumps(to_json(WHOLE), allow_nan=False)
    found = from_json(json.loads(text), Outer)
    assert found == WHOLE
    assert isinstance(found.place, Place)
    assert isinstance(found.several[0], Inner)


def test_nan_comes_back_as_nan_and_null_is_read_as_one() -> None:
    assert to_json(Inner(math.nan)) == {"value": "NaN", "words": []}
    assert math.isnan(from_json({"value": "NaN"}, Inner).value)
    assert math.isnan(from_json({"value": None}, Inner).value)
    assert from_json({"value": 2}, Inner) == Inner(2.0)
    assert isinstance(from_json({"value": 2}, Inner).value, float)


def test_what_could_not_come_back_is_refused_when_written() -> None:
    with pytest.raises(NotFiniteError, match=r"^anything.x.0: a finite number expected, found nan"):
        to_json(Outer(**{**vars(WHOLE), "anything": {"x": [math.nan]}}))
    with pytest.raises(UsageError, match=r"^anything.x: .* found set; leave it out"):
        to_json(Outer(**{**vars(WHOLE), "anything": {"x": {1}}}))
    with pytest.raises(UsageError, match=r"found dict"):
        to_json({1: 2})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 1}, "name: str expected, found 1"),
        ({"kind": "c"}, r"kind: one of \('a', 'b'\) expected, found 'c'"),
        ({"inner": {"value": "much"}}, "inner.value: a number expected, found 'much'"),
        ({"inner": {"value": True}}, "inner.value: a number expected"),
        ({"inner": {}}, "inner: the fields of Inner expected, differing in 'value'"),
        ({"extra": 1}, "content: the fields of Outer expected, differing in 'extra'"),
        ({"several": {}}, "several: a list expected"),
        ({"pair": ["a"]}, "pair: 2 values expected"),
        ({"pair": ["a", 1.5]}, "pair.1: int expected, found 1.5"),
        ({"maybe": "x" * 99}, "maybe: int expected, found 'x{59}…"),
        ({"by_name": []}, "by_name: an object expected"),
    ],
)
def test_other_values_are_named_by_their_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        from_json({**to_json(WHOLE), **change}, Outer)
