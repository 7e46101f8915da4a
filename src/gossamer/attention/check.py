"""Whether a trace's edges are causal: a contribution is removed from the real model, and its parent is measured.

What an edge predicts is the direct effect, with patterns and norm scales held fixed and nothing on the way moving. What
is measured is everything that follows from the removal: with patterns and norm scales still fixed ("frozen"), the
layers between parent and child answer; with nothing fixed ("live"), attention goes elsewhere as well. So the agreement
says how far a picture made of direct effects can be believed on this prompt, or on a task's prompts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.places import Places
from gossamer.attention.source import Source
from gossamer.attention.trace import Root, Trace
from gossamer.attention.upstream import upstream
from gossamer.batching import in_batches
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.tokens import Tokens

_BATCH = 32
_DRAWS = 1000


@dataclass(frozen=True)
class EdgeCheck:
    """One edge, predicted and measured, in the units of the root; of a task, means over its prompts.

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
    """Rank correlation of predicted and measured effects over edges, with a 95 % bootstrap interval.

    Attributes:
        value, low, high: Spearman's correlation and its interval.
        edges: how many edges it is over.
        texts: different prompts that these are means over, and that are drawn anew for the interval; of a single prompt
            the edges are drawn, and the interval knows nothing of other prompts.
    """

    value: float
    low: float
    high: float
    edges: int
    texts: int = 1


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


@dataclass(frozen=True, eq=False)
class _Edge:
    """What is removed for an edge, and the function of its parent."""

    child: int
    source: Source
    site: Site
    cotangent: Float[Tensor, "batch pos d"]
    predicted: Float[Tensor, "batch"]


@torch.no_grad()
def check_trace(
    frozen: FrozenPass,
    root: Root,
    found: Trace,
    *,
    roles: Int[Tensor, "batch pos"] | None = None,
    role_names: Sequence[str] = (),
    seed: int = 0,
) -> TraceCheck:
    """Remove the contribution of every node from the model, one at a time, and measure its parent's function.

    Of a task, a contribution is removed at all tokens of its role.

    Cost: two passes of the model for every edge and prompt. Memory: 32 prompts with the patterns of all layers, and the
    function of every node that has children (prompts x pos x d_model).

    Args:
        frozen: the pass that the trace is of.
        root: the trace's root.
        found: the trace.
        roles, role_names: as the trace was grown with.
        seed: of the bootstrap.

    Raises:
        UsageError: several prompts without roles, or a trace without edges.
    """
    places = Places.of(frozen, roles, role_names)
    edges = _edges(root, found, places)
    if not edges:
        raise UsageError("checking a trace: at least one edge expected, found the root alone; grow it further")
    advance = begin("checking edges", 2 * len(edges))
    predicted, held, live = (
        torch.stack([edge.predicted for edge in edges]),
        _measured(places, edges, advance, fixed=True),
        _measured(places, edges, advance, fixed=False),
    )
    means = [(one.sum(dim=1) / root.rows).tolist() for one in (predicted, held, live)]
    checks = tuple(map(EdgeCheck, [edge.child for edge in edges], *means))
    return TraceCheck(checks, *(_agreement(frozen.tokens, predicted, one, seed) for one in (held, live)))


