"""Upstream latents taken out of the stream of a batch, and what downstream ones then are."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.relations.counting import SitePair
from gossamer.relations.latents import LatentSource, ModelLatents
from gossamer.relations.measures import Ints
from gossamer.replacement import ReplacementModel
from gossamer.tokens import Tokens


def ablation_ends(stream: ModelLatents, pair: SitePair) -> tuple[LatentSource, LatentSource]:
    """The two dictionaries of a pair whose upstream latents can be ablated and downstream ones measured.

    Raises:
        UsageError: they are of two models, or the second does not come after the first.
    """
    upstream, downstream = (stream.sources[name] for name in pair)
    if upstream.model is not downstream.model or not upstream.site < downstream.site:
        raise UsageError(f"causal check: a later site of one model expected downstream, found {pair}")
    return upstream, downstream


class AblatedBatch:
    """Some rows, with what the downstream latents are before and after upstream ones are taken out.

    The stream at the upstream site loses what latents write, x' = x + dec(f without them) - dec(f), at the tokens that
    count, so that the dictionary's error is kept; the downstream dictionary reads what the model makes of it.

    Memory: dense latents (rows, pos, n) of the batch.

    Attributes:
        before: the downstream latents that are read, at the tokens that count, float64.
    """

    before: Float[Tensor, "tokens reads"]

    @torch.no_grad()
    def __init__(
        self,
        ends: tuple[LatentSource, LatentSource],
        tokens: Tokens,
        counted: Bool[Tensor, "rows pos"],
        latents: Ints,
        reads: Ints,
    ) -> None:
        """`latents`: upstream, sorted, of which some are to be ablated; `reads`: downstream.

        Raises:
            UsageError: the upstream dictionary cannot be spliced into the model.
        """
        self._upstream, self._downstream = ends
        self._tokens, self._counted, self._latents = tokens, counted, latents
        self._reads = torch.from_numpy(reads).to(self._downstream.dictionary.W_dec.device)
        model, sites = self._upstream.model, [one.site for one in ends]
        self._replaced = ReplacementModel(model, {sites[0]: self._upstream.dictionary}, errors="keep")
        self._prefix = self._replaced.prefix(tokens)
        values = model.capture(tokens, sites)
        self.before = self._measured(values[sites[1]], counted)
        x = values[sites[0]].to(self._upstream.dictionary.W_dec.device)
        self._strength = self._upstream.dictionary.encode_dense(x, torch.from_numpy(latents).to(x.device)).cpu()

    @property
    def strength(self) -> Float[Tensor, "tokens latents"]:
        """The upstream latents at the tokens that count, float64."""
        return self._strength[self._counted].double()

    @torch.no_grad()
    def without(self, latents: Sequence[int]) -> tuple[Bool[Tensor, "tokens"], Float[Tensor, "inside reads"]]:
        """Which tokens lie in rows where one of some latents is active (elsewhere nothing changes), and what the
        downstream latents are there once all of these are taken out."""
        places = np.searchsorted(self._latents, latents)
        lit = ((self._strength[..., places] > 0).any(dim=-1) & self._counted).any(dim=1)
        inside = lit[:, None].expand_as(self._counted)[self._counted]
        rows = lit.nonzero()[:, 0]
        if not len(rows):
            return inside, self.before[inside]
        site, edit = self._downstream.site, partial(_ablated, self._replaced, list(latents))
        at, mask = rows.to(self._prefix.device), self._counted[rows]
        after = self._replaced.capture(self._tokens[at], mask, [site], prefix=self._prefix[at], reconstruct=edit)
        return inside, self._measured(after[site], mask)

    def _measured(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x[mask.to(x.device)].to(self._reads.device)
        return self._downstream.dictionary.encode_dense(x, self._reads).double().cpu()


def _ablated(replaced: ReplacementModel, chosen: list[int], site: Site, x: Tensor) -> Tensor:
    def without(latents: Tensor) -> Tensor:
        return latents.index_fill(-1, torch.tensor(chosen, device=latents.device), 0.0)

    return replaced.reconstruct(site, x, without)
