import json
from dataclasses import replace

import pytest
import torch
from word_model import tiny_gpt2_model

from gossamer.activations import DocumentRows, RowConfig
from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model import LanguageModel, Site
from gossamer.relations import (
    Keep,
    ModelLatents,
    RelationsData,
    RelationStudy,
    SitePair,
    load_relation,
    read_graphml,
    read_node_link,
    read_parquet,
    relate,
    sources_of,
)
from gossamer.relations.gate_files import read_gate_checks
from gossamer.report.text import visible
from gossamer.store import FeatureStore


def dictionaries(names, folder, n_latents=24, seed=0):
    """A set of random dictionaries of the tiny model, saved."""
    made = []
    for place, name in enumerate(names):
        torch.manual_seed(seed + place)
        site = Site.parse(name)
        config = DictionaryConfig(architecture="relu", d_in=32, n_latents=n_latents, site=site, model_name="tiny")
        one = Dictionary(config)
        with torch.no_grad():
            for parameter_name, parameter in one.named_parameters():
                parameter.copy_(torch.randn_like(parameter) * (0.1 if parameter_name == "W_enc" else 1.0))
            one.b_enc.sub_(1.0)
        made.append(one)
    return DictionarySet(made).save(folder)


@pytest.fixture
def inputs(tiny, tmp_path):
    """A model, dictionaries at all of its layers, and text."""
    folder = dictionaries([f"resid_post.{layer}" for layer in range(3)], tmp_path / "dictionaries")
    words = ["Mary", "John", "went", "to", "the", "store", "dog", "likes", "milk", "she", "was", "happy"]
    picks = torch.randint(len(words), (30, 12)).tolist()
    text = tmp_path / "text.jsonl"
    text.write_text("".join(json.dumps({"text": " ".join(words[one] for one in row)}) + "\n" for row in picks))
    return tiny, "--text", text, "-d", folder, "--allow-other-model"


