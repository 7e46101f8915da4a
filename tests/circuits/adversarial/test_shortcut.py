"""A planted shortcut: a model that agrees with the nearest noun, and searches that have to find that out."""

import pytest
from nearest_noun import nearest_noun_model, planted

from gossamer.circuits.adversarial import AdversarialSettings, adversarial_study
from gossamer.circuits.adversarial.prompts import CountedModel
from gossamer.circuits.adversarial.results import CIRCUIT
from gossamer.circuits.adversarial.study import mcnemar
from gossamer.tasks import get

SETTINGS = AdversarialSettings(budget=64, searches=6, prompts=2, choice=6, held_out=20)


@pytest.fixture(scope="module")
def task(spool):
    return get("sva-nounpp").generate(spool.tokenizer, n=96, bos=True)


@pytest.fixture(scope="module")
def found(spool, task):
    model, dictionaries, circuit = planted(spool.tokenizer, task)
    return adversarial_study(circuit, model, dictionaries, settings=SETTINGS)


def test_the_model_agrees_with_the_nearest_noun_and_nothing_else(spool, task):
    margins = CountedModel(nearest_noun_model(spool.tokenizer)).margins(task.test)
    for prompt, margin in zip(task.test.prompts, margins.tolist(), strict=True):
        subject, noun = prompt.case.split("_")
        assert (margin > 1) == (subject == noun)
        assert abs(margin) > 1


def test_the_shortcut_is_read_off_the_circuit(found):
    (detector,) = found.detectors
    assert detector.shortcut
    assert set(detector.reads) == {"noun"}
    assert detector.reads["noun"] > 0.95


def test_the_circuit_finds_it_within_64_passes_and_a_wrong_one_is_no_better_than_chance(found):
    own, random, wrong = (found.arm(letter) for letter in (CIRCUIT, "A", "E"))
    assert own.solved[-1].value == 1
    # The recipe changes which number stands nearest to the verb, and so breaks prompts of words it never saw.
    assert sum(own.held_out) >= 0.95 * len(own.held_out)
    assert any("noun" in edit or "phrase" in edit for edit in own.recipe)
    assert mcnemar(wrong.held_out, random.held_out)[2] > 0.05
    # So simple a failure is found by every arm: that the circuit is not said to help is part of what is tested.
    assert not found.adds


def test_putting_back_what_the_shortcut_read_repairs_it(found):
    whole = found.repairs[0]
    assert whole.share == pytest.approx(1, abs=0.05)
    assert whole.mended == whole.prompts > 0
    assert whole.random < 0.5
