"""Every held-out prompt that a recipe breaks, looked at closely, and recipes by what they do."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gossamer.circuits.adversarial.acceptance import CLEAR, FailureCheck, check_failures
from gossamer.circuits.adversarial.bench import Bench, EditedRow
from gossamer.circuits.adversarial.detectors import node_places
from gossamer.circuits.adversarial.edits import Recipe
from gossamer.circuits.adversarial.guides import CircuitGuide
from gossamer.circuits.adversarial.prompts import CountedModel
from gossamer.circuits.adversarial.repair import encoded, moved_nodes, put_back
from gossamer.circuits.adversarial.results import Acceptance, Detector, RecipeCluster, restored_share
from gossamer.display import short_repr
from gossamer.model.language_model import LanguageModel

# Prompts at a time, whose gradients are in memory, and detectors that are named with each.
_BATCH, _NAMED = 32, 3


@dataclass(frozen=True)
class Success:
    """A held-out prompt that a recipe breaks.

    Attributes:
        ids, text: the edited prompt; `clean_ids`, `clean_text`: before the edits.
        edits: as they were made here, with words that the search never had.
        answer: the right answer now, in text; `family`: template and case of the prompt before the edits.
        clean_margin: of the bare model before them; `check`: of the model after them.
        repaired: (patched - edited) / (clean - edited) margin with the circuit's nodes put back to their clean values;
            None where the edits change the right answer.
        lowered: by how much the value of the circuit's nodes falls, in logits to first order.
        moved: the detectors that move most, by number, and how far.
    """

    ids: tuple[int, ...]
    text: str
    clean_ids: tuple[int, ...]
    clean_text: str
    edits: tuple[str, ...]
    answer: str
    family: str
    clean_margin: float
    check: FailureCheck
    repaired: float | None
    lowered: float
    moved: tuple[tuple[int, float], ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield " + ".join(self.edits)
        yield f"margin {self.clean_margin:.3g} to {self.check.margin:.3g}"


def successes(
    bench: Bench, full: LanguageModel, guide: CircuitGuide, detectors: Sequence[Detector], recipe: Recipe
) -> tuple[Success, ...]:
    """Every held-out prompt that a recipe breaks. Cost: about 16 passes a prompt, with the greedy continuation.

    Args:
        bench: the study's prompts.
        full: the model in float32.
        guide: the circuit; `detectors`: its own.
        recipe: what breaks them.
    """
    rows, found = bench.broken_rows(recipe), list[Success]()
    for start in range(0, len(rows), _BATCH):
        found += _looked_at(bench, full, guide, detectors, recipe, rows[start : start + _BATCH])
    return tuple(found)


def _looked_at(
    bench: Bench,
    full: LanguageModel,
    guide: CircuitGuide,
    detectors: Sequence[Detector],
    recipe: Recipe,
    rows: Sequence[EditedRow],
) -> Iterator[Success]:
    clean, edited = encoded(bench.encoder, rows)
    bos = bench.encoder.tokenizer.bos
    checks = check_failures(bench.model, full, bench.dictionaries, edited, bos=bos)
    before = CountedModel(bench.model).margins(clean).tolist()
    patched = put_back(bench.model, guide.nodes, guide.dictionaries, clean, edited).tolist()
    nodes = moved_nodes(bench.model, guide, clean, edited)
    by_detector = [nodes[:, own].sum(dim=1).tolist() for own in node_places(guide.nodes, detectors)]
    for number, row in enumerate(rows):
        repaired = restored_share(patched[number], before[number], checks[number].margin)
        moves = [(place, values[number]) for place, values in enumerate(by_detector)]
        prompt = row.clean.prompt
        yield Success(
            ids=row.edited.clean.ids,
            text=row.edited.prompt.clean_text,
            clean_ids=row.clean.clean.ids,
            clean_text=prompt.clean_text,
            edits=tuple(map(str, bench.space.unseen(row.scene, recipe))),
            answer=row.edited.prompt.answer,
            family="/".join(filter(None, (prompt.template, prompt.case))),
            clean_margin=before[number],
            check=checks[number],
            repaired=repaired if row.clean.answers == row.edited.answers else None,
            lowered=-nodes[number].sum().item(),
            moved=tuple(sorted(moves, key=lambda one: -abs(one[1]))[:_NAMED]),
        )


def accepted(found: Sequence[Success]) -> Acceptance:
    """How many of the broken prompts stand each look."""
    checks = [one.check for one in found]
    return Acceptance(
        broken=len(found),
        below=sum(one.margin < CLEAR for one in checks),
        in_float32=sum(one.in_float32 < CLEAR for one in checks),
        continued=sum(one.said == "wrong" for one in checks),
        with_dictionaries=sum(one.with_dictionaries < 0 for one in checks),
        stand=sum(one.stands for one in checks),
        lowered=sum(one.lowered > 0 for one in found),
    )


def recipe_clusters(
    bench: Bench, guide: CircuitGuide, detectors: Sequence[Detector], recipes: Mapping[str, Sequence[Recipe]]
) -> dict[str, tuple[RecipeCluster, ...]]:
    """The recipes of every arm's searches by the kinds of their edits and the detector that they move most.

    Detectors are read on the prompts that recipes are chosen on. Cost: two passes and two backward passes of each of
    these a recipe.
    """
    moved = {one: _most_moved(bench, guide, detectors, one) for own in recipes.values() for one in own}
    found = {}
    for letter, own in recipes.items():
        keys = {one: (tuple(sorted({edit.kind for edit in one})), moved[one]) for one in own}
        searches = Counter(keys[one] for one in own)
        different = Counter(keys.values())
        found[letter] = tuple(
            RecipeCluster(*key, recipes=different[key], searches=count) for key, count in searches.most_common()
        )
    return found


def _most_moved(bench: Bench, guide: CircuitGuide, detectors: Sequence[Detector], recipe: Recipe) -> int | None:
    """The detector that a recipe moves most on the prompts that recipes are chosen on; None: it moves none."""
    scenes = bench.prompts.choice
    edited = bench.encoder.rows([bench.space.apply(scene, recipe) for scene in scenes])
    both = zip(scenes, bench.encoder.rows(scenes), edited, strict=True)
    rows = [EditedRow(scene, old, new) for scene, old, new in both if old is not None and new is not None]
    if not rows:
        return None
    nodes = moved_nodes(bench.model, guide, *encoded(bench.encoder, rows))
    size = [nodes[:, own].sum(dim=1).abs().mean().item() for own in node_places(guide.nodes, detectors)]
    place = max(range(len(size)), key=size.__getitem__)
    return place if size[place] > 0 else None
