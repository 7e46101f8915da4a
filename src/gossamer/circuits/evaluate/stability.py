"""Would another run find the same circuit: overlap over seeds, splits and sizes, and latents that serve any task."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Literal

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.results import Overlap


def jaccard(one: Collection[Hashable], other: Collection[Hashable]) -> float:
    """|A and B| / |A or B|; 1 for two empty sets."""
    union = set(one) | set(other)
    return len(set(one) & set(other)) / len(union) if union else 1.0


def containment(one: Collection[Hashable], other: Collection[Hashable]) -> float:
    """|A and B| / |smaller of the two|; 1 when the smaller is empty."""
    smaller = min(len(set(one)), len(set(other)))
    return len(set(one) & set(other)) / smaller if smaller else 1.0


def overlap(
    kind: Literal["seed", "split", "size"], labels: Sequence[str], circuits: Sequence[Collection[tuple[str, str, int]]]
) -> Overlap:
    """Pairwise agreement of circuits given as sets of (site, role, latent)."""
    return Overlap(
        kind=kind,
        labels=tuple(labels),
        sizes=tuple(len(circuit) for circuit in circuits),
        jaccard=tuple(tuple(jaccard(one, other) for other in circuits) for one in circuits),
        containment=tuple(tuple(containment(one, other) for other in circuits) for one in circuits),
    )


def generic_latents(circuit: Circuit, others: Sequence[Circuit]) -> Mapping[tuple[str, int], tuple[str, ...]]:
    """(site, latent) pairs of `circuit` that circuits of other tasks hold too, with the names of these tasks.

    Such latents (punctuation, early positions, "any word of this kind") are probably not about the task.
    """
    held: dict[tuple[str, int], tuple[str, ...]] = {}
    for other in others:
        if other.task != circuit.task and other.model == circuit.model:
            for latent in sorted(circuit.unique_latents & other.unique_latents):
                held[latent] = (*held.get(latent, ()), other.task)
    return held
