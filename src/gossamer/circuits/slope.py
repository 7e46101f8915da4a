"""How a circuit's loss changes with each node, and how sure that is: which nodes may leave, which should come."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.display import short_repr


@dataclass(frozen=True, eq=False)
class Slope:
    """Derivative of a circuit's mean loss by every node's mask.

    A latent that fires on one name alone has a large derivative on few prompts: its mean may be as large as that of one
    that all prompts need, its error is larger.

    Attributes:
        mean: over the prompts.
        error: standard error of that mean, over groups of prompts; 0 where there is one group.
    """

    mean: Float[Tensor, "node"]
    error: Float[Tensor, "node"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{len(self.mean)} nodes"

    @classmethod
    def of_groups(cls, sums: Float[Tensor, "group node"], sizes: Sequence[int]) -> "Slope":
        """From the derivatives of the summed losses of groups of so many prompts each."""
        mean, groups = sums.sum(dim=0) / sum(sizes), len(sizes)
        if groups == 1:
            return cls(mean, torch.zeros_like(mean))
        off = sums - mean * torch.tensor(sizes, device=sums.device).unsqueeze(1)
        return cls(mean, off.norm(dim=0) / sum(sizes) * (groups / (groups - 1)) ** 0.5)

    @property
    def at_most(self) -> Float[Tensor, "node"]:
        """One standard error above the mean: a node surely helps where this is negative."""
        return self.mean + self.error

    def leaving(self, circuit: Int[Tensor, "chosen"]) -> Int[Tensor, "chosen"]:
        """The circuit's nodes, those that matter least, one standard error above what they seem to, first.

        Before all others go those without which the loss is no higher, and of these too the ones that matter least:
        what hurts most does so by the names of the prompts, and circuits without it keep little of others.
        """
        matters, helps = (self.mean.abs() + self.error)[circuit], self.mean[circuit] < 0
        return circuit[torch.argsort(matters + helps * matters.max(), stable=True)]

    def coming(self, circuit: Int[Tensor, "chosen"]) -> Int[Tensor, "others"]:
        """All other nodes, those that surely help most first."""
        order = torch.argsort(self.at_most.index_fill(0, circuit, torch.inf), stable=True)
        return order[: len(self.mean) - len(circuit)]

    def sure(self, nodes: Int[Tensor, "some"]) -> int:
        """How many of these surely help."""
        return int((self.at_most[nodes] < 0).sum())
