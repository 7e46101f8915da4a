"""Prompts in parts: what changes and what stays, and where a tokenizer puts the roles."""

from collections import Counter
from dataclasses import replace

import pytest
from ioi_lab import spool

from gossamer.attention.ioi.noising import changes
from gossamer.attention.ioi.prompts import (
    ROLES,
    TEMPLATES,
    IOIPrompt,
    draw_prompts,
    encode_prompts,
    single_token_names,
)
from gossamer.errors import UsageError
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

PROMPT = IOIPrompt("park_said", "BABA", "Mary", "John", "John", ("Tom", "Anna"))


def test_each_part_changes_alone():
    assert PROMPT.text == "One day, John and Mary went to the park. They played together. Then John said to"
    expected = {
        "connective or": "One day, John or Mary went to the park. They played together. Then John said to",
        "names": "One day, Anna and Tom went to the park. They played together. Then Anna said to",
        "prefix": "It was a nice day. One day, John and Mary went to the park. They played together. Then John said to",
        "filler": "One day, John and Mary went to the park while the weather was nice. They played together. "
        "Then John said to",
        "names, prefix and filler": "It was a nice day. One day, Anna and Tom went to the park while the weather was "
        "nice. They played together. Then Anna said to",
        "order": "One day, Mary and John went to the park. They played together. Then John said to",
    }
    assert {name: one.text for name, (one,) in changes([PROMPT], [" or"])} == expected
    assert PROMPT.swapped.text.endswith("Then Mary said to")
    assert PROMPT.swapped.swapped == PROMPT == PROMPT.reordered.reordered
    assert PROMPT.renamed.renamed == PROMPT
    assert (PROMPT.task_prompt.answer, PROMPT.task_prompt.incorrect) == (" Mary", " John")


def test_draws_are_even_and_different():
    drawn = draw_prompts(["Mary", "John", "Tom", "Anna", "Lily"], ["park_said", "store_gave"], 40, 3)
    assert set(Counter((one.template, one.order) for one in drawn).values()) == {10}
    assert len(set(drawn)) == 40
    assert all(len({one.io, one.subject, *one.others}) == 4 for one in drawn)
    assert drawn == draw_prompts(["Mary", "John", "Tom", "Anna", "Lily"], ["park_said", "store_gave"], 40, 3)


@pytest.mark.parametrize("bos", [True, False])
def test_roles_stand_where_their_words_do(bos):
    model, _ = spool()
    speller = PromptTokenizer(model.tokenizer, bos)
    drawn = [replace(PROMPT, template=name) for name in TEMPLATES] + [PROMPT.reordered]
    found = encode_prompts(drawn, speller)
    words = {"IO": " Mary", "connective": " and", "S1": " John", "S2": " John", "END": " to"}
    for row, prompt in enumerate(drawn):
        ids = found.tokens.ids[row][found.tokens.mask[row]]
        assert model.tokenizer.decode(ids[int(bos) :]) == prompt.text
        for role in ROLES:
            assert model.word(int(found.tokens.ids[row, found.places[role][row]])) == words[role]
        first, second = (int(found.places[role][row]) for role in ("S1", "S2"))
        assert first < second < found.places["END"][row] == len(ids) - 1
    assert [model.word(int(one)) for one in found.answers[0]] == [" Mary", " John"]


def test_refusals():
    _, speller = spool()
    with pytest.raises(UsageError, match="names of one token expected, found ' Bartholomew'"):
        encode_prompts([replace(PROMPT, io="Bartholomew")], speller)
    with pytest.raises(UsageError, match="at least one prompt"):
        encode_prompts([], speller)
    with pytest.raises(UsageError, match=r"templates: some of park_said, .* expected, found hall_said"):
        draw_prompts(["Mary", "John", "Tom", "Anna"], ["hall_said"], 2, 0)
    with pytest.raises(UsageError, match="names: at least 4 expected, found 2"):
        draw_prompts(["Mary", "John"], ["park_said"], 2, 0)
    assert len(single_token_names(speller)) >= 10
