"""How far circuits agree that should: what repeated searches come to."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.display import listed, plural, short_repr
from gossamer.statistics import Interval, jackknife_of_pairs

# A node is of the core of a circuit if at least so many of the samples' circuits hold it.
CORE = 0.8
# Circuits that agree less than this on average are not one circuit (the bar of Meloux et al. 2025, arXiv 2510.00845).
STABLE = 0.8


@dataclass(frozen=True)
class Overlap:
    """Agreement of circuits that should agree: matrices over `labels` (row against column).

    Attributes:
        kind: what varies between them: "bootstrap" (samples of the training texts) or "split" (halves of the training
            prompts), searches that could have come out differently; "gradients": no searches but the first nodes by
            attribution patching on the same samples, the control of "bootstrap"; "family" (families of the prompts);
            or "size" (circuits of one search, each begun from the one before: they nest, which says little of its
            stability).
        sizes: nodes of each circuit.
        jaccard: |A and B| / |A or B|.
        containment: |A and B| / |smaller of the two|.
    """

    kind: str
    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    jaccard: tuple[tuple[float, ...], ...]
    containment: tuple[tuple[float, ...], ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.kind
        yield f"{plural(len(self.labels), 'circuit')} of {listed(self.sizes)} nodes"

    @property
    def agreement(self) -> Interval | None:
        """Mean Jaccard index over pairs of different circuits, with its jackknife interval; None for fewer than two."""
        found = jackknife_of_pairs(self.jaccard)
        return None if found is None else Interval(found.value, max(found.low, 0.0), min(found.high, 1.0))
