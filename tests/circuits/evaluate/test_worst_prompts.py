"""Percentiles and worst prompts, against sorting by hand."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import all_nodes, random_ablation, random_dictionary, sites_of

from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.worst_prompts import prompt_tail
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


@pytest.fixture(scope="module")
def evaluator(model: LanguageModel, task: Task) -> Evaluator:
    (site,) = sites_of("resid_post.1")
    dictionaries = {site: random_dictionary(site)}
    return Evaluator(Splice.of(model, dictionaries, task.test, random_ablation([site]), all_nodes(dictionaries)))


def test_the_worst_prompts_come_first_with_what_was_measured_of_them(evaluator: Evaluator, task: Task) -> None:
    circuit = evaluator.prompt_metrics(evaluator.splice.nodes.none())
    found = prompt_tail(evaluator.full, circuit, shown=3)
    ranked = sorted(range(len(task.test)), key=lambda row: -circuit.kl[row].item())
    assert [one.text for one in found.worst] == [task.test.prompts[row].clean_text for row in ranked[:3]]
    assert [one.answer for one in found.worst] == [task.test.prompts[row].answer for row in ranked[:3]]
    assert [one.kl for one in found.worst] == [circuit.kl[row].item() for row in ranked[:3]]
    assert [one.circuit for one in found.worst] == [circuit.metric[row].item() for row in ranked[:3]]
    assert [one.full for one in found.worst] == [evaluator.full.prompt_metrics.metric[row].item() for row in ranked[:3]]
    assert found.mean == pytest.approx(circuit.kl.double().mean().item())


@pytest.mark.parametrize(("share", "name"), [(0.95, "p95"), (0.99, "p99")])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(
    evaluator: Evaluator, share: float, name: str
) -> None:
    circuit = evaluator.prompt_metrics(evaluator.splice.nodes.none())
    kl = torch.rand(len(circuit.kl), generator=torch.Generator().manual_seed(0))
    found = getattr(prompt_tail(evaluator.full, replace(circuit, kl=kl)), name)
    values = kl.double().tolist()
    assert found == min(one for one in values if sum(value <= one for value in values) >= share * len(values))
