"""Scores of single nodes against gradients at explicit leaf activations, and against what they must sum to."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from circuit_lab import (
    LATENTS,
    ROLES,
    all_nodes,
    differences,
    random_ablation,
    random_choice,
    random_dictionary,
    sites_of,
)
from tiny_splice import tiny_model
from torch import Tensor, nn

from gossamer.batching import MemoryWarning
from gossamer.circuits.attribution import (
    GRADIENT_BATCH,
    activation_difference,
    attribution_patching,
    integrated_gradients,
    random_scores,
    ranking,
)
from gossamer.circuits.cost import affordable
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outputs import Outputs
from gossamer.circuits.search import SearchSettings, effort
from gossamer.circuits.splice import WHOLE_BATCH, Splice
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import Task

SITES = ("resid_post.0", "attn_out.1", "resid_post.1")
# Masks and logit differences are float32.
FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


def make_splice(
    model: LanguageModel,
    task: Task,
    names: tuple[str, ...] = SITES,
    batch_size: int = 8,
    architecture: str = "jumprelu",
) -> Splice:
    sites = sites_of(*names)
    dictionaries = {site: random_dictionary(site, architecture, seed=seed) for seed, site in enumerate(sites)}
    return Splice.of(
        model, dictionaries, task.test, random_ablation(sites), all_nodes(dictionaries), batch_size=batch_size
    )


@pytest.fixture
def splice(model: LanguageModel, task: Task) -> Splice:
    return make_splice(model, task)


def leaf_scores(splice: Splice, shares: Mapping[Site, float]) -> dict[Site, Tensor]:
    """(a - m) * d LD / d a summed over a role's tokens, mean over prompts, with a leaf at m + share * (a - m)."""
    roles, ablation_groups = splice.examples.clean.roles, splice.examples.clean.ablation_groups
    through = (roles < 0)[..., None]
    leaves: dict[Site, Tensor] = {}
    steps: dict[Site, Tensor] = {}

    def spliced(site: Site, x: Tensor) -> Tensor:
        dictionary, values = splice.dictionaries[site], splice.ablation.sites[site]
        latents, ablated = dictionary.encode_dense(x), values.latents[ablation_groups.clamp(min=0)]
        leaves[site] = torch.zeros_like(latents, requires_grad=True)
        steps[site] = (latents - ablated).detach()
        moved = ablated + shares.get(site, 1.0) * (latents - ablated) + leaves[site]
        return torch.where(through, x, dictionary.decode_normalised(moved) + values.error[ablation_groups.clamp(min=0)])

    edits = {site: (lambda x, site=site: spliced(site, x)) for site in splice.dictionaries}
    with splice.model.edit(edits):
        logits = splice.model.logits(splice.examples.clean.tokens, at=splice.examples.clean.answer_position)
    total = differences(logits, splice.examples).mean()
    scores = {}
    for site, gradient in zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True):
        product = steps[site] * gradient
        scores[site] = torch.stack([product[roles == role].sum(dim=0) for role in range(len(ROLES))])
    return scores


def by_node(nodes: Nodes, scores: Mapping[Site, Tensor]) -> Tensor:
    return torch.tensor(
        [scores[node.site][ROLES.index(node.role), node.latent].item() for node in nodes.keys()]  # noqa: SIM118
    )


def test_attribution_patching_is_the_step_times_the_gradient_at_leaf_activations(splice: Splice) -> None:
    found = attribution_patching(splice)
    expected = by_node(splice.nodes, leaf_scores(splice, {}))
    torch.testing.assert_close(found, expected, **FLOAT32)
    assert (expected.abs() > 0.01).sum() > 20
    some = random_choice(splice.nodes, 30)
    # The nodes that are not asked for stay unmasked too.
    torch.testing.assert_close(
        attribution_patching(splice.with_nodes(some)), by_node(some, leaf_scores(splice, {})), **FLOAT32
    )


