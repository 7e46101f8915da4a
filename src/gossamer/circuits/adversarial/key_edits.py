"""Edits of a dictionary lookup in a Python session, whose output the rules of Python give.

The post that this makes testable (Caples et al.) found by hand that a name that occurs as a *value* makes its model
answer where Python raises a KeyError: "repeat" is that edit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gossamer.circuits.adversarial.edits import PromptEdit, replaced
from gossamer.tasks.code_output import ERROR
from gossamer.tasks.prompt import Piece, Prompt

CLASSES = {
    "name": ("keys", "target_key", "query_key"),
    "digit": ("values", "target_value"),
    "variable": ("name", "query_name"),
}
_OTHERS = ("1", "2", "3", "4")
_LONGEST = 7


@dataclass(frozen=True)
class DictEntry:
    """A key and its value: a digit, or a name, which is then written in quotes; `target`: the task asks for it."""

    key: str
    value: str
    target: bool = False

    @property
    def shown(self) -> str:
        return self.value if self.value.isdigit() else f"'{self.value}'"


@dataclass(frozen=True)
class KeyScene:
    """A dictionary, the key that is looked up, and the place among the other entries of one looked up before."""

    variable: str
    entries: tuple[DictEntry, ...]
    query: str
    earlier: str = ""

    @property
    def value(self) -> str | None:
        """What the lookup gives: the last of equal keys counts, as in Python; None for a KeyError."""
        return {one.key: one.value for one in self.entries}.get(self.query)

    def prompt(self) -> Prompt:
        """The session, with what it prints next; wrong answers are the error, or all other values that stand there."""
        pieces = [Piece(">>> "), Piece(self.variable, "name"), Piece(" = {'")]
        for number, one in enumerate(self.entries):
            kind = ("target_key", "target_value") if one.target else ("keys", "values")
            pieces += [Piece(", '")] if number else []
            pieces += [Piece(one.key, kind[0]), Piece("': "), Piece(one.shown, kind[1])]
        pieces.append(Piece("}\n>>> "))
        if self.earlier:
            before = self._other(self.earlier)
            pieces.append(Piece(f'{self.variable}["{before.key}"]\n{self._printed(before.key)}\n>>> '))
        pieces += [Piece(self.variable, "query_name"), Piece('["'), Piece(self.query, "query_key")]
        pieces += [Piece('"]', "close"), Piece("\n", "END")]
        value, printed = self.value, [one.shown[0] for one in self.entries]
        answer = ERROR if value is None else value
        wrong = list(dict.fromkeys(one for one in (ERROR, *printed) if one != answer))
        session = tuple(pieces)
        case, template = "fails" if value is None else "works", f"dictionary{len(self.entries)}"
        return Prompt(session, session, answer, wrong[0], template, case, also_incorrect=tuple(wrong[1:]))

    def _other(self, where: str) -> DictEntry:
        return [one for one in self.entries if not one.target][int(where) - 1]

    def _printed(self, key: str) -> str:
        return {one.key: one.shown for one in self.entries}[key]

    def with_other(self, where: str, **fields: Any) -> "KeyScene | None":
        """The scene with one of the entries that are not asked for changed; None where there is none."""
        places = [place for place, one in enumerate(self.entries) if not one.target]
        if int(where) > len(places):
            return None
        entries, place = list(self.entries), places[int(where) - 1]
        entries[place] = replace(entries[place], **fields)
        return self.checked(entries=tuple(entries))

    def checked(self, **fields: Any) -> "KeyScene | None":
        """The scene with fields changed; None where it is none: nothing changed, or a value is asked for that is no
        digit, or the entry looked up before is gone."""
        found = replaced(self, **fields)
        if found is None or not (found.value is None or found.value.isdigit()) or len(found.entries) > _LONGEST:
            return None
        others = sum(not one.target for one in found.entries)
        return None if found.earlier and int(found.earlier) > others else found


def scene(prompt: Prompt) -> KeyScene:
    """What a generated prompt says."""
    words = [(piece.role, piece.text) for piece in prompt.clean if piece.role is not None]
    keys = [(text, role == "target_key") for role, text in words if role in ("keys", "target_key")]
    values = [text for role, text in words if role in ("values", "target_value")]
    named = dict(words)
    entries = tuple(DictEntry(key, value, target) for (key, target), value in zip(keys, values, strict=True))
    return KeyScene(named["name"], entries, named["query_key"])


def edits(name: str, words: Mapping[str, Sequence[Any]]) -> list[PromptEdit]:
    """Other names, digits and variables, entries moved, added, left out, and values that are names."""
    names, digits = words["names"], words["digits"]
    found = [PromptEdit("name", "looked up", one, ("target_key", "query_key")) for one in names]
    found += [PromptEdit("key", f"of entry {n}", one, ("keys",)) for n in _OTHERS for one in names]
    found += [PromptEdit("value", f"of entry {n}", one, ("values",)) for n in _OTHERS for one in digits]
    found += [PromptEdit("value", "asked for", one, ("target_value",)) for one in digits]
    found += [PromptEdit("variable", "everywhere", one, ("name", "query_name")) for one in words["variables"]]
    found += [PromptEdit("move", f"to place {n}", touches=("target_key", "target_value")) for n in range(1, 6)]
    found += [PromptEdit("repeat", f"the name as value {n}", touches=("query_key", "values")) for n in _OTHERS]
    found += [PromptEdit("name as value", f"of entry {n}", one, ("values",)) for n in _OTHERS for one in names]
    found += [PromptEdit("leave out", f"entry {n}", touches=("keys", "values")) for n in _OTHERS]
    found += [PromptEdit("look up before", f"entry {n}", touches=("keys", "query_key")) for n in _OTHERS]
    found += [PromptEdit("key twice", place, touches=("target_key", "query_key")) for place in ("first", "last")]
    found += [PromptEdit("add", place, one, ("keys", "values")) for place in ("first", "last") for one in names]
    return found


def _name(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    """Another name is looked up, and stands wherever the old one did."""
    names = {scene.query, *(one.key for one in scene.entries), *(one.value for one in scene.entries)}
    if edit.word in names:
        return None

    def renamed(word: str) -> str:
        return edit.word if word == scene.query else word

    entries = tuple(replace(one, key=renamed(one.key), value=renamed(one.value)) for one in scene.entries)
    return scene.checked(entries=entries, query=edit.word)


def _key(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    taken = {scene.query, *(one.key for one in scene.entries)}
    return None if edit.word in taken else scene.with_other(edit.where.split()[-1], key=edit.word)


def _value(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    if edit.where != "asked for":
        return scene.with_other(edit.where.split()[-1], value=edit.word)
    return scene.checked(entries=tuple(replace(one, value=edit.word) if one.target else one for one in scene.entries))


def _move(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    target = [one for one in scene.entries if one.target]
    rest, place = [one for one in scene.entries if not one.target], int(edit.where.split()[-1]) - 1
    return scene.checked(entries=(*rest[:place], *target, *rest[place:]))


def _leave_out(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    others = [one for one in scene.entries if not one.target]
    number = int(edit.where.split()[-1])
    if number > len(others) or len(others) < 2:
        return None
    return scene.checked(entries=tuple(one for one in scene.entries if one is not others[number - 1]))


def _before(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    return scene.checked(earlier=edit.where.split()[-1])


def _twice(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    return None if scene.value is None else _added(scene, edit.where, scene.query)


def _add(scene: KeyScene, edit: PromptEdit) -> KeyScene | None:
    taken = {scene.query, *(one.key for one in scene.entries)}
    return None if edit.word in taken else _added(scene, edit.where, edit.word)


def _added(scene: KeyScene, place: str, key: str) -> KeyScene | None:
    """An entry more, with the first digit that no other has."""
    free = [digit for digit in "0123456789" if digit not in {one.value for one in scene.entries}]
    new = (DictEntry(key, free[0]),)
    return scene.checked(entries=(*new, *scene.entries) if place == "first" else (*scene.entries, *new))


CHANGES = {
    "name": _name,
    "key": _key,
    "value": _value,
    "variable": lambda scene, edit: scene.checked(variable=edit.word),
    "move": _move,
    "repeat": lambda scene, edit: scene.with_other(edit.where.split()[-1], value=scene.query),
    "name as value": lambda scene, edit: scene.with_other(edit.where.split()[-1], value=edit.word),
    "leave out": _leave_out,
    "look up before": _before,
    "key twice": _twice,
    "add": _add,
}
