"""Edges against finite differences of a network written out by hand, in float64."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from tiny_families import shared_model
from tiny_splice import N_LATENTS, ROLES, some_nodes, tiny_examples, tiny_model, tiny_splice
from torch import Tensor

from gossamer.circuits.edges import circuit_edges, direct_effects
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.metric import LOGIT_DIFFERENCE
from gossamer.tasks.prompt_pairs import PromptPairs

METRIC = LOGIT_DIFFERENCE.name

STEP = 1e-5


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return tiny_model()


@pytest.fixture(scope="module")
def examples() -> PromptPairs:
    return tiny_examples()


@dataclass
class ByHand:
    """The circuit's network from its definition: dense masks, no gradients, values of nodes that can be held by hand.

    Patterns and norm scales are those of the network with all nodes in, read in a pass over whole prompts.
    """

    splice: Splice
    circuit: Nodes
    rest: float = 0.0
    reads: dict[Site, Tensor] = field(default_factory=dict)
    z: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.one = torch.ones(len(self.circuit), dtype=torch.float64)
        model, tokens = self.splice.model, self.splice.examples.clean.tokens
        kinds = [kind for kind in model.kinds if kind == "pattern" or "scale" in kind]
        self.z_sites = list(model.sites("z"))
        sites = [site for kind in kinds for site in model.sites(kind)]
        with torch.no_grad(), model.edit(self._edits(self.one, None)):
            self.scales = model.capture(tokens, [*sites, *model.sites("resid_post")])
        self.scales = {site: self.scales[site] for site in sites}
        self.run(self.one, None)
        self.held, self.base_z = dict(self.reads), dict(self.z)

    def _edits(self, mask: Tensor, held: dict[Site, Tensor] | None) -> dict:
        def edit(index: int, site: Site, x: Tensor) -> Tensor:
            self.reads[site] = x
            return self._out(index, site, mask, x, x if held is None else held[site])

        return {
            site: (lambda x, index=index, site=site: edit(index, site, x))
            for index, site in enumerate(self.splice.dictionaries)
        }

    def run(self, mask: Tensor, held: dict[Site, Tensor] | None, z_edits: dict[int, Tensor] | None = None) -> Tensor:
        """Logit differences under `mask`; nodes have the values that `held` gives them, or what they come to.

        With `z_edits` the heads' outputs are those given, in place of what attention makes.
        """
        splice, examples = self.splice, self.splice.examples

        def at_z(layer: int, x: Tensor) -> Tensor:
            self.z[layer] = x
            return x if z_edits is None else z_edits[layer]

        scales = {site: (lambda x, value=value: value) for site, value in self.scales.items()}
        heads = {site: (lambda x, layer=site.layer: at_z(layer, x)) for site in self.z_sites}
        with (
            torch.no_grad(),
            splice.model.edit(scales),
            splice.model.edit(heads),
            splice.model.edit(self._edits(mask, held)),
        ):
            logits = splice.model.logits(examples.clean.tokens, at=examples.clean.answer_position)
        rows = torch.arange(len(examples))
        return logits[rows, examples.answer] - logits[rows, examples.incorrect]

    def _out(self, index: int, site: Site, mask: Tensor, x: Tensor, node_reads: Tensor) -> Tensor:
        dictionary, values = self.splice.dictionaries[site], self.splice.ablation.sites[site]
        roles, ablation_groups = self.splice.examples.clean.roles, self.splice.examples.clean.ablation_groups
        grid = torch.full((len(ROLES), N_LATENTS), self.rest, dtype=torch.float64)
        is_node = torch.zeros(len(ROLES), N_LATENTS, dtype=torch.bool)
        chosen = self.circuit.site == index
        grid[self.circuit.role[chosen], self.circuit.latent[chosen]] = mask[chosen]
        is_node[self.circuit.role[chosen], self.circuit.latent[chosen]] = True
        live, ablated = dictionary.encode_dense(x), values.latents[ablation_groups.clamp(min=0)]
        latents = torch.where(is_node[roles.clamp(min=0)], dictionary.encode_dense(node_reads), live)
        out = dictionary.decode_normalised(ablated + grid[roles.clamp(min=0)] * (latents - ablated))
        if values.error is not None:
            out = out + values.error[ablation_groups.clamp(min=0)]
        if self.splice.ablation.errors == "keep":
            out = out + x - dictionary.decode_normalised(live)
        return torch.where((roles < 0)[..., None], x, out)

    def ends(self, mask: Tensor, held: dict[Site, Tensor] | None, z_edits: dict[int, Tensor] | None = None) -> Tensor:
        """Every node, summed over its role's tokens, and the metric; means over prompts."""
        metric = self.run(mask, held, z_edits).mean()
        nodes = torch.cat([self._sums(index, site) for index, site in enumerate(self.splice.dictionaries)])
        return torch.cat([nodes[torch.argsort(self._order())], metric[None]])

    def _order(self) -> Tensor:
        sites = range(len(self.splice.dictionaries))
        return torch.cat([torch.nonzero(self.circuit.site == index).squeeze(1) for index in sites])

    def weights(self) -> Tensor:
        """All weights by central differences, all nodes held: row v, column u."""
        n = len(self.circuit)
        found = torch.zeros(n + 1, n, dtype=torch.float64)
        for source in range(n):
            low, high = (self.ends(self.one + sign * self._unit(source), self.held) for sign in (-1, 1))
            found[:, source] = (high - low) / (2 * STEP)
        return found

    def carried(self, source: int, layer: int, head: int) -> Tensor:
        """What the head carries last: its output moves as `source` moves it, and all other heads' outputs are held."""
        moved = []
        for sign in (-1, 1):
            self.run(self.one + sign * self._unit(source), self.held)
            moved.append(self.z[layer])
        width = self.splice.model.d_head
        here = slice(head * width, (head + 1) * width)
        change = torch.zeros_like(moved[0])
        change[..., here] = ((moved[1] - moved[0]) / 2)[..., here]
        low, high = (
            self.ends(self.one, self.held, {**self.base_z, layer: self.base_z[layer] + sign * change})
            for sign in (-1, 1)
        )
        return (high - low) / (2 * STEP)

    def _unit(self, node: int) -> Tensor:
        return STEP * torch.eye(len(self.circuit), dtype=torch.float64)[node]

    def _sums(self, index: int, site: Site) -> Tensor:
        """Each node of a site, summed over its role's tokens, mean over prompts."""
        latents = self.splice.dictionaries[site].encode_dense(self.reads[site])
        chosen, roles = self.circuit.site == index, self.splice.examples.clean.roles
        pairs = list(zip(self.circuit.role[chosen].tolist(), self.circuit.latent[chosen].tolist(), strict=True))
        sums = [latents[..., latent][roles == role].sum() for role, latent in pairs]
        return torch.stack(sums) / len(roles) if sums else latents.new_zeros(0)


