"""The parts of a study of relations, each from the same data to the rows of the record."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from gossamer.progress import begin
from gossamer.relations.causal import Ablations, CausalSettings, ablation_check, joint_agreement
from gossamer.relations.communities import Communities, CommunitySettings, find_communities, with_chance
from gossamer.relations.community_facts import CommunityFacts, community_facts, listed_members
from gossamer.relations.counting import SitePair
from gossamer.relations.error_share import ErrorShare
from gossamer.relations.gate_ablation import CheckedGates, check_gates
from gossamer.relations.gates import Gate, GateSettings, company_of, recounted, search_gates
from gossamer.relations.graph import RelationGraph
from gossamer.relations.graph_files import write_graphml, write_node_link, write_parquet
from gossamer.relations.lifecycle import GONE, LOST, MATCHINGS, PASSED, LifecycleSettings, lifecycle
from gossamer.relations.relation import BINS, LARGEST, Relation
from gossamer.relations.study_data import StudyData, first_rows
from gossamer.relations.study_results import (
    ErrorFacts,
    FoundGate,
    GateCount,
    PairFacts,
    Reappearance,
    RelationsPart,
    StudiedDictionary,
    Words,
)

# Every input of an AND or AND NOT is needed at least as much as the gate agrees, 0.8; fewer candidates than by default.
_GATES = GateSettings(partners=4, least_necessity=0.7, limit=1_000_000)
# What the published criterion for gates asks of each of exactly two inputs.
_ONE_SIDED = 0.999
_METHODS = (
    CommunitySettings("leiden"),
    CommunitySettings("leiden", weighted=False),
    CommunitySettings("louvain"),
    CommunitySettings("cpm", resolution=0.1),
    CommunitySettings("components"),
)
_LABELS, _MEMBERS = 8, 60


def relations(data: StudyData) -> RelationsPart:
    """Facts of the dictionaries and of every pair of them."""
    pairs = tuple(map(_pair_facts, data.relations.values()))
    tokens = next(iter(data.relations.values())).tokens
    seen = []
    for name, sums in data.sums.items():
        dead = sums.alive == 0
        rare = (sums.active < data.options.least) & ~dead
        reported = data.sources[name].dictionary.reported.explained_variance
        explained = float("nan") if reported is None else float(reported)
        counts = float(sums.active.sum() / tokens), int(dead.sum()), int(rare.sum())
        seen.append(StudiedDictionary(name, len(dead), *counts, explained))
    return RelationsPart("relations", dictionaries=tuple(seen), pairs=pairs)


def _pair_facts(relation: Relation) -> PairFacts:
    assert relation.null is not None
    judged = [int((one.active >= relation.keep.least).sum()) for one in (relation.upstream, relation.downstream)]
    together = int(relation.histograms["jaccard"].sum()) / max(judged[0] * judged[1], 1)
    measures = list(relation.null.forward)
    chance = {name: relation.null_threshold(name) for name in measures}
    edges = {name: relation.edge_threshold(name) for name in measures}
    return PairFacts(*relation.pair, len(relation.kept), together, chance, edges)


def lifecycles(data: StudyData) -> RelationsPart:
    """What becomes of latents, by every measure and matching and at every threshold; what errors hold; what returns."""
    told, back = [], []
    for measure in data.options.measures:
        for threshold in data.options.thresholds:
            for matching in MATCHINGS:
                settings = LifecycleSettings(measure, threshold, matching)
                told += [lifecycle(data.relations[pair], settings, data.errors[pair]).tally for pair in data.neighbours]
            back += list(_reappeared(data, LifecycleSettings(measure, threshold)))
    errors = tuple(_error_facts(data, pair, data.errors[pair]) for pair in data.neighbours)
    return RelationsPart("lifecycle", lifecycle=tuple(told), reappeared=tuple(back), errors=errors)


def _reappeared(data: StudyData, settings: LifecycleSettings) -> Iterator[Reappearance]:
    following = {pair.upstream: pair for pair in data.neighbours}
    for pair, relation in data.relations.items():
        near = following[pair.upstream]
        if pair == near:
            continue
        first = lifecycle(data.relations[near], settings, data.errors[near]).upstream
        gone, lost = np.isin(first, (GONE, LOST)), first == LOST
        there, chance = lifecycle(relation, settings).upstream == PASSED, np.zeros(len(gone), bool)
        if relation.null is not None and settings.measure in relation.null.forward:
            chance = lifecycle(relation.null, settings).upstream == PASSED
        counts = (int(one.sum()) for one in (gone, gone & there, lost, lost & there, gone & chance))
        yield Reappearance(
            pair.upstream, near.downstream, pair.downstream, settings.measure, settings.threshold, *counts
        )


def _error_facts(data: StudyData, pair: SitePair, error: ErrorShare) -> ErrorFacts:
    settings = LifecycleSettings(data.options.measures[0], data.options.threshold)
    gone = lifecycle(data.relations[pair], settings).upstream == GONE
    seen = error.tokens > 0
    share = error.share
    parts = [error.activation[seen], error.projection[seen]]
    means = [float(one.mean()) if len(one) else float("nan") for one in parts]
    medians = [float(np.median(share[own])) if own.any() else float("nan") for own in (seen, seen & gone)]
    near = float(((share >= 0.9) & (share <= 1.1))[seen].mean()) if seen.any() else float("nan")
    return ErrorFacts(*pair, means[0], means[1], medians[0], medians[1], near)


def gates(data: StudyData) -> RelationsPart:
    """Gates of every neighbouring pair: downstream ones of upstream inputs, and, for splits, the other way."""
    found, counts = [], []
    rows, active = first_rows(data.stream, data.options.gate_rows), data.options.active
    among = company_of(rows, [SitePair(name, name) for name in data.sources], active)
    counted, held_out = rows.in_memory(), first_rows(data.held_out, data.options.gate_rows).in_memory()
    for pair in data.neighbours:
        stream = counted.only(pair)
        for relation in (data.relations[pair], data.relations[pair].reversed()):
            search = search_gates(stream, relation, among=among[relation.pair.upstream], active=active, settings=_GATES)
            kinds = Counter(gate.kind for gate in search.gates)
            facts = (search.candidates, dict(sorted(kinds.items())), search.by_chance, _one_sided(relation))
            counts.append(GateCount(*relation.pair, *facts))
            again = recounted(held_out.only(pair), relation, search.gates, active=active)
            for gate, (table, precision, recall) in zip(search.gates, again, strict=True):
                words = _gate_words(data.words, relation.pair, gate)
                found.append(FoundGate(*relation.pair, gate, table, precision, recall, words))
    return RelationsPart("gates", searches=tuple(counts), gates=tuple(found))


def _gate_words(words: Mapping[str, list[Words]], pair: SitePair, gate: Gate) -> tuple[Words, ...]:
    return (*(words[pair.upstream][one] for one in gate.inputs), words[pair.downstream][gate.output])


def _one_sided(relation: Relation) -> dict[str, int]:
    """Outputs with exactly two inputs that each pass the published criterion, one direction alone."""
    found = {}
    for kind, measure in (("AND", "necessity"), ("OR", "sufficiency")):
        outputs = relation.kept.j[relation.values(measure) >= _ONE_SIDED]
        found[kind] = int((np.bincount(outputs) == 2).sum())
    return found


def communities(data: StudyData) -> RelationsPart:
    """Communities of every graph by every method; the first graph is written in its three formats."""
    neighbours = [data.relations[pair] for pair in data.neighbours]
    found, advance = [], begin("communities", len(data.options.graphs) * len(_METHODS))
    for place, (measure, threshold) in enumerate(data.options.graphs):
        graph = RelationGraph.of(neighbours, measure, threshold)
        if not len(graph.heads):
            advance(len(_METHODS), f"{measure} {threshold:g} has no edge")
            continue
        left_out = sum(_above(relation, measure, threshold) for relation in neighbours) - len(graph.heads)
        for method in _METHODS:
            ones = with_chance(graph, find_communities(graph, method), data.options.seed)
            found.append(_community_facts(data, graph, ones, max(left_out, 0)))
            if place == 0 and method == _METHODS[0] and data.folder is not None:
                _write_graph(data, graph, ones)
            advance(1, f"{measure} {threshold:g} by {method.method}")
    return RelationsPart("communities", communities=tuple(found))


def _above(relation: Relation, measure: str, threshold: float) -> int:
    """How many pairs of a relation are above a threshold, kept or not, to a bin of the histogram."""
    if measure not in relation.histograms:
        return 0
    first = int(np.ceil(threshold / LARGEST.get(measure, 1.0) * BINS - 1e-9))
    return int(relation.histograms[measure][first:].sum())


def _community_facts(data: StudyData, graph: RelationGraph, found: Communities, left_out: int) -> CommunityFacts:
    words, places = dict(enumerate(_node_words(data, graph))), {name: place for place, name in enumerate(data.sums)}
    members = listed_members(graph, found, _LABELS, _MEMBERS)
    facts = community_facts(graph, found, words, places, members=members)
    isolated = sum(len(one.active) for one in data.sums.values()) - len(graph)
    dead = sum(int((one.alive == 0).sum()) for one in data.sums.values())
    return replace(facts, left_out=left_out, isolated=isolated, dead=dead)


def _node_words(data: StudyData, graph: RelationGraph) -> list[Words]:
    ends = zip(graph.sources.tolist(), graph.latents.tolist(), strict=True)
    return [data.words[graph.names[source]][latent] for source, latent in ends]


def _write_graph(data: StudyData, graph: RelationGraph, found: Communities) -> None:
    assert data.folder is not None
    explanations = {name: ", ".join(words) for name, words in zip(graph.ids, _node_words(data, graph), strict=True)}
    description = f"{graph.measure} from {graph.threshold:g} of {data.model.title}; words that latents fire on"
    path = data.folder / "graph.json"
    write_node_link(graph, path, description=description, communities=found.labels, explanations=explanations)
    write_graphml(graph, path.with_suffix(".graphml"))
    write_parquet(graph, path.with_suffix(".parquet"))


def causal(data: StudyData) -> RelationsPart:
    """Ablations of pairs of every two neighbours, on the held-out text, by every measure; alone and together."""
    options = data.options
    settings = CausalSettings(
        options.causal_bins,
        options.per_bin,
        rows=options.causal_rows,
        resamples=options.resamples,
        seed=options.seed,
    )
    checks, found = [], []
    for pair in data.neighbours:
        relation = data.relations[pair]
        check = ablation_check(data.held_out.only(pair), relation, list(relation.forward), settings)
        checks.append((relation, check))
        found.append(Ablations.of(relation, check))
    measures = dict.fromkeys(name for _, check in checks for name in check.drawn)
    shared = [name for name in measures if all(name in check.drawn for _, check in checks)]
    agreement = tuple(joint_agreement(checks, name, settings) for name in shared)
    return RelationsPart("causal", ablations=tuple(found), agreement=agreement)


def confirmed(data: StudyData) -> RelationsPart:
    """Gates whose output lies downstream, with their inputs ablated on held-out text, a quarter of the gates' rows."""
    settings = CausalSettings(rows=max(1, data.options.gate_rows // 4))
    checked = []
    for pair in data.neighbours:
        own = [one.gate for one in data.found["gates"].gates if (one.upstream, one.downstream) == pair]
        stream, relation = data.held_out.only(pair), data.relations[pair]
        checks = check_gates(stream, relation, own, active=data.options.active, settings=settings)
        checked.append(CheckedGates(*pair, tuple(checks)))
    return RelationsPart("confirmed", checked=tuple(checked))


PARTS: dict[str, Callable[[StudyData], RelationsPart]] = {
    "relations": relations,
    "lifecycle": lifecycles,
    "gates": gates,
    "communities": communities,
    "causal": causal,
    "confirmed": confirmed,
}
