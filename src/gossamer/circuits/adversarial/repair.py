"""Does the failure run through the circuit? Nodes put back to their clean values in prompts that a recipe breaks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.adversarial.bench import Bench, EditedRow
from gossamer.circuits.adversarial.detectors import node_places, wrong_circuit
from gossamer.circuits.adversarial.guides import CircuitGuide
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder, with_roles_of
from gossamer.circuits.adversarial.results import BrokenPrompt, Detector, PromptRepair, Repair, restored_share
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.site_plan import in_stream
from gossamer.dictionary.dictionary import Dictionary
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt_pairs import PromptPairs

# Broken prompts that are repaired, detectors that are put back, and prompts that are shown, at most.
_PROMPTS, _DETECTORS, _SHOWN = 32, 12, 8


class GroupRepair(NamedTuple):
    """Some nodes of a circuit put back to their clean values in broken prompts.

    Attributes:
        detector: its number in the results, or None for all nodes of the circuit.
        before, after: the nodes' value on the clean prompts and on the edited ones, in logits to first order.
        patched: margins of the edited prompts with the nodes put back; `random`: with as many random active latents.
    """

    detector: int | None
    before: Float[Tensor, "prompt"]
    after: Float[Tensor, "prompt"]
    patched: Float[Tensor, "prompt"]
    random: Float[Tensor, "prompt"]


@dataclass(frozen=True)
class RepairedPrompts:
    """Broken prompts with nodes put back, prompt by prompt.

    Attributes:
        places: of these prompts among those that the recipe breaks.
        clean, edited: their margins before and after the edits.
        groups: what was put back: all nodes of the circuit, then detectors.
    """

    places: tuple[int, ...]
    clean: Float[Tensor, "prompt"]
    edited: Float[Tensor, "prompt"]
    groups: tuple[GroupRepair, ...]

    def means(self) -> tuple[Repair, ...]:
        """Of every group, over prompts; empty where there are none."""
        return tuple(
            Repair(
                one.detector,
                self._restored(one.patched),
                self._restored(one.random),
                int((one.patched > 0).sum()),
                int((one.random > 0).sum()),
                len(self.places),
                (one.after - one.before).mean().item(),
            )
            for one in self.groups
        )

    def of(self, place: int) -> tuple[PromptRepair, ...]:
        """Of every group in the broken prompt at `place`; empty of a prompt that is not among these."""
        if place not in self.places:
            return ()
        row = self.places.index(place)
        return tuple(PromptRepair(one.detector, *(values[row].item() for values in one[1:])) for one in self.groups)

    def _restored(self, patched: Float[Tensor, "prompt"]) -> float:
        return restored_share(*(one.mean().item() for one in (patched, self.clean, self.edited)))


def encoded(encoder: PromptEncoder, rows: Sequence[EditedRow]) -> tuple[PromptPairs, PromptPairs]:
    """Prompts before and after the edits; text that is put in has no role that they lacked."""
    edited = [with_roles_of(row.edited, row.clean) for row in rows]
    return encoder.pairs([row.clean for row in rows]), encoder.pairs(edited)


def node_values(
    model: LanguageModel, guide: CircuitGuide, clean: PromptPairs, edited: PromptPairs
) -> tuple[Float[Tensor, "prompt node"], Float[Tensor, "prompt node"]]:
    """Each node's activation before and after edits, in logits to first order by its weight on the clean prompt."""
    _, weights, activations = guide.attributed(model, clean)
    with torch.no_grad():
        streams = model.capture(edited.clean.tokens.to(model.device), guide.nodes.sites)
        return weights.detach() * activations.detach(), weights.detach() * guide.activations(streams, edited)


def moved_nodes(
    model: LanguageModel, guide: CircuitGuide, clean: PromptPairs, edited: PromptPairs
) -> Float[Tensor, "prompt node"]:
    """How far edits move each node, in logits to first order by its weight on the clean prompt."""
    before, after = node_values(model, guide, clean, edited)
    return after - before


