"""Groups against a network in which they are known, and against what a node does alone."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import node_at
from planted_groups import CONCEPTS, EACH, planted_groups
from tiny_splice import some_nodes, tiny_examples, tiny_splice

from gossamer.circuits.edges import DirectEffects, direct_effects
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.minimality import node_effects
from gossamer.circuits.groups import (
    PromptProfiles,
    circuit_groups,
    find,
    group_effect,
    group_label,
    group_test,
    merges,
    merges_by_loss,
    node_groups,
    prompt_profiles,
    similarity,
    tied,
    ties,
)
from gossamer.circuits.results import NodeCard
from gossamer.errors import UsageError
from gossamer.features import FeatureCard, Histogram
from gossamer.relations import adjusted_rand

SITES = ("resid_post.0", "resid_post.1", "resid_post.2")


@pytest.fixture(scope="module")
def splice(model):
    """A random network in which nothing is planted."""
    return tiny_splice(model, tiny_examples(), SITES)


@pytest.fixture(scope="module")
def circuit(splice):
    return some_nodes(splice, 30)


def outputs(network, splice):
    with torch.no_grad():
        return network(slice(0, len(splice.examples))).logits()


def groups_of(planted):
    """As many groups as are planted."""
    effects = direct_effects(planted.splice, planted.circuit)
    return circuit_groups(planted.splice, effects, planted.evaluator, fold=float(EACH))


@pytest.mark.parametrize("seed", range(4))
def test_planted_groups_are_found(model, seed):
    planted = planted_groups(model, seed)
    found = groups_of(planted)
    assert found.boxes == 2 * CONCEPTS
    assert adjusted_rand(found.label.numpy(), planted.truth.numpy()) >= 0.8
    # No fewer boxes than there are groups say what the network does.
    assert found.within >= 2 * CONCEPTS


def test_groups_of_latents_that_say_the_same_lose_nothing_as_one_and_others_do(model):
    planted = planted_groups(model, 0, noise=0.0)
    profiles = prompt_profiles(planted.splice, planted.circuit)

    full = planted.evaluator.full

    def off(label):
        """The largest change of a prompt's metric, in units of the mean."""
        change = (
            full.metric_of(tied(planted.splice, planted.circuit, ties(label, profiles))) - full.prompt_metrics.metric
        )
        return (change.abs().max() / full.prompt_metrics.metric.mean().abs()).item()

    assert off(planted.truth) < 1e-9
    assert off(planted.truth.roll(2)) > 0.1


def test_effects_on_prompts_are_the_gradient_by_the_mask(splice, circuit):
    network = splice.with_nodes(circuit, non_nodes="ablated")
    mask = torch.ones(len(circuit), dtype=torch.float64, requires_grad=True)
    found = prompt_profiles(splice, circuit)
    for row in range(len(splice.examples)):
        metric = splice.examples.measure(network(mask, slice(row, row + 1)), slice(row, row + 1)).sum()
        (expected,) = torch.autograd.grad(metric, mask)
        assert torch.allclose(found.effects[row], expected, atol=1e-12, rtol=1e-9)


def test_what_moves_is_the_latents_distance_from_its_ablation_value_over_its_tokens(splice, circuit):
    network = splice.with_nodes(circuit, non_nodes="ablated")
    streams = network.streams(torch.ones(len(circuit), dtype=torch.float64), slice(0, len(splice.examples)))
    found, clean = prompt_profiles(splice, circuit), splice.examples.clean
    for place, node in enumerate(circuit.keys()):
        dictionary, values = splice.dictionaries[node.site], splice.ablation.sites[node.site].latents
        latents = dictionary.encode_dense(streams[node.site])[..., node.latent]
        role = splice.nodes.roles.index(node.role)
        for row in range(len(clean.roles)):
            at = [token for token in range(latents.shape[1]) if clean.roles[row, token] == role]
            away = [latents[row, t] - values[clean.ablation_groups[row, t], node.latent] for t in at]
            assert found.moved[row, place].item() == pytest.approx(float(sum(away) / len(away)) if away else 0.0)


def test_similarity_is_the_mean_of_cosines_of_known_profiles(circuit):
    two = circuit.select(torch.tensor([0, 1, 2]))
    influence = torch.zeros(4, 3, dtype=torch.float64)
    influence[2, 0], influence[2, 1], influence[3, 0], influence[3, 1] = 3.0, 1.0, 4.0, 1.0
    moved = torch.tensor([[1.0, -1.0, 0.0], [1.0, -1.0, 0.0]], dtype=torch.float64)
    effects = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    table = torch.zeros_like(influence)
    edges = DirectEffects(two, "metric", table, influence, table, (), torch.zeros(0, 1, 4, 3, dtype=torch.float64), 2)
    found = similarity(edges, PromptProfiles(moved, effects))
    outs, prompts = 7 / (5 * 2**0.5), 2**-0.5
    assert found[0, 1].item() == pytest.approx(((outs + prompts) / 2 + 1.0) / 2)
    assert found[0, 2].item() == 0.0
    assert torch.allclose(found, found.T)