def _edges(root: Root, found: Trace, places: Places) -> list[_Edge]:
    """Every node but the root, with the function of its parent and what each prompt's share of it is."""
    frozen = places.frozen
    batch, width = frozen.tokens.ids.shape
    functions = {0: (root.site, root.cotangent)}
    edges = []
    for parent in range(len(found.nodes)):
        if not (children := found.children(parent)):
            continue
        site, cotangent = functions[parent]
        terms = {(one.kind, one.site): one for one in upstream(frozen, site, cotangent)}
        for number in children:
            source = found.nodes[number].source
            assert source.site is not None
            one = terms[source.kind, source.site]
            chosen = places.chosen(one, source)
            values = one.values[chosen].sum(dim=1)
            predicted = values.new_zeros(batch).index_add(0, one.tokens[chosen] // width, values)
            edges.append(_Edge(number, source, site, cotangent, predicted))
            if found.nodes[number].expanded:
                functions[number] = (one.site, places.function(one, source, chosen)[0])
    return sorted(edges, key=lambda edge: edge.child)


def _removed(places: Places, source: Source) -> tuple[Site, Float[Tensor, "batch pos d"]]:
    """Where a source writes, and what, at the tokens of its place."""
    frozen, site, here = places.frozen, source.site, places.mask(source.place)
    assert site is not None
    if source.kind == "latent":
        codes = frozen.codes[site]
        assert source.latent is not None
        entries = (codes.latents.latents == source.latent) & here.flatten()[codes.latents.tokens]
        values = codes.error.new_zeros(here.numel())
        values[codes.latents.tokens[entries]] = codes.latents.activations[entries].to(values)
        vectors = values.reshape(*here.shape, 1) * codes.dictionary.W_dec[source.latent].to(values)
        return codes.writes, vectors if codes.output_scale is None else vectors * codes.output_scale
    if source.kind in ("token", "position"):
        part = frozen.embeddings[source.kind == "position"]
    elif source.kind in ("attention", "mlp"):
        part = frozen.values[site]
    else:
        codes = next(one for one in frozen.codes.values() if site in (one.writes, one.reads))
        site, part = codes.writes, codes.skip if source.kind == "skip" else codes.error
    assert part is not None
    return site, part * here.unsqueeze(-1)


def _measured(
    places: Places, edges: Sequence[_Edge], advance: Callable[[int, str], None], *, fixed: bool
) -> Float[Tensor, "edge batch"]:
    """By how much each prompt's share of the parent's function falls when the child is removed."""
    frozen = places.frozen
    model, prompts = frozen.model, len(frozen.tokens)
    # Several edges in a pass where prompts are few, or some of the prompts where they are many.
    together = max(1, _BATCH // prompts)

    def some(chosen: slice) -> Tensor:
        here = edges[chosen]
        removed = [_removed(places, edge.source) for edge in here]
        sites = sorted({edge.site for edge in here})

        def part(rows: slice) -> Tensor:
            order = torch.arange(prompts, device=frozen.replaced.device)[rows]
            tokens = frozen.tokens[order.repeat(len(here))]
            changes: dict[Site, Tensor] = {}
            for place, (site, vectors) in enumerate(removed):
                change = changes.setdefault(site, vectors.new_zeros(len(here), len(order), *vectors.shape[1:]))
                change[place] = vectors[order]
            edits = {site: partial(_less, change.flatten(0, 1)) for site, change in changes.items()}
            with model.freeze(tokens, patterns=fixed, norms=fixed), model.edit(edits):
                after = model.capture(tokens, sites)
            fallen = []
            for place, edge in enumerate(here):
                rest = after[edge.site][place * len(order) : (place + 1) * len(order)]
                kept = edge.cotangent[order]
                fallen.append(((frozen.values[edge.site][order] - rest.to(kept)) * kept).sum(dim=(1, 2)))
            return torch.stack(fallen)

        found = torch.cat(in_batches(prompts, max(1, _BATCH // len(here)), part), dim=1)
        advance(len(here), "")
        return found

    return torch.cat(in_batches(len(edges), together, some))


def _less(change: Tensor, value: Tensor) -> Tensor:
    return value - change.to(value)


def _agreement(tokens: Tokens, predicted: Tensor, measured: Tensor, seed: int) -> Agreement:
    """Drawn anew: different texts, whose rows go together; of one text, edges."""
    text_of = torch.unique(tokens.ids, dim=0, return_inverse=True)[1].cpu().numpy()
    texts, pairs = int(text_of.max()) + 1, np.stack([one.double().cpu().numpy() for one in (predicted, measured)])
    edges, draw = pairs.shape[1], np.random.default_rng(seed)
    if texts > 1:
        sums = np.stack([pairs[:, :, text_of == text].sum(axis=2) for text in range(texts)], axis=2)
        counts = [np.bincount(draw.integers(0, texts, texts), minlength=texts) for _ in range(_DRAWS)]
        values = [_rank_correlation(sums @ count) for count in counts]
    else:
        values = [_rank_correlation(pairs.sum(axis=2)[:, draw.integers(0, edges, edges)]) for _ in range(_DRAWS)]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Agreement(_rank_correlation(pairs.sum(axis=2)), float(low), float(high), edges, texts)


def _rank_correlation(pairs: np.ndarray) -> float:
    if len(np.unique(pairs[0])) < 2 or len(np.unique(pairs[1])) < 2:
        return float("nan")
    return float(spearmanr(pairs[0], pairs[1]).statistic)
