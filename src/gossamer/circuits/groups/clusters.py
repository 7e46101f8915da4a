"""Nodes merged by similarity, from every node alone to one group a kind."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from gossamer.display import short_repr
from gossamer.errors import UsageError

# Larger than any distance between nodes of one kind: kinds are never merged.
_APART = 4.0


@dataclass(frozen=True, eq=False)
class Merges:
    """Average linkage of nodes (Sokal and Michener 1958): any number of groups between kinds and nodes.

    Attributes:
        nodes, fewest: the largest and the smallest number of groups there is: each node alone, each kind one.
        linkage: as SciPy has it.
    """

    nodes: int
    fewest: int
    linkage: NDArray[np.float64]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.fewest} to {self.nodes} groups"

    def cut(self, groups: int) -> Int[Tensor, "node"]:
        """Number of each node's group, from 0 by first appearance, when there are so many.

        Raises:
            UsageError: fewer groups than kinds, or more than nodes.
        """
        from scipy.cluster.hierarchy import cut_tree  # type: ignore[import-untyped]

        if not self.fewest <= groups <= self.nodes:
            raise UsageError(f"groups: {self.fewest} to {self.nodes} expected, found {groups}")
        if groups == self.nodes:
            return torch.arange(self.nodes)
        labels = cut_tree(self.linkage, n_clusters=groups).reshape(-1)
        _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
        return torch.from_numpy(np.argsort(np.argsort(first))[inverse].astype(np.int64))


def merges(similar: Float[Tensor, "node node"], kind: Int[Tensor, "node"]) -> Merges:
    """Merge nodes of one kind (of one site), the most similar first; `kind` is a number for each node."""
    from scipy.cluster.hierarchy import linkage

    nodes = len(similar)
    if nodes < 2:
        return Merges(nodes, nodes, np.zeros((0, 4)))
    distance = torch.where(kind[:, None] == kind[None, :], 1 - similar, _APART)
    upper = torch.triu_indices(nodes, nodes, offset=1)
    # Rounding leaves cosines a little above 1.
    found = linkage(distance[upper[0], upper[1]].clamp(min=0).numpy(), method="average")
    return Merges(nodes, len(torch.unique(kind)), found)
