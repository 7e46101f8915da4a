"""QK attribution: pairs of parts sum to the score before the softmax, in every family."""

import pytest
import torch
from random_dictionaries import random_dictionary
from tiny_families import CONFIGS, random_tokens, shared_model

from gossamer.attention import FrozenPass, HeadMaps, attribute_score, top_pairs
from gossamer.errors import UsageError

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
