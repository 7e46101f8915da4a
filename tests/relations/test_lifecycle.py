from itertools import permutations

import numpy as np
import pytest
import torch
from planted_relations import given, planted, random_latents
from test_relate import dictionary, tokens  # noqa: F401  (a fixture)

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.relations import (
    ErrorShare,
    Keep,
    LifecycleSettings,
    ModelLatents,
    SitePair,
    adjacent,
    error_share,
    error_shares,
    lifecycle,
    load_error_share,
    matched,
    maxima,
    relate,
    sankey,
    save_error_share,
    save_relation,
    sources_of,
    threshold_sweep,
)

PAIR = SitePair("up", "down")


@pytest.fixture
def relation():
    up, down = planted()
    up[..., 8], down[..., 8] = 0, 0
    up[..., 9] = 0
    up[0, :3, 9] = 1
    return relate(given({"up": up, "down": down}), [PAIR])[PAIR]


def test_classes_of_planted_features(relation):
    found = lifecycle(relation, LifecycleSettings("jaccard", 0.45))
    # A merge and an OR pass on what makes up enough of them; an AND of rare inputs passes on neither.
    assert found.upstream[:8].tolist() == ["passed on", "gone", "passed on", "gone", *["passed on"] * 3, "gone"]
    assert found.upstream[8:10].tolist() == ["dead", "too rare to judge"]
    assert (found.upstream[10:] == "gone").all()
    assert found.downstream[0] == "passed on"
    assert found.downstream[8] == "dead"
    assert found.downstream[[1, 7, *range(9, 23)]].tolist() == ["new"] * 16
    assert sum(found.counts("upstream").values()) == 24
    raw, alive = (found.shares("upstream", judged=judged) for judged in (False, True))
    assert sum(raw.values()) == pytest.approx(1)
    assert alive["gone"] == pytest.approx(raw["gone"] * 24 / 22)


def test_a_threshold_near_one_makes_more_too_rare(relation):
    """n of n needs n / (n + z^2) of at least 0.99: 381 activations; the threshold of a correlation needs none."""
    found = lifecycle(relation, LifecycleSettings("necessity", 0.99))
    rare = relation.upstream.active < 381
    assert ((found.upstream == "too rare to judge") == (rare & (relation.upstream.alive > 0))).all()
    assert (lifecycle(relation, LifecycleSettings("pearson", 0.99)).upstream == "too rare to judge").sum() == 1


def test_one_to_one_matching_is_the_best_of_all_and_mutual_is_mutual():
    activations = {"up": random_latents(5, seed=3), "down": random_latents(5, seed=4)}
    relation = relate(given(activations), [PAIR], keep=Keep(("jaccard",), threshold=1e-9, least=1))[PAIR]
    values = np.zeros((5, 5))
    values[relation.kept.i, relation.kept.j] = relation.values("jaccard")
    threshold = float(np.quantile(values, 0.4))
    allowed = np.where(values >= threshold, values, 0)
    best = max(sum(allowed[i, j] for i, j in enumerate(order)) for order in permutations(range(5)))
    rows, columns = matched(relation, "jaccard", threshold)
    assert len(set(rows.tolist())) == len(rows) == len(set(columns.tolist()))
    assert values[rows, columns].sum() == pytest.approx(best)
    assert (values[rows, columns] >= threshold).all()
    assert [len(part) for part in matched(relation, "jaccard", 1.0)] == [0, 0]
    mutual = lifecycle(relation, LifecycleSettings("jaccard", threshold, "mutual"))
    expected = [
        values[i].argmax() == j and values[:, j].argmax() == i and values[i, j] >= threshold
        for i in range(5)
        for j in [values[i].argmax()]
    ]
    needed = relation.upstream.active >= 10
    assert ((mutual.upstream == "passed on") <= np.array(expected)).all()
    assert needed.shape == (5,)


def test_several_may_share_a_partner_only_where_matching_is_by_the_best():
    up, down = planted()
    up[..., 9] = up[..., 0]
    relation = relate(given({"up": up, "down": down}), [PAIR])[PAIR]
    passed = {
        matching: lifecycle(relation, LifecycleSettings("jaccard", 0.9, matching)).counts("upstream")["passed on"]
        for matching in ("best", "hungarian", "mutual")
    }
    assert passed == {"best": 2, "hungarian": 1, "mutual": 1}


