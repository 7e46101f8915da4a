"""QK attribution: pairs of parts sum to the score before the softmax, in every family."""

import pytest
import torch
from random_dictionaries import random_dictionary
from tiny_families import CONFIGS, random_tokens, shared_model

from gossamer.attention import FrozenPass, HeadMaps, attribute_score, top_latent_pairs, top_pairs
from gossamer.errors import UsageError
from gossamer.features import Feature

EXACT = ("gpt2", "gpt_neox parallel", "gpt_neox serial", "starcoder2", "stablelm parallel", "stablelm serial", "phi")


def maps_of(name, sites=("z.0", "resid_post.0")):
    model, tokens = shared_model(name, dtype=torch.float64), random_tokens()
    dictionaries = [random_dictionary(model, tokens, site, seed=number) for number, site in enumerate(sites)]
    return HeadMaps(FrozenPass.of(model, dictionaries, tokens), 1)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "gemma2"])
@pytest.mark.parametrize("sites", [("resid_post.0",), ("z.0",)])
def test_pairs_sum_to_the_score(name, sites):
    maps = maps_of(name, sites)
    close = 1e-12 if name in EXACT else 1e-5
    for head, query, key, row in ((0, 8, 5, 0), (3, 7, 7, 1), (2, -1, 6, 2)):
        found = attribute_score(maps, head, query, key, row=row)
        expected = float(maps.scores[row, head, query, key])
        assert found.score == expected
        assert abs(float(found.table.sum()) - expected) < close * (1 + abs(expected))
        assert found.remainder == pytest.approx(expected - float(found.table.sum()))
        assert found.table.shape == (len(found.queries), len(found.keys))
        kinds = {one.kind for one in found.queries}
        assert {"latent", "bias", "error"} <= kinds
    (query_part, key_part, share) = found.top(3)[0]
    assert abs(share) == found.table.abs().max()
    assert (query_part.place, key_part.place) == (8, 6)


def test_a_cap_on_scores_is_linearised_where_it_stands():
    """Of Gemma 2: the slope of the cap at the score, by a difference of scores, and the remainder that it leaves."""
    maps = maps_of("gemma2")
    found = attribute_score(maps, 1, 8, 6)
    cap, score = maps.cap, found.score
    raw = cap * torch.atanh(torch.tensor(score / cap, dtype=torch.float64))
    step = 1e-4
    slope = float((cap * torch.tanh((raw + step) / cap) - cap * torch.tanh((raw - step) / cap)) / (2 * step))
    assert float(found.table.sum()) == pytest.approx(slope * float(raw), rel=1e-4)
    assert found.remainder == pytest.approx(score - slope * float(raw), rel=1e-4)


def test_what_does_not_depend_on_the_key_cancels():
    """Two keys against each other: the score's difference; without rotation the key's biases are the same at both."""
    maps = maps_of("gpt2")
    found = attribute_score(maps, 1, 8, 6, against=4)
    scores = maps.scores[0, 1, 8]
    assert found.score == pytest.approx(float(scores[6] - scores[4]))
    assert float(found.table.sum()) == pytest.approx(found.score, abs=1e-12)
    biases = [number for number, one in enumerate(found.keys) if one.kind == "bias" and one.site.kind == "k"]
    assert len(biases) == 2
    torch.testing.assert_close(found.table[:, biases].sum(dim=1), torch.zeros(len(found.queries)).double())


@pytest.mark.parametrize(("block", "k"), [(64, 30), (1024, 5), (64, 5000)])
def test_top_pairs_are_those_of_the_table(block, k):
    draw = torch.Generator().manual_seed(0)
    # Lengths that differ as those of latents do, so that most blocks are never multiplied.
    queries, keys = (
        torch.randn(n, 8, generator=draw) * torch.rand(n, 1, generator=draw).exp() ** 3 for n in (400, 300)
    )
    values, rows, columns = top_pairs(queries, keys, k, block=block)
    table = queries @ keys.T
    expected = table.flatten().abs().topk(k)
    torch.testing.assert_close(values.abs(), expected.values)
    torch.testing.assert_close(table[rows, columns], values)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gemma3", "qwen3"])
@pytest.mark.parametrize("sites", [("resid_post.0",), ("z.0", "mlp_out.0")])
def test_pairs_of_all_latents_are_shares_of_a_unit(name, sites):
    """Of active latents the shares of the score over both activations; of all, the largest of the whole table."""
    maps = maps_of(name, sites)
    n = sum(codes.dictionary.n_latents for codes in maps.frozen.codes.values())
    everything = {(one.query, one.key): one.score for one in top_latent_pairs(maps, 1, 8, 5, n * n)}
    assert len(everything) == n * n
    found, compared = attribute_score(maps, 1, 8, 5), 0
    active = {(codes.reads, place): codes.active(0, place) for codes in maps.frozen.codes.values() for place in (8, 5)}
    for row, query in enumerate(found.queries):
        for column, key in enumerate(found.keys):
            if query.kind == key.kind == "latent":
                unit = everything[Feature(query.site, query.latent), Feature(key.site, key.latent)]
                both = active[query.site, 8][query.latent] * active[key.site, 5][key.latent]
                assert unit * both == pytest.approx(float(found.table[row, column]), rel=1e-6, abs=1e-12)
                compared += 1
    assert compared > 20
    sizes = {site: torch.rand(one.dictionary.n_latents).double() for site, one in maps.frozen.codes.items()}
    weighted = top_latent_pairs(maps, 1, -1, 5, 7, activations=sizes)
    expected = {
        pair: score * float(sizes[pair[0].site][pair[0].latent] * sizes[pair[1].site][pair[1].latent])
        for pair, score in everything.items()
    }
    best = sorted(expected.values(), key=abs, reverse=True)[:7]
    assert [one.score for one in weighted] == pytest.approx(best)


def test_latents_after_the_layer_have_no_pairs():
    maps = maps_of("gpt2", ("resid_post.1",))
    with pytest.raises(UsageError, match=r"layer 1: a dictionary whose latents are in the stream before it expected"):
        top_latent_pairs(maps, 0, 8, 5)
    maps = maps_of("gpt2", ("z.0",))
    with pytest.raises(UsageError, match=r"one number for each of the 60 latents of z\.0 expected"):
        top_latent_pairs(maps, 0, 8, 5, activations={})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"head": 4}, "head: one of 0 to 3 expected, found 4"),
        ({"key": 9}, "position: one of -9 to 8 expected, found 9"),
        ({"row": 3}, "row: one of 0 to 2 expected, found 3"),
        ({"query": 2, "key": 5}, "a key that position 2 can see expected, found 5"),
    ],
)
def test_bad_requests_are_one_line(asked, message):
    maps = maps_of("gpt2")
    with pytest.raises(UsageError, match=message):
        attribute_score(maps, **{"head": 0, "query": 8, "key": 5, **asked})
