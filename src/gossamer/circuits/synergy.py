"""FAP-Synergy: attribution patching whose order near a circuit's last place is decided by exact effects of pairs.

The first nodes of the ranking are the circuit's core. The nodes around its last place compete for the places left, by

    ``|score| / median |score| of the first K + WEIGHT * max(0, synergy) / median |effect of a partner|``

where the effect e of nodes is by how much the mean metric falls when the unmasked network has them at their ablation
values, partners are the first nodes of the core, and the synergy of a candidate c is the median of
``e(c, p) - e(c) - e(p)`` over some partners p, of those pairs whose single effects are both positive.

Source: PIE, Chen, He and Mesgarani 2026 (arXiv 2604.16889) and its authors' code. There a prompt at a time over the
features of cross-layer transcoders; here the nodes (latents at a role) of a task, on the mean over its prompts. It is
made for small budgets: larger circuits are left out.
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.attribution import ranking
from gossamer.circuits.path import CircuitPath
from gossamer.circuits.prompt_metrics import spliced_metric
from gossamer.circuits.splice import Splice
from gossamer.progress import begin

# By how much the mean metric falls without nodes.
Effect = Callable[..., float]
# Weight of synergy beside the score, and the share of a circuit's places that are decided by both: half of these nodes
# stand before the last place and half behind it, at most so many. As in the source's experiments.
WEIGHT, SHARE, MOST = 3.0, 0.25, 32
# Partners that are known, and of these how many each candidate is tried with.
PARTNERS, TRIED = 32, 8
# The largest circuit. A candidate costs TRIED passes of the prompts at each size.
LARGEST = 100
# What stands in for a median that is nothing.
_LEAST = 1e-6


def synergy_path(
    splice: Splice,
    scores: Float[Tensor, "node"],
    sizes: Sequence[int],
    *,
    signed: bool = False,
    largest: int = LARGEST,
    seed: int = 0,
) -> CircuitPath:
    """Circuits of those `sizes` that are at most `largest`.

    Args:
        splice: the network over the prompts that effects are measured on, masks over the candidates.
        scores: attribution patching's, signed.
        sizes: wanted; larger ones are left out.
        signed: ranked by score instead of |score|.
        largest: nodes of the largest circuit.
        seed: of the partners that a candidate is tried with.
    """
    began = time.perf_counter()
    order = ranking(scores, splice.nodes, signed=signed)
    value = (scores if signed else scores.abs())[order].tolist()
    chosen = sorted({size for size in sizes if size <= min(largest, len(order))}, reverse=True)
    effects, advance = _Effects.around(splice), begin("synergy", len(chosen))
    circuits = []
    for size in chosen:
        places = _places(value, order.tolist(), size, effects.of, random.Random(seed))
        circuits.append(order[torch.tensor(places, device=order.device)])
        advance(1, f"{size} nodes")
    facts = {"prompts": str(len(splice.examples)), "signed": str(signed), "seed": str(seed)}
    name = "FAP-Synergy" + (", signed" if signed else "")
    return CircuitPath(name, splice.nodes, tuple(circuits), time.perf_counter() - began, scores, facts)


@dataclass(frozen=True)
class _Effects:
    """What the mean metric loses when nodes of the unmasked network are at their ablation values; each measured once.

    Attributes:
        whole: the network with masks over the candidates, and every other latent kept.
        known: the mean metric without nodes, by the nodes.
    """

    whole: Splice
    known: dict[frozenset[int], float] = field(default_factory=dict)

    @classmethod
    def around(cls, splice: Splice) -> "_Effects":
        """Those of the nodes of a splice."""
        return cls(splice.with_nodes(splice.nodes, non_nodes="kept"))

    def of(self, *nodes: int) -> float:
        """The effect of leaving out the nodes (positions in the candidates) together."""
        fall = self._metric(frozenset()) - self._metric(frozenset(nodes))
        return -fall if self.whole.examples.metric.distance else fall

    def _metric(self, without: frozenset[int]) -> float:
        whole = self.whole
        if without not in self.known:
            mask = torch.ones(len(whole.nodes), device=whole.model.device)
            mask[sorted(without)] = 0.0

            def part(rows: slice) -> Tensor:
                return spliced_metric(whole, whole.outputs(mask, rows), rows)

            with torch.no_grad():
                values = torch.cat(in_batches(len(whole.examples), whole.batch_size, part))
            self.known[without] = values.double().mean().item()
        return self.known[without]


def _places(value: list[float], order: list[int], size: int, effect: Effect, drawn: random.Random) -> list[int]:
    """Places in the order of the nodes of a circuit of `size`: its core, then the best of those around its last place.

    Args:
        value: what the order falls by.
        order: nodes.
    """
    half = round(SHARE * size / 2)
    if not half:
        return list(range(size))
    core, around = range(size - half), range(size - half, min(size + half, len(order)))[:MOST]
    partners = [order[place] for place in core[:PARTNERS]]
    alone = [effect(partner) for partner in partners]
    usual = max(statistics.median(map(abs, alone)), _LEAST)
    scale = max(statistics.median_low(value[:size]), _LEAST)

    def boosted(place: int) -> float:
        found, own = [], effect(order[place])
        for index in drawn.sample(range(len(partners)), min(TRIED, len(partners))):
            if own > 0 and alone[index] > 0:
                found.append(effect(order[place], partners[index]) - own - alone[index])
        synergy = max(0.0, statistics.median(found)) if found else 0.0
        return value[place] / scale + WEIGHT * synergy / (usual + _LEAST)

    best = sorted(around, key=boosted, reverse=True)[:half]
    # Where there are more places than candidates, the ranking goes on.
    rest = [place for place in range(size) if place not in {*core, *best}]
    return [*core, *best, *rest[: size - len(core) - len(best)]]
