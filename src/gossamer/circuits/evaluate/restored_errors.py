"""Which sites and roles the dictionaries lose the task at: their exact errors restored in one place at a time."""

from functools import partial
from itertools import product

import torch
from torch import Tensor

from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.shortfalls import RestoredError
from gossamer.circuits.splice import Splice
from gossamer.model.site import Site
from gossamer.progress import track


def restored_errors(evaluator: Evaluator) -> tuple[RestoredError, ...]:
    """All dictionaries spliced in, nothing ablated, with exact errors at the tokens of one role at one site.

    Then at all sites for a role, at all tokens for a site, and everywhere, which is the model itself. An exact error
    makes the dictionary the identity on what reaches its site. Empty where errors are kept everywhere already.

    Cost: (sites + 1) x (roles + 1) passes over the evaluator's prompts from the first dictionary on.
    """
    splice = evaluator.splice
    if splice.prompts.network.errors == "keep":
        return ()
    roles = splice.examples.clean.roles
    present = [name for index, name in enumerate(splice.nodes.roles) if bool((roles == index).any())]
    places = list(product((*splice.dictionaries, None), (*present, None)))
    found = []
    for site, role in track(places, "restored errors", len(places)):
        network = partial(_restored, splice.with_nodes(splice.nodes.none(), non_nodes="kept"), site, role)
        of_prompts = evaluator.full.prompt_metrics_of(network, splice.batch_size)
        measured = evaluator.task_metrics("restored", of_prompts)
        found.append(RestoredError(site, role, measured.faithfulness, measured.kl))
    return tuple(found)


@torch.no_grad()
def _restored(network: Splice, place: Site | None, role: str | None, rows: slice) -> Outputs:
    """What the network of all latents says of prompts with exact errors at one place."""
    batch = network.batch(rows)
    here = batch.replaced if role is None else batch.roles == network.nodes.roles.index(role)

    def reconstruct(site: Site, x: Tensor) -> Tensor:
        nothing = x.new_zeros(*x.shape[:-1], 0)
        out = network.written(site, batch, x, nothing)
        return torch.where(here.unsqueeze(-1), x, out.to(x)) if place in (None, site) else out

    return network.outputs_of(batch, reconstruct)
