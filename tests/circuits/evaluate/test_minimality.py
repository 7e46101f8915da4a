"""Effects of single nodes by brute force."""

import pytest
import torch
from circuit_lab import all_nodes, by_hand, differences, grids_of, node_at, random_choice, random_dictionary, sites_of
from planted import CHANGING, SITE, STEADY, planted

from gossamer.circuits.ablation import Ablation
from gossamer.circuits.evaluate.bench import Bench
from gossamer.circuits.evaluate.minimality import node_effects
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


def test_effects_by_hand(model: LanguageModel, task: Task) -> None:
    sites = sites_of("resid_post.1", "resid_post.2")
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    ablation = Ablation.measure(model, dictionaries, task)
    splice = Splice.of(model, dictionaries, task.test, ablation, all_nodes(dictionaries), batch_size=3)
    circuit = random_choice(splice.nodes, 15)
    with torch.no_grad():
        own = model.logits(task.test.clean.tokens, at=task.test.clean.end)

    def faithfulness(mask: torch.Tensor) -> float:
        logits = by_hand(splice, grids_of(circuit, mask, dictionaries, 0.0))
        return (differences(logits, task.test).mean() / differences(own, task.test).mean()).item()

    everything = torch.ones(len(circuit), dtype=torch.float64)
    expected = [
        faithfulness(everything) - faithfulness(everything.index_fill(0, torch.tensor([node]), 0.0))
        for node in range(len(circuit))
    ]
    found = node_effects(Bench(splice), circuit)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    assert max(abs(value) for value in expected) > 0.01


def test_what_is_free_is_worth_nothing(model: LanguageModel) -> None:
    known = planted(model)
    keys = [node_at(SITE, "END", latent) for latent in (*STEADY, CHANGING)] + [node_at(SITE, "A", STEADY[0])]
    circuit = known.splice.nodes.select(known.splice.nodes.find(keys))
    found = dict(zip(circuit.keys(), node_effects(Bench(known.splice), circuit).tolist(), strict=True))
    assert found[keys[3]] == 0.0
    # The steady latents raise the answer by 0.1 each, whatever the model itself says of it.
    metric = Bench(known.splice).full.outcome.metric.double().mean().item()
    assert [found[key] * metric for key in keys[:2]] == pytest.approx([0.1, 0.1], abs=0.01)
    assert len(node_effects(Bench(known.splice), circuit.none())) == 0
