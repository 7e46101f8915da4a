"""Everything the main job reports of a circuit, gathered from the evaluators."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import methodcaller
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.circuits.ablation import DESCRIBED
from gossamer.circuits.attribution import attribution_patching, ranking
from gossamer.circuits.bootstrap import few_texts
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.cost import report_seconds, uncounted
from gossamer.circuits.evaluate.against_controls import against_controls
from gossamer.circuits.evaluate.cards import node_cards
from gossamer.circuits.evaluate.comparison import chosen_baseline, compared
from gossamer.circuits.evaluate.completeness import completeness
from gossamer.circuits.evaluate.edge_curve import edge_test
from gossamer.circuits.evaluate.kept_task import prompts_seen
from gossamer.circuits.evaluate.prompt_graphs import explained_inputs
from gossamer.circuits.evaluate.restored_errors import restored_errors
from gossamer.circuits.evaluate.stability import generic_latents, overlap, recurrence
from gossamer.circuits.evaluate.unseen_templates import on_unseen_templates
from gossamer.circuits.evaluate.worst_prompts import prompt_tail
from gossamer.circuits.families.grouping import FamilyKind
from gossamer.circuits.families.search import circuit_families
from gossamer.circuits.find import CircuitResult
from gossamer.circuits.group import GroupTest, NodeGroup
from gossamer.circuits.groups import circuit_groups, group_test, node_groups
from gossamer.circuits.methods import MaskedPrompts, MethodInputs, mask_circuit
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.overlap import Overlap
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.results import HELD_OUT, Findings, NodeCard, PromptCase, PromptView
from gossamer.circuits.study import Study
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural
from gossamer.features.feature import Node
from gossamer.features.feature_card import CardSource
from gossamer.model.site import SiteMapping
from gossamer.progress import announce, duration, part_of
from gossamer.statistics import Interval
from gossamer.tasks.metric import LOGIT_DIFFERENCE, Metric, kept
from gossamer.tasks.split import shared_words
from gossamer.tasks.task import Task

# A case of at least so many prompts that keeps less than this share of the circuit's faithfulness is warned of.
CASE_PROMPTS, CASE_SHARE = 8, 0.8
# Held-out prompts that errors are restored on, at least.
RESTORED = 32
# Of the metric: where the empty circuit keeps less than minus this, counterfactuals argue for another answer.
OPPOSED = 0.1
# Circuits of fewer nodes are shown as they are; prompts that the groups of others are tested on, at least.
GROUPED, GROUPS_TESTED = 10, 32


def collect_findings(
    found: CircuitResult,
    *,
    methods: Sequence[str] | None = None,
    reruns: int = 2,
    others: Sequence[Circuit] = (),
    subsets: int = 12,
    edges: bool = False,
    warnings: Sequence[str] = (),
    source: CardSource | None = None,
    controls: Mapping[str, SiteMapping[Dictionary]] | None = None,
    families: FamilyKind | None = None,
    unseen: Task | None = None,
) -> Findings:
    """Evaluate a circuit in full on the held-out prompts.

    Args:
        found: the circuit with its study and path.
        methods: what to compare its path with (see METHODS; its own is never drawn twice); None for all possible.
        reruns: further searches on bootstrap samples of the prompts, for stability; with any, each half of the training
            prompts is searched too.
        others: circuits of other tasks with the same dictionaries: shared latents are flagged as generic.
        subsets: random subsets of the completeness test.
        edges: whether to test how many edges carry what the circuit does (:func:`edge_test`, which says what it costs).
        warnings: sentences that the reader must see besides those found here.
        source: where the cards of the nodes' features come from; None: a pass over the held-out prompts.
        controls: dictionaries to hold every claim against (:func:`against_controls`), by what was done to them.
        families: what to make families of prompts by, each with a circuit of its own (:func:`circuit_families`).
        unseen: prompts of templates that the circuit's task does not have (:func:`on_unseen_templates`).
    """
    study, circuit = found.study, found.circuit
    asked = dict.fromkeys(study.methods if methods is None else methods)
    rivals = [name for name in asked if name != found.path.method]
    announce(partial(_cost, found, rivals, reruns))
    drawn = found.path
    if found.path.method == "mask":
        # To find the circuit, only what may become it was improved.
        refiner = study.method_inputs(found.search).refiner(found.path)
        found = replace(found, path=refiner.improved(found.path))
        # The reported circuit had exact steps that no other size has: at its size it is what a reader gets.
        drawn = refiner.undominated(found.path).through(circuit.positions(found.path.nodes))
    paths = (drawn, *study.paths(rivals, found.search))
    measured = [study.evaluator.measured(path) for path in paths]
    chosen = chosen_baseline(study.choice, measured[1:])
    effects = torch.tensor([node.score or 0.0 for node in circuit.nodes], dtype=torch.float64)
    nodes = found.path.nodes.select(circuit.positions(found.path.nodes))
    budget, cases = study.evaluator.budget(nodes), study.evaluator.cases(nodes)
    (overlaps, samples), metric = stability(found, reruns), study.task.metric
    cards = node_cards(study.evaluator, nodes, effects, generic_latents(circuit, others), source)
    cards = tuple(replace(card, recurrence=recurrence(card.node, samples)) for card in cards)
    groups, tested = grouped_nodes(found, cards)
    return Findings(
        task=study.task.name,
        model=study.model.title,
        sites=circuit.sites,
        roles=circuit.roles,
        prompt=prompt_view(study),
        budget=budget,
        curves=tuple(map(study.evaluator.curve, measured)),
        comparisons=compared(study.evaluator, measured[0], [*measured[1:], *([chosen] if chosen else [])]),
        completeness=completeness(study.evaluator, nodes, subsets=subsets, seed=study.settings.seed),
        stability=overlaps,
        nodes=cards,
        cases=cases,
        settings=settings_table(found),
        warnings=(*warnings, *_cautions(study), *_uneven(cases, budget[-2].faithfulness, metric)),
        metric=metric.label,
        unit=metric.unit,
        kept=kept(metric),
        distance=metric.distance,
        edges=circuit.edges,
        edge_test=edge_test(study.evaluator, found.effects, seed=study.settings.seed) if edges else None,
        qk=circuit.qk,
        cards_of=HELD_OUT if source is None else source.text,
        tail=prompt_tail(study.evaluator.full, study.evaluator.prompt_metrics(nodes)),
        restored=restored_errors(study.evaluator.affordable(RESTORED)),
        core=_core(study, nodes, [card.node for card in cards if card.in_core]),
        groups=groups,
        group_test=tested,
        controls=against_controls(found, controls or {}),
        explained=explained_inputs(study.evaluator, nodes),
        families=None if families is None else circuit_families(found, families, reruns),
        unseen=None if unseen is None else on_unseen_templates(found, unseen, paths[1:]),
    )


def _cost(found: CircuitResult, methods: Sequence[str], reruns: int) -> str:
    """What the report will take, and what of it, from what the search took."""
    study, facts = found.study, found.path.settings
    others = f"{plural(len(methods), 'other method')} at every size" if methods else "the circuit alone"
    what = f"the report of {study.task.name}: {others}"
    if reruns and found.path.method == "mask":
        what += f", the search again on {plural(reruns, 'sample')} and two halves of the prompts"
    if not {"steps", "batch_size"} <= set(facts):
        return what
    held_out, gradients = len(study.task.test), int(facts["steps"]) * int(facts["batch_size"])
    sites, training = len(study.dictionaries), len(study.examples)
    seconds = report_seconds(found.path.seconds, gradients, methods, sites, training, held_out, reruns)
    besides = ", ".join(["searches of controls and families", "edge tests", *uncounted(methods)])
    return f"{what}; about {duration(seconds)} (not counted: {besides})"


def grouped_nodes(found: CircuitResult, cards: Sequence[NodeCard]) -> tuple[tuple[NodeGroup, ...], GroupTest | None]:
    """The circuit in fewer boxes, and what it costs that each moves as one; nothing of a circuit that is small."""
    if len(found.nodes) < GROUPED:
        return (), None
    study = found.study
    tested = study.evaluator.affordable(GROUPS_TESTED)
    groups = circuit_groups(study.splice, found.effects, study.choice.affordable(GROUPS_TESTED))
    return node_groups(tested, groups, cards), group_test(tested, groups, seed=study.settings.seed)


def _core(study: Study, nodes: Nodes, core: Sequence[Node]) -> TaskMetrics | None:
    """The held-out prompts with the nodes of the core alone."""
    alone = nodes.select(nodes.find(core))
    return study.evaluator.task_metrics("core", study.evaluator.prompt_metrics(alone)) if core else None


def with_cards(findings: Findings, source: CardSource) -> Findings:
    """The same with the cards of the nodes' features from another source, such as a feature store.

    Raises:
        UsageError: the source does not know one of the features.
    """
    cards = source.cards([node.card.feature for node in findings.nodes])
    nodes = tuple(replace(node, card=cards[node.card.feature]) for node in findings.nodes)
    return replace(findings, nodes=nodes, cards_of=source.text)


def _cautions(study: Study) -> tuple[str, ...]:
    """What limits everything that the study says, as sentences."""
    texts = (*few_texts(study.task.test), *prompts_seen(study))
    return (*_attached(study), *texts, *_unvalidated(study), *_losses(study), *_opposed(study))


def _opposed(study: Study) -> Iterator[str]:
    """Says so where latents are resampled from prompts that argue for another answer."""
    if study.settings.ablation != "resample" or (empty := study.evaluator.ends[0]) > -OPPOSED:
        return
    yield (
        f"Latents go to what they are on counterfactuals that argue for another answer: without any node {empty:.0%} "
        f"of the {kept(study.task.metric)} is left, which a circuit has to make up for. Its faithfulness cannot be "
        "held against that of circuits under another ablation."
    )


def stability(found: CircuitResult, reruns: int) -> tuple[tuple[Overlap, ...], list[list[Node]]]:
    """Agreement over resampled prompts, over halves of the training prompts, and over the sizes of the path.

    Every rerun is the whole procedure that the path came from, exact steps included, with the same settings and seed,
    and is compared with it at one size (exact steps of sizes that do not matter to it are left out). Nothing but the
    prompts differs: bootstrap samples of the training texts, or every second one; candidates and ablation values are
    the study's. (A seed alone changes the order of batches only.) As a control, nodes are ranked by attribution
    patching on the same samples, as many of them: how far a mean over prompts agrees, which nothing was fitted to.
    Only a mask search is run again. The nodes that each sample led to are returned too.
    """
    path, study = found.path, found.study
    near = [circuit for circuit in path.circuits if len(circuit) <= 100] or list(path.circuits)
    sizes = overlap("size", [str(len(circuit)) for circuit in near], [_keys(path, circuit) for circuit in near])
    if not reruns or path.method != "mask":
        return (sizes,), []
    place = max((index for index, size in enumerate(path.sizes) if size >= len(found.nodes)), default=0)
    given = study.method_inputs(found.search)
    again = partial(_searched, given, place)
    drawn = [(f"sample {number} of {reruns}", methodcaller("resampled", number)) for number in range(1, reruns + 1)]
    samples = [again(what, draw) for what, draw in drawn]
    halves = [again(f"half {half + 1} of 2", partial(_half, half=half)) for half in (0, 1)]
    labels = ("all prompts", *(f"sample {number}" for number in range(1, reruns + 1)))
    resampled = overlap("bootstrap", labels, [_keys(path, path.circuits[place]), *samples])
    controls = []
    if not study.task.metric.distance:
        ranked = [
            _ranked(one, len(path.circuits[place])) for one in (given, *(given.sampled(draw) for _, draw in drawn))
        ]
        controls.append(overlap("gradients", labels, ranked))
    return (resampled, *controls, overlap("split", ["half 1", "half 2"], halves), sizes), samples


def _ranked(given: MethodInputs, size: int) -> list[Node]:
    """The first nodes by attribution patching: what sampling prompts does to a mean over them, without any search."""
    splice = given.training.splice
    order = ranking(attribution_patching(splice), splice.nodes, signed=True)
    return splice.nodes.select(order[:size]).keys()


def _searched(
    given: MethodInputs, place: int, what: str, draw: Callable[[MaskedPrompts], Int[Tensor, "rows"]]
) -> list[Node]:
    """Nodes of the whole procedure at one place of the path, on the prompts that `draw` takes of each side."""
    with part_of(what):
        circuit = mask_circuit(given.sampled(draw), place)
    return given.training.splice.nodes.select(circuit).keys()


def _half(prompts: MaskedPrompts, half: int) -> Int[Tensor, "rows"]:
    """Every second prompt (they are in random order)."""
    return torch.arange(half, len(prompts.splice.examples), 2, device=prompts.splice.model.device)


def _keys(path: CircuitPath, circuit: torch.Tensor) -> list[Node]:
    return path.nodes.select(circuit).keys()


def prompt_view(study: Study, row: int = 0) -> PromptView:
    """One held-out prompt with the role of every token."""
    examples, model = study.task.test, study.model
    clean, other = examples.clean, examples.counterfactual
    names = study.task.role_names
    roles = [names[role] if role >= 0 else None for role in clean.roles[row][clean.tokens.mask[row]].tolist()]

    def words(ids: torch.Tensor) -> tuple[str, ...]:
        return tuple(model.word(token) for token in ids.tolist())

    return PromptView(
        tokens=words(clean.tokens.ids[row][clean.tokens.mask[row]]),
        roles=tuple(roles),
        counterfactual=words(other.tokens.ids[row][other.tokens.mask[row]]),
        answer=model.word(int(examples.answer[row])),
        incorrect=model.word(int(examples.incorrect[row])),
    )


def settings_table(found: CircuitResult) -> dict[str, str]:
    """What is needed to rerun, as words."""
    study, facts = found.study, found.circuit.provenance
    table: dict[str, str] = {
        "candidates": str(len(found.path.nodes)),
        "method": found.path.method,
        "target": _words(facts["target"]),
        "method settings": _words(found.path.settings),
        "ablation": f"{study.settings.ablation}: a latent goes {DESCRIBED[study.settings.ablation]}",
        "errors": study.settings.errors,
        "seed": str(study.settings.seed),
        "prompts": _prompt_counts(study),
        "dtype": facts["dtype"],
        "device": facts["device"],
        "versions": _words(facts["versions"]),
        "circuit": f"SHA-256 {found.circuit.sha256} (without groups)",
    }
    for site, dictionary in study.dictionaries.items():
        claim = dictionary.reported
        source = _for_readers(str(dictionary.provenance.get("source", "made in this session")))
        table[f"dictionary {site}"] = f"{dictionary.architecture}, {dictionary.n_latents} latents, {source}" + (
            "" if claim.l0 is None else f", L0 {claim.l0:.1f}"
        )
    return table


def _prompt_counts(study: Study) -> str:
    sides = study.sides
    searched = f"{len(study.examples)} searched on"
    if sides is not None:
        others = "others" if shared_words(study.examples.prompts, sides) else "with other words"
        searched += f" ({len(sides.train)} of them for exact steps, {len(sides.test)} {others} to check these)"
    apart = ", words of their own" if study.task.provenance.get("split_by") == "word" else ""
    return f"{searched}, {len(study.task.train)} for ablation values, {len(study.task.test)} held out{apart}"


def _for_readers(source: str) -> str:
    """A report is shared: of a path on this machine the last folders alone."""
    path = Path(source)
    return "/".join(path.parts[-2:]) if path.is_absolute() else source


def _words(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) or "-"


def _unvalidated(study: Study) -> tuple[str, ...]:
    """A warning when no side of the prompts could be kept for choosing, or one that is easier than the test."""
    if not study.settings.validation:
        return ()
    if study.sides is None:
        return (
            "The training prompts are too few, or too much alike, to keep some with names or templates of their own: "
            "the circuit was chosen on the prompts that it was fitted to, and will keep less elsewhere.",
        )
    if study.task.provenance.get("split_by") != "word" or not shared_words(study.examples.prompts, study.sides):
        return ()
    return (
        "The test has words of its own, the prompts that choices were made on share theirs with those that circuits "
        "were fitted to, because too few have others: what was chosen there will keep less on the test. Give more "
        "prompts.",
    )


def _attached(study: Study) -> tuple[str, ...]:
    """What was warned of when the dictionaries were attached, as sentences."""
    texts = (text for attachment in study.attachments for text in attachment.warnings)
    return tuple(f"{text[:1].upper()}{text[1:]}." for text in texts)


def _losses(study: Study) -> tuple[str, ...]:
    """A warning when the dictionaries themselves cost much of the behaviour."""
    share = study.evaluator.faithfulness(study.evaluator.dictionaries)
    if share >= 0.9:
        return ()
    return (
        f"The dictionaries alone, before any ablation, keep {share:.0%} of the model's {kept(study.task.metric)}: the "
        "circuit explains the model with its dictionaries, and the rest is reconstruction error.",
    )


def _uneven(cases: Sequence[PromptCase], overall: Interval, metric: Metric = LOGIT_DIFFERENCE) -> tuple[str, ...]:
    """A warning when the circuit does much worse on some kinds of prompts than on all: means hide that.

    Where it does nothing on all of them, within the interval, no kind of prompts is worse off.
    """
    if overall.low <= 0:
        return ()
    weak = [
        (case.circuit.faithfulness.value, case)
        for case in cases
        if case.prompts >= CASE_PROMPTS
        and (metric.distance or case.full.metric.value > 0)
        and case.circuit.faithfulness.value < CASE_SHARE * overall.value
    ]
    if not weak:
        return ()
    weak.sort(key=lambda found: found[0])
    said = [f"{share:.0%} on the {case.prompts} prompts of case {case.name!r}" for share, case in weak[:3]]
    more = f" (and {len(weak) - 3} more cases like these)" if len(weak) > 3 else ""
    return (
        f"The circuit keeps {overall.value:.0%} of the {kept(metric)} over all held-out prompts, but only "
        f"{', '.join(said)}{more}: read the table of cases, and ask for more faithfulness.",
    )