def test_sweep_counts_latents_whose_best_partner_reaches_each_threshold(relation):
    swept = threshold_sweep(relation, "jaccard")
    judged = relation.upstream.active >= 10
    values = relation.forward["jaccard"].value[judged]
    assert swept.judged[0] == judged.sum() == 22
    for threshold, count in zip(swept.thresholds, swept.forward, strict=True):
        assert count == (values + 1e-12 >= threshold).sum()
    assert swept.forward[-1] == 1  # the copy
    assert (np.diff(swept.null_forward) <= 0).all()
    assert swept.null_forward[30] == 0 < swept.forward[30]


def test_sankey_labels_stand_at_their_own_dictionaries():
    up, down = planted()
    last = np.roll(down, 5, axis=0)
    stream = given({"a": up, "b": down, "c": last})
    relations = relate(stream, adjacent("abc"))
    chain = [lifecycle(one, LifecycleSettings("jaccard", 0.45)) for one in relations.values()]
    data = sankey(chain)
    assert data.names == ("a", "b", "c")
    assert data.sizes == (24, 23, 23)
    for place, one in enumerate(chain):
        assert data.ahead[place] == one.counts("upstream")
        assert data.behind[place] == one.counts("downstream")
        assert sum(data.ahead[place].values()) == data.sizes[place]
        assert sum(data.behind[place].values()) == data.sizes[place + 1]
    assert data.ahead[0]["passed on"] == 5
    assert data.ahead[1]["passed on"] == 0
    with pytest.raises(UsageError, match="a>b, a>b"):
        sankey([chain[0], chain[0]])


