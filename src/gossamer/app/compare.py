"""Two circuits, or two dictionaries, of a run side by side."""

from pathlib import Path
from typing import Any

import torch

from gossamer.app.circuit_page import footnote
from gossamer.app.schema.base import IntervalShape
from gossamer.app.schema.compare import (
    ComparedCircuit,
    ComparedDictionary,
    ComparedNode,
    CosineHistogram,
    MatchedLatent,
)
from gossamer.app.sets import FoundSet, dictionary_source
from gossamer.app.workbench import SavedCircuit
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.evaluate.stability import containment, jaccard
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.features.feature import Feature, Node
from gossamer.features.matching import LatentMatches
from gossamer.model.site import Site
from gossamer.report import text

_NODES, _BINS = 500, 25


def overlap_facts(one: SavedCircuit, other: SavedCircuit, candidates: int | None) -> dict[str, Any]:
    """The numbers and nodes of :class:`CircuitComparison`; `candidates` are the nodes that could have been chosen."""
    a, b = ({node.node for node in found.circuit.nodes} for found in (one, other))
    shared, rows, described = a & b, _rows(one, other), (_circuit(one), _circuit(other))
    return {
        "a": described[0],
        "b": described[1],
        "footnote": footnote((each.mark for each in described), any(node.is_error for node in a | b)),
        "shared": len(shared),
        "jaccard": jaccard(a, b),
        "jaccard_latents": jaccard({node.feature for node in a}, {node.feature for node in b}),
        "contained": containment(a, b),
        "by_chance": None if candidates is None else _by_chance(len(a), len(b), candidates),
        "warnings": _warnings(one.circuit, other.circuit),
        "nodes": rows[:_NODES],
        "hidden": max(len(rows) - _NODES, 0),
    }


def _by_chance(a: int, b: int, candidates: int) -> float:
    """Jaccard index of the expected overlap of random sets of these sizes."""
    both = a * b / candidates
    return both / max(a + b - both, 1e-12)


def _circuit(found: SavedCircuit) -> ComparedCircuit:
    budget = () if found.findings is None else found.findings.budget
    own = next((one for one in budget if one.name == "circuit"), None)
    circuit = found.circuit
    return ComparedCircuit(
        id=found.part.id,
        task=circuit.task,
        model=circuit.model,
        nodes=len(circuit.nodes),
        latents=len({node.feature for node in circuit.nodes}),
        faithfulness=None if own is None else IntervalShape.model_validate(own.faithfulness),
        prompt_error=None if own is None else IntervalShape.model_validate(own.prompt_error),
        accuracy=None if own is None else own.accuracy,
        kl=None if own is None else own.kl,
        mark="" if own is None else own.mark,
    )


def _rows(one: SavedCircuit, other: SavedCircuit) -> list[ComparedNode]:
    """Nodes of either circuit: shared ones first, then by the larger effect."""
    effects: tuple[dict[Node, float], dict[Node, float]] = ({}, {})
    labels: dict[Node, str] = {}
    for place, found in enumerate((one, other)):
        for card in () if found.findings is None else found.findings.nodes:
            effects[place][card.node] = card.effect
            labels.setdefault(card.node, card.card.label)
    a, b = ({node.node for node in found.circuit.nodes} for found in (one, other))
    rows = [
        ComparedNode(
            node=str(node),
            feature=str(node.feature),
            in_a=node in a,
            in_b=node in b,
            effect_a=effects[0].get(node),
            effect_b=effects[1].get(node),
            label=text.visible(labels[node]) if labels.get(node) else "–",
        )
        for node in sorted(a | b, key=str)
    ]
    return sorted(
        rows, key=lambda row: (not (row.in_a and row.in_b), -max(abs(row.effect_a or 0), abs(row.effect_b or 0)))
    )


def _warnings(one: Circuit, other: Circuit) -> list[str]:
    """A number of a latent means something within one dictionary alone."""
    if one.inputs is None or other.inputs is None:
        return ["a circuit's file does not say which dictionaries it is of: equal numbers may be other latents"]
    theirs = other.inputs.dictionaries
    different = [
        site
        for site, known in one.inputs.dictionaries.items()
        if site in theirs and theirs[site].sha256 != known.sha256
    ]
    apart = set(one.inputs.dictionaries) ^ set(theirs)
    said = [f"{', '.join(different)}: other dictionaries, so that equal numbers are other latents"] if different else []
    return said + ([f"{', '.join(sorted(apart))}: in one of the circuits alone"] if apart else [])


def load_dictionary(found: FoundSet, site: str) -> Dictionary:
    """One dictionary of a set, with its weights.

    Raises:
        UsageError: no such site.
        GossamerError: its files are not there, or are damaged.
    """
    if site not in map(str, found.shapes):
        raise UsageError(
            f"site: one of {', '.join(map(str, found.shapes))} of {found.part.id} expected, found {site!r}"
        )
    source = dictionary_source(found, site)
    if source is None:
        raise GossamerError(f"dictionary at {site} of {found.part.id}: nothing says where its files are")
    return Dictionary.load(Path(source) if Path(source).exists() else source, site=Site.parse(site))


def dictionary_facts(found: FoundSet, site: str, dictionary: Dictionary) -> ComparedDictionary:
    """What is said of each of two dictionaries."""
    claims = dictionary.reported
    return ComparedDictionary(
        set=found.part.id,
        site=site,
        n_latents=dictionary.n_latents,
        l0=claims.l0,
        explained_variance=claims.explained_variance,
    )


def match_facts(matches: LatentMatches, sites: tuple[str, str], limit: int, weakest: bool) -> dict[str, Any]:
    """The numbers and rows of :class:`DictionaryComparison`: the best matched latents, or the worst."""
    order = matches.decoder.argsort(descending=not weakest, stable=True)[:limit].tolist()
    edges = torch.linspace(0, 1, _BINS + 1)
    counts, control = (_counts(values, edges) for values in (matches.decoder, matches.control))
    return {
        "shared": matches.shared,
        "by_chance": matches.by_chance,
        "mean": matches.decoder.mean().item(),
        "mean_by_chance": matches.control.mean().item(),
        "histogram": CosineHistogram(edges=edges.tolist(), counts=counts, control=control),
        "rows": [
            MatchedLatent(
                a=str(Feature(Site.parse(sites[0]), latent)),
                b=str(Feature(Site.parse(sites[1]), int(matches.other[latent]))),
                decoder=matches.decoder[latent].item(),
                encoder=matches.encoder[latent].item(),
                mutual=bool(matches.mutual[latent]),
            )
            for latent in order
        ],
        "hidden": max(len(matches.other) - limit, 0),
    }


def _counts(values: torch.Tensor, edges: torch.Tensor) -> list[int]:
    """Values in each bin; a largest cosine below 0 counts in the first."""
    bins = torch.bucketize(values, edges[1:-1], right=True)
    counts: list[int] = torch.bincount(bins, minlength=len(edges) - 1).tolist()
    return counts
