"""A feature store against a plain loop over rows, tokens and latents."""

import dataclasses
import json
import math
import random
import re
import shutil
import signal
import threading
from collections import Counter, defaultdict

import numpy as np
import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
import torch
from store_fixtures import SETTINGS, SITES, by_loop, dictionaries, dictionary, texts

from gossamer.dictionary.formats.weights import sha256
from gossamer.errors import GossamerError, UsageError
from gossamer.features import Feature, feature_cards
from gossamer.features.examples import ExampleSettings
from gossamer.model import Site
from gossamer.model.fingerprint import weights_sha256
from gossamer.results import digest
from gossamer.store import FeatureStore, Search, StoreSettings, build_store


@pytest.fixture(scope="module")
def made(tokenizer_model):
    return dictionaries()


@pytest.fixture(scope="module")
def tokenizer_model():
    from word_model import tiny_gpt2_model, word_tokenizer

    from gossamer.model import LanguageModel

    tokenizer = word_tokenizer()
    return LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def folder(tokenizer_model, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "store"
    build_store(tokenizer_model, made, texts(), folder, settings=SETTINGS)
    return folder


@pytest.fixture
def store(folder):
    with FeatureStore(folder) as store:
        yield store


@pytest.fixture(scope="module")
def truth(tokenizer_model, made):
    return by_loop(tokenizer_model, made, texts())


def _keys(table):
    return list(zip(*(table[name].to_pylist() for name in ("site", "latent", "document", "position")), strict=True))


def test_a_store_is_one_short_line(store):
    assert repr(store) == f"FeatureStore({store.manifest.model} at {', '.join(map(str, store.sites))}, " + (
        f"{store.manifest.tokens} tokens, {store.manifest.entries:,} activations)"
    )


@pytest.mark.parametrize("table", ["activations", "activations_by_token"])
def test_both_orders_hold_what_a_loop_finds(store, truth, table):
    found = store.sql(f"SELECT * FROM {table}")
    keys = _keys(found)
    values = dict(zip(keys, found["value"].to_pylist(), strict=True))
    assert len(keys) == len(values) == store.manifest.entries
    # What lies within rounding of 0 may be on either side of it.
    differing = set(values) ^ set(truth)
    assert all(values.get(key, 0) < 1e-5 and truth.get(key, 0) < 1e-5 for key in differing)
    assert max(abs(values[key] - truth[key]) for key in set(values) & set(truth)) < 1e-5
    assert len(truth) > 5_000


def test_shards_lie_in_the_orders_that_make_questions_cheap(store, folder):
    assert len(store.manifest.shards) > 3
    order = {str(site): place for place, site in enumerate(SITES)}
    for path in sorted((folder / "by_latent").iterdir()):
        keys = [(order[site], *rest) for site, *rest in _keys(pyarrow.parquet.read_table(path))]
        assert keys == sorted(keys)
    for path in sorted((folder / "by_token").iterdir()):
        table = pyarrow.parquet.read_table(path)
        keys = zip(
            table["token"].to_pylist(),
            [(document, position, order[site], latent) for site, latent, document, position in _keys(table)],
            strict=True,
        )
        assert (found := list(keys)) == sorted(found)


def test_tokens_know_their_documents(store, tokenizer_model):
    tokens = store.sql("SELECT * FROM tokens WHERE counted")
    assert len(tokens) == store.manifest.tokens
    for document in (0, 3, 7):
        rows = store.sql(f"SELECT token FROM tokens WHERE document = {document} AND counted ORDER BY position")
        ids = tokenizer_model.tokenizer(texts()[document], add_special_tokens=False)["input_ids"]
        assert rows["token"].to_pylist() == ids
    assert store.manifest.tokens == sum(len(text.split()) for text in texts())
    assert store.manifest.empty == 1
    assert store.manifest.split == sum(len(text.split()) > 15 for text in texts()) > 0


def test_statistics_are_those_of_the_values_in_float64(store):
    found = store.sql("SELECT * FROM activations")
    groups = defaultdict(list)
    for (site, latent, document, _), value in zip(_keys(found), found["value"].to_pylist(), strict=True):
        groups[site, latent].append((document, value))
    rows = store.sql("SELECT * FROM statistics").to_pylist()
    assert len(rows) == 3 * 40
    for row in rows:
        pairs = groups.get((row["site"], row["latent"]), [])
        values = np.array([value for _, value in pairs], dtype=np.float64)
        assert row["active"] == len(values) == sum(row["histogram"])
        assert row["density"] == len(values) / store.manifest.tokens
        assert row["documents"] == len({document for document, _ in pairs})
        if not len(values):
            assert row["maximum"] is row["mean"] is row["q50"] is None
            continue
        apart = values - values.mean()
        expected = {
            "total": values.sum(),
            "squares": (values**2).sum(),
            "maximum": values.max(),
            "mean": values.mean(),
            "std": values.std(),
            "q50": np.median(values),
            "q95": np.quantile(values, 0.95),
        }
        if len(values) > 2:
            expected["skewness"] = (apart**3).mean() / (apart**2).mean() ** 1.5
            expected["kurtosis"] = (apart**4).mean() / (apart**2).mean() ** 2
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-9, abs=1e-12), (name, row)
    dead = [row for row in rows if row["latent"] == 5]
    assert [row["active"] for row in dead] == [0, 0, 0]


