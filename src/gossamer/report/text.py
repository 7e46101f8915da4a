"""Tokens and numbers as a reader sees them: nothing invisible, nothing that bends the line, no raw NaN."""

import math
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby

from gossamer.statistics import Interval

Run = tuple[str, bool]

MISSING = "–"
_THIN = "\u202f"
_MARKS = {"\n": "↵", "\t": "⇥", "\r": "␍"}
# Controls, format characters (bidirectional overrides, zero-width), surrogates, private and unassigned code points.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def pieces(token: str, *, running: bool = False, limit: int | None = None) -> tuple[Run, ...]:
    """Split a token into (text, is_mark) runs that can be shown anywhere.

    Args:
        token: text of one token, any Unicode.
        running: keep spaces as they are because the token stands in running text; else the outer ones become ␣.
        limit: cut longer tokens after this many characters.

    Returns:
        Runs; marks stand for something that is not itself visible (␣, ↵, an escape such as \\u202e).
    """
    if not token:
        return (("empty", True),)
    inner = token if running else token.strip(" ")
    lead = 0 if running else len(token) - len(token.lstrip(" "))
    trail = len(token) - lead - len(inner) if inner else 0
    marked = [("␣", True)] * lead + [_character(c) for c in inner] + [("␣", True)] * trail
    if unicodedata.category(inner[:1] or "a") in ("Mn", "Me"):
        marked.insert(lead, ("◌", True))
    if limit is not None and len(marked) > limit:
        marked = [*marked[: limit - 1], ("…", True)]
    return tuple(_joined(marked))


def visible(token: str, limit: int | None = None) -> str:
    """The token as plain text with its marks: for drawings and titles."""
    return "".join(text for text, _ in pieces(token, limit=limit))


def running(tokens: str | Iterable[str]) -> str:
    """A text, or tokens, as running text: spaces as they are, all else that is invisible marked."""
    texts = (tokens,) if isinstance(tokens, str) else tokens
    return "".join(text for token in texts if token for text, _ in pieces(token, running=True))


def cells(text: str) -> int:
    """Width of `text` in cells of a monospaced font (wide East Asian characters take two)."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text if not unicodedata.combining(c))


def _character(c: str) -> Run:
    if c in _MARKS:
        return _MARKS[c], True
    category = unicodedata.category(c)
    if category in _UNPRINTABLE or (category == "Zs" and c != " "):
        return c.encode("unicode_escape").decode("ascii"), True
    return c, c == "\ufffd"


def _joined(runs: list[Run]) -> Iterator[Run]:
    for is_mark, group in groupby(runs, key=lambda run: run[1]):
        yield "".join(text for text, _ in group), is_mark


def number(value: float | None, *, signed: bool = False) -> str:
    """Three significant digits, at most four decimals, a true minus, thousands separated; a dash for no number."""
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if 0 < size < 0.00005:
        return "<0.0001" if value > 0 else ">−0.0001"
    decimals = 0 if size >= 100 or size == 0 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.01 else 4
    text = f"{value:+,.{decimals}f}" if signed and value else f"{value:,.{decimals}f}"
    return text.replace("-", "−")


def ratio(value: float | None) -> str:
    """A share with two decimals."""
    return MISSING if value is None or not math.isfinite(value) else f"{value:.2f}".replace("-", "−")


def interval(found: Interval) -> str:
    """`0.95 [0.92, 1.00]`; without brackets where there is no interval."""
    around = f" [{ratio(found.low)}, {ratio(found.high)}]" if math.isfinite(found.low) else ""
    return ratio(found.value) + around


def percent(value: float | None, *, whole: bool = False) -> str:
    """A share in percent: whole numbers, one decimal below ten percent unless `whole`."""
    if value is None or not math.isfinite(value):
        return MISSING
    share = 100 * value
    text = str(round(share)) if whole or abs(share) >= 9.95 or share == 0 else f"{share:.1f}"
    return f"{text.replace('-', '−')}{_THIN}%"


def seconds(value: float | None) -> str:
    """A duration in the unit that reads best."""
    if value is None or not math.isfinite(value):
        return MISSING
    if 0 < value < 0.05:
        return f"<{_THIN}0.1{_THIN}s"
    if value < 100:
        return f"{value:.1f}{_THIN}s"
    minutes = round(value / 60)
    return f"{minutes}{_THIN}min" if minutes < 100 else f"{value / 3600:.1f}{_THIN}h"
