"""Settings are checked where they are made."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import fields
from types import UnionType
from typing import Any, get_args, get_origin

from gossamer.errors import UsageError


class TrainingWarning(UserWarning):
    """What is asked for can be trained, but is rarely meant."""


def warn_of_undercomplete(found: Mapping[str, tuple[int, int]]) -> None:
    """Warn (:class:`TrainingWarning`) of dictionaries with fewer latents than their site has dimensions.

    Args:
        found: latents and dimensions, by the dictionary's name.
    """
    if few := [name for name, (latents, width) in found.items() if latents < width]:
        latents, width = found[few[0]]
        others = f" (and {len(few) - 1} more)" if len(few) > 1 else ""
        warnings.warn(
            f"dictionary {few[0]}{others}: {latents} latents for {width} dimensions (undercomplete): "
            "trained as asked, but features will share latents",
            TrainingWarning,
            stacklevel=3,
        )


def require(condition: bool, expected: str, found: object) -> None:
    """Raise a one-line :class:`UsageError` if a setting of training is not what was expected."""
    if not condition:
        raise UsageError(f"training settings: expected {expected}, found {found}")


def require_kinds(settings: Any) -> None:
    """Refuse settings, a dataclass, that hold something else than their annotations say.

    Whole numbers are no fractions, and numbers are finite: what is 2.5 or infinite here fails hours later otherwise.

    Raises:
        UsageError: naming the field.
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        require(_fits(value, field.type), f"{field.name} to be {_said(field.type)}", repr(value))


def _fits(value: object, kind: Any) -> bool:
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(one, get_args(kind)[0]) for one in value)
    return isinstance(value, kind)


def _said(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return f"a tuple, each of it {_said(get_args(kind)[0])}"
    if isinstance(kind, UnionType):
        return " or ".join(_said(one) for one in get_args(kind))
    words = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a word", type(None): "None"}
    return words.get(kind, f"an instance of {kind.__name__}")
