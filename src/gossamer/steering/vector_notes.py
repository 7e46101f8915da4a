"""What is known of a sweep's vectors before anything is written with them, kept in its record."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from gossamer.display import plural, short_repr
from gossamer.results import Record
from gossamer.results.values import from_json, to_json
from gossamer.steering.decomposition import HeldOutFit
from gossamer.steering.effects import predicts

# Of a record's provenance.
_VECTORS = "vectors"


@dataclass(frozen=True)
class VectorNotes:
    """By method, what its vector rests on.

    Attributes:
        effects_explained: of methods that rest on a fit of effects, what that explains
            (:class:`gossamer.steering.effects.FeatureEffects`).
        fits: of each method's one direction on held-out texts.
        absent: methods that there are none of, with the reason.
    """

    effects_explained: Mapping[str, float] = field(default_factory=dict)
    fits: Mapping[str, HeldOutFit] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.fits), "direction")
        yield f"{len(self.absent)} absent"

    @property
    def warned(self) -> list[str]:
        """Methods whose fit of effects predicts nothing."""
        return [name for name, explained in self.effects_explained.items() if not predicts(explained)]

    def provenance(self) -> dict[str, Any]:
        """As a record keeps it."""
        return {_VECTORS: to_json(self, VectorNotes)}


def notes_of(record: Record[Any]) -> VectorNotes:
    """Of a sweep; empty where it keeps none."""
    found = record.provenance.get(_VECTORS)
    return VectorNotes() if found is None else from_json(found, VectorNotes)
