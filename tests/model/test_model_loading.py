"""From names, folders and loaded models; what is refused and how."""

import json
import shutil

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from tiny_families import random_hf, random_tokens
from transformers import BloomConfig, BloomForCausalLM, GPT2Model
from word_model import tiny_gpt2_model, word_tokenizer

from gossamer.errors import GossamerError, UsageError
from gossamer.model import LanguageModel, Site, loading
from gossamer.model.loading import default_device


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny GPT-2 with its tokenizer, as transformers saves them."""
    folder = tmp_path_factory.mktemp("saved") / "tiny"
    tokenizer = word_tokenizer()
    tiny_gpt2_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(kind, source, match, **options):
    with pytest.raises(GossamerError, match=match) as raised:
        LanguageModel.load(source, **options)
    assert type(raised.value) is kind
    assert "\n" not in str(raised.value)


def test_a_folder_loads_and_says_what_it_is(saved, tiny_gpt2):
    model = LanguageModel.load(str(saved))
    assert (model.n_layers, model.d_model, model.n_heads, model.n_kv_heads, model.d_head) == (3, 32, 4, 4, 8)
    assert (model.d_vocab, model.dtype, model.device.type) == (
        len(model.tokenizer),
        torch.float32,
        default_device().type,
    )
    assert model.name == str(saved)
    tokens = model.tokenize([" Mary went to the store"])
    torch.testing.assert_close(model.logits(tokens).cpu(), tiny_gpt2.logits(tokens))


def test_mps_is_refused_and_never_chosen(saved, monkeypatch):
    """It has no float64, in which sums are taken."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert default_device().type == "cpu"
    for device in ("mps", "mps:0", torch.device("mps")):
        refused(UsageError, str(saved), "expected cuda or cpu .*float64", device=device)


