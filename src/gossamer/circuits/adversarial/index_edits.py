"""Edits of a list lookup in a Python session, whose output the rules of Python give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.circuits.adversarial.edits import PromptEdit, replaced
from gossamer.tasks.code_output import ERROR
from gossamer.tasks.prompt import Piece, Prompt

CLASSES = {"digit": ("items", "target"), "index": ("index",), "variable": ("name", "query_name")}
_SHORTEST, _LONGEST = 2, 9


@dataclass(frozen=True)
class IndexScene:
    """A list of digits, the index that is looked up, and one looked up before (None for none).

    `asked` is the item that the task's own lookup, the one that works, asks for.
    """

    variable: str
    items: tuple[str, ...]
    index: int
    asked: int
    earlier: int | None = None

    def prompt(self) -> Prompt:
        """The session, with what it prints next; wrong answers are the error, or all other items."""
        works = self.index < len(self.items)
        pieces = [Piece(">>> "), Piece(self.variable, "name")]
        target = self.index if works else self.asked
        for place, item in enumerate(self.items):
            pieces += [Piece(", " if place else " = ["), Piece(item, "target" if place == target else "items")]
        pieces.append(Piece("]\n>>> "))
        if self.earlier is not None:
            pieces.append(Piece(f"{self.variable}[{self.earlier}]\n{self.items[self.earlier]}\n>>> "))
        pieces += [Piece(self.variable, "query_name"), Piece("["), Piece(str(self.index), "index")]
        pieces += [Piece("]", "close"), Piece("\n", "END")]
        answer = self.items[self.index] if works else ERROR
        wrong = list(dict.fromkeys(one for one in (ERROR, *self.items) if one != answer))
        case, template = "works" if works else "fails", f"list{len(self.items)}"
        return Prompt(tuple(pieces), tuple(pieces), answer, wrong[0], template, case, also_incorrect=tuple(wrong[1:]))

    def checked(self, **fields: Any) -> "IndexScene | None":
        """The scene with fields changed; None where it is none: nothing changed, or something asked for is gone."""
        found = replaced(self, **fields)
        if found is None or not _SHORTEST <= len(found.items) <= _LONGEST or found.asked >= len(found.items):
            return None
        return None if found.earlier is not None and found.earlier >= len(found.items) else found

    def with_item(self, place: int, digit: str) -> "IndexScene | None":
        """The scene with another digit at a place, where there is one."""
        if place >= len(self.items):
            return None
        return self.checked(items=(*self.items[:place], digit, *self.items[place + 1 :]))


def scene(prompt: Prompt) -> IndexScene:
    """What a generated prompt says."""
    words = [(piece.role, piece.text) for piece in prompt.clean if piece.role is not None]
    items = [(role, text) for role, text in words if role in ("items", "target")]
    asked, named = [role for role, _ in items].index("target"), dict(words)
    return IndexScene(named["name"], tuple(text for _, text in items), int(named["index"]), asked)


def edits(name: str, words: Mapping[str, Sequence[Any]]) -> list[PromptEdit]:
    """Other digits and variables, items added, left out, turned round or equal to the index, and a lookup before."""
    digits, places = words["digits"], range(6)
    found = [PromptEdit("item", f"at {place}", one, ("items", "target")) for place in places for one in digits]
    found += [PromptEdit("index", "looked up", one, ("index",)) for one in digits]
    found += [PromptEdit("variable", "everywhere", one, ("name", "query_name")) for one in words["variables"]]
    found += [PromptEdit("repeat", f"the index at {place}", touches=("index", "items")) for place in places]
    found += [PromptEdit("turn", f"the list by {n}", touches=("items", "target")) for n in range(1, 6)]
    found += [PromptEdit("leave out", "the last item", touches=("items",))]
    found += [PromptEdit("add", place, one, ("items",)) for place in ("first", "last") for one in digits]
    found += [PromptEdit("look up before", f"item {place}", touches=("items", "index")) for place in places]
    return found


def _turn(scene: IndexScene, edit: PromptEdit) -> IndexScene | None:
    by = int(edit.where.split()[-1]) % len(scene.items)
    return scene.checked(items=(*scene.items[by:], *scene.items[:by]))


def _add(scene: IndexScene, edit: PromptEdit) -> IndexScene | None:
    items = (edit.word, *scene.items) if edit.where == "first" else (*scene.items, edit.word)
    return scene.checked(items=items)


CHANGES = {
    "item": lambda scene, edit: scene.with_item(int(edit.where.split()[-1]), edit.word),
    "index": lambda scene, edit: scene.checked(index=int(edit.word)),
    "variable": lambda scene, edit: scene.checked(variable=edit.word),
    "repeat": lambda scene, edit: scene.with_item(int(edit.where.split()[-1]), str(scene.index)),
    "turn": _turn,
    "leave out": lambda scene, edit: scene.checked(items=scene.items[:-1]),
    "add": _add,
    "look up before": lambda scene, edit: scene.checked(earlier=int(edit.where.split()[-1])),
}
