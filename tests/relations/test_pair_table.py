import math

import numpy as np
import pytest
from planted_relations import given

from gossamer.errors import UsageError
from gossamer.relations import MEASURES, Keep, SitePair, pair_table, relate


@pytest.fixture(scope="module")
def activity():
    """Two dictionaries of 6 and 5 latents at 900 tokens, some of whose pairs go together."""
    draw = np.random.default_rng(4)
    up = (draw.random((900, 6)) < draw.uniform(0.03, 0.3, 6)) * draw.uniform(0.5, 2, (900, 6))
    down = (draw.random((900, 5)) < draw.uniform(0.03, 0.3, 5)) * draw.uniform(0.5, 2, (900, 5))
    down[:, 0] = np.where(draw.random(900) < 0.8, up[:, 0], down[:, 0])
    return up, down


@pytest.fixture(scope="module")
def relation(activity):
    up, down = (one.reshape(30, 30, -1) for one in activity)
    stream, pair = given({"resid_post.0": up, "resid_post.1": down}), SitePair("resid_post.0", "resid_post.1")
    return relate(stream, [pair], null=False, keep=Keep(threshold=1e-12, least=1))[pair]


def test_the_table_is_that_of_a_naive_count(activity, relation):
    up, down = activity
    for i in range(6):
        for j in range(5):
            a, b = up[:, i] > 0, down[:, j] > 0
            found = pair_table(relation, i, j)
            assert (found.both, found.upstream_only) == ((a & b).sum(), (a & ~b).sum())
            assert (found.downstream_only, found.neither) == ((~a & b).sum(), (~a & ~b).sum())
            assert found.phi.value == pytest.approx(np.corrcoef(a, b)[0, 1])
            assert found.lift.value == pytest.approx((a & b).mean() / (a.mean() * b.mean()))
            assert found.measures["pearson"].value == pytest.approx(np.corrcoef(up[:, i], down[:, j])[0, 1])
            assert found.measures["jaccard"].value == pytest.approx((a & b).sum() / (a | b).sum())
            assert set(found.measures) == set(MEASURES)
            for one in (found.phi, found.lift, *(found.measures[name] for name in ("jaccard", "necessity"))):
                assert one.low < one.value < one.high


def test_intervals_of_lift_and_phi_are_those_of_a_bootstrap_over_tokens(activity, relation):
    draw = np.random.default_rng(0)
    often = [(i, j) for i in range(6) for j in range(5) if pair_table(relation, i, j).both >= 15]
    assert len(often) >= 3
    for i, j in often[:4]:
        a, b = activity[0][:, i] > 0, activity[1][:, j] > 0
        rows = draw.integers(0, 900, (4000, 900))
        x, y = a[rows], b[rows]
        both, first, second = ((one).mean(axis=1) for one in (x & y, x, y))
        lifts = np.log(both / (first * second))
        found = pair_table(relation, i, j)
        width = math.log(found.lift.high / found.lift.low)
        assert width == pytest.approx(np.subtract(*np.quantile(lifts, [0.975, 0.025])), rel=0.12)
        phis = (both - first * second) / np.sqrt(first * (1 - first) * second * (1 - second))
        spread = np.subtract(*np.quantile(phis, [0.975, 0.025]))
        assert found.phi.high - found.phi.low == pytest.approx(spread, rel=0.12)


def test_pairs_that_are_not_known_are_refused(relation):
    with pytest.raises(UsageError, match=r"resid_post\.0/9: a latent from 0 to 5 expected"):
        pair_table(relation, 9, 0)
    pair, eye = SitePair("resid_post.0", "resid_post.1"), np.eye(4)[None]
    few = relate(given(dict.fromkeys(pair, eye)), [pair], null=False, keep=Keep(least=1))[pair]
    assert pair_table(few, 1, 1).both == 1
    with pytest.raises(UsageError, match="0 and 3 are not among the 4 kept pairs"):
        pair_table(few, 0, 3)