def test_cards_are_those_of_a_pass_over_the_same_rows(store, tokenizer_model, made):
    from gossamer.activations import DocumentRows, RowConfig

    rows = DocumentRows.of(tokenizer_model, texts(), RowConfig(context=16, bos=1.0), shortest=1)
    features = [Feature(site, latent) for site in SITES for latent in (0, 5, 17, 39)]
    settings = ExampleSettings(k=len(rows), window=(3, 2))
    theirs = feature_cards(tokenizer_model, made, features, rows, settings=settings, words=3)
    cards = store.cards(features)
    assert list(cards) == features
    for feature, ours in cards.items():
        other = theirs[feature]
        assert [one.feature for one in ours.neighbours] == [one.feature for one in other.neighbours]
        assert len(ours.neighbours) == 8
        for mine, one in zip(ours.neighbours, other.neighbours, strict=True):
            assert mine.value == pytest.approx(one.value, abs=1e-6)
        for name in ("feature", "model", "tokens", "active", "histogram", "link"):
            assert getattr(ours, name) == getattr(other, name), name
        for name in ("mean", "std", "maximum"):
            assert getattr(ours, name) == pytest.approx(getattr(other, name), rel=1e-5, abs=1e-7)
        for name in ("promotes", "suppresses"):
            assert [word for word, _ in getattr(ours, name)] == [word for word, _ in getattr(other, name)]
        # There a document is a row, here a text, which is an example once.
        best = {}
        for one in other.examples:
            best.setdefault(int(rows.documents[one.document]), one)
        expected = list(best.items())[:4]
        assert [(one.document, one.tokens, one.position) for one in ours.examples] == [
            (document, one.tokens, one.position) for document, one in expected
        ]
        for mine, (_, one) in zip(ours.examples, expected, strict=True):
            counted = [word != "<|endoftext|>" for word in one.tokens]
            assert [a for a, kept in zip(mine.activations, counted, strict=True) if kept] == pytest.approx(
                [a for a, kept in zip(one.activations, counted, strict=True) if kept], abs=1e-5
            )


def test_examples_of_quantile_groups_are_of_their_groups(store):
    for feature in (Feature(SITES[0], 0), Feature(SITES[1], 3)):
        values = np.sort(store.tokens_of(feature)["value"].to_numpy())
        groups = np.array_split(values, 3)
        strata = store.card(feature).strata
        assert [one.stratum for one in strata] == [0, 0, 1, 1, 2, 2]
        for one in strata:
            assert groups[one.stratum][0] <= one.activation <= groups[one.stratum][-1]
            assert len(one.tokens) <= 6


