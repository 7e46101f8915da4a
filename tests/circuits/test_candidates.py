"""Candidates: what is left out can do nothing, and nothing else is left out."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import ROLES, all_nodes, by_hand, grids_of, node_at, random_dictionary, sites_of

from gossamer.batching import MemoryWarning
from gossamer.circuits.ablation import Ablation
from gossamer.circuits.candidates import candidates, every_node
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.task import Task

SITES = sites_of("resid_post.0", "resid_post.1")


@pytest.fixture(scope="module")
def dictionaries() -> dict[Site, Dictionary]:
    found = {site: random_dictionary(site, "jumprelu", seed=seed) for seed, site in enumerate(SITES)}
    for dictionary in found.values():
        dictionary.b_enc.data -= 0.9
    return found


def found_by(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, batch_size: int = 5, **kinds: str
) -> Nodes:
    ablation = Ablation.measure(model, dictionaries, task, **kinds)
    nodes = every_node(dictionaries, ROLES, torch.device("cpu")).none()
    return candidates(Splice.of(model, dictionaries, task.train, ablation, nodes, batch_size=batch_size))


def test_every_node_is_every_site_role_and_latent(dictionaries: dict[Site, Dictionary]) -> None:
    nodes = every_node(dictionaries, ROLES, torch.device("cpu"))
    expected = {node_at(site, role, latent) for site in SITES for role in ROLES for latent in range(20)}
    assert len(nodes) == len(expected)
    assert set(nodes.keys()) == expected


@pytest.mark.parametrize("kinds", [{}, {"kind": "zero", "errors": "drop"}, {"kind": "resample", "errors": "keep"}])
def test_a_node_that_is_left_out_can_be_ablated_without_any_effect(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, kinds: dict[str, str]
) -> None:
    found = set(found_by(model, dictionaries, task, **kinds).keys())
    nodes = all_nodes(dictionaries)
    outside = torch.tensor([index for index, key in enumerate(nodes.keys()) if key not in found])
    assert len(found) > 20
    assert len(outside) > 20
    ablation = Ablation.measure(model, dictionaries, task, **kinds)
    splice = Splice.of(model, dictionaries, task.train, ablation, nodes.select(outside), non_nodes="kept")
    whole = splice(torch.ones(len(outside)))
    for index in range(0, len(outside), 4):
        mask = torch.ones(len(outside))
        mask[index] = 0
        torch.testing.assert_close(splice(mask), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(splice(torch.zeros(len(outside))), whole, rtol=0, atol=1e-5)
    inside = Splice.of(model, dictionaries, task.train, ablation, nodes, non_nodes="kept")
    assert (inside(torch.zeros(len(nodes))) - whole).abs().max() > 0.1


def test_candidates_are_what_moves_in_the_model_or_in_the_spliced_model(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    ablation, nodes = Ablation.measure(model, dictionaries, task), all_nodes(dictionaries)
    splice, reads = Splice.of(model, dictionaries, task.train, ablation, nodes), {}
    by_hand(splice, grids_of(nodes, torch.ones(len(nodes)), dictionaries, 1.0), reads)
    with torch.no_grad():
        own = model.capture(task.train.clean.tokens, list(dictionaries))
    moving = {"model": set(), "spliced": set()}
    for name, streams in (("model", own), ("spliced", reads)):
        for site, dictionary in dictionaries.items():
            latents = dictionary.encode_dense(streams[site])
            for row, token in torch.nonzero(task.train.clean.roles >= 0).tolist():
                group, role = int(task.train.clean.ablation_groups[row, token]), int(task.train.clean.roles[row, token])
                moved = (latents[row, token] - ablation.sites[site].latents[group]).abs() > 1e-4
                moving[name] |= {
                    node_at(site, ROLES[role], latent) for latent in torch.nonzero(moved).squeeze(1).tolist()
                }
    found = found_by(model, dictionaries, task)
    assert set(found.keys()) == moving["model"] | moving["spliced"]
    assert moving["model"] - moving["spliced"]
    assert moving["spliced"] - moving["model"]
    assert len(found) < len(nodes)


def test_a_prefix_that_never_changes_has_no_candidates(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    roles = {node.role for node in found_by(model, dictionaries, task).keys()}  # noqa: SIM118
    assert roles == set(ROLES) - {"prefix"}
    # With zero ablation it has: its latents are moved, if always by the same amount.
    with_zero = found_by(model, dictionaries, task, kind="zero", errors="drop")
    assert "prefix" in {node.role for node in with_zero.keys()}  # noqa: SIM118


@pytest.mark.parametrize("kind", ["z", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post", "resid_pre"])
def test_behind_the_last_attention_only_the_answer_position_has_candidates(
    model: LanguageModel, task: Task, kind: str
) -> None:
    site = Site(kind, model.n_layers - 1)
    dictionaries = {site: random_dictionary(site, "relu", seed=3)}
    ablation = Ablation.measure(model, dictionaries, task, errors="drop")
    everything = every_node(dictionaries, ROLES, torch.device("cpu"))
    splice = Splice.of(model, dictionaries, task.train, ablation, everything)
    found = candidates(splice, error_nodes=True)
    roles = {(node.role, node.feature.is_error) for node in found.keys()}  # noqa: SIM118
    late = kind != "resid_pre"
    # The prefix is the same in all prompts: its latents stay at their means, its error goes where errors are dropped.
    everywhere = {(role, False) for role in ROLES[1:]} | {(role, True) for role in ROLES}
    assert roles == ({("END", False), ("END", True)} if late else everywhere)
    # The network itself: nothing at any other role changes what it says, unless an attention comes after.
    elsewhere = torch.tensor([float(node.role == "END") for node in everything.keys()])  # noqa: SIM118
    changed = (splice(elsewhere) - splice(torch.ones(len(everything)))).abs().max()
    assert (changed < 1e-12) if late else (changed > 0.01)


def test_the_tokens_at_padding_do_not_matter(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    tokens = task.train.clean.tokens
    other = replace(tokens, ids=torch.where(tokens.mask, tokens.ids, 29 - tokens.ids))
    changed = replace(task, train=replace(task.train, clean=replace(task.train.clean, tokens=other)))
    assert found_by(model, dictionaries, changed).keys() == found_by(model, dictionaries, task).keys()


def test_prompts_that_equal_their_counterfactuals_are_refused(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task
) -> None:
    same = replace(task, train=replace(task.train, counterfactual=task.train.clean))
    with pytest.raises(GossamerError, match="no latent differs from its ablation value"):
        found_by(model, dictionaries, same, kind="resample", errors="keep")


def test_memory_that_runs_out_halves_the_batch(
    model: LanguageModel, dictionaries: dict[Site, Dictionary], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = found_by(model, dictionaries, task, batch_size=64)
    real = Splice.latents

    def limited(self: Splice, rows: slice, streams: object = None) -> object:
        if rows.stop - rows.start > 4:
            raise torch.OutOfMemoryError("for the test")
        return real(self, rows, streams)

    monkeypatch.setattr(Splice, "latents", limited)
    with pytest.warns(MemoryWarning):
        found = found_by(model, dictionaries, task, batch_size=64)
    assert found.keys() == expected.keys()
