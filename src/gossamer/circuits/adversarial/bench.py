"""What all arms of a study share: prompts that the model does, and what recipes do to those kept apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gossamer.circuits.adversarial.edits import EditSpace, Recipe, Scene
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder, text_costs, token_distance
from gossamer.circuits.adversarial.settings import AdversarialSettings
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.encoding import EncodedRow
from gossamer.tasks.prompt_pairs import PromptPairs

# Prompts on which the circuit is read.
_READ = 32


class StudyPrompts(NamedTuple):
    """Scenes that the model does, by what they are for, and how many it does not."""

    groups: list[list[Scene]]
    choice: list[Scene]
    held_out: list[Scene]
    failed: int


class EditedRow(NamedTuple):
    """A prompt: its scene, and its tokens before and after a recipe."""

    scene: Scene
    clean: EncodedRow
    edited: EncodedRow


class RecipeEffect(NamedTuple):
    """What a recipe does to some prompts.

    Attributes:
        broken: of every prompt, whether the model fails on it; one that the tokenizer refuses is not broken.
        margin: the mean of those that it takes.
        distance: tokens put in, left out or exchanged, their mean.
        cross_entropy: by how much the bare model finds the text less likely, in nats a token, the mean.
    """

    broken: tuple[bool, ...]
    margin: float
    distance: float
    cross_entropy: float


@dataclass
class Bench:
    """What all arms share; `dictionaries` are those at the circuit's sites."""

    space: EditSpace
    encoder: PromptEncoder
    model: LanguageModel
    dictionaries: Mapping[Site, Dictionary]
    settings: AdversarialSettings
    prompts: StudyPrompts
    _effects: dict[tuple[Recipe, bool], RecipeEffect] = field(default_factory=dict)
    _costs: dict[tuple[int, ...], float] = field(default_factory=dict)

    def effect(self, recipe: Recipe, *, held_out: bool) -> RecipeEffect:
        """What a recipe does to held-out prompts, or to those that recipes are chosen on.

        Into held-out prompts it puts words that the search never had.
        """
        if (recipe, held_out) not in self._effects:
            scenes = self.prompts.held_out if held_out else self.prompts.choice
            apply = self.space.apply_unseen if held_out else self.space.apply
            rows = self.encoder.rows([apply(scene, recipe) for scene in scenes])
            kept = [row for row in rows if row is not None]
            margins = CountedModel(self.model).margins(self.encoder.pairs(kept)).tolist() if kept else []
            found = iter(margins)
            self._effects[recipe, held_out] = RecipeEffect(
                tuple(row is not None and next(found) < 0 for row in rows),
                _mean(margins),
                *self._changes(scenes, rows),
            )
        return self._effects[recipe, held_out]

    def count(self, recipe: Recipe) -> int:
        """How many held-out prompts a recipe breaks."""
        return sum(self.effect(recipe, held_out=True).broken)

    def broken_rows(self, recipe: Recipe) -> list[EditedRow]:
        """The held-out prompts that a recipe breaks."""
        scenes, broken = self.prompts.held_out, self.effect(recipe, held_out=True).broken
        edited = self.encoder.rows([self.space.apply_unseen(scene, recipe) for scene in scenes])
        rows = zip(scenes, self.encoder.rows(scenes), edited, broken, strict=True)
        return [EditedRow(scene, clean, new) for scene, clean, new, is_broken in rows if is_broken and clean and new]

    def read_prompts(self) -> PromptPairs:
        """Prompts of the searches on which the circuit is read."""
        scenes = [scene for group in self.prompts.groups for scene in group][:_READ]
        return self.encoder.pairs([row for row in self.encoder.rows(scenes) if row is not None])

    def _changes(self, scenes: list[Scene], rows: list[EncodedRow | None]) -> tuple[float, float]:
        """Mean token distance, and mean change of the cross-entropy."""
        both = zip(self.encoder.rows(scenes), rows, strict=True)
        pairs = [(clean.clean.ids, edited.clean.ids) for clean, edited in both if clean and edited]
        new = [ids for ids in dict.fromkeys(ids for pair in pairs for ids in pair) if ids not in self._costs]
        self._costs |= dict(zip(new, text_costs(self.model, new), strict=True))
        rises = [self._costs[edited] - self._costs[clean] for clean, edited in pairs]
        return _mean([token_distance(clean, edited) for clean, edited in pairs]), _mean(rises)


def _mean(values: list[float] | list[int]) -> float:
    return sum(values) / len(values) if values else float("nan")


def study_prompts(
    space: EditSpace, encoder: PromptEncoder, model: LanguageModel, settings: AdversarialSettings
) -> StudyPrompts:
    """Scenes that the model does: for each search, for the choice of recipes, and apart from them.

    Raises:
        GossamerError: the model does too few of the prompts as they are.
    """
    wanted = settings.searches * settings.prompts + settings.choice
    search, failed = _done(space, encoder, model, wanted, settings.seed, held_out=False)
    apart, more = _done(space, encoder, model, settings.held_out, settings.seed, held_out=True)
    size = settings.prompts
    groups = [search[start : start + size] for start in range(0, settings.searches * size, size)]
    return StudyPrompts(groups, search[settings.searches * size :], apart, failed + more)


def _done(
    space: EditSpace, encoder: PromptEncoder, model: LanguageModel, wanted: int, seed: int, *, held_out: bool
) -> tuple[list[Scene], int]:
    """`wanted` scenes of one side that the model does as they are, and how many it failed on."""
    found: list[Scene] = []
    failed, drawn = 0, wanted
    while len(found) < wanted:
        scenes = space.scenes(drawn, seed, held_out=held_out)
        rows = encoder.rows(scenes)
        known = [(scene, row) for scene, row in zip(scenes, rows, strict=True) if row is not None]
        margins = CountedModel(model).margins(encoder.pairs([row for _, row in known]))
        # A prompt that differs by its counterfactual alone comes up twice.
        found = list(dict.fromkeys(scene for (scene, _), margin in zip(known, margins, strict=True) if margin > 0))
        failed = int((margins <= 0).sum())
        if len(found) < wanted and drawn >= 4 * wanted:
            raise GossamerError(
                f"{space.task}: {wanted} prompts that {model.title} does expected, found {len(found)} of {drawn}; ask "
                "for fewer searches or held-out prompts, or study a task that the model can do"
            )
        drawn *= 2
    return found[:wanted], failed
