"""Which tokens count, on models with and without an attention sink at the first token."""

import pytest
import torch
from word_model import tiny_gpt2_model

from gossamer.activations.token_mask import attention_sink, counted_tokens, first_tokens
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.dictionary.attach import measure
from gossamer.errors import UsageError
from gossamer.model import LanguageModel, Site
from gossamer.tasks import get
from gossamer.tasks.grouping import passing_first

SITE = Site("resid_post", 1)
TEXTS = [" Mary went to the store", " John and Mary went", " Then John gave a drink to Mary and John"]


@pytest.fixture
def loud(tokenizer) -> LanguageModel:
    """A model whose first position is a sink: its position embedding is 200 times as long as others."""
    hf = tiny_gpt2_model(tokenizer)
    hf.transformer.wpe.weight.data[0] *= 200
    return LanguageModel.load(hf, tokenizer=tokenizer)


def test_a_sink_is_found_by_its_norm(loud, tiny_gpt2):
    assert attention_sink(loud)
    assert not attention_sink(tiny_gpt2)
    fresh = LanguageModel.load(tiny_gpt2.hf, tokenizer=tiny_gpt2.tokenizer)
    with fresh.edit({Site("embed"): lambda x: x * torch.where(torch.arange(x.shape[1]) > 0, 1.0, 1e3)[:, None]}):
        assert not attention_sink(fresh)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("bos", [True, False])
def test_the_first_token_of_a_row_does_not_count_where_it_is_a_sink(loud, tiny_gpt2, side, bos):
    tokens = loud.tokenize(TEXTS, bos=bos, side=side)
    ordinary = tokens.mask & (tokens.ids != loud.tokenizer.bos_token_id)
    assert torch.equal(counted_tokens(tiny_gpt2, tokens), ordinary)
    first = first_tokens(tokens)
    assert first.sum(dim=1).tolist() == [1, 1, 1]
    assert all(int(row.nonzero()[0]) == int(mask.nonzero()[0]) for row, mask in zip(first, tokens.mask, strict=True))
    assert torch.equal(counted_tokens(loud, tokens), ordinary & ~first)


def test_a_measured_dictionary_is_that_of_the_other_tokens(loud):
    """Without the sink left out, its error is nearly all that there is."""
    dictionary = Dictionary(DictionaryConfig("relu", 32, 64, site=SITE))
    eye = torch.eye(32)
    for name, value in (("W_enc", torch.cat([eye, -eye], 1)), ("W_dec", torch.cat([eye, -eye]) * 0.9)):
        getattr(dictionary, name).data = value
    dictionary.b_enc.data, dictionary.b_dec.data = torch.zeros(64), torch.zeros(32)
    tokens = loud.tokenize(TEXTS, bos=False)
    found = measure(loud, {SITE: dictionary}, tokens)[SITE]
    x = loud.capture(tokens, [SITE])[SITE][tokens.mask & ~first_tokens(tokens)].double()
    expected = 1 - (0.1 * x).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert found.tokens == len(x)
    assert found.explained_variance == pytest.approx(expected.item(), rel=1e-4)


def test_a_task_passes_its_first_tokens_through_unless_they_tell():
    task = get("ioi").generate(LanguageModel.load("bundled:spool").tokenizer, n=40, bos=False)
    passed = passing_first(task)
    pairs = ((task.train.clean, passed.train.clean), (task.test.counterfactual, passed.test.counterfactual))
    for before, after in pairs:
        assert (after.roles[:, 0] == -1).all()
        assert (after.slots[:, 0] == -1).all()
        assert torch.equal(after.roles[:, 1:], before.roles[:, 1:])
        assert torch.equal(after.slots[:, 1:], before.slots[:, 1:])
    ids = task.train.clean.tokens.ids
    ids[0, 0] = (ids[0, 0] + 1) % 40
    with pytest.raises(UsageError, match="attention sink of the first token"):
        passing_first(task)


@pytest.mark.real
@pytest.mark.parametrize(("name", "sink"), [("stories260k", False), ("tinytalk-3m-gpt2", False)])
def test_real_models(real_folder, name, sink):
    assert attention_sink(LanguageModel.load(real_folder / "models" / name)) is sink
