"""The head survey: what the top latents of every head do on a text, and how many heads look monosemantic by rules.

A latent is of a head by the norm of what the head's part of its decoder adds to the stream, among the latents that are
active at `LEAST` tokens of the text or more. What a head does in it is told by where the head's part of its
pre-activation comes from, over the tokens at which it is active: one of `KINDS`, if at least half of that part (in
absolute values) does, else it is mixed. A head looks monosemantic if at least 80 % of its top n latents are of one
kind. Kissane et al. 2024 judged top-10 lists by eye; rules can be run again, and on 50.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.direct import direct_attribution
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.heads import HeadShares, head_shares
from gossamer.attention.ioi.patching import AttentionHead
from gossamer.attention.ioi.results import SurveyedHead
from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tokens import Tokens

KINDS = ("current token", "first token", "same token before", "token after the same one", "previous token", "other")
"""Where a head moves something from; the first that fits a source."""
LEAST, HALF, PURE = 8, 0.5, 0.8
TOPS = (10, 50)
_ROWS = 8


@torch.no_grad()
def survey_heads(
    model: LanguageModel, dictionaries: Mapping[Site, Dictionary], tokens: Tokens
) -> tuple[SurveyedHead, ...]:
    """What the top latents of every head do.

    Memory: latents active in 8 rows x heads x tokens of a row, and n_latents x heads x kinds of every dictionary.

    Args:
        model: the language model.
        dictionaries: on z, by site.
        tokens: the text.
    """
    masses = {site: torch.zeros(one.n_latents, model.n_heads, len(KINDS)) for site, one in dictionaries.items()}
    counts = {site: torch.zeros(one.n_latents) for site, one in dictionaries.items()}
    for start in range(0, len(tokens), _ROWS):
        frozen = FrozenPass.of(model, dictionaries.values(), tokens[slice(start, start + _ROWS)])
        kinds = source_kinds(frozen.tokens)
        for site in dictionaries:
            found = direct_attribution(frozen, site)
            sizes, kind = found.contributions.abs(), kinds[found.rows, found.positions].unsqueeze(1)
            by_kind = torch.stack([(sizes * (kind == number)).sum(dim=2) for number in range(len(KINDS))], dim=2)
            masses[site].index_add_(0, found.latents.cpu(), by_kind.cpu().to(masses[site]))
            counts[site].index_add_(0, found.latents.cpu(), torch.ones(len(found)))
    return tuple(
        _judged(head_shares(model, one), head, masses[site][:, head], counts[site])
        for site, one in dictionaries.items()
        for head in range(model.n_heads)
    )


def source_kinds(tokens: Tokens) -> Int[Tensor, "batch query source"]:
    """Which of `KINDS` every source is for every query."""
    ids, width = tokens.ids, tokens.ids.shape[1]
    query, source = torch.arange(width, device=ids.device).unsqueeze(1), torch.arange(width, device=ids.device)
    before = torch.cat([torch.full_like(ids[:, :1], -1), ids[:, :-1]], dim=1)
    rules = (
        (query == source).expand(len(ids), -1, -1),
        tokens.first.unsqueeze(1).expand(-1, width, -1),
        ids.unsqueeze(2) == ids.unsqueeze(1),
        ids.unsqueeze(2) == before.unsqueeze(1),
        (query == source + 1).expand(len(ids), -1, -1),
    )
    found = torch.full((len(ids), width, width), len(rules), device=ids.device)
    for number in reversed(range(len(rules))):
        found = torch.where(rules[number], number, found)
    return found


def _judged(shares: HeadShares, head: int, masses: Float[Tensor, "n kind"], counts: Float[Tensor, "n"]) -> SurveyedHead:
    parts = masses / masses.sum(dim=1, keepdim=True).clamp(min=1e-30)
    # What comes from nowhere in particular is no kind.
    largest, kind = parts[:, :-1].max(dim=1)
    own = torch.where(largest >= HALF, kind, -1)
    live = (counts >= LEAST).nonzero().squeeze(1)
    output = shares.output[:, head].cpu()[live]
    order = output.argsort(descending=True, stable=True)
    share, names, purity, pure = [], [], [], []
    for top in TOPS:
        chosen = order[:top]
        votes = torch.stack([(own[live[chosen]] == number).sum() for number in range(len(KINDS) - 1)])
        purity.append(float(votes.max()) / max(1, len(chosen)))
        share.append(float(output[chosen].mean()) if len(chosen) else 0.0)
        names.append(KINDS[int(votes.argmax())] if purity[-1] > 0 else "")
        pure.append(len(chosen) == top and purity[-1] >= PURE)
    top_ten = tuple(live[order[: TOPS[0]]].tolist())
    return SurveyedHead(
        AttentionHead(shares.site.layer or 0, head),
        top_ten,
        (share[0], share[1]),
        names[0],
        (purity[0], purity[1]),
        (pure[0], pure[1]),
    )
