"""Direct feature attribution: which heads and which tokens a latent's pre-activation came from.

A latent that reads z has the pre-activation  p = c + sum over heads h and sources s of A_h[t, s] v_h[s] . w_h, with the
pattern A, the values v and its encoder w cut by head: every head's share from every token, exactly (Kissane et al.
2024, Interpreting Attention Layer Outputs with Sparse Autoencoders). A latent that reads the stream, or attn_out, has
such shares of every attention layer before it, through the output projection and the norm after it if there is one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.codes import Codes
from gossamer.attention.frozen import At, FrozenPass
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.site import Site, SiteLike

# Numbers of one block of latents at once: latents x heads x sources.
_BLOCK = 2**24


@dataclass(frozen=True, eq=False)
class DirectAttribution:
    """Shares of one attention layer in the pre-activations of latents, by head and source.

    For latents that read z of the layer itself, `contributions` summed over heads and sources plus `bias` is the
    pre-activation. For others it is one layer's part, and `bias` the part of its output bias.

    Attributes:
        layer: the attention layer.
        site: what the latents' dictionary reads.
        rows, positions: the token at which each latent is looked at.
        latents: the latents.
        contributions: A_h[t, s] v_h[s] . w_h.
        bias: what does not come from any token.
        pre_activations: of the latents.
        activations: of the latents; 0 where one is not active.
    """

    layer: int
    site: Site
    rows: Int[Tensor, "entries"]
    positions: Int[Tensor, "entries"]
    latents: Int[Tensor, "entries"]
    contributions: Float[Tensor, "entries heads sources"]
    bias: Float[Tensor, "entries"]
    pre_activations: Float[Tensor, "entries"]
    activations: Float[Tensor, "entries"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.latents), 'latent')} of {self.site} through attention of layer {self.layer}"

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def by_head(self) -> Float[Tensor, "entries heads"]:
        """Summed over sources: w_h . z_h."""
        return self.contributions.sum(dim=2)

    @property
    def by_source(self) -> Float[Tensor, "entries sources"]:
        """Summed over heads."""
        return self.contributions.sum(dim=1)

    def feature(self, entry: int) -> Feature:
        """The latent of one entry."""
        return Feature(self.site, int(self.latents[entry]))


@torch.no_grad()
def direct_attribution(
    frozen: FrozenPass,
    site: SiteLike,
    *,
    position: int | None = None,
    latents: Int[Tensor, "n"] | None = None,
    layer: int | None = None,
) -> DirectAttribution:
    """Shares of heads and sources in latents' pre-activations, of all active latents of a site in one batched pass.

    Memory: entries x heads x sources numbers, an entry for each latent at each token.

    Args:
        frozen: the pass.
        site: what the dictionary reads.
        position: one token of each row (from the end where negative) instead of all at which the dictionary counts.
        latents: these, active or not, instead of those that are active.
        layer: the attention layer whose shares are wanted; default: the one that z or attn_out is of.

    Raises:
        UsageError: no dictionary reads there, a position or latent out of range, or a layer that does not come before.
    """
    site = Site.of(site)
    codes = frozen.codes_at(site)
    layer = _layer(frozen, site, layer)
    tokens, chosen, activations = _entries(frozen, codes, position, latents)
    values = frozen.values[site]
    distinct, which = torch.unique(chosen, return_inverse=True)
    vectors, constants = codes.encoder(distinct, values)
    if _one_function(frozen, codes):
        vectors = codes.at_input(vectors)
    else:
        vectors, constants = codes.at_input(vectors[which], at=tokens), constants[which]
        which = torch.arange(len(chosen), device=chosen.device)
    at_z, bias = _at_z(frozen, site, layer, vectors, tokens)
    read = values.flatten(0, 1).index_select(0, tokens[0] * values.shape[1] + tokens[1])
    return DirectAttribution(
        layer,
        site,
        *tokens,
        chosen,
        _shares(frozen, layer, tokens, at_z, which),
        (bias + constants if site == Site("z", layer) else bias)[which],
        read.mul_(vectors.index_select(0, which)).sum(dim=-1) + constants[which],
        activations,
    )


def _one_function(frozen: FrozenPass, codes: Codes) -> bool:
    """Whether a latent is the same function of z at every token: no scale of a token lies between them."""
    site = codes.reads
    straight = site.kind not in ("attn_in", "mlp_in") and not frozen.model.anatomy.family.post_norms
    return codes.scale is None and (site.kind == "z" or straight)


def _layer(frozen: FrozenPass, site: Site, layer: int | None) -> int:
    """The layer asked for, if its attention comes before the site."""
    own = site.layer if site.kind in ("z", "attn_out") else None
    if layer is None and own is None:
        raise UsageError(f"{site}: a layer expected, of whose attention the shares are wanted; give layer=")
    chosen = own if layer is None else layer
    assert chosen is not None
    if not 0 <= chosen < frozen.model.n_layers or (own is not None and chosen != own) or Site("z", chosen) > site:
        raise UsageError(f"{site}: a layer whose attention it reads directly expected, found {chosen}")
    return chosen


def _entries(
    frozen: FrozenPass, codes: Codes, position: int | None, latents: Int[Tensor, "n"] | None
) -> tuple[At, Int[Tensor, "entries"], Float[Tensor, "entries"]]:
    """Rows and positions, latents and their activations."""
    width = frozen.tokens.ids.shape[1]
    place = None if position is None else frozen.positions(position)
    if latents is None:
        found = codes.latents
        tokens = (found.tokens // width, found.tokens % width)
        kept = torch.ones_like(tokens[0], dtype=torch.bool) if place is None else tokens[1] == place[tokens[0]]
        return (tokens[0][kept], tokens[1][kept]), found.latents[kept], found.activations[kept]
    if len(latents) and not 0 <= int(latents.min()) <= int(latents.max()) < codes.dictionary.n_latents:
        raise UsageError(
            f"{codes.reads}: latents from 0 to {codes.dictionary.n_latents - 1} expected, found {latents.tolist()}"
        )
    every = torch.arange(width, device=frozen.replaced.device)
    at = frozen.replaced if place is None else every == place.unsqueeze(1)
    rows, positions = (one.repeat_interleave(len(latents)) for one in at.nonzero(as_tuple=True))
    chosen = latents.to(rows.device).repeat(int(at.sum()))
    dense = codes.dictionary.encode_dense(frozen.values[codes.reads], latents.to(rows.device))
    dense = dense * frozen.replaced.unsqueeze(-1)
    return (rows, positions), chosen, dense[at].flatten()


def _at_z(
    frozen: FrozenPass, site: Site, layer: int, vectors: Float[Tensor, "entries d"], at: At
) -> tuple[Float[Tensor, "entries d_z"], Float[Tensor, "entries"]]:
    """Functions of what stands at `site` as functions of one layer's z, with the part of the biases on the way."""
    constant = vectors.new_zeros(len(vectors))
    if site.kind == "z":
        return vectors, constant
    if site.kind in ("mlp_in", "attn_in"):
        vectors, _ = frozen.through_norm(site, vectors, at=at)
    elif not (site.facts.stream or site.kind == "attn_out"):
        raise UsageError(f"{site}: z, attn_out, attn_in, mlp_in or the stream expected, which attention writes to")
    return frozen.through_output(layer, vectors, at=at)


