"""Everything the main job reports of a circuit, gathered from the evaluators."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.cards import node_cards
from gossamer.circuits.evaluate.completeness import completeness
from gossamer.circuits.evaluate.stability import generic_latents, overlap
from gossamer.circuits.methods import METHODS
from gossamer.circuits.path import Path
from gossamer.circuits.results import Findings, Overlap, PromptView
from gossamer.circuits.search import search_path
from gossamer.circuits.study import Found, Study

Keys = list[tuple[str, str, int]]


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
        reruns: further searches, for stability over seeds and over disjoint halves of the training prompts.
        others: circuits of other tasks on the same model: shared latents are flagged as generic.
        subsets: random subsets of the completeness test.
        warnings: sentences that the reader must see besides those found here.
    """
    study, circuit = found.study, found.circuit
    compared = [name for name in dict.fromkeys(METHODS if methods is None else methods) if name != found.path.method]
    paths = (found.path, *study.paths(compared, found.search))
    effects = torch.tensor([node.score or 0.0 for node in circuit.nodes], dtype=torch.float64)
    nodes = found.path.nodes.select(circuit.positions(found.path.nodes))
    return Findings(
        task=study.task.name,
        model=study.model.title,
        sites=circuit.sites,
        roles=circuit.roles,
        prompt=prompt_view(study),
        budget=study.bench.budget(nodes),
        curves=tuple(study.bench.curve(path) for path in paths),
        completeness=completeness(study.bench, nodes, subsets=subsets, seed=study.settings.seed),
        stability=stability(found, reruns),
        nodes=node_cards(study.bench, nodes, effects, generic_latents(circuit, others)),
        settings=settings_table(found),
        warnings=(*warnings, *_losses(study)),
    )


def stability(found: Found, reruns: int) -> tuple[Overlap, ...]:
    """Overlap over the sizes of the path, over seeds and over halves of the training prompts, at the circuit's size."""
    path = found.path
    near = [circuit for circuit in path.circuits if len(circuit) <= 100] or list(path.circuits)
    result = [overlap("size", [str(len(circuit)) for circuit in near], [_keys(path, circuit) for circuit in near])]
    if reruns and path.method == "mask":
        size = len(found.nodes)
        seeds = [found.study.settings.seed + number for number in range(1, reruns + 1)]
        again = [_searched(found, size, seed, None) for seed in seeds]
        labels = [f"seed {seed}" for seed in (found.study.settings.seed, *seeds)]
        result.append(overlap("seed", labels, [_keys_of(found), *again]))
        halves = [_searched(found, size, seed, half) for half, seed in enumerate(seeds[:2])]
        result.append(
            overlap("split", ["all", *(f"half {n + 1}" for n in range(len(halves)))], [_keys_of(found), *halves])
        )
    return tuple(result)


def _searched(found: Found, size: int, seed: int, half: int | None) -> Keys:
    """Nodes of the same search with a seed of its own, on all training prompts or on every second one."""
    study = found.study
    splice, full = study.splice, study.train.full
    if half is not None:
        rows = torch.arange(half, len(study.examples), 2)
        splice, full = splice.on(rows), full.on(rows)
    path = search_path(splice, full, replace(found.search, seed=seed, sizes=(size, *found.search.sizes)))
    return _keys(path, path.of_size(size))


def _keys(path: Path, circuit: torch.Tensor) -> Keys:
    return path.nodes.select(circuit).keys()


def _keys_of(found: Found) -> Keys:
    return [node.key for node in found.circuit.nodes]


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
    }
    for site, dictionary in study.dictionaries.items():
        claim = dictionary.claims
        source = dictionary.provenance.get("source", "made in this session")
        table[f"dictionary {site}"] = f"{dictionary.architecture}, {dictionary.n_latents} latents, {source}" + (
            "" if claim.l0 is None else f", L0 {claim.l0:.1f}"
        )
    return table


def _words(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) or "-"


def _losses(study: Study) -> tuple[str, ...]:
    """A warning when the dictionaries themselves cost much of the behaviour."""
    kept = study.bench.faithfulness(study.bench.dictionaries)
    if kept >= 0.9:
        return ()
    return (
        f"The dictionaries alone, before any ablation, keep {kept:.0%} of the model's logit difference: the circuit "
        "explains the model with its dictionaries, and the rest is reconstruction error.",
    )
