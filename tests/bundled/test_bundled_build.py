"""The build command, end to end with few steps, and the parts of training that it rests on."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from gossamer.bundled import build, dictionaries
from gossamer.bundled.corpus import task_words, texts
from gossamer.bundled.rows import WeightedRows, batches
from gossamer.bundled.tokenizer import train_tokenizer
from gossamer.bundled.training import LanguageModelRecipe, loss_sum, new_model, train
from gossamer.files import read_json
from gossamer.training.config import CorpusConfig, DictionaryTrainerConfig, FinetuneConfig, FitConfig, TrainingConfig
from gossamer.training.objectives import BatchTopK

TINY = replace(LanguageModelRecipe(), n_layers=2, d_model=32, n_heads=2, steps=3, first_steps=1, batch=4)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(texts(3000, 0), task_words(), 128)


@pytest.fixture
def trained(tokenizer):
    def once(recipe):
        torch.set_num_threads(1)
        model = new_model(recipe, tokenizer)
        steps = batches(tokenizer, recipe.seed, batch=4, longest=64, first_steps=1)
        train(model, steps, recipe)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    return once


def test_training_is_the_same_for_a_seed_and_other_for_another(trained):
    first = trained(TINY)
    assert torch.equal(first, trained(TINY))
    assert not torch.equal(first, trained(replace(TINY, seed=1)))


def test_a_step_lowers_the_loss_and_watch_sees_every_step(tokenizer):
    model = new_model(TINY, tokenizer)
    step = next(batches(tokenizer, 0, batch=4, longest=64, first_steps=1))
    seen = []
    train(
        model, iter([step] * 12), replace(TINY, steps=12, warm_up=1), lambda number, loss: seen.append((number, loss))
    )
    assert [number for number, _ in seen] == list(range(1, 13))
    assert seen[-1][1] < 0.9 * seen[0][1]


def test_loss_is_the_weighted_cross_entropy(tokenizer):
    model = new_model(TINY, tokenizer).double()
    ids = torch.tensor([[0, 5, 9, 7], [0, 8, 3, 0]])
    weights = torch.tensor([[0.0, 1.0, 0.1, 0.0], [0.0, 0.0, 1.0, 0.0]], dtype=torch.float64)
    with torch.no_grad():
        odds = model(input_ids=ids).logits.log_softmax(dim=-1)
        expected = -(odds[0, 0, 5] + 0.1 * odds[0, 1, 9] + odds[1, 1, 3])
        assert loss_sum(model, WeightedRows(ids, weights)).item() == pytest.approx(expected.item(), rel=1e-12)


def test_two_heads_start_by_looking_back(tokenizer):
    model = new_model(replace(TINY, d_model=96, n_heads=4), tokenizer)
    model.set_attn_implementation("eager")
    ids = torch.tensor([tokenizer(texts(4, 1)[3])["input_ids"]])
    with torch.no_grad():
        pattern = model(input_ids=ids, output_attentions=True).attentions[0][0]
    for head, back in enumerate((1, 2)):
        attended = pattern[head, 4:].argmax(dim=-1)
        assert (attended == torch.arange(4, ids.shape[1]) - back).float().mean() > 0.9


@pytest.fixture
def short(monkeypatch):
    """A build that takes seconds."""
    monkeypatch.setattr(build, "PROMPTS", 4)
    config = TrainingConfig(
        corpus=CorpusConfig(context=40, bos=1.0),
        trainer=DictionaryTrainerConfig(n_latents=32, objective=BatchTopK(k=4)),
        fit=FitConfig(tokens=2048, batch=256, buffer=1024, sensitivity_rows=16),
        finetune=FinetuneConfig(tokens=0),
    )
    monkeypatch.setattr(dictionaries, "CONFIG", config)
    monkeypatch.setattr(dictionaries, "TEXTS", 300)
    monkeypatch.setattr(dictionaries, "SITES", dictionaries.SITES[:1])


@pytest.mark.slow
def test_a_build_runs_end_to_end(short, tmp_path):
    folder = tmp_path / "tiny"
    torch.set_num_threads(1)
    assert build.main(["--out", str(folder), "--steps", "3"]) == 0
    weights = load_file(folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.float32
    assert len(AutoTokenizer.from_pretrained(folder)) == len(weights["transformer.wte.weight"])
    facts = read_json(folder / "build.json")
    assert facts["accuracy"].keys() == facts["dictionaries"].keys()
    assert "kept" in (folder / "CARD.md").read_text()
    index = read_json(folder / "dictionaries" / "dictionaries.json")
    assert index["model"] == "bundled:tiny"


def test_a_folder_with_a_model_is_refused(tmp_path, capsys):
    (tmp_path / "model.safetensors").touch()
    assert build.main(["--out", str(tmp_path)]) == 2
    assert "expected no model there" in capsys.readouterr().err
