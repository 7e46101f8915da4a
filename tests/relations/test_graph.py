import json
import xml.sax.saxutils

import igraph
import leidenalg
import networkx
import numpy as np
import pytest
from planted_relations import given, planted

from gossamer.errors import GossamerError, UsageError
from gossamer.relations import (
    CommunitySettings,
    RelationGraph,
    adjacent,
    adjusted_rand,
    community_words,
    find_communities,
    read_graphml,
    read_node_link,
    read_parquet,
    relate,
    rewired,
    write_graphml,
    write_node_link,
    write_parquet,
)

FORMATS = {
    "json": (write_node_link, read_node_link),
    "graphml": (write_graphml, read_graphml),
    "parquet": (write_parquet, read_parquet),
}


@pytest.fixture
def graph():
    up, down = planted()
    names = ("resid_post.0", "resid_post.1", "resid_post.2")
    stream = given(dict(zip(names, (up, down, down[..., ::-1].copy()), strict=True)))
    return RelationGraph.of(list(relate(stream, adjacent(names)).values()), "jaccard", 0.3)


def edges(graph):
    ends = zip(graph.heads.tolist(), graph.tails.tolist(), graph.similarity.tolist(), strict=True)
    return {(graph.ids[head], graph.ids[tail]): value for head, tail, value in ends}


def test_edges_and_ids(graph):
    found = edges(graph)
    assert found[("0_0", "1_0")] == 1
    assert {("0_4", "1_2"), ("0_5", "1_2"), ("0_6", "1_4"), ("0_6", "1_5")} <= set(found)
    assert all(found[(f"1_{latent}", f"2_{22 - latent}")] == 1 for latent in range(23))
    assert len(set(graph.ids)) == len(graph)
    assert graph.similarity.min() >= 0.3


def test_ids_name_the_dictionary_where_a_layer_has_two():
    up, down = planted(rows=60)
    stream = given({"resid_post.1": up, "mlp_out.1": down})
    found = RelationGraph.of(list(relate(stream, adjacent(stream.widths), null=False).values()), "jaccard", 0.9)
    assert edges(found).keys() == {("resid_post.1_0", "mlp_out.1_0")}


def test_questions_are_those_of_a_list_of_edges(graph):
    found = edges(graph)
    for threshold in (0.0, 0.6):
        node = graph.node("1_2")
        expected = {other for pair in found for other in pair if "1_2" in pair and found[pair] >= threshold} - {"1_2"}
        own = graph.neighbours(node, threshold)
        assert {graph.ids[other] for other, _ in own} == expected
        assert [value for _, value in own] == sorted((value for _, value in own), reverse=True)
        assert edges(graph.above(threshold)) == {pair: value for pair, value in found.items() if value >= threshold}
    assert {graph.ids[node] for node in graph.layer("resid_post.1")} == {f"1_{latent}" for latent in range(23)}
    for name in graph.names:
        own = set(graph.layer(name).tolist())
        for threshold in (0.0, 0.6):
            for numbers, ends in zip(graph.layer_edges(name, threshold), (graph.heads, graph.tails), strict=True):
                values = graph.similarity[numbers].tolist()
                assert values == sorted(values, reverse=True)
                expected = [at for at, end in enumerate(ends) if end in own and graph.similarity[at] >= threshold]
                assert sorted(numbers.tolist()) == expected
    assert not len(graph.lit_by({}))
    lit = graph.lit_by({"resid_post.0": [0, 4, 99, 4], "resid_post.1": [0, 2, 3]})
    assert set(lit.ids) == {"0_0", "0_4", "1_0", "1_2", "1_3"}
    assert edges(lit) == {pair: value for pair, value in found.items() if set(pair) <= set(lit.ids)}
    for ask, said in (
        (lambda: graph.node("9_9"), "'9_9'"),
        (lambda: graph.layer("z.0"), "'z.0'"),
        (lambda: graph.layer_edges("z.0"), "'z.0'"),
    ):
        with pytest.raises(UsageError, match=said):
            ask()


