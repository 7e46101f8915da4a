"""The files that ship: present, small, loadable, and as accurate as promised."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gossamer import bundled
from gossamer.bundled.accuracy import TASKS, correct, held_out_prompts
from gossamer.bundled.corpus import task_words
from gossamer.errors import UsageError
from gossamer.files import read_json

BUDGET = 12 * 2**20
AIM = 5 * 2**20


@pytest.fixture(scope="module")
def spool():
    folder = bundled.path("spool")
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_names_and_path():
    assert "spool" in bundled.names()
    for name in bundled.names():
        assert bundled.path(name).is_dir()


@pytest.mark.parametrize("name", ["nothing", "", "..", "spool/.."])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(UsageError, match="spool"):
        bundled.path(name)


def test_files_are_there_small_and_not_pickled():
    folder = bundled.path("spool")
    files = [file for file in folder.rglob("*") if file.is_file()]
    names = {file.name for file in files}
    assert names >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "CARD.md",
        "build.json",
    }
    assert {file.suffix for file in files} <= {".json", ".safetensors", ".md"}
    assert sum(file.stat().st_size for file in files) <= AIM <= BUDGET


def test_runs_in_float32_and_knows_its_bos(spool):
    model, tokenizer = spool
    assert model.dtype == torch.float32
    assert tokenizer.bos_token == "<|endoftext|>"
    assert tokenizer.bos_token_id == model.config.bos_token_id
    assert len(tokenizer) == model.config.vocab_size


def test_every_task_word_is_one_token(spool):
    _, tokenizer = spool
    assert [word for word in task_words() if len(tokenizer(word, add_special_tokens=False)["input_ids"]) != 1] == []


def test_any_text_survives_the_tokenizer(spool):
    _, tokenizer = spool
    text = "Größe — 数 \t x=[1,\n2] 'tis"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == f"<|endoftext|>{text}"


@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_the_first_choice_on_held_out_prompts(spool, task):
    # Another seed than that of the card: prompts nobody has looked at.
    right = correct(*spool, held_out_prompts(task, 300, seed=11))
    assert sum(right) / len(right) >= 0.97


@pytest.mark.parametrize("case", ["works", "fails"])
@pytest.mark.parametrize("task", ["code index", "code key"])
def test_both_kinds_of_lookup_are_answered(spool, task, case):
    prompts = [prompt for prompt in held_out_prompts(task, 300, seed=12) if prompt.case == case]
    assert len(prompts) > 100
    assert sum(correct(*spool, prompts)) / len(prompts) >= 0.95


def test_the_card_says_what_was_measured():
    folder = bundled.path("spool")
    facts = read_json(folder / "build.json")
    card = (folder / "CARD.md").read_text()
    assert facts["accuracy"].keys() == TASKS.keys()
    for task, score in facts["accuracy"].items():
        assert score >= 0.97
        assert f"| {task} | {score:.3f} |" in card
