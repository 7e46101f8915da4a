"""All rows of the table for one concept: a planted feature is found, obvious, kept, and steers."""

from dataclasses import replace

import pytest
import torch
from test_intervention import SITE, random_dictionary

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.steering import FeatureEffects, contrast_states, measure_site, prepare_concept, sweep
from gossamer.steering.benefit import WordList
from gossamer.steering.completions import SamplingPlan
from gossamer.steering.concept import PROMPT, ConceptData, irrelevant_features, obvious_features, steer_towards
from gossamer.steering.decomposition import by_separate_encoding
from gossamer.steering.selection import strongest_contexts
from gossamer.steering.vectors import ContrastStates

PLAIN = ["Mary went to the store", "John and Amy met them", "Tom gave a drink to Sue", "she likes the dog", "he was at"]
WITH = [f"{text} sad" for text in PLAIN]
WORDS = WordList(("sad",))
TEXTS = [text for pair in zip(PLAIN * 6, WITH * 6, strict=True) for text in pair]
EVERY = {
    *("diff_mean", "reconstruction", "pursuit", "single_feature", "single_feature_clamp", "output_score_feature"),
    *("gradient_clean_up", "sae_ts", "fgaa"),
    *("random_direction_0", "random_direction_1", "random_feature_0", "random_feature_1"),
}


def planted(model):
    """A dictionary whose feature 0 is the direction in which texts with `sad` differ at that word."""
    dictionary = random_dictionary(SITE)
    ends = [model.capture(model.tokenize(texts), [SITE])[SITE] for texts in (WITH, PLAIN)]
    lengths = [model.tokenize(texts).last for texts in (WITH, PLAIN)]
    both = [value[torch.arange(5), at].mean(dim=0) for value, at in zip(ends, lengths, strict=True)]
    direction = torch.nn.functional.normalize(both[0] - both[1], dim=0)
    middle = (both[0] + both[1]) / 2
    with torch.no_grad():
        dictionary.W_dec[0] = 2 * direction
        dictionary.W_enc[:, 0] = direction
        dictionary.b_enc[0] = -(middle @ direction)
    return dictionary


def test_a_planted_feature_is_found_and_is_obvious(tiny_gpt2):
    dictionary = planted(tiny_gpt2)
    tokens = tiny_gpt2.tokenize(TEXTS)
    states = contrast_states(tiny_gpt2, WITH, PLAIN, SITE)
    scale = measure_site(tiny_gpt2, SITE, tokens, dictionary)
    # Steering along a direction moves the features that read it: what aims at feature 0 is near its encoder column.
    effects = FeatureEffects(SITE, dictionary.W_enc.detach(), torch.zeros(24) + 0.01, explained=-0.5)
    scale = replace(scale, density=scale.density * 0.001)
    concept = ConceptData(WORDS, states, states, scale, tokens, tuning=tiny_gpt2.tokenize(WITH), effects=effects)
    found = steer_towards(tiny_gpt2, dictionary, concept, features=12, scored=4)
    assert 0 in found.obvious
    assert set(found.interventions) >= EVERY
    assert set(found.interventions) | set(found.absent) == EVERY | {"obvious_features", "cleaned"}
    aimed = effects.towards(found.interventions["single_feature"].latent)
    torch.testing.assert_close(found.interventions["sae_ts"].vector, aimed.vector)
    meant = effects.towards_contrast(dictionary, states, scale.density)
    torch.testing.assert_close(found.interventions["fgaa"].vector, meant.vector)
    without = steer_towards(tiny_gpt2, dictionary, replace(concept, effects=None), features=12, scored=4)
    # What a fit explains is said of the methods that rest on it, and of no others.
    assert (found.effects_explained, without.effects_explained) == ({"sae_ts": -0.5, "fgaa": -0.5}, {})
    assert set(without.interventions) == set(found.interventions) - {"sae_ts", "fgaa"}
    assert "--effects 32" in without.absent["fgaa"]
    dense = replace(concept, scale=replace(scale, density=torch.ones(24)))
    partly = steer_towards(tiny_gpt2, dictionary, dense, features=12, scored=4)
    assert "rare" in partly.absent["fgaa"]
    assert set(partly.effects_explained) == {"sae_ts"}
    assert found.fits["diff_mean"].cosine == pytest.approx(1, abs=1e-5)
    assert set(found.fits) == set(found.interventions)
    # The random features are scored too, and are not among those to choose from.
    assert [one.feature.latent for one in found.scores[-2:]] == [
        found.interventions[f"random_feature_{number}"].latent for number in range(2)
    ]
    best = max(found.scores[:-2], key=lambda one: one.output_score)
    assert found.interventions["output_score_feature"].latent == best.feature.latent
    assert found.interventions["single_feature_clamp"].latent == found.obvious[0]
    norms = {name: one.coefficient.raw * float(one.vector.norm()) for name, one in found.interventions.items()}
    for name, norm in norms.items():
        assert norm == pytest.approx(scale.norm, rel=1e-4), name
    cells = found.cells([0.5, 1.0], "Be sad: ")
    assert [cell.method for cell in cells[:4]] == ["unsteered", PROMPT, "diff_mean", "diff_mean"]
    assert len(cells) == 2 + 2 * len(found.interventions)
    # The prompt baseline is always there.
    assert found.cells([1.0])[1].prefix == "This is about sad. "
    for wrong, prefix, said in (
        ([0.0, 1.0], None, "positive"),
        ([float("nan")], None, "positive"),
        ([1.0], " ", "prompt"),
    ):
        with pytest.raises(UsageError, match=said):
            found.cells(wrong, prefix)


