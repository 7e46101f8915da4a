"""Search, baselines, edges and evaluation on every metric, against float64 formulas of a network by hand."""

import math
from dataclasses import replace

import pytest
import torch
from circuit_lab import all_nodes, by_hand, grids_of, random_ablation, random_choice, random_dictionary, sites_of
from planted import planted
from torch import Tensor

from gossamer.circuits.attribution import attribution_patching, integrated_gradients
from gossamer.circuits.edges import circuit_edges, direct_effects
from gossamer.circuits.evaluate.cards import final_gradient
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import FullModel
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.metric import METRICS
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tasks.task import Task

NAMES = ("resid_post.1", "resid_post.2")
STEP = 1e-5


def with_metric(examples: PromptPairs, name: str) -> PromptPairs:
    """The same prompts with the metric, and with two further right and wrong answers where it compares answers."""
    if name == "kl":
        return replace(examples, metric=METRICS[name])
    n = len(examples)
    more = torch.stack([torch.randperm(30, generator=torch.Generator().manual_seed(row)) for row in range(n)])
    own = (more == examples.answer[:, None]) | (more == examples.incorrect[:, None])
    rest = more[~own].view(n, 28)
    return replace(examples, metric=METRICS[name], also_correct=rest[:, :2], also_incorrect=rest[:, 2:4])


def make_splice(model: LanguageModel, task: Task, name: str, errors: str = "mean", batch_size: int = 3) -> Splice:
    sites = sites_of(*NAMES)
    dictionaries = {site: random_dictionary(site, seed=seed) for seed, site in enumerate(sites)}
    ablation, nodes = random_ablation(sites, errors=errors), all_nodes(dictionaries)
    return Splice.of(model, dictionaries, with_metric(task.test, name), ablation, nodes, batch_size=batch_size)


def formula(name: str, logits: Tensor, splice: Splice) -> Tensor:
    """The metric of every prompt in float64, from its definition."""
    examples = splice.examples
    if name == "kl":
        own = splice.model.logits(examples.clean.tokens, at=examples.clean.answer_position).log_softmax(dim=1)
        return (own.exp() * (own - logits.log_softmax(dim=1))).sum(dim=1)
    values = logits.softmax(dim=1) if name == "prob_diff" else logits
    right, incorrect = values.gather(1, examples.answers()), values.gather(1, examples.incorrect_answers())
    if name == "logit_margin":
        return right.amax(dim=1) - incorrect.amax(dim=1)
    return right.sum(dim=1) - incorrect.sum(dim=1) if name == "prob_diff" else right.mean(dim=1) - incorrect.mean(dim=1)


def measured(name: str, splice: Splice, nodes: Nodes, mask: Tensor, rest: float) -> Tensor:
    with torch.no_grad():
        return formula(name, by_hand(splice, grids_of(nodes, mask, splice.dictionaries, rest)), splice)


@pytest.fixture(params=sorted(METRICS))
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def splice(model: LanguageModel, task: Task, name: str) -> Splice:
    return make_splice(model, task, name)


def test_faithfulness_by_hand(splice: Splice, name: str) -> None:
    evaluator, circuit = Evaluator(splice), random_choice(splice.nodes, 40)
    with torch.no_grad():
        own = splice.model.logits(splice.examples.clean.tokens, at=splice.examples.clean.answer_position)
    full, one = formula(name, own, splice).mean(), torch.ones(len(circuit), dtype=torch.float64)
    kept = measured(name, splice, circuit, one, 0.0).mean()
    empty = measured(name, splice, circuit.none(), one[:0], 0.0).mean()
    expected = (1 - kept / empty) if name == "kl" else kept / full
    assert evaluator.kept(circuit) == pytest.approx(expected.item(), rel=1e-4)
    found = evaluator.task_metrics("circuit", evaluator.prompt_metrics(circuit))
    assert found.metric.value == pytest.approx(kept.item(), rel=1e-4)
    assert found.faithfulness.value == pytest.approx(expected.item(), rel=1e-4)
    assert evaluator.faithfulness(evaluator.full.prompt_metrics) == 1.0
    if name == "kl":
        assert evaluator.kept(circuit.none()) == 0.0
        assert found.kl == pytest.approx(found.metric.value)