@pytest.mark.parametrize("instructions", [True, False])
def test_dtype_is_the_checkpoints_own_unless_it_is_slow_or_another_is_asked_for(
    saved, tmp_path, monkeypatch, instructions
):
    """Half precision without instructions for it is computed in float32."""
    monkeypatch.setattr(loading, "_has_bfloat16", lambda: instructions)
    own = torch.bfloat16 if instructions else torch.float32
    for dtype, expected in ((torch.bfloat16, own), (torch.float16, torch.float32)):
        folder = tmp_path / str(dtype)
        tiny_gpt2_model(word_tokenizer()).to(dtype).save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
        assert LanguageModel.load(folder, device="cpu").dtype == expected
        assert LanguageModel.load(folder, device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16
    assert LanguageModel.load(saved, dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("source", ["./nowhere", "/nowhere/at/all", "a/b/c"])
def test_missing_folders(source):
    refused(UsageError, source, "no such folder")


def test_a_folder_without_a_model(tmp_path):
    refused(UsageError, tmp_path, "config.json")


def test_an_unreachable_name(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("nobody/nothing is not a model identifier\nmore lines")

    monkeypatch.setattr("gossamer.model.loading.PreTrainedConfig.get_config_dict", unreachable)
    refused(UsageError, "nobody/nothing", "expected a model folder, a GGUF file, a Hugging Face id or bundled:NAME")


def test_damaged_weights(copy):
    weights = copy / "model.safetensors"
    content = weights.read_bytes()
    for damaged in (content[: len(content) // 2], b"not weights at all" * 9, b""):
        weights.write_bytes(damaged)
        refused(GossamerError, copy, "could not be read")
    weights.unlink()
    refused(GossamerError, copy, "could not be read")


def test_weights_that_transformers_would_make_up(copy):
    edit_config(copy, n_layer=4)
    refused(GossamerError, copy, r"expected weights for every parameter, found none for transformer\.h\.3")
    edit_config(copy, n_layer=3, n_embd=64)
    refused(GossamerError, copy, "as config.json says")


def test_damaged_configuration(copy):
    (copy / "config.json").write_text("{")
    refused(GossamerError, copy, "could not be read")


def test_missing_tokenizer(copy):
    (copy / "tokenizer.json").write_text("{}")
    refused(UsageError, copy, "tokenizer")
    for path in copy.glob("tokenizer*"):
        path.unlink()
    refused(UsageError, copy, "no tokenizer files")
    assert LanguageModel.load(copy, tokenizer=word_tokenizer()).word(1) == "Mary"


def test_unknown_families_are_named_with_a_way_out(copy):
    edit_config(copy, model_type="martian")
    refused(UsageError, copy, r"'martian' is unknown: expected one of gpt2, gpt_neo, .*gossamer\.model\.Family")
    config = BloomConfig(vocab_size=20, hidden_size=16, n_layer=1, n_head=2)
    refused(UsageError, BloomForCausalLM(config), "'bloom' is unknown.*--family")
    refused(UsageError, torch.nn.Linear(2, 2), "'Linear' is unknown")


def test_a_model_without_a_head():
    refused(UsageError, GPT2Model(random_hf("gpt2").config), "no language-model head")


def test_a_device_that_is_not_there(saved):
    refused(UsageError, saved, "device 'cuda:99' cannot be used", device="cuda:99")
    refused(UsageError, saved, "not both", device="cpu", device_map="auto")
    refused(UsageError, random_hf("gpt2"), "used as it is", device="cpu")


def test_a_loaded_model_needs_no_tokenizer_until_it_does():
    model = LanguageModel.load(random_hf("gpt2"))
    assert model.name == "GPT2LMHeadModel"
    for action in (lambda: model.tokenize(["a"]), lambda: model.word(1), lambda: model.has_bos_by_default):
        with pytest.raises(UsageError, match="without a tokenizer"):
            action()


def test_device_map(saved, tiny_gpt2):
    model = LanguageModel.load(saved, device_map={"": "cpu"})
    tokens = model.tokenize([" Mary went", " Tom said to Amy"])
    torch.testing.assert_close(model.logits(tokens), tiny_gpt2.logits(tokens))


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neo"])
def test_models_spread_by_accelerate(name):
    """accelerate puts its own forward on every module, and may keep the weights elsewhere between calls."""
    tokens = random_tokens()
    plain = LanguageModel.load(random_hf(name))
    site = Site("resid_post", 0)
    stream = plain.capture(tokens, [site])[site]
    expected, rows = plain.logits(tokens), plain.unembedding_rows(torch.tensor([3]))
    for hf in (
        cpu_offload(random_hf(name), torch.device("cpu")),
        dispatch_model(random_hf(name), {"": "cpu"}, force_hooks=True),
    ):
        spread = LanguageModel.load(hf)
        assert torch.equal(spread.logits(tokens), expected)
        assert torch.equal(spread.resume(site, stream, tokens), expected)
        assert torch.equal(spread.unembedding_rows(torch.tensor([3])), rows)
        with spread.edit({Site("pattern", 1): torch.clone, Site("resid_mid", 2): torch.clone}):
            assert torch.equal(spread.logits(tokens), expected)


@pytest.mark.parametrize(
    ("folder", "title"),
    [
        ("stories260k", "stories260k"),
        ("gemma-3-270m/hf", "gemma-3-270m/hf"),
        ("run/checkpoint-500", "run/checkpoint-500"),
        ("models--google--gemma-3-270m/snapshots/" + "9b0cfec892e2bc2afd938c98eabe4e4a7b1e0ca1", "google/gemma-3-270m"),
    ],
)
def test_the_title_of_a_local_model_tells_it_from_others_and_holds_no_path(tiny_gpt2, tmp_path, folder, title):
    (tmp_path / folder).mkdir(parents=True)
    local = LanguageModel(tiny_gpt2.hf, tiny_gpt2.tokenizer, str(tmp_path / folder), tiny_gpt2.family)
    assert local.title == title
