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
