"""One look for every figure: palette, type sizes of a two-column paper, and how a figure becomes bytes."""

import contextlib
import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import text_to_path

from gossamer import files
from gossamer.errors import UsageError

# Blue against orange survives every common colour-vision deficiency; baselines differ in marker and dash as well.
OURS, AGAINST = "#1a5ba6", "#c4551b"
INK, MUTED, FAINT, RULE, PAPER = "#1c2128", "#626b77", "#9aa3ad", "#e3e7eb", "#ffffff"
BASELINES = (
    "#a8553f",
    "#9a7b1f",
    "#3f7f5f",
    "#7a5c99",
    "#2f8794",
    "#6e6e6e",
    "#b0647f",
    "#5c6f3a",
    "#2b2f36",
    "#c08a5a",
)
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "h", "*")
DASHES = (
    *((4, 1.4), (1.2, 1.2), (6, 1.4, 1.2, 1.4), (2.6, 1.2), (8, 1.6), (1, 2.2)),
    *((5, 1.2, 1, 1.2, 1, 1.2), (3, 3), (2, 1, 5, 1), (7, 3)),
)
COLUMN, PAGE = 3.35, 6.9
SIZE, SMALL = 7.5, 6.5
DPI = 220
PICTURES = (".png", ".svg")

_SANS = ("Helvetica", "Arial", "Liberation Sans")


@cache
def _families() -> list[str]:
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [*[name for name in _SANS if name in installed][:1], "DejaVu Sans"]


@contextlib.contextmanager
def paper() -> Iterator[None]:
    """Matplotlib settings inside which every figure of the report is made (and restored after)."""
    settings = {
        "font.family": _families(),
        "font.size": SIZE,
        "axes.titlesize": SIZE + 0.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": SIZE,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.6,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "xtick.minor.size": 1.5,
        "xtick.minor.width": 0.4,
        "text.color": INK,
        "text.parse_math": False,
        "figure.facecolor": PAPER,
        "axes.facecolor": PAPER,
    }
    with matplotlib.rc_context(settings):
        yield


def drawable(text: str) -> str:
    """`text` with every character that no font of the figures can draw written as its escape."""
    return "".join(c if ord(c) in _charset() else c.encode("unicode_escape").decode("ascii") for c in text)


@cache
def _charset() -> frozenset[int]:
    path = font_manager.findfont("DejaVu Sans Mono")
    return frozenset(font_manager.get_font(path).get_charmap())


def title(axes: Axes, sentence: str, inches: float) -> None:
    """Set a sentence as the title, broken to fit `inches`."""
    axes.set_title(broken(sentence, inches), pad=7, linespacing=1.25)


def width(said: str, size: float = SIZE + 0.5, weight: str = "bold") -> float:
    """How wide a line is drawn, in inches, in whatever fonts this machine has; by default as a title."""
    font = font_manager.FontProperties(family=_families(), size=size, weight=weight)
    return float(text_to_path.get_text_width_height_descent(said, font, False)[0]) / 72


def broken(sentence: str, inches: float, size: float = SIZE + 0.5, weight: str = "bold") -> str:
    """A sentence in lines of at most `inches`, by default of a title; a longer word has a line of its own."""
    lines = [""]
    for word in drawable(sentence).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width(longer, size, weight) > inches:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def shortened(sentence: str, inches: float) -> str:
    """As much of a title as one line of `inches` holds, by words, with an ellipsis where some are left out."""
    words = drawable(sentence).split()
    for count in range(len(words), 0, -1):
        said = " ".join(words[:count]) + (" …" if count < len(words) else "")
        if width(said) <= inches:
            return said
    return "…"


def mix(low: str, high: str, share: float) -> str:
    """The colour `share` of the way from `low` to `high` (both #rrggbb)."""
    ends = [[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in (low, high)]
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(*ends, strict=True))


def method_colour(index: int) -> str:
    """Colour of the curve at `index`; ours is the first."""
    return OURS if index == 0 else BASELINES[(index - 1) % len(BASELINES)]


def settled(figure: Figure) -> Figure:
    """The figure with its layout computed once and kept: it is written in two formats, and layout is the slow part."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def svg(figure: Figure) -> str:
    """The figure as an `<svg>` element: text as outlines, no dates, the same bytes every time."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "gossamer", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure atomically, 220 dots an inch."""
    with files.atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as its path's ending says, PNG or SVG, atomically.

    Raises:
        UsageError: another ending.
    """
    if path.suffix.lower() not in PICTURES:
        raise UsageError(f"{path}: a picture's path with one of the endings {', '.join(PICTURES)} expected; give one")
    if path.suffix.lower() == ".png":
        save_png(figure, path)
    else:
        files.write_text(path, svg(figure))
