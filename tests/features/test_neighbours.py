"""Neighbours by decoder rows against a double loop in float64."""

import json
import math
from dataclasses import replace

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.features import Feature, FeatureCard, Histogram, Neighbour, decoder_neighbours
from gossamer.features import neighbours as module
from gossamer.model import Site

STREAM, OTHER, Z, OTHER_Z = Site("resid_post", 0), Site("mlp_out", 1), Site("z", 1), Site("z", 2)


def dictionary(site, seed, n_latents):
    generator = torch.Generator().manual_seed(seed)
    made = Dictionary(DictionaryConfig("relu", 8, n_latents, site=site))
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    made.W_dec.data[2] = 0.0
    return made.requires_grad_(False)


@pytest.fixture
def dictionaries():
    return {site: dictionary(site, place, 12 + place) for place, site in enumerate((STREAM, OTHER, Z, OTHER_Z))}


def by_loop(dictionaries, feature, sites):
    own = dictionaries[feature.site].W_dec[feature.latent].double().tolist()
    found = {}
    for site in sites:
        for latent, row in enumerate(dictionaries[site].W_dec.double().tolist()):
            if (site, latent) != feature:
                product = sum(a * b for a, b in zip(own, row, strict=True))
                lengths = math.hypot(*own) * math.hypot(*row)
                found[Feature(site, latent)] = product / lengths if lengths else 0.0
    return found


@pytest.mark.parametrize("block", [1, 40, 2**24])
def test_the_nearest_are_those_of_a_double_loop_in_the_same_space(monkeypatch, dictionaries, block):
    monkeypatch.setattr(module, "_BLOCK_VALUES", block)
    features = [Feature(site, latent) for site in dictionaries for latent in (7, 0, 11)]
    found = decoder_neighbours(dictionaries, features, count=5)
    assert set(found) == set(features)
    for feature, several in found.items():
        sites = (STREAM, OTHER) if feature.site in (STREAM, OTHER) else (feature.site,)
        every = by_loop(dictionaries, feature, sites)
        expected = sorted(every, key=every.__getitem__, reverse=True)[:5]
        assert [one.feature for one in several] == expected
        assert {one.measure for one in several} == {"decoder_cosine"}
        assert [one.value for one in several] == pytest.approx([every[one] for one in expected], abs=1e-6)


def test_more_than_there_are_gives_all_and_a_row_of_zeros_is_near_to_none(dictionaries):
    found = decoder_neighbours(dictionaries, [Feature(Z, 0), Feature(Z, 2)], count=50)
    assert len(found[Feature(Z, 0)]) == dictionaries[Z].n_latents - 1
    assert [one.value for one in found[Feature(Z, 2)]] == [0.0] * 13


def test_cards_keep_neighbours_and_cards_of_before_have_none():
    near = (Neighbour(Feature(STREAM, 3), "decoder_cosine", 0.5), Neighbour(Feature(Z, 1), "pearson", 0.25))
    card = FeatureCard(Feature(STREAM, 0), "m", 9, 1, 1.0, 0.0, 1.0, Histogram((), ()), neighbours=near)
    written = json.loads(json.dumps(card.to_json()))
    assert FeatureCard.from_json(written) == card
    assert "resid_post.0/3 (decoder_cosine 0.50)" in card._repr_html_()
    del written["neighbours"]
    assert FeatureCard.from_json(written) == replace(card, neighbours=())


def test_the_label_is_the_most_that_is_known_in_short(dictionaries):
    card = FeatureCard(Feature(STREAM, 0), "m", 9, 1, 1.0, 0.0, 1.0, Histogram((), ()))
    assert (card.label, card.words()) == ("", ())
    words = replace(card, promotes=((" dog", 2.0), (" cat", 1.0), ("dog", 0.5)))
    assert (words.label, words.words(1)) == ("dog, cat", ("dog",))
    # A part of a character is no word, and what would end a list stands in quotes.
    odd = replace(words, promotes=(("\ufffd", 3.0), (" ,", 2.0), (' ["', 1.0), (" it's", 0.5)))
    assert (odd.label, odd.words()) == ("\",\", '[\"', it's", (",", '["', "it's"))
    assert replace(card, promotes=(("\ufffd", 1.0),)).label == ""
    assert replace(words, explanation="animals").label == "animals"
