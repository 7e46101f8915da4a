"""How much of what reaches the outputs of an attribution graph passes through features: circuit-tracer's two scores.

A graph has features, errors, tokens and outputs; an entry of its matrix is the direct effect of one node (column) on
another (row). Influence is what the outputs' probabilities become on the way back along all paths, when what enters
each node is taken in absolute size and made to sum to one. Definitions: Ameisen et al. 2025 ("Circuit tracing"), as
circuit-tracer's `compute_graph_scores` has them; the two numbers equal its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.display import short_repr
from gossamer.errors import GossamerError

# What enters a node below this counts as nothing, as circuit-tracer has it.
_LEAST = 1e-10


@dataclass(frozen=True)
class GraphScores:
    """Both from 0 to 1; NaN where nothing reaches the outputs.

    Attributes:
        replacement: of the influence of tokens and errors on the outputs, the tokens' share: what comes from an error
            is explained by no feature.
        completeness: of what enters the nodes, weighted by their influence, the share that comes from no error.
    """

    replacement: float
    completeness: float

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"replacement {self.replacement:.3g}, completeness {self.completeness:.3g}"


def graph_scores(
    effects: Float[Tensor, "node node"],
    errors: Bool[Tensor, "node"],
    tokens: Bool[Tensor, "node"],
    outputs: Float[Tensor, "node"],
) -> GraphScores:
    """The two scores of a graph without cycles.

    Args:
        effects: row: the node that is changed, column: the node that changes it; of any sign.
        errors: which nodes are reconstruction errors.
        tokens: which are embeddings of tokens.
        outputs: weight of each node as an output (circuit-tracer: the probability of its token); 0 elsewhere.

    Cost: one product of a vector and the matrix for each step of the longest path. Memory: a second matrix.

    Raises:
        GossamerError: the graph has a cycle.
    """
    sizes = effects.abs().double()
    shares = sizes / sizes.sum(dim=1, keepdim=True).clamp(min=_LEAST)
    weights = outputs.double()
    influence = _influence(shares, weights)
    of_errors, of_tokens = influence[errors].sum(), influence[tokens].sum()
    reached = influence + weights
    complete = ((1 - shares[:, errors].sum(dim=1)) * reached).sum() / reached.sum()
    return GraphScores((of_tokens / (of_tokens + of_errors)).item(), complete.item())


def _influence(shares: Float[Tensor, "node node"], weights: Float[Tensor, "node"]) -> Float[Tensor, "node"]:
    """Sum over all paths from each node to the outputs of the products of their shares."""
    passed = weights @ shares
    total = passed.clone()
    for _ in range(len(shares)):
        if not bool(passed.any()):
            return total
        passed = passed @ shares
        total += passed
    raise GossamerError(f"attribution graph of {len(shares)} nodes: no cycle expected, found one; check its edges")
