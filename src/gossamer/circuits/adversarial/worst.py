"""The worst case of a circuit: prompts of its task on which it is furthest from the model, drawn and sought.

Adversarial circuit evaluation (uit de Bos & Garriga-Alonso 2024, arXiv 2407.15166): means hide that a circuit fails on
plain prompts of its task. Here the same edits and the same search that look for failures of the model look for failures
of the circuit, with KL(model || circuit) in place of the margin.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.adversarial.edits import EditSpace, Scene
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder
from gossamer.circuits.adversarial.search import SearchOptions, SearchState, Tried, by_evolution, search
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.worst_prompts import prompt_tail
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.shortfalls import PromptTail, WorstPrompt
from gossamer.circuits.splice import Splice
from gossamer.dictionary.set import DictionarySet
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.progress import begin
from gossamer.statistics import QuantileBounds, quantile_bounds
from gossamer.tasks.encoding import AblationGroups, EncodedRow, encode
from gossamer.tasks.metric import LOGIT_MARGIN
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.prompt_tokenizer import PromptTokenizer
from gossamer.tasks.task import Task


@dataclass(frozen=True)
class WorstCaseSettings:
    """How the worst prompts of a circuit are sought.

    Attributes:
        drawn: prompts drawn at random; the largest of 299 is above the 99th percentile with a probability of 95 %, and
            368 bound that percentile from above.
        searches: half from the prompts with the largest KL of those drawn (of every template the worst first, and more
            where there are more templates), half from others.
        budget: edited prompts of each search.
        edits: of a recipe, at most.
        seed: of everything random.
    """

    drawn: int = 300
    searches: int = 8
    budget: int = 128
    edits: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"drawn": 10, "searches": 2, "budget": 8, "edits": 1}.items():
            if (found := getattr(self, name)) < least:
                raise UsageError(f"worst case: {name} of at least {least} expected, found {found}")


@dataclass(frozen=True)
class TemplateCase:
    """The prompts of one template, KL(model || circuit) in nats.

    Attributes:
        template: its name.
        drawn, mean: how many prompts were drawn of it, and their mean.
        worst, worst_text: the largest of these, and the prompt.
        found, found_text: the largest that searches found which began at its prompts, and the edited prompt.
    """

    template: str
    drawn: int
    mean: float
    worst: float
    worst_text: str
    found: float
    found_text: str

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.template
        yield f"KL {self.mean:.3g} on average, worst drawn {self.worst:.3g}, worst found {self.found:.3g}"


@dataclass(frozen=True)
class WorstCase:
    """How far a circuit is from its model where it is furthest, KL(model || circuit) in nats at the answer.

    Attributes:
        drawn: prompts drawn; `tail`: of their KL, with the worst of them.
        found: the worst prompt that was sought; `recipe`: the edits that make it from one that was drawn.
        tried: edited prompts of all searches.
        ablation: what the circuit's other latents are set to.
        templates: the same of every template, the one with the largest mean first; empty in older files.
        p99_bounds: of the 99th percentile of all such prompts, at least 95 %, free of any distribution; None in older
            files.
    """

    drawn: int
    tail: PromptTail
    found: WorstPrompt
    recipe: tuple[str, ...]
    tried: int
    ablation: str
    templates: tuple[TemplateCase, ...] = ()
    p99_bounds: QuantileBounds | None = None

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"KL {self.tail.mean:.3g} on average"
        yield f"worst drawn {self.tail.worst[0].kl:.3g}"
        yield f"worst found {self.found.kl:.3g}"

    def rows(self) -> list[tuple[str, str, str]]:
        """Mean, 95th and 99th percentile, worst drawn and worst found, with the prompt."""
        drawn, bounds = self.tail.worst[0], self.p99_bounds
        return [
            (f"mean of {self.drawn} drawn", f"{self.tail.mean:.3f}", ""),
            ("95th percentile of these", f"{self.tail.p95:.3f}", ""),
            ("99th percentile" + ("" if bounds is None else f", 95 % {bounds}"), f"{self.tail.p99:.3f}", ""),
            ("worst drawn", f"{drawn.kl:.3f}", drawn.text),
            (f"worst found, {self.tried} tried", f"{self.found.kl:.3f}", self.found.text),
        ]


@dataclass(kw_only=True)
class _TaskEncoder(PromptEncoder):
    """Scenes whose every token has an ablation value of the circuit's task; others are refused."""

    groups: AblationGroups

    def rows(self, scenes: Sequence[Scene]) -> list[EncodedRow | None]:
        """See :class:`PromptEncoder`."""
        return [None if row is None or self.groups.missing(row) else row for row in super().rows(scenes)]

    def pairs(self, rows: Sequence[EncodedRow]) -> PromptPairs:
        """See :class:`PromptEncoder`; ablation groups are the task's."""
        return encode(rows, self.roles, self.groups, self.tokenizer.padding, LOGIT_MARGIN)


@dataclass(kw_only=True)
class _Distance(CountedModel):
    """The circuit beside the model: a margin is -KL, so that a search lowers it; `spent` counts prompts."""

    nodes: Nodes
    dictionaries: DictionarySet
    ablation: Ablation

    def margins(self, pairs: PromptPairs) -> Float[Tensor, "prompt"]:
        """See :class:`CountedModel`."""
        self.spent += len(pairs)
        evaluator = self.evaluator(pairs)
        return -evaluator.prompt_metrics(evaluator.splice.nodes).kl.cpu()

    def evaluator(self, pairs: PromptPairs) -> Evaluator:
        """Of the circuit on some prompts."""
        return Evaluator(Splice.of(self.model, self.dictionaries, pairs, self.ablation, self.nodes))


