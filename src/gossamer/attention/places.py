"""Where a term of a trace stands: at a position of one prompt, or at a role, over whose tokens it adds up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.source import Source
from gossamer.attention.upstream import Terms, of_latents
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError

NO_ROLE = "no role"


@dataclass(frozen=True, eq=False)
class Places:
    """The places of a pass.

    Attributes:
        frozen: the pass.
        index: the place of every token, counted over all rows.
        names: positions, or the roles and what tokens without one are counted under.
    """

    frozen: FrozenPass
    index: Int[Tensor, "tokens"]
    names: Sequence[int | str]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.names), "place")

    @classmethod
    def of(cls, frozen: FrozenPass, roles: Int[Tensor, "batch pos"] | None, names: Sequence[str]) -> "Places":
        """Positions of the one prompt where `roles` is None, else the roles.

        Raises:
            UsageError: several prompts without roles.
        """
        batch, width = frozen.tokens.ids.shape
        if roles is None:
            if batch != 1:
                raise UsageError(f"trace: one prompt, or roles that tokens are added up by, expected; found {batch}")
            return cls(frozen, torch.arange(width, device=frozen.replaced.device), range(width))
        index = torch.where(roles >= 0, roles, len(names)).to(frozen.replaced.device)
        return cls(frozen, index.flatten(), [*names, NO_ROLE])

    def mask(self, place: int | str | None) -> Bool[Tensor, "batch pos"]:
        """The tokens of a place."""
        return (self.index == self.names.index(place)).reshape(self.frozen.tokens.ids.shape)

    def chosen(self, terms: Terms, source: Source) -> Bool[Tensor, "terms"]:
        """Which of the terms a source sums up."""
        here = self.mask(source.place).flatten()[terms.tokens]
        return here if terms.latents is None else here & (terms.latents == source.latent)

    def function(
        self, terms: Terms, source: Source, chosen: Bool[Tensor, "terms"]
    ) -> tuple[Float[Tensor, "batch pos d"], float]:
        """What some of the terms are a function of, as its cotangent at the terms' site, and its constant.

        Of latents these are their pre-activations, weighted by what a unit of each adds.
        """
        if source.latent is None:
            assert terms.cotangent is not None
            return terms.cotangent * self.mask(source.place).unsqueeze(-1), 0.0
        assert terms.per_unit is not None
        grid = terms.per_unit.new_zeros(len(self.index))
        grid = grid.index_put((terms.tokens[chosen],), terms.per_unit[chosen])
        codes = self.frozen.codes[terms.site]
        cotangent, bias = of_latents(codes, source.latent, grid.reshape(self.frozen.tokens.ids.shape))
        return cotangent, float(bias.values.sum())