def test_integrated_gradients_are_a_left_sum_of_ten_points_with_the_other_sites_unmasked(splice: Splice) -> None:
    expected: dict[Site, Tensor] = {}
    for site in splice.dictionaries:
        points = [leaf_scores(splice, {site: 1 - point / 10})[site] for point in range(10)]
        expected[site] = torch.stack(points).mean(dim=0)
    found = integrated_gradients(splice)
    torch.testing.assert_close(found, by_node(splice.nodes, expected), **FLOAT32)
    assert (found - attribution_patching(splice)).abs().max() > 0.01


def test_one_point_is_attribution_patching(splice: Splice) -> None:
    torch.testing.assert_close(integrated_gradients(splice, points=1), attribution_patching(splice), **FLOAT32)


def total_effect(splice: Splice, index: int) -> float:
    """Mean logit difference of the unmasked network minus that with one whole site ablated."""
    network = splice.with_nodes(splice.nodes, non_nodes="kept")
    ends = []
    with torch.no_grad():
        for mask in (torch.ones(len(splice.nodes)), (splice.nodes.site != index).float()):
            ends.append(differences(network(mask), splice.examples).mean().item())
    return ends[0] - ends[1]


def test_integrated_gradients_of_a_site_sum_to_its_whole_effect(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task, ("resid_post.2",), batch_size=64)
    expected = total_effect(splice, 0)
    assert abs(expected) > 0.1
    fine, coarse = (integrated_gradients(splice, points=points).sum().item() for points in (100, 50))
    assert abs(fine - coarse) < 0.05 * abs(expected)
    # The error of a left sum falls with the number of points; extrapolated, the sum is the total.
    assert 2 * fine - coarse == pytest.approx(expected, abs=1e-3)


def test_integrated_gradients_of_a_site_go_through_the_later_dictionaries(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task, ("mlp_out.2", "resid_post.2"), batch_size=64, architecture="relu")
    found = integrated_gradients(splice, points=25)[splice.nodes.site == 0].sum().item()
    expected = total_effect(splice, 0)
    assert abs(expected) > 0.1
    assert found == pytest.approx(expected, rel=0.05)


def test_where_the_logits_are_linear_in_the_latents_one_gradient_gives_the_whole_effect(task: Task) -> None:
    hf = tiny_model().hf
    hf.transformer.ln_f = nn.Identity()
    splice = make_splice(LanguageModel.load(hf, tokenizer=tiny_model().tokenizer), task, ("resid_post.2",))
    scores, expected = attribution_patching(splice), total_effect(splice, 0)
    assert scores.sum().item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(integrated_gradients(splice, points=3), scores, **FLOAT32)
    # And each score is the effect of its node.
    network, whole = splice.with_nodes(splice.nodes, non_nodes="kept"), torch.ones(len(splice.nodes))
    with torch.no_grad():
        full = differences(network(whole), splice.examples).mean()
        for node in scores.abs().topk(5).indices.tolist():
            without = differences(network(whole.index_fill(0, torch.tensor([node]), 0.0)), splice.examples).mean()
            assert scores[node].item() == pytest.approx((full - without).item(), rel=1e-4)


def test_activation_difference_by_a_loop(splice: Splice) -> None:
    clean = splice.examples.clean
    with torch.no_grad():
        streams = splice.model.capture(clean.tokens, list(splice.dictionaries))
    expected = {site: torch.zeros(len(ROLES), LATENTS, dtype=torch.float64) for site in splice.dictionaries}
    for site, dictionary in splice.dictionaries.items():
        for row, token in torch.nonzero(clean.roles >= 0).tolist():
            step = dictionary.encode_dense(streams[site][row, token])
            step = step - splice.ablation.sites[site].latents[clean.ablation_groups[row, token]]
            expected[site][clean.roles[row, token]] += step.abs() * dictionary.W_dec.norm(dim=1) / len(clean)
    torch.testing.assert_close(activation_difference(splice), by_node(splice.nodes, expected), **FLOAT32)


def test_random_scores_depend_on_the_seed_alone(splice: Splice) -> None:
    assert torch.equal(random_scores(splice, 1), random_scores(splice, 1))
    assert not torch.equal(random_scores(splice, 1), random_scores(splice, 2))
    assert len(random_scores(splice)) == len(splice.nodes)


