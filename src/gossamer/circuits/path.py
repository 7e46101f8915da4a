"""A family of circuits of falling size: what every method returns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.circuits.nodes import Nodes
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError

SIZES = (500, 350, 250, 180, 130, 100, 75, 55, 40, 30, 20, 15, 10, 7, 5)
# How the sizes of a ranking go on above the largest wanted, up to all of its nodes.
_GROWTH = 1.4


@dataclass(frozen=True)
class CircuitPath:
    """Circuits of one method over the same nodes.

    Attributes:
        method: its name.
        nodes: what the circuits choose from.
        circuits: positions in `nodes`, by falling size.
        seconds: wall-clock time to find all of them.
        scores: one score a node, where the method has one.
        settings: what the method was run with.

    Raises:
        UsageError: a circuit that is larger than the one before it.
    """

    method: str
    nodes: Nodes
    circuits: tuple[Int[Tensor, "_"], ...]
    seconds: float
    scores: Float[Tensor, "node"] | None = None
    settings: dict[str, str] = field(default_factory=dict)

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.method
        if self.circuits:
            yield f"{plural(len(self.circuits), 'circuit')} of {self.sizes[0]} to {self.sizes[-1]} nodes"
        yield f"of {plural(len(self.nodes), 'candidate')}"
        yield f"{self.seconds:.3g} s"

    def __post_init__(self) -> None:
        if self.sizes != sorted(self.sizes, reverse=True):
            raise UsageError(f"{self.method} path: circuits by falling size expected, found sizes {self.sizes}")

    @classmethod
    def from_order(
        cls,
        method: str,
        nodes: Nodes,
        order: Int[Tensor, "node"],
        sizes: Sequence[int],
        seconds: float,
        scores: Float[Tensor, "node"] | None = None,
    ) -> "CircuitPath":
        """Prefixes of a ranking as circuits of the given sizes (those that the ranking is long enough for)."""
        fitting = sorted({size for size in sizes if size <= len(order)}, reverse=True)
        return cls(method, nodes, tuple(order[:size] for size in fitting), seconds, scores)

    @staticmethod
    def ranking_sizes(sizes: Sequence[int], n_nodes: int) -> list[int]:
        """`sizes`, and larger ones up to all of `n_nodes`: a ranking costs nothing more for a larger circuit."""
        every = [*sizes, n_nodes]
        larger = _GROWTH * max(sizes, default=1)
        while larger < n_nodes:
            every.append(round(larger))
            larger *= _GROWTH
        return every

    @property
    def sizes(self) -> list[int]:
        """Achieved sizes, falling."""
        return [len(circuit) for circuit in self.circuits]

    def mask(self, circuit: Int[Tensor, "chosen"]) -> Float[Tensor, "node"]:
        """The hard mask of one of the circuits."""
        return torch.zeros(len(self.nodes), device=circuit.device).index_fill(0, circuit, 1.0)

    def of_size(self, size: int) -> Int[Tensor, "chosen"]:
        """The largest circuit of at most `size` nodes.

        Raises:
            UsageError: every circuit is larger.
        """
        for circuit in self.circuits:
            if len(circuit) <= size:
                return circuit
        raise UsageError(f"no circuit of at most {size} nodes on the {self.method} path; its sizes are {self.sizes}")

    def through(self, circuit: Int[Tensor, "chosen"]) -> "CircuitPath":
        """The path with this circuit at its size, in place of its own of that size if it has one."""
        others = [own for own in self.circuits if len(own) != len(circuit)]
        return replace(self, circuits=tuple(sorted([*others, circuit], key=len, reverse=True)))