def test_all_tokens_of_a_latent_above_thresholds(store, truth):
    feature = Feature(SITES[0], 7)
    own = {key[2:]: value for key, value in truth.items() if key[:2] == (str(SITES[0]), 7)}
    largest = max(own.values())
    for options, level in (({}, 1e-5), ({"above": 0.5}, 0.5), ({"relative": 0.4}, 0.4 * largest)):
        found = store.tokens_of(feature, **options).to_pylist()
        places = {(row["document"], row["position"]) for row in found if row["value"] > 1e-5}
        assert places == {place for place, value in own.items() if value > level}
    strongest = store.tokens_of(str(feature), strongest=3).to_pylist()
    assert [row["value"] for row in strongest] == pytest.approx(sorted(own.values())[::-1][:3], rel=1e-5)
    for options, message in (
        ({"above": -1.0}, "above: a finite activation of at least 0 expected, found -1"),
        ({"above": math.nan}, "above: .* found nan"),
        ({"relative": 1.5}, "relative: a share of the maximum, 0 to 1, expected, found 1.5"),
    ):
        with pytest.raises(UsageError, match=message):
            store.tokens_of(feature, **options)
    with pytest.raises(UsageError, match=r"feature resid_post\.0/40: a latent of resid_post\.0 \(0 to 39\)"):
        store.tokens_of("resid_post.0/40")


def test_words_of_a_latent_are_those_on_which_it_adds_up_to_most(store):
    feature = Feature(SITES[0], 7)
    sums, largest, times = defaultdict(float), defaultdict(float), defaultdict(int)
    for row in store.tokens_of(feature).to_pylist():
        sums[row["token"]] += row["value"]
        largest[row["token"]] = max(largest[row["token"]], row["value"])
        times[row["token"]] += 1
    counted = Counter(store.sql("SELECT token FROM tokens WHERE counted")["token"].to_pylist())
    rows = store.words_of(str(feature), limit=5).to_pylist()
    assert [row["token"] for row in rows] == sorted(sums, key=sums.__getitem__, reverse=True)[:5]
    for row in rows:
        token = row["token"]
        assert (row["active"], row["occurrences"], row["maximum"]) == (times[token], counted[token], largest[token])
        assert row["total"] == pytest.approx(sums[token])
        assert row["mean"] == pytest.approx(sums[token] / counted[token])


def test_all_latents_of_a_token(store, truth):
    document, position = next((document, position) for _, _, document, position in truth)
    found = store.latents_at(document, position).to_pylist()
    expected = {key[:2]: value for key, value in truth.items() if key[2:] == (document, position) and value > 1e-5}
    assert {(row["site"], row["latent"]) for row in found if row["value"] > 1e-5} == set(expected)
    assert [row["value"] for row in found] == sorted((row["value"] for row in found), reverse=True)
    with pytest.raises(UsageError, match="document 0, position 4000: a token of the store expected"):
        store.latents_at(0, 4000)

    every = store.sql("SELECT * FROM activations").to_pylist()
    (token,) = store.token_ids("Mary")
    counts, active = defaultdict(int), defaultdict(int)
    for row in every:
        active[row["site"], row["latent"]] += 1
        counts[row["site"], row["latent"]] += row["token"] == token
    occurrences = store.sql(f"SELECT count(*) AS n FROM tokens WHERE counted AND token = {token}")["n"][0].as_py()
    rows = store.latents_of("Mary", limit=500).to_pylist()
    assert {(row["site"], row["latent"]): row["on_token"] for row in rows} == {k: n for k, n in counts.items() if n}
    for row in rows:
        key = row["site"], row["latent"]
        assert row["score"] == pytest.approx(counts[key] / math.sqrt(occurrences * active[key]))
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    with pytest.raises(UsageError, match="token 'nowhere': one of the store's corpus expected"):
        store.latents_of("nowhere")


