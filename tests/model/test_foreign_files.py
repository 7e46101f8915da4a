"""GGUF files and PEFT adapters: what they hold, and what is refused."""

import json

import pytest
import torch
from tiny_families import CONFIGS, random_hf, random_tokens
from transformers import AutoModelForCausalLM
from word_model import tiny_gpt2_model, word_tokenizer

from gossamer import locating
from gossamer.errors import GossamerError, UsageError
from gossamer.model import LanguageModel, Site

pytest.importorskip("gguf")
peft = pytest.importorskip("peft")

SITES = [Site("z", 1), Site("mlp_out", 1), Site("q", 2), Site("resid_post", 2)]


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory):
    from gguf_writer import written

    path = tmp_path_factory.mktemp("gguf") / "tiny-Q8_0.gguf"
    return path, written(path)


def test_a_gguf_file_is_the_model_of_its_dequantised_weights(gguf_file):
    path, expected = gguf_file
    model = LanguageModel.load(path, device="cpu")
    tokens = random_tokens()
    assert model.family.name == "Llama"
    assert model.name == str(path)
    assert model.title == "tiny-Q8_0.gguf (dequantised)"
    assert model.dtype == torch.float32
    torch.testing.assert_close(model.logits(tokens), expected(tokens.ids).logits, rtol=1e-5, atol=1e-5)
    assert model.decode(model.tokenize(["abc"])) == ["abc"]
    assert LanguageModel.load(str(path), device="cpu", dtype=torch.bfloat16).dtype == torch.bfloat16


def test_a_gguf_file_is_known_by_its_content(gguf_file, tmp_path):
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(gguf_file[0].read_bytes())
    assert LanguageModel.load(renamed, device="cpu").n_layers == 3
    other = tmp_path / "other.gguf"
    other.write_bytes(b"not what it says")
    with pytest.raises(UsageError, match="no such folder; give a model folder, a GGUF file"):
        LanguageModel.load(other)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(gguf_file[0].read_bytes()[:300])
    with pytest.raises(GossamerError, match="could not be read") as raised:
        LanguageModel.load(damaged)
    assert "\n" not in str(raised.value)


def test_packages_that_are_missing_are_named(gguf_file, monkeypatch):
    monkeypatch.setattr(locating.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"pip install 'gossamer\[gguf\]'"):
        LanguageModel.load(gguf_file[0])


def adapted(hf, targets, seed=0):
    """`hf` with random LoRA matrices in `targets`."""
    torch.manual_seed(seed)
    settings = peft.LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    return peft.get_peft_model(hf, settings).eval()


@pytest.mark.parametrize(
    ("name", "targets"), [("llama", ["q_proj", "v_proj", "o_proj", "down_proj"]), ("gpt2", ["c_attn", "c_proj"])]
)
def test_an_adapted_model_is_the_merged_model(name, targets):
    tokens = random_tokens()
    wrapped = LanguageModel.load(adapted(random_hf(name), targets))
    merged = LanguageModel.load(adapted(random_hf(name), targets).merge_and_unload())
    assert wrapped.family.name == merged.family.name
    assert not torch.allclose(wrapped.logits(tokens), LanguageModel.load(random_hf(name)).logits(tokens), atol=0.1)
    torch.testing.assert_close(wrapped.logits(tokens), merged.logits(tokens), rtol=1e-4, atol=1e-4)
    found, expected = wrapped.capture(tokens, SITES), merged.capture(tokens, SITES)
    for site in SITES:
        torch.testing.assert_close(found[site], expected[site], rtol=1e-4, atol=1e-4)
    for site in SITES:
        with wrapped.edit({site: torch.zeros_like}), merged.edit({site: torch.zeros_like}):
            torch.testing.assert_close(wrapped.logits(tokens), merged.logits(tokens), rtol=1e-4, atol=1e-4)
    ours, theirs = wrapped.attention_weights(1), merged.attention_weights(1)
    for part in ("W_Q", "W_K", "W_V", "W_O", "b_V", "b_O"):
        torch.testing.assert_close(getattr(ours, part), getattr(theirs, part), rtol=1e-4, atol=1e-5)


def test_an_adapter_that_is_switched_off_is_off():
    tokens, hf = random_tokens(), adapted(random_hf("llama"), ["q_proj", "v_proj"])
    model = LanguageModel.load(hf)
    with hf.disable_adapter():
        torch.testing.assert_close(model.logits(tokens), LanguageModel.load(random_hf("llama")).logits(tokens))


def test_adapters_that_cannot_be_used_are_refused():
    virtual = peft.get_peft_model(
        random_hf("llama"), peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    )
    with pytest.raises(UsageError, match="virtual tokens before the prompt"):
        LanguageModel.load(virtual)
    model = LanguageModel.load(adapted(random_hf("llama"), ["lm_head"]))
    with pytest.raises(UsageError, match="merge adapters into the model first"):
        model.unembedding_rows(torch.tensor([1]))


@pytest.fixture
def adapter(tmp_path):
    """A folder of an adapter beside the folder of its base model."""
    base, folder = tmp_path / "base", tmp_path / "adapter"
    tiny_gpt2_model(word_tokenizer()).save_pretrained(base)
    word_tokenizer().save_pretrained(base)
    hf = tiny_gpt2_model(word_tokenizer())
    hf.name_or_path = str(base)
    adapted(hf, ["c_attn"]).save_pretrained(folder)
    return folder


def rewritten(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_adapter_folder_loads_on_its_base_model(adapter):
    model = LanguageModel.load(adapter, device="cpu")
    base = LanguageModel.load(adapter.parent / "base", device="cpu")
    expected = LanguageModel.load(adapted(base.hf, ["c_attn"]), tokenizer=base.tokenizer)
    assert (model.name, model.title) == (str(adapter), "adapter")
    tokens = model.tokenize([" Mary went to the store"])
    torch.testing.assert_close(model.logits(tokens), expected.logits(tokens))


def test_adapter_folders_that_cannot_be_loaded_say_why(adapter, monkeypatch):
    monkeypatch.setattr(locating.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UsageError, match=r"a PEFT adapter.*pip install 'gossamer\[peft\]'"):
        LanguageModel.load(adapter)
    monkeypatch.undo()
    for base, match in ((None, "names no base model"), (str(adapter), "names itself"), ("./nowhere", "no such folder")):
        rewritten(adapter, base_model_name_or_path=base)
        with pytest.raises(UsageError, match=match):
            LanguageModel.load(adapter)
    rewritten(adapter, base_model_name_or_path=str(adapter.parent / "base"))
    (adapter / "adapter_model.safetensors").write_bytes(b"damage")
    with pytest.raises(GossamerError, match="could not be read"):
        LanguageModel.load(adapter)


def test_a_model_without_weights_is_refused():
    with torch.device("meta"):
        hf = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    with pytest.raises(UsageError, match=r"a model without weights: .* is on the meta device; load it"):
        LanguageModel.load(hf)
