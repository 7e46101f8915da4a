"""Which nodes can be in a circuit at all."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.batching import in_batches
from gossamer.circuits.batch import Batch
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import WHOLE_BATCH, Splice
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.progress import begin

# Float error of a mean over equal values: a latent that moves by less than this share of its site's largest value is
# still. Values, not moves: prompts that equal their counterfactuals move by nothing but such errors.
TOLERANCE = 1e-5
Streams = Mapping[Site, Float[Tensor, "prompt pos d"]]


def every_node(dictionaries: Mapping[Site, Dictionary], roles: Sequence[str], device: torch.device) -> Nodes:
    """Every latent of every dictionary at every role."""
    grids = [torch.ones(len(roles), d.n_latents, dtype=torch.bool, device=device) for d in dictionaries.values()]
    return Nodes.from_grids(tuple(dictionaries), roles, grids)


def candidates(
    splice: Splice, own: Streams | None = None, whole: Streams | None = None, *, error_nodes: bool = False
) -> Nodes:
    """Nodes whose latent differs from its ablation value on some prompt of a splice, whose own nodes do not matter.

    Both the model's own stream and the stream with all dictionaries spliced in are looked at, where the answer can be
    changed from. Any other node has nothing to be ablated on these prompts, or nothing that reads it: it stays at its
    ablation value, folded into constants.

    Args:
        splice: the network over the prompts.
        own: what the sites hold in the model itself, on all of the prompts, where that is known.
        whole: what they hold with all dictionaries spliced in, where that is known.
        error_nodes: whether errors are candidates too, after the latents: each (site, role) whose error differs from
            what stands in for it.

    Raises:
        GossamerError: there is none (the prompts equal their counterfactuals, or the dictionaries are dead on them).
    """
    dictionaries, roles, device = splice.dictionaries, splice.nodes.roles, splice.model.device
    splice = splice.with_nodes(every_node(dictionaries, roles, device), non_nodes="kept")
    nothing = splice.with_nodes(splice.nodes.none())
    moves = {site: torch.zeros(len(roles), d.n_latents, device=device) for site, d in dictionaries.items()}
    largest = {site: torch.zeros((), device=device) for site in dictionaries}
    advance = begin("candidates", len(splice.examples))

    def look(rows: slice) -> None:
        batch = splice.batch(rows)
        width = batch.roles.shape[1]
        read = None if own is None else {site: own[site][rows][:, :width] for site in dictionaries}
        if whole is None:
            spliced = nothing.streams(torch.zeros(0, device=device), rows)
        else:
            spliced = {site: whole[site][rows][:, :width] for site in dictionaries}
        for streams in (read, spliced):
            changes = {}
            for site, (values, changes[site]) in splice.latents(rows, streams).items():
                largest[site] = torch.maximum(largest[site], values.max().float())
            _largest_moves(moves, changes, splice, batch)
        advance(rows.stop - rows.start, "")

    in_batches(len(splice.examples), min(splice.batch_size, WHOLE_BATCH), look)
    grids = [grid > TOLERANCE * largest[site] for site, grid in moves.items()]
    nodes = Nodes.from_grids(tuple(dictionaries), roles, grids)
    if len(nodes) == 0:
        raise GossamerError(
            "no latent differs from its ablation value on any training prompt; expected counterfactuals that change "
            "something the dictionaries can see: check the task and the dictionaries"
        )
    return nodes.with_errors(_moving_errors(splice)) if error_nodes else nodes


def _moving_errors(splice: Splice) -> Bool[Tensor, "site role"]:
    """Where the model's own errors differ from what stands in for them, on some prompt."""
    clean, found = splice.examples.clean, []
    for site, error in splice.prompts.errors.items():
        size, roles = error.abs().amax(dim=-1), _roles_read(splice.model, site, clean.roles, clean.answer_position)
        here = torch.stack([size.masked_fill(roles != role, 0).max() for role in range(len(splice.nodes.roles))])
        found.append(here > TOLERANCE * size.max())
    return torch.stack(found)


def _largest_moves(moves: dict[Site, Tensor], changes: Mapping[Site, Tensor], splice: Splice, batch: Batch) -> None:
    for site, change in changes.items():
        roles = _roles_read(splice.model, site, batch.roles, batch.answer_position)
        for role in range(int(roles.max()) + 1):
            here = roles == role
            if here.any():
                torch.maximum(moves[site][role], change[here].abs().amax(dim=0).float(), out=moves[site][role])


def _roles_read(
    model: LanguageModel, site: Site, roles: Int[Tensor, "batch pos"], answer: Int[Tensor, "batch"]
) -> Int[Tensor, "batch pos"]:
    """The roles, with -1 where the answer, a prompt's last token, reads nothing of what `site` holds.

    Positions reach each other through attention alone: behind the last one, a site is read at the answer's position.
    """
    if site < Site("z", model.n_layers - 1):
        return roles
    places = torch.arange(roles.shape[1], device=roles.device)
    return torch.where(places == answer.unsqueeze(1), roles, -1)
