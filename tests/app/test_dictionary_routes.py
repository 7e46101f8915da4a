"""Dictionaries, their latents, search and comparison: a store's numbers, the weights' own, and refusals."""

import math
import shutil

import pytest
import torch
from workbench_run import TEXT, bench_of, client_of

from gossamer import Dictionary, DictionarySet, LanguageModel, bundled
from gossamer.circuits.circuit import Circuit
from gossamer.dictionary.config import DictionaryConfig, ReportedMetrics
from gossamer.features import Feature
from gossamer.features.lens import logit_lens
from gossamer.features.matching import match_latents
from gossamer.store import FeatureStore

URL, SITE = "/api/v1/dicts/dictionaries~dictionaries", "resid_post.2"


@pytest.fixture(scope="module")
def bench(stored):
    return bench_of(stored)


@pytest.fixture(scope="module")
def ask(bench):
    return client_of(bench)


@pytest.fixture(scope="module")
def store(stored):
    with FeatureStore(stored / "store") as found:
        yield found


@pytest.fixture(scope="module")
def page(ask):
    return ask.get(URL).json()


def listed(ask, **asked):
    return ask.get(f"{URL}/latents", params={"site": SITE, **asked}).json()


def busiest(ask):
    return listed(ask, limit=1)["rows"][0]["feature"]


def test_sets_are_listed_once_whoever_names_them(ask):
    sets = ask.get("/api/v1/dicts").json()["sets"]
    # The circuit names the package's own copy, which lies outside the run.
    assert [(one["id"], one["circuit"]) for one in sets] == [
        ("circuit", "circuit"),
        ("dictionaries~dictionaries", None),
    ][::-1]
    assert sets[0]["dictionaries"] == sets[1]["dictionaries"]


def test_a_dictionarys_numbers_name_their_text_and_formula(page, store, stored):
    known = DictionarySet.load(stored / "dictionaries", device="meta")
    one = next(one for one in page["measured"] if one["site"] == SITE)
    claimed, counted = [measure for measure in one["measures"] if measure["name"] == "L0"]
    assert claimed["value"] == known[SITE].reported.l0
    rows = store.sql(f"SELECT active FROM statistics WHERE site = '{SITE}'").to_pylist()
    fired = [row["active"] for row in rows]
    assert counted["value"] == pytest.approx(sum(fired) / store.manifest.tokens)
    assert counted["on"] == store.text
    variance = next(measure for measure in one["measures"] if measure["name"] == "explained variance")
    assert variance["formula"].startswith("1 - sum ||x - x_hat||^2 / sum ||x - mean||^2")
    densities = one["densities"]
    assert densities["dead"] == fired.count(0)
    assert sum(densities["counts"]) + densities["dead"] == len(fired) == known[SITE].n_latents
    # The densest latent is in the last bin that holds any.
    top = max(place for place, count in enumerate(densities["counts"]) if count)
    assert densities["edges"][top] * 0.999 <= max(fired) / store.manifest.tokens <= densities["edges"][top + 1] * 1.001


def test_latents_are_sorted_limited_and_found(ask, store):
    first, second = listed(ask, limit=5), listed(ask, limit=5, cursor=5)
    densities = [row["density"] for row in first["rows"] + second["rows"]]
    assert densities == sorted(densities, reverse=True)
    assert first["next"] == 5
    assert first["total"] == store.manifest.dictionaries[SITE].n_latents
    largest = [row["maximum"] for row in listed(ask, sort="max", limit=5)["rows"]]
    assert largest == sorted(largest, reverse=True)
    dense = listed(ask, min_density=0.05, limit=500)
    assert all(row["density"] >= 0.05 for row in dense["rows"])
    assert dense["total"] == len(dense["rows"]) < first["total"]
    assert dense["next"] is None
    assert [row["feature"] for row in listed(ask, q="17")["rows"]] == [f"{SITE}/17"]
    told = listed(ask, q="several BOYS")["rows"]
    assert [(row["feature"], row["label"], row["score"]) for row in told] == [
        (busiest(ask), "nouns of several boys", 0.75)
    ]
    word = first["rows"][0]["top"].strip("␣")
    assert busiest(ask) in [row["feature"] for row in listed(ask, q=word, limit=500)["rows"]]


