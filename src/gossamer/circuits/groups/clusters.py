"""Nodes merged by similarity, or by what one number a group cannot say, from every node alone to one group a kind."""

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
    """A tree of merges: any number of groups between kinds and nodes.

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
    """Merge nodes of one kind (of one site), the most similar first; `kind` is a number for each node.

    Average linkage (Sokal and Michener 1958).
    """
    from scipy.cluster.hierarchy import linkage

    nodes = len(similar)
    if nodes < 2:
        return Merges(nodes, nodes, np.zeros((0, 4)))
    distance = torch.where(kind[:, None] == kind[None, :], 1 - similar, _APART)
    upper = torch.triu_indices(nodes, nodes, offset=1)
    # Rounding leaves cosines a little above 1.
    found = linkage(distance[upper[0], upper[1]].clamp(min=0).numpy(), method="average")
    return Merges(nodes, len(torch.unique(kind)), found)


def merges_by_loss(weighted: Float[Tensor, "prompt node"], kind: Int[Tensor, "node"]) -> Merges:
    """Merge nodes of one kind so that what one number a group cannot say grows least.

    Of a group whose columns of `weighted` are X that is the sum of all squared singular values of X but the largest:
    the squared error of the best X of rank one. As Ward 1963 does with variances, each merge is the pair that adds
    least. A node that hardly moves what counts costs next to nothing wherever it is put.
    Cost: nodes squared plus, for each merge, an eigenvalue problem of as many rows as prompts for each other group.
    """
    x = weighted.double().cpu().numpy().T
    nodes, kinds = len(x), kind.cpu().numpy()
    gram = x[:, :, None] * x[:, None, :]  # (node, prompt, prompt); of a group it is the sum over its nodes
    total, lost = np.einsum("npp->n", gram), np.zeros(nodes)
    rise = np.full((nodes, nodes), np.inf)
    left, names, sizes = list(range(nodes)), list(range(nodes)), [1] * nodes

    def measure(one: int) -> None:
        """The rise of every merge with group `one`."""
        others = [other for other in left if other != one and kinds[other] == kinds[one]]
        if others:
            largest = np.linalg.eigvalsh(gram[one] + gram[others])[:, -1]
            rise[one, others] = total[one] + total[others] - largest - lost[one] - lost[others]
            rise[others, one] = rise[one, others]

    for one in left:
        measure(one)
    rows: list[list[float]] = []
    while len(left) > 1:
        one, other = divmod(int(np.argmin(rise)), nodes)
        apart = not np.isfinite(rise[one, other])
        one, other = left[:2] if apart else sorted((one, other))
        lost[one] += lost[other] + (0.0 if apart else float(rise[one, other]))
        gram[one] += gram[other]
        total[one] += total[other]
        # In place of a height, which rounding would put out of order where nothing is lost, the order itself.
        rows.append([names[one], names[other], len(rows) + 1.0, sizes[one] + sizes[other]])
        names[one], sizes[one] = nodes + len(rows) - 1, sizes[one] + sizes[other]
        left.remove(other)
        rise[other], rise[:, other] = np.inf, np.inf
        if not apart:
            measure(one)
    return Merges(nodes, len(np.unique(kinds)), np.array(rows).reshape(-1, 4))
