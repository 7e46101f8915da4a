"""What the generators write, before any tokenizer."""

import ast
import random

import pytest

from gossamer.errors import UsageError
from gossamer.tasks import code_output, ioi, subject_verb

SAMPLES = {
    "ioi": ioi.sample,
    "index": code_output.sample_index,
    "key": code_output.sample_key,
    **{
        name: lambda rng, n, name=name, **k: subject_verb.sample(rng, n, structure=name, **k)
        for name in subject_verb.PATTERNS
    },
}


@pytest.mark.parametrize("name", SAMPLES)
def test_same_seed_same_prompts_all_different(name):
    first, again = (SAMPLES[name](random.Random(3), 60) for _ in range(2))
    assert first == again
    assert len({prompt.key for prompt in first}) == 60
    assert first != SAMPLES[name](random.Random(4), 60)


@pytest.mark.parametrize("name", SAMPLES)
def test_pieces_correspond_and_answers_balance(name):
    prompts = SAMPLES[name](random.Random(0), 150)
    for prompt in prompts:
        assert [piece.role for piece in prompt.clean] == [piece.role for piece in prompt.counterfactual]
        assert prompt.clean_text != prompt.counterfactual_text
        assert prompt.answer != prompt.incorrect
    # The template must not reveal the answer: each comes with several answers, and with each as the wrong one too.
    for template in {prompt.template for prompt in prompts}:
        answers = {prompt.answer for prompt in prompts if prompt.template == template}
        assert len(answers) > 1


def test_ioi_says_who_was_given_to():
    for prompt in ioi.sample(random.Random(0), 200):
        words = {piece.role: piece.text for piece in prompt.clean if piece.role}
        assert words["S1"] == words["S2"] == prompt.incorrect.strip()
        assert words["IO"] == prompt.answer.strip() != words["S1"]
        assert (prompt.case == "ABBA") == (prompt.clean_text.index(words["IO"]) < prompt.clean_text.index(words["S1"]))
        swapped = {piece.role: piece.text for piece in prompt.counterfactual if piece.role}
        assert (swapped["IO"], swapped["S1"], swapped["S2"]) == (words["IO"], words["S1"], words["IO"])


def test_ioi_random_counterfactual_has_three_other_names():
    for prompt in ioi.sample(random.Random(0), 100, counterfactual="random", templates=["went_gave"], orders=["BABA"]):
        changed = [piece.text for piece in prompt.counterfactual if piece.role in ("IO", "S1", "S2")]
        kept = {prompt.answer.strip(), prompt.incorrect.strip()}
        assert len(set(changed)) == 3
        assert not kept & set(changed)
        assert (prompt.template, prompt.case) == ("went_gave", "BABA")


def test_ioi_orders_share_their_template():
    prompts = ioi.sample(random.Random(0), 400)
    for template in ioi.TEMPLATES:
        assert {prompt.case for prompt in prompts if prompt.template == template} == {"ABBA", "BABA"}


@pytest.mark.parametrize("structure", subject_verb.PATTERNS)
def test_agreement_follows_the_right_noun(structure):
    plural = {"are", "have", "do", "go"}
    role = "noun" if structure == "within_rc" else "subject"
    forms = {
        word: number
        for pair in (*subject_verb.SUBJECTS, *subject_verb.CLAUSE_NOUNS)
        for number, word in enumerate(pair)
    }
    for prompt in subject_verb.sample(random.Random(0), 100, structure=structure):
        for pieces, answer in ((prompt.clean, prompt.answer), (prompt.counterfactual, prompt.incorrect)):
            word = next(piece.text for piece in pieces if piece.role == role)
            assert forms[word] == (answer.strip() in plural)
        changed = [a.role for a, b in zip(prompt.clean, prompt.counterfactual, strict=True) if a != b]
        assert changed == [role]


def printed(text):
    """What a Python session would print first for the prompt."""
    definition, lookup = (line.removeprefix(">>> ") for line in text.rstrip("\n").split("\n"))
    name, literal = definition.split(" = ")
    try:
        return str(ast.literal_eval(literal)[ast.literal_eval(lookup.removeprefix(name)[1:-1])])
    except (IndexError, KeyError):
        return "Traceback"


@pytest.mark.parametrize("name", ["index", "key"])
@pytest.mark.parametrize("counterfactual", ["traceback", "other"])
def test_python_agrees_with_the_answers(name, counterfactual):
    prompts = SAMPLES[name](random.Random(1), 200, counterfactual=counterfactual)
    for prompt in prompts:
        assert printed(prompt.clean_text) == prompt.answer
        assert printed(prompt.counterfactual_text) == prompt.incorrect
    fails = sum(prompt.answer == "Traceback" for prompt in prompts)
    assert 70 < fails < 130 if counterfactual == "traceback" else fails == 0


def test_code_roles_mark_the_entry_asked_for():
    for prompt in code_output.sample_index(random.Random(0), 50, length=4):
        digit = prompt.answer if prompt.case == "works" else prompt.incorrect
        assert [piece.text for piece in prompt.clean if piece.role == "target"] == [digit]
        assert sum(piece.role == "items" for piece in prompt.clean) == 3
    for prompt in code_output.sample_key(random.Random(0), 50):
        digit = prompt.answer if prompt.case == "works" else prompt.incorrect
        assert [piece.text for piece in prompt.clean if piece.role == "target_value"] == [digit]
        assert sum(piece.role == "keys" for piece in prompt.clean) == 4


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda rng: ioi.sample(rng, 0), "at least one prompt"),
        (lambda rng: ioi.sample(rng, 5, names=["Tim", "Ben"]), "at least 6"),
        (lambda rng: ioi.sample(rng, 5, templates=["nowhere"]), "nowhere"),
        (lambda rng: ioi.sample(rng, 5, orders=["AABB"]), "AABB"),
        (lambda rng: ioi.sample(rng, 5, counterfactual="other"), "swap, random"),
        (lambda rng: subject_verb.sample(rng, 5, structure="nowhere"), "nowhere"),
        (lambda rng: subject_verb.sample(rng, 321, structure="simple"), "only 320"),
        (lambda rng: subject_verb.sample(rng, 1, subjects=[]), "subjects"),
        (lambda rng: code_output.sample_index(rng, 5, length=7), "2 to 6"),
        (lambda rng: code_output.sample_index(rng, 5, digits="123"), "at least 6"),
        (lambda rng: code_output.sample_key(rng, 5, names=["Tim"]), "names"),
        (lambda rng: code_output.sample_key(rng, 5, counterfactual="none"), "traceback or other"),
    ],
)
def test_refuses(call, says):
    with pytest.raises(UsageError, match=says):
        call(random.Random(0))
