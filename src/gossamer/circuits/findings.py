"""Everything the main job reports of a circuit, gathered from the evaluators."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath

import torch

from gossamer.circuits.bootstrap import few_texts
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.cards import node_cards
from gossamer.circuits.evaluate.completeness import completeness
from gossamer.circuits.evaluate.stability import generic_latents, overlap
from gossamer.circuits.methods import METHODS
from gossamer.circuits.path import Path
from gossamer.circuits.results import Case, Findings, Overlap, PromptView
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.study import Found, Study
from gossamer.tasks.metric import LOGIT_DIFFERENCE, Metric, kept

Keys = list[tuple[str, str, int]]
# A case of at least so many prompts that keeps less than this share of the circuit's faithfulness is warned of.
CASE_PROMPTS, CASE_SHARE = 8, 0.8


def findings(
    found: Found,
    *,
    methods: Sequence[str] | None = None,
    reruns: int = 2,
    others: Sequence[Circuit] = (),
    subsets: int = 12,
    warnings: Sequence[str] = (),
) -> Findings:
    """Evaluate a circuit in full on the held-out prompts.

    Args:
        found: the circuit with its study and path.
        methods: what to compare its path with (see METHODS; its own is never drawn twice); None for all.
        reruns: further searches with seeds of their own, for stability; with any, each half of the training prompts is
            searched too.
        others: circuits of other tasks with the same dictionaries: shared latents are flagged as generic.
        subsets: random subsets of the completeness test.
        warnings: sentences that the reader must see besides those found here.
    """
    study, circuit = found.study, found.circuit
    compared = [name for name in dict.fromkeys(METHODS if methods is None else methods) if name != found.path.method]
    paths = (found.path, *study.paths(compared, found.search))
    effects = torch.tensor([node.score or 0.0 for node in circuit.nodes], dtype=torch.float64)
    nodes = found.path.nodes.select(circuit.positions(found.path.nodes))
    budget, cases = study.bench.budget(nodes), study.bench.cases(nodes)
    return Findings(
        task=study.task.name,
        model=study.model.title,
        sites=circuit.sites,
        roles=circuit.roles,
        prompt=prompt_view(study),
        budget=budget,
        curves=tuple(study.bench.curve(path) for path in paths),
        completeness=completeness(study.bench, nodes, subsets=subsets, seed=study.settings.seed),
        stability=stability(found, reruns),
        nodes=node_cards(study.bench, nodes, effects, generic_latents(circuit, others)),
        cases=cases,
        settings=settings_table(found),
        warnings=(
            *warnings,
            *_attached(study),
            *few_texts(study.task.test),
            *_losses(study),
            *_uneven(cases, budget[-2].faithfulness.value, study.task.metric),
        ),
        metric=study.task.metric.label,
        unit=study.task.metric.unit,
        kept=kept(study.task.metric),
        distance=study.task.metric.distance,
    )


def stability(found: Found, reruns: int) -> tuple[Overlap, ...]:
    """Agreement over seeds, over halves of the training prompts, and over the sizes of the path.

    Seeds and halves are compared at one size and as the search leaves its circuits, before any pruning; all searches
    have the study's candidates and ablation values. A seed of its own means other batches; the halves are searched with
    the search's own, so that nothing but their prompts differs. Only a mask search is run again.
    """
    path = found.path
    near = [circuit for circuit in path.circuits if len(circuit) <= 100] or list(path.circuits)
    sizes = overlap("size", [str(len(circuit)) for circuit in near], [_keys(path, circuit) for circuit in near])
    if not reruns or path.method != "mask":
        return (sizes,)
    size = min((one for one in path.sizes if one >= len(found.nodes)), default=path.sizes[0])
    own = found.search.seed
    seeds = [own + number for number in range(1, reruns + 1)]
    again = [_searched(found, size, replace(found.search, seed=seed), None) for seed in seeds]
    halves = [_searched(found, size, found.search, half) for half in (0, 1)]
    return (
        overlap("seed", [f"seed {seed}" for seed in (own, *seeds)], [_keys(path, path.of_size(size)), *again]),
        overlap("split", ["half 1", "half 2"], halves),
        sizes,
    )


def _searched(found: Found, size: int, search: SearchSettings, half: int | None) -> Keys:
    """Nodes of a search on all training prompts or on every second one (they are in random order)."""
    splice, full = found.study.splice, found.study.train.full
    if half is not None:
        rows = torch.arange(half, len(found.study.examples), 2)
        splice, full = splice.on(rows), full.on(rows)
    path = search_path(splice, full, search)
    return _keys(path, path.of_size(size))


def _keys(path: Path, circuit: torch.Tensor) -> Keys:
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
        wrong=model.word(int(examples.wrong[row])),
    )


def settings_table(found: Found) -> dict[str, str]:
    """What is needed to rerun, as words."""
    study, facts = found.study, found.circuit.provenance
    table: dict[str, str] = {
        "candidates": str(len(found.path.nodes)),
        "method": found.path.method,
        "target": _words(facts["target"]),
        "method settings": _words(found.path.settings),
        "ablation": study.settings.ablation,
        "errors": study.settings.errors,
        "seed": str(study.settings.seed),
        "prompts": f"{len(study.examples)} searched on, {len(study.task.train)} for ablation values, "
        f"{len(study.task.test)} held out",
        "dtype": facts["dtype"],
        "device": facts["device"],
        "versions": _words(facts["versions"]),
        "circuit": f"SHA-256 {found.circuit.sha256}",
    }
    for site, dictionary in study.dictionaries.items():
        claim = dictionary.claims
        source = _for_readers(str(dictionary.provenance.get("source", "made in this session")))
        table[f"dictionary {site}"] = f"{dictionary.architecture}, {dictionary.n_latents} latents, {source}" + (
            "" if claim.l0 is None else f", L0 {claim.l0:.1f}"
        )
    return table


def _for_readers(source: str) -> str:
    """A report is shared: of a path on this machine the last folders alone."""
    path = FilePath(source)
    return "/".join(path.parts[-2:]) if path.is_absolute() else source


def _words(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) or "-"


def _attached(study: Study) -> tuple[str, ...]:
    """What was warned of when the dictionaries were attached, as sentences."""
    texts = (text for attachment in study.attachments for text in attachment.warnings)
    return tuple(f"{text[:1].upper()}{text[1:]}." for text in texts)


def _losses(study: Study) -> tuple[str, ...]:
    """A warning when the dictionaries themselves cost much of the behaviour."""
    share = study.bench.faithfulness(study.bench.dictionaries)
    if share >= 0.9:
        return ()
    return (
        f"The dictionaries alone, before any ablation, keep {share:.0%} of the model's {kept(study.task.metric)}: the "
        "circuit explains the model with its dictionaries, and the rest is reconstruction error.",
    )


def _uneven(cases: Sequence[Case], overall: float, metric: Metric = LOGIT_DIFFERENCE) -> tuple[str, ...]:
    """A warning when the circuit does much worse on some kinds of prompts than on all: means hide that."""
    weak = [
        (case.circuit.faithfulness.value, case)
        for case in cases
        if case.prompts >= CASE_PROMPTS
        and (metric.distance or case.full.metric.value > 0)
        and case.circuit.faithfulness.value < CASE_SHARE * overall
    ]
    if not weak:
        return ()
    weak.sort(key=lambda found: found[0])
    said = [f"{share:.0%} on the {case.prompts} prompts of case {case.name!r}" for share, case in weak[:3]]
    more = f" (and {len(weak) - 3} more cases like these)" if len(weak) > 3 else ""
    return (
        f"The circuit keeps {overall:.0%} of the {kept(metric)} over all held-out prompts, but only "
        f"{', '.join(said)}{more}: read the table of cases, and ask for more faithfulness.",
    )
