"""A circuit with some of its edges, against networks run node by node by hand, in float64."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import all_nodes, random_ablation, random_choice, random_dictionary, sites_of
from tiny_splice import some_nodes, tiny_examples, tiny_splice
from torch import Tensor

from gossamer.circuits.ablation import AblationKind
from gossamer.circuits.edges import direct_effects
from gossamer.circuits.evaluate import edge_network
from gossamer.circuits.evaluate.edge_network import EdgeNetwork
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.task import Task

ALL = slice(0, 6)
SPLICES = [
    (("resid_post.0", "resid_post.1"), "drop"),
    (("resid_post.0", "resid_post.1", "resid_post.2"), "keep"),
    (("resid_post.0", "z.1", "resid_post.1", "resid_post.2"), "mean"),
    (("z.0", "attn_out.1", "mlp_out.1", "resid_mid.2"), "mean"),
]


@pytest.fixture(scope="module", params=["roles lead", "a hole"])
def examples(request: pytest.FixtureRequest) -> PromptPairs:
    """Prompts; or the same with a token in the middle that no dictionary replaces, past which nodes can act."""
    found = tiny_examples()
    if request.param == "a hole":
        roles = found.clean.roles.clone()
        roles[:, 2] = -1
        found = replace(found, clean=replace(found.clean, roles=roles))
    return found


def node_by_node(splice: Splice, circuit: Nodes, kept: Tensor) -> Tensor:
    """Logits from the definition: each node read in a whole pass of its own, earlier nodes given as its edges say."""
    model, clean = splice.model, splice.examples.clean
    roles, groups = clean.roles, clean.ablation_groups.clamp(min=0)
    sites = list(splice.dictionaries)
    given: dict[int, Tensor] = {}
    seen: dict[Site, Tensor] = {}

    def out(index: int, row: Tensor, x: Tensor) -> Tensor:
        site = sites[index]
        seen[site] = x
        dictionary, values = splice.dictionaries[site], splice.ablation.sites[site]
        latents = values.latents[groups].clone()
        for node in given:
            if int(circuit.site[node]) == index and row[node]:
                here, latent = roles == circuit.role[node], int(circuit.latent[node])
                latents[..., latent] = torch.where(here, given[node], latents[..., latent])
        made = dictionary.decode_normalised(latents)
        if values.error is not None:
            made = made + values.error[groups]
        if splice.ablation.errors == "keep":
            made = made + x - dictionary.decode_normalised(dictionary.encode_dense(x))
        return torch.where((roles < 0)[..., None], x, made)

    def run(row: Tensor) -> Tensor:
        edits = {site: (lambda x, index=index: out(index, row, x)) for index, site in enumerate(sites)}
        with torch.no_grad(), model.edit(edits):
            return model.logits(clean.tokens, at=clean.answer_position)

    for node in torch.argsort(circuit.site, stable=True).tolist():
        run(kept[node])
        site = sites[int(circuit.site[node])]
        given[node] = splice.dictionaries[site].encode_dense(seen[site])[..., int(circuit.latent[node])]
    return run(kept[-1])


def circuit_of(splice: Splice, count: int = 14) -> tuple[Splice, Nodes]:
    circuit = some_nodes(splice, count)
    return splice.with_nodes(circuit), circuit


@pytest.mark.parametrize(("sites", "errors"), SPLICES)
def test_every_edge_is_the_circuit_and_none_the_empty_one(
    model: LanguageModel, examples: PromptPairs, sites: tuple[str, ...], errors: str
) -> None:
    network, circuit = circuit_of(tiny_splice(model, examples, sites, errors))
    every = EdgeNetwork(network, torch.ones(len(circuit) + 1, len(circuit), dtype=torch.bool))
    none = EdgeNetwork(network, torch.zeros(len(circuit) + 1, len(circuit), dtype=torch.bool))
    ones = torch.ones(len(circuit), dtype=torch.float64)
    whole, empty = network(ones, ALL), network(0 * ones, ALL)
    torch.testing.assert_close(every(ALL).logits(), whole, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(none(ALL).logits(), empty, rtol=1e-10, atol=1e-12)
    assert (whole - empty).abs().max() > 1e-2


@pytest.mark.parametrize(("sites", "errors"), SPLICES)
def test_some_edges_are_what_each_node_reads_in_a_network_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    model: LanguageModel,
    examples: PromptPairs,
    sites: tuple[str, ...],
    errors: str,
) -> None:
    network, circuit = circuit_of(tiny_splice(model, examples, sites, errors))
    kept = torch.rand(len(circuit) + 1, len(circuit), generator=torch.Generator().manual_seed(5)) < 0.5
    expected = node_by_node(network, circuit, kept)
    found = EdgeNetwork(network, kept)
    torch.testing.assert_close(found(ALL).logits(), expected, rtol=1e-10, atol=1e-12)
    # In batches, and with one network a pass.
    monkeypatch.setattr(edge_network, "_ROWS", 1)
    parts = torch.cat([found(slice(0, 4)).logits(), found(slice(4, 6)).logits()])
    torch.testing.assert_close(parts, expected, rtol=1e-10, atol=1e-12)


def test_a_node_without_kept_edges_onwards_counts_for_nothing(model: LanguageModel) -> None:
    network, circuit = circuit_of(tiny_splice(model, tiny_examples(), ("resid_post.0", "resid_post.1")))
    kept = torch.ones(len(circuit) + 1, len(circuit), dtype=torch.bool)
    node = int(torch.nonzero(circuit.site == 1)[0])
    kept[:, node] = False
    mask = torch.ones(len(circuit), dtype=torch.float64)
    mask[node] = 0
    torch.testing.assert_close(EdgeNetwork(network, kept)(ALL).logits(), network(mask, ALL), rtol=1e-10, atol=1e-12)


def test_edges_of_weight_0_may_go_where_every_node_is_active(model: LanguageModel) -> None:
    network, circuit = circuit_of(tiny_splice(model, tiny_examples(), ("resid_post.0", "z.1", "resid_post.1")), 20)
    for dictionary in network.dictionaries.values():
        dictionary.b_enc.data += 100
        dictionary.W_dec.data *= 0.01
    effects = direct_effects(network, circuit)
    kept = effects.weights != 0
    assert 0 < kept.sum() < kept.numel() / 2
    expected = network(torch.ones(len(circuit), dtype=torch.float64), ALL)
    torch.testing.assert_close(EdgeNetwork(network, kept)(ALL).logits(), expected, rtol=1e-8, atol=1e-9)


def test_edges_that_do_not_fit_the_circuit_are_refused(model: LanguageModel) -> None:
    network, circuit = circuit_of(tiny_splice(model, tiny_examples(), ("resid_post.0", "resid_post.1")))
    with pytest.raises(UsageError, match="15 rows"):
        EdgeNetwork(network, torch.ones(len(circuit), len(circuit), dtype=torch.bool))
    every = torch.ones(len(circuit) + 1, len(circuit), dtype=torch.bool)
    with pytest.raises(UsageError, match="all other latents are ablated"):
        EdgeNetwork(network.with_nodes(circuit, non_nodes="kept"), every)


@pytest.mark.parametrize(
    ("kind", "convention"),
    [("zero", {}), ("resample", {}), ("mean", {"normalisation": "layer_norm"})],
    ids=["zero", "resample", "normalised"],
)
def test_both_ends_hold_for_every_ablation_and_for_dictionaries_that_normalise(
    model: LanguageModel, task: Task, kind: AblationKind, convention: dict[str, str]
) -> None:
    sites = sites_of("resid_post.0", "resid_post.1")
    dictionaries = {site: random_dictionary(site, seed=seed, **convention) for seed, site in enumerate(sites)}
    nodes = all_nodes(dictionaries)
    splice = Splice.of(model, dictionaries, task.test, random_ablation(sites, kind=kind), nodes, batch_size=3)
    circuit = random_choice(nodes, 20)
    network, rows = splice.with_nodes(circuit), slice(0, 4)
    every = torch.ones(len(circuit) + 1, len(circuit), dtype=torch.bool)
    ones = torch.ones(len(circuit), dtype=torch.float64)
    for kept, mask in ((every, ones), (~every, 0 * ones)):
        found = EdgeNetwork(network, kept)(rows).logits()
        torch.testing.assert_close(found, network(mask, rows), rtol=1e-10, atol=1e-12)
