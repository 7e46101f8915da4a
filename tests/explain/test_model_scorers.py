"""Scores by embeddings, surprise and steering, and a local model as explainer, on tiny models."""

import json
import math

import numpy as np
import pytest
import torch
from explain_fixtures import (
    PLANTED,
    SITE,
    WINDOWS,
    Script,
    feature,
    planted_dictionary,
    planted_model,
    planted_store,
    window,
)

from gossamer.errors import UsageError
from gossamer.explain import ChatJudge, ChatReply, ChatRequest, FeatureWindows, LocalChat, WindowedCorpus
from gossamer.explain.corpus import TEST
from gossamer.explain.model_scorers import (
    _losses,
    _strength,
    clarity,
    embedding,
    intervention,
    steered_faithfulness,
    surprisal,
    token_changes,
)
from gossamer.explain.scorers import Trial
from gossamer.store import FeatureStore


@pytest.fixture(scope="module")
def model():
    return planted_model()


def windows():
    positives = tuple(window(f"the dog {one} park", 1, stratum=0) for one in ("near", "in", "at", "like"))
    negatives = tuple(window(f"the boy {one} park", kind="random") for one in ("near", "in", "at", "like"))
    return FeatureWindows(feature(0), 1.0, positives, positives, positives, negatives, negatives)


def test_embeddings_rank_windows_by_cosine():
    def embed(texts):
        return np.array([[text.count("dog") + 0.0, 1.0] for text in texts])

    assert embedding(Trial(windows(), "dog"), embed).value == 1.0
    assert embedding(Trial(windows(), "boy"), embed).value == 0.0
    with pytest.raises(UsageError, match="9 finite vectors"):
        embedding(Trial(windows(), "dog"), lambda texts: np.zeros((3, 2)))


def test_losses_behind_a_context_are_those_of_its_tokens(model):
    context, text = "the boy", " dog near park"
    tokens = model.tokenize([context + text])
    logprobs = model.logits(tokens)[0].log_softmax(-1)
    own = [float(logprobs[place - 1, int(tokens.ids[0, place])]) for place in (2, 3, 4)]
    assert _losses(model, context, [text, " dog"], 2)[0] == pytest.approx(-sum(own) / 3, abs=1e-5)


def test_surprisal_is_an_area(model):
    found = surprisal(Trial(windows(), "dog"), model)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.items.right == 8


def test_a_direction_is_as_long_as_its_kl(model):
    tokens = model.tokenize(["the boy near", "Mary and John"])
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    length = _strength(model, SITE, direction, tokens, 0.5, steps=30)
    unit = direction / direction.norm()
    before = model.logits(tokens, at=tokens.last).log_softmax(-1)
    with model.edit({SITE: lambda value: value + length * unit}):
        after = model.logits(tokens, at=tokens.last).log_softmax(-1)
    assert float((before.exp() * (before - after)).sum(-1).mean()) == pytest.approx(0.5, rel=1e-2)


def test_intervention_is_a_difference_from_a_random_direction(model):
    dictionary = planted_dictionary(model)
    prompts = ["the boy near", "Mary and John", "the park in", "One day"]
    found = intervention(Trial(windows(), "dog"), model, dictionary, model, prompts=prompts)
    assert found.value == pytest.approx(found.beside["feature"] - found.beside["random direction"])
    assert found.low < found.value < found.high
    with pytest.raises(UsageError, match="two prompts"):
        intervention(Trial(windows(), "dog"), model, dictionary, model, prompts=prompts[:1])


def test_clarity_is_how_much_more_active_written_texts_are(tmp_path):
    model, dictionary = planted_store(tmp_path / "store", count=60)

    def score(*answers, explanation="dogs", model=model, dictionary=dictionary):
        with FeatureStore(tmp_path / "store") as store:
            corpus = WindowedCorpus.of(store, WINDOWS)
            given = FeatureWindows(feature(0), 1.0, (), (), (), ())
            script = Script(*answers)
            found = clarity(Trial(given, explanation), script, model, dictionary, corpus, calls=len(answers), texts=2)
            natural = np.maximum.reduceat(corpus.activations(feature(0)), corpus.bounds[:-1])[corpus.split == TEST]
        assert len({one.seed for one in script.requests}) == len(answers)
        assert all("dogs" in one.system and one.temperature == 1.0 for one in script.requests)
        return found, natural

    with_dog, without = '["the boy near the dog", "Mary dog"]', 'Here: ["the boy near the park"]'
    found, natural = score(with_dog, without)
    # A dog is as active as a dog in natural text: AUROC over pairs, ties by half.
    written = np.array([natural.max(), natural.max(), 0.0])
    pairs = np.sign(written[:, None] - natural[None, :])
    assert found.value == pytest.approx(float(pairs.mean()), abs=1e-6)
    assert found.low < found.value < found.high
    assert (found.items.right, found.beside["texts"]) == (2, 3)
    # A text that is silent more often than natural ones has a value below 0, whose sign is kept.
    assert score(without)[0].value < 0
    # What stands behind the length of a window does not count, and copies are one text.
    late = json.dumps(["the boy near " * 6 + "dog", "the boy near the park"])
    assert score(late, without)[0].value == score(without)[0].value
    failed, _ = score(with_dog, "what?", ChatReply(error="down"))
    assert (failed.value, failed.items.unparsed, failed.items.error) == (None, 1, 1)
    with pytest.raises(UsageError, match="another model or dictionary"):
        score(with_dog, dictionary=planted_dictionary(model).__class__(dictionary.config))


