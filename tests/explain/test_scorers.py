"""Scorers: a planted token scores 1, wrong sentences half, and every published shortcut is seen through."""

import json
import random
import re

import pytest
from explain_fixtures import WINDOWS, Script, feature, planted_store, window
from scripted_server import with_chances

from gossamer.chat.chat import Ability, Failure, TokenChances
from gossamer.errors import UsageError
from gossamer.explain import ChatJudge, ChatReply, Explanation, FeatureWindows, RuleJudge, WindowedCorpus
from gossamer.explain.controls import gold_ability, gold_items, judged, shuffled_explanations
from gossamer.explain.judges import Marked, unknown_places
from gossamer.explain.scorers import SCORERS, Trial, fade, fuzzing, fuzzing_active, intruder, saebench, saebench_windows
from gossamer.explain.windows import feature_windows
from gossamer.store import FeatureStore

RULE = 'activates on " dog" = 2'
WORDS = ("cat", "sat", "mat", "ran", "far", "sun", "sky")


def windows(count=10):
    """A feature of the word dog: windows of 8 words, with one dog or none."""
    draw = random.Random(0)

    def text(dog):
        words = [draw.choice(WORDS) for _ in range(8)]
        if dog is not None:
            words[dog] = "dog"
        return " ".join(words)

    places = [draw.randrange(8) for _ in range(count)]
    positives = tuple(window(text(place), place, stratum=one % 2) for one, place in enumerate(places))
    negatives = tuple(window(text(None), kind="random") for _ in range(count))
    return FeatureWindows(feature(0), 1.0, positives, positives, positives, negatives, negatives)


TRIAL = Trial(windows(), RULE)


@pytest.mark.parametrize("name", ["detection", "detection_random", "fuzzing", "fuzzing_active", "simulation"])
def test_a_planted_token_scores_one_and_another_word_does_not(name):
    found = SCORERS[name](TRIAL, RuleJudge())
    assert found.value == pytest.approx(1.0)
    assert found.items.failures == 0
    assert found.high == pytest.approx(1.0)
    wrong = SCORERS[name](Trial(windows(), 'activates on " cat" = 1'), RuleJudge())
    assert wrong.value is None or wrong.value < 0.75


def test_hard_negatives_are_scored_apart():
    hard = tuple(window("a dog here", kind="same tokens") for _ in range(6))
    given = FeatureWindows(feature(0), 1.0, (), (), windows().positives, (*windows().negatives, *hard))
    test = Trial(given, RULE)
    assert SCORERS["detection_random"](test, RuleJudge()).value == 1.0
    assert SCORERS["detection_hard"](test, RuleJudge()).value == 0.5
    assert 0.5 < SCORERS["detection"](test, RuleJudge()).value < 1.0


def test_a_sentence_needs_a_judge_that_understands_it():
    with pytest.raises(UsageError, match="need a language model"):
        SCORERS["detection"](Trial(windows(), "dogs"), RuleJudge())


def test_places_of_marks_tell_nothing():
    seen = {True: [], False: []}

    class Looks(RuleJudge):
        def fuzz(self, explanation, items):
            for one in items:
                seen[one.window.active].append(one.places)
            return super().fuzz(explanation, items)

    fuzzing(TRIAL, Looks())
    assert {len(one) for one in seen[True]} == {len(one) for one in seen[False]} == {1}
    assert {one[0] for one in seen[False]} <= {one[0] for one in seen[True]}
    assert len({one[0] for one in seen[False]}) > 2


def test_marks_at_wrong_tokens_of_right_texts():
    found = fuzzing_active(TRIAL, RuleJudge())
    assert (found.items.right, found.items.wrong) == (20, 0)
    items = [Marked(one, one.strong(0.3)) for one in TRIAL.windows.positives]
    assert all("<< dog>>" in one.text for one in items)


