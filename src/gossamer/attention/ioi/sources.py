"""Where latents at the second mention came from: their direct attribution by source token, summed by role."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.direct import direct_attribution
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.ioi.prompts import EncodedPrompts
from gossamer.model.site import Site

SOURCES = ("before names", "IO", "connective", "S1", "after S1", "between", "S2")
"""What source tokens are called, in reading order but for the names. In BABA the token after S1 is the connective."""


def source_roles(prompts: EncodedPrompts) -> Int[Tensor, "prompt pos"]:
    """Which of `SOURCES` each token is; -1 after the second mention."""
    places = prompts.places
    position = torch.arange(prompts.tokens.ids.shape[1], device=prompts.answers.device).expand(len(prompts), -1)
    column = {role: where.unsqueeze(1) for role, where in places.items()}
    first = torch.minimum(column["IO"], column["S1"])
    found = torch.where(position < first, SOURCES.index("before names"), SOURCES.index("between"))
    found = torch.where(position == column["S1"] + 1, SOURCES.index("after S1"), found)
    for role in ("IO", "connective", "S1", "S2"):
        found = torch.where(position == column[role], SOURCES.index(role), found)
    return torch.where(position > column["S2"], -1, found)


@torch.no_grad()
def role_contributions(
    frozen: FrozenPass, prompts: EncodedPrompts, site: Site, latents: Sequence[int]
) -> tuple[Float[Tensor, "latent prompt source"], Float[Tensor, "latent prompt"]]:
    """What the tokens of each role contribute to latents' pre-activations at the second mention, and what biases do.

    NaN where a latent is not active.
    """
    chosen = torch.tensor(list(latents), device=frozen.replaced.device)
    found = direct_attribution(frozen, site, latents=chosen)
    roles = source_roles(prompts)
    shares = found.contributions.new_full((len(chosen), len(prompts), len(SOURCES)), float("nan"))
    bias = shares.new_full(shares.shape[:2], float("nan"))
    here = (found.positions == prompts.places["S2"][found.rows]) & (found.activations > 0)
    rows, by_source = found.rows[here], found.by_source[here]
    entry = (found.latents[here].unsqueeze(1) == chosen).int().argmax(dim=1)
    sums = by_source.new_zeros(len(rows), len(SOURCES) + 1).scatter_add(1, roles[rows] % (len(SOURCES) + 1), by_source)
    shares[entry, rows], bias[entry, rows] = sums[:, :-1], found.bias[here]
    return shares, bias
