"""BOS policies, padding sides, words."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from gossamer.errors import UsageError
from gossamer.model import LanguageModel
from gossamer.tokens import Tokens

TEXTS = [" Mary went to the store", " Tom said"]


def test_padding_sides(tiny_gpt2):
    for side in ("right", "left"):
        tokens = tiny_gpt2.tokenize(TEXTS, side=side)
        assert tokens.lengths.tolist() == [5, 2]
        words = [
            [tiny_gpt2.word(i) for i in ids[mask].tolist()] for ids, mask in zip(tokens.ids, tokens.mask, strict=True)
        ]
        assert words == [[" Mary", " went", " to", " the", " store"], [" Tom", " said"]]
        assert tokens.mask[1].tolist() == ([True, True] + [False] * 3)[:: 1 if side == "right" else -1]


def test_bos_policies(tiny_gpt2):
    bos = tiny_gpt2.tokenizer.bos_token_id
    assert not tiny_gpt2.has_bos_by_default
    plain, without, with_bos = (tiny_gpt2.tokenize(TEXTS, bos=bos) for bos in (None, False, True))
    assert torch.equal(plain.ids, without.ids)
    assert with_bos.ids[:, 0].tolist() == [bos, bos]
    assert torch.equal(with_bos.ids[0, 1:], plain.ids[0])
    written = tiny_gpt2.tokenize(["<|endoftext|> Tom said"], bos=True)
    assert written.ids[0].tolist() == with_bos.ids[1, :3].tolist()


def test_a_tokenizer_that_adds_bos_itself(tiny_gpt2):
    tokenizer = tiny_gpt2.tokenizer
    before = tokenizer.backend_tokenizer.post_processor
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", tokenizer.bos_token_id)]
    )
    try:
        assert tiny_gpt2.has_bos_by_default
        lengths = [tiny_gpt2.tokenize(TEXTS[1:], bos=bos).ids.shape[1] for bos in (None, True, False)]
    finally:
        tokenizer.backend_tokenizer.post_processor = before
    assert lengths == [3, 3, 2]


def test_what_is_no_text_is_refused(tiny_gpt2):
    for texts in ([], [" Tom", ""]):
        with pytest.raises(UsageError, match="at least one token each"):
            tiny_gpt2.tokenize(texts)
    assert tiny_gpt2.tokenize([""], bos=True).ids.tolist() == [[0]]


def test_a_tokenizer_without_bos(tiny_gpt2, tokenizer):
    class NoBos:
        bos_token_id = None

        def __call__(self, text, **options):
            return tokenizer(text, **options)

    model = LanguageModel(tiny_gpt2.hf, NoBos(), "no BOS", tiny_gpt2.family)
    assert not model.has_bos_by_default
    with pytest.raises(UsageError, match="use --no-bos"):
        model.tokenize(TEXTS, bos=True)


def test_tokens_that_do_not_fit_are_refused(tiny_gpt2):
    ids = torch.ones(2, 3, dtype=torch.long)
    bad = {
        "found 64000": Tokens.full(torch.full((1, 2), 64000)),
        "found -1": Tokens.full(torch.tensor([[4, -1]])),
        "row of padding only": Tokens(ids, torch.tensor([[True] * 3, [False] * 3])),
        "at most 64 tokens": Tokens.full(torch.ones(1, 65, dtype=torch.long)),
        "of one shape": Tokens(ids[:0], ids[:0].bool()),
    }
    for message, tokens in bad.items():
        with pytest.raises(UsageError, match=message):
            tiny_gpt2.logits(tokens)