def test_a_feature_that_the_next_dictionary_lacks_is_lost_in_its_error(tiny_gpt2, tokens):  # noqa: F811
    """Against dense projections; and the classes that follow."""
    sites = [Site.parse("resid_post.0"), Site.parse("resid_post.1")]
    first, second = dictionary(sites[0], 20, 0), dictionary(sites[1], 15, 1)
    stream = ModelLatents(sources_of(tiny_gpt2, {sites[0]: first, sites[1]: second}), tokens, batch_size=5)
    pair = SitePair("resid_post.0", "resid_post.1")
    found = error_share(stream, pair)
    with torch.no_grad():
        values = tiny_gpt2.capture(stream.tokens, sites)
        x, y = (values[site][stream.counted].double() for site in sites)
        first, second = first.double(), second.double()
        f = first.encode_dense(x)
        units = torch.nn.functional.normalize(first.W_dec, dim=1)
        p = (y - second(y)) @ units.T
        on = f > 0.1 * f.amax(dim=0)
        mean = [(part * on).sum(0) / on.sum(0).clamp(min=1) for part in (p, f * first.W_dec.norm(dim=1))]
    assert found.tokens.tolist() == on.sum(0).tolist()
    np.testing.assert_allclose(found.projection, mean[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.activation, mean[1], rtol=1e-4, atol=1e-4)
    first.float(), second.float()
    for one, said in ((SitePair("resid_post.0", "x"), "'x'"),):
        with pytest.raises(UsageError, match=said):
            error_share(stream, one)


@pytest.mark.parametrize(
    "kinds", [("layer_norm", "none"), ("constant_norm_rescale", "layer_norm"), ("centre", "centre")]
)
def test_what_normalising_dictionaries_lose_is_in_the_units_of_the_stream(tiny_gpt2, tokens, kinds):  # noqa: F811
    """Against what each latent adds to the reconstruction, one by one, and the plain error."""
    sites = [Site.parse("resid_post.0"), Site.parse("resid_post.1")]
    ones = [
        dictionary(site, 12, seed, normalisation=kind)
        for seed, (site, kind) in enumerate(zip(sites, kinds, strict=True))
    ]
    stream = ModelLatents(sources_of(tiny_gpt2, dict(zip(sites, ones, strict=True))), tokens, batch_size=5)
    found = error_share(stream, SitePair("resid_post.0", "resid_post.1"))
    with torch.no_grad():
        values = tiny_gpt2.capture(stream.tokens, sites)
        x, y = (values[site][stream.counted].double() for site in sites)
        first, second = (one.double() for one in ones)
        f = first.encode_dense(x)
        error = y - second(y)
        assert (f > 0).any(dim=0).sum() >= 5
        for latent in range(12):
            on = f[:, latent] > 0.1 * f[:, latent].max()
            without = f.index_fill(1, torch.tensor([latent]), 0.0)
            written = (first.reconstruct(x, f) - first.reconstruct(x, without))[on]
            assert found.tokens[latent] == on.sum()
            if not on.any():
                continue
            length = written.norm(dim=1)
            assert found.activation[latent] == pytest.approx(float(length.mean()), rel=1e-4)
            along = (error[on] * written).sum(dim=1) / length
            assert found.projection[latent] == pytest.approx(float(along.mean()), rel=1e-3, abs=1e-4)


def test_error_shares_of_what_has_none_are_refused(tiny_gpt2, tokens, tokenizer):  # noqa: F811
    from word_model import tiny_gpt2_model

    from gossamer.model import LanguageModel

    sites = [Site.parse(name) for name in ("resid_post.0", "z.1")]
    sources = sources_of(tiny_gpt2, {site: dictionary(site, 12, 0) for site in sites})
    with pytest.raises(UsageError, match="of the residual stream expected, found"):
        error_share(ModelLatents(sources, tokens), SitePair("resid_post.0", "z.1"))
    other = LanguageModel.load(tiny_gpt2_model(tokenizer, seed=5), tokenizer=tokenizer)
    sources = sources_of(tiny_gpt2, {sites[0]: dictionary(sites[0], 12, 0)})
    sources |= sources_of(other, {sites[0]: dictionary(sites[0], 12, 0)}, "other")
    with pytest.raises(UsageError, match="two dictionaries of one model"):
        error_share(ModelLatents(sources, tokens), SitePair("resid_post.0", "resid_post.0@other"))


def test_error_shares_of_all_pairs_are_those_of_each(tiny_gpt2, tokens, tmp_path):  # noqa: F811
    from gossamer.model import Site

    sites = [Site("resid_post", layer) for layer in range(3)]
    stream = ModelLatents(
        sources_of(tiny_gpt2, {site: dictionary(site, 20, seed) for seed, site in enumerate(sites)}), tokens
    )
    pairs = [*adjacent(stream.widths), *adjacent(stream.widths, 1)]
    found = error_shares(stream, pairs, tops=maxima(stream))
    for pair in pairs:
        alone = error_share(stream, pair)
        assert (found[pair].tokens == alone.tokens).all()
        assert alone.tokens.any()
        np.testing.assert_allclose(found[pair].projection, alone.projection, rtol=1e-5, atol=1e-6)
    path = save_error_share(found[pairs[0]], tmp_path / "one.error.safetensors")
    for name in ("tokens", "activation", "projection"):
        assert (getattr(load_error_share(path), name) == getattr(found[pairs[0]], name)).all()
    with pytest.raises(UsageError, match="an error share"):
        load_error_share(save_relation(relate(stream, pairs[:1], null=False)[pairs[0]], tmp_path / "other"))


def test_lost_features_are_gone_ones_whose_share_is_large(relation):
    share = ErrorShare(np.ones(24, int), np.ones(24), np.linspace(0, 1, 24))
    plain, told = (lifecycle(relation, LifecycleSettings("jaccard", 0.45), one) for one in (None, share))
    gone = plain.upstream == "gone"
    assert ((told.upstream == "lost in the error") == (gone & (share.share >= 0.5))).all()
    assert (told.upstream[~gone] == plain.upstream[~gone]).all()
    assert told.counts("upstream")["lost in the error"] > 0
    assert "lost in the error" not in plain.counts("upstream")


def test_requests_that_cannot_be_meant_are_refused(relation):
    with pytest.raises(UsageError, match="'decoder_cosine'"):
        lifecycle(relation, LifecycleSettings("decoder_cosine"))
    for build, said in (
        (lambda: LifecycleSettings(threshold=0.0), "above 0"),
        (lambda: LifecycleSettings(matching="greedy"), "greedy"),
    ):
        with pytest.raises(UsageError, match=said):
            build()
