"""Models that score by themselves: what they are for, gold questions that show those at chance, and a study of them."""

import json

import numpy as np
import pytest
import torch
from explain_fixtures import SITE, WINDOWS, Script, feature, planted_dictionary, planted_model, planted_store, window
from transformers import BertConfig, BertModel

from gossamer.chat.chat import Ability
from gossamer.errors import UsageError
from gossamer.explain import ChatJudge, ExplainSettings, ExplanationStudy, FeatureWindows, WindowedCorpus
from gossamer.explain.controls import gold_ability, gold_items
from gossamer.explain.corpus import TRAIN
from gossamer.explain.cost import estimate
from gossamer.explain.embedders import EndpointEmbedder, LocalEmbedder
from gossamer.explain.model_judges import EmbeddingJudge, FeaturesModel, ReadingJudge, WritingJudge
from gossamer.explain.model_scorers import mean_norm, token_changes
from gossamer.explain.scorers import Trial
from gossamer.explain.summary import no_better_than_words, summary
from gossamer.store import FeatureStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "store"
    planted_store(folder)
    with FeatureStore(folder) as opened:
        yield opened


def by_words(texts):
    """A vector of the words of a text: an embedder that knows every word, and what a question is about."""
    split = [text.rpartition(": ")[2].replace('"', " ").lower().split() for text in texts]
    words = sorted({word for one in split for word in one} - {"the", "word"})
    return np.array([[float(word in one) for word in words] for one in split])


def blind(texts):
    """The same vector for every text but for noise: an embedder that knows nothing."""
    return np.random.default_rng(len(texts)).normal(size=(len(texts), 8)) + 10


class ByWord(Script):
    """Explains with a sentence, judges well, and writes texts with the word it is told."""

    model = "writer"

    def __init__(self):
        super().__init__(self.answer)

    @staticmethod
    def answer(request):
        said = request.system + request.user
        if "Text 1:" in request.user:
            lines = [line.partition(":")[2] for line in request.user.splitlines() if line.startswith("Text ")]
            word = said.partition('the word "')[2].partition('"')[0] or "dog"
            return json.dumps([int(word in line.lower().split()) for line in lines])
        return '["the dog near the park", "a dog"]'


def test_gold_questions_tell_who_can_rank(store):
    items = gold_items(WindowedCorpus.of(store, WINDOWS))
    knows, nothing = EmbeddingJudge(by_words, "words"), EmbeddingJudge(blind, "noise")
    assert gold_ability(knows.gold(items)) is Ability.ABLE
    assert knows.gold(items).auroc.value == pytest.approx(1, abs=0.02)
    assert gold_ability(nothing.gold(items)) is Ability.AT_CHANCE
    # A model of random weights reads nothing out of an explanation.
    assert gold_ability(ReadingJudge(planted_model()).gold(items)) is Ability.AT_CHANCE
    assert gold_ability(WritingJudge(ByWord(), FeaturesModel(planted_model(), {})).gold(items)) is Ability.ABLE


def test_a_study_of_what_models_score_ranks_nothing_where_they_are_at_chance(store, tmp_path):
    model = planted_model()
    of_features = FeaturesModel(model, {SITE: planted_dictionary(model)})
    chat = ByWord()
    scorers = ("detection", "embedding", "surprisal", "intervention", "clarity")
    settings = ExplainSettings(("rule",), scorers, WINDOWS)
    judges = [
        *(EmbeddingJudge(by_words, "words"), EmbeddingJudge(blind, "noise")),
        *(ReadingJudge(model, of_features), WritingJudge(chat, of_features)),
    ]

    def study():
        some = [feature(0), feature(3)]
        judge = ChatJudge(chat)
        return ExplanationStudy(
            store, some, settings, chat=chat, judge=judge, features_model=of_features, judges=judges
        )

    found = study().run(tmp_path / "out")
    lines = {(line.judge, line.scorer): line for line in summary(found) if not line.control}
    assert {scorer for _, scorer in lines} == set(scorers)
    known = lines["embedder words", "embedding"]
    assert known.ability is Ability.ABLE
    assert known.mean.value > 0.9
    shuffled = next(line for line in summary(found) if line.judge == "embedder words" and line.control == "shuffled")
    assert shuffled.mean.value < known.mean.value
    reader = f"reader {model.title}"
    for judge in ("embedder noise", reader):
        assert found.ability(judge) is Ability.AT_CHANCE
        assert all(
            line.said == "judge at chance" and line.mean is None for (name, _), line in lines.items() if name == judge
        )
    assert lines["writer writer", "clarity"].scored == 2
    # A rule that is asked of other judges too is no sentence that could be worse than itself.
    assert no_better_than_words(found) == {}
    before = (tmp_path / "out" / "scores.json").read_bytes()
    chat.requests.clear()
    study().run(tmp_path / "out")
    assert (tmp_path / "out" / "scores.json").read_bytes() == before
    assert chat.requests == []
    # Questions to the writer are counted before they are asked: 15 a sentence, of each feature and its shuffled one.
    from gossamer.chat import Prices

    counted = estimate(study(), Prices(1.0, 1.0)).questions
    without = ExplanationStudy(
        store, [feature(0), feature(3)], ExplainSettings(("rule",), ("detection",), WINDOWS), judge=ChatJudge(chat)
    )
    assert counted >= estimate(without, Prices(1.0, 1.0)).questions + 4 * 15
    for scorer in ("embedding", "clarity"):
        with pytest.raises(UsageError, match=f"scorer {scorer}: a model for it"):
            ExplanationStudy(store, [feature(0)], ExplainSettings(("rule",), (scorer,), WINDOWS))