def test_search_by_statistics_token_word_and_explanation(store, folder, tokenizer_model, made, tmp_path):
    statistics = {(row["site"], row["latent"]): row for row in store.sql("SELECT * FROM statistics").to_pylist()}
    found = store.search(Search(density=(0.3, 0.7), maximum=(1.0, 6.0), active=3), limit=500).to_pylist()
    assert {(row["site"], row["latent"]) for row in found} == {
        key
        for key, row in statistics.items()
        if 0.3 <= row["density"] <= 0.7 and 1.0 <= (row["maximum"] or 0) <= 6.0 and row["active"] >= 3
    }
    assert 0 < len(found) < 120
    only = store.search(Search(site="blocks.0.hook_resid_post", token="Mary"), limit=500).to_pylist()
    assert {row["site"] for row in only} == {"resid_post.0"}
    expected = [
        row["latent"] for row in store.latents_of("Mary", limit=500).to_pylist() if row["site"] == "resid_post.0"
    ]
    assert [row["latent"] for row in only] == expected
    feature = Feature(SITES[2], 8)
    word = store.card(feature).promotes[0][0]
    assert ("resid_post.2", 8) in [
        (row["site"], row["latent"]) for row in store.search(Search(word=word.upper()), limit=500).to_pylist()
    ]
    with pytest.raises(UsageError, match="has no explanations; add some with 'gossamer store explain'"):
        store.search(Search(explanation="girls"))
    build_store(tokenizer_model, made, texts(8), tmp_path, settings=SETTINGS)
    with FeatureStore(tmp_path) as other:
        other.explain({Feature(SITES[0], 1): "Names of girls", Feature(SITES[0], 2): "girls and boys and parks, parks"})
        other.explain({Feature(SITES[1], 3): "the word 'park'"}, method="by hand")
        said = other.search(Search(explanation="park(s) parks")).to_pylist()
        assert [(row["site"], row["latent"]) for row in said] == [("resid_post.0", 2), ("z.1", 3)]
        # Okapi BM25 by hand: words in one text of three, twice and once, texts of 6 and 3 words where the mean is 4.
        rarity = math.log(1 + 2.5 / 1.5)
        expected = [rarity * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * length / 4)) for n, length in ((2, 6), (1, 3))]
        assert [row["score"] for row in said] == pytest.approx(expected)
        said = [(row["latent"]) for row in other.search(Search(explanation="GIRLS")).to_pylist()]
        assert said == [1, 2]
        assert other.card(Feature(SITES[0], 1)).explanation == "Names of girls"
        with pytest.raises(UsageError, match=r"feature z\.1/99: a latent of"):
            other.explain({Feature(SITES[1], 99): "?"})


def test_explanations_are_ranked_by_bm25_as_its_formula_says(tokenizer_model, made, tmp_path):
    """Robertson & Zaragoza 2009, k1 1.2 and b 0.75, with ln(1 + (N - n + 0.5) / (n + 0.5)): a loop over 40 texts."""
    build_store(tokenizer_model, made, texts(4), tmp_path, settings=SETTINGS)
    draw = random.Random(0)
    words = ["dog", "Dog's", "über", "über-dog", "cat", "it", "'s", "x_y", "42"]
    said = {Feature(SITES[0], latent): " ".join(draw.choices(words, k=1 + latent % 7)) for latent in range(40)}
    split = {feature: re.findall(r"[^\W_]+", text.lower()) for feature, text in said.items()}
    mean = sum(map(len, split.values())) / len(split)
    with FeatureStore(tmp_path) as store:
        store.explain(said)
        for asked in ("dog", "ÜBER dog dog", "cats", "it's 42 y"):
            expected = {}
            for feature, terms in split.items():
                score = 0.0
                for word in dict.fromkeys(re.findall(r"[^\W_]+", asked.lower())):
                    having, often = sum(word in one for one in split.values()), terms.count(word)
                    rarity = math.log(1 + (len(split) - having + 0.5) / (having + 0.5))
                    score += rarity * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(terms) / mean))
                if score:
                    expected[feature.latent] = score
            rows = store.search(Search(explanation=asked)).to_pylist()
            found = {row["latent"]: row["score"] for row in rows}
            assert found == pytest.approx(expected)
            assert list(found.values()) == sorted(found.values(), reverse=True)
    assert expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": (0.5, 0.2)}, "density: 0 <= least <= largest <= 1 expected, found 0.5 and 0.2"),
        ({"density": (0.0, 1.5)}, "density: .* found 0.0 and 1.5"),
        ({"maximum": (math.nan, 1.0)}, "maximum: .* found nan"),
        ({"active": -1}, "active: at least 0 tokens expected, found -1"),
        ({"explanation": " !"}, "explanation: some words expected"),
    ],
)
def test_bounds_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Search(**options)