def answering(word):
    """A judge that sees the word in a text."""

    def answer(request):
        lines = re.findall(r"^Text \d+:(.*)$", request.user, re.MULTILINE)
        return json.dumps([int(word in line.replace("<<", " ").replace(">>", " ").split()) for line in lines])

    return answer


def test_a_language_model_that_answers_right_scores_as_the_rule_does():
    judge = ChatJudge(Script(answering("dog")), logprobs=False)
    for name in ("detection", "fuzzing"):
        asked, followed = SCORERS[name](TRIAL, judge), SCORERS[name](TRIAL, RuleJudge())
        if name == "detection":
            assert (asked.value, asked.items.right) == (followed.value, followed.items.right)
        else:
            # It does not see marks: silent texts only.
            assert asked.value == 1.0


def test_yes_to_everything_and_no_to_everything_are_chance():
    for same in ("1", "0"):
        judge = ChatJudge(Script(lambda request, same=same: f"[{', '.join([same] * request.user.count('Text '))}]"))
        assert SCORERS["detection"](TRIAL, judge).value == 0.5


def test_failed_simulations_are_left_out_and_are_no_zeros():
    def answer(request):
        tokens = [line.split("\t")[1] for line in request.user.splitlines()]
        return json.dumps([10 * int(one == " dog") for one in tokens])

    good = SCORERS["simulation"](TRIAL, ChatJudge(Script(answer)))
    assert good.value == pytest.approx(1.0)
    # Three of 20 texts fail: the others still correlate perfectly, which zeros would not.
    answers = [ChatReply(error="down"), "what?", "[1]", *[answer] * 17]
    some = SCORERS["simulation"](TRIAL, ChatJudge(Script(*answers)))
    assert some.value == pytest.approx(1.0)
    assert (some.items.right, some.items.unparsed, some.items.error) == (17, 2, 1)
    many = SCORERS["simulation"](TRIAL, ChatJudge(Script(*["what?"] * 10, *[answer] * 10)))
    assert many.value is None
    assert "50% of the texts failed" in many.reason


def test_simulation_a_token_at_a_time_is_the_expected_level():
    def answer(request):
        level = "8" if request.user.endswith("Last token:  dog") else "0"
        return ChatReply(level, chances=(TokenChances(level, {level: -0.1, "x": -3.0, "4": -2.0}),))

    judge = ChatJudge(Script(answer), simulating="one")
    (found,) = judge.simulate("dogs", [window("my dog", 1)])
    weights = [2.718281828**-0.1, 2.718281828**-2.0]
    assert found[1] == pytest.approx((8 * weights[0] + 4 * weights[1]) / sum(weights))
    silent = ChatJudge(Script(ChatReply("x", chances=(TokenChances("x", {"x": -0.1}),))), simulating="one")
    assert silent.simulate("dogs", [window("my dog", 1)]) == [Failure.UNPARSED]


def test_simulation_of_all_tokens_reads_the_prompt_s_own_chances():
    class Prompts:
        def prompt_chances(self, prompt, top):
            pieces = re.findall(r"\t|unknown|[^\tu]+|u", prompt)
            level = {
                place: ("9" if "dog" in pieces[place - 2] else "1")
                for place, one in enumerate(pieces)
                if one == "unknown" and pieces[place - 1] == "\t"
            }
            return [TokenChances(one, {level.get(place, "x"): -0.1}) for place, one in enumerate(pieces)]

    judge = ChatJudge(Script(""), simulating="all", prompts=Prompts())
    assert judge.simulate("dogs", [window("my dog ran", 1)]) == [(1.0, 9.0, 1.0)]
    with pytest.raises(UsageError, match="log-probabilities of prompts"):
        ChatJudge(Script(""), simulating="all")
    assert unknown_places([TokenChances(one, {}) for one in ("a\t", "unk", "nown", "\tun", "known")], 0) == [1, 3]


