"""The known circuit: exact dictionaries, nodes that three computations agree on, and a search that finds them."""

from functools import partial

import pytest
import torch

from gossamer.circuits.attribution import attribution_patching
from gossamer.circuits.find import find_circuit
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.study import Study, StudySettings
from gossamer.dictionary import measure
from gossamer.errors import UsageError
from gossamer.features import Feature, Node
from gossamer.model import Site
from gossamer.toys import (
    PROGRAMS,
    SMOOTH,
    compile_program,
    known_circuit,
    labelled_dictionaries,
    labelled_dictionary,
    program_task,
)
from gossamer.toys.known import labelled_latents
from gossamer.toys.task import all_inputs


def compiled(name, length, **options):
    return compile_program(
        PROGRAMS[name].build(), PROGRAMS[name].vocabulary, max_length=length, sharpness=SMOOTH, name=name, **options
    )


def stream_sites(model):
    return [Site("resid_pre", 0), *model.sites("resid_post")]


def by_brute_force(found, inputs, sites):
    """Every latent whose direction, taken out of the stream at one position, moves the logits of some input.

    On the network alone: neither the interpreter nor dictionaries nor splices have a part in it.
    """
    model, ids = found.language_model, found.encode(inputs)
    clean = model.logits(ids)[:, -1]

    def without(direction, position, x):
        x = x.clone()
        length = torch.relu(x[:, position + 1] @ direction)
        x[:, position + 1] -= length[:, None] * direction
        return x

    nodes = set()
    for site in sites:
        for position in range(len(inputs[0])):
            for number, latent in enumerate(labelled_latents(found.layout)):
                direction = latent.sign * found.projection[latent.place]
                with model.edit({site: partial(without, direction, position)}):
                    changed = (model.logits(ids)[:, -1] - clean).abs().max() > 1e-2
                if changed:
                    role = "END" if position == len(inputs[0]) - 1 else f"p{position}"
                    nodes.add(Node(Feature(site, number), role))
    return nodes


@pytest.mark.parametrize("kind", ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_in", "mlp_out"])
@pytest.mark.parametrize("name", ["sort", "pair_balance"])
def test_labelled_dictionaries_are_exact(name, kind):
    found = compiled(name, 4)
    model, ids = found.language_model, found.encode(all_inputs(PROGRAMS[name].vocabulary, 4))
    for site in model.sites(kind):
        stream = model.capture(ids, [site])[site]
        dictionary = labelled_dictionary(found, site)
        torch.testing.assert_close(dictionary(stream), stream, atol=2e-4, rtol=0)
    assert min(measure(model, labelled_dictionaries(found), ids), key=str) == Site("resid_post", 0)


def test_numbers_that_can_be_negative_have_two_latents():
    found = compiled("pair_balance", 4)
    labels = [latent.label for latent in labelled_latents(found.layout)]
    assert labels[-2:] == ["balance", "balance-"]
    assert "share_of_(" in labels
    assert "share_of_(-" not in labels
    site = Site("resid_post", 1)
    stream = found.language_model.capture(found.encode([list(")(")]), [site])[site]
    latents = labelled_dictionary(found, site).encode_dense(stream)
    torch.testing.assert_close(latents[0, 1, -2:], torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)


def test_the_circuit_of_one_input_by_hand():
    found = compiled("reverse", 2)
    labels = [latent.label for latent in labelled_latents(found.layout)]
    pre, post = (known_circuit(found, [list("ab")], [Site(*place)]) for place in (("resid_pre", 2), ("resid_post", 2)))
    assert {(node.role, labels[node.latent]) for node in pre} == {
        ("p0", "tokens:a"),
        ("p0", "indices:0"),
        ("END", "opposite:0"),
    }
    assert {(node.role, labels[node.latent]) for node in post} == {("END", "reverse:a")}
    assert known_circuit(found, [list("ab")], [Site("resid_post", 2)], position=0) == {
        Node(Feature(Site("resid_post", 2), labels.index("reverse:b")), "p0")
    }


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - {"shuffle_dyck", "sort_by_frequency"}))
def test_the_program_and_the_network_agree_on_the_nodes(name, causal):
    found = compiled(name, 3, causal=causal)
    inputs, sites = all_inputs(PROGRAMS[name].vocabulary, 3), stream_sites(found.language_model)
    assert known_circuit(found, inputs, sites) == by_brute_force(found, inputs, sites)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "length"),
    [("histogram", 4), ("reverse", 3), ("count_less_than", 3), ("pattern_detection", 4), ("sort", 3)],
)
def test_mask_search_finds_the_known_circuit(name, length):
    """Zero ablation; known are the nodes whose removal alone changes the output on some training prompt."""
    found = compiled(name, length)
    task, sites = program_task(found, length, test_fraction=0.15), stream_sites(found.language_model)
    prompts = [prompt.clean_text.split() for prompt in task.train.prompts]
    circuit = find_circuit(
        found.language_model,
        labelled_dictionaries(found, sites),
        task,
        faithfulness=0.99,
        settings=StudySettings(ablation="zero", errors="drop"),
        search=SearchSettings(sizes=range(5, 400, 5)),
    )
    known = known_circuit(found, prompts, sites)
    assert known == by_brute_force(found, prompts, sites)
    assert set(circuit.nodes.keys()) == known
    assert len(circuit.study.nodes) > 1.2 * len(known)


@pytest.mark.parametrize("seed", [1, 7])
def test_an_essential_node_without_a_gradient_at_the_unmasked_network_is_found(seed):
    """Behind a step a node's gradient can be 0 where nothing is masked: it must not be ranked with the idle ones."""
    found = compiled("count_less_than", 3)
    task, sites = program_task(found, 3, test_fraction=0.15, seed=seed), stream_sites(found.language_model)
    known = known_circuit(found, [prompt.clean_text.split() for prompt in task.train.prompts], sites)
    study = Study(
        found.language_model,
        labelled_dictionaries(found, sites),
        task,
        StudySettings(ablation="zero", errors="drop"),
    )
    slope = attribution_patching(study.splice)[study.nodes.find(sorted(known))]
    assert (slope == 0).any()
    given = study.method_inputs(SearchSettings(sizes=(40, 20, 5), steps=200))
    path = search_path(given.fitted.splice, given.fitted.full, given.search)
    assert all(known <= set(path.nodes.select(circuit).keys()) for circuit in path.circuits[:2])


def test_program_task_pairs_inputs_of_different_output():
    found = compiled("reverse", 3)
    task = program_task(found, 3)
    assert task.role_names == ("p0", "p1", "END")
    rows = (*task.train.prompts, *task.test.prompts)
    assert len({prompt.clean_text for prompt in rows}) == len(rows) > 20
    for prompt in rows:
        assert prompt.answer == f" {prompt.clean_text.split()[0]}"
        assert prompt.incorrect == f" {prompt.counterfactual_text.split()[0]}" != prompt.answer


def test_requests_without_an_answer_are_refused():
    found = compiled("length", 3)
    with pytest.raises(UsageError, match="two inputs of length 3 with different outputs expected"):
        program_task(found, 3)
    with pytest.raises(UsageError, match="1 to 3 expected, found 4"):
        program_task(found, 4)
    with pytest.raises(UsageError, match="directions are labelled at"):
        labelled_dictionary(found, Site("z", 0))
    with pytest.raises(UsageError, match="a known circuit has nodes at"):
        known_circuit(found, [list("abc")], [Site("attn_out", 0)])
