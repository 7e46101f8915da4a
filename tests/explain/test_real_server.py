"""The whole way through a server of your own, named by OPENAI_BASE_URL (vLLM, Ollama, llama.cpp); else left out."""

import os

import pytest
from explain_fixtures import WINDOWS, feature, planted_store

from gossamer.explain import ChatJudge, Endpoint, EndpointSettings, ExplainSettings, ExplanationStudy, WindowedCorpus
from gossamer.explain.controls import gold_items, judged
from gossamer.explain.summary import no_better_than_words, summary
from gossamer.store import FeatureStore

URL = os.environ.get("OPENAI_BASE_URL")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not URL, reason="no OPENAI_BASE_URL")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server") / "store"
    planted_store(folder)
    with FeatureStore(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    httpx = pytest.importorskip("httpx")
    name = os.environ.get("OPENAI_MODEL") or httpx.get(f"{URL}/models").json()["data"][0]["id"]
    cache = tmp_path_factory.mktemp("answers")
    found = Endpoint(EndpointSettings(URL, name, structured=True, concurrency=1, timeout=600, cache=cache))
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
        assert line.at_chance == found.at_chance(endpoint.model)
        assert line.mean is None or not line.at_chance
    assert not (found.at_chance(endpoint.model) and no_better_than_words(found))
