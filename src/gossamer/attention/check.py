"""Whether a trace's edges are causal: a contribution is removed from the real model, and its parent is measured.

What an edge predicts is the direct effect, with patterns and norm scales held fixed and nothing on the way moving. What
is measured is everything that follows from the removal: with patterns and norm scales still fixed ("frozen"), the
layers between parent and child answer; with nothing fixed ("live"), attention goes elsewhere as well. So the agreement
says how far a picture made of direct effects can be believed on this prompt.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.source import Source
from gossamer.attention.trace import Root, Trace
from gossamer.attention.upstream import of_latents, upstream
from gossamer.batching import in_batches
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site

_BATCH = 32
_DRAWS = 1000


@dataclass(frozen=True)
class EdgeCheck:
    """One edge, predicted and measured, in the units of the root.

    Attributes:
        child: number of the node whose contribution was removed.
        predicted: what it contributes to its parent's function.
        frozen: by how much the function fell with patterns and norm scales held fixed.
        live: by how much it fell with nothing held fixed.
    """

    child: int
    predicted: float
    frozen: float
    live: float


@dataclass(frozen=True)
class Agreement:
    """Rank correlation of predicted and measured effects over edges, with a 95 % bootstrap interval over edges."""

    value: float
    low: float
    high: float
    edges: int


@dataclass(frozen=True)
class TraceCheck:
    """All edges of a trace that could be checked, and how predicted and measured effects agree."""

    edges: tuple[EdgeCheck, ...]
    frozen: Agreement
    live: Agreement

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.edges), "edge")
        for name, found in (("frozen", self.frozen), ("live", self.live)):
            yield f"{name}: rank correlation {found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


@torch.no_grad()
def check_trace(frozen: FrozenPass, root: Root, found: Trace, *, seed: int = 0) -> TraceCheck:
    """Remove the contribution of every node from the model, one at a time, and measure its parent's function.

    Memory: a batch of 32 edges, with the patterns of all layers for each.

    Args:
        frozen: the pass of one prompt that the trace is of.
        root: the trace's root.
        found: the trace.
        seed: of the bootstrap.

    Raises:
        UsageError: several prompts, or a trace without edges.
    """
    if len(frozen.tokens) != 1:
        raise UsageError(f"checking a trace: one prompt expected, found {len(frozen.tokens)}")
    functions = _functions(frozen, root, found)
    edges = [number for number, node in enumerate(found.nodes) if node.parent is not None]
    if not edges:
        raise UsageError("checking a trace: at least one edge expected, found the root alone; grow it further")
    removed = [_removed(frozen, found.nodes[number].source) for number in edges]
    parents = [functions[found.nodes[number].parent or 0] for number in edges]
    held = _measured(frozen, removed, parents, fixed=True)
    live = _measured(frozen, removed, parents, fixed=False)
    predicted = [found.nodes[number].contribution for number in edges]
    checks = tuple(map(EdgeCheck, edges, predicted, held, live))
    return TraceCheck(checks, _agreement(predicted, held, seed), _agreement(predicted, live, seed))


def _functions(frozen: FrozenPass, root: Root, found: Trace) -> dict[int, tuple[Site, Tensor]]:
    """The function of every node that has children: what is read, and its cotangent."""
    functions = {0: (root.site, root.cotangent)}
    for number in sorted({node.parent for node in found.nodes if node.parent}):
        node = found.nodes[number]
        source = node.source
        assert source.site is not None
        assert isinstance(source.place, int)
        if source.kind == "latent":
            assert node.activation is not None
            assert source.latent is not None
            weight = frozen.values[Site("embed")].new_zeros(frozen.tokens.ids.shape)
            weight[0, source.place] = node.contribution / node.activation
            cotangent, _ = of_latents(frozen.codes[source.site], source.latent, weight)
            functions[number] = (source.site, cotangent)
            continue
        above = functions[node.parent or 0]
        terms = next(one for one in upstream(frozen, *above) if (one.kind, one.site) == (source.kind, source.site))
        assert terms.cotangent is not None
        here = torch.zeros_like(terms.cotangent)
        here[0, source.place] = terms.cotangent[0, source.place]
        functions[number] = (source.site, here)
    return functions


def _removed(frozen: FrozenPass, source: Source) -> tuple[Site, int, Float[Tensor, "d"]]:
    """Where a source writes, at which position, and what."""
    site, position = source.site, source.place
    assert site is not None
    assert isinstance(position, int)
    if source.kind == "latent":
        codes = frozen.codes[site]
        assert source.latent is not None
        activation = codes.active(0, position)[source.latent]
        vector = activation * codes.dictionary.W_dec[source.latent].to(codes.error)
        return (
            codes.writes,
            position,
            vector if codes.output_scale is None else vector * codes.output_scale[0, position],
        )
    if source.kind in ("token", "position"):
        part = frozen.embeddings[source.kind == "position"]
        assert part is not None
        return site, position, part[0, position]
    if source.kind in ("attention", "mlp"):
        return site, position, frozen.values[site][0, position]
    codes = next(one for one in frozen.codes.values() if site in (one.writes, one.reads))
    kept = codes.skip if source.kind == "skip" else codes.error
    assert kept is not None
    return codes.writes, position, kept[0, position]


def _measured(
    frozen: FrozenPass,
    removed: Sequence[tuple[Site, int, Tensor]],
    parents: Sequence[tuple[Site, Tensor]],
    *,
    fixed: bool,
) -> list[float]:
    model, sites = frozen.model, sorted({site for site, _ in parents})

    def batch(rows: slice) -> Tensor:
        edges, wanted = removed[rows], parents[rows]
        tokens = frozen.tokens[torch.zeros(len(edges), dtype=torch.long, device=frozen.replaced.device)]
        with model.freeze(tokens, patterns=fixed, norms=fixed), model.edit(_edits(frozen, edges)):
            after = model.capture(tokens, sites)
        fallen = [
            ((frozen.values[site][0] - after[site][row].to(cotangent)) * cotangent[0]).sum()
            for row, (site, cotangent) in enumerate(wanted)
        ]
        return torch.stack(fallen)

    return torch.cat(in_batches(len(removed), _BATCH, batch)).tolist()


def _edits(frozen: FrozenPass, edges: Sequence[tuple[Site, int, Tensor]]) -> Mapping[Site, partial[Tensor]]:
    changes: dict[Site, Tensor] = {}
    for row, (site, position, vector) in enumerate(edges):
        if site not in changes:
            changes[site] = vector.new_zeros(len(edges), frozen.tokens.ids.shape[1], len(vector))
        changes[site][row, position] = vector
    return {site: partial(_less, change) for site, change in changes.items()}


def _less(change: Tensor, value: Tensor) -> Tensor:
    return value - change.to(value)


def _agreement(predicted: Sequence[float], measured: Sequence[float], seed: int) -> Agreement:
    pairs = np.array([predicted, measured])
    draws = np.random.default_rng(seed).integers(0, pairs.shape[1], (_DRAWS, pairs.shape[1]))
    values = [_rank_correlation(pairs[:, draw]) for draw in draws]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Agreement(_rank_correlation(pairs), float(low), float(high), pairs.shape[1])


def _rank_correlation(pairs: np.ndarray) -> float:
    if len(np.unique(pairs[0])) < 2 or len(np.unique(pairs[1])) < 2:
        return float("nan")
    return float(spearmanr(pairs[0], pairs[1]).statistic)
