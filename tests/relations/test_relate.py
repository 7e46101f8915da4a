import numpy as np
import pytest
import torch
from planted_relations import given, naive, planted, random_latents
from scipy import sparse

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import UsageError
from gossamer.relations import (
    ActiveAbove,
    CoActivation,
    Keep,
    LatentSource,
    ModelLatents,
    SitePair,
    adjacent,
    fired_on,
    maxima,
    relate,
    sources_of,
)
from gossamer.relations import counting as counting_module
from gossamer.relations import relation as relation_module
from gossamer.relations.relate import relations_of
from gossamer.relations.sums import SparseSums

EVERY = Keep(("jaccard",), threshold=1e-12, least=1)
MEASURED = ("jaccard", "sufficiency", "necessity", "mutual_information", "cosine", "pearson")


@pytest.fixture
def documents():
    return {"a": random_latents(11), "b": random_latents(7, seed=1), "c": random_latents(9, rate=0.4, seed=2)}


@pytest.mark.parametrize("active", [ActiveAbove(), ActiveAbove(absolute=0.5), ActiveAbove(relative=0.6)])
@pytest.mark.parametrize("small", [False, True])
def test_all_pairs_equal_the_naive_double_loop(documents, active, small, monkeypatch):
    """With chunks, blocks and memory so small that everything is merged, and written to disk, many times as well."""
    if small:
        monkeypatch.setattr(counting_module, "_CHUNK_PRODUCTS", 50)
        monkeypatch.setattr(relation_module, "_BLOCK_ENTRIES", 10)
    stream = given(documents, batch_size=3)
    pairs = [SitePair("a", "b"), SitePair("b", "c"), SitePair("a", "c"), SitePair("a", "a")]
    sizes = {"entries": 64, "block_rows": 5} if small else {"entries": 2**20}
    found = relate(stream, pairs, activity=active, keep=EVERY, null=False, **sizes)
    theta = {name: np.maximum(active.absolute, active.relative * one.max((0, 1))) for name, one in documents.items()}
    for pair, relation in found.items():
        up, down = (documents[name] for name in pair)
        expected = naive(up, down, theta[pair.upstream], theta[pair.downstream])
        if pair.upstream == pair.downstream:
            for one in expected.values():
                np.fill_diagonal(one, 0)
        kept = relation.kept
        assert relation.tokens == up.shape[0] * up.shape[1]
        assert sorted(zip(kept.i, kept.j, strict=True)) == sorted(zip(*np.nonzero(expected["c"]), strict=True))
        for name in MEASURED:
            values = expected[name]
            np.testing.assert_allclose(relation.values(name), values[kept.i, kept.j], rtol=1e-9, atol=1e-12)
            together = np.where((up.reshape(-1, up.shape[-1]).T @ down.reshape(-1, down.shape[-1])) > 0, values, 0)
            if pair.upstream == pair.downstream:
                np.fill_diagonal(together, 0)
            best = np.maximum(together.max(1), 0), np.maximum(together.max(0), 0)
            np.testing.assert_allclose(relation.forward[name].value, best[0], rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(relation.backward[name].value, best[1], rtol=1e-9, atol=1e-12)
            some = relation.forward[name].partner >= 0
            chosen = values[some, relation.forward[name].partner[some]]
            np.testing.assert_allclose(chosen, best[0][some], rtol=1e-9, atol=1e-12)


def test_top_keeps_the_best_of_every_row_and_column(documents, monkeypatch):
    monkeypatch.setattr(relation_module, "_BLOCK_ENTRIES", 20)
    keep = Keep(("jaccard", "necessity"), top=2, least=3)
    relation = relate(given(documents), [SitePair("a", "b")], keep=keep, null=False)[SitePair("a", "b")]
    expected = naive(documents["a"], documents["b"], np.zeros(11), np.zeros(7))
    wanted = set()
    for name in keep.by:
        values = expected[name]
        wanted |= {(i, j) for i in range(11) for j in np.argsort(-values[i], kind="stable")[:2]}
        wanted |= {(i, j) for j in range(7) for i in np.argsort(-values[:, j], kind="stable")[:2]}
    kept = {(i, j) for i, j in zip(relation.kept.i.tolist(), relation.kept.j.tolist(), strict=True)}
    assert kept == {(i, j) for i, j in wanted if expected["c"][i, j]}


def test_a_reversed_relation_is_that_of_the_reversed_pair(documents):
    stream, keep = given(documents), Keep(("jaccard", "sufficiency", "necessity"), top=2, least=3)
    found = relate(stream, [SitePair("a", "b"), SitePair("b", "a")], keep=keep)
    turned, counted = found[SitePair("a", "b")].reversed(), found[SitePair("b", "a")]
    assert turned.pair == counted.pair
    for name in ("i", "j", "c", "products"):
        np.testing.assert_allclose(getattr(turned.kept, name), getattr(counted.kept, name), rtol=1e-12)
    for side in ("forward", "backward"):
        for name in MEASURED:
            values = (getattr(one, side)[name].value for one in (turned, counted))
            np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-12)
    for name in MEASURED[:3]:
        assert (turned.histograms[name] == counted.histograms[name]).all()
    assert (turned.upstream.active == counted.upstream.active).all()


