"""The study as a whole on a tiny model: it is what its parts are by themselves, resumes, and comes back from disk."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_relate import dictionary

from gossamer.errors import GossamerError, UsageError
from gossamer.model import Site
from gossamer.relations import (
    CausalSettings,
    Gate,
    LifecycleSettings,
    RelationGraph,
    RelationStudy,
    RelationStudyOptions,
    SitePair,
    TruthTable,
    ablation_check,
    adjusted_rand,
    check_gates,
    find_communities,
    find_gates,
    fired_on,
    folder_data,
    lifecycle,
    load_error_share,
    load_folder,
    neighbours_of,
    of_study,
    read_node_link,
    relation_study,
    study_parts,
)
from gossamer.relations.study_data import StudyData, first_rows
from gossamer.relations.study_results import RESULTS, FoundGate

SITES = [Site("resid_post", layer) for layer in range(3)]
OPTIONS = RelationStudyOptions(
    context=12,
    least=3,
    measures=("pearson", "jaccard"),
    thresholds=(0.3, 0.6),
    threshold=0.3,
    graphs=(("pearson", 0.2), ("jaccard", 0.999)),
    gate_rows=20,
    word_rows=10,
    causal_rows=6,
    causal_bins=4,
    per_bin=3,
    resamples=50,
)


def texts(seed, count):
    words = ["Mary", "John", "went", "to", "the", "store", "dog", "likes", "milk", "she", "was", "happy"]
    picks = np.random.default_rng(seed).integers(len(words), size=(count, 10))
    return [" ".join(words[one] for one in row) for row in picks]


@pytest.fixture(scope="module")
def model(tokenizer):
    from word_model import tiny_gpt2_model

    from gossamer.model import LanguageModel

    return LanguageModel.load(tiny_gpt2_model(tokenizer), tokenizer=tokenizer)


@pytest.fixture(scope="module")
def dictionaries():
    return {site: dictionary(site, 20, seed) for seed, site in enumerate(SITES)}


@pytest.fixture(scope="module")
def lab(model, dictionaries, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, relation_study(model, dictionaries, texts(0, 40), texts(1, 8), options=OPTIONS, folder=folder)


@pytest.fixture
def data(model, dictionaries, lab):
    return finished(model, dictionaries, lab[0])


def finished(model, dictionaries, folder):
    """The data of the study, all of whose parts are done."""
    return StudyData(
        model, dictionaries, (texts(0, 40), texts(1, 8)), OPTIONS, folder, RelationStudy.load(folder).parts
    )


def test_all_parts_are_there_and_come_back_from_disk(lab):
    folder, study = lab
    assert list(study.parts) == list(study_parts.PARTS)
    again = RelationStudy.load(folder)
    assert repr(again.found.__dict__) == repr(study.found.__dict__)
    assert [one.name for one in study.found.dictionaries] == [str(site) for site in SITES]
    assert [(one.upstream, one.downstream) for one in study.found.pairs] == [
        ("resid_post.0", "resid_post.1"), ("resid_post.1", "resid_post.2"), ("resid_post.0", "resid_post.2")
    ]  # fmt: skip


def test_a_page_takes_what_the_study_found(lab, data):
    folder, study = lab
    relations = load_folder(folder)
    gates, checks = of_study(study, relations)
    assert {pair: len(own) for pair, own in gates.items()} == {
        SitePair(one.upstream, one.downstream): sum(one.found.values()) for one in study.found.searches
    }
    settings = CausalSettings(
        OPTIONS.causal_bins, OPTIONS.per_bin, rows=OPTIONS.causal_rows, resamples=OPTIONS.resamples, seed=OPTIONS.seed
    )
    pair = data.neighbours[0]
    expected = ablation_check(data.held_out.only(pair), relations[pair], list(relations[pair].forward), settings)
    for name in ("i", "j", "c"):
        assert (getattr(checks[pair].pairs, name) == getattr(expected.pairs, name)).all()
    np.testing.assert_allclose(checks[pair].effect, expected.effect)
    page = folder_data(folder)
    for measure, drawn in expected.drawn.items():
        values = relations[pair].values(measure, expected.pairs[drawn])
        np.testing.assert_array_equal(page.effects[0].values[measure], values)
    told = {SitePair(one.upstream, one.downstream): one.checks for one in study.found.checked}
    for one in page.gates:
        pair = SitePair(one.upstream, one.downstream)
        assert one.gates == tuple(
            found.gate for found in study.found.gates if (found.upstream, found.downstream) == pair
        )
        verdicts = [check.confirmed if check.judged else None for check in told.get(pair, ())]
        assert one.confirmed == tuple(verdicts)
    assert of_study(RelationStudy(study.settings), relations) == (None, None)


def test_a_page_finds_nothing_anew_that_the_study_found(model, dictionaries, lab, data, monkeypatch):
    folder, study = lab

    def again(*asked):
        raise AssertionError("found again")

    monkeypatch.setattr("gossamer.relations.folder.find_communities", again)
    page = folder_data(folder)
    told = study.found.communities[0]
    (facts,) = page.communities
    same = ("measure", "threshold", "nodes", "edges", "communities", "by_size", "stability", "quality", "chance")
    for name in (*same, "nodes_by_size", "sizes", "seeds"):
        assert getattr(facts, name) == getattr(told, name)
    for one, other in zip(facts.labels, told.labels, strict=False):
        assert (one.size, one.layers, one.latent) == (other.size, other.layers, other.latent)
    assert page.model == study.settings["model"]
    source, latent = facts.labels[0].dictionary.tolist()[0], facts.labels[0].latent.tolist()[0]
    name = page.dictionaries[source].name
    plain = fired_on(first_rows(data.stream, OPTIONS.word_rows))
    assert page.latents[name][str(latent)].words == plain[name][latent]
    monkeypatch.setattr("gossamer.relations.study_data.fired_on", again)
    assert finished(model, dictionaries, folder).words == plain
    with pytest.raises(AssertionError, match="found again"):
        folder_data(folder, threshold=0.2)


def test_lifecycles_are_those_of_the_saved_relations(lab):
    folder, study = lab
    relations = load_folder(folder)
    assert [str(pair) for pair in neighbours_of(relations)] == [
        "resid_post.0>resid_post.1", "resid_post.1>resid_post.2"
    ]  # fmt: skip
    assert len(study.found.lifecycle) == 2 * 2 * 3 * 2
    errors = {
        pair: load_error_share(folder / f"{pair.upstream}-{pair.downstream}.error.safetensors")
        for pair in neighbours_of(relations)
    }
    for one in study.found.lifecycle:
        pair = next(pair for pair in relations if pair == (one.upstream, one.downstream))
        settings = LifecycleSettings(one.measure, one.threshold, one.matching)
        expected = lifecycle(relations[pair], settings, errors[pair])
        assert one.ahead == expected.counts("upstream")
        assert one.behind == expected.counts("downstream")
        null = relations[pair].null
        judged = null.upstream.active >= OPTIONS.least
        if one.measure == "pearson":
            assert one.chance == pytest.approx((null.forward["pearson"].value[judged] >= one.threshold).mean())
    for one in study.found.reappeared:
        near = next(pair for pair in errors if pair.upstream == one.upstream)
        far = next(pair for pair in relations if pair == (one.upstream, one.downstream))
        settings = LifecycleSettings(one.measure, one.threshold)
        gone = np.isin(lifecycle(relations[near], settings, errors[near]).upstream, ["gone", "lost in the error"])
        there = lifecycle(relations[far], settings).upstream == "passed on"
        assert (one.gone, one.back) == (gone.sum(), (gone & there).sum())
    assert any(one.gone > one.back > 0 for one in study.found.reappeared)


def test_gates_communities_and_ablations_are_those_of_their_own_functions(lab, data):
    study = lab[1]
    pair = data.neighbours[0]
    relation = data.relations[pair]
    plain = find_gates(first_rows(data.stream, OPTIONS.gate_rows).only(pair), relation)
    own = {(*one.gate.inputs, one.gate.output) for one in study.found.gates if one.upstream == pair.upstream}
    assert {(*one.inputs, one.output) for one in plain} <= own
    graph = RelationGraph.of([data.relations[one] for one in data.neighbours], "pearson", 0.2)
    found = find_communities(graph)
    told = next(one for one in study.found.communities if one.method == "leiden" and one.weighted)
    assert (told.nodes, told.edges) == (len(graph), len(graph.heads))
    assert told.communities == len(found.sizes)
    assert told.isolated == 60 - len(graph)
    assert told.left_out == 0
    assert sum(told.by_size) == told.communities
    assert {one.threshold for one in study.found.communities} == {0.2}  # nothing is as alike as 0.999
    written = read_node_link(lab[0] / "graph.json")
    assert written.ids == graph.ids
    nodes = json.loads((lab[0] / "graph.json").read_text())["nodes"]
    assert adjusted_rand(np.array([one["community"] for one in nodes]), found.labels) == 1
    settings = CausalSettings(4, 3, rows=6, resamples=50)
    check = ablation_check(data.held_out, relation, ["pearson"], settings)
    ablated = study.found.ablations[0]
    agreement = {one.measure: one for one in ablated.agreement}
    assert agreement["pearson"].spearman == pytest.approx(check.agreement["pearson"].spearman)
    assert len(ablated.i) == len(ablated.effect) > len(check.pairs)
    together = next(one for one in study.found.agreement if one.measure == "pearson")
    assert together.pairs == sum(
        one.pairs for part in study.found.ablations for one in part.agreement if one.measure == "pearson"
    )


def test_gates_are_ablated_on_the_held_out_text(lab, data):
    assert [one.checks for one in lab[1].found.checked] == [(), ()]  # these dictionaries have none
    pair = data.neighbours[1]
    relation = data.relations[pair]
    table = TruthTable(((90, 0), (4, 0), (3, 0), (0, 2)))
    *inputs, output = (int(one) for one in (*np.argsort(-relation.upstream.active)[:2], 3))
    gate = Gate("AND", tuple(inputs), output, None, table, 1.0, 1.0, 0.1, 0.0, 0.0)
    found = FoundGate(*pair, gate, table, 1.0, 1.0, ((), (), ()))
    data.found["gates"] = replace(data.found["gates"], gates=(found,))
    first, second = study_parts.confirmed(data).checked
    settings = CausalSettings(rows=OPTIONS.gate_rows // 4)
    (expected,) = check_gates(data.held_out.only(pair), relation, [gate], settings=settings)
    assert (first.checks, second.checks) == ((), (expected,))
    assert any(one.tokens for one in expected.patterns)


def test_a_stopped_study_goes_on_to_the_same_record(model, dictionaries, lab, tmp_path, monkeypatch):
    def stop(data):
        raise KeyboardInterrupt

    asked = (model, dictionaries, texts(0, 40), texts(1, 8))
    monkeypatch.setitem(study_parts.PARTS, "gates", stop)
    with pytest.raises(KeyboardInterrupt):
        relation_study(*asked, options=OPTIONS, folder=tmp_path)
    assert list(RelationStudy.load(tmp_path).parts) == ["relations", "lifecycle"]
    monkeypatch.undo()
    monkeypatch.setattr("gossamer.relations.study_data.relate_in_folder", stop)  # they are not counted again
    relation_study(*asked, options=OPTIONS, folder=tmp_path)
    assert (tmp_path / RESULTS).read_bytes() == (lab[0] / RESULTS).read_bytes()


def test_requests_that_cannot_be_meant_are_refused(model, dictionaries, lab, tmp_path):
    few, other = texts(0, 40), texts(1, 8)
    for arguments, more, said in (
        ((few, []), {}, "another one that shares no document"),
        ((few, few[:3]), {}, "another one that shares no document"),
        ((few, other), {"only": ["colours"]}, "'colours'"),
        ((few, other), {"folder": lab[0], "options": replace(OPTIONS, top=3)}, "another study"),
    ):
        with pytest.raises(UsageError, match=said):
            relation_study(model, dictionaries, *arguments, **more)
    with pytest.raises(UsageError, match="two sites or more"):
        relation_study(model, {SITES[0]: dictionaries[SITES[0]]}, few, other)
    for made, said in (
        ({"per_bin": 0}, "per_bin"),
        ({"measures": ("likeness",)}, "likeness"),
        ({"threshold": 1.0}, "1.0"),
    ):
        with pytest.raises(UsageError, match=said):
            replace(OPTIONS, **made)
    (tmp_path / RESULTS).write_text("{}")
    with pytest.raises((UsageError, GossamerError)):
        RelationStudy.load(tmp_path)
