"""A circuit on disk: its nodes and edges, and everything needed to run it again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.inputs import Inputs
from gossamer.circuits.nodes import Nodes
from gossamer.errors import UsageError
from gossamer.results import Format, Older, digest
from gossamer.results.values import to_json


@dataclass(frozen=True, order=True)
class Node:
    """One latent of one site's dictionary, kept at one role. `score`: faithfulness lost without it, or None."""

    site: str
    role: str
    latent: int
    score: float | None = field(default=None, compare=False)

    @property
    def key(self) -> tuple[str, str, int]:
        """What identifies the node."""
        return (self.site, self.role, self.latent)


@dataclass(frozen=True)
class Edge:
    """Signed effect of one node on another (see :mod:`gossamer.circuits.edges`)."""

    source: tuple[str, str, int]
    target: tuple[str, str, int]
    weight: float


@dataclass(frozen=True)
class Circuit:
    """Nodes that do a task, with the facts that made them.

    Attributes:
        nodes: distinct (site, role, latent) nodes, in execution order.
        model, task: names.
        sites, roles: the axes the nodes live on.
        edges: signed effects between nodes; may be empty.
        provenance: method, settings, ablation, errors, seed, dtype, dictionaries with checksums, versions.
        measured: held-out numbers by name, as they were when the circuit was made.
        inputs: model, dictionaries and task, so that :func:`gossamer.evaluate_circuit` finds them again; None in files
            of earlier versions.
    """

    nodes: tuple[Node, ...]
    model: str
    task: str
    sites: tuple[str, ...]
    roles: tuple[str, ...]
    edges: tuple[Edge, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    inputs: Inputs | None = None

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
        order = {str(site): place for place, site in enumerate(nodes.sites)}
        places = {role: place for place, role in enumerate(nodes.roles)}
        found = [Node(*key, value) for key, value in zip(nodes.select(chosen).keys(), values, strict=True)]
        found.sort(key=lambda node: (order[node.site], places[node.role], node.latent))
        sites = tuple(map(str, nodes.sites))
        return cls(tuple(found), model, task, sites, nodes.roles, (), provenance or {}, measured or {}, inputs)

    @property
    def unique_latents(self) -> set[tuple[str, int]]:
        """Distinct (site, latent) pairs: the circuit with its roles forgotten."""
        return {(node.site, node.latent) for node in self.nodes}

    def positions(self, nodes: Nodes) -> Int[Tensor, "chosen"]:
        """Where the circuit's nodes stand in `nodes`.

        Raises:
            UsageError: a node is not there (another task, other dictionaries, or fewer candidates).
        """
        found = nodes.find([node.key for node in self.nodes])
        if len(found) != len(self.nodes):
            raise UsageError(
                f"circuit of {self.task} on {self.model}: {len(self.nodes) - len(found)} of {len(self.nodes)} nodes "
                "are not among the given nodes; use the dictionaries and the task that the circuit names"
            )
        return found

    @property
    def sha256(self) -> str:
        """The checksum that the circuit's file has: tells it from every other circuit."""
        return digest(to_json(self, Circuit))

    def save(self, path: str | FilePath) -> FilePath:
        """Write JSON, atomically, with a checksum of its content."""
        return FORMAT.save(path, self)

    @classmethod
    def load(cls, path: str | FilePath) -> "Circuit":
        """Read a saved circuit.

        Raises:
            UsageError: no such file, or not a circuit.
            GossamerError: damaged, or changed since it was written.
        """
        return FORMAT.load(path)


# Files of version 1 lack the inputs.
FORMAT: Format[Circuit] = Format(
    "gossamer.circuit", 2, Circuit, "a circuit file", {"gossamer-circuit-1": Older(lambda body: body)}
)