SPLICES = [
    (("resid_post.0", "resid_post.1"), "drop"),
    (("resid_post.0", "resid_post.1", "resid_post.2"), "keep"),
    (("resid_post.0", "z.1", "resid_post.1"), "mean"),
    (("z.0", "attn_out.1", "mlp_out.1", "resid_post.2"), "mean"),
]


@pytest.mark.parametrize(("sites", "errors"), SPLICES)
def test_weights_are_finite_differences_with_other_nodes_held(
    model: LanguageModel, examples: PromptPairs, sites: tuple[str, ...], errors: str
) -> None:
    splice = tiny_splice(model, examples, sites, errors)
    circuit = some_nodes(splice, 12)
    found, expected = direct_effects(splice, circuit).weights, ByHand(splice, circuit).weights()
    assert found.dtype == torch.float64
    assert (expected[-1] != 0).any()
    assert (expected[:-1] != 0).any()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("errors", ["drop", "keep"])
def test_where_the_rest_is_kept_edges_pass_over_sites(model: LanguageModel, examples: PromptPairs, errors: str) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1", "resid_post.2"), errors)
    circuit = some_nodes(splice, 16)
    found = direct_effects(splice, circuit, non_nodes="kept").weights
    torch.testing.assert_close(found, ByHand(splice, circuit, rest=1.0).weights(), rtol=1e-6, atol=1e-8)
    first, last = (torch.nonzero(circuit.site == index).squeeze(1) for index in (0, 2))
    assert (found[last][:, first] != 0).any()
    assert (found[-1][first] != 0).any()


