import numpy as np
import pytest
import torch
from test_relate import dictionary, tokens  # noqa: F401  (a fixture)

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.relations import (
    CausalSettings,
    Keep,
    ModelLatents,
    SitePair,
    ablation_check,
    adjacent,
    joint_agreement,
    relate,
    sources_of,
)

PAIR = SitePair("resid_post.0", "resid_post.1")
SETTINGS = CausalSettings(bins=4, per_bin=6, relative=0.2, batch_size=5, resamples=200)


def test_effects_are_those_of_ablating_by_hand(tiny_gpt2, tokens):  # noqa: F811
    """x - f_i d_i at the tokens that count, and a whole new pass; error kept, whatever the batches."""
    sites = [Site.parse(name) for name in PAIR]
    ones = [dictionary(site, 20, seed) for seed, site in enumerate(sites)]
    stream = ModelLatents(sources_of(tiny_gpt2, dict(zip(sites, ones, strict=True))), tokens)
    relation = relate(stream, [PAIR], keep=Keep(least=3))[PAIR]
    found = ablation_check(stream, relation, ["jaccard", "pearson"], SETTINGS)
    assert len(found.pairs) > 10
    rows, counted = stream.tokens, stream.counted
    with torch.no_grad():
        values = tiny_gpt2.capture(rows, sites)
        f, g = (one.encode_dense(values[site]) for one, site in zip(ones, sites, strict=True))
        for place, (i, j) in enumerate(zip(found.pairs.i.tolist(), found.pairs.j.tolist(), strict=True)):
            taken = f[..., i, None] * ones[0].W_dec[i] * counted[..., None]
            with tiny_gpt2.edit({sites[0]: lambda x, taken=taken: x - taken}):
                after = ones[1].encode_dense(tiny_gpt2.capture(rows, [sites[1]])[sites[1]])[..., j]
            top = g[..., j][counted].max()
            on = counted & (g[..., j] > 0.2 * top)
            assert found.tokens[place] == on.sum()
            expected = float((g[..., j] - after)[on].mean() / top)
            assert found.effect[place] == pytest.approx(expected, abs=2e-4)
            assert found.absolute[place] == pytest.approx(expected * float(top), abs=2e-3)


def test_agreement_is_spearmans_with_bins_of_the_drawn_pairs(tiny_gpt2, tokens):  # noqa: F811
    from scipy.stats import spearmanr

    sites = [Site.parse(name) for name in PAIR]
    stream = ModelLatents(
        sources_of(tiny_gpt2, {site: dictionary(site, 20, seed) for seed, site in enumerate(sites)}), tokens
    )
    relation = relate(stream, [PAIR], keep=Keep(least=3))[PAIR]
    found = ablation_check(stream, relation, ["jaccard"], SETTINGS)
    own = found.drawn["jaccard"]
    values, effect = relation.values("jaccard", found.pairs)[own], found.effect[own]
    one = found.agreement["jaccard"]
    known = ~np.isnan(effect)
    assert one.spearman == pytest.approx(spearmanr(values[known], effect[known]).statistic)
    assert one.low <= one.spearman <= one.high
    assert sum(one.counts) == one.pairs == known.sum()
    assert max(one.counts) <= 6
    for low, high, count, mean in zip(one.edges, one.edges[1:], one.counts, one.means, strict=False):
        inside = effect[known & (values >= low) & ((values < high) | (high == one.edges[-1]))]
        assert len(inside) == count
        assert not count or mean == pytest.approx(inside.mean())


def test_several_checks_are_ranked_together(tiny_gpt2, tokens):  # noqa: F811
    from scipy.stats import spearmanr

    sites = [Site("resid_post", layer) for layer in range(3)]
    stream = ModelLatents(
        sources_of(tiny_gpt2, {site: dictionary(site, 20, seed) for seed, site in enumerate(sites)}), tokens
    )
    relations = relate(stream, adjacent(stream.widths), keep=Keep(least=3))
    checks = [(one, ablation_check(stream, one, ["jaccard"], SETTINGS)) for one in relations.values()]
    joint = joint_agreement(checks, "jaccard", SETTINGS)
    values = np.concatenate([one.values("jaccard", check.pairs)[check.drawn["jaccard"]] for one, check in checks])
    effect = np.concatenate([check.effect[check.drawn["jaccard"]] for _, check in checks])
    known = ~np.isnan(effect)
    assert joint.pairs == known.sum() > checks[0][1].agreement["jaccard"].pairs
    assert joint.spearman == pytest.approx(spearmanr(values[known], effect[known]).statistic, abs=1e-12)
    assert joint.low < joint.spearman < joint.high
    inside = effect[known & (values >= joint.edges[1]) & (values < joint.edges[2])]
    assert joint.still[1] == pytest.approx((np.abs(inside) < 0.01).mean())
    assert joint.quartiles[1] == pytest.approx(np.quantile(inside, [0.25, 0.75]))
    # With one check, the same as its own.
    alone = joint_agreement(checks[:1], "jaccard", SETTINGS)
    assert alone.spearman == checks[0][1].agreement["jaccard"].spearman
    with pytest.raises(UsageError, match=r"jaccard.*'pearson'"):
        joint_agreement(checks, "pearson")


def test_requests_that_cannot_be_meant_are_refused(tiny_gpt2, tokens):  # noqa: F811
    sites = [Site.parse(name) for name in PAIR]
    stream = ModelLatents(
        sources_of(tiny_gpt2, {site: dictionary(site, 20, seed) for seed, site in enumerate(sites)}), tokens
    )
    back = SitePair(*reversed(PAIR))
    with pytest.raises(UsageError, match="a later site"):
        ablation_check(stream, relate(stream, [back], null=False)[back], ["jaccard"])
    with pytest.raises(UsageError, match="'likeness'"):
        ablation_check(stream, relate(stream, [PAIR], null=False)[PAIR], ["likeness"])
    with pytest.raises(UsageError, match="counts of at least 1"):
        CausalSettings(bins=0)
