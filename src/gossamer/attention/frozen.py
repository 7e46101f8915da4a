"""One pass of a model with its attention patterns and norm scales held fixed, and linear functions pulled back in it.

With both held fixed a transformer is affine between its MLPs: attention only mixes values, a norm only centres and
multiplies. So a linear function of a value inside it, such as a latent's pre-activation, is a linear function of
whatever was written before, exactly. A function is kept as its cotangent: a vector for every token of the value that it
reads. Everything is computed in float32 at least.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.activations.token_mask import TokenMask
from gossamer.attention.codes import Codes
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.kinds import SITE_KINDS
from gossamer.model.language_model import LanguageModel
from gossamer.model.norm import Norm
from gossamer.model.site import BySite, Site, SiteLike, SiteMapping, by_site
from gossamer.model.weights import AttentionWeights
from gossamer.tokens import Tokens

# What a pass is read for, besides norm scales and the sites of dictionaries.
_READ = ("embed", "v", "pattern", "attn_out", "mlp_out")
# Some tokens: their rows and their positions.
At = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class FrozenPass:
    """What a model computed on some prompts, with the latents of its dictionaries there.

    Memory: the patterns of all layers (batch x heads x pos x pos each), and a few values of d_model for each layer and
    token.

    Attributes:
        model: the language model.
        tokens: the prompts, on the model's device.
        values: of the sites that were read, in float32 at least.
        codes: what each dictionary makes of what it reads, by the site that it reads.
        replaced: at which tokens dictionaries count; at the others (BOS, padding, attention sinks) they do not.
    """

    model: LanguageModel
    tokens: Tokens
    values: Mapping[Site, Tensor]
    codes: Mapping[Site, Codes]
    replaced: Bool[Tensor, "batch pos"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.title
        yield repr(self.tokens)
        yield f"{plural(len(self.codes), 'dictionary', 'dictionaries')} at {listed(self.codes)}"

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        dictionaries: SiteMapping[Dictionary] | Iterable[Dictionary],
        tokens: Tokens,
        *,
        mask: TokenMask | None = None,
    ) -> "FrozenPass":
        """Run the model once.

        Args:
            model: the language model.
            dictionaries: sparse autoencoders and transcoders, at most one for each site that is read.
            tokens: the prompts.
            mask: which tokens dictionaries count at; None: those on which all of them learned.

        Raises:
            UsageError: a model whose attention cannot be opened, a dictionary without a site, two at one site, or one
                that reads another tensor than its site's: its width, its L0 or its reconstruction is implausible there.
        """
        by_read = _by_read(dictionaries)
        tokens, wide = tokens.to(model.device), torch.promote_types(model.dtype, torch.float32)
        kinds = {kind for kind in model.kinds if kind in _READ or SITE_KINDS[kind].norm_scale}
        sites = {site for kind in kinds for site in model.sites(kind)} | {Site("resid_post", model.n_layers - 1)}
        sites |= {site for read, one in by_read.items() for site in (read, one.site_out or read)}
        with torch.no_grad():
            values = BySite((site, value.to(wide)) for site, value in model.capture(tokens, sorted(sites)).items())
            replaced = counted_for(model, by_read.values(), tokens, mask).to(model.device)
            codes = BySite(
                (site, Codes.of(one, values[site], values[one.site_out or site], replaced))
                for site, one in sorted(by_read.items())
            )
        return cls(model, tokens, values, codes, replaced)

    def codes_at(self, site: SiteLike) -> Codes:
        """What the dictionary that reads `site` makes of it.

        Raises:
            UsageError: there is none.
        """
        site = Site.of(site)
        if site not in self.codes:
            raise UsageError(f"{site}: a dictionary expected, found some at {listed(self.codes)} only; give one")
        return self.codes[site]

    def positions(self, position: int) -> Int[Tensor, "batch"]:
        """The column of a position in every row: from its first real token, or from its last one where negative.

        Raises:
            UsageError: a row is not so long.
        """
        lengths = self.tokens.lengths
        shortest = int(lengths.min())
        if not -shortest <= position < shortest:
            raise UsageError(f"position: one of {-shortest} to {shortest - 1} expected, found {position}")
        first = self.tokens.mask.int().argmax(dim=1)
        return first + (lengths + position if position < 0 else torch.full_like(lengths, position))

    def weights(self, layer: int) -> AttentionWeights:
        """Attention's weights of a layer, read once."""
        if layer not in self._weights:
            self._weights[layer] = self.model.attention_weights(layer)
        return self._weights[layer]

    @cached_property
    def _weights(self) -> dict[int, AttentionWeights]:
        return {}

    @cached_property
    def writers(self) -> dict[Site, Codes]:
        """Dictionaries of what a layer adds to the stream, by the site that is added: attn_out for those on z.

        Raises:
            UsageError: two explain the same one.
        """
        found: dict[Site, Codes] = {}
        for codes in self.codes.values():
            if codes.writes.facts.stream:
                continue
            site = Site("attn_out", codes.writes.layer) if codes.writes.kind == "z" else codes.writes
            if site in found:
                raise UsageError(f"two dictionaries explain {site} ({found[site].reads}, {codes.reads}); leave one out")
            found[site] = codes
        return found

    def residual_before(self, point: Site, *, inclusive: bool) -> Site | None:
        """The last residual dictionary before a point of the stream, or at it: what was before is in its latents."""
        found = [
            site
            for site, codes in self.codes.items()
            if site.facts.stream and codes.writes == site and (site < point or (inclusive and site == point))
        ]
        return max(found, default=None)

    def written_between(self, first: Site | None, last: Site) -> list[Site]:
        """What is added to the stream after `first` (None: from the embeddings on) and before `last`."""
        added = sorted(site for kind in ("attn_out", "mlp_out") for site in self.model.sites(kind))
        return [site for site in added if (first is None or site > first) and site < last]

    @cached_property
    def embeddings(self) -> tuple[Float[Tensor, "batch pos d_model"], Float[Tensor, "batch pos d_model"] | None]:
        """What enters the first layer, as the part of the tokens and that of learned positions (None without such).

        A family that scales its token embeddings has one factor for all of them, which is found here.
        """
        embed = self.values[Site("embed")]
        module = self.model.anatomy.base.get_input_embeddings()  # type: ignore[operator]
        with torch.no_grad():
            rows = module(self.tokens.ids).to(embed)
        factor = (embed * rows).sum() / rows.square().sum()
        if (embed - factor * rows).norm() < 1e-2 * embed.norm():
            return embed, None
        return rows, embed - rows

    def by_head(self, z: Float[Tensor, "... d_z"]) -> Float[Tensor, "... head d_head"]:
        """A value of z, or a cotangent of it, head by head."""
        return torch.unflatten(z, -1, (self.model.n_heads, self.model.d_head))

    def through_output(
        self, layer: int, cotangent: Float[Tensor, "... d_model"], *, at: At | None = None
    ) -> tuple[Float[Tensor, "... d_z"], Float[Tensor, "..."]]:
        """Of what attention adds to the stream back to z, and the part of its biases.

        `cotangent` is of every token (batch pos ..), or of those `at` (tokens ..).
        """
        weights = self.weights(layer)
        constant = cotangent.new_zeros(cotangent.shape[:-1])
        if (norm := self.model.anatomy.output_norm(layer)) is not None:
            scale = self._scale(Site("attn_post_norm_scale", layer), cotangent, at)
            cotangent, constant = norm.pulled_back(cotangent, scale)
        rows = weights.W_O.to(cotangent).flatten(0, 1)
        return cotangent @ rows.T, constant + cotangent @ weights.b_O.to(cotangent)

    def output_of(
        self, layer: int, z: Float[Tensor, "part d_z"], at: At
    ) -> tuple[Float[Tensor, "part d_model"], Float[Tensor, "one d_model"]]:
        """What parts of one token's z add to the stream, and what the biases add."""
        weights = self.weights(layer)
        out, bias = z @ weights.W_O.to(z).flatten(0, 1), weights.b_O.to(z).unsqueeze(0)
        if (norm := self.model.anatomy.output_norm(layer)) is None:
            return out, bias
        scale = self.values[Site("attn_post_norm_scale", layer)][at]
        shift = norm.output(torch.zeros_like(bias), bias.dtype)
        return norm.pushed_forward(out, scale), norm.pushed_forward(bias, scale) + shift

    def input_of(
        self, layer: int, parts: Float[Tensor, "part d_model"], at: tuple[int, int]
    ) -> tuple[Float[Tensor, "part d_model"], Float[Tensor, "d_model"]]:
        """What attention reads of parts of the stream at one token, and what its norm adds whatever the parts."""
        norm, scale = self._norm_before(Site("attn_in", layer))
        if norm is None:
            return parts, parts.new_zeros(parts.shape[1])
        shift = norm.output(parts.new_zeros(parts.shape[1]), parts.dtype)
        return norm.pushed_forward(parts, self.values[scale][at]), shift

    def through_pattern(
        self, layer: int, cotangent: Float[Tensor, "batch query d_z"]
    ) -> Float[Tensor, "batch key head d_head"]:
        """Of z back to the values at the tokens that were attended to, one of its own for every query head."""
        pattern = self.values[Site("pattern", layer)]
        return torch.einsum("bhqk,bqhd->bkhd", pattern, self.by_head(cotangent))

    def through_values(
        self, layer: int, cotangent: Float[Tensor, "batch key head d_head"]
    ) -> tuple[Float[Tensor, "batch key head d_model"], Float[Tensor, "batch key head"]]:
        """Of values back to the stream before the layer, head by head, and the part of biases."""
        weights = self.weights(layer)
        heads = torch.arange(self.model.n_heads, device=cotangent.device) // weights.group
        at_input = torch.einsum("bkhd,hmd->bkhm", cotangent, weights.W_V.to(cotangent)[heads])
        constant = torch.einsum("bkhd,hd->bkh", cotangent, weights.b_V.to(cotangent)[heads])
        stream, bias = self.through_norm(Site("attn_in", layer), at_input)
        return stream, constant + bias

    def through_norm(
        self, site: Site, cotangent: Float[Tensor, "... d_model"], *, at: At | None = None
    ) -> tuple[Float[Tensor, "... d_model"], Float[Tensor, "..."]]:
        """Of what attention or the MLP reads (attn_in, mlp_in) back to the stream, and the part of the norm's bias.

        `cotangent` is of every token (batch pos ..), or of those `at` (tokens ..).
        """
        norm, scale = self._norm_before(site)
        if norm is None:
            return cotangent, cotangent.new_zeros(cotangent.shape[:-1])
        return norm.pulled_back(cotangent, self._scale(scale, cotangent, at))

    def _norm_before(self, site: Site) -> tuple[Norm | None, Site]:
        """The norm whose output attention or the MLP reads, if there is one, and the site of its scale."""
        anatomy, layer, kind = self.model.anatomy, site.layer or 0, "attn_norm_scale"
        if site.kind == "attn_in":
            module = None if anatomy.family.attention_norm is None else anatomy.part(layer, "attention_norm")
        else:
            module = anatomy.mlp_norm(layer)
            kind = "attn_norm_scale" if anatomy.shares_norm else "mlp_norm_scale"
        return None if module is None else anatomy.norm_of(module), Site(kind, layer)

    def _scale(self, site: Site, cotangent: Tensor, at: At | None) -> Tensor:
        scale = self.values[site]
        return scale.reshape(*scale.shape[:2], *[1] * (cotangent.dim() - 2)) if at is None else scale[at]

    def repeated_values(self, layer: int) -> Float[Tensor, "batch key head d_head"]:
        """The values that each query head reads: those of its group, repeated."""
        found = self.values[Site("v", layer)]
        return found.repeat_interleave(self.model.n_heads // found.shape[2], dim=2)


def _by_read(dictionaries: SiteMapping[Dictionary] | Iterable[Dictionary]) -> dict[Site, Dictionary]:
    named = (
        by_site(dictionaries).items()
        if isinstance(dictionaries, Mapping)
        else [(one.site, one) for one in dictionaries]
    )
    found: dict[Site, Dictionary] = {}
    for site, one in named:
        if one.site is None or site != one.site:
            raise UsageError(
                f"a dictionary {'at ' + str(site) if site else 'that says which site it reads'} expected, found one at "
                f"{one.site or 'no site'}; load it with site="
            )
        if one.site in found:
            raise UsageError(f"two dictionaries read {one.site}; give one for each site")
        found[one.site] = one
    return found
