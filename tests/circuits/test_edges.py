"""Edges against finite differences of a network written out by hand, in float64."""

from dataclasses import dataclass, field, replace

import pytest
import torch
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
    """The circuit's network from its definition: dense masks, no gradients, and outputs that can be held by hand."""

    splice: Splice
    circuit: Nodes
    reads: dict[Site, Tensor] = field(default_factory=dict)
    outs: dict[Site, Tensor] = field(default_factory=dict)

    def run(self, mask: Tensor, held: dict[Site, Tensor]) -> Tensor:
        """Logit differences under `mask`, with the outputs of the sites in `held` as given."""
        splice, examples = self.splice, self.splice.examples

        def edit(index: int, site: Site, x: Tensor) -> Tensor:
            self.reads[site] = x
            self.outs[site] = held[site] if site in held else self._out(index, site, mask, x)
            return self.outs[site]

        edits = {
            site: (lambda x, index=index, site=site: edit(index, site, x))
            for index, site in enumerate(splice.dictionaries)
        }
        with torch.no_grad(), splice.model.edit(edits):
            logits = splice.model.logits(examples.clean.tokens, at=examples.clean.answer_position)
        rows = torch.arange(len(examples))
        return logits[rows, examples.answer] - logits[rows, examples.incorrect]

    def _out(self, index: int, site: Site, mask: Tensor, x: Tensor) -> Tensor:
        dictionary, values = self.splice.dictionaries[site], self.splice.ablation.sites[site]
        roles, ablation_groups = self.splice.examples.clean.roles, self.splice.examples.clean.ablation_groups
        grid = torch.zeros(len(ROLES), N_LATENTS, dtype=torch.float64)
        chosen = self.circuit.site == index
        grid[self.circuit.role[chosen], self.circuit.latent[chosen]] = mask[chosen]
        latents, ablated = dictionary.encode_dense(x), values.latents[ablation_groups.clamp(min=0)]
        out = dictionary.decode_normalised(ablated + grid[roles.clamp(min=0)] * (latents - ablated))
        if values.error is not None:
            out = out + values.error[ablation_groups.clamp(min=0)]
        if self.splice.ablation.errors == "keep":
            out = out + x - dictionary.decode_normalised(latents)
        return torch.where((roles < 0)[..., None], x, out)

    def weights(self) -> Tensor:
        """All weights by central differences: row v, column u; the sites between them held at their values."""
        n, sites = len(self.circuit), list(self.splice.dictionaries)
        one = torch.ones(n, dtype=torch.float64)
        self.run(one, {})
        base = dict(self.outs)
        found = torch.zeros(n + 1, n, dtype=torch.float64)
        for source in range(n):
            start = int(self.circuit.site[source])
            for target in range(start + 1, len(sites) + 1):
                held = {site: base[site] for site in sites[start + 1 : target]}
                ends = []
                for sign in (1, -1):
                    difference = self.run(one + sign * STEP * torch.eye(n, dtype=torch.float64)[source], held)
                    ends.append(difference.mean() if target == len(sites) else self._sums(target, sites[target]))
                rows = [n] if target == len(sites) else torch.nonzero(self.circuit.site == target).squeeze(1)
                found[rows, source] = (ends[0] - ends[1]) / (2 * STEP)
        return found

    def _sums(self, index: int, site: Site) -> Tensor:
        """Each node of a site, summed over its role's tokens, mean over prompts."""
        latents = self.splice.dictionaries[site].encode_dense(self.reads[site])
        chosen, roles = self.circuit.site == index, self.splice.examples.clean.roles
        pairs = zip(self.circuit.role[chosen].tolist(), self.circuit.latent[chosen].tolist(), strict=True)
        return torch.stack([latents[..., latent][roles == role].sum() for role, latent in pairs]) / len(roles)