def test_amplified_features_are_shown_to_output_centric_explainers(store):
    model = planted_model()
    of_features = FeaturesModel(model, {SITE: planted_dictionary(model)})
    chat = Script("Makes the model write school")
    settings = ExplainSettings(("output",), ("detection",), WINDOWS)
    study = ExplanationStudy(store, [feature(3)], settings, chat=chat, judge=None, features_model=of_features, scored=1)
    study.run()
    corpus = study.corpus
    own = np.flatnonzero(corpus.split == TRAIN)
    texts = [corpus.window_text(int(one)) for one in own[:: max(1, len(own) // 16)][:16]]
    tokens, dictionary = model.tokenize(texts), planted_dictionary(model)
    factor = 0.4 * mean_norm(model, SITE, tokens) / float(dictionary.W_dec[3].norm())
    expected = token_changes(model, dictionary, 3, tokens, factor=factor)
    assert f"Rose when amplified: {' | '.join(expected)}" in chat.requests[0].user
    with pytest.raises(UsageError, match=r"a dictionary at resid_pre\.0 expected"):
        FeaturesModel(model, {}).dictionary(feature(0))


def test_a_local_embedder_is_the_mean_of_the_last_layer(tmp_path):
    tokenizer = planted_model().tokenizer
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
    )
    bert = BertModel(config).eval()
    bert.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    embed = LocalEmbedder(str(tmp_path), batch_size=2)
    texts = [" the dog", " the boy near the park", " Mary"]
    found = embed(texts)
    for text, vector in zip(texts, found, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            np.testing.assert_allclose(vector, bert(ids).last_hidden_state[0].mean(dim=0).numpy(), atol=1e-5)
    assert embed([" dog" * 40]).shape == (1, 16)
    with pytest.raises(UsageError, match="a transformers model expected"):
        LocalEmbedder(str(tmp_path / "none"))


def test_a_server_is_asked_for_a_text_once():
    class Counting:
        asked = ()

        def embeddings(self, texts):
            self.asked = (*self.asked, *texts)
            return [[float(len(text)), 1.0] for text in texts]

    class Known(EndpointEmbedder):
        def __init__(self, server):
            self._endpoint, self._known = server, {}

    server = Counting()
    embed = Known(server)
    assert embed(["a", "bb", "a"]).tolist() == [[1, 1], [2, 1], [1, 1]]
    assert embed(["bb", "ccc"]).tolist() == [[2, 1], [3, 1]]
    assert server.asked == ("a", "bb", "ccc")


def test_scorers_are_those_of_the_functions(store):
    model = planted_model()
    positives = tuple(window(f"the dog {one} park", 1, stratum=0) for one in ("near", "in"))
    negatives = tuple(window(f"the boy {one} park", kind="random") for one in ("near", "in"))
    given = FeatureWindows(feature(0), 1.0, positives, positives, positives, negatives, negatives)
    test, corpus = Trial(given, "dog"), WindowedCorpus.of(store, WINDOWS)
    assert EmbeddingJudge(by_words, "words").score("embedding", test, corpus).value == 1
    judge = ReadingJudge(model)
    assert judge.scorers == ("surprisal",)
    likeness = judge.likeness("dog", [*positives, *negatives])
    pairs = [np.sign(a - b) for a in likeness[:2] for b in likeness[2:]]
    assert judge.score("surprisal", test, corpus).value == pytest.approx(0.5 + float(np.mean(pairs)) / 2)
