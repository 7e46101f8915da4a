"""Edits of indirect object identification: other names, places, objects, orders, and sentences that change nothing.

The rule: of the two people who are introduced, the one who does not give is given to. A sentence before the story may
name somebody else, one before the last sentence one of the two; neither changes who gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.circuits.adversarial.edits import PromptEdit, replaced
from gossamer.tasks import lexicon
from gossamer.tasks.ioi import ORDERS, TEMPLATES
from gossamer.tasks.prompt import Piece, Prompt, fill

CLASSES = {"name": ("IO", "S1", "S2"), "place": ("place",), "object": ("object",)}
_FIELDS = {"IO": "recipient", "S": "giver"}


@dataclass(frozen=True)
class IOIScene:
    """Two people, of whom one gives.

    Attributes:
        template, order: see :mod:`gossamer.tasks.ioi`.
        recipient, giver: names.
        place, thing: where and what.
        before: a name in a sentence before the story, "" for none.
        between: "IO" or "S" for a sentence about one of the two before the last sentence, "" for none.
    """

    template: str
    order: str
    recipient: str
    giver: str
    place: str
    thing: str
    before: str = ""
    between: str = ""

    def prompt(self) -> Prompt:
        """The prompt."""
        pattern = TEMPLATES[self.template]
        if self.between:
            start, end = _last_sentence(self.template)
            name = self.recipient if self.between == "IO" else self.giver
            pattern = f"{start}Soon {name} was happy. {end}"
        names = [Piece(self.recipient, "IO"), Piece(self.giver, "S1")]
        first, second = names if self.order == "ABBA" else names[::-1]
        words = {"A": first, "B": second, "S": Piece(self.giver, "S2")}
        words |= {"place": Piece(self.place, "place"), "object": Piece(self.thing, "object")}
        pieces = fill(pattern, words)
        if self.before:
            pieces = (Piece(f"The day was warm and {self.before} was happy. "), *pieces)
        return Prompt(pieces, pieces, f" {self.recipient}", f" {self.giver}", self.template, self.order)


def _last_sentence(template: str) -> tuple[str, str]:
    """A pattern before its last sentence and that sentence; "" before where it has one only."""
    start, stop, end = TEMPLATES[template].rpartition(". ")
    return start + stop, end


def scene(prompt: Prompt) -> IOIScene:
    """What a generated prompt says."""
    words = {piece.role: piece.text.strip() for piece in prompt.clean if piece.role is not None}
    place, thing = words.get("place", lexicon.PLACES[0]), words.get("object", lexicon.OBJECTS[0])
    return IOIScene(prompt.template, prompt.case, words["IO"], words["S1"], place, thing)


def edits(name: str, words: Mapping[str, Sequence[Any]]) -> list[PromptEdit]:
    """Other words at every role, the other order, and a sentence more."""
    found = [PromptEdit("name", where, one, _touched(where)) for where in _FIELDS for one in words["names"]]
    found += [PromptEdit("place", "place", one, ("place",)) for one in words["places"]]
    found += [PromptEdit("object", "object", one, ("object",)) for one in words["objects"]]
    found += [PromptEdit("order", one, touches=("IO", "S1")) for one in ORDERS]
    found += [PromptEdit("sentence", f"about {where} between", touches=_touched(where)) for where in _FIELDS]
    found += [PromptEdit("third person", "before", one) for one in words["names"]]
    return found


def _touched(where: str) -> tuple[str, ...]:
    return ("IO",) if where == "IO" else ("S1", "S2")


def _name(scene: IOIScene, edit: PromptEdit) -> IOIScene | None:
    if edit.word in (scene.recipient, scene.giver, scene.before):
        return None
    return replaced(scene, **{_FIELDS[edit.where]: edit.word})


def _sentence(scene: IOIScene, edit: PromptEdit) -> IOIScene | None:
    between = edit.where.split()[1]
    return replaced(scene, between=between) if _last_sentence(scene.template)[0] else None


def _third(scene: IOIScene, edit: PromptEdit) -> IOIScene | None:
    return None if edit.word in (scene.recipient, scene.giver) else replaced(scene, before=edit.word)


CHANGES = {
    "name": _name,
    "place": lambda scene, edit: replaced(scene, place=edit.word),
    "object": lambda scene, edit: replaced(scene, thing=edit.word),
    "order": lambda scene, edit: replaced(scene, order=edit.where),
    "sentence": _sentence,
    "third person": _third,
}
