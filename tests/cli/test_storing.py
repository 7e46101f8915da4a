"""`gossamer store`: built, checked and asked from the command line; refusals before any model is read."""

import json
import random
import subprocess
import sys

import pytest
import torch
from word_model import NAMES, WORDS

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.model import LanguageModel


@pytest.fixture
def command(tiny, tmp_path):
    """The command line that builds a small store at tmp_path/store."""
    draw = random.Random(0)
    rows = [{"text": "".join(f" {draw.choice((*NAMES, *WORDS))}" for _ in range(20))} for _ in range(6)]
    (tmp_path / "text.jsonl").write_text("\n".join(map(json.dumps, rows)))
    made = Dictionary(DictionaryConfig("relu", 32, 24, site="resid_post.1", model_name=str(tiny)))
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    made.save(tmp_path / "dictionary")
    options = ("--text", tmp_path / "text.jsonl", "-d", tmp_path / "dictionary", "--context", 16, "--allow-other-model")
    return "store", "build", tiny, tmp_path / "store", *options


def test_a_store_is_built_checked_asked_damaged_and_mended(gossamer, command, tmp_path):
    said = gossamer(*command, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["documents"], found["split"], found["empty"]) == (6, 6, 0)
    said = gossamer(*command)
    assert "6 texts (6 longer than 16 tokens and split, 0 empty)" in said.out
    store = tmp_path / "store"
    assert "files as they were written; the store is complete" in gossamer("store", "verify", store).out

    counted = gossamer("store", "query", store, "--sql", "SELECT count(*) AS n FROM activations", "--json")
    assert json.loads(counted.out) == {"rows": [{"n": found["entries"]}]}
    assert "n" in gossamer("store", "query", store, "--sql", "SELECT count(*) AS n FROM activations").out
    card = json.loads(gossamer("store", "query", store, "--feature", "resid_post.1/3", "--json").out)
    assert card["feature"] == "resid_post.1/3"
    assert "resid_post.1/3 in" in gossamer("store", "query", store, "--feature", "resid_post.1/3").out
    word = json.loads((tmp_path / "text.jsonl").read_text().splitlines()[0])["text"].split()[0]
    rows = json.loads(gossamer("store", "query", store, "--token", word, "--json").out)["rows"]
    assert rows
    assert rows[0]["score"] >= rows[-1]["score"]

    (store / "by_token" / "000000.parquet").unlink()
    said = gossamer("store", "verify", store)
    assert said.code == 1
    assert "by_token/000000.parquet: no such file" in said.err
    assert "run the command that built it with --repair" in said.err
    assert gossamer("store", "query", store, "--token", word).code == 1
    assert gossamer(*command, "--repair").code == 0
    assert gossamer("store", "verify", store).code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("query", "nowhere"), "one of --sql, --feature or a search"),
        (("query", "nowhere", "--sql", "SELECT 1", "--token", "a"), "one of --sql, --feature or a search"),
        (("query", "nowhere", "--density", "1"), "--density: LEAST,LARGEST expected"),
        (("query", "nowhere", "--token", "a", "--limit", "0"), "--limit: at least 1 expected"),
        (("query", "nowhere", "--token", "a"), "a feature store expected, found no store.json; build one first"),
        (("verify", "nowhere"), "a feature store expected, found no store.json; build one first"),
        (("build", "model", "out", "--text", "nowhere.txt"), "nowhere.txt: no such file"),
        (("build", "model", "out", "--text", ".", "--threshold", "-1"), "a threshold of at least 0 expected"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_model_is_read(gossamer, monkeypatch, tmp_path, options, message):
    monkeypatch.setattr(LanguageModel, "load", None)
    monkeypatch.chdir(tmp_path)
    said = gossamer("store", *options)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_text_in_another_encoding_is_named(gossamer, command, tmp_path):
    (tmp_path / "text.jsonl").write_bytes('{"text": "caf\xe9 and more of it"}'.encode("latin-1"))
    said = gossamer(*command)
    assert said.code == 1
    assert "expected UTF-8 text, found other bytes" in said.err


def test_without_the_extra_the_package_imports_and_one_line_says_what_to_install(gossamer, monkeypatch):
    program = (
        "import sys\n"
        "for name in ('duckdb', 'pyarrow', 'fsspec'):\n"
        "    sys.modules[name] = None\n"
        "sys.argv = ['gossamer', 'store', *sys.argv[1:]]\n"
        "from gossamer.cli import run\n"
        "run()\n"
    )
    said = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "verify" in said.stdout
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = gossamer("store", "verify", "folder")
    assert said.code == 2
    assert said.err.strip().endswith('needs pyarrow, which is not installed; pip install "gossamer[store]"')
