"""What is spared where passes are expensive: nothing on small networks, in proportion on large ones."""

import pytest
import torch
from circuit_lab import all_nodes, random_ablation, random_dictionary, sites_of

from gossamer.circuits.cost import affordable, first_prompts, prompt_operations, report_seconds, spared, uncounted
from gossamer.circuits.methods import ASKED_FOR, METHODS
from gossamer.circuits.search import SearchSettings, search_path
from gossamer.circuits.splice import Splice
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.task import Task


@pytest.fixture
def splice(model: LanguageModel, task: Task) -> Splice:
    sites = sites_of("resid_post.0", "resid_post.1")
    dictionaries = {site: random_dictionary(site) for site in sites}
    return Splice.of(model, dictionaries, task.train, random_ablation(sites), all_nodes(dictionaries))


def test_a_pass_costs_two_operations_a_weight_and_token(splice: Splice) -> None:
    layers = list(splice.model.hf.transformer.h)[1:]
    weights = sum(one.numel() for layer in layers for one in layer.parameters() if one.dim() > 1)
    tokens = splice.examples.clean.tokens.mask.sum().item() / len(splice.examples)
    found = prompt_operations(splice.model, splice.prompts.network.start, splice.examples)
    assert found == pytest.approx(2 * weights * tokens)


def test_small_networks_are_spared_nothing(splice: Splice) -> None:
    assert affordable(splice, 400, 100) == 400
    assert first_prompts(splice, 5).tolist() == [0, 1, 2, 3, 4]
    assert len(first_prompts(splice, 500)) == len(splice.examples)


def test_a_report_costs_its_scores_its_curves_and_its_searches() -> None:
    def seconds(*methods: str, reruns: int = 0, sites: int = 3) -> float:
        return report_seconds(10.0, 1000, methods, sites=sites, training=200, held_out=50, reruns=reruns)

    alone, signed = seconds("attribution patching"), "attribution patching, signed"
    # A gradient took 10 ms: one of each of 200 prompts for the score, passes of the held-out ones for its curve.
    curve = seconds("random") - seconds()
    assert alone - seconds() == pytest.approx(200 * 0.01 + curve)
    assert seconds("attribution patching", signed) - alone == pytest.approx(curve), "a score is taken once"
    by_site = "integrated gradients by site"
    assert seconds(by_site, sites=4) - seconds(by_site) == pytest.approx(10 * 200 * 0.01)
    assert seconds(reruns=3) - seconds(reruns=2) == pytest.approx(13.0)
    assert seconds(reruns=1) - seconds() == pytest.approx(3 * 13.0), "halves of the prompts are searched too"


def test_what_a_report_is_said_to_cost_leaves_out_the_searches_of_other_methods_alone() -> None:
    rankings = [name for name in METHODS if name not in ("mask", "reference recipe", *ASKED_FOR)]
    assert len(rankings) > 8
    assert uncounted(rankings) == []
    assert uncounted(["RelP", "reference recipe", *ASKED_FOR]) == ["reference recipe", *ASKED_FOR]


def test_large_networks_get_less_in_proportion_and_never_less_than_the_least(
    splice: Splice, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [spared(splice.model, each, 400, 100) for each in (4e8, 8e8, 1e9, 2.7e9, 1e12)] == [400, 200, 160, 100, 100]
    assert spared(splice.model, 1e12, 12, 64) == 12, "no more than there are"
    monkeypatch.setattr(LanguageModel, "device", torch.device("cuda"))
    assert spared(splice.model, 1e12, 400, 100) == 400


def test_what_is_asked_for_is_done_and_the_default_is_written_down(
    splice: Splice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gossamer.circuits.evaluate.evaluator import Evaluator

    full = Evaluator(splice).full
    monkeypatch.setattr("gossamer.circuits.cost._CHEAP", 1.0)
    path = search_path(splice, full, SearchSettings(sizes=(5,), steps=3, batch_size=4))
    assert (path.settings["steps"], path.settings["batch_size"]) == ("3", "4")
    path = search_path(splice, full, SearchSettings(sizes=(5,), batch_size=2))
    assert path.settings["steps"] == "100"
