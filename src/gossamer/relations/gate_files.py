"""Gates on disk: one JSON file of all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gossamer.relations.counting import SitePair
from gossamer.relations.gates import Gate
from gossamer.results.document import Format


@dataclass(frozen=True)
class _Gates:
    """Gates by pair, in order."""

    pairs: tuple[tuple[SitePair, tuple[Gate, ...]], ...]


_FORMAT: Format[_Gates] = Format("gossamer.gates", 1, _Gates, "gates")


def write_gates(found: Mapping[SitePair, Sequence[Gate]], path: str | Path) -> Path:
    """Write the gates of some pairs, atomically. Returns the path."""
    return _FORMAT.save(path, _Gates(tuple((pair, tuple(gates)) for pair, gates in found.items())))


def read_gates(path: str | Path) -> dict[SitePair, tuple[Gate, ...]]:
    """Read what :func:`write_gates` wrote.

    Raises:
        UsageError: no such file, or another kind of file.
        GossamerError: it is damaged.
    """
    return dict(_FORMAT.load(path).pairs)