@torch.no_grad()
def worst_case(
    model: LanguageModel,
    dictionaries: DictionarySet,
    task: Task,
    nodes: Nodes,
    space: EditSpace,
    ablation: Ablation,
    settings: WorstCaseSettings | None = None,
) -> WorstCase:
    """Draw prompts of a task, then edit some of them, for the largest KL(model || circuit).

    Prompts need no counterfactual here, so that ablation is to the mean or to zero. The right answer does not matter:
    what is sought is where circuit and model differ, whether or not the model is right.

    Args:
        model, dictionaries, task, nodes: of the circuit; `dictionaries` at its sites.
        space: the task's edits.
        ablation: values of the task's training prompts.

    Raises:
        UsageError: ablation by resampling, or no drawn prompt whose every token has an ablation value.
    """
    if ablation.kind == "resample":
        raise UsageError("worst case: ablation mean or zero expected, as edited prompts have no counterfactual")
    settings = settings or WorstCaseSettings()
    encoder = _TaskEncoder(PromptTokenizer(model.tokenizer, task.bos), task.role_names, groups=_groups(task))
    distance = _Distance(model, nodes=nodes, dictionaries=dictionaries, ablation=ablation)
    drawn = [
        (scene, row)
        for scene in dict.fromkeys(space.scenes(settings.drawn, settings.seed, held_out=False))
        if (row := encoder.rows([scene])[0]) is not None
    ]
    if not drawn:
        raise UsageError(
            f"worst case of {task.name}: prompts whose tokens all have ablation values expected, found none"
        )
    evaluator = distance.evaluator(encoder.pairs([row for _, row in drawn]))
    circuit = evaluator.prompt_metrics(nodes)
    kl, templates = circuit.kl.double().tolist(), [row.prompt.template for _, row in drawn]
    starts = _starts(kl, templates, settings)
    advance, worst = begin("searches for the worst case", len(starts)), 0.0
    ends: list[_End] = []
    for number, place in enumerate(starts):
        ends.append(_sought(space, encoder, distance, drawn[place], kl[place], settings, number))
        worst = max(worst, ends[-1].kl)
        advance(1, f"KL {worst:.3g}")
    last = max(ends, key=lambda one: one.kl)
    shown = distance.evaluator(encoder.pairs([last.row]))
    return WorstCase(
        drawn=len(drawn),
        tail=prompt_tail(evaluator.full, circuit),
        found=prompt_tail(shown.full, shown.prompt_metrics(nodes)).worst[0],
        recipe=last.recipe,
        tried=sum(one.tried for one in ends),
        ablation=ablation.kind,
        templates=tuple(_template_cases(kl, [row for _, row in drawn], ends)),
        p99_bounds=quantile_bounds(kl, 0.99),
    )


class _End(NamedTuple):
    """What a search came to: the template that it began in, the worst prompt and its edits, how many it tried."""

    template: str
    row: EncodedRow
    recipe: tuple[str, ...]
    kl: float
    tried: int


def _starts(kl: Sequence[float], templates: Sequence[str], settings: WorstCaseSettings) -> list[int]:
    """Prompts that searches begin at: half the worst, the worst of every template first; the others at random."""
    order = sorted(range(len(kl)), key=lambda place: -kl[place])
    first = {templates[place]: place for place in reversed(order)}
    half = settings.searches // 2
    worst = list(dict.fromkeys([*sorted(first.values(), key=lambda place: -kl[place]), *order]))
    worst = worst[: max(half, len(first))]
    left = [place for place in order if place not in set(worst)]
    return [*worst, *random.Random(settings.seed).sample(left, min(len(left), settings.searches - half))]


def _sought(
    space: EditSpace,
    encoder: PromptEncoder,
    distance: "_Distance",
    start: tuple[Scene, EncodedRow],
    kl: float,
    settings: WorstCaseSettings,
    number: int,
) -> _End:
    """The worst prompt that one search makes of another."""
    scene, row = start
    rng = random.Random(f"{settings.seed} worst {number}")
    options = SearchOptions(settings.budget, settings.edits)
    state = SearchState(space, encoder, distance, [scene], options, rng, Tried((), 0, -kl, 0))
    found = [state.unedited, *search(state, by_evolution, [space.random_recipe(rng, settings.edits)])]
    best = min(found, key=lambda one: one.margin)
    edited = encoder.rows([space.apply(scene, best.recipe)])[0] or row
    return _End(row.prompt.template, edited, tuple(map(str, best.recipe)), -best.margin, len(found) - 1)


def _template_cases(kl: Sequence[float], rows: Sequence[EncodedRow], ends: Sequence[_End]) -> Iterator[TemplateCase]:
    """Every template of the drawn prompts, the one with the largest mean first."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.prompt.template, []).append(place)
    means = {name: sum(kl[place] for place in own) / len(own) for name, own in places.items()}
    for name in sorted(means, key=lambda name: -means[name]):
        worst = max(places[name], key=lambda place: kl[place])
        # The worst of every template is where a search began.
        sought = max((one for one in ends if one.template == name), key=lambda one: one.kl)
        drawn, edited = (row.prompt.clean_text for row in (rows[worst], sought.row))
        yield TemplateCase(name, len(places[name]), means[name], kl[worst], drawn, sought.kl, edited)


def _groups(task: Task) -> AblationGroups:
    """The task's ablation groups, by the names that it keeps."""
    places = []
    for name in task.ablation_group_names:
        where, _, offset = name.rpartition("+")
        template, _, role = where.rpartition("/")
        places.append((template, role, int(offset)))
    return AblationGroups.of(places)