def test_answers_are_frames_of_arrow_pandas_and_polars(store):
    query = "SELECT site, latent, count(*) AS n FROM activations GROUP BY ALL ORDER BY ALL"
    table = store.sql(query)
    assert isinstance(table, pyarrow.Table)
    assert isinstance(table.to_pandas(), pandas.DataFrame)
    assert polars.from_arrow(table)["n"].sum() == table.to_pandas()["n"].sum() == store.manifest.entries


def test_what_would_return_too_many_rows_is_refused_and_can_be_had_in_batches(store):
    query = "SELECT a.latent FROM activations a, activations b, activations c"
    with pytest.raises(UsageError, match=r"at most 1,000,000 rows expected, found more; ask for fewer .*batches"):
        store.sql(query)
    with pytest.raises(UsageError, match="at most 10 rows expected"):
        store.sql("SELECT * FROM activations", limit=10)
    first = next(iter(store.batches(query, 1000)))
    assert 0 < len(first) <= 4096
    assert sum(map(len, store.batches("SELECT * FROM activations;", 1000))) == store.manifest.entries


def test_ctrl_c_ends_a_query_that_does_not(store):
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals reach the main thread alone")
    # A shell's jobs in the background are started with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stop = threading.Timer(0.2, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    stop.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.sql("SELECT count(*) FROM activations a, activations b, activations c, activations d")
    finally:
        stop.join()
        signal.signal(signal.SIGINT, before)
    assert store.sql("SELECT count(*) AS n FROM activations")["n"].to_pylist() == [store.manifest.entries]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("COPY (SELECT 1) TO 'x.parquet'", "one SELECT expected"),
        ("SELECT 1; SELECT 2", "one SELECT expected"),
        ("CREATE TABLE t (a INT)", "one SELECT expected"),
        ("SELECT nothing FROM activations", "nothing"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELEC 1", "syntax"),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled"),
    ],
)
def test_a_store_is_only_read_and_nothing_beside_it(store, query, message):
    with pytest.raises(UsageError, match=message) as caught:
        store.sql(query)
    assert "\n" not in str(caught.value)


