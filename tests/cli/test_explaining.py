"""`gossamer explain` and `gossamer game`: files, early refusals, a scripted server, a round that is typed."""

import json
import re

import pytest
from explain_fixtures import planted_model, planted_store
from scripted_server import ScriptedServer
from typer.testing import CliRunner

from gossamer import cli
from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import GossamerError, UsageError
from gossamer.model import Site
from gossamer.store import FeatureStore, Search


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain") / "store"
    _, dictionary = planted_store(folder, count=240)
    dictionary.save(folder.parent / "dictionary")
    return folder


def run(*arguments, input=None):
    found = CliRunner().invoke(cli.app, [str(one) for one in arguments], input=input)
    if isinstance(found.exception, GossamerError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found


def explain(store, out, *arguments):
    latents = [f"--feature=resid_pre.0/{latent}" for latent in (0, 2, 3, 4)]
    return run("explain", store, "--length", 16, "--out", out, *latents, *arguments)


def test_rules_are_found_followed_and_kept(store, tmp_path):
    said = explain(store, tmp_path / "out", "--keep", "--neuronpedia", "tiny/0-res", "-d", store.parent / "dictionary")
    assert "3 explanations, 1 without one: 1 never active in the corpus" in said.output
    assert re.search(r"rule by rule, detection: 1\.000", said.output)
    assert re.search(r"rule by rule, detection \(shuffled\): 0\.[3-7]", said.output)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"explanations.json", "scores.json", "explanations.md", "explanations.png", "explanations.csv"}
    assert json.loads((tmp_path / "out" / "neuronpedia" / "upload-0.json").read_text())["modelId"] == "tiny"
    with FeatureStore(store) as opened:
        assert opened.search(Search(explanation="school"))["latent"].to_pylist() == [3]
    # A set of dictionaries may have more sites than the store.
    more = Dictionary(DictionaryConfig("relu", 32, 8, site=Site("resid_post", 0)))
    more.save(tmp_path / "more")
    sets = ("-d", store.parent / "dictionary", "-d", tmp_path / "more")
    explain(store, tmp_path / "of-two", "--neuronpedia", "tiny/0-res", *sets)
    with pytest.raises(UsageError, match=r"dictionaries at resid_pre\.0 expected, found resid_post\.0"):
        explain(store, tmp_path / "three", "-d", tmp_path / "more")
    # The same command goes on where nothing is left to do.
    again = explain(store, tmp_path / "out", "--json", "-d", store.parent / "dictionary")
    told = json.loads(again.stdout)
    assert [row["explanation"]["feature"] for row in told["explanations"]] == [
        f"resid_pre.0/{latent}" for latent in (0, 2, 3, 4)
    ]


def reads(body):
    """Explains by the marked token, and finds an explanation's word in texts."""
    system, user = body["messages"][0]["content"], body["messages"][-1]["content"]
    if "[EXPLANATION]" in system:
        return "[EXPLANATION]: the word " + re.search(r"<< ?(\w+)>>", user)[1]
    word = re.search(r'the word "?(\w+)', system)
    lines = re.findall(r"^Text \d+:(.*)$", user, re.MULTILINE)
    return json.dumps([int(word is not None and word[1].lower() in line.lower().split()) for line in lines])


def test_a_server_explains_and_judges(store, tmp_path):
    with ScriptedServer(answer=reads) as server:
        given = ("--by", "rule", "--by", "delphi", "--score", "detection", "--endpoint", server.url)
        paid = ("--price", "1,1", "--max-cost")
        with pytest.raises(UsageError, match="--max-cost: at most"):
            explain(store, tmp_path / "out", *given, "--model", "scripted", *paid, "0.000001")
        assert [body for _, _, body in server.requests] == [None]
        said = explain(store, tmp_path / "out", *given, "--model", "scripted", *paid, "5")
        asked = len(server.requests)
        explain(store, tmp_path / "out", *given, "--model", "scripted", *paid, "5")
        # Everything was there: only the list of models is asked for.
        assert len(server.requests) == asked + 1
        with pytest.raises(UsageError, match="a server of other expected"):
            explain(store, tmp_path / "two", *given, "--model", "other")
    assert re.search(r"delphi by scripted, detection: 0?1?\.\d+", said.output)
    assert "no better than a word list at" in said.output


