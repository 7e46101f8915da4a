"""Effects in a circuit's graph on one prompt: beside exact perturbations of the frozen model, and their sums."""

import pytest
import torch
from circuit_lab import random_dictionary

from gossamer.circuits.candidates import every_node
from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.evaluate.graph_scores import graph_scores
from gossamer.circuits.evaluate.prompt_graphs import EMBEDDING, PROMPTS, explained_inputs, prompt_graph
from gossamer.circuits.study import Study


def test_every_latent_of_exact_dictionaries_leaves_no_error_and_none_leaves_nothing_else(study: Study) -> None:
    every = every_node(study.dictionaries, study.task.role_names, study.model.device)
    whole, none = (prompt_graph(study.splice, circuit, 0) for circuit in (every, every.none()))
    assert whole.effects[:, whole.errors].abs().max() < 1e-12
    scores = graph_scores(whole.effects, whole.errors, whole.tokens, whole.outputs)
    assert (scores.replacement, scores.completeness) == pytest.approx((1.0, 1.0))
    assert none.features == 0
    # The metric is reached by errors alone; they themselves, as circuit-tracer counts, are entered by nothing.
    scores = graph_scores(none.effects, none.errors, none.tokens, none.outputs)
    assert (scores.replacement, scores.completeness) == pytest.approx((0.0, 0.5))


@pytest.mark.parametrize("row", [0, 1])
def test_effects_are_what_sources_add_to_targets_in_the_frozen_model(study: Study, row: int) -> None:
    splice, circuit = study.splice, study.nodes.select(torch.arange(0, len(study.nodes), 3))
    graph = prompt_graph(splice, circuit, row)
    batch, model = splice.batch(slice(row, row + 1)), splice.model
    first, second = splice.dictionaries
    width = batch.roles.shape[1]
    with torch.no_grad(), model.freeze(batch.tokens):
        streams = model.capture(batch.tokens, [EMBEDDING, first, second])
        placed = []
        for index, site in enumerate((first, second)):
            nodes = circuit.select(circuit.site == index)
            for role, latent in zip(nodes.role.tolist(), nodes.latent.tolist(), strict=True):
                for position in torch.nonzero(batch.roles[0] == role).flatten().tolist():
                    value = splice.dictionaries[site].encode_dense(streams[site][0])[position, latent]
                    if value > 0:
                        placed.append((site, position, latent, value))
        assert len(placed) == graph.features

        def read(entry: object, x: torch.Tensor, target: int) -> torch.Tensor:
            site, position, latent, _ = placed[target]
            out = model.capture(batch.tokens, [site], start=(entry, x))[site]
            return splice.dictionaries[site].encode_dense(out[0])[position, latent]

        step = 1e-6
        later = [number for number, one in enumerate(placed) if one[0] == second]
        early = [number for number, one in enumerate(placed) if one[0] == first]
        for target in later[:6]:
            for source in early[:6]:
                _, position, latent, value = placed[source]
                move = torch.zeros_like(streams[first])
                move[0, position] = step * value * splice.dictionaries[first].W_dec[latent]
                change = (read(first, streams[first] + move, target) - read(first, streams[first] - move, target)) / 2
                assert float(graph.effects[target, source]) == pytest.approx(float(change / step), abs=1e-6)
            whole = step * streams[first]
            change = (read(first, streams[first] + whole, target) - read(first, streams[first] - whole, target)) / 2
            assert float(graph.effects[target].sum()) == pytest.approx(float(change / step), abs=1e-6)
        for target in early[:6]:
            for token in range(width):
                move = torch.zeros_like(streams[EMBEDDING])
                move[0, token] = step * streams[EMBEDDING][0, token]
                stream = streams[EMBEDDING]
                change = (read(EMBEDDING, stream + move, target) - read(EMBEDDING, stream - move, target)) / 2
                column = graph.features + 2 * width + token
                assert float(graph.effects[target, column]) == pytest.approx(float(change / step), abs=1e-6)


def test_the_metric_is_reached_by_the_last_cut_alone(study: Study) -> None:
    graph = prompt_graph(study.splice, study.nodes, 0)
    width = study.splice.batch(slice(0, 1)).roles.shape[1]
    first = int((prompt_graph(study.splice, study.nodes.select(study.nodes.site == 0), 0)).features)
    metric = graph.effects[-1]
    assert not metric[:first].any()
    assert not metric[graph.features : graph.features + width].any()
    assert metric[first : graph.features].any()
    assert not graph.effects[graph.errors | graph.tokens].any()
    assert torch.equal(graph.outputs.nonzero().flatten(), torch.tensor([len(metric) - 1]))


def test_scores_are_means_over_held_out_prompts(study: Study) -> None:
    found = explained_inputs(study.evaluator, study.nodes)
    assert found is not None
    splice = study.evaluator.splice
    graphs = [prompt_graph(splice, study.nodes, row) for row in range(len(splice.examples))]
    scores = [graph_scores(one.effects, one.errors, one.tokens, one.outputs) for one in graphs]
    assert found.prompts == len(scores) <= PROMPTS
    assert found.replacement.value == pytest.approx(sum(one.replacement for one in scores) / len(scores))
    assert found.completeness.value == pytest.approx(sum(one.completeness for one in scores) / len(scores))
    assert found.completeness.low <= found.completeness.value <= found.completeness.high


def test_dictionaries_that_cut_no_stream_are_not_measured(study: Study) -> None:
    site = next(iter(study.dictionaries))
    normalising = random_dictionary(site, n_latents=32, normalisation="layer_norm")
    other = Study(study.model, {site: normalising}, study.task, study.settings)
    with pytest.warns(match="explained variance"):
        evaluator: Evaluator = other.evaluator
    assert explained_inputs(evaluator, other.nodes) is None
