"""Does the failure run through the circuit? Nodes put back to their clean values in prompts that a recipe breaks."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.adversarial.bench import Bench, EditedRow
from gossamer.circuits.adversarial.detectors import node_places, wrong_circuit
from gossamer.circuits.adversarial.guides import CircuitGuide
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder, with_roles_of
from gossamer.circuits.adversarial.results import BrokenPrompt, Detector, Repair
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.site_plan import in_stream
from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt_pairs import PromptPairs

# Broken prompts that are repaired, detectors that are put back, and prompts that are shown, at most.
_PROMPTS, _DETECTORS, _SHOWN = 32, 6, 8


def encoded(encoder: PromptEncoder, rows: Sequence[EditedRow]) -> tuple[PromptPairs, PromptPairs]:
    """Prompts before and after the edits; text that is put in has no role that they lacked."""
    edited = [with_roles_of(row.edited, row.clean) for row in rows]
    return encoder.pairs([row.clean for row in rows]), encoder.pairs(edited)


def moved_nodes(
    model: LanguageModel, guide: CircuitGuide, clean: PromptPairs, edited: PromptPairs
) -> Float[Tensor, "prompt node"]:
    """How far edits move each node, in logits to first order by its weight on the clean prompt."""
    _, weights, activations = guide.attributed(model, clean)
    with torch.no_grad():
        streams = model.capture(edited.clean.tokens.to(model.device), guide.nodes.sites)
        return weights.detach() * (guide.activations(streams, edited) - activations.detach())


def repairs(
    bench: Bench, guide: CircuitGuide, detectors: Sequence[Detector], rows: Sequence[EditedRow]
) -> tuple[Repair, ...]:
    """Each of the largest detectors put back, and all nodes of the circuit, beside as many random active latents.

    Only prompts whose right answer the recipe leaves as it is: elsewhere clean values speak for another answer. Empty
    where the recipe breaks none of these.
    """
    kept = [row for row in rows if row.clean.answers == row.edited.answers][:_PROMPTS]
    if not kept:
        return ()
    model, (clean, edited) = bench.model, encoded(bench.encoder, kept)
    chosen: list[tuple[int | None, list[int]]] = [(None, list(range(len(guide.nodes))))]
    chosen += enumerate(node_places(guide.nodes, detectors[:_DETECTORS]))
    before, after = (CountedModel(model).margins(pairs) for pairs in (clean, edited))
    moved = moved_nodes(model, guide, clean, edited)
    generator = torch.Generator().manual_seed(bench.settings.seed)
    found = []
    for number, own in chosen:
        nodes = guide.nodes.select(torch.tensor(own, device=model.device))
        other = wrong_circuit(model, nodes, guide.dictionaries, clean, generator)
        patched, control = (put_back(model, one, guide.dictionaries, clean, edited) for one in (nodes, other))
        found.append(
            Repair(
                number,
                _restored(before, after, patched),
                _restored(before, after, control),
                int((patched > 0).sum()),
                int((control > 0).sum()),
                len(clean),
                moved[:, own].sum(dim=1).mean().item(),
            )
        )
    return tuple(found)


def _restored(clean: Tensor, edited: Tensor, patched: Tensor) -> float:
    return ((patched.mean() - edited.mean()) / (clean.mean() - edited.mean())).item()


def put_back(
    model: LanguageModel, nodes: Nodes, dictionaries: Mapping[Site, Dictionary], clean: PromptPairs, edited: PromptPairs
) -> Float[Tensor, "prompt"]:
    """Margins of edited prompts in which nodes have the values of the clean ones, token by token of their roles.

    The n-th token of a role takes the value of the n-th token of that role; what the dictionaries leave out stays.
    """
    device = model.device
    source = _matched(clean, edited).to(device)
    with torch.no_grad():
        streams = model.capture(clean.clean.tokens.to(device), nodes.sites)
    edits = {}
    for index, site in enumerate(nodes.sites):
        here = nodes.at(index)
        if not len(here.where):
            continue
        grid = torch.zeros(len(nodes.roles), len(here.columns), device=device)
        grid[here.role, here.column] = 1.0
        roles = edited.clean.roles.to(device)
        with torch.no_grad():
            values = dictionaries[site].encode_dense(streams[site], here.columns)
        wanted = values.gather(1, source.clamp(min=0)[:, :, None].expand(-1, -1, values.shape[2]))
        there = grid[roles.clamp(min=0)] * ((roles >= 0) & (source >= 0))[:, :, None]
        edits[site] = partial(_moved, dictionaries[site], here.columns, wanted, there)
    with model.edit(edits):
        return CountedModel(model, batch_size=len(edited)).margins(edited)


def _moved(
    dictionary: Dictionary, columns: Int[Tensor, "column"], wanted: Tensor, there: Tensor, x: Tensor
) -> Float[Tensor, "prompt pos d"]:
    change = (wanted - dictionary.encode_dense(x, columns)) * there
    return x + in_stream(dictionary, x, change.to(dictionary.W_dec.dtype) @ dictionary.W_dec[columns])


def _matched(clean: PromptPairs, edited: PromptPairs) -> Int[Tensor, "prompt pos"]:
    """For every token of the edited prompts the clean token with the same role and the same number in it; -1: none."""
    found = torch.full_like(edited.clean.roles, -1)
    for row, (old, new) in enumerate(zip(clean.clean.roles.tolist(), edited.clean.roles.tolist(), strict=True)):
        known: dict[int, list[int]] = {}
        for place, role in enumerate(old):
            known.setdefault(role, []).append(place)
        used = dict.fromkeys(known, 0)
        for place, role in enumerate(new):
            if role >= 0 and used.get(role, 0) < len(known.get(role, ())):
                found[row, place] = known[role][used[role]]
                used[role] += 1
    return found


def failures(bench: Bench, broken: Sequence[EditedRow]) -> tuple[BrokenPrompt, ...]:
    """Some of the prompts that a recipe breaks, with what the model says."""
    model, rows = bench.model, broken[:_SHOWN]
    if not rows:
        return ()
    clean, edited = encoded(bench.encoder, rows)
    before, after = (CountedModel(model).margins(pairs).tolist() for pairs in (clean, edited))
    with torch.no_grad():
        logits = model.logits(edited.clean.tokens.to(model.device), at=edited.clean.answer_position.to(model.device))
    wrong = edited.incorrect_answers().to(logits.device)
    said = wrong.gather(1, torch.where(wrong >= 0, logits.gather(1, wrong.clamp(min=0)), -torch.inf).argmax(1)[:, None])
    shown = []
    for number, (_, old, new) in enumerate(rows):
        failure = BrokenPrompt(
            clean=tuple(map(model.word, old.clean.ids)),
            edited=tuple(map(model.word, new.clean.ids)),
            answer=model.word(new.answers[0]),
            said=model.word(int(said[number, 0])),
            before=before[number],
            after=after[number],
        )
        shown.append(failure)
    return tuple(shown)
