"""Would another run find the same circuit: overlap over prompts and sizes, and latents that serve any task."""

import math
import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Literal

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.overlap import Overlap
from gossamer.features.feature import Feature, Node


def jaccard(one: Collection[Hashable], other: Collection[Hashable]) -> float:
    """|A and B| / |A or B|; 1 for two empty sets."""
    union = set(one) | set(other)
    return len(set(one) & set(other)) / len(union) if union else 1.0


def containment(one: Collection[Hashable], other: Collection[Hashable]) -> float:
    """|A and B| / |smaller of the two|; 1 when the smaller is empty."""
    smaller = min(len(set(one)), len(set(other)))
    return len(set(one) & set(other)) / smaller if smaller else 1.0


def overlap(
    kind: Literal["bootstrap", "gradients", "split", "size", "family"],
    labels: Sequence[str],
    circuits: Sequence[Collection[Node]],
) -> Overlap:
    """Pairwise agreement of circuits given as sets of nodes."""
    return Overlap(
        kind=kind,
        labels=tuple(labels),
        sizes=tuple(len(circuit) for circuit in circuits),
        jaccard=tuple(tuple(jaccard(one, other) for other in circuits) for one in circuits),
        containment=tuple(tuple(containment(one, other) for other in circuits) for one in circuits),
    )


def recurrence(node: Node, samples: Sequence[Collection[Node]]) -> float:
    """Share of circuits that hold a node; NaN of no circuits."""
    return sum(node in sample for sample in samples) / len(samples) if samples else math.nan


def generic_latents(circuit: Circuit, others: Sequence[Circuit]) -> Mapping[Feature, tuple[str, ...]]:
    """Features of `circuit` that circuits of other tasks hold too, with the names of these tasks.

    Such latents (punctuation, early positions, "any word of this kind") are probably not about the task. A latent's
    number means something within one dictionary only, so sites are compared where both circuits name the same
    dictionary, by the sha256 of its weights. A circuit without such a site is left out, with a warning.
    """
    held: dict[Feature, tuple[str, ...]] = {}
    for other in others:
        if other.task == circuit.task:
            continue
        shared = _same_dictionaries(circuit, other)
        if not shared:
            warnings.warn(
                f"circuit of {other.task} on {other.model}: no dictionary in common with that of {circuit.task} on "
                f"{circuit.model} (sha256 differ or are missing); it flags no generic latents: find it again with the "
                "same dictionaries, read from their files",
                stacklevel=2,
            )
        for feature in sorted(circuit.features & other.features):
            if str(feature.site) in shared:
                held[feature] = (*held.get(feature, ()), other.task)
    return held


def _same_dictionaries(one: Circuit, other: Circuit) -> set[str]:
    """Sites at which both circuits have the same dictionary."""
    known, theirs = _checksums(one), _checksums(other)
    return {site for site, checksum in known.items() if theirs.get(site) == checksum}


def _checksums(circuit: Circuit) -> dict[str, str]:
    facts = circuit.provenance.get("dictionaries", {})
    return {site: facts[site]["sha256"] for site in facts if facts[site].get("sha256")}