@pytest.mark.parametrize(
    ("sites", "errors"),
    [
        (("resid_post.0", "resid_post.1"), "drop"),
        (("resid_post.0", "resid_post.1", "resid_post.2"), "keep"),
        (("resid_post.0", "z.1", "resid_post.1"), "mean"),
        (("z.0", "attn_out.1", "mlp_out.1", "resid_post.2"), "mean"),
    ],
)
def test_weights_are_finite_differences_with_other_dictionaries_held(
    model: LanguageModel, examples: PromptPairs, sites: tuple[str, ...], errors: str
) -> None:
    splice = tiny_splice(model, examples, sites, errors)
    circuit = some_nodes(splice, 12)
    found, expected = direct_effects(splice, circuit), ByHand(splice, circuit).weights()
    assert found.dtype == torch.float64
    assert (expected[-1] != 0).any()
    assert (expected[:-1] != 0).any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_a_held_dictionary_on_the_stream_lets_nothing_past(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1", "resid_post.2"))
    circuit = some_nodes(splice, 20)
    weights = direct_effects(splice, circuit)
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
    weights = direct_effects(with_z, circuit)
    first, last = (torch.nonzero(circuit.site == index).squeeze(1) for index in (0, 2))
    assert (weights[last][:, first] != 0).any()
    roles = circuit.role
    # With attention held, nothing moves between tokens: a node reaches only nodes of its own role.
    apart = roles[last][:, None] != roles[first][None, :]
    assert (weights[last][:, first][apart] == 0).all()


def test_nothing_acts_on_earlier_nodes_or_on_its_own_site(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 16)
    weights = direct_effects(splice, circuit)[:-1]
    assert (weights[circuit.site[:, None] <= circuit.site[None, :]] == 0).all()


def test_weights_sum_to_the_whole_change_where_the_network_between_is_linear(
    model: LanguageModel, examples: PromptPairs
) -> None:
    # What attention adds to the stream reaches resid_mid of its layer as it is, and the latents there are all active.
    splice = tiny_splice(model, examples, ("attn_out.1", "resid_mid.1"))
    reader = splice.dictionaries[Site.parse("resid_mid.1")]
    reader.b_enc.data += 100
    circuit = splice.nodes
    weights, by_hand = direct_effects(splice, circuit), ByHand(splice, circuit)
    sources, targets = circuit.site == 0, circuit.site == 1
    ends = []
    for value in (1.0, 0.0):
        by_hand.run(torch.where(sources, value, 1.0).double(), {})
        ends.append(by_hand._sums(1, Site.parse("resid_mid.1")))
    torch.testing.assert_close(weights[:-1][targets].sum(dim=1), ends[0] - ends[1], rtol=1e-5, atol=1e-6)
    assert (ends[0] - ends[1]).abs().max() > 0.1


def test_permuting_the_nodes_permutes_the_weights(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "z.1", "resid_post.1"))
    circuit = some_nodes(splice, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    weights, permuted = direct_effects(splice, circuit), direct_effects(splice, circuit.select(order))
    torch.testing.assert_close(permuted[:-1], weights[:-1][order][:, order])
    torch.testing.assert_close(permuted[-1], weights[-1][order])


def test_the_batch_size_and_the_splices_own_nodes_do_not_matter(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 10)
    weights = direct_effects(splice, circuit)
    splice = replace(splice, prompts=replace(splice.prompts, batch_size=1))
    torch.testing.assert_close(direct_effects(splice.with_nodes(circuit, non_nodes="kept"), circuit), weights)


def test_edges_are_the_nonzero_weights_strongest_first(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "z.1", "resid_post.1"))
    circuit = some_nodes(splice, 14)
    weights, edges, keys = direct_effects(splice, circuit), circuit_edges(splice, circuit), circuit.keys()
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


@pytest.mark.parametrize("keep", [-1, 0.0, 1.5])
def test_an_impossible_keep_is_refused(model: LanguageModel, examples: PromptPairs, keep: float) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    with pytest.raises(UsageError, match="keep"):
        circuit_edges(splice, some_nodes(splice, 4), keep=keep)


def test_an_empty_circuit_has_no_edges(model: LanguageModel, examples: PromptPairs) -> None:
    splice = tiny_splice(model, examples, ("resid_post.0", "resid_post.1"))
    assert circuit_edges(splice, splice.nodes.none()) == ()
