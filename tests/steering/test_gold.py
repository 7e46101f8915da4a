"""A judge that cannot judge ranks nothing, however readable its answers are."""

import json
from dataclasses import replace

import pytest
from test_concept import TEXTS, WORDS, planted

from gossamer.chat import Failure
from gossamer.chat.chat import Ability
from gossamer.report.steering import judge_lines
from gossamer.statistics import auroc, newcombe
from gossamer.steering import Ratings, judge_gold, prepare_concept, sweep
from gossamer.steering.completions import SamplingPlan
from gossamer.steering.gold import JudgeGold
from gossamer.steering.sweep import gold_of, load_sweep, measured_benefits

SAD = [f"Mary went to the store number {one} and she was sad" for one in range(12)]
PLAIN = [f"Mary went to the store number {one} and she was at" for one in range(12)]


class Rater:
    """Rates the concept by a function of the completion, and counts what it is asked."""

    name = "rater"

    def __init__(self, concept):
        self.concept, self.asked = concept, []

    def rate(self, concept, prompts, completions):
        self.asked += zip(prompts, completions, strict=True)
        answers = [self.concept(text) for text in completions]
        return [one if isinstance(one, Failure) else Ratings(one, 2, 2) for one in answers]


def knows(text):
    return 2.0 * ("sad" in text)


def always(text):
    return 2.0


def test_known_answers_tell_judges_apart():
    judge = Rater(knows)
    found = judge_gold(judge, WORDS, SAD, PLAIN)
    assert found.ability is Ability.ABLE
    assert found.said == str(found)
    assert (found.rated, found.failed) == (20, 0)
    assert found.auroc == newcombe(1.0, 10, 10)
    # The beginning is the prompt, the rest the completion; kinds come in turn.
    assert judge.asked[0] == ("Mary went to the", " store number 0 and she was sad")
    assert ["sad" in text for _, text in judge.asked[:4]] == [True, False, True, False]
    coin = judge_gold(Rater(always), WORDS, SAD, PLAIN)
    assert coin.auroc.value == 0.5
    assert coin.ability is Ability.AT_CHANCE
    assert coin.said.endswith("; it is at chance, or not far enough from it: it ranks nothing")
    upside_down = judge_gold(Rater(lambda text: 2 - knows(text)), WORDS, SAD, PLAIN)
    assert upside_down.auroc.value == 0
    assert upside_down.ability is Ability.AT_CHANCE
    some = judge_gold(Rater(lambda text: Failure.UNPARSED if "3" in text else knows(text)), WORDS, SAD, PLAIN)
    assert (some.rated, some.failed, some.ability) == (18, 2, Ability.ABLE)
    for kind in (Failure.ERROR, Failure.UNPARSED):
        failing = judge_gold(Rater(lambda text, kind=kind: kind), WORDS, SAD, PLAIN)
        assert (failing.auroc, failing.failed, failing.ability) == (None, 20, Ability.UNANSWERED)
        assert "chance" not in failing.said
        assert failing.said.endswith("; it did not answer in a form that could be read: it ranks nothing")
    assert judge_gold(Rater(knows), WORDS, SAD[:4], PLAIN) is None
    for one in (found, failing):
        assert JudgeGold.from_json(json.loads(json.dumps(one.to_json()))) == one
    # An interval that reaches .5 is not enough, whatever the value.
    few = judge_gold(Rater(lambda text: knows(text) if "1" in text or "2" in text else 1.0), WORDS, SAD, PLAIN)
    assert few.auroc.value == auroc([2.0] * 2 + [1.0] * 8, [0.0] * 2 + [1.0] * 8)
    assert few.ability is Ability.AT_CHANCE


@pytest.mark.parametrize(("concept", "ranks"), [(knows, True), (always, False)])
def test_a_sweep_asks_once_and_shows_no_curve_of_a_judge_at_chance(tiny_gpt2, tmp_path, concept, ranks):
    judge = Rater(concept)
    made = prepare_concept(
        tiny_gpt2,
        planted(tiny_gpt2),
        ["sad"],
        TEXTS,
        prompts=["Mary went", "she was"],
        neutral=8,
        rows=(),
        sampling=SamplingPlan(samples=1, max_new_tokens=2),
        judge=judge,
    )
    # Enough tokens that something is left behind a prompt of four words.
    texts = tiny_gpt2.tokenize([text for text in TEXTS if "sad" in text][:8])
    plan = replace(made.plan, target=texts)
    cells = made.steering.cells([1.0])
    record = sweep(tiny_gpt2, cells, plan, tmp_path)
    gold = gold_of(record)
    assert (gold.ability is Ability.ABLE) == ranks
    assert ("judged" in measured_benefits(record)) == ranks
    assert ("it ranks nothing" in " ".join(judge_lines(record))) == (not ranks)
    assert gold_of(load_sweep(tmp_path)) == gold
    count = len(judge.asked)
    sweep(tiny_gpt2, cells, plan, tmp_path)
    assert len(judge.asked) == count
