"""Errors of dictionaries as nodes: by hand, as the model itself, and in everything that treats nodes, in float64."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from circuit_lab import (
    ROLES,
    SETTINGS,
    all_nodes,
    by_hand,
    differences,
    grids_of,
    mirror_dictionary,
    random_ablation,
    random_choice,
    random_dictionary,
    random_mask,
    sites_of,
)
from torch import Tensor

from gossamer.circuits.attribution import activation_difference, attribution_patching, integrated_gradients
from gossamer.circuits.candidates import candidates
from gossamer.circuits.edges import direct_effects
from gossamer.circuits.evaluate.cards import node_cards
from gossamer.circuits.evaluate.edge_network import EdgeNetwork
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.frozen_splice import FrozenSplice
from gossamer.circuits.input_gradients import input_gradients
from gossamer.circuits.leave_out import each_left_out
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.relevance import relevance
from gossamer.circuits.splice import Splice
from gossamer.circuits.study import Study, StudySettings
from gossamer.errors import UsageError
from gossamer.features.feature import ERROR, Feature, Node
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.metric import KL, LOGIT_DIFFERENCE
from gossamer.tasks.task import Task

SITES = sites_of("resid_post.0", "attn_out.1", "resid_post.1")
EXACT = {"rtol": 1e-10, "atol": 1e-10}
# Means of float32 logit differences.
FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}


def make_splice(model: LanguageModel, task: Task, errors: str = "mean", **conventions: object) -> Splice:
    """Every latent and every error."""
    dictionaries = {site: random_dictionary(site, seed=seed, **conventions) for seed, site in enumerate(SITES)}
    everywhere = torch.ones(len(SITES), len(ROLES), dtype=torch.bool)
    nodes = all_nodes(dictionaries).with_errors(everywhere)
    return Splice.of(model, dictionaries, task.test, random_ablation(SITES, errors=errors), nodes, batch_size=4)


@pytest.fixture(scope="module")
def splice(model: LanguageModel, task: Task) -> Splice:
    return make_splice(model, task)


def some(splice: Splice, latents: int = 30, errors: int = 5) -> Nodes:
    """Some latents and some errors, mixed."""
    nodes = splice.nodes
    kinds = (nodes.select(~nodes.is_error), latents), (nodes.select(nodes.is_error), errors)
    keys = [key for of_kind, count in kinds for key in random_choice(of_kind, count).keys()]  # noqa: SIM118
    return random_choice(nodes.select(nodes.find(keys)), latents + errors)


def expected_logits(splice: Splice, nodes: Nodes, mask: Tensor, rest: float) -> Tensor:
    latents = ~nodes.is_error
    grids = grids_of(nodes.select(latents), mask[latents], splice.dictionaries, rest)
    error_masks = {site: torch.zeros(len(ROLES), dtype=torch.float64) for site in splice.dictionaries}
    for node, value in zip(nodes.keys(), mask.tolist(), strict=True):
        if node.is_error:
            error_masks[node.site][ROLES.index(node.role)] = value
    return by_hand(splice, grids, error_masks=error_masks)


def ones(nodes: Nodes) -> Tensor:
    return torch.ones(len(nodes), dtype=torch.float64)


def test_error_nodes_are_columns_after_the_latents(splice: Splice) -> None:
    nodes = some(splice)
    for index in range(len(SITES)):
        here = nodes.at(index)
        latents = here.latents_only()
        assert here.width == len(here.columns) + 1
        assert ERROR not in here.columns.tolist()
        assert nodes.latent[here.where[here.column == len(here.columns)]].unique().tolist() == [ERROR]
        assert (nodes.latent[latents.where] == here.columns[latents.column]).all()
    assert len(set(nodes.keys())) == len(nodes)
    assert nodes.find(nodes.keys()).tolist() == list(range(len(nodes)))
    assert nodes.unique_latents() == nodes.select(~nodes.is_error).unique_latents()


@pytest.mark.parametrize("conventions", [{}, {"normalisation": "layer_norm"}])
@pytest.mark.parametrize("errors", ["mean", "drop"])
@pytest.mark.parametrize("non_nodes", ["ablated", "kept"])
def test_the_network_by_hand(
    model: LanguageModel, task: Task, errors: str, non_nodes: str, conventions: dict[str, object]
) -> None:
    splice = make_splice(model, task, errors, **conventions)
    nodes = some(splice)
    mask, rest = random_mask(nodes), 1.0 if non_nodes == "kept" else 0.0
    found = splice.with_nodes(nodes, non_nodes=non_nodes)(mask)
    torch.testing.assert_close(found, expected_logits(splice, nodes, mask, rest), **EXACT)
    without = mask.masked_fill(nodes.is_error, 0.0)
    assert (expected_logits(splice, nodes, without, rest) - found).abs().max() > 1e-3


def test_every_latent_and_every_error_are_the_model(splice: Splice) -> None:
    own = splice.full().logits()
    torch.testing.assert_close(splice(ones(splice.nodes)), own, rtol=1e-12, atol=1e-12)
    errors = splice.nodes.select(splice.nodes.is_error)
    kept = splice.with_nodes(errors, non_nodes="kept")
    torch.testing.assert_close(kept(ones(errors)), own, rtol=1e-12, atol=1e-12)
    assert (kept(0 * ones(errors)) - own).abs().max() > 0.1


@pytest.mark.parametrize("non_nodes", ["ablated", "kept"])
def test_an_error_that_is_masked_is_no_node_at_all(splice: Splice, non_nodes: str) -> None:
    nodes = some(splice)
    latents = nodes.select(~nodes.is_error)
    mask = random_mask(nodes).masked_fill(nodes.is_error, 0.0)
    found = splice.with_nodes(nodes, non_nodes=non_nodes)(mask)
    expected = splice.with_nodes(latents, non_nodes=non_nodes)(mask[~nodes.is_error])
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_gradients_by_error_masks_are_finite_differences(splice: Splice) -> None:
    network = splice.with_nodes(some(splice))
    mask = random_mask(network.nodes).requires_grad_()
    weights = torch.linspace(-1, 1, 30, dtype=torch.float64)
    (found,) = torch.autograd.grad((network(mask) * weights).sum(), mask)
    for node in torch.nonzero(network.nodes.is_error).squeeze(1).tolist():
        step = 1e-6 * torch.eye(len(mask), dtype=torch.float64)[node]
        with torch.no_grad():
            low, high = ((network(mask + sign * step) * weights).sum() for sign in (-1, 1))
        assert found[node].item() == pytest.approx(((high - low) / 2e-6).item(), rel=1e-5, abs=1e-7)
        assert abs(found[node]) > 1e-4


def test_rows_and_later_sites_alone_give_the_same(splice: Splice) -> None:
    nodes = some(splice)
    network, mask = splice.with_nodes(nodes), random_mask(nodes)
    whole, rows = network(mask), torch.tensor([6, 1, 3])
    torch.testing.assert_close(network.select(rows)(mask), whole[rows], **EXACT)
    torch.testing.assert_close(network(mask, rows), whole[rows], **EXACT)
    rest, kept = network.resume_from(SITES[2], mask)
    assert rest.nodes.is_error.any()
    torch.testing.assert_close(rest(mask[kept]), whole, **EXACT)
    # Also where errors are not known yet when the network is cut.
    fresh = make_splice(splice.model, task_of(splice)).with_nodes(nodes)
    torch.testing.assert_close(fresh.select(rows)(mask), whole[rows], **EXACT)


def task_of(splice: Splice) -> Task:
    examples = splice.examples
    return Task("again", ROLES, ("slot",), examples, examples, True, LOGIT_DIFFERENCE, {"source": "made by hand"})


def test_errors_that_are_kept_anyway_are_no_nodes(model: LanguageModel, task: Task) -> None:
    with pytest.raises(UsageError, match="choose one or the other"):
        make_splice(model, task, errors="keep")
    with pytest.raises(UsageError, match="--errors mean"):
        StudySettings(errors="keep", error_nodes=True)


def test_each_node_left_out_is_the_circuit_without_it(splice: Splice) -> None:
    circuit = some(splice, 10, 6)

    def total(network: object) -> float:
        with torch.no_grad():
            return (network(slice(None)).logits() * torch.arange(30.0)).sum().item()

    everything = torch.arange(len(circuit))
    rest = [circuit.select(everything != node) for node in range(len(circuit))]
    expected = [total(partial(splice.with_nodes(left).outputs, ones(left))) for left in rest]
    assert each_left_out(splice, circuit, total, "test").tolist() == pytest.approx(expected, rel=1e-9)


def test_candidates_hold_the_errors_that_move(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task)
    # As measured, the error of a prefix that is the same in every prompt is its mean.
    for site in SITES:
        values = splice.ablation.sites[site]
        groups, x = task.test.clean.ablation_groups, model.capture(task.test.clean.tokens, [site])[site]
        dictionary = splice.dictionaries[site]
        error = x - dictionary.reconstruct(x, dictionary.encode_dense(x))
        values.error[int(groups[0, 1])] = error[0, 1]
        values.error[int(groups[1, 1])] = error[1, 1]
    found = candidates(splice, error_nodes=True)
    without = candidates(splice)
    errors = [key for key in found.keys() if key.is_error]  # noqa: SIM118
    assert found.keys() == [*without.keys(), *errors]
    assert set(errors) == {Node(Feature(site, ERROR), role) for site in SITES for role in ROLES if role != "prefix"}


def by_difference(splice: Splice, nodes: Nodes, mask: Tensor, step: float = 1e-6) -> list[float]:
    """Slopes of the mean logit difference by the mask of each error node, all latents kept."""
    network = splice.with_nodes(nodes, non_nodes="kept")
    found = []
    for node in torch.nonzero(nodes.is_error).squeeze(1).tolist():
        moved = step * torch.eye(len(nodes), dtype=torch.float64)[node]
        with torch.no_grad():
            low, high = (differences(network(mask + sign * moved), splice.examples).mean() for sign in (-1, 1))
        found.append(((high - low) / (2 * step)).item())
    return found


def test_attribution_patching_and_integrated_gradients_are_slopes_by_the_share_of_the_error(splice: Splice) -> None:
    nodes, network = splice.nodes, splice.with_nodes(splice.nodes)
    errors = nodes.is_error
    whole = by_difference(splice, nodes, ones(nodes))
    patching = attribution_patching(network)
    torch.testing.assert_close(patching[errors], torch.tensor(whole), rtol=1e-3, atol=1e-4)
    assert patching[errors].abs().max() > 0.05
    expected = torch.zeros(len(nodes))
    for index in range(len(SITES)):
        here = nodes.site == index
        for point in range(4):
            slopes = torch.tensor(by_difference(splice, nodes, torch.where(here, 1 - point / 4, 1.0).double()))
            expected[here & errors] += slopes[nodes.site[errors] == index] / 4
    torch.testing.assert_close(integrated_gradients(network, points=4)[errors], expected[errors], rtol=1e-3, atol=1e-4)


def test_gradients_by_input_and_relevance_score_errors_too(splice: Splice) -> None:
    nodes = splice.nodes
    network = splice.with_nodes(nodes)
    # One step is the prompt itself, where nothing is ablated: attribution patching.
    torch.testing.assert_close(input_gradients(network, steps=1), attribution_patching(network), **FLOAT32)
    assert (relevance(network)[nodes.is_error] != 0).any()
    sizes = activation_difference(network)[nodes.is_error]
    roles, expected = splice.examples.clean.roles, []
    for key in (one for one in nodes.keys() if one.is_error):  # noqa: SIM118
        norms = splice.prompts.errors[key.site].norm(dim=-1)
        expected.append(norms[roles == ROLES.index(key.role)].sum() / len(roles))
    torch.testing.assert_close(sizes, torch.stack(expected).float())


def test_a_distance_has_no_gradient_where_all_errors_are_nodes(model: LanguageModel, task: Task) -> None:
    with pytest.raises(UsageError, match="no gradient"):
        attribution_patching(make_splice(model, task.measured_by(KL)))


def test_error_nodes_are_sources_of_edges_and_their_influence_is_their_effect(splice: Splice) -> None:
    circuit = some(splice, 30, 8)
    found = direct_effects(splice, circuit)
    errors = circuit.is_error
    assert (found.weights[:-1][errors] == 0).all()
    assert (found.weights[:-1][:, errors] != 0).any(dim=0).sum() >= 2
    assert (found.weights[-1][errors] != 0).any()
    torch.testing.assert_close(found.direct + found.heads.sum(dim=(0, 1)), found.weights, rtol=1e-9, atol=1e-12)
    network = splice.with_nodes(circuit)
    frozen = FrozenSplice.of(network, slice(0, 8))
    run = partial(frozen.run, given=lambda site, live: live)
    end = run(ones(circuit)).detach().requires_grad_()
    # The final norm's scale is held too.
    (pull,) = torch.autograd.grad(differences(frozen.outputs(end).logits(), splice.examples).mean(), end)
    for node in range(len(circuit)):
        step = 1e-5 * torch.eye(len(circuit), dtype=torch.float64)[node]
        low, high = (run(ones(circuit) + sign * step) for sign in (-1, 1))
        effect = ((high - low) * pull).sum() / 2e-5
        torch.testing.assert_close(found.influence[:, node].sum(), effect, rtol=1e-5, atol=1e-8)
    kept = torch.ones(len(circuit) + 1, len(circuit), dtype=torch.bool)
    whole = network(ones(circuit))
    torch.testing.assert_close(EdgeNetwork(network, kept)(slice(0, 8)).logits(), whole, rtol=1e-10, atol=1e-12)
    kept[:, errors] = False
    cut = EdgeNetwork(network, kept)(slice(0, 8)).logits()
    torch.testing.assert_close(cut, network(ones(circuit).masked_fill(errors, 0.0)), rtol=1e-10, atol=1e-12)


def test_a_card_says_how_large_an_error_is_and_what_it_adds(splice: Splice) -> None:
    circuit = some(splice, 4, 4)
    cards = node_cards(Evaluator(splice), circuit, torch.arange(len(circuit), dtype=torch.float64))
    assert {card.node for card in cards} == set(circuit.keys())
    clean = splice.examples.clean
    for card in (one for one in cards if one.node.is_error):
        sizes, here = splice.prompts.errors[card.site].norm(dim=-1), clean.roles == ROLES.index(card.role)
        assert card.activation == pytest.approx(sizes[here].mean().item(), rel=1e-5)
        assert card.card.maximum == pytest.approx(sizes[here].max().item(), rel=1e-5)
        assert card.card.maximum == pytest.approx(card.card.examples[0].activation, rel=1e-6)
        assert "error" in card.card.label
        assert (card.direct != 0) == (card.role == "END")
        assert sum(card.card.histogram.counts) == card.card.active == int(here.sum())


def test_a_study_searches_latents_and_errors(model: LanguageModel, task: Task) -> None:
    dictionary = mirror_dictionary(SITES[0])
    dictionary.W_dec.data *= 0.7
    dictionaries = {SITES[0]: dictionary}
    study = Study(model, dictionaries, task, replace(SETTINGS, error_nodes=True, minimum_accuracy=0.0))
    without = Study(model, dictionaries, task, replace(SETTINGS, minimum_accuracy=0.0))
    assert study.nodes.select(~study.nodes.is_error).keys() == without.nodes.keys()
    assert study.nodes.is_error.sum() >= len(ROLES) - 2
    assert study.provenance(study.paths(["random"])[0], {})["error_nodes"] is True
    everything = study.train.kept(study.nodes)
    # Candidates leave out what does not move on these prompts: with their errors they are all but the model.
    assert everything == pytest.approx(1.0, abs=1e-3)
    assert abs(without.train.kept(without.nodes) - 1) > 0.05


def test_the_budget_says_what_the_dictionaries_keep_with_the_circuits_errors(splice: Splice) -> None:
    circuit, evaluator = some(splice, 10, 2), Evaluator(splice)
    rows = evaluator.budget(circuit)
    assert [row.name for row in rows[-4:]] == [
        "+ all dictionaries, 2 errors kept",
        "+ all dictionaries",
        "circuit",
        "empty circuit",
    ]
    errors = circuit.select(circuit.is_error)
    logits = splice.with_nodes(errors, non_nodes="kept")(ones(errors))
    expected = differences(logits, splice.examples).mean().item()
    assert rows[-4].metric.value == pytest.approx(expected, rel=1e-5)
    assert rows[-4].metric.value != pytest.approx(rows[-3].metric.value, rel=1e-2)
    everything = splice.nodes.select(splice.nodes.is_error)
    assert evaluator.budget(everything)[-4].kl == pytest.approx(0, abs=1e-9)
