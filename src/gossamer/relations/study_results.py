"""What a study of relations found, as one record on disk that grows part by part."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from gossamer.display import listed, plural, short_repr
from gossamer.relations.causal import Ablations, RankAgreement
from gossamer.relations.community_facts import CommunityFacts
from gossamer.relations.gate_ablation import CheckedGates
from gossamer.relations.gates import Gate
from gossamer.relations.lifecycle import LifecycleCounts
from gossamer.relations.truth_tables import TruthTable
from gossamer.results import record_format

RESULTS = "study.json"
Words = tuple[str, ...]


@dataclass(frozen=True)
class StudiedDictionary:
    """One dictionary on the counted text.

    Attributes:
        name: of its site; `latents`: how many it has.
        active: mean number of active latents of a token, above the study's threshold.
        dead: latents that are never active; `rare`: that are, but at too few tokens to be judged.
        explained: variance that it explains, as its training reported; NaN where it did not.
    """

    name: str
    latents: int
    active: float
    dead: int
    rare: int
    explained: float


@dataclass(frozen=True)
class PairFacts:
    """What was counted of two dictionaries.

    Attributes:
        upstream, downstream: their names.
        kept: pairs of latents on disk; `together`: share of the pairs of judged latents that were ever active together.
        chance: by measure, what at most 1 % of the latents' best partners reach in shuffled documents.
        edges: by measure, from where on at most 5 % of all pairs are expected by chance.
    """

    upstream: str
    downstream: str
    kept: int
    together: float
    chance: Mapping[str, float]
    edges: Mapping[str, float]


@dataclass(frozen=True)
class Reappearance:
    """How many latents without a partner in the next dictionary have one in a later one.

    Attributes:
        upstream, skipped, downstream: names of the dictionaries, `skipped` the next one.
        measure, threshold: when two latents are the same feature.
        gone: latents without a partner in the next dictionary, whatever that one's error holds.
        back: of these, with a partner in `downstream`; `lost_back`: of the `lost` in the next one's error.
        chance: of the gone ones, with a partner there in shuffled documents.
    """

    upstream: str
    skipped: str
    downstream: str
    measure: str
    threshold: float
    gone: int
    back: int
    lost: int
    lost_back: int
    chance: int


@dataclass(frozen=True)
class ErrorFacts:
    """What the next dictionary's error holds of a dictionary's latents, where they are well active.

    Attributes:
        upstream, downstream: names of the dictionaries.
        activation: mean over latents of the length that a latent writes; `projection`: of the error along it.
        median: of projection over activation, over all latents that are active there.
        median_gone: the same over latents that are gone at the study's threshold; NaN where none is.
        near_one: share of the latents whose projection over activation is from 0.9 to 1.1.
    """

    upstream: str
    downstream: str
    activation: float
    projection: float
    median: float
    median_gone: float
    near_one: float


@dataclass(frozen=True)
class FoundGate:
    """A gate, and what it does on text on which it was not chosen.

    Attributes:
        upstream, downstream: names of the dictionaries of its inputs and its output.
        gate: what was found, with its truth table.
        held_out: its truth table on the held-out text; `precision`, `recall`: there, NaN where nothing tells them.
        words: what each input fires on, and at the end the output.
    """

    upstream: str
    downstream: str
    gate: Gate
    held_out: TruthTable
    precision: float
    recall: float
    words: tuple[Words, ...]


@dataclass(frozen=True)
class GateCount:
    """A search for gates between two dictionaries.

    Attributes:
        upstream, downstream: of inputs and outputs; for splits, inputs are in the later dictionary.
        candidates: that were counted; `found`: by kind; `by_chance`: with a gate's table in shuffled documents.
        one_sided: outputs with exactly two upstream latents of necessity (AND) and of sufficiency (OR) of at least
            0.999: what the published criterion would say.
    """

    upstream: str
    downstream: str
    candidates: int
    found: Mapping[str, int]
    by_chance: int
    one_sided: Mapping[str, int]


@dataclass(frozen=True)
class RelationsPart:
    """What one part of the study found: its name, and the fields that it fills."""

    name: str
    dictionaries: tuple[StudiedDictionary, ...] = ()
    pairs: tuple[PairFacts, ...] = ()
    lifecycle: tuple[LifecycleCounts, ...] = ()
    reappeared: tuple[Reappearance, ...] = ()
    errors: tuple[ErrorFacts, ...] = ()
    searches: tuple[GateCount, ...] = ()
    gates: tuple[FoundGate, ...] = ()
    communities: tuple[CommunityFacts, ...] = ()
    ablations: tuple[Ablations, ...] = ()
    agreement: tuple[RankAgreement, ...] = ()
    checked: tuple[CheckedGates, ...] = ()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class RelationStudy:
    """The study of one model and its dictionaries.

    Attributes:
        settings: everything that the numbers depend on.
        parts: those that are done, by name.
        provenance: versions, and tokens of the text and of the held-out text.
    """

    settings: Mapping[str, Any]
    parts: Mapping[str, RelationsPart] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self.settings.get("model"))
        yield plural(len(self.parts), "part") + f": {listed(self.parts, 12)}"

    @property
    def found(self) -> RelationsPart:
        """The rows of all parts together."""
        names = [one.name for one in fields(RelationsPart) if one.name != "name"]
        joined = {name: tuple(row for part in self.parts.values() for row in getattr(part, name)) for name in names}
        return RelationsPart("all", **joined)

    @classmethod
    def load(cls, folder: str | Path) -> "RelationStudy":
        """The study in a folder, complete or not.

        Raises:
            UsageError: there is none.
            GossamerError: it is damaged.
        """
        record = FORMAT.load(Path(folder) / RESULTS)
        return cls(record.settings, {part.name: part for part in record.rows}, record.provenance)


FORMAT = record_format("gossamer.relation_study", 1, RelationsPart, "a study of relations")
