"""Closer looks at failures: each against the model asked by hand, and every prompt that was tried on disk."""

import copy
import random
from dataclasses import replace

import pytest
import torch

from gossamer import LanguageModel
from gossamer.circuits.adversarial import AdversarialSettings, PromptRecord, adversarial_study, edit_space
from gossamer.circuits.adversarial.acceptance import FailureCheck, check_failures, float32_model
from gossamer.circuits.adversarial.charge import discovery_passes
from gossamer.circuits.adversarial.prompts import CountedModel, PromptEncoder, text_costs, token_distance
from gossamer.circuits.adversarial.results import CIRCUIT
from gossamer.circuits.adversarial.successes import accepted
from gossamer.errors import GossamerError, UsageError
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

SETTINGS = AdversarialSettings(budget=24, searches=2, prompts=2, choice=4, held_out=8)


@pytest.fixture(scope="module")
def pairs(spool, ioi_task):
    space = edit_space("ioi", ioi_task.provenance, (*ioi_task.train.prompts, *ioi_task.test.prompts), 0)
    encoder = PromptEncoder(PromptTokenizer(spool.tokenizer, True), ioi_task.role_names)
    scenes, rng = space.scenes(12, 0, held_out=False), random.Random(0)
    return encoder.pairs(encoder.rows([space.apply(one, space.random_recipe(rng, 3)) for one in scenes]))