def test_part_of_a_stream_has_some_dictionaries_and_rows_of_it(tiny_gpt2, tokens):
    from gossamer.model import Site

    sites = [Site("resid_post", layer) for layer in range(3)]
    stream = ModelLatents(
        sources_of(tiny_gpt2, {site: dictionary(site, 20, seed) for seed, site in enumerate(sites)}), tokens
    )
    whole, part = [], []
    stream.map(whole.append)
    stream.only(["resid_post.1"]).part(slice(2, 7)).map(part.append)
    (whole,), (part,) = whole, part
    own = (whole.rows >= 2) & (whole.rows < 7)
    assert list(part.latents) == ["resid_post.1"]
    assert (part.rows == whole.rows[own]).all()
    assert (part.documents == whole.documents[own]).all()
    assert (stream.only(["resid_post.1"]).part(slice(2, 7)).token_ids(part) == stream.token_ids(whole)[own]).all()
    np.testing.assert_allclose(
        part.latents["resid_post.1"].toarray(), whole.latents["resid_post.1"][own].toarray(), rtol=1e-5, atol=1e-6
    )
    assert list(stream.widths) == [str(site) for site in sites]
    for asked, said in ((["resid_post.7"], "resid_post.7"), ([], "found none")):
        with pytest.raises(UsageError, match=said):
            stream.only(asked)


def test_words_are_those_at_which_activation_adds_up_to_most(tiny_gpt2, tokens):
    from gossamer.model import Site

    site = Site("resid_post", 1)
    own = dictionary(site, 20, 0)
    stream = ModelLatents(sources_of(tiny_gpt2, {site: own}), tokens, batch_size=5)
    found = fired_on(stream, count=2)["resid_post.1"]
    ids, counted = stream.tokens.ids, stream.counted
    with torch.no_grad():
        f = own.encode_dense(tiny_gpt2.capture(stream.tokens, [site])[site])
    for latent in range(20):
        sums = torch.zeros(tiny_gpt2.d_vocab).index_add_(0, ids[counted], f[counted][:, latent])
        ranked = sums.argsort(descending=True)[: min(2, int((sums > 0).sum()))]
        assert found[latent] == tuple(tiny_gpt2.word(int(one)) for one in ranked)
    assert any(len(one) == 2 for one in found)


def test_results_depend_on_no_batch_and_partial_counts_merge_in_any_order(documents):
    stream, pair = given(documents, batch_size=4), SitePair("a", "b")
    thresholds = ActiveAbove().thresholds(stream)
    batches = []
    stream.map(batches.append)

    def counted(parts):
        found = CoActivation.empty(thresholds, [pair], null=False)
        for part in parts:
            found.add(part)
        found.finish()
        return found

    whole = relations_of(counted(batches), EVERY)[pair]
    parts = [counted(batches[start : start + 2]) for start in range(0, 6, 2)]
    parts[1].merge(parts[2])
    parts[1].merge(parts[0])
    merged = relations_of(parts[1], EVERY)[pair]
    other = relate(given(documents, batch_size=24), [pair], keep=EVERY, null=False)[pair]
    for one in (merged, other):
        assert (one.kept.i == whole.kept.i).all()
        assert (one.kept.c == whole.kept.c).all()
        np.testing.assert_allclose(one.kept.products, whole.kept.products, rtol=1e-12)