def test_models_score_by_themselves_and_show_what_amplifying_does(store, tmp_path):
    model = planted_model()
    model.hf.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    own = ("--features-model", tmp_path / "model", "-d", store.parent / "dictionary", "--scored", "2")
    scorers = [
        f"--score={one}" for one in ("detection", "embedding", "surprisal", "intervention", "clarity", "faithfulness")
    ]
    with ScriptedServer(answer=lambda body: reads(body) if "messages" in body else "") as server:
        reply = server.reply

        def replies(body, *given):
            if "input" not in body:
                return reply(body, *given)
            texts = [text.rpartition(": ")[2].replace('"', " ").split() for text in body["input"]]
            vectors = [[float(word in text) for word in ("dog", "school", "Mary", "park", "boy")] for text in texts]
            return {"data": [{"index": number, "embedding": [*one, 0.1]} for number, one in enumerate(vectors)]}

        server.reply = replies
        asked = ("--by", "rule", "--by", "output", "--endpoint", server.url, "--model", "scripted")
        embeds = ("--embedding-endpoint", server.url, "--embedder", "scripted")
        said = explain(store, tmp_path / "out", *own, *scorers, *asked, *embeds)
        shown = [body["messages"][-1]["content"] for _, _, body in server.requests if body and "messages" in body]
    assert any("Rose when amplified: " in one for one in shown)
    for judge, scorer in (
        ("embedder scripted", "embedding"),
        (r"reader \S+", "surprisal"),
        (r"reader \S+", "intervention"),
        ("writer scripted", "clarity"),
        ("writer scripted", "faithfulness"),
    ):
        assert re.search(rf"rule by {judge}, {scorer}: \S+", said.output), (judge, said.output)
    assert re.search(r"rule by reader \S+, surprisal: judge at chance", said.output)
    other = planted_model()
    other.hf.transformer.wte.weight.data += 1
    other.hf.save_pretrained(tmp_path / "model")
    with pytest.raises(UsageError, match="of another model or dictionary"):
        explain(store, tmp_path / "two", *own, "--score=surprisal")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--score", "embedding"), "--score embedding: --embedder expected"),
        (("--score", "surprisal"), "--score surprisal: --reader or --features-model expected"),
        (("--score", "intervention", "--features-model", "m"), "--score intervention: -d expected"),
        (("--score", "clarity"), "a language model"),
        (("--score", "faithfulness", "--features-model", "m"), "a language model"),
        (("--embedder", "m"), "--score embedding expected with it"),
        (("--reader", "m"), "--score surprisal or intervention expected with it"),
        (("--embedding-endpoint", "http://127.0.0.1:9/v1"), "--embedder: its name"),
        (("--score", "embedding", "--embedder", "nowhere/at-all"), "a transformers model expected"),
        (("--by", "guess"), "--by: expected one of rule, bills"),
        (("--score", "guess"), "--score: expected one of detection"),
        (("--by", "delphi"), "a language model"),
        (("--score", "saebench"), "a language model"),
        (("--endpoint", "http://127.0.0.1:9/v1"), "--model"),
        (("--model", "m"), "--endpoint or --local"),
        (("--price", "1"), "INPUT,OUTPUT"),
        (("--neuronpedia", "x"), "MODEL/SOURCE"),
        (("-d", "nowhere"), "no such file or folder"),
        (("--texts", "nowhere.csv"), "no such file"),
        (("--endpoint", "ftp://x", "--model", "m"), "http://HOST/v1"),
        (("--endpoint", "http://127.0.0.1:9/v1", "--model", "m"), "found none"),
        (("--feature", "resid_pre.0/77"), "a latent of"),
        (("--site", "resid_post.9"), "site: one of resid_pre.0 expected, found resid_post.9"),
    ],
)
def test_what_cannot_be_meant_is_refused(store, tmp_path, arguments, expected):
    with pytest.raises(UsageError, match=expected):
        run("explain", store, "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_store_is_refused(tmp_path):
    with pytest.raises(UsageError, match="a feature store expected"):
        run("explain", tmp_path, "--out", tmp_path / "out")


def test_the_game_in_a_terminal_and_as_a_page(store, tmp_path):
    latents = [f"--feature=resid_pre.0/{latent}" for latent in (0, 3)]
    board = tmp_path / "board.json"
    typed = "\n".join(["1", *"yynynynynn", "my words", *"nnnnnnnnnn"]) + "\n"
    said = run("game", store, *latents, "--board", board, "--name", "Ada", input=typed)
    assert "resid_pre.0/0" in said.output.partition("the round")[2]
    assert [row["player"] for row in json.loads(board.read_text())["rows"]] == ["Ada"]
    run("game", store, *latents, "--page", tmp_path / "game.html")
    assert "resid_pre.0/0" in (tmp_path / "game.html").read_text()
    with pytest.raises(UsageError, match="the other one too"):
        run("game", store, "--model", "m")