def _shares(
    frozen: FrozenPass, layer: int, at: At, at_z: Float[Tensor, "functions d_z"], which: Int[Tensor, "entries"]
) -> Float[Tensor, "entries heads sources"]:
    """A_h[t, s] v_h[s] . w_h: of each prompt's functions once, then of every entry with its token's pattern.

    Entries come prompt by prompt. Memory beside the result: functions x heads x sources of one block.
    """
    rows, positions = at
    values, pattern = frozen.repeated_values(layer), frozen.values[Site("pattern", layer)]
    functions = frozen.by_head(at_z).transpose(0, 1)
    found = at_z.new_empty(pattern.shape[1], len(rows), pattern.shape[3])
    step = max(1, _BLOCK // (pattern.shape[1] * pattern.shape[3]))
    ends = rows.bincount(minlength=len(values)).cumsum(0).tolist()
    for row, (first, last) in enumerate(pairwise([0, *ends])):
        for start in range(first, last, step):
            here = slice(start, min(start + step, last))
            distinct, own = torch.unique(which[here], return_inverse=True)
            products = functions[:, distinct] @ values[row].permute(1, 2, 0)
            for head, product in enumerate(products):
                weights = pattern[row, head].index_select(0, positions[here])
                torch.mul(product.index_select(0, own), weights, out=found[head, here])
    return found.transpose(0, 1)