@pytest.mark.parametrize("block_rows", [1, 7, 128])
def test_null_pairs_each_row_with_the_next_document_at_the_same_position(documents, block_rows):
    """Against a loop over rows in the stream's order, also where the two rows are of two blocks."""
    numbers = [row // 2 for row in range(24)]
    stream = given(documents, batch_size=5, documents=numbers)
    order, pair = stream._order, SitePair("a", "b")
    up, down = documents["a"][order], documents["b"][order]
    own = np.array(numbers)[order]
    rows = [row for row in range(24) if own[row - 1] != own[row]]
    assert len(rows) < 24
    left = np.stack([up[row - 1] for row in rows]) > 0
    right = np.stack([down[row] for row in rows]) > 0
    expected = np.einsum("rpi,rpj->ij", left.astype(int), right.astype(int))
    null = relate(stream, [pair], keep=EVERY, block_rows=block_rows)[pair].null
    assert null.tokens == len(rows) * 10
    assert (null.upstream.active == left.sum((0, 1))).all()
    assert (null.downstream.active == right.sum((0, 1))).all()
    jaccard = expected / (left.sum((0, 1))[:, None] + right.sum((0, 1)) - expected)
    np.testing.assert_allclose(null.forward["jaccard"].value, jaccard.max(1))


def test_null_thresholds_keep_chance_out_and_what_is_planted_in():
    up, down = planted()
    pair = SitePair("up", "down")
    relation = relate(given({"up": up, "down": down}), [pair])[pair]
    shuffled = np.roll(up, 7, axis=0)
    chance = relate(given({"up": shuffled, "down": down}, seed=3), [pair])[pair]
    for measure in ("jaccard", "sufficiency", "pearson"):
        threshold = relation.null_threshold(measure, 0.05)
        assert (chance.forward[measure].value >= threshold).mean() <= 0.1
        assert (relation.forward[measure].value[[0, 2, 4, 5, 7]] >= threshold).all()
    for measure in ("jaccard", "pearson"):
        edges = relation.values(measure) >= relation.edge_threshold(measure, 0.05)
        true = {(0, 0), (2, 1), (3, 1), (4, 2), (5, 2), (0, 3), (6, 4), (6, 5), (7, 6), (2, 6)}
        found = set(zip(relation.kept.i[edges].tolist(), relation.kept.j[edges].tolist(), strict=True))
        assert true <= found
        # The others are what the planted ones imply of each other: 1 goes along with 0, 3 with 2 at one output.
        assert all(i < 8 and j < 7 for i, j in found)
    with pytest.raises(UsageError, match="between 0 and 1"):
        relation.null_threshold("jaccard", 0.0)
    alone = relate(given({"up": up, "down": down}), [pair], null=False)[pair]
    with pytest.raises(UsageError, match="null=True"):
        alone.edge_threshold("jaccard")


def test_latents_that_are_always_active_do_not_raise_the_threshold_of_edges():
    """Alike by chance, and at the top: the planted pairs below them are edges all the same."""
    up, down = (np.concatenate([one, np.ones((*one.shape[:2], 1))], axis=2) for one in planted())
    pair = SitePair("up", "down")
    relation = relate(given({"up": up, "down": down}), [pair])[pair]
    threshold = relation.edge_threshold("jaccard", 0.2)
    assert threshold < 0.9
    edges = relation.values("jaccard") >= threshold
    found = set(zip(relation.kept.i[edges].tolist(), relation.kept.j[edges].tolist(), strict=True))
    assert {(0, 0), (0, 3), (5, 2)} <= found
    assert (up.shape[2] - 1, down.shape[2] - 1) in found


def test_sums_of_another_shape_are_refused():
    with pytest.raises(UsageError, match=r"\(2, 3\) expected, found \(3, 2\)"):
        SparseSums((2, 3), np.int64, 10).add(sparse.csr_matrix((3, 2)))


def test_requests_that_cannot_be_meant_are_refused(documents):
    stream = given(documents)
    for pairs, said in (([], "none"), ([SitePair("a", "x")], "'x'"), ([SitePair("a", "b")] * 2, "each pair once")):
        with pytest.raises(UsageError, match=said):
            relate(stream, pairs)
    for build, said in (
        (lambda: ActiveAbove(relative=1.0), "below 1"),
        (lambda: ActiveAbove(absolute=-1.0), "at least 0"),
        (lambda: Keep(("likeness",)), "likeness"),
        (lambda: Keep(threshold=1.5), "at most 1"),
        (lambda: given({"a": documents["a"], "b": documents["b"][:3]}), "one \\(rows, positions\\) shape"),
    ):
        with pytest.raises(UsageError, match=said):
            build()


def dictionary(site, n, seed, d=32, **options):
    torch.manual_seed(seed)
    made = Dictionary(DictionaryConfig(architecture="relu", d_in=d, n_latents=n, site=site, **options))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.1 if name == "W_enc" else 1.0))
        made.b_enc.sub_(1.0)
    return made.requires_grad_(False)