def test_without_a_store_latents_have_their_words_and_nothing_is_made_up(made):
    asked = client_of(bench_of(made[0]))
    url = "/api/v1/dicts/circuit/latents"
    said = asked.get(url, params={"site": SITE, "limit": 3}).json()
    assert [row["feature"] for row in said["rows"]] == [f"{SITE}/{latent}" for latent in range(3)]
    assert {row["density"] for row in said["rows"]} == {None}
    assert all(row["top"] for row in said["rows"])
    assert said["text"].startswith("no text")
    refused = asked.get(url, params={"site": SITE, "sort": "density"})
    assert refused.status_code == 422
    assert "store build" in refused.json()["detail"]


def test_a_latents_page_is_of_the_store(ask, store):
    name = busiest(ask)
    said = ask.get(f"{URL}/latent", params={"feature": name}).json()
    card = store.card(name)
    assert said["store"] == "store~store"
    assert said["card"]["density"] == pytest.approx(card.density)
    assert said["card"]["counts"] == list(card.histogram.counts)
    assert sorted({one["stratum"] for one in said["card"]["strata"]}) == [0, 1, 2, 3, 4]
    assert [(one["text"], one["score"], one["scorer"]) for one in said["labels"]] == [
        ("nouns of several boys", 0.75, "detection")
    ]
    totals = [one["mean"] * one["occurrences"] for one in said["tokens"]]
    assert totals == sorted(totals, reverse=True)


def test_a_latents_weights(ask, stored):
    feature = Feature.parse(f"{SITE}/5")
    said = ask.get(f"{URL}/latent/weights", params={"feature": str(feature)}).json()
    one = DictionarySet.load(stored / "dictionaries")[SITE]
    encoder, decoder = one.W_enc[:, 5].double(), one.W_dec[5].double()
    assert said["cosine"] == pytest.approx((encoder @ decoder / encoder.norm() / decoder.norm()).item(), abs=1e-6)
    assert said["decoder_norm"] == pytest.approx(decoder.norm().item(), rel=1e-6)


def test_search_finds_by_name_label_token_word_and_node(ask, store, made):
    name = busiest(ask)

    def hits(q, kind):
        return ask.get("/api/v1/search", params={"q": q, "kind": kind}).json()["hits"]

    assert {one["dictionaries"] for one in hits(name, "id")} == {"circuit", "dictionaries~dictionaries"}
    assert [one["feature"] for one in hits("boys", "explanation")] == [name]
    token = store.latents_of("boys", limit=1).to_pylist()[0]
    assert hits("boys", "token")[0]["feature"] == f"{token['site']}/{token['latent']}"
    node = made[2].nodes[0]
    assert str(node.card.feature) in [one["feature"] for one in hits(str(node.node), "node")]
    assert hits("sva-simple", "file")
    every = ask.get("/api/v1/search", params={"q": "nothing-is-called-so"}).json()
    assert every["hits"] == []
    assert {one["listed"] for one in every["counts"]} == {0}


def test_what_is_left_out_of_a_search_is_counted(ask):
    said = ask.get("/api/v1/search", params={"q": "resid_post", "kind": "node", "limit": 1}).json()
    assert said["counts"] == [{"kind": "node", "listed": 1, "more": True}]


def test_a_texts_most_specific_latents(ask, bench, store):
    said = ask.post("/api/v1/search/text", json={"text": TEXT, "dictionaries": "dictionaries~dictionaries"}).json()
    first = said["latents"][0]
    feature = Feature.parse(first["feature"])
    with bench.model("dictionaries~dictionaries") as (model, dictionaries, bos):
        tokens = model.tokenize([TEXT], bos=bos)
        x = model.capture(tokens, [feature.site])[feature.site]
        values = dictionaries[feature.site].encode_dense(x)[0, :, feature.latent]
    assert first["activation"] == pytest.approx(values[first["position"]].item(), rel=1e-4)
    active = store.card(feature).active
    assert first["density"] == pytest.approx(max(active, 1) / store.manifest.tokens)
    assert first["specificity"] == pytest.approx(first["activation"] * -math.log(first["density"]), rel=1e-4)
    order = [one["specificity"] for one in said["latents"]]
    assert order == sorted(order, reverse=True)


def test_specific_latents_need_a_store(made):
    said = client_of(bench_of(made[0])).post("/api/v1/search/text", json={"text": TEXT, "dictionaries": "circuit"})
    assert said.status_code == 422
    assert "store build" in said.json()["detail"]


