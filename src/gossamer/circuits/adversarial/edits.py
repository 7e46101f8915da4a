"""Edits of a prompt after which its right answer is known, because it is worked out again from the task's own rule.

A scene is what a prompt says, in the task's terms; an edit changes the scene, and the prompt is written from it anew
with its answers. An edit names no word of one prompt ("the value of another entry repeats the name that is looked
up"), so that a recipe, a few edits in turn, can be tried on prompts it was not found on.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.tasks.generators import GENERATORS, Entry
from gossamer.tasks.prompt import Prompt

# Templates are held out, beside words, where each side keeps at least so many.
_FEWEST_TEMPLATES = 2


@dataclass(frozen=True)
class PromptEdit:
    """One change of a scene.

    Attributes:
        kind: what is done, a name of its task's edits.
        where: to which part.
        word: the word that is put there; "" where the edit takes it from the prompt itself.
        touches: roles whose words it changes, moves or repeats.
    """

    kind: str
    where: str
    word: str = ""
    touches: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.where}" + (f" = {self.word}" if self.word else "")


Recipe = tuple[PromptEdit, ...]


@runtime_checkable
class Scene(Protocol):
    """What a prompt says, in its task's terms."""

    def prompt(self) -> Prompt:
        """The prompt, with the answers that the task's rule gives."""


Change = Callable[[Any, PromptEdit], Any]


@runtime_checkable
class EditFamily(Protocol):
    """The edits of the tasks of one kind; a module of functions."""

    # Roles by the class of words that fill them: what a detector reads of one class alone may be a shortcut.
    CLASSES: Mapping[str, tuple[str, ...]]
    # What each kind of edit does to a scene: another scene, or None where it cannot be done.
    CHANGES: Mapping[str, Change]

    def scene(self, prompt: Prompt) -> Scene:
        """What a generated prompt says."""

    def edits(self, name: str, words: Mapping[str, Sequence[Any]]) -> list[PromptEdit]:
        """All edits of the task `name` with the words of the search."""


@dataclass(frozen=True)
class EditSpace:
    """The edits of one task, and prompts to search on and to keep apart, which share no name, noun or template.

    Attributes:
        task: name of the generator.
        family: how its scenes are read and changed.
        edits: all of them; their words are those of the search.
        options: of the generator.
        words: for the search and for the prompts kept apart, the word lists of each, templates among them.
    """

    task: str
    family: EditFamily
    edits: tuple[PromptEdit, ...]
    options: Mapping[str, Any]
    words: tuple[Mapping[str, tuple[Entry, ...]], Mapping[str, tuple[Entry, ...]]]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.task
        yield f"{len(self.edits)} edits"

    def scenes(self, n: int, seed: int, *, held_out: bool) -> list[Scene]:
        """`n` different prompts of one side, as scenes.

        Raises:
            UsageError: the words of that side give fewer.
        """
        rng = random.Random(f"{seed} {held_out}")
        sample = GENERATORS[self.task].sample
        prompts = sample(rng, n, **{**self.options, **self.words[held_out]})
        return [self.family.scene(prompt) for prompt in prompts]

    def apply(self, scene: Scene, recipe: Recipe) -> Scene:
        """The scene after the edits of a recipe; one that cannot be done there leaves it as it is."""
        for edit in recipe:
            scene = self.family.CHANGES[edit.kind](scene, edit) or scene
        return scene

    def apply_unseen(self, scene: Scene, recipe: Recipe) -> Scene:
        """The scene after the recipe with words that the search never had in place of its own (:meth:`unseen`)."""
        return self.apply(scene, self.unseen(scene, recipe))

    def unseen(self, scene: Scene, recipe: Recipe) -> Recipe:
        """The recipe with words of the prompts kept apart in place of the search's, drawn anew for each scene.

        What a recipe may keep is what it does, not which words it puts: a name that breaks the model would break every
        prompt that it is put into. A word of a recipe stays one word, two stay two, and none is one that the scene
        has. Words of lists that are not divided (digits, verbs, prepositions) stay.
        """
        rng = random.Random(repr(scene))
        used = {piece.text.strip() for piece in scene.prompt().clean}
        found: dict[str, str] = {}
        for word in (part for edit in recipe for part in _parts(edit.word)):
            if word not in found and (free := self._free(word, used)):
                found[word] = rng.choice(free)
                used |= {found[word]}
        return tuple(
            replace(edit, word=" ".join(found.get(part, part) for part in _parts(edit.word))) for edit in recipe
        )

    def _free(self, word: str, used: set[str]) -> list[str]:
        """Words of the other side's list in the same form, whose entries the scene has in no form; none where the list
        is not divided."""
        search, apart = self.words
        for key in _SPLIT:
            for entry in search.get(key, ()):
                if word in (forms := _forms(entry)):
                    own = [_forms(one) for one in apart[key] if one not in search[key]]
                    return [one[forms.index(word)] for one in own if not set(one) & used]
        return []

    def random_recipe(self, rng: random.Random, longest: int) -> Recipe:
        """One to `longest` edits drawn at random, each part of a scene changed once."""
        recipe: Recipe = ()
        for _ in range(rng.randint(1, longest)):
            recipe = joined(recipe, rng.choice(self.edits))
        return recipe

    def mutated(self, rng: random.Random, recipe: Recipe, longest: int) -> Recipe:
        """The recipe with an edit added, or put in another's place, or (of several) left out."""
        kept = list(recipe)
        if kept and (len(kept) >= longest or rng.random() < 1 / 3):
            kept.pop(rng.randrange(len(kept)))
            if kept and rng.random() < 1 / 3:
                return tuple(kept)
        return joined(tuple(kept), rng.choice(self.edits))