def test_none_scores_10_of_14_by_saebench_and_chance_when_balanced():
    found = saebench(TRIAL, ChatJudge(Script("None")))
    assert found.value == pytest.approx(0.714286, abs=1e-6)
    assert found.beside["balanced_accuracy"] == 0.5
    assert not any(one.active for one in saebench_windows(TRIAL)[:] if "dog" not in one.text)
    order = saebench_windows(TRIAL)
    right = ", ".join(str(place) for place, one in enumerate(order, 1) if one.active)
    assert saebench(TRIAL, ChatJudge(Script(right))).value == 1.0
    failed = saebench(TRIAL, ChatJudge(Script("I think 1 and 2")))
    assert (failed.value, failed.items.unparsed) == (None, 14)


def test_the_intruder_is_found_without_an_explanation():
    def answer(request):
        lines = re.findall(r"^Text (\d+):(.*)$", request.user, re.MULTILINE)
        assert RULE not in request.system + request.user
        return f"[{next(number for number, line in lines if 'dog' not in line)}]"

    found = intruder(TRIAL, ChatJudge(Script(answer)))
    assert (found.value, found.items.right) == (1.0, 2)
    assert intruder(TRIAL, ChatJudge(Script("[1]", "who knows"))).value is None


def test_fade_keeps_the_sign():
    def rating(yes, no):
        def answer(request):
            lines = re.findall(r"^Text \d+:(.*)$", request.user, re.MULTILINE)
            return json.dumps([yes if "dog" in line else no for line in lines])

        return ChatJudge(Script(answer))

    assert fade(TRIAL, rating(2, 0)).value == 1.0
    assert fade(TRIAL, rating(2, 0)).beside["average_precision"] == 1.0
    assert fade(TRIAL, rating(0, 2)).value == -1.0
    same = fade(TRIAL, rating(1, 1))
    assert same.value is None
    assert "0 texts rated 2" in same.reason


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scorers") / "store"
    planted_store(folder)
    with FeatureStore(folder) as store:
        yield WindowedCorpus.of(store, WINDOWS)


def test_gold_items_are_easy_and_a_judge_at_chance_is_found_out(corpus):
    items = gold_items(corpus)
    assert len(items) == 5
    for item in items:
        word = re.fullmatch(r'the word "(\w+)"', item.explanation)[1]
        assert [one.active for one in item.windows] == [word in one.text.lower().split() for one in item.windows]
        assert {one.active for one in item.windows} == {True, False}
    assert gold_ability(judged(RuleJudge(), items, rules=True)) is Ability.ABLE

    def answer(request):
        word = re.search(r'the word "(\w+)"', request.system)[1]
        return answering(word)(request.__class__(request.system, request.user.lower().replace("text", "Text")))

    assert gold_ability(judged(ChatJudge(Script(answer), logprobs=False), items)) is Ability.ABLE
    always = ChatJudge(Script(lambda request: json.dumps([1] * request.user.count("Text "))), logprobs=False)
    assert gold_ability(judged(always, items)) is Ability.AT_CHANCE
    # What cannot be read is no guess.
    assert gold_ability(judged(ChatJudge(Script("what?")), items)) is Ability.UNANSWERED
    # Right answers with probabilities that say nothing: the area counts where there is one.
    flat = [with_chances("1")["top_logprobs"]]
    assert flat


def test_shuffled_sentences_are_all_elsewhere_and_score_half(corpus):
    said = [
        Explanation(feature(one), f'activates on "{word}"', "rule")
        for one, word in ((0, " dog"), (3, " school"), (4, " Mary"))
    ]
    wrong = shuffled_explanations(said)
    assert sorted(one.text for one in wrong) == sorted(one.text for one in said)
    assert all(one.text != other.text and one.feature == other.feature for one, other in zip(said, wrong, strict=True))
    values = []
    for one in wrong:
        found = feature_windows(corpus, one.feature, corpus.activations(one.feature))
        values.append(SCORERS["detection"](Trial(found, one.text), RuleJudge()).value)
    assert sum(values) / 3 == pytest.approx(0.5, abs=0.12)
    with pytest.raises(UsageError, match="two features"):
        shuffled_explanations(said[:1])
