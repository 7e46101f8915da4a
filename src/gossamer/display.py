"""How objects show themselves: one line where they are printed, a table where a notebook shows them.

A class says `__repr__ = short_repr`. What stands in the line are its fields, briefly; a class that has better to say
has a method `_facts`, which gives the parts of the line. With the line it gets the table of a notebook, `_repr_html_`,
unless it has its own (named tuples, whose line says all, have none).
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from types import MethodType
from typing import TYPE_CHECKING, Any

from gossamer.errors import one_line

LONGEST = 200
_TEXT, _ITEMS = 40, 4
_TABLE = "border-collapse:collapse;font:13px/1.5 sans-serif"
_CELL = "padding:1px 10px 1px 0;text-align:left;vertical-align:top"


class _ShortRepr:
    """The object that classes call `short_repr`: it gives them `_repr_html_` too, if they have none."""

    def __set_name__(self, owner: type, name: str) -> None:
        if not hasattr(owner, "_repr_html_"):
            owner._repr_html_ = facts_html  # type: ignore[attr-defined]

    def __get__(self, shown: Any, owner: type | None = None) -> Any:
        return self if shown is None else MethodType(self, shown)

    def __call__(self, shown: Any) -> str:
        text = one_line(", ".join(facts_of(shown)))
        name = type(shown).__name__
        return f"{name}({cut(text, LONGEST - len(name) - 2)})"


if TYPE_CHECKING:

    def short_repr(self: Any) -> str:
        """A `__repr__` of one line and at most `LONGEST` characters: the name of the class, and facts."""
        raise NotImplementedError

else:
    short_repr = _ShortRepr()


def facts_of(shown: Any) -> Iterable[str]:
    """What an object says of itself: the parts of its line, its own (`_facts`) or its fields."""
    own = getattr(shown, "_facts", None)
    return field_facts(shown) if own is None else own()


def facts_html(self: Any) -> str:
    """A `_repr_html_`: a table of the fields, briefly; of what has none, the parts of its line."""
    name = type(self).__name__
    if not dataclasses.is_dataclass(self):
        return html_table((name,), [(fact,) for fact in facts_of(self)])
    rows = [(field.name, brief(getattr(self, field.name))) for field in dataclasses.fields(self) if field.repr]
    return html_table((name, ""), rows)


def field_facts(self: Any) -> Iterator[str]:
    """Fields of a dataclass or a named tuple as `name=value`, those that have their default value left out."""
    if not dataclasses.is_dataclass(self):
        yield from (f"{name}={brief(getattr(self, name))}" for name in self._fields)
        return
    for field in dataclasses.fields(self):
        value = getattr(self, field.name)
        if field.repr and not _is_default(value, field):
            yield f"{field.name}={brief(value)}"


def _is_default(value: Any, field: "dataclasses.Field[Any]") -> bool:
    if field.default is not dataclasses.MISSING:
        return value is field.default or (not _is_tensor(value) and bool(value == field.default))
    factory = field.default_factory
    return factory is not dataclasses.MISSING and not _is_tensor(value) and bool(value == factory())


def brief(value: Any) -> str:
    """A value as a part of a line: what is long by how many it has, what is a tensor by its type and shape."""
    if isinstance(value, str):
        return cut(repr(value), _TEXT)
    if value is None or isinstance(value, bool | int):
        return repr(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if hasattr(type(value), "parse"):
        return str(value)
    if _is_tensor(value):
        return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    if isinstance(value, Mapping | Sequence | set | frozenset) and not hasattr(value, "_fields"):
        return _brief_items(value)
    if dataclasses.is_dataclass(value) or hasattr(value, "_fields"):
        # The line of another object is as cheap as this one's; whatever else its fields hold may be long.
        shows: Any = type(value).__repr__
        text = repr(value) if shows is short_repr else ""
        return text if 0 < len(text) <= _TEXT else f"{type(value).__name__}(…)"
    return cut(getattr(value, "__name__", None) or one_line(repr(value)).removeprefix("torch."), _TEXT)


def _brief_items(values: Any) -> str:
    """All items where they are few and short, else their number."""
    if len(values) <= _ITEMS and not any(isinstance(one, Mapping | list | tuple) for one in values):
        text = ", ".join(map(brief, values))
        if len(text) <= _TEXT:
            return (
                f"[{text}]" if isinstance(values, list) else f"({text})" if isinstance(values, tuple) else f"{{{text}}}"
            )
    return f"<{len(values)} items>"


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "shape")


def cut(text: str, length: int) -> str:
    """`text`, or its beginning and an ellipsis where it is longer than `length`."""
    return text if len(text) <= length else text[: length - 1] + "…"


def quoted(word: str) -> str:
    """A word as one of a list: in quotes where it has no letter and no digit, as a comma, which would end it."""
    if any(character.isalnum() for character in word):
        return word
    mark = "'" if '"' in word else '"'
    return f"{mark}{word}{mark}"


def plural(count: int, noun: str, nouns: str = "") -> str:
    """`1 node`, `1,204 nodes`; `nouns` where an s does not make the plural."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def listed(names: Iterable[Any], most: int = _ITEMS) -> str:
    """The names, or the first ones and how many more there are."""
    every = list(map(str, names))
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return f"{', '.join(every[:most])}{more}"


def html_table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """A plain table that stands alone in a notebook: no script, no style sheet, all text escaped, 4 digits a float."""
    parts = [f'<table style="{_TABLE}">', f"<caption>{escape(caption)}</caption>" if caption else ""]
    parts.append(_row("th", head))
    parts += [_row("td", row) for row in rows]
    return "".join([*parts, "</table>"])


def _row(cell: str, values: Sequence[Any]) -> str:
    shown = (escape(f"{value:.4g}" if isinstance(value, float) else str(value)) for value in values)
    opening = f'<{cell} style="{_CELL}">'
    return f"<tr>{''.join(f'{opening}{text}</{cell}>' for text in shown)}</tr>"


def html_frame(page: str, title: str, height: int) -> str:
    """A page with scripts of its own, for a notebook's cell: they run in an origin of their own, and see nothing of it.

    Notebooks that are not trusted leave frames out, with the words in their place that stand in the frame.
    """
    trusted = f"The {title} is drawn once this notebook is trusted (in JupyterLab: File, Trust Notebook) or run again."
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts" title="{title}" '
        f'style="width:100%;height:{height}px;border:0">{trusted}</iframe>'
    )