def test_faithfulness_is_what_steering_raises_of_what_it_could(model):
    """The texts that are rated are the model's own, unsteered and at each strength; shares by counting words."""
    dictionary, row = planted_dictionary(model), planted_dictionary(model).W_dec[3]
    given = FeatureWindows(feature(3), 0.5, (), (), (), ())
    prompts, seen = ["the boy near", "Mary and John went"], []

    def rates(request):
        texts = [line.partition(":")[2].strip() for line in request.user.splitlines() if line.startswith("Text ")]
        seen.extend(texts)
        return json.dumps([2 * ("school" in text.split()) for text in texts])

    judge = ChatJudge(Script(rates))
    found = steered_faithfulness(
        Trial(given, "school"), judge, model, dictionary, prompts=prompts, texts=6, new_tokens=5
    )
    tokens = model.tokenize(prompts)[torch.arange(6) % 2]
    shares = {}
    for factor in (0, -50, -10, -1, 1, 10, 50):
        with model.edit({SITE: lambda value, factor=factor: value + factor * 0.5 * row}):
            texts = model.decode(model.generate(tokens, max_new_tokens=5, temperature=1.0, seed=0).new)
        assert [text.strip() for text in texts] == seen[:6]
        del seen[:6]
        shares[factor] = sum("school" in text.split() for text in texts) / 6
    assert not seen
    best = max(shares.values())
    assert shares[0] < best
    assert found.value == pytest.approx((best - shares[0]) / (1 - shares[0]))
    assert (found.beside["unsteered"], found.items.right) == (shares[0], 42)
    assert shares[found.beside["best factor"]] == best
    failing = ChatJudge(Script(lambda request: "what?"))
    none = steered_faithfulness(Trial(given, "school"), failing, model, dictionary, prompts=prompts, texts=6)
    assert (none.value, none.items.unparsed, none.reason) == (None, 6, "6 of 6 ratings at 0 times the maximum failed")
    always = ChatJudge(Script(lambda request: json.dumps([2] * request.user.count("Text "))))
    sure = steered_faithfulness(Trial(given, "school"), always, model, dictionary, prompts=prompts, texts=4)
    assert (sure.value, sure.reason) == (None, "every text has it without steering")
    with pytest.raises(UsageError, match="a prompt expected"):
        steered_faithfulness(Trial(given, "school"), always, model, dictionary, prompts=[])


def test_token_changes_are_what_rises_when_a_latent_is_added(model):
    dictionary = planted_dictionary(model)
    tokens = model.tokenize(["the boy near", "Mary and John went"])
    found = token_changes(model, dictionary, 3, tokens, factor=50.0, count=3)
    rises = torch.zeros(len(model.tokenizer))
    for text in ("the boy near", "Mary and John went"):
        alone = model.tokenize([text])
        before = model.logits(alone)[0].softmax(-1)
        with model.edit({SITE: lambda value: value + 50.0 * dictionary.W_dec[3]}):
            rises += (model.logits(alone)[0].softmax(-1) - before).sum(dim=0)
    assert found == tuple(model.word(int(one)) for one in rises.topk(3).indices)


def test_a_local_model_answers_and_its_failures_are_counted(model):
    chat = LocalChat(model)
    asked = ChatRequest("the boy", "near the dog", 4, top_logprobs=3)
    first, again = chat.ask([asked, asked])
    assert first == again
    assert 1 <= len(first.chances) == first.output_tokens <= 4
    for one in first.chances:
        assert len(one.top) == 3
        assert max(one.top, key=one.top.get) == one.token
        assert sum(map(math.exp, one.top.values())) <= 1 + 1e-6
    long = chat.ask([ChatRequest("the boy " * 60, "x", 4)])[0]
    assert "64 at most" in long.error
    answers = ChatJudge(chat).detect("dogs", [window("the dog", 1)])
    assert answers[0].prediction is None


def test_a_local_model_reads_the_chances_of_a_prompt(model):
    found = LocalChat(model).prompt_chances("the boy near", 2)
    tokens = model.tokenize(["the boy near"])
    assert [one.token for one in found] == [model.word(int(one)) for one in tokens.ids[0]]
    best = model.logits(tokens)[0].log_softmax(-1).max(dim=-1)
    assert max(found[2].top.values()) == pytest.approx(float(best.values[1]), abs=1e-5)
    assert found[0].top == {}


def test_planted_latents_know_their_tokens(model):
    dictionary = planted_dictionary(model)
    for latent, words in enumerate(PLANTED):
        ids = torch.arange(len(model.tokenizer))
        values = dictionary.encode_dense(model.hf.transformer.wte.weight.data)[:, latent]
        fires = {model.word(int(one)) for one in ids[values > 0]}
        assert fires == set(words)