def test_sites_are_never_merged_and_every_number_of_groups_can_be_had():
    similar = torch.tensor([[1.0, 0.2, 0.99], [0.2, 1.0, 0.1], [0.99, 0.1, 1.0]], dtype=torch.float64)
    tree = merges(similar, torch.tensor([0, 0, 1]))
    assert (tree.fewest, tree.nodes) == (2, 3)
    assert tree.cut(3).tolist() == [0, 1, 2]
    assert tree.cut(2).tolist() == [0, 0, 1]
    for wrong in (1, 4):
        with pytest.raises(UsageError, match=f"2 to 3 expected, found {wrong}"):
            tree.cut(wrong)
    assert merges(torch.ones(1, 1, dtype=torch.float64), torch.tensor([0])).cut(1).tolist() == [0]


def lost(weighted, label):
    """What one number a group cannot say, group by group."""
    parts = [weighted[:, label == group] for group in torch.unique(label)]
    return sum(float(torch.linalg.svdvals(part)[1:].square().sum()) for part in parts)


def test_merging_by_loss_takes_the_pair_that_adds_least_each_time():
    generator = torch.Generator().manual_seed(0)
    weighted = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    kind = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1])
    tree = merges_by_loss(weighted, kind)
    assert (tree.nodes, tree.fewest) == (9, 2)
    label = tree.cut(9)
    for boxes in range(8, 1, -1):
        pairs = [
            torch.where(label == other, one, label)
            for one in range(boxes + 1)
            for other in range(one)
            if len(torch.unique(kind[(label == one) | (label == other)])) == 1
        ]
        label = tree.cut(boxes)
        assert len(torch.unique(label)) == boxes
        assert lost(weighted, label) == pytest.approx(min(lost(weighted, pair) for pair in pairs))
    assert tree.cut(2).tolist() == kind.tolist()
    assert merges_by_loss(weighted[:, :1], kind[:1]).cut(1).tolist() == [0]


def test_what_one_number_says_whole_is_merged_first_whatever_its_sign_and_size():
    generator = torch.Generator().manual_seed(1)
    says = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    concept = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    sizes = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.1, -1.0, -0.2, 5.0], dtype=torch.float64)
    tree = merges_by_loss(says[:, concept] * sizes, torch.zeros(8, dtype=torch.long))
    assert tree.cut(3).tolist() == concept.tolist()


def test_boxes_are_made_by_loss_only_where_alike_profiles_lose_more(model, monkeypatch):
    planted = planted_groups(model, 0)
    assert groups_of(planted).made_by == "profiles"
    # Nodes put together at random lose a lot: then it is the boxes that one number each can say.
    noise = torch.Generator().manual_seed(0)
    monkeypatch.setattr(find, "similarity", lambda *_: torch.rand(24, 24, generator=noise, dtype=torch.float64))
    found = groups_of(planted)
    assert found.made_by == "loss"
    assert adjusted_rand(found.label.numpy(), planted.truth.numpy()) >= 0.8
    assert group_test(planted.evaluator, found).made_by == "loss"


def test_errors_are_in_no_group(model):
    planted = planted_groups(model, 0)
    places = torch.zeros(2, len(planted.circuit.roles), dtype=torch.bool)
    places[0, -1] = True
    circuit = planted.circuit.with_errors(places)
    found = circuit_groups(planted.splice, direct_effects(planted.splice, circuit), planted.evaluator, fold=25.0)
    assert found.boxes == 3
    assert (found.label == found.label[-1]).sum() == 1


def test_all_nodes_alone_are_the_circuit(splice, circuit):
    alone = ties(torch.arange(len(circuit)), prompt_profiles(splice, circuit))
    own = splice.with_nodes(circuit, non_nodes="ablated")
    expected = own(torch.ones(len(circuit)), slice(0, len(splice.examples)))
    # Rounding apart: of the last stream the circuit's own network computes the answer position alone.
    torch.testing.assert_close(outputs(tied(splice, circuit, alone), splice), expected, rtol=1e-13, atol=1e-13)