@pytest.mark.parametrize(("sites", "errors"), SPLICES)
def test_heads_and_the_direct_part_sum_to_the_weight(
    model: LanguageModel, examples: PromptPairs, sites: tuple[str, ...], errors: str
) -> None:
    splice = tiny_splice(model, examples, sites, errors)
    found = direct_effects(splice, some_nodes(splice, 14))
    torch.testing.assert_close(found.direct + found.heads.sum(dim=(0, 1)), found.weights, rtol=1e-11, atol=1e-13)
    assert (found.heads != 0).any()
    for edge in found.edges():
        assert edge.direct + sum(one.weight for one in edge.heads) == pytest.approx(edge.weight, rel=1e-9, abs=1e-12)
        sizes = [abs(one.weight) for one in edge.heads]
        assert sizes == sorted(sizes, reverse=True)


def test_what_a_head_carried_is_what_its_output_alone_moves(model: LanguageModel, examples: PromptPairs) -> None:
    # Two layers of attention lie between the sites, and one after them.
    splice = tiny_splice(model, examples, ("mlp_out.0", "resid_mid.2"))
    circuit = some_nodes(splice, 8)
    found, by_hand = direct_effects(splice, circuit), ByHand(splice, circuit)
    assert found.layers == (0, 1, 2)
    assert (found.heads[0] == 0).all()
    for source in torch.nonzero(circuit.site == 0).squeeze(1).tolist():
        for layer in (1, 2):
            for head in range(model.n_heads):
                expected = by_hand.carried(source, layer, head)
                torch.testing.assert_close(found.heads[layer, head][:, source], expected, rtol=1e-6, atol=1e-8)


def test_a_step_of_any_size_moves_the_frozen_network_by_what_was_predicted(
    model: LanguageModel, examples: PromptPairs
) -> None:
    # No MLP lies between attention's input and its output: with patterns and scales held all of it is affine.
    splice = tiny_splice(model, examples, ("resid_pre.1", "resid_mid.1"))
    splice.dictionaries[Site.parse("resid_mid.1")].b_enc.data += 100
    circuit = some_nodes(splice, 10)
    found, by_hand = direct_effects(splice, circuit).weights, ByHand(splice, circuit)
    before = by_hand.ends(by_hand.one, by_hand.held)
    for source in torch.nonzero(circuit.site == 0).squeeze(1).tolist():
        step = torch.zeros(len(circuit), dtype=torch.float64)
        step[source] = -1.0
        after = by_hand.ends(by_hand.one + step, by_hand.held)
        torch.testing.assert_close((before - after)[:-1], found[:-1, source], rtol=1e-9, atol=1e-11)
        assert (found[:-1, source] != 0).any()


