"""Exact activation patching of heads and of paths between heads: what does the task, without any dictionary.

A head's output at one token is replaced by what it was on the prompt in which the other name comes again, and the logit
difference is measured: each head of each layer, one at a time. A path leads from one head's output to the queries, or
the values, that a later head reads: every other head's output on the way is held at its own, MLPs answer (Wang et al.
2022, "path patching").
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.attention.ioi.runs import CleanRun
from gossamer.errors import UsageError
from gossamer.model.site import Site


class AttentionHead(NamedTuple):
    """One attention head."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


def require_aligned(clean: CleanRun, other: CleanRun) -> None:
    """Refuse runs whose prompts differ in where their roles stand.

    Raises:
        UsageError: they do.
    """
    same = clean.prompts.places.keys() == other.prompts.places.keys() and all(
        torch.equal(where, other.prompts.places[role]) for role, where in clean.prompts.places.items()
    )
    if not same:
        raise UsageError(
            "patching: prompts of the same lengths and roles expected, found others; swap names of one token"
        )


def layer_effects(clean: CleanRun, other: CleanRun, role: str) -> Float[Tensor, "layer prompt"]:
    """By how much the logit difference falls when all heads of a layer are patched at a role's token."""
    require_aligned(clean, other)
    every, where = torch.arange(len(clean.prompts)), clean.prompts.places[role]
    found = [
        clean.differences(every, layer, {Site("z", layer): (where, other.at(Site("z", layer), role))})
        for layer in range(clean.model.n_layers)
    ]
    return clean.difference - torch.stack(found)


def head_effects(
    clean: CleanRun, other: CleanRun, role: str, layers: Sequence[int], *, direct: bool = False
) -> Float[Tensor, "layer head prompt"]:
    """By how much the logit difference falls when one head is patched at a role's token, for all heads of `layers`.

    With `direct`, the outputs of all later heads at that token stay as they were: at END what is left is what the head
    itself writes towards the answer (MLPs answer).
    """
    require_aligned(clean, other)
    return torch.stack([_heads_of(clean, other, role, layer, direct) for layer in layers])


def _heads_of(clean: CleanRun, other: CleanRun, role: str, layer: int, direct: bool) -> Float[Tensor, "head prompt"]:
    site, heads, n = Site("z", layer), clean.model.n_heads, len(clean.prompts)
    own, new = (_by_head(run, run.at(site, role)) for run in (clean, other))
    patched = own.unsqueeze(0).repeat(heads, 1, 1, 1)
    every = torch.arange(heads)
    patched[every, :, every] = new.transpose(0, 1)
    rows, where = torch.arange(n).repeat(heads), clean.prompts.places[role].repeat(heads)
    replaced = {site: (where, patched.flatten(0, 1).flatten(1))}
    if direct:
        later = [Site("z", one) for one in range(layer + 1, clean.model.n_layers)]
        replaced |= {one: (where, clean.at(one, role).repeat(heads, 1)) for one in later}
    return clean.difference - clean.differences(rows, layer, replaced).view(heads, n)


def _by_head(run: CleanRun, z: Float[Tensor, "... d_z"]) -> Float[Tensor, "... head d_head"]:
    return torch.unflatten(z, -1, (run.model.n_heads, run.model.d_head))


def path_effects(
    clean: CleanRun,
    other: CleanRun,
    senders: Sequence[AttentionHead],
    role: str,
    receivers: Sequence[AttentionHead],
    through: Literal["q", "v"],
) -> Float[Tensor, "sender receiver prompt"]:
    """By how much the logit difference falls when a receiver reads what it would with one sender patched.

    Args:
        clean, other: runs on prompts and on their swaps.
        senders: heads whose outputs at the token of `role` are patched.
        role: see `senders`; "q" needs "END".
        receivers: heads whose output at END is looked at.
        through: "q": the receiver's query at END; "v": the values that it reads at the token of `role`.

    Returns:
        NaN where a receiver does not come after a sender.

    Raises:
        UsageError: queries of another token than END.
    """
    require_aligned(clean, other)
    if through == "q" and role != "END":
        raise UsageError(f"paths to queries: senders at END expected, found {role}; use through='v'")
    found = clean.difference.new_full((len(senders), len(receivers), len(clean.prompts)), float("nan"))
    for place, sender in enumerate(senders):
        later = [number for number, one in enumerate(receivers) if one.layer > sender.layer]
        if later:
            chosen = [receivers[number] for number in later]
            found[place, later] = _from_sender(clean, other, sender, role, chosen, through)
    return found


def _from_sender(
    clean: CleanRun,
    other: CleanRun,
    sender: AttentionHead,
    role: str,
    receivers: Sequence[AttentionHead],
    through: Literal["q", "v"],
) -> Float[Tensor, "receiver prompt"]:
    rows, where = torch.arange(len(clean.prompts)), clean.prompts.places[role]
    site, last = Site("z", sender.layer), max(one.layer for one in receivers)
    patched = _by_head(clean, clean.at(site, role)).clone()
    patched[:, sender.head] = _by_head(other, other.at(site, role))[:, sender.head]
    replaced = {site: (where, patched.flatten(1))}
    # Nothing but the sender moves at its token, and what later heads read there stays what they made of it.
    replaced |= {Site("z", layer): (where, clean.at(Site("z", layer), role)) for layer in range(sender.layer + 1, last)}
    sites = {Site(through, layer): where for layer in sorted({one.layer for one in receivers})}
    read = clean.captured(rows, sender.layer, replaced, sites)
    own = clean.captured(rows, sender.layer, {}, sites)
    return torch.stack([_into(clean, one, role, read, own, through) for one in receivers])


def _into(
    clean: CleanRun, receiver: AttentionHead, role: str, read: dict[Site, Tensor], own: dict[Site, Tensor], through: str
) -> Float[Tensor, "prompt"]:
    """The fall when one head reads other queries or values, and no other head does."""
    rows, layer, head = torch.arange(len(clean.prompts)), receiver.layer, receiver.head
    source = Site(through, layer)
    if through == "q":
        queries = own[source].clone()
        queries[:, head] = read[source][:, head]
        changed = clean.differences(rows, layer, {source: (clean.prompts.places["END"], queries)})
        return clean.difference - changed
    # A group of heads shares its values, and only this one is to read the others: so its output is moved by what it
    # attends to them.
    end, where = clean.prompts.places["END"], clean.prompts.places[role]
    group = clean.model.n_heads // own[source].shape[1]
    moved = (read[source] - own[source])[:, head // group]
    pattern = clean.model.capture(clean.prompts.tokens, [Site("pattern", layer)])[Site("pattern", layer)]
    site = Site("z", layer)
    z = _by_head(clean, clean.at(site, "END")).clone()
    z[:, head] += pattern[rows, head, end, where].unsqueeze(1).to(moved) * moved
    return clean.difference - clean.differences(rows, layer, {site: (end, z.flatten(1))})