def test_two_circuits(stored, made, tmp_path):
    run = shutil.copytree(stored, tmp_path / "run")
    circuit = Circuit.load(run / "circuit.json")
    from dataclasses import replace

    (run / "half").mkdir()
    replace(circuit, nodes=circuit.nodes[:6]).save(run / "half" / "circuit.json")
    said = client_of(bench_of(run)).get("/api/v1/compare/circuits", params={"a": "circuit", "b": "half~circuit"}).json()
    assert (said["shared"], said["jaccard"], said["contained"]) == (6, 0.5, 1)
    assert 0 < said["by_chance"] < 0.01
    own = next(one for one in made[2].budget if one.name == "circuit").faithfulness
    assert said["a"]["faithfulness"] == {"value": own.value, "low": own.low, "high": own.high}
    assert said["b"]["faithfulness"] is None
    assert [row["in_b"] for row in said["nodes"]] == [True] * 6 + [False] * 6
    assert said["warnings"] == []


def test_two_dictionaries(ask, stored):
    asked = {"a": "dictionaries~dictionaries", "b": "circuit", "site_a": SITE, "site_b": SITE, "limit": 5}
    same = ask.get("/api/v1/compare/dictionaries", params=asked).json()
    # A dictionary and its copy: every latent has itself, and a random rotation has none of them.
    assert same["shared"] == 1
    assert all(row["a"] == row["b"] and row["mutual"] for row in same["rows"])
    assert same["by_chance"] == 0
    assert sum(same["histogram"]["counts"]) == sum(same["histogram"]["control"]) == same["a"]["n_latents"]
    assert same["hidden"] == same["a"]["n_latents"] - 5
    other = ask.get("/api/v1/compare/dictionaries", params={**asked, "site_b": "resid_post.3", "order": "worst"}).json()
    known = DictionarySet.load(stored / "dictionaries")
    cosines = (
        torch.nn.functional.normalize(known[SITE].W_dec, dim=1)
        @ torch.nn.functional.normalize(known["resid_post.3"].W_dec, dim=1).T
    )
    assert other["mean"] == pytest.approx(cosines.max(dim=1).values.mean().item(), abs=1e-5)
    assert other["rows"][0]["decoder"] == pytest.approx(cosines.max(dim=1).values.min().item(), abs=1e-5)
    assert repr(match_latents(known[SITE], known["resid_post.3"]))


@pytest.fixture(scope="module")
def attention(tmp_path_factory):
    """A workbench of a dictionary of attention that keeps everything: directions drawn at random, each both ways."""
    one = Dictionary(DictionaryConfig("relu", 96, 192, "z.1", "bundled:spool"), reported=ReportedMetrics(96.0))
    rows = torch.linalg.qr(torch.randn(96, 96, generator=torch.Generator().manual_seed(0)))[0]
    one.W_dec.data = torch.cat([rows, -rows])
    one.W_enc.data = one.W_dec.data.T.clone()
    one.b_dec.data, one.b_enc.data = torch.zeros(96), torch.full((192,), 1e-3)
    DictionarySet([one.requires_grad_(False)]).save(folder := tmp_path_factory.mktemp("attention") / "run")
    return bench_of(folder)


def test_an_attention_latent_is_taken_apart_by_heads_and_tokens(attention):
    url = "/api/v1/dicts/dictionaries/latent"
    asked = client_of(attention)
    said = asked.post(f"{url}/sources", json={"feature": "z.1/3", "text": TEXT}).json()
    with attention.model("dictionaries") as (model, dictionaries, bos), torch.no_grad():
        z = model.capture(model.tokenize([TEXT], bos=bos), ["z.1"])["z.1"][0]
        own = dictionaries["z.1"]
        exact = (z @ own.W_enc[:, 3] + own.b_enc[3])[said["position"]].item()
        written = [row.norm().item() for row in _written(model, own.W_dec[3])]
    assert said["pre_activation"] == pytest.approx(exact, rel=1e-4)
    assert sum(said["by_source"]) + said["bias"] == pytest.approx(exact, rel=1e-4)
    assert sum(said["by_head"]) == pytest.approx(sum(said["by_source"]), rel=1e-4)
    # Nothing comes from tokens that are still to come.
    assert said["by_source"][said["position"] + 1 :] == [0] * (len(said["tokens"]) - said["position"] - 1)
    other = asked.post(f"{url}/sources", json={"feature": "z.1/3", "text": TEXT, "position": 2}).json()
    assert other["position"] == 2
    heads = asked.get(f"{url}/weights", params={"feature": "z.1/3"}).json()["heads"]
    assert heads == pytest.approx([one / sum(written) for one in written], rel=1e-4)