def test_a_tied_group_is_the_network_with_its_nodes_set_by_hand(splice, circuit):
    """Two nodes of the last site at one token of their own: each prompt's latents are moved by hand in the model."""
    last = torch.nonzero((circuit.site == 2) & (circuit.role == splice.nodes.roles.index("END"))).squeeze(1)[:2]
    label = torch.arange(len(circuit))
    label[last] = int(last[0])
    profiles = prompt_profiles(splice, circuit)
    given = ties(label, profiles)
    d, w = given.direction[last], given.weight[last]
    moved = profiles.moved[:, last]
    set_to = (moved @ w)[:, None] * d
    assert torch.allclose(set_to @ w, moved @ w)  # what the group says is what it is set to
    site, own = circuit.sites[2], splice.with_nodes(circuit, non_nodes="ablated")
    change = (set_to - moved) @ splice.dictionaries[site].W_dec[circuit.latent[last]]

    def edit(x):
        x = x.clone()
        x[torch.arange(len(x)), splice.examples.clean.answer_position] += change
        return x

    batch = own.batch(slice(0, len(splice.examples)))
    streams = own.streams(torch.ones(len(circuit)), slice(0, len(splice.examples)))
    plain = own._replace(site, torch.ones(len(circuit)), batch, streams[site])
    written = torch.where(batch.replaced[..., None], plain, streams[site])
    ends = edit(written)[torch.arange(len(change)), batch.answer_position]
    assert torch.allclose(outputs(tied(splice, circuit, given), splice), splice.model.unembed(ends), atol=1e-10)


def test_the_effect_of_a_group_of_one_is_the_nodes_and_of_all_what_the_circuit_keeps(splice, circuit):
    evaluator = Evaluator(splice)
    alone = node_effects(evaluator, circuit)
    for place in (0, 11, 29):
        assert group_effect(evaluator, circuit, torch.tensor([place])) == pytest.approx(alone[place].item(), abs=1e-9)
    whole = group_effect(evaluator, circuit, torch.arange(len(circuit)))
    assert whole == pytest.approx(evaluator.kept(circuit) - evaluator.kept(circuit.none()))


def test_the_test_has_the_circuit_itself_and_random_groups_beside_every_number_of_boxes(model):
    planted = planted_groups(model, 1)
    found = groups_of(planted)
    test = group_test(planted.evaluator, found)
    assert test.circuit.value == pytest.approx(1.0)
    assert [point.boxes for point in test.points] == sorted({16, 12, 8, 5, 3, found.boxes, found.within}, reverse=True)
    assert (test.shown, test.within, test.tested_on) == (found.boxes, found.within, len(planted.splice.examples))
    shown = next(point for point in test.points if point.boxes == found.boxes)
    assert abs(1 - shown.tied.value) < min(abs(1 - one) for one in shown.draws)
    assert shown.random.value == pytest.approx(sum(shown.draws) / len(shown.draws))
    assert group_test(planted.evaluator, found) == test


def card(node, effect, words, explanation=None):
    promotes = tuple((word, 1.0) for word in words)
    known = FeatureCard(node.feature, "m", 10, 0, 0.0, 0.0, 0.0, Histogram((), ()), promotes, explanation=explanation)
    return NodeCard(known, node.role, effect, 1.0, 0.0, 0.0)


def test_a_label_is_what_the_first_is_said_to_be_or_the_words_of_most():
    nodes = [node_at("resid_post.0", "END", latent) for latent in range(3)]
    words = (("is", "a"), ("has", "was"), ("was", "is"))
    cards = {node: card(node, 0.1 * (3 - place), words[place]) for place, node in enumerate(nodes)}
    assert group_label(nodes, cards) == "is, was, a"
    cards[nodes[0]] = card(nodes[0], 0.3, (), "singular nouns")
    assert group_label(nodes, cards) == "singular nouns"
    mute = {node: card(node, 0.1, ()) for node in nodes}
    assert group_label(nodes, mute) == "resid_post.0/0@END and 2 more"


def test_groups_of_two_or_more_are_named_by_their_nodes(model):
    planted = planted_groups(model, 2)
    found = groups_of(planted)
    alone = replace(found, label=torch.cat([torch.zeros(2, dtype=torch.long), torch.arange(1, len(found.label) - 1)]))
    cards = [card(node, 0.1 * place, ("word",)) for place, node in enumerate(planted.circuit.keys())]
    (group,) = node_groups(planted.evaluator, alone, cards)
    assert group.nodes == tuple(planted.circuit.keys()[:2][::-1])
    assert group.label == "word"
    assert group.effect == pytest.approx(group_effect(planted.evaluator, planted.circuit, torch.tensor([0, 1])))
