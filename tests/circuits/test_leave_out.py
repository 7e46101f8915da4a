"""Leaving nodes out one at a time, against a network compiled anew without each."""

import pytest
import torch
from circuit_lab import all_nodes, random_choice, random_dictionary, sites_of

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.leave_out import each_left_out
from gossamer.circuits.prompt_metrics import Network
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


def total(network: Network) -> float:
    with torch.no_grad():
        return (network(slice(None)).logits() * torch.arange(30.0)).sum().item()


@pytest.mark.parametrize("kind", ["mean", "zero", "resample"])
@pytest.mark.parametrize("names", [("resid_post.0", "resid_post.1", "resid_post.2"), ("resid_pre.1", "mlp_out.1")])
def test_every_node_left_out_equals_the_circuit_without_it(
    model: LanguageModel, task: Task, names: tuple[str, ...], kind: str
) -> None:
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites_of(*names))}
    ablation = Ablation.measure(model, dictionaries, task, kind=kind)
    splice = Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries), batch_size=3)
    circuit = random_choice(splice.nodes, 20)
    everything = torch.arange(len(circuit))
    expected = [
        total(lambda rows, left=left: splice.with_nodes(left).outputs(torch.ones(len(left)), rows))
        for left in (circuit.select(everything != node) for node in range(len(circuit)))
    ]
    found = each_left_out(splice, circuit, total, "test")
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    assert len(set(found.tolist())) > 3
    assert len(each_left_out(splice, circuit.none(), total, "test")) == 0


def test_prompts_that_a_node_does_not_move_are_not_run_again(model: LanguageModel, task: Task) -> None:
    """Under zero ablation those on which its latent is inactive at all tokens of its role."""
    (site,) = sites_of("resid_post.0")
    dictionary = random_dictionary(site, "jumprelu", seed=1)
    dictionary.b_enc.data -= 0.9
    ablation = Ablation.measure(model, {site: dictionary}, task, kind="zero", errors="drop")
    splice = Splice.of(model, {site: dictionary}, task.test, ablation, all_nodes({site: dictionary}), batch_size=64)
    circuit, clean, rows = random_choice(splice.nodes, 20), task.test.clean, []
    latents = dictionary.encode_dense(model.capture(clean.tokens, [site])[site])
    moves = [
        (latents[..., latent] * (clean.roles == role) != 0).any(dim=1).sum().item()
        for role, latent in zip(circuit.role.tolist(), circuit.latent.tolist(), strict=True)
    ]

    widths = set()

    def seen(x: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        widths.add(x.shape[1])
        return x

    with model.edit({model.sites("resid_post")[-1]: seen}):
        # With gradients, so that prompts that are equal behind the first dictionary are all run.
        each_left_out(splice, circuit, lambda network: network(slice(None)).logits().sum().item(), "test")
    # Once with all nodes, then for each node the prompts that it moves.
    assert rows == [len(task.test), *(count for count in moves if count)]
    assert 0 < sum(moves) < len(circuit) * len(task.test) / 2
    # And of these no position before the first that changes.
    assert min(widths) < max(widths) == int(clean.tokens.mask.sum(dim=1).max())
