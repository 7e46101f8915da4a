"""What a reader made of a circuit's drawing: nodes pinned, put into groups and named. One file a view."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gossamer.app.workbench import UnknownError
from gossamer.circuits.circuit import Circuit
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Node
from gossamer.report.circuit_export import Marks
from gossamer.results import Format

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class SavedGroup:
    """Nodes under one name."""

    name: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class SavedView:
    """A view of a circuit.

    Attributes:
        circuit: SHA-256 of the circuit that it is of.
        pinned: names of the nodes that are pinned.
        groups: nodes put together.
        labels: what the reader calls nodes.
    """

    circuit: str
    pinned: tuple[str, ...]
    groups: tuple[SavedGroup, ...]
    labels: Mapping[str, str]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.pinned), "pinned node")
        yield plural(len(self.groups), "group")

    def marks(self) -> Marks:
        """The same with nodes in place of their names."""
        groups = tuple((one.name, tuple(map(Node.parse, one.nodes))) for one in self.groups)
        labels = tuple((Node.parse(name), label) for name, label in self.labels.items())
        return Marks(tuple(map(Node.parse, self.pinned)), groups, labels)


FORMAT: Format[SavedView] = Format("gossamer.view", 1, SavedView, "a saved view")


def view_path(folder: Path, name: str) -> Path:
    """Where a view of that name lies.

    Raises:
        UsageError: a name that is no name of a file, or a link that leads out of the folder.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"view {name!r}: 1 to 64 letters, digits, - and _ expected")
    path = folder / f"{name}.json"
    if path.is_symlink() or folder.is_symlink():
        raise UsageError(f"view {name}: a file expected, found a link")
    return path


def read_view(folder: Path, name: str, circuit: Circuit) -> SavedView:
    """The view of that name.

    Raises:
        UsageError: none of that name, or one of another circuit.
        GossamerError: damaged.
    """
    path = view_path(folder, name)
    if not path.is_file():
        raise UnknownError(f"view {name}: not kept in this run")
    kept = FORMAT.load(path)
    if kept.circuit != circuit.sha256:
        raise UsageError(f"view {name}: of another circuit")
    return kept