@pytest.mark.parametrize("kind", FORMATS)
def test_files_come_back_as_the_same_graph(graph, kind, tmp_path):
    write, read = FORMATS[kind]
    path = write(graph, tmp_path / f"graph.{kind}")
    found = read(path)
    assert edges(found) == edges(graph)
    assert (found.names, found.measure, found.threshold) == (graph.names, graph.measure, graph.threshold)


def test_networkx_reads_what_is_written(graph, tmp_path):
    communities = find_communities(graph).labels
    path = write_node_link(
        graph, tmp_path / "graph.json", prompt="p", communities=communities, explanations={"0_0": "a dog"}
    )
    body = json.loads(path.read_text())
    for made in (
        networkx.node_link_graph(body, edges="links"),
        networkx.read_graphml(write_graphml(graph, tmp_path / "g.graphml")),
    ):
        assert {(one, other): value for one, other, value in made.edges(data="similarity")} == edges(graph)
        assert made.is_directed()
    node = next(one for one in body["nodes"] if one["id"] == "0_0")
    assert node == {
        "id": "0_0",
        "layer": 0,
        "feature": 0,
        "source": "resid_post.0",
        "community": communities[0],
        "explanation": "a dog",
    }
    assert body["graph"]["prompt"] == "p"


def test_a_published_file_without_our_names_is_read(tmp_path):
    nodes = [{"id": "3_8412", "layer": 3, "feature": 8412}, {"id": "4_8067", "layer": 4, "feature": 8067}]
    links = [{"source": "3_8412", "target": "4_8067", "similarity": 0.52}]
    facts = {"description": "", "prompt": "", "clamping_threshold": 0.1}
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"directed": True, "multigraph": False, "graph": facts, "nodes": nodes, "links": links}))
    assert edges(read_node_link(path)) == {("3_8412", "4_8067"): 0.52}


def test_damaged_files_are_named(tmp_path):
    broken = {
        "json": json.dumps({"graph": {}, "nodes": [], "links": [{"source": "1_1", "target": "1_2", "similarity": 1}]}),
        "graphml": f"<!DOCTYPE a><graphml>{xml.sax.saxutils.escape('x')}</graphml>",
        "parquet": "no parquet",
    }
    for kind, text in broken.items():
        path = tmp_path / f"broken.{kind}"
        path.write_text(text)
        with pytest.raises(GossamerError, match=rf"broken\.{kind}: expected .* found damage"):
            FORMATS[kind][1](path)


def blocks(within=8, count=4):
    """Cliques in a ring, joined by weak edges."""
    heads, tails, values = [], [], []
    for one in range(count):
        for i in range(within):
            for j in range(i + 1, within):
                heads, tails, values = [*heads, one * within + i], [*tails, one * within + j], [*values, 0.9]
        heads, tails = [*heads, one * within], [*tails, (one + 1) % count * within + 1]
        values = [*values, 0.1]
    nodes = np.arange(within * count)
    ends = np.array(heads), np.array(tails)
    return RelationGraph(("a.0",), np.zeros_like(nodes), nodes, *ends, np.array(values), "jaccard", 0.1)


