"""EAP-IG scores against gradients at explicit leaf latents, in passes written out by hand."""

import pytest
import torch
from circuit_lab import LATENTS, ROLES, all_nodes, random_ablation, random_dictionary, sites_of, unaligned

from gossamer.circuits.ablation import group_rows
from gossamer.circuits.input_gradients import input_gradients
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import PromptPairs, Task

SITES = sites_of("resid_post.0", "mlp_out.1", "resid_post.1")


def make_splice(model: LanguageModel, examples: PromptPairs) -> Splice:
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(SITES)}
    return Splice.of(model, dictionaries, examples, random_ablation(SITES), all_nodes(dictionaries), batch_size=3)


def by_hand(splice: Splice, steps: int) -> torch.Tensor:
    """All prompts at once: dense latents as leaves at every dictionary, embeddings on the way between the two texts."""
    model, examples, embed = splice.model, splice.examples, Site("resid_pre", 0)
    clean, other = examples.clean, examples.counterfactual
    ends = [model.capture(side.tokens, [embed])[embed] for side in (other, clean)]
    own = model.capture(clean.tokens, SITES)
    scores = torch.zeros(len(SITES), len(ROLES), LATENTS, dtype=torch.float64)
    for step in range(1, steps + 1):
        leaves: dict[Site, torch.Tensor] = {}

        def edit(site: Site, x: torch.Tensor, leaves: dict[Site, torch.Tensor] = leaves) -> torch.Tensor:
            dictionary, error = splice.dictionaries[site], splice.ablation.sites[site].error
            assert error is not None
            leaves[site] = dictionary.encode_dense(x).detach().requires_grad_()
            through = dictionary.encode_dense(x)
            latents = through + leaves[site] - leaves[site].detach()
            out = dictionary.decode(latents) + group_rows(error, clean.ablation_groups)
            return torch.where((clean.roles >= 0).unsqueeze(-1), out, x)

        edits = {embed: lambda x, step=step: ends[0] + step / steps * (ends[1] - ends[0])}
        edits |= {site: lambda x, site=site: edit(site, x) for site in SITES}
        with model.edit(edits):
            logits = model.logits(clean.tokens, at=clean.answer_position)
        metric = (logits.gather(1, examples.answer[:, None]) - logits.gather(1, examples.incorrect[:, None])).sum()
        for index, (site, gradient) in enumerate(
            zip(leaves, torch.autograd.grad(metric, leaves.values()), strict=True)
        ):
            ablated = splice.ablation.sites[site].latents
            assert ablated is not None
            away = splice.dictionaries[site].encode_dense(own[site]) - group_rows(ablated, clean.ablation_groups)
            for role in range(len(ROLES)):
                scores[index, role] += (away * gradient)[clean.roles == role].sum(dim=0).detach()
    nodes = splice.nodes
    return scores[nodes.site, nodes.role, nodes.latent] / (steps * len(examples))


@pytest.mark.parametrize("steps", [1, 3])
def test_scores_by_hand(model: LanguageModel, task: Task, steps: int) -> None:
    splice = make_splice(model, task.test)
    found = input_gradients(splice, steps)
    torch.testing.assert_close(found.double(), by_hand(splice, steps), rtol=1e-4, atol=1e-5)
    assert (found > 0).any()
    assert (found < 0).any()


def test_prompts_that_are_not_aligned_are_refused(model: LanguageModel, task: Task) -> None:
    with pytest.raises(UsageError, match="aligned token by token"):
        input_gradients(make_splice(model, unaligned(task.test)))
