"""The data of a page: what a prompt lights up and what is between it, beside a naive search; and what is left out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from planted_relations import given, planted
from scipy import sparse

from gossamer.errors import GossamerError, UsageError
from gossamer.features import Feature
from gossamer.features.feature_card import FeatureCard, FeatureExample, Histogram
from gossamer.relations import (
    AblationCheck,
    LatentFacts,
    LifecycleSettings,
    PromptActivations,
    RelationGraph,
    RelationLimits,
    RelationsData,
    SitePair,
    adjacent,
    find_communities,
    find_gates,
    from_cards,
    from_words,
    lifecycle,
    lifecycles_of,
    pearson_interval,
    read_gates,
    relate,
    relations_data,
    threshold_sweep,
    wilson,
    with_explanations,
    write_gates,
)
from gossamer.relations.causal import RankAgreement
from gossamer.relations.gate_ablation import AblatedPattern, GateCheck
from gossamer.relations.gate_files import read_gate_checks, write_gate_checks
from gossamer.relations.relations_data import FORMAT
from gossamer.relations.summary import chains
from gossamer.results.column import Column
from gossamer.results.document import digest

NAMES = ("resid_post.0", "resid_post.1", "resid_post.2")
ROW = 7


@pytest.fixture(scope="module")
def study():
    up, down = planted(rows=200)
    dense = dict(zip(NAMES, (up, down, down[..., ::-1].copy()), strict=True))
    stream = given(dense)
    relations = relate(stream, [*adjacent(NAMES), SitePair(NAMES[0], NAMES[2])])
    return dense, stream, relations


@pytest.fixture(scope="module")
def prompt(study):
    dense = study[0]
    latents = {name: sparse.csr_matrix(one[ROW]) for name, one in dense.items()}
    return PromptActivations("a prompt", tuple("abcdefghij"), (False, *[True] * 9), latents)


def lit_naively(dense, limits):
    """(place, latent, token) of all that is lit."""
    found = set()
    for place, name in enumerate(NAMES):
        tops = dense[name].reshape(-1, dense[name].shape[-1]).max(axis=0)
        for token, row in enumerate(dense[name][ROW]):
            order = sorted(np.flatnonzero((row > 0) & (row >= limits.relative * tops)), key=lambda one: -row[one])
            found |= {(place, int(latent), token) for latent in order[: limits.latents]}
    return found


@pytest.mark.parametrize("limits", [RelationLimits(), RelationLimits(relative=0.5, latents=2)])
def test_the_graph_of_a_prompt_is_that_of_a_naive_search(study, prompt, limits):
    dense, _, relations = study
    data = relations_data(list(relations.values()), model="m", prompts=[prompt], limits=limits)
    graph, facts = data.graph, data.prompts[0]
    nodes = list(zip(graph.dictionary.tolist(), graph.latent.tolist(), strict=True))
    expected = lit_naively(dense, limits)
    entries = list(zip(facts.node.tolist(), facts.position.tolist(), strict=True))
    assert {(*nodes[node], token) for node, token in entries} == expected
    assert len(entries) == len(expected)
    for (node, token), activation in zip(entries, facts.activation.tolist(), strict=True):
        place, latent = nodes[node]
        assert activation == pytest.approx(dense[NAMES[place]][ROW, token, latent])
    active = np.array([[(row > 0).sum() for row in dense[name][ROW]] for name in NAMES])
    assert facts.active.tolist() == active.reshape(-1).tolist()
    # Every kept pair of two lit latents, with its counts.
    lit = set(nodes)
    pairs = {}
    for pair, relation in relations.items():
        ends = [NAMES.index(name) for name in pair]
        for at, (i, j) in enumerate(zip(relation.kept.i.tolist(), relation.kept.j.tolist(), strict=True)):
            if (ends[0], i) in lit and (ends[1], j) in lit:
                pairs[(ends[0], i), (ends[1], j)] = (relation, at)
    found = list(zip(graph.head.tolist(), graph.tail.tolist(), strict=True))
    assert {(nodes[head], nodes[tail]) for head, tail in found} == set(pairs)
    assert len(found) == len(pairs)
    for edge, (head, tail) in enumerate(found):
        relation, at = pairs[nodes[head], nodes[tail]]
        a, b = (dense[NAMES[place]][..., latent] > 0 for place, latent in (nodes[head], nodes[tail]))
        counts = [getattr(graph, name).tolist()[edge] for name in ("n", "m", "c")]
        assert counts == [a.sum(), b.sum(), (a & b).sum()]
        for measure in relation.forward:
            value = graph.values[measure].tolist()[edge]
            assert value == pytest.approx(relation.values(measure)[at], rel=1e-6)
        n, m, c = counts
        bounds = {"sufficiency": wilson(*map(np.array, (c, n))), "necessity": wilson(*map(np.array, (c, m)))}
        bounds["pearson"] = pearson_interval(relation.counts(relation.kept[np.array([at])]))
        for measure, (low, high) in bounds.items():
            ends_of = [side.tolist()[edge] for side in graph.intervals[measure]]
            assert ends_of == pytest.approx([low.item(), high.item()], rel=1e-5, abs=1e-6)
    for node, (place, latent) in enumerate(nodes):
        whole = dense[NAMES[place]][..., latent]
        assert graph.active.tolist()[node] == (whole > 0).sum()
        assert graph.maximum.tolist()[node] == pytest.approx(whole.max())
        kept = sum(
            int((side == latent).sum())
            for pair, one in relations.items()
            for name, side in zip(pair, (one.kept.i, one.kept.j), strict=True)
            if NAMES.index(name) == place
        )
        assert graph.kept.tolist()[node] == kept


def test_a_measure_of_best_partners_alone_is_swept_and_has_no_edges(study, prompt):
    relations = [with_explanations(one, {0: "a dog", 1: "a cat"}, {0: "a dog"}) for one in study[2].values()]
    data = relations_data(relations, model="m", prompts=[prompt])
    assert "explanation_cosine" in {curve.measure for curve in data.pairs[0].sweeps}
    assert "explanation_cosine" not in data.graph.values
    assert len(data.graph.head)


def test_edges_are_within_a_prompt(study, prompt):
    dense, _, relations = study
    other = replace(prompt, latents={name: sparse.csr_matrix(one[ROW + 1]) for name, one in dense.items()})
    one, two, both = (
        relations_data(list(relations.values()), model="m", prompts=shown).graph
        for shown in ([prompt], [other], [prompt, other])
    )

    def edges(graph):
        nodes = list(zip(graph.dictionary.tolist(), graph.latent.tolist(), strict=True))
        ends = zip(graph.head.tolist(), graph.tail.tolist(), strict=True)
        return {(nodes[head], nodes[tail]) for head, tail in ends}

    assert edges(both) == edges(one) | edges(two)
    assert len(both.head) == len(edges(both))


def test_what_is_beyond_a_limit_is_counted(study, prompt):
    _dense, stream, relations = study
    whole = relations_data(list(relations.values()), model="m", prompts=[prompt]).graph
    limits = RelationLimits(edges=12, gates=1, communities=1, members=2)
    graph = RelationGraph.of(list(relations.values()), "jaccard", 0.3)
    pair = next(iter(relations))
    gates = {pair: find_gates(stream, relations[pair])}
    found = find_communities(graph)
    how = {"graph": graph, "communities": [found], "gates": gates}
    cut = relations_data(list(relations.values()), model="m", prompts=[prompt], limits=limits, **how)
    assert cut.graph.left_out == len(whole.head) - 12
    # The strongest by some measure: each of these leads by one.
    for measure, values in cut.graph.values.items():
        assert max(values.tolist()) == max(whole.values[measure].tolist())
    assert (cut.gates[0].found, len(cut.gates[0].gates)) == (len(gates[pair]), 1)
    facts = cut.communities[0]
    sizes = found.sizes.tolist()
    assert facts.sizes == tuple(sizes[:20])
    assert (facts.communities, facts.alone) == (len(sizes), sizes.count(1))
    octaves = [[size for size in sizes if size.bit_length() == bits + 1] for bits in range(len(facts.by_size))]
    assert facts.by_size == tuple(map(len, octaves))
    assert facts.nodes_by_size == tuple(map(sum, octaves))
    (first,) = facts.labels
    assert first.size == sizes[0]
    assert first.layers == tuple(name for place, name in enumerate(NAMES) if place in graph.sources[found.labels == 0])
    # The two of the largest community whose edges add up to most.
    weight = np.bincount(np.r_[graph.heads, graph.tails], np.r_[graph.similarity, graph.similarity])
    own = sorted(found.members(0).tolist(), key=lambda node: -weight[node])[:2]
    assert sorted(weight[own].tolist()) == pytest.approx(
        sorted(
            weight[graph.node(f"{place}_{latent}")]
            for place, latent in zip(first.dictionary.tolist(), first.latent.tolist(), strict=True)
        )
    )
    # Nodes of the prompt's graph are of the community that the whole graph has them in; others of none.
    for place, latent, community in zip(
        *(getattr(cut.graph, name).tolist() for name in ("dictionary", "latent", "community")), strict=True
    ):
        known = dict(zip(graph.ids, found.labels.tolist(), strict=True))
        assert community == known.get(f"{place}_{latent}", -1)


def test_all_of_it_is_saved_and_read_again(study, prompt, tmp_path):
    _, stream, relations = study
    listed = list(relations.values())
    pair = next(iter(relations))
    graph = RelationGraph.of(listed, "jaccard", 0.3)
    pairs = relations[pair].kept[np.arange(4)]
    drawn = {"jaccard": np.array([0, 2, 3])}
    agreement = {
        "jaccard": RankAgreement(
            "jaccard", 3, float("nan"), 0.0, 1.0, (0.0, 1.0), (3,), (0.5,), (0.5,), ((0.1, 0.9),), (0.0,)
        )
    }
    effect = np.array([0.1, np.nan, 0.3, 0.4])
    check = AblationCheck(pairs, effect, effect, np.ones(4, np.int64), drawn, agreement)
    words = {name: [(f" w{latent}", "same") for latent in range(24)] for name in NAMES}
    data = relations_data(
        listed,
        model="m",
        text="a text",
        lifecycles=lifecycles_of(listed, thresholds=(0.5,)),
        gates={pair: find_gates(stream, relations[pair])},
        graph=graph,
        communities=[find_communities(graph)],
        checks={pair: check},
        prompts=[prompt],
        describe=from_words(words),
    )
    read = RelationsData.load(data.save(tmp_path / "relations.json"))
    assert repr(read.__dict__) == repr(data.__dict__)
    (ablated,) = read.effects
    assert ablated.values["jaccard"] == tuple(relations[pair].values("jaccard")[[0, 2, 3]])
    again = ablated.check(relations[pair])
    np.testing.assert_array_equal(again.effect, effect)
    assert (again.pairs.i == pairs.i).all()
    assert (again.pairs.c == pairs.c).all()
    assert data.communities[0].labels[0].words[0] == "same"
    assert data.latents[NAMES[0]]["4"].words == (" w4", "same")
    for one, relation in zip(data.pairs, listed, strict=True):
        for curve in one.sweeps:
            swept = threshold_sweep(relation, curve.measure)
            assert curve.forward.tolist() == swept.forward.tolist()
            assert curve.null_backward.tolist() == swept.null_backward.tolist()
    for one in data.lifecycles:
        settings = LifecycleSettings(one.measure, one.threshold, one.matching)
        expected = lifecycle(relations[SitePair(one.upstream, one.downstream)], settings)
        assert (one.ahead, one.behind) == (expected.counts("upstream"), expected.counts("downstream"))
    assert len(data.lifecycles) == len(listed) * len(listed[0].forward) * 2
    _read_as_version_1(data, tmp_path / "old.json")
    (tmp_path / "relations.json").write_text((tmp_path / "relations.json").read_text().replace("a text", "another"))
    with pytest.raises(GossamerError, match="checksum"):
        RelationsData.load(tmp_path / "relations.json")


def _read_as_version_1(data, path):
    """A file of before had all sizes, members without them, and ablations by measure, in columns."""
    body = FORMAT.encode(data)
    body.pop("sha256")
    (new,), (told,) = data.effects, data.communities
    drawn = list(new.drawn["jaccard"])
    numbers = {"i": (new.i, "int32"), "j": (new.j, "int32"), "effect": (new.effect, "float32")}
    points = {name: str(Column.of(np.array(own)[drawn], kind)) for name, (own, kind) in numbers.items()}
    points |= {"measure": "jaccard", "value": str(Column.of(new.values["jaccard"], "float32"))}
    (old,) = body["effects"]
    body["effects"] = [{name: old[name] for name in ("upstream", "downstream", "agreement")} | {"points": [points]}]
    (old,) = body["communities"]
    same = (
        "method",
        "resolution",
        "weighted",
        "seeds",
        "measure",
        "threshold",
        "nodes",
        "edges",
        "stability",
        "quality",
    )
    made = {name: old[name] for name in same}
    made["listed"] = [{name: one[name] for name in ("dictionary", "latent", "words")} for one in old["labels"]]
    sizes = [one.size for one in told.labels] + [1] * told.alone
    assert sum(sizes) == told.nodes
    body["communities"] = [made | {"sizes": str(Column.of(sizes, "int32"))}]
    body["format"] = "gossamer.relations.1"
    body["sha256"] = digest({name: one for name, one in body.items() if name != "format"})
    path.write_text(json.dumps(body))
    read = RelationsData.load(path)
    assert read.communities == data.communities
    (ablated,) = read.effects
    assert (ablated.i, ablated.j) == (tuple(np.array(new.i)[drawn]), tuple(np.array(new.j)[drawn]))
    assert ablated.drawn == {"jaccard": (0, 1, 2)}
    assert ablated.values["jaccard"] == pytest.approx(new.values["jaccard"])
    assert ablated.effect == pytest.approx([0.1, 0.3, 0.4])
    assert ablated.agreement[0].pairs == 3


def test_the_null_of_downstream_latents_is_swept_too(study):
    relation = next(iter(study[2].values()))
    swept = threshold_sweep(relation, "jaccard")
    judged = relation.downstream.active >= relation.keep.least
    best = relation.null.backward["jaccard"].value[judged]
    expected = [(best >= threshold).sum() for threshold in swept.thresholds]
    assert swept.null_backward.tolist() == expected
    assert max(expected) > min(expected)


def test_gates_are_saved_and_read_again(study, tmp_path):
    _, stream, relations = study
    found = {pair: tuple(find_gates(stream, one)) for pair, one in list(relations.items())[:2]}
    assert any(found.values())
    assert read_gates(write_gates(found, tmp_path / "gates.json")) == found


def test_ablated_gates_are_saved_and_shown_as_confirmed_refuted_or_too_rare(study, tmp_path):
    _, stream, relations = study
    pair, relation = next(iter(relations.items()))
    # Without both of its inputs an AND or OR is off: tokens, and those at which the output stayed on.
    told = ((20, 2), (20, 17), (9, 0))
    gates = [gate for gate in find_gates(stream, relation) if gate.patterns[-1] == 3][: len(told)]
    patterns = [AblatedPattern(3, 3, False, tokens, on) for tokens, on in told]
    checks = {pair: tuple(GateCheck(gate, (one,), 10) for gate, one in zip(gates, patterns, strict=True))}
    assert read_gate_checks(write_gate_checks(checks, tmp_path / "checks.json")) == checks
    (shown,) = relations_data(list(relations.values()), model="m", gates=checks).gates
    assert shown.gates == tuple(gates)
    assert shown.confirmed == (True, False, None)


def test_chains_go_on_to_the_nearest_dictionary():
    pairs = [SitePair(*one) for one in (("a", "b"), ("a", "c"), ("b", "c"), ("c", "e"), ("d", "e"), ("e", "d"))]
    assert chains("abcde", pairs) == (("a", "b", "c"), ("d", "e"))
    assert chains("ab", [SitePair("a", "a"), SitePair("b", "a")]) == ()


def test_cards_say_what_is_known():
    example = FeatureExample((" a", " dog"), (0.0, 2.0), 1, 0)
    card = FeatureCard(
        *(Feature.parse("resid_post.0/3"), "m", 10, 1, 2.0, 0.0, 2.0, Histogram((), ())),
        promotes=((" dog", 1.0),),
        examples=(example, example),
        explanation="dogs",
    )

    class Cards:
        text = "a text"

        def cards(self, features):
            return {one: replace(card, feature=one) for one in features}

    found = from_cards(Cards(), examples=1)("resid_post.0", [3])
    assert found == {3: LatentFacts((" dog",), "dogs", None, (example,))}
    assert from_cards(Cards())("resid_post.0@seed1", [3]) == {}


def test_requests_that_cannot_be_meant_are_refused(study, prompt):
    relations = list(study[2].values())
    graph = RelationGraph.of(relations, "jaccard", 0.3)
    found = find_communities(graph)
    lacking = replace(prompt, latents={NAMES[0]: prompt.latents[NAMES[0]]})
    none = AblationCheck(relations[0].kept[np.arange(0)], np.zeros(0), np.zeros(0), np.zeros(0, np.int64), {})
    for how, said in (
        ({"communities": [found]}, "found none"),
        ({"communities": [found], "graph": graph.above(0.9)}, "the graph of their"),
        ({"prompts": [lacking]}, f"latents of {NAMES[1]} expected"),
        ({"checks": {SitePair("x", "y"): none}}, "found x>y"),
    ):
        with pytest.raises(UsageError, match=said):
            relations_data(relations, model="m", **how)
    with pytest.raises(UsageError, match="at least one"):
        relations_data([], model="m")