@pytest.mark.parametrize("method", ["leiden", "cpm", "louvain"])
def test_planted_communities_are_found_by_every_method_and_seed(method):
    found = find_communities(blocks(), CommunitySettings(method))
    assert adjusted_rand(found.labels, np.arange(32) // 8) == 1
    assert found.stability == 1
    assert found.sizes.tolist() == [8] * 4
    made = networkx.Graph()
    ring = blocks()
    made.add_weighted_edges_from(zip(ring.heads.tolist(), ring.tails.tolist(), ring.similarity.tolist(), strict=True))
    expected = networkx.community.modularity(made, [set(found.members(one).tolist()) for one in range(4)])
    assert found.quality == pytest.approx(expected)


def test_passes_end_where_leidenalg_ends_or_where_they_gain_next_to_nothing():
    draw = np.random.default_rng(0)
    heads, tails = draw.integers(300, size=(2, 3000))
    made = RelationGraph(
        ("resid_post.0", "resid_post.1"),
        *(np.repeat([0, 1], 300), np.tile(np.arange(300), 2), heads, tails + 300, draw.random(3000), "pearson", 0.1),
    )
    whole = igraph.Graph(n=600, edges=list(zip(heads.tolist(), (tails + 300).tolist(), strict=True)), directed=True)
    how = {"weights": made.similarity.tolist(), "seed": 42, "n_iterations": -1}
    expected = leidenalg.find_partition(whole, leidenalg.ModularityVertexPartition, **how)
    exact, early = (
        find_communities(made, CommunitySettings(seeds=(42,), tolerance=tolerance)) for tolerance in (0.0, 0.001)
    )
    assert adjusted_rand(exact.labels, np.array(expected.membership)) == 1
    assert (exact.labels != early.labels).any()  # this graph has no communities to speak of
    assert early.quality > 0.99 * exact.quality


def test_components_are_chains_of_passed_features(graph):
    strict = graph.above(0.999)
    found = find_communities(strict, CommunitySettings("components"))
    made = networkx.Graph(edges(strict).keys())
    assert found.sizes.tolist() == sorted(map(len, networkx.connected_components(made)), reverse=True)


def test_agreement_is_the_share_of_pairs_beyond_chance():
    """By its definition over all pairs of nodes; and the value of Hubert and Arabie's kind of example."""
    draw = np.random.default_rng(0)
    upper = np.triu_indices(50, 1)
    for _ in range(5):
        one, other = draw.integers(4, size=(2, 50))
        same = [(labels[:, None] == labels)[upper] for labels in (one, other)]
        both, chance = (same[0] & same[1]).sum(), same[0].sum() * same[1].sum() / len(same[0])
        expected = (both - chance) / ((same[0].sum() + same[1].sum()) / 2 - chance)
        assert adjusted_rand(one, other) == pytest.approx(expected)
    assert adjusted_rand(np.array([0, 0, 1, 2]), np.array([0, 0, 1, 1])) == pytest.approx(4 / 7)
    assert adjusted_rand(np.zeros(5, int), np.zeros(5, int)) == 1


def test_labels_are_the_words_that_most_members_share():
    found = find_communities(blocks(), CommunitySettings("leiden"))
    words = {node: (["dog", "cat"] if node < 3 else ["cat"]) for node in range(8)} | {9: ["sea"]}
    labels = community_words(found, words, count=2)
    assert labels[int(found.labels[0])] == ("cat", "dog")
    assert labels[int(found.labels[9])] == ("sea",)
    bytes_alone = community_words(found, {0: ("\ufffd", " \ufffd", "a\ufffd"), 1: ("\ufffd",)})
    assert bytes_alone[int(found.labels[0])] == ("a\ufffd",)


def test_requests_that_cannot_be_meant_are_refused(graph):
    with pytest.raises(UsageError, match="with edges expected"):
        find_communities(graph.above(2.0))
    with pytest.raises(UsageError, match="'walktrap'"):
        CommunitySettings("walktrap")
    with pytest.raises(UsageError, match="tolerance"):
        CommunitySettings(tolerance=1.0)
    with pytest.raises(UsageError, match="above 0"):
        RelationGraph.of([], "jaccard", 0.1)


def test_a_rewired_graph_keeps_the_degrees_and_loses_the_communities(graph):
    made = rewired(graph, seed=1)
    for end in ("heads", "tails"):
        before, after = (np.bincount(getattr(one, end), minlength=len(graph)) for one in (graph, made))
        assert (before == after).all()
    assert (made.sources[made.tails] == graph.sources[graph.tails]).all()
    assert (made.tails != graph.tails).any()
    assert find_communities(made).quality < find_communities(graph).quality
    assert (rewired(graph, seed=1).tails == made.tails).all()