@pytest.mark.parametrize(("sites", "errors"), SPLICES)
def test_influence_of_a_nodes_edges_is_its_total_effect(
    model: LanguageModel, examples: PromptPairs, sites: tuple[str, ...], errors: str
) -> None:
    splice = tiny_splice(model, examples, sites, errors)
    circuit = some_nodes(splice, 12)
    found, by_hand = direct_effects(splice, circuit), ByHand(splice, circuit)
    torch.testing.assert_close(found.influence[-1], found.weights[-1])
    for source in range(len(circuit)):
        low, high = (by_hand.run(by_hand.one + sign * by_hand._unit(source), None).mean() for sign in (-1, 1))
        torch.testing.assert_close(found.influence[:, source].sum(), (high - low) / (2 * STEP), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox parallel", "qwen3", "cohere2"])
def test_heads_sum_to_the_weight_in_other_families(name: str) -> None:
    family = shared_model(name, dtype=torch.float64)
    splice = tiny_splice(family, tiny_examples(), ("resid_post.0", "z.1", "resid_post.1"))
    found = direct_effects(splice, some_nodes(splice, 12))
    # Norms that compute in float32 whatever the model's type.
    torch.testing.assert_close(found.direct + found.heads.sum(dim=(0, 1)), found.weights, rtol=1e-5, atol=1e-7)
    assert (found.weights[:-1] != 0).any()
    assert (found.heads[-1] != 0).any()


def test_a_held_dictionary_on_the_stream_lets_nothing_past(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1", "resid_post.2"))
    circuit = some_nodes(splice, 20)
    weights = direct_effects(splice, circuit).weights
    first, second, last = (torch.nonzero(circuit.site == index).squeeze(1) for index in range(3))
    assert (weights[second][:, first] != 0).any()
    assert (weights[last][:, second] != 0).any()
    assert (weights[last][:, first] == 0).all()
    assert (weights[-1][torch.cat([first, second])] == 0).all()
    assert (weights[-1][last] != 0).any()


def test_a_held_dictionary_beside_the_stream_leaves_the_other_paths(
    model: LanguageModel, examples: PromptPairs
) -> None:
    with_z = tiny_splice(model, examples, ("resid_post.0", "z.1", "resid_post.1"))
    circuit = some_nodes(with_z, 30)
    weights = direct_effects(with_z, circuit).weights
    first, last = (torch.nonzero(circuit.site == index).squeeze(1) for index in (0, 2))
    assert (weights[last][:, first] != 0).any()
    roles = circuit.role
    # With attention held, nothing moves between tokens: a node reaches only nodes of its own role.
    apart = roles[last][:, None] != roles[first][None, :]
    assert (weights[last][:, first][apart] == 0).all()


def test_nothing_acts_on_earlier_nodes_or_on_its_own_site(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 16)
    weights = direct_effects(splice, circuit).weights[:-1]
    assert (weights[circuit.site[:, None] <= circuit.site[None, :]] == 0).all()


def test_permuting_the_nodes_permutes_the_weights(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "z.1", "resid_post.1"))
    circuit = some_nodes(splice, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    weights, permuted = direct_effects(splice, circuit).weights, direct_effects(splice, circuit.select(order)).weights
    torch.testing.assert_close(permuted[:-1], weights[:-1][order][:, order])
    torch.testing.assert_close(permuted[-1], weights[-1][order])


def test_the_batch_size_and_the_splices_own_nodes_do_not_matter(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 10)
    weights = direct_effects(splice, circuit).weights
    splice = replace(splice, prompts=replace(splice.prompts, batch_size=1))
    torch.testing.assert_close(direct_effects(splice.with_nodes(circuit, non_nodes="kept"), circuit).weights, weights)


def test_edges_are_the_nonzero_weights_strongest_first(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "z.1", "resid_post.1"))
    circuit = some_nodes(splice, 14)
    weights, edges, keys = direct_effects(splice, circuit).weights, circuit_edges(splice, circuit), circuit.keys()
    assert len(edges) == int((weights != 0).sum())
    targets = [*keys, METRIC]
    for edge in edges:
        assert edge.weight == weights[targets.index(edge.target), keys.index(edge.source)].item()
    for target in targets:
        sizes = [abs(edge.weight) for edge in edges if edge.target == target]
        assert sizes == sorted(sizes, reverse=True)


def test_keep_is_a_number_or_a_share_of_the_edges_into_each_target(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 14)
    everything = circuit_edges(splice, circuit)
    into = {target: [edge for edge in everything if edge.target == target] for target in {e.target for e in everything}}
    two = circuit_edges(splice, circuit, keep=2)
    half = circuit_edges(splice, circuit, keep=0.5)
    for target, edges in into.items():
        assert [edge for edge in two if edge.target == target] == edges[:2]
        assert [edge for edge in half if edge.target == target] == edges[: max(1, round(len(edges) / 2))]
    assert circuit_edges(splice, circuit, keep=0) == ()
    to_metric = [edge for edge in circuit_edges(splice, circuit) if edge.target == METRIC]
    assert len(to_metric) > 2
    kept = direct_effects(splice, circuit).edges(keep=2, every_to_metric=True)
    assert [edge for edge in kept if edge.target == METRIC] == to_metric
    assert [edge for edge in kept if edge.target != METRIC] == [edge for edge in two if edge.target != METRIC]


@pytest.mark.parametrize("keep", [-1, 0.0, 1.5])
def test_an_impossible_keep_is_refused(model: LanguageModel, examples: PromptPairs, keep: float) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    with pytest.raises(UsageError, match="keep"):
        circuit_edges(splice, some_nodes(splice, 4), keep=keep)


def test_an_empty_circuit_has_no_edges(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    assert circuit_edges(splice, splice.nodes.none()) == ()
