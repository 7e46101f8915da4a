"""The game in a terminal: one key and Enter an answer, marks by brackets and not by colour alone."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from gossamer.cli.printing import out
from gossamer.errors import GossamerError


def play(made: Any, name: str, read: Callable[[], str]) -> Any:
    """Play a round; nothing is told before its end. `read` gives a line of input, "" at its end.

    Raises:
        GossamerError: the input ends before the round does.
    """
    from gossamer.explain.game import Played

    chosen: list[bool | None] = []
    written: list[str] = []
    answers: list[tuple[bool | None, ...]] = []
    for number, item in enumerate(made.items, start=1):
        out.rule(f"{number} of {len(made.items)}: feature {item.blind}")
        out.print("It is active at the tokens in [brackets]:")
        for window in item.shown:
            out.print(_marked(window), soft_wrap=True)
        right, text = _named(item, read)
        chosen.append(right)
        written.append(text)
        out.print("Is it active somewhere in these texts? y or n")
        said: list[bool | None] = []
        for window in item.sorted:
            out.print(f"  {_plain(window.text)}", soft_wrap=True)
            said.append(_asked("y/n", ("y", "n"), read) == "y")
        answers.append(tuple(said))
    played = Played(name, tuple(chosen), tuple(written), tuple(answers))
    _reveal(made, played)
    return played


def _named(item: Any, read: Callable[[], str]) -> tuple[bool | None, str]:
    """The choice of a sentence, or one of the player's own."""
    for number, choice in enumerate(item.choices, start=1):
        out.print(f"  {number}  {choice}", soft_wrap=True)
    keys = [str(number) for number in range(1, len(item.choices) + 1)]
    answer = _asked(f"{keys[0]} to {keys[-1]}, or your own words", None, read)
    if answer in keys:
        return int(answer) - 1 == item.right, ""
    return None, answer


def _asked(what: str, allowed: Sequence[str] | None, read: Callable[[], str]) -> str:
    while True:
        out.print(f"{what}: ", end="")
        line = read()
        if not line:
            raise GossamerError("game: an answer expected, found the end of the input; nothing was kept")
        answer = line.strip()
        if answer and (allowed is None or answer.lower() in allowed):
            return answer.lower() if allowed else answer


def _marked(window: Any) -> Text:
    places = set(window.strong(0.3 * window.maximum))
    text = Text("  ")
    for place, token in enumerate(window.tokens):
        shown = _plain(token)
        text.append(f"[{shown}]" if place in places else shown, style="bold" if place in places else "")
    return text


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "⏎" if one == "\n" else "�" for one in text)


def _reveal(made: Any, played: Any) -> None:
    from gossamer.explain.game import result

    out.rule("the round")
    for item, right in zip(made.items, played.chosen, strict=True):
        mark = "" if right is None else " (right)" if right else " (wrong)"
        out.print(f"{item.blind} is {item.feature}: {item.choices[item.right]}{mark}", soft_wrap=True)
    table = Table("player", "sorting [95 %]", "choosing", box=None)
    for one in (played, *made.machines):
        table.add_row(one.player, *("-" if found is None else str(found) for found in result(made, one)))
    out.print(table)