def joined(recipe: Recipe, edit: PromptEdit) -> Recipe:
    """The recipe with `edit` last, in place of one of the same kind at the same part."""
    return (*(one for one in recipe if (one.kind, one.where) != (edit.kind, edit.where)), edit)


def families() -> dict[str, EditFamily]:
    """Families of edits by the name of the generator."""
    from gossamer.circuits.adversarial import agreement_edits, index_edits, ioi_edits, key_edits

    found: dict[str, Any] = {"ioi": ioi_edits, "code-key": key_edits, "code-index": index_edits}
    agreement = {name: agreement_edits for name in GENERATORS if name.startswith("sva-")}
    return {**found, **agreement}


def edit_space(name: str, provenance: Mapping[str, Any], prompts: Sequence[Prompt], seed: int) -> EditSpace:
    """The edits of a generated task.

    Args:
        name: of the task.
        provenance: the task's, which names its generator and the options.
        prompts: the task's own, which say which words its tokenizer has.
        seed: of the division of words between the search and the prompts that are kept apart.

    Raises:
        UsageError: the task has no edits, or too few words to keep some apart.
    """
    known, generator = families(), provenance.get("generator")
    if generator not in known:
        raise UsageError(
            f"task {name}: one whose right answers can be worked out again expected ({', '.join(known)}), found "
            "prompts of another kind; find a circuit for one of these tasks"
        )
    options = {key: value for key, value in dict(provenance.get("options", {})).items() if value is not None}
    given = _word_lists(generator, options, prompts)
    rng = random.Random(seed)
    search: dict[str, Any] = {}
    apart: dict[str, Any] = {}
    for key, entries in given.items():
        shuffled = rng.sample(list(entries), len(entries))
        half = (len(shuffled) + 1) // 2
        # One template, or digits, which all lists need: both sides have all of them.
        whole = key == "digits" or (key == "templates" and len(shuffled) < 2 * _FEWEST_TEMPLATES) or len(shuffled) < 2
        search[key], apart[key] = (tuple(shuffled),) * 2 if whole else (tuple(shuffled[:half]), tuple(shuffled[half:]))
    family = known[generator]
    if "length" in options:
        search["length"] = apart["length"] = options["length"]
    return EditSpace(generator, family, tuple(family.edits(generator, search)), options, (search, apart))


def _word_lists(generator: str, options: Mapping[str, Any], prompts: Sequence[Prompt]) -> dict[str, list[Entry]]:
    """The lists that a generator draws from, without the words that none of the prompts has."""
    found = GENERATORS[generator]
    seen = {piece.text.strip() for prompt in prompts for piece in (*prompt.clean, *prompt.counterfactual) if piece.role}
    lists: dict[str, list[Entry]] = {}
    for key in found.options:
        if key == "templates":
            lists[key] = sorted({prompt.template for prompt in prompts})
        elif key in _SPLIT:
            entries = [*(options.get(key) or _default(generator, key)), *found.spare.get(key, ())]
            lists[key] = [one for one in dict.fromkeys(map(_entry, entries)) if _words(one) & seen]
    # A structure without a noun has no prompt with one.
    return {key: entries for key, entries in lists.items() if entries}


# Lists of words that are divided; verbs, prepositions and answers are the grammar's own, and both sides have them.
_SPLIT = ("names", "subjects", "nouns", "variables", "places", "objects", "digits")


def _entry(entry: Any) -> Entry:
    return entry if isinstance(entry, str) else tuple(entry)


def _words(entry: Entry) -> set[str]:
    return set(_forms(entry))


def _default(generator: str, key: str) -> Any:
    """What a generator draws from where nothing is asked for."""
    import inspect

    from gossamer.tasks import lexicon

    found = GENERATORS[generator]
    if key == "nouns":
        return lexicon.OBJECT_NOUNS if generator == "sva-nounpp" else lexicon.CLAUSE_NOUNS
    return found.words.get(key) or inspect.signature(found.sample).parameters[key].default


def _forms(entry: Entry) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry)


def _parts(text: str) -> list[str]:
    """The words of an edit: a phrase has several."""
    return text.split(" ")


SceneType = TypeVar("SceneType")


def replaced(scene: SceneType, **fields: Any) -> SceneType | None:
    """The scene with some fields changed; None where that changes nothing."""
    changed: SceneType = replace(cast(Any, scene), **fields)
    return None if changed == scene else changed