def repaired_prompts(
    bench: Bench, guide: CircuitGuide, detectors: Sequence[Detector], rows: Sequence[EditedRow]
) -> RepairedPrompts:
    """All nodes of the circuit put back, and each of the detectors that move most, beside random active latents.

    Only prompts whose right answer the recipe leaves as it is: elsewhere clean values speak for another answer.
    Cost: two passes of each prompt for every group, and about eight for reading them.

    Args:
        bench: the study's prompts.
        guide: the circuit; `detectors`: its own.
        rows: prompts that a recipe breaks.
    """
    model = bench.model
    places = [place for place, row in enumerate(rows) if row.clean.answers == row.edited.answers][:_PROMPTS]
    if not places:
        return RepairedPrompts((), torch.empty(0), torch.empty(0), ())
    clean, edited = encoded(bench.encoder, [rows[place] for place in places])
    before, after = (CountedModel(model).margins(pairs) for pairs in (clean, edited))
    values = node_values(model, guide, clean, edited)
    with torch.no_grad():
        streams = model.capture(clean.clean.tokens.to(model.device), guide.nodes.sites)
    controls = stand_ins(model, guide, clean, torch.Generator().manual_seed(bench.settings.seed))
    found = []
    for number, own in _groups(guide, detectors, values[1] - values[0]):
        sums = (value[:, own].sum(dim=1).cpu() for value in values)
        chosen = torch.tensor(own, device=model.device)
        both = (guide.nodes.select(chosen), controls.select(chosen))
        patched = (put_back(model, nodes, guide.dictionaries, clean, edited, streams) for nodes in both)
        found.append(GroupRepair(number, *sums, *patched))
    return RepairedPrompts(tuple(places), before, after, tuple(found))


def _groups(
    guide: CircuitGuide, detectors: Sequence[Detector], moved: Float[Tensor, "prompt node"]
) -> list[tuple[int | None, list[int]]]:
    """All nodes, then the detectors that move most, in the order of their numbers; with the places of their nodes."""
    places = node_places(guide.nodes, detectors)
    size = [moved[:, own].sum(dim=1).abs().mean().item() for own in places]
    most = sorted(range(len(places)), key=lambda number: -size[number])[:_DETECTORS]
    return [(None, list(range(len(guide.nodes)))), *((number, places[number]) for number in sorted(most))]


def stand_ins(model: LanguageModel, guide: CircuitGuide, clean: PromptPairs, generator: torch.Generator) -> Nodes:
    """For every node of a circuit another latent, active at its site and role and no node of the circuit, in its place.

    So the control of a detector is part of that of the circuit, and detectors without a node in common have controls
    without one.

    Raises:
        GossamerError: too few latents are active.
    """
    nodes = guide.nodes
    # Sorted by site and role, as they are drawn.
    drawn = wrong_circuit(model, nodes, guide.dictionaries, clean, generator)
    order = sorted(range(len(nodes)), key=lambda place: (int(nodes.site[place]), int(nodes.role[place])))
    return drawn.select(torch.argsort(torch.tensor(order, device=model.device)))


def put_back(
    model: LanguageModel,
    nodes: Nodes,
    dictionaries: Mapping[Site, Dictionary],
    clean: PromptPairs,
    edited: PromptPairs,
    streams: Mapping[Site, Float[Tensor, "prompt pos d"]] | None = None,
) -> Float[Tensor, "prompt"]:
    """Margins of edited prompts in which nodes have the values of the clean ones, token by token of their roles.

    The n-th token of a role takes the value of the n-th token of that role; what the dictionaries leave out stays.
    Cost: a pass of every prompt, and one of its clean prompt where the `streams` of these are not given.
    """
    device = model.device
    source = _matched(clean, edited).to(device)
    if streams is None:
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


def failures(bench: Bench, broken: Sequence[EditedRow], repaired: RepairedPrompts) -> tuple[BrokenPrompt, ...]:
    """Some of the prompts that a recipe breaks, with what the model says and what repairs each."""
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
            repairs=repaired.of(number),
        )
        shown.append(failure)
    return tuple(shown)