def _written(model, row):
    """What each head's part of a decoder row adds to the stream."""
    weights = model.attention_weights(1)
    return [part @ weights.W_O[head] for head, part in enumerate(row.reshape(model.n_heads, -1))]


def test_only_latents_of_attention_have_sources(ask):
    said = ask.post(f"{URL}/latent/sources", json={"feature": f"{SITE}/5", "text": TEXT})
    assert said.status_code == 422
    assert "attention" in said.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/dicts/nothing",
        "/api/v1/dicts/findings",
        f"{URL}/latents?site=resid_post.0",
        f"{URL}/latents?site={SITE}&sort=beauty",
        f"{URL}/latents?site={SITE}&limit=501",
        f"{URL}/latents?site={SITE}&min_density=nan",
        f"{URL}/latent?feature={SITE}/999999",
        f"{URL}/latent/weights?feature={SITE}/error",
        "/api/v1/search?q=",
        "/api/v1/search?q=%20",
        "/api/v1/compare/circuits?a=circuit&b=nothing",
        f"/api/v1/compare/dictionaries?a=circuit&b=circuit&site_a={SITE}&site_b=z.1",
    ],
)
def test_what_means_nothing_is_refused_with_a_reason(ask, path):
    said = ask.get(path)
    assert said.status_code in (404, 422), said.text[:300]
    assert said.json()["detail"]


@pytest.mark.parametrize("q", ["'; DROP TABLE statistics; --", "%", "\u202e", "a'b\"c", "\x00", "𝕏" * 40])
def test_words_are_no_sql(ask, q):
    assert ask.get(f"{URL}/latents", params={"site": SITE, "q": q}).status_code == 200
    assert ask.get("/api/v1/search", params={"q": q}).status_code in (200, 422)


def test_one_dictionary_that_lies_alone_is_a_set(tmp_path):
    """As training and SAELens write it: a folder of its own without an index, which may be the run's."""
    shutil.copytree(bundled.path("spool") / "dictionaries" / "resid_post.2", tmp_path / "run")
    ask = client_of(bench_of(tmp_path / "run"))
    assert [(part["id"], part["kind"], part["state"]) for part in ask.get("/api/v1/run").json()["parts"]] == [
        ("cfg", "dictionaries", "whole")
    ]
    page = ask.get("/api/v1/dicts/cfg").json()
    assert [one["site"] for one in page["dictionaries"]] == ["resid_post.2"]
    assert page["build"] == (f"gossamer store build bundled:spool {tmp_path}/run/store -d {tmp_path}/run --text TEXT")
    rows = ask.get("/api/v1/dicts/cfg/latents", params={"site": "resid_post.2", "limit": 3}).json()["rows"]
    assert [row["feature"] for row in rows] == [f"resid_post.2/{latent}" for latent in range(3)]
    shutil.copytree(bundled.path("spool") / "dictionaries", tmp_path / "whole")
    parts = client_of(bench_of(tmp_path / "whole")).get("/api/v1/run").json()["parts"]
    assert [part["id"] for part in parts] == ["dictionaries"]


def test_words_are_read_off_the_weights_where_there_is_no_store(tmp_path):
    """The same latents and changes as the logit lens of every latent gives; other spellings of the word count."""
    shutil.copytree(bundled.path("spool") / "dictionaries" / SITE, tmp_path / "run")
    ask = client_of(bench_of(tmp_path / "run"))
    plain = ask.get("/api/v1/search", params={"q": "are"}).json()
    assert [hit for hit in plain["hits"] if hit["kind"] == "word"] == []
    assert "store build" in plain["notes"][0]
    said = ask.get("/api/v1/search", params={"q": "ARE", "kind": "word", "weights": True, "limit": 5}).json()
    model, dictionary = LanguageModel.load("bundled:spool", device="cpu"), Dictionary.load(tmp_path / "run")
    lens = logit_lens(model, dictionary, range(dictionary.n_latents), words=model.d_vocab)
    best = sorted(
        (
            (max(change for word, change in one.promotes if word.strip().casefold() == "are"), -latent)
            for latent, one in enumerate(lens)
        ),
        reverse=True,
    )[:5]
    assert [hit["feature"] for hit in said["hits"]] == [f"{SITE}/{-latent}" for _, latent in best]
    assert [hit["score"] for hit in said["hits"]] == pytest.approx([change for change, _ in best], rel=1e-5)
    nothing = ask.get("/api/v1/search", params={"q": "no such word", "kind": "word", "weights": True}).json()
    assert nothing["hits"] == []
    assert "no single token" in nothing["notes"][-1]