def test_relations_then_lifecycle(gossamer, inputs, tmp_path):
    out = tmp_path / "out"
    ran = gossamer("relate", *inputs, "--out", out, "--threshold", "0.3", "--measure", "jaccard", "--gates", "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    relations = [load_relation(path) for path in sorted(out.glob("*.relation.safetensors"))]
    assert [str(one.pair) for one in relations] == ["resid_post.0>resid_post.1", "resid_post.1>resid_post.2"]
    edges = sum(int((one.values("jaccard") >= 0.3).sum()) for one in relations)
    assert said["edges"] == edges > 0
    for read, name in ((read_node_link, "json"), (read_graphml, "graphml"), (read_parquet, "parquet")):
        assert len(read(out / f"graph.{name}").heads) == edges
    assert (out / "gates.md").read_text().count("##") == 2
    for measure in ("pearson", "decoder_cosine"):
        ran = gossamer("lifecycle", out, "--measure", measure, "--threshold", "0.4", "--json")
        assert ran.code == 0, ran.err
        counts = json.loads(ran.out)
        for one in relations:
            passed = (one.forward[measure].value >= 0.4) & (one.upstream.active >= 10)
            assert counts[str(one.pair)]["upstream"]["passed on"] == passed.sum()
    assert {"sankey.png", "sweep.png", "lifecycle.md"} <= {path.name for path in out.iterdir()}
    # The page, from what is there already, and with the model.
    for more, prompts in (((), 0), (("--model", *inputs[:1], *inputs[3:], "-p", "Mary went to the store"), 1)):
        page = tmp_path / f"{prompts}.html"
        ran = gossamer("relations", out, "--out", page, *more, "--json")
        assert ran.code == 0, ran.err
        data = RelationsData.load(page.with_suffix(".json"))
        assert len(data.prompts) == prompts
        assert [pair.kept for pair in data.pairs] == [len(one.kept) for one in relations]
        assert data.communities[0].edges == edges
        assert (sum(one.found for one in data.gates), data.effects) == (said["gates"], None)
        assert "default-src 'none'" in page.read_text()
    assert len(data.graph.head) > 0
    assert all(facts.words for facts in data.latents["resid_post.1"].values())


def test_pages_that_cannot_be_meant_are_refused(gossamer, tmp_path):
    for more, said in (
        (("--prompt", "a"), "--model"),
        (("--out", "page.txt"), "ends in .html"),
        (("--communities", "walktrap"), "walktrap"),
        ((), "gossamer relate"),
    ):
        ran = gossamer("relations", tmp_path, *more)
        assert ran.code == 2
        assert said in ran.err.replace("\n", " ")


def test_with_a_store_gates_and_nodes_say_what_latents_are(gossamer, inputs, tmp_path):
    store, out = tmp_path / "store", tmp_path / "out"
    built = gossamer("store", "build", inputs[0], store, *inputs[1:])
    assert built.code == 0, built.err
    said = tmp_path / "said.jsonl"
    features = [f"resid_post.{layer}/{latent}" for layer in range(3) for latent in range(24)]
    said.write_text("".join(json.dumps({"feature": one, "text": f"<{one}> | it"}) + "\n" for one in features))
    assert "72 explanations kept" in gossamer("store", "explain", store, said).out
    asked = ("--threshold", "0.3", "--measure", "jaccard", "--gates", "--least", "3", "--communities", "components")
    ran = gossamer("relate", *inputs, "--out", out, *asked, "--store", store)
    assert ran.code == 0, ran.err
    nodes = json.loads((out / "graph.json").read_text())["nodes"]
    assert nodes
    assert all(one["explanation"] == f"<{one['source']}/{one['feature']}> | it" for one in nodes)
    heads = [line for line in (out / "gates.md").read_text().splitlines() if "truth table" in line]
    assert [head.rpartition("truth table")[2].strip(" |") for head in heads] == ["what they are"] * 2
    head, _, *lines = (out / "communities.md").read_text().split("\n\n")[1].splitlines()
    assert head.endswith("| words |")
    assert lines
    with FeatureStore(store) as opened:
        for line in lines:
            _, size, _, latents, words = (cell.strip() for cell in line.strip("|").split("|"))
            if int(size) <= 8:
                cards = [opened.card(f"resid_post.{one.replace('_', '/')}") for one in latents.split(", ")]
                assert any(words.startswith(visible(word)) for card in cards for word in card.words(8))
    busiest = "SELECT latent FROM statistics WHERE site = 'resid_post.1' ORDER BY active DESC LIMIT 1"
    (row,) = json.loads(gossamer("store", "query", store, "--sql", busiest, "--json").out)["rows"]
    feature = f"resid_post.1/{row['latent']}"
    card = gossamer("store", "query", store, "--feature", feature, "--relations", out)
    assert f"said to be: <{feature}> | it" in card.out
    assert "near by decoder cosine: resid_post." in card.out
    assert "near by pearson: resid_post." in card.out
    made = Dictionary.load(tmp_path / "dictionaries" / "resid_post.0")
    made.W_dec.data += 1
    made.save(tmp_path / "other")
    other = gossamer("relate", *inputs[:4], tmp_path / "other", "--allow-other-model", "--out", out, "--store", store)
    assert other.code == 2
    assert "of another model or dictionary (resid_post.0: " in other.err


def related(model, sets, text, pairs):
    """The same relations in Python; `sets`: models and folders by label."""
    texts = [json.loads(line)["text"] for line in text.read_text().splitlines()]
    sources = {}
    for label, (read, folder) in sets.items():
        sources |= sources_of(read, DictionarySet.load(folder), label)
    rows = DocumentRows.of(model, texts, RowConfig(context=64, bos=1.0))
    keep = Keep((*Keep().by, "pearson"))
    return relate(ModelLatents(sources, rows), [SitePair(*pair.split(">")) for pair in pairs], keep=keep)


def assert_same(out, expected):
    files = sorted(path.name for path in out.glob("*.relation.safetensors"))
    assert files == sorted(f"{pair.upstream}-{pair.downstream}.relation.safetensors" for pair in expected)
    for pair, relation in expected.items():
        found = load_relation(out / f"{pair.upstream}-{pair.downstream}.relation.safetensors")
        assert found.tokens == relation.tokens
        assert (found.upstream.active == relation.upstream.active).all()
        assert found.forward["jaccard"].value.tolist() == relation.forward["jaccard"].value.tolist()
        assert (found.kept.c == relation.kept.c).all()
        assert len(found.kept) > 0


def test_another_width_and_another_model_are_related_at_the_same_sites(gossamer, inputs, tokenizer, tmp_path):
    _, _, text, _, folder, _ = inputs
    wide = dictionaries(["resid_post.0", "resid_post.2"], tmp_path / "wide", n_latents=40, seed=9)
    tiny_gpt2_model(tokenizer, seed=5).save_pretrained(tmp_path / "second")
    tokenizer.save_pretrained(tmp_path / "second")
    model, second = (LanguageModel.load(tmp_path / name) for name in ("tiny", "second"))
    pairs = ["resid_post.0>resid_post.0@other", "resid_post.2>resid_post.2@other"]
    for other, read in ((), model), (("--other-model", tmp_path / "second"), second):
        out = tmp_path / f"out{len(other)}"
        ran = gossamer("relate", *inputs, "--other", wide, *other, "--out", out, "--threshold", "0.3")
        assert ran.code == 0, ran.err
        assert_same(out, related(model, {"": (model, folder), "other": (read, wide)}, text, pairs))
    ran = gossamer("lifecycle", tmp_path / "out0")
    assert ran.code == 2
    assert "choose some with --pair" in ran.err.replace("\n", " ")
    ran = gossamer("lifecycle", tmp_path / "out0", "--pair", pairs[1], "--json")
    assert ran.code == 0, ran.err
    assert list(json.loads(ran.out)) == [pairs[1]]
    assert gossamer("lifecycle", tmp_path / "out0", "--pair", "a>b").code == 2


def test_skipping_pairs_and_other_kinds_of_sites(gossamer, inputs, tmp_path):
    tiny, _, text, _, folder, _ = inputs
    kinds = dictionaries(["z.1", "mlp_out.1"], tmp_path / "kinds")
    model = LanguageModel.load(tiny)
    pairs = ["resid_post.0>resid_post.2", "z.1>mlp_out.1", "z.1>resid_post.1"]
    asked = [word for pair in pairs for word in ("--pair", pair)]
    ran = gossamer("relate", *inputs, "-d", kinds, *asked, "--out", tmp_path / "out", "--threshold", "0.3")
    assert ran.code == 0, ran.err
    assert_same(tmp_path / "out", related(model, {"": (model, [folder, kinds])}, text, pairs))


def test_gates_are_confirmed_by_ablation_where_that_is_asked_for(gossamer, inputs, tmp_path):
    more = ("--gates", "--gate-inputs", 3, "--confirm-gates", "--threshold", "0.3")
    ran = gossamer("relate", *inputs, *more, "--out", tmp_path / "out", "--json")
    assert ran.code == 0, ran.err
    text = (tmp_path / "out" / "gates.md").read_text()
    assert text.count("Ablated: ") == 2
    assert text.count("| confirmed |") == 2
    assert gossamer("relations", tmp_path / "out").code == 0
    assert list(map(str, read_gate_checks(tmp_path / "out" / "gate_checks.json"))) == [
        "resid_post.0>resid_post.1", "resid_post.1>resid_post.2"
    ]  # fmt: skip
    # What is active together upstream is counted for AND NOT, and is no relation that was asked for.
    assert len(list((tmp_path / "out").glob("*.relation.safetensors"))) == 2
    ran = gossamer("relate", *inputs, *more, "--pair", "resid_post.1>resid_post.0", "--out", tmp_path / "back")
    assert ran.code == 2
    assert "a later site" in ran.err


def test_sweeps_have_the_likeness_of_explanations_where_a_store_has_some(gossamer, inputs, tmp_path, monkeypatch):
    from gossamer.report import relations as report

    assert gossamer("relate", *inputs, "--out", tmp_path / "out", "--threshold", "0.3").code == 0
    assert gossamer("store", "build", inputs[0], tmp_path / "store", *inputs[1:]).code == 0
    said = ("lifecycle", tmp_path / "out", "--explained", tmp_path / "store")
    ran = gossamer(*said)
    assert ran.code == 2
    assert "expected, found none; add some" in ran.err.replace("\n", " ")
    texts = {Feature(Site("resid_post", layer), latent): f"text {latent}" for layer in range(3) for latent in (1, 2)}
    with FeatureStore(str(tmp_path / "store")) as store:
        store.explain(texts)
    swept = []
    real = report.threshold_sweep
    monkeypatch.setattr(report, "threshold_sweep", lambda *args: swept.append((args[1], real(*args))) or swept[-1][1])
    assert gossamer(*said).code == 0
    alike = [one for measure, one in swept if measure == "explanation_cosine"]
    assert len(alike) == 2
    # Every text is said of a latent on both sides.
    assert all(one.forward[-1] == one.judged[0] for one in alike)


def test_what_else_relate_measures_and_lifecycle_reads(gossamer, inputs, tmp_path):
    out = tmp_path / "out"
    pairs = ("--pair", "resid_post.0>resid_post.1", "--pair", "resid_post.0>resid_post.2")
    pairs += ("--pair", "resid_post.1>resid_post.2")
    asked = ("--communities", "louvain", "--errors", "--threshold", "0.2", "--json")
    ran = gossamer("relate", *inputs, *pairs, "--out", out, *asked)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    nodes = json.loads((out / "graph.json").read_text())["nodes"]
    assert len({one["community"] for one in nodes}) == said["communities"] > 1
    assert f"{said['communities']} communities" in (out / "communities.md").read_text()
    # Each site goes on to the next one, whatever else it was related to.
    ran = gossamer("lifecycle", out, "--threshold", "0.3", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert list(told) == ["resid_post.0>resid_post.1", "resid_post.1>resid_post.2"]
    assert all("lost in the error" in one["upstream"] for one in told.values())


def test_relate_ablates(gossamer, inputs, tmp_path):
    out = tmp_path / "out"
    asked = ("--ablate", "--rows", "8", "--no-null", "--threshold", "0.2", "--json")
    ran = gossamer("relate", *inputs, "--pair", "resid_post.0>resid_post.1", "--out", out, *asked)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["spearman"].keys() >= {"jaccard", "pearson", "decoder_cosine"}
    assert (out / "effects.md").read_text().count("##") == 2
    assert gossamer("relations", out).code == 0
    (ablated,) = RelationsData.load(out / "page.json").effects
    assert {one.measure: one.spearman for one in ablated.agreement} == json.loads(ran.out)["spearman"]
    (kept,) = (load_relation(path) for path in out.glob("*.relation.safetensors"))
    with pytest.raises(UsageError, match="ablate again"):
        ablated.check(replace(kept, kept=kept.kept[kept.kept.i != ablated.i[-1]]))


def test_a_study_in_one_command(gossamer, inputs, tmp_path):
    model, _, text, *rest = inputs
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[:24]))
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(line for line in lines[24:] if line not in lines[:24]))
    out = tmp_path / "study"
    asked = (
        "study-relations",
        model,
        "--text",
        text,
        "--held-out",
        held_out,
        *rest,
        "--out",
        out,
        "--only",
        "lifecycle",
    )
    asked += ("--least", "3", "--thresholds", "0.3,0.6", "--threshold", "0.3")
    ran = gossamer(*asked)
    assert ran.code == 0, ran.err
    assert "Latents without a partner in the next dictionary" in ran.out
    study = RelationStudy.load(out)
    assert list(study.parts) == ["relations", "lifecycle"]
    written = {"study.json", "tables.md", "sankey.png", "sweep.png", "page.html"}
    assert written <= {path.name for path in out.iterdir()}
    page = RelationsData.load(out / "page.json")
    assert len(page.pairs) == len(study.found.pairs)
    assert (page.gates, page.effects, page.communities) == (None, None, ())
    ran = gossamer(*asked, "--top", "3")
    assert ran.code == 2
    assert "another study" in ran.err.replace("\n", " ")


def test_requests_that_cannot_be_meant_are_refused(gossamer, inputs, tmp_path):
    for more, said in (
        (("--other-model", "x"), "name them with --other"),
        (("--confirm-gates",), "goes with --gates"),
        (("--gates", "--gate-inputs", "5"), "2 to 4 inputs"),
        (("--pair", "resid_post.0>z.9"), "--pair: two of"),
        (("--no-null",), "--threshold"),
        (("--relative", "1.5"), "below 1"),
        (("--block-rows", "0"), "blocks of at least 1 row expected, found 0"),
        (("--workers", "2"), "--workers: --engine ray expected with it"),
        (("--communities", "cliques"), "--communities: expected one of leiden"),
    ):
        ran = gossamer("relate", *inputs, "--out", tmp_path / "out", *more)
        assert ran.code == 2
        assert said in ran.err.replace("\n", " ")
    ran = gossamer("lifecycle", tmp_path)
    assert ran.code == 2
    assert "gossamer relate" in ran.err
