"""Models of the shapes that users have: a vocabulary far wider than the stream, bfloat16, a loud BOS or a sink.

A tiny Gemma 3 and a tiny Llama are trained and evaluated through the public functions; nothing may depend on how many
tokens the vocabulary has, and what is claimed must hold when it is measured again.
"""

from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from training_fixtures import CONFIG, texts
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gossamer.activations import first_token_is_sink
from gossamer.activations.corpus import Corpus, split_texts
from gossamer.dictionary import DictionarySet
from gossamer.model import LanguageModel, predictions
from gossamer.replacement.evaluate import evaluate
from gossamer.training import train_dictionaries

WIDE = 8_000
SHAPE = {
    "vocab_size": WIDE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
}
SITES = ["resid_post.0", "resid_post.1"]


def words(**special):
    """A tokenizer of the stories' words."""
    found = dict.fromkeys(word for text in texts(200) for word in text.split())
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(["<s>", *found])}, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<s>", **special)


def gemma():
    """In bfloat16, rows begin with a BOS that is a hundred times as loud as words."""
    torch.manual_seed(0)
    layers = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 4}
    hf = Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, **layers, query_pre_attn_scalar=8))
    with torch.no_grad():
        hf.model.embed_tokens.weight.normal_(std=0.3)[0] *= 100
    return LanguageModel.load(hf.to(torch.bfloat16).eval(), tokenizer=words(bos_token="<s>"))


def llama():
    """In bfloat16, without a BOS: whatever token comes first is made a sink by the first layer.

    Attention of the first token sees that token alone; all others see words around them, whose sum along one direction
    cancels.
    """
    torch.manual_seed(0)
    hf = LlamaForCausalLM(LlamaConfig(**SHAPE))
    with torch.no_grad():
        hf.model.embed_tokens.weight.normal_(std=0.3)
    model = LanguageModel.load(hf.to(torch.bfloat16).eval(), tokenizer=words())

    def shout(module, given, output):
        """The attention of layer 0 adds to the first token what no other token gets."""
        loud = torch.zeros_like(output[0])
        loud[:, 0, 3] = 200.0
        return (output[0] + loud, *output[1:])

    hf.model.layers[0].self_attn.register_forward_hook(shout)
    return model


@pytest.fixture(params=[gemma, llama], ids=["gemma3", "llama"])
def model(request):
    return request.param()


@pytest.fixture
def config(model):
    bos = 0.0 if model.tokenizer.bos_token_id is None else 1.0
    fine = replace(CONFIG.finetune, tokens=4 * 16 * 8)
    return replace(CONFIG, corpus=replace(CONFIG.corpus, bos=bos), finetune=fine)


def test_first_tokens_are_what_they_were_made_to_be(model):
    assert first_token_is_sink(model) == (model.tokenizer.bos_token_id is None)


def test_what_is_claimed_holds_on_held_out_text(model, config, tmp_path, monkeypatch):
    """Also with blocks of few positions: no more logits than some blocks ever stand in memory."""
    monkeypatch.setattr(predictions, "_BLOCK_VALUES", 16 * WIDE)
    rows, unembed = [], model.unembed
    monkeypatch.setattr(model, "unembed", lambda x: rows.append(x.shape[0]) or unembed(x))
    train_dictionaries(model, texts(), SITES, config, tmp_path / "run")
    assert max(rows) <= 16 * predictions._TOGETHER
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.hf.parameters())
    found = DictionarySet.load(tmp_path / "run" / "dictionaries")
    corpus = Corpus.build(model, *split_texts(texts(), config.corpus, 0), config.corpus, 0)
    for site, measured in evaluate(model, found, corpus.measured).items():
        reported = found[site].reported
        assert measured.l0 == pytest.approx(reported.l0)
        assert measured.explained_variance == pytest.approx(reported.explained_variance, abs=1e-6)
        # k was 6: the threshold stands for it on text nobody learned from, as well as so short a training can tell.
        assert 4 < measured.l0 < 9
        assert measured.explained_variance > 0.3
        assert measured.norm_in < 20
