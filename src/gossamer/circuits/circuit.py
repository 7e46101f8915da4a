"""A circuit on disk: its nodes and edges, and everything needed to run it again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.edge import Edge, QKEdge
from gossamer.circuits.group import NodeGroup
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.nodes import Nodes
from gossamer.display import html_table, plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature, Node
from gossamer.model.site import Site
from gossamer.results import Format, Older, digest
from gossamer.results.values import to_json


@dataclass(frozen=True)
class CircuitNode:
    """A node as a circuit holds it.

    Attributes:
        node: a latent of a site's dictionary at a role, or the dictionary's error there.
        score: faithfulness lost without it, or None; no part of what makes two of these equal.

    Raises:
        UsageError: a node of no role; a circuit's nodes have one each.
    """

    node: Node
    score: float | None = field(default=None, compare=False)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.node)
        if self.score is not None:
            yield f"score {self.score:.3g}"

    def __post_init__(self) -> None:
        if self.node.role is None:
            raise UsageError(f"node {self.node} of a circuit: a role expected, such as {self.node}@END")

    @property
    def feature(self) -> Feature:
        """The latent."""
        return self.node.feature

    @property
    def site(self) -> Site:
        """Where the dictionary reads."""
        return self.node.site

    @property
    def latent(self) -> int:
        """Number of the latent; ERROR for an error node."""
        return self.node.latent

    @property
    def role(self) -> str:
        """Name of the role."""
        return self.node.role or ""

    def __str__(self) -> str:
        return str(self.node)


@dataclass(frozen=True)
class Circuit:
    """Nodes that do a task, with the facts that made them.

    Attributes:
        nodes: with their scores, no node twice, in execution order.
        model, task: names.
        sites, roles: the axes the nodes live on.
        edges: signed effects between nodes; may be empty.
        qk: which pairs of nodes made heads attend that carried edges; empty where that was not asked for.
        provenance: method, settings, ablation, errors, seed, dtype, dictionaries with checksums, versions.
        measured: held-out numbers by name, as they were when the circuit was made.
        inputs: model, dictionaries and task, so that :func:`gossamer.evaluate_circuit` finds them again; None in files
            of earlier versions.
        groups: nodes that work alike, as a picture folds them (supernodes); empty where the circuit was not measured in
            full, and in files of before version 6.

    Raises:
        UsageError: a group of a node that is not the circuit's, or a node in two groups.
    """

    nodes: tuple[CircuitNode, ...]
    model: str
    task: str
    sites: tuple[Site, ...]
    roles: tuple[str, ...]
    edges: tuple[Edge, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    inputs: Inputs | None = None
    qk: tuple[QKEdge, ...] = ()
    groups: tuple[NodeGroup, ...] = ()

    __repr__ = short_repr

    def __post_init__(self) -> None:
        left = {one.node for one in self.nodes}
        for node in (node for group in self.groups for node in group.nodes):
            if node not in left:
                raise UsageError(f"group of {node}: nodes of the circuit expected, each in one group at most")
            left.discard(node)

    def _facts(self) -> Iterator[str]:
        yield f"{self.task} on {self.model}"
        yield f"{plural(len(self.nodes), 'node')} at {plural(len(self.sites), 'site')}"
        if self.edges:
            yield plural(len(self.edges), "edge")
        if self.groups:
            yield plural(len(self.groups), "group")
        if "faithfulness" in self.measured:
            yield f"faithfulness {self.measured['faithfulness']:.3g}"

    def _repr_html_(self) -> str:
        names = {node: group.label for group in self.groups for node in group.nodes}
        rows = [
            (one.site, one.role, one.feature.name, "" if one.score is None else one.score, names.get(one.node, ""))
            for one in self.nodes
        ]
        columns = ("site", "role", "latent", "score", "group")
        shown = len(columns) if self.groups else len(columns) - 1
        return html_table(columns[:shown], [row[:shown] for row in rows], repr(self))

    @classmethod
    def from_nodes(
        cls,
        nodes: Nodes,
        chosen: Int[Tensor, "chosen"],
        *,
        model: str,
        task: str,
        scores: Float[Tensor, "chosen"] | None = None,
        provenance: Mapping[str, Any] | None = None,
        measured: Mapping[str, float] | None = None,
        inputs: Inputs | None = None,
    ) -> "Circuit":
        """The chosen nodes of a set, in execution order."""
        values: list[float] | list[None] = [None] * len(chosen) if scores is None else scores.tolist()
        kept = nodes.select(chosen)
        places = zip(kept.site.tolist(), kept.role.tolist(), kept.latent.tolist(), strict=True)
        found = sorted(zip(places, kept.keys(), values, strict=True), key=lambda one: one[0])
        scored = tuple(CircuitNode(node, value) for _, node, value in found)
        return cls(scored, model, task, nodes.sites, nodes.roles, (), provenance or {}, measured or {}, inputs)

    def keys(self) -> list[Node]:
        """The nodes without their scores."""
        return [one.node for one in self.nodes]

    @property
    def features(self) -> set[Feature]:
        """The circuit with its roles forgotten, and without error nodes."""
        return {one.feature for one in self.nodes if not one.node.is_error}

    def positions(self, nodes: Nodes) -> Int[Tensor, "chosen"]:
        """Where the circuit's nodes stand in `nodes`.

        Raises:
            UsageError: a node is not there (another task, other dictionaries, or fewer candidates).
        """
        found = nodes.find(self.keys())
        if len(found) != len(self.nodes):
            raise UsageError(
                f"circuit of {self.task} on {self.model}: {len(self.nodes) - len(found)} of {len(self.nodes)} nodes "
                "are not among the given nodes; use the dictionaries and the task that the circuit names"
            )
        return found

    @property
    def sha256(self) -> str:
        """Tells it from every other circuit: the checksum that its file has, or would have without groups.

        Groups are a way to draw a circuit, and are known later than it.
        """
        return digest(to_json(replace(self, groups=()), Circuit))

    def save(self, path: str | Path) -> Path:
        """Write JSON, atomically, with a checksum of its content."""
        return FORMAT.save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "Circuit":
        """Read a saved circuit.

        Raises:
            UsageError: no such file, or not a circuit.
            GossamerError: damaged, or changed since it was written.
        """
        return FORMAT.load(path)


def _with_named_nodes(body: dict[str, Any]) -> dict[str, Any]:
    """Files of before version 3 have nodes as [site, role, latent]; a metric has its name for site and no role."""

    def name(site: str, role: str, latent: int) -> str:
        return f"{site}/{latent}@{role}" if role else site

    nodes = [{"node": name(one["site"], one["role"], one["latent"]), "score": one["score"]} for one in body["nodes"]]
    edges = [{**one, "source": name(*one["source"]), "target": name(*one["target"])} for one in body["edges"]]
    return {**body, "nodes": nodes, "edges": edges}


# Files of version 1 lack the inputs, besides. Those of before version 4 have edges of weights alone, of before version
# 5 no error nodes, of before version 6 no groups.
FORMAT: Format[Circuit] = Format(
    "gossamer.circuit",
    6,
    Circuit,
    "a circuit file",
    {
        "gossamer.circuit.5": Older(lambda body: body),
        "gossamer.circuit.4": Older(lambda body: body),
        "gossamer.circuit.3": Older(lambda body: body),
        "gossamer.circuit.2": Older(_with_named_nodes),
        "gossamer-circuit-1": Older(_with_named_nodes),
    },
)