@pytest.fixture
def tokens(tiny_gpt2):
    torch.manual_seed(0)
    words = ["Mary", "John", "went", "to", "the", "store", "dog", "likes", "milk", "she", "was", "happy"]
    picks = torch.randint(len(words), (12, 9)).tolist()
    texts = [" ".join(words[one] for one in row[: 4 + number % 6]) for number, row in enumerate(picks)]
    return tiny_gpt2.tokenize(texts)


def test_a_models_latents_are_counted_at_the_tokens_that_count(tiny_gpt2, tokens):
    """Two sites, z, and a second dictionary at one site, against dense encodings; decoder cosines where they can be."""
    from gossamer.activations import counted_tokens
    from gossamer.model import Site

    ones = {
        name: dictionary(Site.parse(name), n, seed)
        for seed, (name, n) in enumerate((("resid_post.0", 20), ("z.1", 12), ("resid_post.2", 15)))
    }
    wide = dictionary(Site.parse("resid_post.2"), 18, 7)
    sources = {name: LatentSource(tiny_gpt2, one) for name, one in ones.items()}
    sources |= sources_of(tiny_gpt2, {wide.site: wide}, "wide")
    assert list(sources) == ["resid_post.0", "z.1", "resid_post.2", "resid_post.2@wide"]
    stream = ModelLatents(sources, tokens, batch_size=5)
    pairs = [*adjacent(ones), SitePair("resid_post.2", "resid_post.2@wide")]
    found = relate(stream, pairs, keep=EVERY)
    counted = counted_tokens(tiny_gpt2, tokens)
    with torch.no_grad():
        values = tiny_gpt2.capture(tokens, ["resid_post.0", "z.1", "resid_post.2"])
        dense = {
            name: source.dictionary.encode_dense(values[source.site])[counted].double().numpy()
            for name, source in sources.items()
        }
    for pair, relation in found.items():
        up, down = dense[pair.upstream], dense[pair.downstream]
        assert relation.tokens == len(up) == int(counted.sum())
        assert (relation.kept.c == ((up > 0).T.astype(int) @ (down > 0))[relation.kept.i, relation.kept.j]).all()
        np.testing.assert_allclose(relation.kept.products, (up.T @ down)[relation.kept.i, relation.kept.j], rtol=1e-5)
    assert all("decoder_cosine" not in found[pair].forward for pair in pairs[:2])
    same = found[pairs[2]]
    rows = [torch.nn.functional.normalize(one.W_dec.double(), dim=1).numpy() for one in (ones["resid_post.2"], wide)]
    expected = rows[0] @ rows[1].T
    np.testing.assert_allclose(same.values("decoder_cosine"), expected[same.kept.i, same.kept.j], atol=1e-6)
    np.testing.assert_allclose(same.forward["decoder_cosine"].value, expected.max(1), atol=1e-6)
    np.testing.assert_allclose(same.backward["decoder_cosine"].value, expected.max(0), atol=1e-6)
    with pytest.raises(UsageError, match="'decoder_cosine'"):
        found[pairs[0]].values("decoder_cosine")
    np.testing.assert_allclose(maxima(stream)["z.1"], dense["z.1"].max(0), rtol=1e-5)


def test_two_models_of_one_tokenizer_are_related_at_the_same_tokens(tiny_gpt2, tokens, tokenizer):
    from word_model import tiny_gpt2_model

    from gossamer.model import LanguageModel, Site

    site = Site.parse("resid_post.1")
    other = LanguageModel.load(tiny_gpt2_model(tokenizer, seed=5), tokenizer=tokenizer)
    one = dictionary(site, 20, 0)
    sources = {"one": LatentSource(tiny_gpt2, one), "other": LatentSource(other, one)}
    pair = SitePair("one", "other")
    relation = relate(ModelLatents(sources, tokens), [pair], keep=EVERY, null=False)[pair]
    with torch.no_grad():
        dense = [one.encode_dense(model.capture(tokens, [site])[site])[tokens.mask] for model in (tiny_gpt2, other)]
    assert relation.tokens <= len(dense[0])
    if relation.tokens == len(dense[0]):
        expected = ((dense[0] > 0).T.double() @ (dense[1] > 0).double()).numpy()
        assert (relation.kept.c == expected[relation.kept.i, relation.kept.j]).all()
    assert "decoder_cosine" not in relation.forward