@pytest.mark.parametrize("score", [attribution_patching, activation_difference])
def test_the_batch_size_does_not_matter_even_when_memory_runs_out(
    model: LanguageModel, task: Task, score: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    splice = make_splice(model, task, batch_size=64)
    expected = score(splice)
    torch.testing.assert_close(score(make_splice(model, task, batch_size=3)), expected, **FLOAT32)
    name = "outputs" if score is attribution_patching else "latents"
    real = getattr(Splice, name)

    def limited(self: Splice, *arguments: object) -> object:
        rows = next(found for found in arguments if isinstance(found, slice))
        if rows.stop - rows.start > 4:
            raise torch.OutOfMemoryError("for the test")
        return real(self, *arguments)

    monkeypatch.setattr(Splice, name, limited)
    with pytest.warns(MemoryWarning, match="halved from 8 to 4"):
        found = score(splice)
    torch.testing.assert_close(found, expected, **FLOAT32)


def test_a_backward_pass_through_whole_dictionaries_takes_few_prompts(
    model: LanguageModel, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    splice, tried = make_splice(model, task, batch_size=64), []
    expected = attribution_patching(splice), integrated_gradients(splice, points=2)
    real = Splice.outputs

    def watched(self: Splice, mask: Tensor, rows: slice) -> Outputs:
        tried.append(rows.stop - rows.start)
        return real(self, mask, rows)

    monkeypatch.setattr(Splice, "outputs", watched)
    monkeypatch.setattr("gossamer.circuits.attribution.WHOLE_BATCH", 3)
    found = attribution_patching(splice), integrated_gradients(splice, points=2)
    torch.testing.assert_close(found, expected, **FLOAT32)
    assert set(tried) == {3, 2}
    assert effort(SearchSettings(), partial(affordable, splice)).prompts == GRADIENT_BATCH >= WHOLE_BATCH


def test_attribution_leaves_no_gradient_behind(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    for dictionary in splice.dictionaries.values():
        dictionary.requires_grad_(True)
    attribution_patching(splice)
    weights = [*model.hf.parameters(), *(w for found in splice.dictionaries.values() for w in found.parameters())]
    assert all(weight.grad is None for weight in weights)


def test_rankings_by_one_threshold_or_by_one_for_each_site() -> None:
    grids = [torch.tensor([[True, True]]), torch.tensor([[True, True]])]
    nodes = Nodes.from_grids(sites_of("resid_post.0", "resid_post.1"), ("A",), grids)
    scores = torch.tensor([100.0, -300.0, 2.0, 8.0])
    assert ranking(scores, nodes).tolist() == [1, 0, 3, 2]
    # Shares of their sites: 0.25, 0.75, 0.2, 0.8.
    assert ranking(scores, nodes, "site").tolist() == [3, 1, 0, 2]
    assert ranking(torch.tensor([0.0, 0.0, 1.0, 1.0]), nodes, "site").tolist() == [2, 3, 0, 1]
    with pytest.raises(UsageError, match="'global' or 'site', found 'layer'"):
        ranking(scores, nodes, "layer")


def test_rankings_by_size_and_by_sign(splice: Splice) -> None:
    nodes = splice.nodes
    scores = torch.randn(len(nodes), generator=torch.Generator().manual_seed(0))
    values = scores.tolist()
    assert ranking(scores, nodes).tolist() == sorted(range(len(nodes)), key=lambda node: -abs(values[node]))
    assert ranking(scores, nodes, signed=True).tolist() == sorted(range(len(nodes)), key=lambda node: -values[node])
    scores = torch.where(nodes.site == 0, 100 * scores, scores)
    totals = [scores[nodes.site == site].abs().sum() for site in range(len(nodes.sites))]
    shares = [(scores[node] / totals[int(nodes.site[node])]).item() for node in range(len(nodes))]
    order = ranking(scores, nodes, "site", signed=True)
    assert [shares[node] for node in order.tolist()] == pytest.approx(sorted(shares, reverse=True))
    assert len(set(nodes.site[order[:20]].tolist())) == len(nodes.sites)
    assert set(nodes.site[ranking(scores, nodes, signed=True)[:20]].tolist()) == {0}
