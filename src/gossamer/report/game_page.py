"""The game as one HTML file: styles, script and texts inside, nothing fetched from anywhere."""

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gossamer import files
from gossamer.explain.game import GameRound
from gossamer.explain.windows import Window


def game_page(made: GameRound) -> str:
    """The page as HTML text. Truths are inside, as they must be where no server holds them, but are not shown."""
    environment = Environment(loader=PackageLoader("gossamer.report"), autoescape=True, undefined=StrictUndefined)
    items = [
        {
            "blind": item.blind,
            "feature": str(item.feature),
            "shown": [_text(one) for one in item.shown],
            "choices": item.choices,
            "right": item.right,
            "sorted": [_text(one) for one in item.sorted],
            "truths": item.truths,
        }
        for item in made.items
    ]
    machines = [{"player": one.player, "answers": one.answers} for one in made.machines]
    record = {"round": made.name, "model": made.model, "items": items, "machines": machines}
    # Nothing in the texts ends the script element or begins a comment.
    inside = Markup(json.dumps(record, separators=(",", ":")).replace("<", "\\u003c"))
    return environment.get_template("game/page.html.j2").render(made=made, record=inside)


def write_game(made: GameRound, path: str | Path) -> Path:
    """Write the page, atomically. Returns the path."""
    return files.write_text(path, game_page(made))


def _text(window: Window) -> dict[str, object]:
    """A text with the places of its marks; a silent one has none."""
    return {"tokens": [_plain(token) for token in window.tokens], "marks": window.strong(0.3 * window.maximum)}


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "⏎" if one == "\n" else "\ufffd" for one in text)
