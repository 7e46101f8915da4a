"""A circuit on disk: its nodes and edges, and everything needed to run it again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path as FilePath
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.nodes import Nodes
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.files import read_json, write_json

FORMAT = "gossamer-circuit-1"


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
    """

    nodes: tuple[Node, ...]
    model: str
    task: str
    sites: tuple[str, ...]
    roles: tuple[str, ...]
    edges: tuple[Edge, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)

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
    ) -> "Circuit":
        """The chosen nodes of a set, in execution order."""
        values: list[float] | list[None] = [None] * len(chosen) if scores is None else scores.tolist()
        order = {str(site): place for place, site in enumerate(nodes.sites)}
        places = {role: place for place, role in enumerate(nodes.roles)}
        found = [Node(*key, value) for key, value in zip(nodes.select(chosen).keys(), values, strict=True)]
        found.sort(key=lambda node: (order[node.site], places[node.role], node.latent))
        sites = tuple(map(str, nodes.sites))
        return cls(tuple(found), model, task, sites, nodes.roles, (), provenance or {}, measured or {})

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

    def save(self, path: str | FilePath) -> FilePath:
        """Write JSON, atomically, with a checksum of its content."""
        content = asdict(self)
        return write_json(path, {"format": FORMAT, "sha256": _digest(content), **content})

    @classmethod
    def load(cls, path: str | FilePath) -> "Circuit":
        """Read a saved circuit.

        Raises:
            UsageError: no such file, or not a circuit.
            GossamerError: damaged, or changed since it was written.
        """
        value = read_json(path)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise UsageError(f"{path}: expected a circuit file (format {FORMAT!r}), found something else")
        content = {key: item for key, item in value.items() if key not in ("format", "sha256")}
        if value.get("sha256") != _digest(content):
            raise GossamerError(
                f"{path}: the circuit's checksum does not match its content; it was changed or damaged: make it again"
            )
        nodes = tuple(Node(**node) for node in content.pop("nodes"))
        edges = tuple(Edge(_key(e["source"]), _key(e["target"]), e["weight"]) for e in content.pop("edges"))
        sites, roles = tuple(content.pop("sites")), tuple(content.pop("roles"))
        return cls(nodes=nodes, edges=edges, sites=sites, roles=roles, **content)


def _key(parts: list[Any]) -> tuple[str, str, int]:
    return (parts[0], parts[1], parts[2])


def _digest(content: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise NotFiniteError(f"circuit: a number is NaN or infinite ({error}); measure the circuit again") from error
    return hashlib.sha256(text.encode()).hexdigest()
