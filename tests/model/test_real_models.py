"""The same on trained models: real tokenizers, real attention patterns, grouped queries."""

import json

import pytest
import torch

from gossamer.model import LanguageModel, Site

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["tinytalk-3m-gpt2", "stories260k"])
def model(request, real_folder):
    return LanguageModel.load(real_folder / "models" / request.param, device="cpu")


def stories(real_folder, count=4):
    lines = (real_folder / "text" / "tinystories_val.jsonl").read_text().splitlines()[:count]
    return [json.loads(line)["text"][:200] for line in lines]


def test_logits_edits_and_resume(model, real_folder):
    tokens = model.tokenize(stories(real_folder), side="left")
    plain = model.logits(tokens)
    sites = [site for kind in model.kinds for site in model.sites(kind)]
    with torch.no_grad(), model.edit(dict.fromkeys(sites, torch.clone)):
        assert torch.equal(model.logits(tokens), plain)
    for site in (Site("resid_pre", 2), Site("resid_post", 3)):
        stream = model.capture(tokens, [site])[site]
        assert torch.equal(model.resume(site, stream, tokens), plain)


def test_sides_of_padding_agree(model, real_folder):
    texts = stories(real_folder)
    right, left = (model.tokenize(texts, side=side) for side in ("right", "left"))
    assert right.lengths.min() < right.lengths.max()
    found = [model.logits(tokens, at=tokens.last) for tokens in (right, left)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-3)


def test_it_knows_its_stories(real_folder):
    model = LanguageModel.load(real_folder / "models" / "tinytalk-3m-gpt2", device="cpu")
    tokens = model.tokenize(["One day, Lily met Tom in the park. They played together. Then Lily said to"])
    assert model.word(int(model.logits(tokens, at=tokens.last).argmax())) == " Tom"
    assert not model.has_bos_by_default


def test_values_and_words_with_a_sentencepiece_tokenizer(real_folder):
    model = LanguageModel.load(real_folder / "models" / "stories260k", device="cpu")
    assert model.has_bos_by_default
    assert (model.n_heads, model.n_kv_heads, model.d_head) == (8, 4, 8)
    tokens = model.tokenize(["Once upon a time"])
    assert "".join(model.word(i) for i in tokens.ids[0, 1:].tolist()) == " Once upon a time"
