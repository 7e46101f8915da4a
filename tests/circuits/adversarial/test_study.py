"""The comparison: its numbers from formulas, the same again by seed, and what is refused."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import binom

from gossamer.circuits.adversarial import FORMAT, AdversarialSettings, adversarial_study
from gossamer.circuits.adversarial.results import CIRCUIT, Comparison
from gossamer.circuits.adversarial.study import mcnemar
from gossamer.errors import GossamerError, UsageError
from gossamer.statistics import wilson

SETTINGS = AdversarialSettings(budget=24, searches=2, prompts=2, choice=4, held_out=8)


@pytest.fixture(scope="module")
def results(ioi_circuit, spool, spool_dictionaries):
    return adversarial_study(ioi_circuit, spool, spool_dictionaries, settings=SETTINGS)


def test_mcnemar_is_the_exact_sign_test():
    for more, fewer, known in ((14, 4, 0.030884), (8, 1, 0.039063), (0, 0, 1.0)):
        first, second = [True] * more + [False] * fewer, [False] * more + [True] * fewer
        found = mcnemar([*first, True, False], [*second, True, False])
        assert found[:2] == (more, fewer)
        assert found[2] == pytest.approx(known, abs=1e-6)
        tail = 2 * binom.cdf(min(more, fewer), more + fewer, 0.5)
        assert found[2] == pytest.approx(min(1.0, tail))


def test_the_study_adds_up_and_comes_out_the_same_again(results, ioi_circuit, spool, spool_dictionaries, tmp_path):
    assert [one.letter for one in results.arms] == list("ABCDEF")
    assert [one.letter for one in results.comparisons] == list("ABCEF")
    for arm in results.arms:
        assert arm.spent <= SETTINGS.searches * SETTINGS.budget
        assert len(arm.held_out) == SETTINGS.held_out
        low, high = wilson(sum(arm.held_out), len(arm.held_out))
        assert (arm.broken.low, arm.broken.high) == (float(low), float(high))
        values = [one.value for one in arm.solved]
        assert values == sorted(values)
        assert len(values) == len(results.budgets)
        assert arm.first <= SETTINGS.budget
    own = results.arm(CIRCUIT)
    for one in results.comparisons:
        other = results.arm(one.letter).held_out
        assert one.more - one.fewer == sum(own.held_out) - sum(other)
    assert results.nodes == len(ioi_circuit.nodes)
    again = adversarial_study(ioi_circuit, spool, spool_dictionaries, settings=SETTINGS)
    assert FORMAT.encode(again) == FORMAT.encode(results)
    assert FORMAT.load(FORMAT.save(tmp_path / "a.json", results)) == results


def test_the_circuit_helps_only_where_it_is_ahead_of_every_rival(results):
    ahead = [Comparison(letter, 20, 2, 0.0001, 15, 2, 0.002) for letter in "ABCEF"]
    assert replace(results, comparisons=tuple(ahead)).verdict.startswith("Knowing the circuit helps:")
    for place, changes in ((0, {"p": 0.06}), (3, {"searches_p": 0.3}), (1, {"more": 1})):
        spoiled = list(ahead)
        spoiled[place] = replace(ahead[place], **changes)
        assert replace(results, comparisons=tuple(spoiled)).verdict.startswith("The circuit added nothing:")
    # That attributions are better than sizes is no condition.
    assert replace(results, comparisons=(*ahead[:4], replace(ahead[4], more=1))).adds


def test_what_is_broken_is_shown_and_repaired(results):
    for one in results.repairs:
        assert 0 < one.prompts <= min(32, sum(results.arm(CIRCUIT).held_out))
        assert 0 <= one.mended <= one.prompts
    assert len(results.failures) == min(8, sum(results.arm(CIRCUIT).held_out))
    assert all(one.after < 0 < one.before for one in results.failures)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0}, "budget: at least 8 expected, found 0"),
        ({"searches": 0}, "searches: at least 1 expected, found 0"),
        ({"held_out": 0}, "held_out: at least 1 expected, found 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        AdversarialSettings(**settings)


def test_circuits_that_cannot_guide_are_refused(ioi_circuit, spool, spool_dictionaries):
    def refused(message, **changes):
        with pytest.raises(UsageError, match=message):
            adversarial_study(replace(ioi_circuit, **changes), spool, spool_dictionaries, settings=SETTINGS)

    inputs = ioi_circuit.inputs
    refused("its own model expected", inputs=replace(inputs, model=replace(inputs.model, sha256="0" * 64)))
    refused("one that records its task expected", inputs=None)
    refused("nodes to search with expected, found none", nodes=())
    refused("masks by role expected, found shared", provenance={"masks": "shared"})
    task = {**inputs.task, "name": "mine", "provenance": {}}
    refused("task mine: one whose right answers can be worked out again", inputs=replace(inputs, task=task))


def test_a_model_that_cannot_do_the_task_is_refused(ioi_circuit, spool, spool_dictionaries, monkeypatch):
    from gossamer.circuits.adversarial import prompts

    def failing(outputs, pairs, rows):
        return -torch.ones(len(outputs))

    monkeypatch.setattr(prompts, "measured", failing)
    with pytest.raises(GossamerError, match=r"12 prompts that .* does expected, found 0"):
        adversarial_study(ioi_circuit, spool, spool_dictionaries, settings=replace(SETTINGS, choice=8))
