"""Which latents at the second mention of the subject move the logit difference: each ablated alone, errors kept.

A latent is taken out of z at the token of a role, each prompt's own, and everything else that stands there stays: the
model is otherwise unchanged. Only prompts in which it is active are run; in the others nothing would change.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.attention.codes import Codes
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.ioi.runs import CleanRun
from gossamer.display import plural, short_repr
from gossamer.model.site import Site


@dataclass(frozen=True, eq=False)
class LatentAblation:
    """Effects of the latents of one dictionary on z at one role: by how much the logit difference falls.

    Attributes:
        site: where the dictionary reads.
        latents: those that are active at the role in some prompt.
        effects: 0 where a latent is not active.
        activations: at the role.
        error: of taking out what the dictionary leaves unexplained.
        every: of taking out all active latents at once.
    """

    site: Site
    latents: Int[Tensor, "latent"]
    effects: Float[Tensor, "latent prompt"]
    activations: Float[Tensor, "latent prompt"]
    error: Float[Tensor, "prompt"]
    every: Float[Tensor, "prompt"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.site)
        yield plural(len(self.latents), "latent")

    @property
    def active(self) -> Bool[Tensor, "latent prompt"]:
        """Where each latent is active."""
        return self.activations > 0


@torch.no_grad()
def latent_effects(clean: CleanRun, frozen: FrozenPass, site: Site, role: str) -> LatentAblation:
    """Ablate every latent of a dictionary on z that is active at a role's token, one at a time.

    Cost: a run for each latent that is active in each prompt.

    Args:
        clean: runs on the prompts.
        frozen: a pass over the same prompts, with the dictionary.
        site: where it reads.
        role: at whose token.
    """
    codes = frozen.codes_at(site)
    where, n = clean.prompts.places[role], len(clean.prompts)
    rows, latents, activations = _active(codes, where)
    written = activations.unsqueeze(1) * codes.dictionary.W_dec[latents].to(codes.error)
    if codes.output_scale is not None:
        written = written * codes.output_scale[rows, where[rows]]
    every = torch.arange(n, device=where.device)
    error = codes.error[every, where]
    total = torch.zeros_like(error).index_add(0, rows, written)
    z = clean.at(site, role)
    layer = site.layer or 0

    def fall(chosen: Tensor, removed: Tensor) -> Tensor:
        after = clean.differences(chosen, layer, {site: (where[chosen], z[chosen] - removed.to(z))})
        return clean.difference[chosen] - after

    numbers, entry = torch.unique(latents, return_inverse=True)
    effects, found = (activations.new_zeros(len(numbers), n) for _ in range(2))
    effects[entry, rows] = fall(rows, written).to(effects)
    found[entry, rows] = activations
    return LatentAblation(site, numbers, effects, found, fall(every, error), fall(every, total))


def _active(codes: Codes, where: Int[Tensor, "prompt"]) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, latents and activations of all that is active at one token of each row."""
    latents, width = codes.latents, codes.latents.shape[1]
    rows = latents.tokens // width
    here = latents.tokens % width == where[rows]
    return rows[here], latents.latents[here], latents.activations[here].to(codes.error)
