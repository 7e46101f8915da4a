"""circuit-tracer's two scores: its own numbers on seeded graphs, sums over paths, and a graph with a cycle."""

import itertools

import pytest
import torch

from gossamer.circuits.evaluate.graph_scores import graph_scores
from gossamer.errors import GossamerError


def _graph(seed: int, layers: int, pos: int, features: int, logits: int) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(seed)
    ends = features + layers * pos
    n = ends + pos + logits

    def some(count: int, share: float) -> torch.Tensor:
        return torch.randn(count, generator=draw, dtype=torch.float64) * (torch.rand(count, generator=draw) < share)

    effects = torch.zeros(n, n, dtype=torch.float64)
    for row in range(features):
        effects[row, :row] = some(row, 0.4)
        effects[row, features : ends + pos] = some(ends + pos - features, 0.5)
    effects[n - logits :, : n - logits] = torch.randn(logits, n - logits, generator=draw, dtype=torch.float64)
    outputs = torch.zeros(n, dtype=torch.float64)
    weights = torch.rand(logits, generator=draw, dtype=torch.float64)
    outputs[n - logits :] = weights / weights.sum()
    kinds = torch.arange(n)
    return effects, (kinds >= features) & (kinds < ends), (kinds >= ends) & (kinds < ends + pos), outputs


@pytest.mark.parametrize(
    ("graph", "replacement", "completeness"),
    [
        # From compute_graph_scores of circuit-tracer at 4bb8c0e, in float64, on the same graphs.
        ((0, 2, 3, 6, 2), 0.27909086242674264, 0.7217347828855805),
        ((1, 3, 4, 12, 3), 0.22143020828605675, 0.6830728777239552),
        ((2, 1, 2, 1, 1), 0.6105869499366829, 0.8187254367654563),
    ],
)
def test_they_are_circuit_tracers_own(
    graph: tuple[int, int, int, int, int], replacement: float, completeness: float
) -> None:
    found = graph_scores(*_graph(*graph))
    assert (found.replacement, found.completeness) == pytest.approx((replacement, completeness), rel=1e-12)


def test_replacement_is_a_sum_over_paths() -> None:
    effects, errors, tokens, outputs = _graph(3, 1, 2, 4, 1)
    shares = effects.abs() / effects.abs().sum(dim=1, keepdim=True).clamp(min=1e-10)
    reached = {True: 0.0, False: 0.0}
    for end in torch.nonzero(errors | tokens).flatten().tolist():
        for length in range(5):
            for between in itertools.permutations(range(4), length):
                path = [len(effects) - 1, *between, end]
                product = 1.0
                for target, source in itertools.pairwise(path):
                    product *= float(shares[target, source])
                reached[bool(tokens[end])] += product
    assert graph_scores(effects, errors, tokens, outputs).replacement == pytest.approx(
        reached[True] / sum(reached.values())
    )


def test_a_graph_with_a_cycle_is_refused() -> None:
    effects, errors, tokens, outputs = _graph(0, 1, 1, 2, 1)
    effects[0, 1] = effects[1, 0] = effects[-1, 0] = 1.0
    with pytest.raises(GossamerError, match="no cycle expected"):
        graph_scores(effects, errors, tokens, outputs)
