"""The corpus: the same for a seed, without held-out prompts, and cut into tokens as the whole text would be."""

import itertools
import re

import pytest

from gossamer.bundled.accuracy import TASKS, held_out_prompts
from gossamer.bundled.corpus import ANSWER, KINDS, UNSCORED, documents, held_out, task_words, texts
from gossamer.bundled.rows import FIRST, GROUPS, batches, encode
from gossamer.bundled.tokenizer import train_tokenizer
from gossamer.errors import GossamerError


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(texts(3000, 0), task_words(), 128)


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_the_same_for_a_seed_and_others_for_another(kind):
    def first(seed, short=False):
        return [document.text for document in itertools.islice(documents(kind, seed, short), 30)]

    assert first(0) == first(0)
    assert first(0) != first(1)


def prompts_in(text):
    """Every task prompt that a document contains, as one whose answer would come next."""
    lines = text.splitlines(keepends=True)
    opening = lines[0]
    variable = opening.split()[1] if opening.startswith(">>>") else None
    for line in lines[1:]:
        if variable and line.startswith(f">>> {variable}["):
            yield opening + line


@pytest.mark.parametrize("kind", ["index", "key"])
@pytest.mark.parametrize("short", [False, True])
def test_no_lookup_of_a_session_is_held_out(kind, short):
    found = [prompt for d in itertools.islice(documents(kind, 3, short), 200) for prompt in prompts_in(d.text)]
    assert len(found) >= 600
    assert not any(map(held_out, found))


@pytest.mark.parametrize("kind", ["ioi", "agreement"])
def test_no_prompt_before_an_answer_is_held_out(kind):
    for document in itertools.islice(documents(kind, 3), 300):
        answers = [i for i, (_, weight) in enumerate(document.fragments) if weight == ANSWER]
        for i in answers:
            assert not held_out("".join(text for text, _ in document.fragments[:i]))


def test_what_follows_a_held_out_prompt_inside_a_longer_one_is_not_scored():
    seen = 0
    for document in itertools.islice(documents("agreement", 4), 500):
        for i, (_, weight) in enumerate(document.fragments[:-2]):
            before = "".join(text for text, _ in document.fragments[:i])
            assert (weight == UNSCORED) == (i > 0 and held_out(before))
            seen += weight == UNSCORED
    assert seen > 0


def test_sessions_print_what_python_prints():
    for kind in ("index", "key"):
        for document in itertools.islice(documents(kind, 5), 50):
            lines = document.text.splitlines()
            space: dict = {}
            exec(lines[0].removeprefix(">>> "), space)
            for asked, printed in itertools.pairwise(lines):
                if re.match(r">>> \w+\[", asked):
                    try:
                        assert printed == str(eval(asked.removeprefix(">>> "), space))
                    except (IndexError, KeyError):
                        assert printed == "Traceback (most recent call last):"


@pytest.mark.parametrize("task", TASKS)
def test_held_out_prompts_are_different_held_out_and_the_same_for_a_seed(task):
    prompts = held_out_prompts(task, 40, 7)
    clean = [prompt.clean_text for prompt in prompts]
    assert len(set(clean)) == len(clean) > 0
    assert all(map(held_out, clean))
    assert prompts == held_out_prompts(task, 40, 7)


def test_fragments_become_the_tokens_of_the_whole_text(tokenizer):
    for kind in KINDS:
        found = list(itertools.islice(documents(kind, 6), 40))
        rows = encode(found, tokenizer, 128)
        for ids, document in zip(rows.ids.tolist(), found, strict=True):
            whole = tokenizer(document.text, add_special_tokens=False)["input_ids"]
            assert ids[: len(whole) + 2] == [0, *whole, 0]


def test_only_answers_weigh_one_and_padding_nothing(tokenizer):
    rows = encode(list(itertools.islice(documents("key", 6), 20)), tokenizer, 128)
    answers = set(rows.ids[rows.weights == ANSWER].tolist())
    assert answers <= set(tokenizer.convert_tokens_to_ids([*"0123456789", "Traceback"]))
    assert (rows.weights[:, 0] == 0).all()
    assert (rows.weights[rows.ids == 0].unique().numel()) == 2


def test_batches_begin_with_the_first_kinds_and_repeat_for_a_seed(tokenizer):
    def first(count):
        return list(itertools.islice(batches(tokenizer, 0, batch=4, longest=64, first_steps=2), count))

    steps = first(4)
    assert [len(step) for step in steps] == [len(FIRST), len(FIRST), len(GROUPS), len(GROUPS)]
    assert [rows.ids.tolist() for rows in steps[3]] == [rows.ids.tolist() for rows in first(4)[3]]
    assert max(rows.ids.shape[1] for rows in steps[2]) <= 64


def test_a_word_of_several_tokens_is_refused():
    with pytest.raises(GossamerError, match="one token for every task word"):
        train_tokenizer(["only these words"], [" Mary"], 128)
