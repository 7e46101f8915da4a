"""Dataclasses to JSON and back, by their annotations.

Tuples come back as tuples, dataclasses and named tuples as themselves; what has a name that it parses (a site, a
feature) is written as that. JSON has no NaN and no infinity: where a float
is annotated they are written as "NaN", "Infinity" and "-Infinity"; anywhere else they are refused.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gossamer.errors import NotFiniteError, UsageError

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any, kind: Any = Any, where: str = "") -> Any:
    """`value`, annotated as `kind`, in values that JSON has.

    Raises:
        NotFiniteError: NaN or an infinity where no float is annotated.
        UsageError: a value that JSON cannot hold.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _name_of(value, kind, where)
    if hasattr(type(value), "parse"):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kinds = _fields(kind if get_origin(kind) is type(value) else type(value))
        return {name: to_json(getattr(value, name), one, f"{where}.{name}") for name, one in kinds.items()}
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: to_json(one, _item(kind, 1), f"{where}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(one, _item(kind, place), f"{where}.{place}") for place, one in enumerate(value)]
    raise UsageError(
        f"{where.lstrip('.') or 'value'}: numbers, words, lists and mappings from words expected, "
        f"found {type(value).__name__}; leave it out"
    )


def _name_of(value: float, kind: Any, where: str) -> str:
    if kind is not float and float not in get_args(kind):
        raise NotFiniteError(
            f"{where.lstrip('.') or 'value'}: a finite number expected, found {value}; measure it again"
        )
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def from_json(value: Any, kind: Any, where: str = "") -> Any:
    """The inverse of :func:`to_json`. Null is NaN where a float is annotated, as older files have it.

    Raises:
        ValueError: the value is not of that kind; the message names the field, what was expected and what was found.
    """
    where = where.lstrip(".")
    origin = get_origin(kind)
    if kind is Any:
        return value
    if kind is float:
        return _number(value, where)
    if kind in (str, int, bool, NoneType):
        return value if type(value) is kind else _refuse(where, kind.__name__, value)
    if origin is Literal:
        return value if value in get_args(kind) else _refuse(where, f"one of {get_args(kind)}", value)
    if origin in (Union, UnionType):
        return _either(value, get_args(kind), where)
    if hasattr(kind, "parse"):
        return kind.parse(value) if isinstance(value, str) else _refuse(where, f"the name of a {kind.__name__}", value)
    if dataclasses.is_dataclass(origin or kind):
        return _dataclass(value, kind, where)
    if origin in (dict, Mapping, _ORIGINS["Mapping"]):
        inner = _item(kind, 1)
        found = value if isinstance(value, dict) else _refuse(where, "an object", value)
        return {name: from_json(one, inner, f"{where}.{name}") for name, one in found.items()}
    return _several(value, kind, origin, where)


_ORIGINS = {"Mapping": get_origin(Mapping[str, Any]), "Sequence": get_origin(Sequence[Any])}


def _refuse(where: str, expected: str, value: Any) -> Any:
    text = repr(value)
    raise ValueError(f"{where or 'content'}: {expected} expected, found {text[:60]}{'…' if len(text) > 60 else ''}")


def _number(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(where, "a number", value)
    return float(value)


def _either(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    if value is None and NoneType in kinds:
        return None
    refused: list[str] = []
    for kind in kinds:
        try:
            return from_json(value, kind, where)
        except (ValueError, UsageError) as error:
            refused.append(str(error))
    raise ValueError(refused[0])


def _dataclass(value: Any, kind: Any, where: str) -> Any:
    made, kinds = get_origin(kind) or kind, _fields(kind)
    found = value if isinstance(value, dict) else _refuse(where, "an object", value)
    needed = {
        one.name
        for one in dataclasses.fields(made)
        if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    }
    if unfit := sorted((needed - set(found)) | (set(found) - set(kinds))):
        raise ValueError(f"{where or 'content'}: the fields of {made.__name__} expected, differing in {unfit[0]!r}")
    return made(**{name: from_json(one, kinds[name], f"{where}.{name}") for name, one in found.items()})


def _several(value: Any, kind: Any, origin: Any, where: str) -> Any:
    """Lists, tuples of one kind or of fixed length, and named tuples."""
    found = value if isinstance(value, list) else _refuse(where, "a list", value)
    if isinstance(kind, type) and hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        kinds = [hints[name] for name in kind._fields]
    else:
        kinds = [_item(kind, place) for place in range(len(found))]
        fixed = origin is tuple and Ellipsis not in get_args(kind)
        kinds = list(get_args(kind)) if fixed else kinds
    if len(kinds) != len(found):
        _refuse(where, f"{len(kinds)} values", value)
    values = [
        from_json(one, inner, f"{where}.{place}") for place, (one, inner) in enumerate(zip(found, kinds, strict=True))
    ]
    if origin in (list, _ORIGINS["Sequence"]):
        return values
    return kind(*values) if origin is None else tuple(values)


def _item(kind: Any, place: int) -> Any:
    """How the item at `place` of a sequence, or the values of a mapping (place 1), are annotated."""
    inner = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return next((_item(one, place) for one in inner if get_args(one)), Any)
    if get_origin(kind) is tuple:
        return inner[0] if Ellipsis in inner else inner[place] if place < len(inner) else Any
    return inner[-1] if inner else Any


@lru_cache(maxsize=256)
def _fields(kind: Any) -> dict[str, Any]:
    """Fields of a dataclass with their annotations, the type variables of a generic one filled in."""
    made = get_origin(kind) or kind
    hints = get_type_hints(made)
    kinds = {one.name: hints[one.name] for one in dataclasses.fields(made)}
    given = dict(zip(getattr(made, "__parameters__", ()), get_args(kind), strict=False))
    for name, hint in kinds.items():
        if variables := getattr(hint, "__parameters__", ()):
            kinds[name] = hint[tuple(given.get(one, Any) for one in variables)]
    return kinds
