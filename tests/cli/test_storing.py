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

    (row,) = json.loads(gossamer("store", "query", store, "--token", word, "--limit", "1", "--json").out)["rows"]
    assert row == rows[0]
    line = gossamer("store", "query", store, "--token", word, "--limit", "1").out.splitlines()[1]
    assert line.split()[0] == f"{row['site']}/{row['latent']}"

    (store / "by_token" / "000000.parquet").unlink()
    said = gossamer("store", "verify", store)
    assert said.code == 1
    assert "by_token/000000.parquet: no such file" in said.err
    assert "run the command that built it with --repair" in said.err
    assert gossamer("store", "query", store, "--token", word).code == 1
    assert gossamer(*command, "--repair").code == 0
    assert gossamer("store", "verify", store).code == 0


def test_each_question_has_an_option(gossamer, command, tmp_path):
    store = tmp_path / "store"
    assert gossamer(*command).code == 0

    def rows(*options):
        said = gossamer("store", "query", store, *options, "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)["rows"]

    held = json.loads(gossamer("store", "query", store, "--json").out)
    assert held["sites"] == [{"site": "resid_post.1", "latents": 24, "architecture": "relu"}]
    assert f"{held['tokens']:,} tokens" in gossamer("store", "query", store).out
    every = rows("--sql", "SELECT * FROM statistics", "--limit", 100)
    busy = {row["latent"] for row in every if row["active"] >= 20 and 1.0 <= row["maximum"] <= 5.0}
    asked = ("--active", 20, "--maximum", "1,5", "--limit", 100)
    assert {row["latent"] for row in rows(*asked)} == busy
    assert 0 < len(busy) < 24
    own = rows("--sql", "SELECT * FROM activations WHERE latent = 3 ORDER BY value DESC", "--limit", 1000)
    tokens = rows("--tokens-of", "resid_post.1/3", "--limit", 5)
    assert [row["value"] for row in tokens] == [row["value"] for row in own[:5]]
    place = f"{own[0]['document']},{own[0]['position']}"
    assert own[0]["value"] in [row["value"] for row in rows("--latents-at", place) if row["latent"] == 3]
    said = gossamer("store", "query", store, "--explanation", "dogs")
    assert said.err == f"error: {store}: has no explanations; add some with 'gossamer store explain'\n"
    (tmp_path / "said.jsonl").write_text('{"feature": "resid_post.1/3", "text": "about dogs"}\n')
    assert gossamer("store", "explain", store, tmp_path / "said.jsonl").out.startswith("1 explanation kept in ")
    told = gossamer("store", "explain", store, tmp_path / "said.jsonl", "--json")
    assert json.loads(told.out) == {"url": str(store), "kept": 1}
    assert "resid_post.1/3" in gossamer("store", "query", store, "--explanation", "dogs").out
    assert gossamer("store", "query", store, "--explanation", "cats").err == "nothing found\n"
    for line in ("[]", '{"feature": 3, "text": "a"}', '{"feature": "resid_post.1/3"}'):
        (tmp_path / "said.jsonl").write_text(line)
        said = gossamer("store", "explain", store, tmp_path / "said.jsonl")
        assert (said.code, "line 1: {" in said.err) == (2, True)
    said = gossamer("store", "query", store, "--feature", "resid_post.1/3", "--relations", tmp_path)
    assert "relations expected, found none" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("query", "nowhere", "--sql", "SELECT 1", "--token", "a"), "one of --sql, --feature, --tokens-of"),
        (("query", "nowhere", "--feature", "z.1/1", "--tokens-of", "z.1/1"), "one of --sql, --feature, --tokens-of"),
        (("query", "nowhere", "--token", "a", "--relations", "folder"), "--relations: for the card of a latent"),
        (("query", "nowhere", "--latents-at", "3"), "--latents-at: DOCUMENT,POSITION expected"),
        (("query", "nowhere", "--maximum", "3,1"), "maximum: 0 <= least <= largest <= inf expected"),
        (("query", "nowhere", "--active", "-1"), "active: at least 0 tokens expected"),
        (("query", "nowhere"), "a feature store expected, found no store.json; write one with 'gossamer store build'"),
        (("explain", "nowhere", "nothing.jsonl"), "nothing.jsonl: no such file"),
        (("query", "nowhere", "--density", "1"), "--density: LEAST,LARGEST expected"),
        (("query", "nowhere", "--token", "a", "--limit", "0"), "--limit: at least 1 expected"),
        (
            ("query", "nowhere", "--token", "a"),
            "a feature store expected, found no store.json; write one with 'gossamer store build'",
        ),
        (("verify", "nowhere"), "a feature store expected, found no store.json; write one with 'gossamer store build'"),
        (("build", "model", "out", "--text", "nowhere.txt"), "nowhere.txt: no such file"),
        (("build", "model", "out", "--text", ".", "--threshold", "-1"), "a threshold of at least 0 expected"),
        (("build", "model", "out", "--text", ".", "--engine", "spark"), "--engine: ray, or ray:HOST:PORT of a running"),
        (("build", "model", "out", "--text", ".", "--engine", "ray:here"), "HOST:PORT of a running cluster expected"),
        (("build", "model", "out", "--text", ".", "--engine", "ray:127.0.0.1:1"), "127.0.0.1:1 expected, found none"),
        (("build", "model", "out", "--text", ".", "--engine", "ray", "--workers", "0"), "at least 1 worker expected"),
        (("build", "model", "out", "--text", ".", "--workers", "2"), "--workers: --engine ray expected with it"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_model_is_read(gossamer, monkeypatch, tmp_path, options, message):
    monkeypatch.setattr(LanguageModel, "load", None)
    monkeypatch.chdir(tmp_path)
    if "no store.json" not in message:
        # What is missing altogether is said first.
        (tmp_path / "nowhere").mkdir()
        (tmp_path / "nowhere" / "store.json").write_text("{}")
    if options[0] == "build":
        options = (*options, "-d", ".")
    said = gossamer("store", *options)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_text_in_another_encoding_is_named(gossamer, command, tmp_path):
    (tmp_path / "text.jsonl").write_bytes('{"text": "caf\xe9 and more of it"}'.encode("latin-1"))
    said = gossamer(*command)
    assert said.code == 1
    assert "expected UTF-8 text, found other bytes" in said.err


def test_without_the_extra_the_package_imports_and_one_line_says_what_to_install(gossamer, monkeypatch, tmp_path):
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
    (tmp_path / "store.json").write_text("{}")
    said = gossamer("store", "verify", tmp_path)
    assert said.code == 2
    assert said.err.strip().endswith('needs pyarrow, which is not installed; pip install "gossamer[store]"')
