"""Tokens and pieces: which token has which role, by offsets."""

import pytest
from transformers import PreTrainedTokenizerFast

from gossamer.errors import UsageError
from gossamer.tasks import Piece
from gossamer.tasks.prompt import join
from gossamer.tasks.prompt_tokenizer import PromptTokenizer


def roles(tokenizer, *pieces, **options):
    spelled = PromptTokenizer(tokenizer, **options).spell([pieces])[0]
    return list(zip((tokenizer.decode([token]) for token in spelled.ids), spelled.roles, spelled.offsets, strict=True))


def test_gaps_are_numbered_and_the_last_token_is_the_end(tokenizer):
    found = roles(
        tokenizer, Piece("The"), Piece(" cat", "x"), Piece(" and"), Piece(" the"), Piece(" dog", "y"), Piece(" went to")
    )
    assert found == [
        ("The", "gap1", 0),
        (" cat", "x", 0),
        (" and", "gap2", 0),
        (" the", "gap2", 1),
        (" dog", "y", 0),
        (" went", "gap3", 0),
        (" to", "END", 0),
    ]


def test_spaces_belong_to_the_word_after_them(tokenizer):
    inside = roles(tokenizer, Piece("The"), Piece(" cat", "x"), Piece(" that", "y"))
    outside = roles(tokenizer, Piece("The "), Piece("cat", "x"), Piece(" "), Piece("that", "y"))
    assert inside == outside == [("The", "gap1", 0), (" cat", "x", 0), (" that", "y", 0)]


def test_several_tokens_of_one_word_have_offsets(coarse):
    found = roles(coarse, Piece("The cat"), Piece(" Mary", "name"), Piece(" is"))
    named = [offset for _, role, offset in found if role == "name"]
    assert len(named) > 1
    assert named == list(range(len(named)))


def test_letters_of_several_bytes(coarse):
    found = roles(coarse, Piece("The"), Piece(" Zoë", "name"), Piece(" is"))
    assert [role for _, role, _ in found][-1] == "END"
    assert sum(role == "name" for _, role, _ in found) >= 4


def test_a_word_inside_another_cannot_be_told_apart(tokenizer):
    spelled = PromptTokenizer(tokenizer).spell([(Piece("The"), Piece(" car", "x"), Piece("penter"))])[0]
    assert not spelled.words[0].separable


def test_by_position(with_bos):
    spelled = PromptTokenizer(with_bos).spell([(Piece("The cat that"),)])[0].by_position()
    assert spelled.roles == ("", "p0", "p1", "END")


def test_answers_must_be_one_new_token(tokenizer):
    prompt_tokenizer = PromptTokenizer(tokenizer)
    good, two, merged = prompt_tokenizer.answers(["The cat", "The cat", "The car"], [" is", " is that", "penter"])
    assert good.id == tokenizer.convert_tokens_to_ids("Ġis")
    assert two.id is None
    assert len(two.added) == 2
    assert merged.id is None


def test_refuses(tokenizer):
    class Slow:
        is_fast = False

    with pytest.raises(UsageError, match="fast tokenizer expected"):
        PromptTokenizer(Slow())
    with pytest.raises(UsageError, match="text expected"):
        PromptTokenizer(tokenizer).spell([(Piece("  "),)])
    for name in ("", "gap2"):
        with pytest.raises(UsageError, match="rename the role"):
            PromptTokenizer(tokenizer).spell([(Piece("cat", name),)])


def test_bos_needs_a_bos_token(tokenizer):
    without = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(UsageError, match="a tokenizer with a BOS token expected"):
        PromptTokenizer(without, bos=True)


def test_pieces_join():
    assert join((Piece("a"), Piece(" b", "x"))) == "a b"