@pytest.fixture(scope="module")
def study(ioi_circuit, spool, spool_dictionaries, tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "prompts.jsonl"
    found = adversarial_study(ioi_circuit, spool, spool_dictionaries, settings=SETTINGS, prompts_file=path)
    return found, PromptRecord.load(path), path


def logits_by_hand(model, pairs, row):
    ids = pairs.clean.tokens.ids[row, pairs.clean.tokens.mask[row]][None]
    with torch.no_grad():
        return model.hf(ids).logits[0, -1].float()


def margin_by_hand(logits, pairs, row):
    right, wrong = pairs.answers(slice(row, row + 1))[0], pairs.incorrect_answers(slice(row, row + 1))[0]
    return (logits[right[right >= 0]].max() - logits[wrong[wrong >= 0]].max()).item()


def test_every_look_is_what_the_model_says_when_asked_by_hand(spool, spool_dictionaries, pairs):
    checks = check_failures(spool, float32_model(spool), spool_dictionaries, pairs, bos=True)
    assert float32_model(spool) is spool
    said = set()
    for row, check in enumerate(checks):
        assert check.margin == pytest.approx(margin_by_hand(logits_by_hand(spool, pairs, row), pairs, row), abs=1e-3)
        assert check.in_float32 == check.margin
        ids, new = pairs.clean.tokens.ids[row, pairs.clean.tokens.mask[row]].tolist(), []
        for _ in range(5):
            new.append(int(spool.hf(torch.tensor([[*ids, *new]])).logits[0, -1].argmax()))
        text = "".join(map(spool.word, new))
        assert text.startswith(check.continuation), "it ends earlier where the text does"
        right, wrong = pairs.answers()[row].tolist(), pairs.incorrect_answers()[row].tolist()
        first = [token in right for token in new[: len(new)] if token in (*right, *wrong)]
        expected = "neither" if not first else "right" if first[0] else "wrong"
        assert check.said == expected or check.continuation != text
        said.add(check.said)
        edits = {}
        for site, dictionary in spool_dictionaries.items():

            def replaced(x, dictionary=dictionary):
                return torch.cat([x[:, :1], dictionary.reconstruct(x, dictionary.encode_dense(x))[:, 1:]], dim=1)

            edits[site] = replaced
        one = pairs.select([row])
        with spool.edit(edits):
            spliced = CountedModel(spool).margins(one).item()
        assert check.with_dictionaries == pytest.approx(spliced, abs=2e-3)
    assert len(said) > 1, "prompts of one outcome tell looks not apart"


def test_a_model_in_half_precision_is_asked_in_float32_too(spool, spool_dictionaries, pairs):
    half = LanguageModel(copy.deepcopy(spool.hf).bfloat16(), spool.tokenizer, spool.name, spool.family)
    full = float32_model(half)
    assert (half.dtype, full.dtype) == (torch.bfloat16, torch.float32)
    few = pairs.select(range(4))
    checks = check_failures(half, full, {s: copy.deepcopy(d) for s, d in spool_dictionaries.items()}, few, bos=True)
    for row, check in enumerate(checks):
        assert check.margin == pytest.approx(margin_by_hand(logits_by_hand(half, few, row), few, row), abs=0.3)
        exact = margin_by_hand(logits_by_hand(full, few, row), few, row)
        assert check.in_float32 == pytest.approx(exact, abs=1e-3)
    assert any(check.in_float32 != check.margin for check in checks)


def test_a_failure_stands_only_where_every_look_agrees():
    good = FailureCheck(-1.5, -1.2, -0.1, " Sam was", "wrong")
    assert good.stands
    spoiled = {"margin": -0.9, "in_float32": -1.0, "with_dictionaries": 0.2, "said": "neither"}
    assert not any(replace(good, **{name: value}).stands for name, value in spoiled.items())
    assert not replace(good, said="right").stands


def test_distances_and_costs_of_text_are_those_of_formulas(spool, pairs):
    assert token_distance(list(map(ord, "kitten")), list(map(ord, "sitting"))) == 3
    assert token_distance([1, 2, 3], [2, 3, 4]) == 2
    assert (token_distance([], [1, 2]), token_distance([5], [5])) == (2, 0)
    texts = [pairs.clean.tokens.ids[row, pairs.clean.tokens.mask[row]].tolist() for row in range(3)]
    for text, cost in zip(texts, text_costs(spool, texts, batch_size=2), strict=True):
        labels = torch.tensor([text])
        assert cost == pytest.approx(spool.hf(labels, labels=labels).loss.item(), abs=1e-3)


def test_every_prompt_that_was_tried_is_on_disk(study, spool):
    results, record, path = study
    assert record.about["circuit"] == results.circuit
    for arm in results.arms:
        own = [one for one in record.tried if one.arm == arm.letter]
        assert {one.search for one in own} == {0, 1}
        # A prompt costs a pass: what is left of an arm's passes went into readings.
        assert len(own) <= arm.spent
        assert len(own) == arm.spent or arm.letter in "CDEF"
        broken = [one.success for one in record.successes if one.arm == arm.letter]
        assert len(broken) == sum(arm.held_out)
        assert arm.accepted == accepted(broken)
        assert arm.accepted.stand <= min(arm.accepted.below, arm.accepted.continued) <= arm.accepted.broken
    for one in record.tried[::17]:
        assert one.edits
        assert one.parent is None or len(one.parent) <= SETTINGS.edits
    evolved = [one for one in record.tried if one.arm == "B" and one.parent is not None]
    assert evolved
    known = {()} | {one.edits for one in record.tried if one.arm == "B"}
    assert {one.parent for one in evolved} <= known
    first = path.read_text().split("\n", 1)[0]
    assert '"format": "gossamer.adversarial_prompts.1"' in first


def test_successes_have_margins_of_the_model_and_what_moved(study, spool):
    results, record, _ = study
    for _, one in ((item.arm, item.success) for item in record.successes):
        assert one.check.margin < 0 < one.clean_margin
        last = spool.hf(torch.tensor([one.ids])).logits[0, -1]
        right = spool.tokenizer(one.answer, add_special_tokens=False).input_ids[0]
        assert (last[right] < last.max()).item()
        assert spool.tokenizer.decode(one.ids, skip_special_tokens=True).strip() == one.text.strip()
        assert one.family.split("/")[0]
        assert 1 <= len(one.moved) <= 3
        assert all(place < len(results.detectors) for place, _ in one.moved)
    assert any(one.success.repaired is not None for one in record.successes)


def test_clusters_hold_every_search_once(study):
    results, _, _ = study
    for arm in results.arms:
        assert sum(one.searches for one in arm.clusters) == SETTINGS.searches
        assert sum(one.recipes for one in arm.clusters) == arm.recipes
        assert len({(one.kinds, one.detector) for one in arm.clusters}) == len(arm.clusters)
        assert arm.distance > 0


def test_the_circuit_is_charged_once(study, ioi_circuit, ioi_task, spool):
    results, _, _ = study
    assert results.discovery is None, "nodes that no search found"
    assert results.first_charged(CIRCUIT) is None
    assert "not known" in results.cost_told
    searched = {"method": "mask", "method_settings": {"steps": "40", "batch_size": "16"}, "validation": 0.0}
    passes = discovery_passes(replace(ioi_circuit, provenance=searched), spool, ioi_task)
    twice = discovery_passes(replace(ioi_circuit, provenance={**searched, "validation": 0.15}), spool, ioi_task)
    steps = {**searched, "method_settings": {"steps": "80", "batch_size": "16"}}
    longer = discovery_passes(replace(ioi_circuit, provenance=steps), spool, ioi_task)
    # 40 steps more of 16 prompts, of three passes each, through the layers after the first dictionary.
    share = (longer - passes) / (3 * 40 * 16)
    assert 0 < share <= 1
    assert twice - passes > longer - passes
    charged = replace(results, discovery=passes)
    own = results.arm(CIRCUIT).first
    assert charged.first_charged(CIRCUIT) == pytest.approx(own + (results.setup + passes) / SETTINGS.searches)
    assert charged.first_charged("A") == results.arm("A").first


def test_other_files_are_refused(tmp_path, study):
    (tmp_path / "other.jsonl").write_text('{"format": "gossamer.other.1"}\n')
    with pytest.raises(UsageError, match=r"expected prompts of gossamer adversarial"):
        PromptRecord.load(tmp_path / "other.jsonl")
    head = study[2].read_text().split("\n", 1)[0]
    (tmp_path / "damaged.jsonl").write_text(head + '\n{"kind": "tried"}\n')
    with pytest.raises(GossamerError, match=r"line 2: a prompt expected"):
        PromptRecord.load(tmp_path / "damaged.jsonl")
