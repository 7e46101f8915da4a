"""Gates and ablations on disk: each one JSON file of all pairs of dictionaries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gossamer.errors import UsageError
from gossamer.relations.causal import AblationCheck, Ablations
from gossamer.relations.counting import SitePair
from gossamer.relations.gate_ablation import CheckedGates, GateCheck
from gossamer.relations.gates import Gate
from gossamer.relations.relation import Relation
from gossamer.results.document import Format


@dataclass(frozen=True)
class _Gates:
    """Gates by pair, in order."""

    pairs: tuple[tuple[SitePair, tuple[Gate, ...]], ...]


@dataclass(frozen=True)
class _Checked:
    pairs: tuple[CheckedGates, ...]


@dataclass(frozen=True)
class _Ablations:
    pairs: tuple[Ablations, ...]


_FORMAT: Format[_Gates] = Format("gossamer.gates", 1, _Gates, "gates")
_CHECKED: Format[_Checked] = Format("gossamer.gate_checks", 1, _Checked, "gates that were ablated")
_ABLATED: Format[_Ablations] = Format("gossamer.ablations", 1, _Ablations, "ablations")


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


def write_gate_checks(found: Mapping[SitePair, Sequence[GateCheck]], path: str | Path) -> Path:
    """Write the gates of some pairs with what ablating their inputs did, atomically. Returns the path."""
    return _CHECKED.save(path, _Checked(tuple(CheckedGates(*pair, tuple(checks)) for pair, checks in found.items())))


def read_gate_checks(path: str | Path) -> dict[SitePair, tuple[GateCheck, ...]]:
    """Read what :func:`write_gate_checks` wrote. Errors: those of :func:`read_gates`."""
    return {SitePair(one.upstream, one.downstream): one.checks for one in _CHECKED.load(path).pairs}


def write_ablations(found: Sequence[tuple[Relation, AblationCheck]], path: str | Path) -> Path:
    """Write what ablations of some relations' pairs did, atomically. Returns the path."""
    return _ABLATED.save(path, _Ablations(tuple(Ablations.of(relation, check) for relation, check in found)))


def read_ablations(path: str | Path, relations: Mapping[SitePair, Relation]) -> dict[SitePair, AblationCheck]:
    """Read what :func:`write_ablations` wrote of these relations.

    Raises:
        UsageError: no such file, another kind of file, or one of other relations.
        GossamerError: it is damaged.
    """
    found = {}
    for one in _ABLATED.load(path).pairs:
        pair = SitePair(one.upstream, one.downstream)
        if pair not in relations:
            raise UsageError(
                f"{path}: ablations of {', '.join(map(str, relations))} expected, found {pair}; ablate again"
            )
        found[pair] = one.check(relations[pair])
    return found
