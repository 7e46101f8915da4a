"""Relations of a folder as the workbench asks for them: their data, and graphs that are drawn, kept once made."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gossamer.app.run_folder import Part
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.errors import GossamerError, UsageError
from gossamer.relations import (
    DECODER_COSINE,
    MEASURES,
    Communities,
    CommunitySettings,
    DrawnGraph,
    GraphLayout,
    LatentFacts,
    Relation,
    RelationGraph,
    RelationsData,
    SitePair,
    community_words,
    find_communities,
    folder_data,
    from_words,
    layout_graph,
    load_folder,
)
from gossamer.relations.folder import GRAPH
from gossamer.relations.graph_files import read_communities, read_node_link
from gossamer.relations.graph_layout import FORMAT as LAYOUT
from gossamer.relations.measures import Ints
from gossamer.relations.words import WORDS, read_words

# Kinds of parts whose folder holds relations.
KINDS = ("relations", "relation")
# Of a graph without a null to calibrate it: as many edges as can be drawn ten times over.
_MOST = 200_000
_KEPT = 4


@dataclass(eq=False)
class RelatedFolder:
    """What is known of one folder of relations, read when it is first asked for.

    Attributes:
        folder: where the relations lie.
        keep: where layouts are kept; None: nowhere.
        given: the data that a file has; None: brought together from the folder.
    """

    folder: Path
    keep: Path | None
    given: RelationsData | None = None
    _relations: dict[SitePair, Relation] = field(default_factory=dict)
    _drawn: dict[str, DrawnGraph] = field(default_factory=dict)
    _words: dict[str, list[tuple[str, ...]]] | None = None
    _labels: dict[str, dict[int, tuple[str, ...]]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def relations(self) -> Mapping[SitePair, Relation]:
        """Errors: those of :func:`gossamer.relations.load_folder`."""
        with self._lock:
            if not self._relations:
                self._relations = load_folder(self.folder)
            return self._relations

    @property
    def data(self) -> RelationsData:
        """What a page draws of them. Errors: those of :func:`gossamer.relations.folder_data`."""
        with self._lock:
            if self.given is None:
                self.given = folder_data(self.folder)
            return self.given

    def measures(self) -> list[str]:
        """Those that a graph can be drawn by, that of the folder's own graph first."""
        known = [
            name
            for name in next(iter(self.relations.values())).forward
            if all(_has(one, name) for one in self.relations.values())
        ]
        own = self._own_graph()
        first = own.measure if own is not None else "pearson"
        return sorted(known, key=lambda name: name != first)

    def drawn(self, measure: str) -> DrawnGraph:
        """The graph by a measure, from where 5 % of its edges are expected by chance.

        Raises:
            UsageError: the measure is unknown, no edge is left, or communities need igraph, which is missing.
        """
        with self._lock:
            if measure not in self._drawn:
                graph, labels = self._graph(measure)
                if not len(graph.heads):
                    raise UsageError(f"{measure}: no pair of latents is more alike than chance; choose another measure")
                if len(self._drawn) >= _KEPT:
                    self._drawn.pop(next(iter(self._drawn)))
                self._drawn[measure] = DrawnGraph(graph, self._layout(graph, labels))
            return self._drawn[measure]

    def _own_graph(self) -> RelationGraph | None:
        path = self.folder / GRAPH
        return read_node_link(path) if path.is_file() else None

    def _graph(self, measure: str) -> tuple[RelationGraph, Ints | None]:
        """With the communities that the folder's own graph was saved with."""
        own, known = self._own_graph(), list(self.relations.values())
        if own is not None and own.measure == measure:
            return own, read_communities(self.folder / GRAPH)
        if measure not in self.measures():
            raise UsageError(f"measure: one of {', '.join(self.measures())} expected, found {measure!r}")
        try:
            threshold = max(one.edge_threshold(measure) for one in known)
        except UsageError:
            values = np.sort(np.concatenate([one.values(measure) for one in known]))
            threshold = float(values[max(len(values) - _MOST, 0)])
        return RelationGraph.of(known, measure, max(threshold, 1e-6)), None

    def _layout(self, graph: RelationGraph, labels: Ints | None) -> GraphLayout:
        digest = hashlib.sha256(f"{LAYOUT} {graph.names}".encode())
        columns: Sequence[object] = (graph.sources, graph.latents, graph.heads, graph.tails, graph.similarity, labels)
        for one in columns:
            digest.update(b"" if one is None else np.ascontiguousarray(one).tobytes())
        path = None if self.keep is None else self.keep / f"layout-{digest.hexdigest()[:24]}.safetensors"
        if path is not None and path.is_file():
            try:
                return GraphLayout.load(path)
            except GossamerError:
                pass  # damaged: made again
        made = layout_graph(graph, find_communities(graph).labels if labels is None else labels)
        return made if path is None else GraphLayout.load(made.save(path))

    def facts(self, name: str, latent: int) -> LatentFacts:
        """What is said of a latent; nothing where nothing is known."""
        own = self.data.latents.get(name, {}).get(str(latent))
        if own is not None:
            return own
        with self._lock:
            if self._words is None:
                path = self.folder / WORDS
                self._words = read_words(path) if path.is_file() else {}
        if name not in self._words:
            return LatentFacts()
        return from_words(self._words)(name, [latent])[latent]

    def community_labels(self, measure: str) -> dict[int, tuple[str, ...]]:
        """What most latents of each community have in common, where words are known."""
        drawn = self.drawn(measure)
        with self._lock:
            if measure not in self._labels:
                graph = drawn.graph
                pairs = zip(graph.sources.tolist(), graph.latents.tolist(), strict=True)
                words = {node: self.facts(graph.names[source], one).words for node, (source, one) in enumerate(pairs)}
                self._labels[measure] = _labels(drawn, words)
            return self._labels[measure]


class RelatedFolders:
    """The folders of relations of a run, each read once as long as its file stays as it is."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._known: dict[tuple[str, float], RelatedFolder] = {}
        self._lock = threading.Lock()

    def of(self, identifier: str) -> tuple[Part, RelatedFolder]:
        """The relations of a part of the run.

        Raises:
            UnknownError: there is no such part.
            GossamerError: its file is damaged or newer than this version.
        """
        bench = self._bench
        part = bench.run.part(identifier)
        if part is None or part.kind not in KINDS:
            known = ", ".join(one.id for one in bench.run.parts().values() if one.kind in KINDS) or "none"
            raise UnknownError(f"relations {identifier!r}: not in {bench.run.name}; it holds {known}")
        key = (part.id, part.modified)
        with self._lock:
            if key not in self._known:
                given = bench.content(identifier, "relations")[1] if part.kind == "relations" else None
                keep = bench.views if bench.read_only is None else None
                self._known = {old: one for old, one in self._known.items() if old[0] != part.id}
                self._known[key] = RelatedFolder(part.path.parent, keep, given)
            return part, self._known[key]


def _has(relation: Relation, measure: str) -> bool:
    """Whether pairs have a measure; explanations are compared of best partners alone."""
    return measure in MEASURES or (measure == DECODER_COSINE and relation.kept.decoder_cosine is not None)


def _labels(drawn: DrawnGraph, words: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
    found = Communities(drawn.layout.labels, CommunitySettings(), 1.0, 0.0)
    return community_words(found, {node: own for node, own in words.items() if own})