def test_a_score_is_the_slope_of_what_helps(splice: Splice, name: str) -> None:
    found, one = attribution_patching(splice), torch.ones(len(splice.nodes), dtype=torch.float64)
    sign = -1 if name == "kl" else 1
    for node in [*found.abs().topk(3).indices.tolist(), 5]:
        ends = []
        for step in (STEP, -STEP):
            mask = one.clone()
            mask[node] += step
            ends.append(measured(name, splice, splice.nodes, mask, 1.0).mean())
        assert found[node].item() == pytest.approx(sign * ((ends[0] - ends[1]) / (2 * STEP)).item(), rel=2e-3, abs=1e-6)
    assert found.abs().max() > 1e-4


def test_integrated_gradients_sum_to_what_a_site_is_worth(model: LanguageModel, task: Task, name: str) -> None:
    splice = make_splice(model, task, name, batch_size=8)
    # A margin has kinks, where another answer becomes the best.
    found = integrated_gradients(splice, points=200 if name == "logit_margin" else 50)
    sign = -1 if name == "kl" else 1
    for index in range(2):
        nodes = splice.nodes.select(splice.nodes.site == index)
        ones = torch.ones(len(nodes), dtype=torch.float64)
        worth = (measured(name, splice, nodes, ones, 1.0) - measured(name, splice, nodes, 0 * ones, 1.0)).mean().item()
        assert sign * found[splice.nodes.site == index].sum().item() == pytest.approx(worth, rel=0.05, abs=0.01)


def test_edges_to_the_metric(splice: Splice, name: str) -> None:
    circuit = random_choice(splice.nodes, 30)
    last = torch.nonzero(circuit.site == 1).squeeze(1)
    effects, one = direct_effects(splice, circuit).weights[-1], torch.ones(len(circuit), dtype=torch.float64)
    seen: list[Tensor] = []

    def held(scale: Tensor) -> Tensor:
        seen.append(scale)
        return seen[0]

    def metric(mask: Tensor) -> Tensor:
        with torch.no_grad(), splice.model.edit({"final_norm_scale": held}):
            logits = by_hand(splice, grids_of(circuit, mask, splice.dictionaries, 0.0))
        return formula(name, logits, splice).mean()

    metric(one)  # whose scale is held from now on
    for node in last[effects[last].abs().topk(3).indices].tolist():
        ends = []
        for step in (STEP, -STEP):
            mask = one.clone()
            mask[node] += step
            ends.append(metric(mask))
        assert effects[node].item() == pytest.approx(((ends[0] - ends[1]) / (2 * STEP)).item(), rel=2e-3, abs=1e-6)
    edges = circuit_edges(splice, circuit, keep=2)
    assert edges[-1].target == METRICS[name].name == name


def test_nothing_changes_a_distance_at_the_model_itself(splice: Splice, name: str) -> None:
    found = final_gradient(splice)
    assert found.isnan().all() if name == "kl" else found.abs().max() > 0


def test_kl_has_no_gradient_where_the_network_is_the_model(model: LanguageModel, task: Task) -> None:
    splice = make_splice(model, task, "kl", errors="keep")
    with pytest.raises(UsageError, match="KL to the model has no gradient where exact errors make the network"):
        attribution_patching(splice)
    assert attribution_patching(make_splice(model, task, "prob_diff", errors="keep")).abs().max() > 0
    assert integrated_gradients(splice).abs().max() > 1e-4


@pytest.mark.parametrize("loss", ["metric", "kl"])
def test_the_search_finds_a_known_circuit_by_any_metric(model: LanguageModel, name: str, loss: str) -> None:
    known = planted(model)
    examples = replace(known.splice.examples, metric=METRICS[name])
    splice = Splice.of(
        model, known.splice.dictionaries, examples, known.splice.ablation, known.splice.nodes, batch_size=8
    )
    one, nothing = torch.ones(len(splice.nodes)), torch.zeros(len(splice.nodes))
    full = FullModel.measure(
        lambda rows: splice.outputs(one, rows), examples, 8, lambda rows: splice.outputs(nothing, rows)
    )
    settings = SearchSettings(loss, sizes=(40, 10, 5, 3), steps=60, batch_size=12, learning_rate=0.3)
    path = search_path(splice, full, settings)
    assert {splice.nodes.keys()[node] for node in path.circuits[-1].tolist()} == known.keys
    kept = [
        full.faithfulness(full.prompt_metrics_of(lambda rows, c=c: splice.outputs(path.mask(c), rows)))
        for c in path.circuits
    ]
    assert all(map(math.isfinite, kept))
    assert kept[-1] > 0.8
