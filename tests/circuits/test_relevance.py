"""RelP scores against a pass written out by hand, with patterns and norm scales put back as constants."""

from functools import partial

import torch
from circuit_lab import LATENTS, ROLES, all_nodes, random_ablation, random_dictionary, sites_of

from gossamer.circuits.ablation import group_rows
from gossamer.circuits.attribution import attribution_patching
from gossamer.circuits.relevance import relevance
from gossamer.circuits.splice import Splice
from gossamer.model.kinds import SITE_KINDS
from gossamer.model.language_model import LanguageModel
from gossamer.model.linearised import linear_mlps
from gossamer.model.site import Site
from gossamer.tasks.task import Task

SITES = sites_of("resid_post.0", "resid_post.1")


def test_scores_by_hand(model: LanguageModel, task: Task) -> None:
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(SITES)}
    ablation = random_ablation(SITES)
    splice = Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries), batch_size=3)
    clean, examples = task.test.clean, task.test
    masks = {site: torch.ones(len(ROLES), LATENTS, dtype=torch.float64, requires_grad=True) for site in SITES}

    def replaced(site: Site, x: torch.Tensor) -> torch.Tensor:
        dictionary, values = dictionaries[site], ablation.sites[site]
        assert values.latents is not None
        assert values.error is not None
        latents, ablated = dictionary.encode_dense(x), group_rows(values.latents, clean.ablation_groups)
        moved = ablated + masks[site][clean.roles.clamp(min=0)] * (latents - ablated)
        out = dictionary.decode(moved) + group_rows(values.error, clean.ablation_groups)
        return torch.where((clean.roles >= 0).unsqueeze(-1), out, x)

    edits = {site: partial(replaced, site) for site in SITES}
    kinds = [kind for kind in model.kinds if kind == "pattern" or SITE_KINDS[kind].norm_scale]
    held = [site for kind in kinds for site in model.sites(kind) if site > SITES[0]]
    with torch.no_grad(), model.edit(edits):
        constants = model.capture(clean.tokens, held)
    frozen = {site: lambda x, value=value: value for site, value in constants.items()}
    with linear_mlps(model), model.edit(edits), model.edit(frozen):
        logits = model.logits(clean.tokens, at=clean.answer_position)
    metric = (logits.gather(1, examples.answer[:, None]) - logits.gather(1, examples.incorrect[:, None])).mean()
    grids = torch.autograd.grad(metric, list(masks.values()))
    nodes = splice.nodes
    expected = torch.stack(grids)[nodes.site, nodes.role, nodes.latent]
    found = relevance(splice)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, attribution_patching(splice), rtol=1e-2, atol=1e-3)