def test_what_does_not_come_back_is_irrelevant():
    """Feature 0 differs in every text, feature 1 in the texts that the vector was made of only, 2 turns its sign."""
    dictionary = random_dictionary(SITE, n=3, width=3)
    with torch.no_grad():
        dictionary.W_enc.copy_(torch.eye(3))
        dictionary.W_dec.copy_(torch.eye(3))
        dictionary.b_enc.zero_()
        dictionary.b_dec.zero_()
    generator = torch.Generator().manual_seed(0)

    def sides(change):
        noise = [torch.rand(20, 3, generator=generator) + 2 for _ in range(2)]
        each = torch.arange(20) // 2
        return ContrastStates(SITE, noise[0] + torch.tensor(change), noise[1], each, each)

    parts = by_separate_encoding(dictionary, sides([2.0, 2.0, 2.0]))
    assert sorted(irrelevant_features(parts, sides([2.0, 0.0, -2.0]))) == [1, 2]
    assert irrelevant_features(parts, sides([2.0, 2.0, 2.0])) == []


def test_a_feature_is_obvious_by_what_it_reads_or_writes(tiny_gpt2):
    dictionary = planted(tiny_gpt2)
    word = int(tiny_gpt2.tokenize([" sad"]).ids[0, 0])
    contexts = strongest_contexts(tiny_gpt2, dictionary, [0], tiny_gpt2.tokenize(TEXTS))
    reads = obvious_features(tiny_gpt2, dictionary, [0], WORDS, contexts)
    assert reads == [0]
    with torch.no_grad():
        dictionary.W_dec[5] = 5 * tiny_gpt2.unembedding_rows(torch.tensor([word]))[0]
        dictionary.b_enc[5] = -1e3
    contexts = strongest_contexts(tiny_gpt2, dictionary, [4, 5], tiny_gpt2.tokenize(PLAIN))
    assert 5 in obvious_features(tiny_gpt2, dictionary, [4, 5], WORDS, contexts)


def test_from_texts_to_a_sweep_every_text_once(tiny_gpt2):
    sampling = SamplingPlan(samples=2, max_new_tokens=4)
    made = prepare_concept(
        tiny_gpt2, planted(tiny_gpt2), ["sad"], TEXTS, prompts=["Mary", "she was"], neutral=4, sampling=sampling
    )
    assert not any(WORDS.count(text) for text in tiny_gpt2.decode(made.plan.neutral))
    assert all(WORDS.count(text) for text in tiny_gpt2.decode(made.plan.target))
    record = sweep(tiny_gpt2, made.steering.cells([1.0]), made.plan)
    assert [row.method for row in record.rows][:3] == ["unsteered", "prompt", "diff_mean"]
    # No other observer was given: the dictionary itself says what moves.
    assert record.settings["observer"] == str(SITE)
    assert all(len(row.classified) == 4 and len(row.target) for row in record.rows)
    for words, texts, said in (
        (["horse"], TEXTS, "none with it"),
        (["sad"], TEXTS[:12], "at least 10 texts with the concept expected, found 6"),
    ):
        with pytest.raises(UsageError, match=said):
            prepare_concept(tiny_gpt2, planted(tiny_gpt2), words, texts, prompts=["Mary"])
    transcoder = random_dictionary(Site("resid_post", 1), site_out=Site("mlp_out", 1))
    for dictionary, said in ((random_dictionary(Site("z", 1)), "residual stream"), (transcoder, "found a transcoder")):
        with pytest.raises(UsageError, match=said):
            prepare_concept(tiny_gpt2, dictionary, ["sad"], TEXTS, prompts=["Mary"])
