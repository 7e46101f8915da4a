import json

import pytest
import torch

from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.model import Site
from gossamer.relations import RelationStudy, load_relation, read_graphml, read_node_link, read_parquet


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


def test_what_else_relate_measures_and_lifecycle_reads(gossamer, inputs, tmp_path):
    out = tmp_path / "out"
    pairs = ("--pair", "resid_post.0>resid_post.1", "--pair", "resid_post.0>resid_post.2")
    pairs += ("--pair", "resid_post.1>resid_post.2")
    asked = ("--communities", "louvain", "--errors", "--ablate", "--gates", "--threshold", "0.2", "--json")
    ran = gossamer("relate", *inputs, *pairs, "--out", out, *asked)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    nodes = json.loads((out / "graph.json").read_text())["nodes"]
    assert len({one["community"] for one in nodes}) == said["communities"] > 1
    assert f"{said['communities']} communities" in (out / "communities.md").read_text()
    assert said["spearman"].keys() >= {"jaccard", "pearson", "decoder_cosine"}
    assert (out / "effects.md").read_text().count("##") == 4
    # Each site goes on to the next one, whatever else it was related to.
    ran = gossamer("lifecycle", out, "--threshold", "0.3", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert list(told) == ["resid_post.0>resid_post.1", "resid_post.1>resid_post.2"]
    assert all("lost in the error" in one["upstream"] for one in told.values())


def test_a_study_in_one_command(gossamer, inputs, tmp_path):
    model, _, text, *rest = inputs
    lines = text.read_text().splitlines(keepends=True)
    text.write_text("".join(lines[:24]))
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text("".join(line for line in lines[24:] if line not in lines[:24]))
    out = tmp_path / "study"
    asked = ("study-relations", model, "--text", text, "--held-out", held_out, *rest, "--out", out)
    asked += ("--least", "3", "--thresholds", "0.3,0.6", "--threshold", "0.3", "--causal-rows", "3", "--per-bin", "1")
    ran = gossamer(*asked, "--only", "lifecycle")
    assert ran.code == 0, ran.err
    assert "Latents without a partner in the next dictionary" in ran.out
    assert list(RelationStudy.load(out).parts) == ["relations", "lifecycle"]
    ran = gossamer(*asked, "--json")
    assert ran.code == 0, ran.err
    found = RelationStudy.load(out).found
    assert json.loads(ran.out)["parts"]["lifecycle"][0]["ahead"] == found.lifecycle[0].ahead
    names = {path.name for path in out.iterdir()}
    assert {
        "study.json",
        "tables.md",
        "graph.json",
        "sankey.png",
        "sweep.png",
        "communities.png",
        "effects.png",
    } <= names
    tables = (out / "tables.md").read_text()
    for title in ("Gates by full truth tables", "Communities", "Which measure ranks pairs"):
        assert f"## {title}" in tables
    ran = gossamer(*asked, "--top", "3")
    assert ran.code == 2
    assert "another study" in ran.err.replace("\n", " ")


def test_requests_that_cannot_be_meant_are_refused(gossamer, inputs, tmp_path):
    for more, said in (
        (("--pair", "resid_post.0>z.9"), "--pair: two of"),
        (("--no-null",), "--threshold"),
        (("--relative", "1.5"), "below 1"),
        (("--communities", "cliques"), "--communities: expected one of leiden"),
    ):
        ran = gossamer("relate", *inputs, "--out", tmp_path / "out", *more)
        assert ran.code == 2
        assert said in ran.err.replace("\n", " ")
    ran = gossamer("lifecycle", tmp_path)
    assert ran.code == 2
    assert "gossamer relate" in ran.err
