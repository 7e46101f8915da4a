import json

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.model import Site
from gossamer.relations import load_relation, read_graphml, read_node_link, read_parquet


@pytest.fixture
def inputs(tiny, tmp_path):
    """A model, dictionaries at all of its layers, and text."""
    made = []
    for layer in range(3):
        torch.manual_seed(layer)
        site = Site("resid_post", layer)
        one = Dictionary(DictionaryConfig(architecture="relu", d_in=32, n_latents=24, site=site, model_name="tiny"))
        with torch.no_grad():
            for name, parameter in one.named_parameters():
                parameter.copy_(torch.randn_like(parameter) * (0.1 if name == "W_enc" else 1.0))
            one.b_enc.sub_(1.0)
        made.append(one)
    folder = DictionarySet(made).save(tmp_path / "dictionaries")
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


def test_with_a_store_gates_and_nodes_say_what_latents_are(gossamer, inputs, tmp_path):
    store, out = tmp_path / "store", tmp_path / "out"
    built = gossamer("store", "build", inputs[0], store, *inputs[1:])
    assert built.code == 0, built.err
    said = tmp_path / "said.jsonl"
    features = [f"resid_post.{layer}/{latent}" for layer in range(3) for latent in range(24)]
    said.write_text("".join(json.dumps({"feature": one, "text": f"<{one}> | it"}) + "\n" for one in features))
    assert "72 explanations kept" in gossamer("store", "explain", store, said).out
    asked = ("--threshold", "0.3", "--measure", "jaccard", "--gates", "--least", "3")
    ran = gossamer("relate", *inputs, "--out", out, *asked, "--store", store)
    assert ran.code == 0, ran.err
    nodes = json.loads((out / "graph.json").read_text())["nodes"]
    assert nodes
    assert all(one["explanation"] == f"<{one['source']}/{one['feature']}> | it" for one in nodes)
    heads = [line for line in (out / "gates.md").read_text().splitlines() if "truth table" in line]
    assert [head.rpartition("truth table")[2].strip(" |") for head in heads] == ["what they are"] * 2
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


def test_requests_that_cannot_be_meant_are_refused(gossamer, inputs, tmp_path):
    for more, said in (
        (("--pair", "resid_post.0>z.9"), "--pair: two of"),
        (("--no-null",), "--threshold"),
        (("--relative", "1.5"), "below 1"),
    ):
        ran = gossamer("relate", *inputs, "--out", tmp_path / "out", *more)
        assert ran.code == 2
        assert said in ran.err.replace("\n", " ")
    ran = gossamer("lifecycle", tmp_path)
    assert ran.code == 2
    assert "gossamer relate" in ran.err
