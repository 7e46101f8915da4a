"""QK attribution: why a head attended from one token to another.

The score of a head, before the softmax, is a product of a query and a key, and both are sums over what stands in the
stream at their token: latents, biases, errors. So the score is a sum over pairs, exactly, with norm scales (those of
queries and keys too) held fixed and the rotation of positions applied to each part (Kamath et al. 2025, Tracing
Attention Computation Through Feature Interactions). What other positions do in the softmax is not in here: look at the
contrast of two keys, in which everything that does not depend on the key cancels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.parts import Parts, latent_parts, stream_parts
from gossamer.attention.source import Source
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.site import Site
from gossamer.tokens import Tokens


class LatentPair(NamedTuple):
    """A latent at a query and one at a key, and what a unit of both adds to a head's score."""

    query: Feature
    key: Feature
    score: float


@dataclass(frozen=True, eq=False)
class ScoreAttribution:
    """A head's score from a query to a key, as a sum over pairs of parts.

    Attributes:
        layer, head: which head.
        query, key: the two positions, as columns of the tokens; `key` is that of the first of two in a contrast.
        queries, keys: what the query and the key are made of.
        table: share of each pair; its sum is the score but for `remainder`.
        score: what goes into the softmax.
        remainder: of a family that caps its scores (Gemma 2): pairs are shares of the score linearised where it stands,
            and this is what the cap adds to it. Elsewhere only what the model rounds.
    """

    layer: int
    head: int
    query: int
    key: int
    queries: tuple[Source, ...]
    keys: tuple[Source, ...]
    table: Float[Tensor, "queries keys"]
    score: float
    remainder: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"head {self.layer}.{self.head} from {self.query} to {self.key}"
        yield f"score {self.score:.4g} of {plural(self.table.numel(), 'pair')}"

    def top(self, n: int = 10) -> list[tuple[Source, Source, float]]:
        """The pairs of largest size: query, key and share."""
        found = self.table.flatten().abs().topk(min(n, self.table.numel())).indices.tolist()
        width = self.table.shape[1]
        return [
            (self.queries[one // width], self.keys[one % width], float(self.table[one // width, one % width]))
            for one in found
        ]


class HeadMaps:
    """What a layer makes of projected queries and keys before it multiplies them: norms, rotation, scale.

    It is found by running the layer's own code on unit vectors in place of its projections, so that it is right for
    every family: at each position of each head a matrix, and where queries or keys are normed a scale at each token.

    Memory: heads x pos x d_head^2 numbers for queries and for keys, and a batch of d_head prompts through one layer's
    projections.
    """

    def __init__(self, frozen: FrozenPass, layer: int) -> None:
        self.frozen, self.layer = frozen, layer
        self.queries, self.query_bias = self._probed("q")
        self.keys, self.key_bias = self._probed("k")
        kinds = [Site(kind, layer) for kind in ("q_proj", "k_proj", "q", "k", "scores")]
        with torch.no_grad():
            found = frozen.model.capture(frozen.tokens, kinds)
        self._projected = {"q": found[kinds[0]], "k": found[kinds[1]]}
        self._final = {"q": found[kinds[2]], "k": found[kinds[3]]}
        self.scores = found[kinds[4]]

    def _probed(self, which: str) -> tuple[Tensor, Tensor]:
        """Matrices (pos head out in) and what comes out of nothing (pos head out)."""
        model, width = self.frozen.model, self.frozen.tokens.ids.shape[1]
        site, d = Site(f"{which}_proj", self.layer), model.d_head
        start = Site("resid_pre", self.layer)
        # A row for each unit vector, and one of zeros.
        unit = torch.eye(d + 1, d, dtype=model.dtype, device=model.device)
        tokens = Tokens.full(torch.zeros(d + 1, width, dtype=torch.long, device=model.device))
        stream = torch.zeros(d + 1, width, model.d_model, dtype=model.dtype, device=model.device)
        out = Site(which, self.layer)
        with torch.no_grad(), model.edit({site: lambda value: unit[:, None, None].expand_as(value)}):
            found = model.capture(tokens, [out], start=(start, stream))[out].to(self.frozen.values[Site("embed")])
        return (found[:-1] - found[-1]).permute(1, 2, 3, 0), found[-1]

    def projected(
        self, which: str, head: int, vectors: Float[Tensor, "part d_model"]
    ) -> tuple[Float[Tensor, "part d_head"], Float[Tensor, "d_head"]]:
        """Parts of what the layer reads as parts of a projected query or key, and the projection's bias."""
        weights = self.frozen.weights(self.layer)
        own = head if which == "q" else head // weights.group
        matrix, bias = (weights.W_Q[own], weights.b_Q[own]) if which == "q" else (weights.W_K[own], weights.b_K[own])
        return vectors @ matrix.to(vectors), bias.to(vectors)

    def after(
        self, which: str, head: int, row: int, position: int, vectors: Float[Tensor, "part d_head"]
    ) -> tuple[Float[Tensor, "part d_head"], Float[Tensor, "d_head"]]:
        """Parts of a projected query or key as they enter the product, and the constant that none of them makes."""
        group = self.frozen.weights(self.layer).group
        own = head if which == "q" else head // group
        place = int(self.frozen.tokens.mask[row, : position + 1].sum()) - 1
        maps, bias = (self.queries, self.query_bias) if which == "q" else (self.keys, self.key_bias)
        matrix, constant = maps[place, own], bias[place, own]
        whole = matrix @ self._projected[which][row, position, own].to(matrix)
        final = self._final[which][row, position, own].to(matrix) - constant
        # Where queries are normed this is the norm's scale at this token; elsewhere 1.
        scale = (final @ whole) / (whole @ whole).clamp(min=1e-30)
        return scale * vectors @ matrix.T, constant

    @property
    def cap(self) -> float | None:
        """The c of a family that makes c * tanh(score / c) of scores."""
        found = getattr(self.frozen.model.anatomy.config, "attn_logit_softcapping", None)
        return None if found is None else float(found)

    def slope(self, score: float) -> float:
        """Of the cap where a score stands; 1 without one."""
        return 1.0 if self.cap is None else 1 - (score / self.cap) ** 2

    @property
    def factor(self) -> float:
        """What products of queries and keys are multiplied by."""
        if self.cap is not None:
            return float(self.frozen.model.anatomy.part(self.layer, "attention").scaling)  # type: ignore[arg-type]
        group = self.frozen.weights(self.layer).group
        keys = self._final["k"].double().repeat_interleave(group, dim=2)
        products = torch.einsum("bqhd,bkhd->bhqk", self._final["q"].double(), keys)
        seen = self.frozen.values[Site("pattern", self.layer)] > 0
        scores = self.scores.double()
        return float((scores * products)[seen].sum() / products.square()[seen].sum())


@torch.no_grad()
def attribute_score(
    maps: HeadMaps, head: int, query: int, key: int, *, row: int = 0, against: int | None = None
) -> ScoreAttribution:
    """Why a head attended from `query` to `key`: its score as a sum over pairs of parts.

    Args:
        maps: of the head's layer.
        head: the head.
        query, key: positions of the row, from its end where negative.
        row: which prompt.
        against: another key; shares are then of the difference of the two scores, in which terms that do not depend on
            the key cancel.

    Raises:
        UsageError: no such head, row or position, or a key that the query cannot see.
    """
    layer = maps.layer
    column, keys = _columns(maps, head, row, query, [one for one in (key, against) if one is not None])
    asked = _parts(maps, "q", head, row, column)
    found = [_against(maps, head, row, column, asked, one) for one in keys]
    if against is not None:
        first, second = found
        negative = second.table.neg()
        table = torch.cat([first.table, negative], dim=1)
        score, remainder = first.score - second.score, first.remainder - second.remainder
        return ScoreAttribution(
            layer, head, column, keys[0], first.queries, (*first.keys, *second.keys), table, score, remainder
        )
    return found[0]


@torch.no_grad()
def top_latent_pairs(
    maps: HeadMaps,
    head: int,
    query: int,
    key: int,
    k: int = 20,
    *,
    row: int = 0,
    activations: Mapping[Site, Float[Tensor, "latent"]] | None = None,
) -> list[LatentPair]:
    """The pairs of latents, active or not, that would make a head attend most, or least, from one token to another.

    Norm scales, the rotation of positions and the slope of a cap on scores are those of the two tokens: of latents that
    are active there, a pair's score times both activations is its share in :func:`attribute_score`.

    Memory: latents x d_head numbers for queries and for keys, and a block of their products (see :func:`top_pairs`):
    never latents x latents.

    Args:
        maps: of the head's layer.
        head: the head.
        query, key: positions of the row, from its end where negative.
        k: how many pairs.
        row: which prompt.
        activations: of each dictionary's latents, by the site that it reads, what to count them with (their largest or
            their mean activation, say); without, one unit of each counts.

    Raises:
        UsageError: as :func:`attribute_score`, no dictionary that writes into the stream before the layer, or
            activations that do not fit one.
    """
    column, (place,) = _columns(maps, head, row, query, [key])
    features, asked = _of_latents(maps, "q", head, row, column, activations)
    _, read = _of_latents(maps, "k", head, row, place, activations)
    factor = maps.factor * maps.slope(float(maps.scores[row, head, column, place]))
    values, queries, keys = top_pairs(factor * asked, read, min(k, len(features) ** 2))
    found = zip(queries.tolist(), keys.tolist(), values.tolist(), strict=True)
    return [LatentPair(features[one], features[other], value) for one, other, value in found]


def _of_latents(
    maps: HeadMaps,
    which: str,
    head: int,
    row: int,
    position: int,
    activations: Mapping[Site, Tensor] | None,
) -> tuple[list[Feature], Float[Tensor, "latent d_head"]]:
    """What each latent would add to a query or key as it enters the product."""
    frozen, layer = maps.frozen, maps.layer
    features: list[Feature] = []
    vectors: list[Tensor] = []
    for site, written in latent_parts(frozen, Site("resid_pre", layer), row, position):
        read, _ = frozen.input_of(layer, written, (row, position))
        final, _ = maps.after(which, head, row, position, maps.projected(which, head, read)[0])
        if activations is not None:
            if site not in activations or activations[site].shape != (len(final),):
                raise UsageError(f"activations: one number for each of the {len(final)} latents of {site} expected")
            final = final * activations[site].to(final).unsqueeze(1)
        features += [Feature(site, latent) for latent in range(len(final))]
        vectors.append(final)
    if not vectors:
        raise UsageError(
            f"layer {layer}: a dictionary whose latents are in the stream before it expected, found some at "
            f"{listed(frozen.codes)} only; give one"
        )
    return features, torch.cat(vectors)


def _columns(maps: HeadMaps, head: int, row: int, query: int, keys: Sequence[int]) -> tuple[int, list[int]]:
    """The columns of a query and of keys that it can see."""
    frozen, layer = maps.frozen, maps.layer
    if not 0 <= head < frozen.model.n_heads:
        raise UsageError(f"head: one of 0 to {frozen.model.n_heads - 1} expected, found {head}")
    if not 0 <= row < len(frozen.tokens):
        raise UsageError(f"row: one of 0 to {len(frozen.tokens) - 1} expected, found {row}")
    column = int(frozen.positions(query)[row])
    found = [int(frozen.positions(one)[row]) for one in keys]
    pattern = frozen.values[Site("pattern", layer)][row, head, column]
    if unseen := [one for one in found if not pattern[one] > 0]:
        raise UsageError(
            f"head {layer}.{head}: a key that position {column} can see expected, found {unseen[0]}; keys come at or "
            "before the query, within the layer's window"
        )
    return column, found


def _against(maps: HeadMaps, head: int, row: int, query: int, asked: Parts, key: int) -> ScoreAttribution:
    read = _parts(maps, "k", head, row, key)
    table = maps.factor * asked.vectors @ read.vectors.T
    score, raw = float(maps.scores[row, head, query, key]), float(table.sum())
    if maps.cap is not None:
        table = table * maps.slope(score)
        raw = float(table.sum())
    return ScoreAttribution(maps.layer, head, query, key, asked.sources, read.sources, table, score, score - raw)


def _parts(maps: HeadMaps, which: str, head: int, row: int, position: int) -> Parts:
    """A query or key as it enters the product, in parts: what the stream is made of, and the biases on the way."""
    frozen, layer = maps.frozen, maps.layer
    stream = stream_parts(frozen, Site("resid_pre", layer), row, position)
    vectors, shift = frozen.input_of(layer, stream.vectors, (row, position))
    projected, bias = maps.projected(which, head, torch.cat([vectors, shift.unsqueeze(0)]))
    projected[-1] += bias
    final, after = maps.after(which, head, row, position, projected)
    last = (final[-1] + after).unsqueeze(0)
    source = Source("bias", Site(which, layer), None, position)
    return Parts((*stream.sources, source), torch.cat([final[:-1], last]))


def top_pairs(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], k: int, *, block: int = 1024
) -> tuple[Tensor, Tensor, Tensor]:
    """The k pairs (i, j) whose product queries[i] . keys[j] is largest in size, without the n x m table.

    Rows are taken from the longest to the shortest; when no pair of what is left can be large enough (Cauchy-Schwarz),
    the search ends. Memory: block x m numbers.

    Returns:
        values, i and j, (k,) each, the largest first.
    """
    lengths, order = queries.norm(dim=1).sort(descending=True)
    longest = keys.norm(dim=1)
    key_lengths, key_order = longest.sort(descending=True)
    best = queries.new_zeros(0)
    where = torch.zeros(0, dtype=torch.long, device=queries.device)
    least = 0.0
    for start in range(0, len(order), block):
        if len(best) == k and lengths[start] * key_lengths[0] < least:
            break
        rows = order[start : start + block]
        # Keys too short to matter beside the longest query of the block are left out.
        reach = len(keys) if len(best) < k else int((key_lengths * lengths[start] >= least).sum())
        products = queries[rows] @ keys[key_order[:reach]].T
        candidates = products.abs().flatten()
        top = candidates.topk(min(k, len(candidates)))
        chosen = rows[top.indices // reach] * len(keys) + key_order[top.indices % reach]
        best, where = torch.cat([best, products.flatten()[top.indices]]), torch.cat([where, chosen])
        kept = best.abs().topk(min(k, len(best))).indices
        best, where = best[kept], where[kept]
        least = float(best[-1].abs())
    return best, where // len(keys), where % len(keys)
