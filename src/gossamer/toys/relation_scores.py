"""Precision and recall of what `gossamer.relations` finds in a model whose relations are known.

Findings are in latents; they are compared with what is planted in features, by which feature each latent stands for. A
finding that names a latent which stands for no feature is wrong; where classes of latents are judged, such latents have
no truth and are left out, while their features count as missed. Gates, splits, merges and links that are planted count
whole, whether or not dictionaries have latents for them: recall is that of the whole way from the text. Of a feature
that stays in the stream the true class is what the next dictionary makes of it: passed on where it has a latent for it,
else lost in its error.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.relations.causal import CausalSettings
from gossamer.relations.communities import CommunitySettings, adjusted_rand, find_communities
from gossamer.relations.counting import SitePair
from gossamer.relations.error_share import error_share
from gossamer.relations.gate_ablation import check_gates
from gossamer.relations.gates import Gate, GateSettings, find_gates
from gossamer.relations.graph import RelationGraph
from gossamer.relations.latents import LatentBatch, LatentSource, LatentStream, ModelLatents, Work
from gossamer.relations.lifecycle import GONE, LOST, NEW, PASSED, Lifecycle, LifecycleSettings, lifecycle, matched
from gossamer.relations.relate import adjacent, relate
from gossamer.relations.relation import Keep, Relation
from gossamer.statistics import wilson
from gossamer.tokens import Tokens
from gossamer.toys.planted_dictionaries import KnownDictionary
from gossamer.toys.planted_relations import PlantedGate, PlantedModel

MEASURE = "pearson"
# Each with the threshold from which two latents are one feature.
CLASSES = (("best", 0.5), ("best", 0.9), ("mutual", 0.5), ("mutual", 0.9), ("hungarian", 0.9))
_KEEP = Keep(("jaccard", "sufficiency", "necessity", MEASURE), top=16)
_GATES = GateSettings(inputs=3)


@dataclass(frozen=True)
class FindingScore:
    """How one kind of finding does against the truth.

    Attributes:
        finding: what was looked for.
        found: how many were reported; `right`: of these, true ones.
        planted: how many there are; `recovered`: of these, found ones.
    """

    finding: str
    found: int
    right: int
    planted: int
    recovered: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.finding
        yield f"precision {self.right}/{self.found}, recall {self.recovered}/{self.planted}"

    @property
    def precision(self) -> tuple[float, float, float]:
        """Share of the reported ones that are true, with its 95 % Wilson interval; NaN of none."""
        return _share(self.right, self.found)

    @property
    def recall(self) -> tuple[float, float, float]:
        """Share of the planted ones that are reported, with its 95 % Wilson interval; NaN of none."""
        return _share(self.recovered, self.planted)


@dataclass(frozen=True)
class RelationScores:
    """All findings of one model.

    Attributes:
        scores: of each kind of finding.
        shuffled: of each kind, what is reported (found) of what could be (planted) once documents are shuffled: the
            false-positive rate is the recall, and none is right.
        communities: adjusted Rand index of the communities and the groups of related features, over the graph's nodes
            that stand for a feature; NaN of fewer than two.
    """

    scores: tuple[FindingScore, ...]
    shuffled: tuple[FindingScore, ...]
    communities: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.scores)} kinds of findings"
        yield f"communities {self.communities:.3f}"

    def of(self, finding: str) -> FindingScore:
        """The score of one kind.

        Raises:
            UsageError: there is none.
        """
        for one in (*self.scores, *self.shuffled):
            if one.finding == finding:
                return one
        raise UsageError(
            f"finding: one of {', '.join(one.finding for one in (*self.scores, *self.shuffled))} expected, "
            f"found {finding!r}"
        )


def _share(part: int, whole: int) -> tuple[float, float, float]:
    if not whole:
        return float("nan"), float("nan"), float("nan")
    low, high = wilson(np.array(part), np.array(whole))
    return part / whole, float(low), float(high)


def score_relations(
    planted: PlantedModel,
    known: Mapping[Site, KnownDictionary],
    tokens: Tokens,
    *,
    causal_rows: int = 64,
    seed: int = 0,
) -> RelationScores:
    """Relate the dictionaries of neighbouring places, find all there is to find, and compare it with what is planted.

    Args:
        causal_rows: rows in which the inputs of gates are ablated.
        seed: of the order of rows, and so of the shuffled null.
    """
    sources = {str(site): LatentSource(planted.language_model, known[site].dictionary) for site in planted.sites}
    stream = ModelLatents(sources, tokens, seed=seed)
    relations = _related(stream, list(sources))
    names = {str(site): known[site].features for site in planted.sites}
    pairs = adjacent(sources)
    counted: dict[str, FindingScore] = {}
    for place, pair in enumerate(pairs):
        relation, truth = relations[pair], _LayerTruth(planted, place, (names[pair.upstream], names[pair.downstream]))
        own = stream.only(pair)
        _add(counted, _class_scores(truth, relation, own))
        gates = _gates(own, relations, pair)
        splits = find_gates(own, relation.reversed(), settings=_GATES)
        checks = check_gates(own, relation, gates, settings=CausalSettings(rows=causal_rows, batch_size=32))
        confirmed = [one.gate for one in checks if one.confirmed]
        _add(counted, _gate_scores(truth, relation, gates, splits, confirmed))
    graph = RelationGraph.of(
        [relations[pair] for pair in pairs], MEASURE, max(relations[pair].edge_threshold(MEASURE) for pair in pairs)
    )
    _add(counted, [_edge_score(planted, graph, names)])
    shuffled: dict[str, FindingScore] = {}
    apart = ShuffledDocuments(stream, tokens.ids.shape[1] - 1)
    chance = _related(apart, list(sources))
    for pair in pairs:
        _add(shuffled, _false_positives(apart, chance, relations[pair], graph.threshold))
    rand = _rand(planted, graph, names)
    return RelationScores(tuple(counted.values()), tuple(shuffled.values()), rand)


def _related(stream: LatentStream, names: Sequence[str]) -> dict[SitePair, Relation]:
    return relate(stream, [*adjacent(names), *(SitePair(one, one) for one in names[:-1])], keep=_KEEP)


def _gates(stream: LatentStream, relations: Mapping[SitePair, Relation], pair: SitePair) -> list[Gate]:
    among = relations[SitePair(pair.upstream, pair.upstream)]
    return find_gates(stream, relations[pair], among=among, settings=_GATES)


def _add(counted: dict[str, FindingScore], scores: Iterable[FindingScore]) -> None:
    for one in scores:
        before = counted.get(one.finding, FindingScore(one.finding, 0, 0, 0, 0))
        sums = (getattr(one, name) + getattr(before, name) for name in ("found", "right", "planted", "recovered"))
        counted[one.finding] = FindingScore(one.finding, *sums)


def summed(results: Sequence[RelationScores]) -> RelationScores:
    """The scores of several models together; communities are their mean."""
    scores: dict[str, FindingScore] = {}
    shuffled: dict[str, FindingScore] = {}
    for one in results:
        _add(scores, one.scores)
        _add(shuffled, one.shuffled)
    rand = float(np.mean([one.communities for one in results]))
    return RelationScores(tuple(scores.values()), tuple(shuffled.values()), rand)


def _score(finding: str, found: set[Any], truth: set[Any]) -> FindingScore:
    both = len(found & truth)
    return FindingScore(finding, len(found), both, len(truth), both)


@dataclass(frozen=True)
class _LayerTruth:
    """What one layer does to features, given which of them the dictionaries before and after it have."""

    planted: PlantedModel
    layer: int
    features: tuple[Any, Any]

    @property
    def before(self) -> frozenset[int]:
        """Features that the dictionary before the layer is to have."""
        return self.planted.present[self.layer] - self.planted.lost[self.layer]

    @property
    def after(self) -> frozenset[int]:
        """Features that the dictionary after it is to have."""
        return self.planted.present[self.layer + 1] - self.planted.lost[self.layer + 1]

    @property
    def classes(self) -> dict[str, set[int]]:
        """Of features: a feature that a dictionary misses is lost where it is in the stream."""
        has_before, has_after = (set(one.tolist()) - {-1} for one in self.features)
        stays = self.before & self.planted.present[self.layer + 1]
        return {
            PASSED: set(stays & self.after & has_after),
            LOST: set(stays - has_after),
            GONE: set(self.before - stays),
            NEW: set(self.after - (self.planted.present[self.layer] & has_before)),
        }

    def named(self, side: int, latents: Iterable[int]) -> tuple[int, ...]:
        """Features of some latents; -1 - latent for one that stands for none, so that it is like no other."""
        names = self.features[side]
        return tuple(int(names[one]) if names[one] >= 0 else -1 - int(one) for one in latents)


def _class_scores(truth: _LayerTruth, relation: Relation, stream: ModelLatents) -> list[FindingScore]:
    error = error_share(stream, relation.pair)
    found = []
    for matching, threshold in CLASSES:
        classes = lifecycle(relation, LifecycleSettings(MEASURE, threshold, matching), error)
        said = f"{matching} partner" if matching != "hungarian" else "Hungarian"
        for kind, true in truth.classes.items():
            side = int(kind == NEW)
            own = truth.features[side]
            reported = own[(classes.downstream if side else classes.upstream) == kind]
            found.append(_score(f"{kind}, {said}, {threshold:g}", set(reported[reported >= 0].tolist()), true))
        if matching != "best":
            true_pairs = {(one, one) for one in truth.classes[PASSED]}
            pairs = _pairs(relation, classes)
            named = {(*truth.named(0, [i]), *truth.named(1, [j])) for i, j in pairs}
            found.append(_score(f"one-to-one pairs, {said}, {threshold:g}", named, true_pairs))
    return found


def _pairs(relation: Relation, classes: Lifecycle) -> list[tuple[int, int]]:
    settings = classes.settings
    if settings.matching == "hungarian":
        rows, columns = matched(relation, settings.measure, settings.threshold)
    else:
        rows = np.flatnonzero(classes.upstream == PASSED)
        columns = relation.forward[settings.measure].partner[rows]
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def _gate_scores(
    truth: _LayerTruth, relation: Relation, gates: Sequence[Gate], splits: Sequence[Gate], confirmed: Sequence[Gate]
) -> list[FindingScore]:
    planted = truth.planted.gates[truth.layer]
    found = []
    for kind, size in (("AND", 2), ("OR", 2), ("XOR", 2), ("AND NOT", 2), ("AND", 3), ("OR", 3)):
        name = kind if size == 2 else f"{kind} of {size}"
        true = {_key(one) for one in planted if one.kind == kind and len(one.inputs) == size}
        own = [one for one in gates if one.kind == kind and len(one.inputs) == size]
        found.append(_score(name, {_named(truth, one) for one in own}, true))
    every = {_key(one) for one in planted}
    found.append(_score("all gates", {_named(truth, one) for one in gates}, every))
    found.append(_score("all gates, confirmed by ablation", {_named(truth, one) for one in confirmed}, every))
    # What is passed on as itself is neither merged nor split, though an OR of its parts may say the same.
    stays = lifecycle(relation, LifecycleSettings(MEASURE, 0.9, "mutual")).upstream == PASSED
    merges = [one for one in gates if one.kind == "OR" and not stays[list(one.inputs)].any()]
    true = {_key(one) for one in planted if one.merge}
    found.append(_score("merge (OR of inputs that are not passed on)", {_named(truth, one) for one in merges}, true))
    whole = {(one.whole, frozenset(one.parts)) for one in truth.planted.splits[truth.layer]}
    named = {
        (*truth.named(0, [one.output]), frozenset(truth.named(1, one.inputs)))
        for one in splits
        if one.kind == "OR" and not stays[one.output]
    }
    found.append(_score("split (OR of downstream features, itself not passed on)", named, whole))
    return found


def _key(gate: PlantedGate) -> tuple[Any, ...]:
    return gate.kind, frozenset(gate.inputs), gate.output, gate.negated


def _named(truth: _LayerTruth, gate: Gate) -> tuple[Any, ...]:
    """A gate in features."""
    negated = None if gate.negated is None else truth.named(0, [gate.negated])[0]
    return gate.kind, frozenset(truth.named(0, gate.inputs)), truth.named(1, [gate.output])[0], negated


def _edge_score(planted: PlantedModel, graph: RelationGraph, names: Mapping[str, Any]) -> FindingScore:
    """Edges between latents of one group are right; planted are those from each feature to itself and from inputs to
    what is made of them."""
    features = _nodes(graph, names)
    groups = np.array([*planted.groups, -1])[features]
    ends = groups[graph.heads], groups[graph.tails]
    right = int(((ends[0] == ends[1]) & (ends[0] >= 0)).sum())
    keys = zip(graph.sources[graph.heads].tolist(), features[graph.heads], features[graph.tails], strict=True)
    there = set(keys)
    wanted = {(layer, one, other) for layer in range(planted.settings.layers) for one, other in _links(planted, layer)}
    return FindingScore(f"edges ({MEASURE})", len(graph.heads), right, len(wanted), len(wanted & there))


def _links(planted: PlantedModel, layer: int) -> set[tuple[int, int]]:
    before, after = (planted.present[place] - planted.lost[place] for place in (layer, layer + 1))
    found = {(one, one) for one in before & after}
    found |= {(one, gate.output) for gate in planted.gates[layer] for one in gate.inputs}
    return found | {(split.whole, part) for split in planted.splits[layer] for part in split.parts}


def _nodes(graph: RelationGraph, names: Mapping[str, Any]) -> Any:
    """The feature of each node; -1: none."""
    found = np.full(len(graph), -1)
    for place, name in enumerate(graph.names):
        own = graph.sources == place
        found[own] = names[name][graph.latents[own]]
    return found


def _rand(planted: PlantedModel, graph: RelationGraph, names: Mapping[str, Any]) -> float:
    known = _nodes(graph, names)
    if len(graph.heads) == 0 or (known >= 0).sum() < 2:
        return float("nan")
    found = find_communities(graph, CommunitySettings(seeds=(42,)))
    own = known >= 0
    return adjusted_rand(found.labels[own], np.array(planted.groups)[known[own]])


class ShuffledDocuments:
    """A stream whose dictionaries see different documents: the second those of the next row, the third of the row after
    that, within each batch; a :class:`gossamer.relations.latents.LatentStream` in which nothing is related.

    Not the order of the null of :func:`gossamer.relations.relate`, which pairs a row with the one before it.
    """

    def __init__(self, stream: LatentStream, length: int) -> None:
        """`length`: tokens of a row that count, the same for all rows."""
        self._stream, self._length = stream, length

    @property
    def widths(self) -> Mapping[str, int]:
        """Number of latents of each dictionary."""
        return self._stream.widths

    @property
    def rows(self) -> int:
        """How many there are."""
        return self._stream.rows

    @property
    def facts(self) -> Mapping[str, Any]:
        """Those of the stream, and that its documents are apart."""
        return {**self._stream.facts, "shuffled documents": self._length}

    @property
    def shared(self) -> Sequence[object]:
        """What the stream's parts share."""
        return self._stream.shared

    def part(self, rows: slice) -> "ShuffledDocuments":
        """Some of the rows, shuffled among themselves."""
        return ShuffledDocuments(self._stream.part(rows), self._length)

    def map(self, work: Work, *, values: Sequence[str] = ()) -> None:
        """One pass."""

        def apart(batch: LatentBatch) -> None:
            tokens = np.arange(len(batch.rows))
            latents = {
                name: one[np.roll(tokens, -self._length * place)]
                for place, (name, one) in enumerate(batch.latents.items())
            }
            work(LatentBatch(latents, batch.rows, batch.positions, batch.documents, batch.values))

        self._stream.map(apart, values=values)


def _false_positives(
    stream: LatentStream, chance: Mapping[SitePair, Relation], relation: Relation, threshold: float
) -> list[FindingScore]:
    """What is reported of shuffled documents, of what could be."""
    shuffled = chance[relation.pair]
    judged = shuffled.upstream.active >= shuffled.keep.least
    best = shuffled.forward[MEASURE].value[judged]
    outputs = int((shuffled.downstream.active >= shuffled.keep.least).sum())
    gates = {one.output for one in _gates(stream, chance, relation.pair)}
    edges = int((shuffled.values(MEASURE) >= threshold).sum())
    limit = relation.null_threshold(MEASURE)
    found = [(f"passed on, best partner, {share:g}", int((best >= share).sum()), len(best)) for share in (0.5, 0.9)]
    found.append(("best partner above the null threshold (1 %)", int((best >= limit).sum()), len(best)))
    found.append((f"edges ({MEASURE}), of all pairs", edges, len(best) * outputs))
    found.append(("outputs with a gate", len(gates), outputs))
    return [FindingScore(f"shuffled: {name}", count, 0, whole, count) for name, count, whole in found]