def test_a_threshold_keeps_what_is_above_it(tokenizer_model, made, truth, tmp_path):
    build_store(tokenizer_model, made, texts(), tmp_path, settings=dataclasses.replace(SETTINGS, threshold=0.5))
    with FeatureStore(tmp_path) as store:
        kept = {key for key, value in truth.items() if value > 0.5 + 1e-5}
        assert kept <= set(_keys(store.sql("SELECT * FROM activations")))
        assert store.sql("SELECT min(value) AS v FROM activations")["v"][0].as_py() > 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": -0.1}, "a threshold of at least 0 expected, found -0.1"),
        ({"threshold": math.inf}, "a threshold of at least 0 expected, found inf"),
        ({"shard_tokens": 0}, "shard_tokens >= 1"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        StoreSettings(**options)


def test_what_does_not_fit_the_model_is_refused_before_the_work(tokenizer_model, made, tmp_path):
    with pytest.raises(UsageError, match="a context of 2 to 64 tokens expected, found 65"):
        build_store(tokenizer_model, made, texts(), tmp_path, settings=StoreSettings(context=65))
    with pytest.raises(UsageError, match="at least one dictionary expected"):
        build_store(tokenizer_model, {}, texts(), tmp_path)
    with pytest.raises(UsageError, match="some text expected, found 1 texts without a token"):
        build_store(tokenizer_model, made, [""], tmp_path)
    with pytest.raises(UsageError, match="text 1: Unicode expected, found half of a character"):
        build_store(tokenizer_model, made, [texts()[0], "Mary \ud83d went"], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_store_of_something_else_is_refused_by_hash(tokenizer_model, made, store, folder):
    store.require(tokenizer_model, made)
    other = {**made, SITES[0]: dictionary(SITES[0], 9)}
    with pytest.raises(UsageError, match=r"of another model or dictionary \(resid_post\.0: .* there, .* asked\)"):
        store.require(tokenizer_model, other)
    # A set may have more sites than the store.
    more = {**made, Site("resid_post", 7): dictionary(SITES[0], 9)}
    assert store.own({str(site): one for site, one in more.items()}) == made
    with pytest.raises(UsageError, match="of another model or dictionary"):
        store.own({**more, SITES[0]: dictionary(SITES[0], 9)})
    with pytest.raises(UsageError, match=r"dictionaries at resid_post\.0.* expected, found resid_post\.7"):
        store.own({Site("resid_post", 7): dictionary(SITES[0], 9)})
    before = {path: sha256(path) for path in folder.rglob("*.*")}
    with pytest.raises(UsageError, match=r"holds another store \(dictionaries\.resid_post\.0\.sha256"):
        build_store(tokenizer_model, other, texts(), folder, settings=SETTINGS)
    with pytest.raises(UsageError, match=r"holds another store \(corpus: "):
        build_store(tokenizer_model, made, [*texts()[:-1], texts()[0]], folder, settings=SETTINGS)
    with pytest.raises(UsageError, match=r"holds another store \(settings\.threshold: 0\.0 there, 0\.1 asked\)"):
        build_store(tokenizer_model, made, texts(), folder, settings=dataclasses.replace(SETTINGS, threshold=0.1))
    with torch.no_grad():
        weight = tokenizer_model.hf.transformer.wte.weight
        weight[3, 3] += 1
        try:
            with pytest.raises(UsageError, match=r"of another model or dictionary \(weights"):
                store.require(tokenizer_model)
        finally:
            weight[3, 3] -= 1
    assert {path: sha256(path) for path in folder.rglob("*.*")} == before


def test_no_store_is_named(tmp_path):
    with pytest.raises(
        UsageError, match=r"a feature store expected, found no store\.json; write one with 'gossamer store build'"
    ):
        FeatureStore(tmp_path / "nowhere")
    (tmp_path / "store.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(GossamerError, match="expected UTF-8"):
        FeatureStore(tmp_path)
    (tmp_path / "store.json").write_text('{"format": "gossamer.store.3"}')
    with pytest.raises(UsageError, match="found version 3: upgrade gossamer"):
        FeatureStore(tmp_path)


def test_a_store_of_version_1_is_read_and_has_no_neighbours(store, folder, tokenizer_model, made, tmp_path):
    shutil.copytree(folder, tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "neighbours")
    body = json.loads((folder / "store.json").read_text())
    for key in ("format", "sha256"):
        del body[key]
    del body["settings"]["neighbours"]
    for one in body["dictionaries"].values():
        del one["weights"]
    body["summary"] = {name: one for name, one in body["summary"].items() if not name.startswith("neighbours/")}
    written = {"format": "gossamer.store.1", "sha256": digest(body), **body}
    (tmp_path / "store" / "store.json").write_text(json.dumps(written))
    feature = Feature(SITES[0], 3)
    with FeatureStore(tmp_path / "store") as older:
        assert older.card(feature) == dataclasses.replace(store.card(feature), neighbours=())
        older.require(tokenizer_model, made)
        with pytest.raises(UsageError, match=r"resid_post\.0: None there"):
            older.require_weights(older.manifest.weights, {"resid_post.0": "abc"})
    # Damage is mended as it was written then.
    (tmp_path / "store" / "tokens" / "000000.parquet").unlink()
    settings = dataclasses.replace(SETTINGS, neighbours=0)
    build_store(tokenizer_model, made, texts(), tmp_path / "store", settings=settings, repair=True)
    with FeatureStore(tmp_path / "store") as mended:
        assert mended.verify() == {}


def test_weights_are_those_that_circuits_record(store, made):
    recorded = {str(site): weights_sha256(one) for site, one in made.items()}
    store.require_weights(store.manifest.weights, recorded)
    for model, weights, message in (
        ("abc", recorded, r"weights: .* there, abc asked"),
        (store.manifest.weights, {**recorded, "z.1": "abc"}, r"z\.1: .* there, abc asked"),
        (store.manifest.weights, {"resid_post.1": "abc"}, r"resid_post\.1: "),
    ):
        with pytest.raises(UsageError, match=f"of another model or dictionary .*{message}"):
            store.require_weights(model, weights)
