"""Paths: prefixes of a ranking, masks, and the choice by size."""

import pytest
import torch
from circuit_lab import ROLES, sites_of

from gossamer.circuits.nodes import Nodes
from gossamer.circuits.path import CircuitPath
from gossamer.errors import UsageError


@pytest.fixture
def nodes() -> Nodes:
    return Nodes.from_grids(sites_of("resid_post.0"), ROLES, [torch.ones(5, 3, dtype=torch.bool)])


def test_circuits_of_a_ranking_are_its_prefixes_by_falling_size(nodes: Nodes) -> None:
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    path = CircuitPath.from_order("chance", nodes, order, (4, 15, 1, 99, 4), 2.0)
    assert path.sizes == [15, 4, 1]
    assert [circuit.tolist() for circuit in path.circuits] == [order[:size].tolist() for size in (15, 4, 1)]
    assert (path.method, path.seconds) == ("chance", 2.0)


def test_a_mask_is_one_at_the_circuit(nodes: Nodes) -> None:
    path = CircuitPath.from_order("chance", nodes, torch.arange(14, -1, -1), (3,), 0.0)
    assert path.mask(path.circuits[0]).tolist() == [0.0] * 12 + [1.0] * 3


def test_of_size_is_the_largest_that_fits(nodes: Nodes) -> None:
    path = CircuitPath.from_order("chance", nodes, torch.arange(15), (10, 6, 2), 0.0)
    assert [len(path.of_size(size)) for size in (99, 10, 9, 6, 5, 2)] == [10, 10, 6, 6, 2, 2]
    with pytest.raises(UsageError, match=r"at most 1 nodes on the chance path; its sizes are \[10, 6, 2\]"):
        path.of_size(1)


def test_a_circuit_stands_at_its_size(nodes: Nodes) -> None:
    path = CircuitPath.from_order("chance", nodes, torch.arange(15), (10, 6, 2), 0.0)
    other = torch.arange(14, 8, -1)
    assert [one.tolist() for one in path.through(other).circuits[1:]] == [other.tolist(), [0, 1]]
    assert path.through(other[:3]).sizes == [10, 6, 3, 2]
    assert path.sizes == [10, 6, 2]


def test_sizes_must_fall(nodes: Nodes) -> None:
    circuits = [torch.arange(size) for size in (4, 6, 2)]
    with pytest.raises(UsageError, match=r"chance path: circuits by falling size expected, found sizes \[4, 6, 2\]"):
        CircuitPath("chance", nodes, tuple(circuits), 0.0)
    assert CircuitPath("chance", nodes, tuple(circuits[i] for i in (1, 1, 0, 2)), 0.0).sizes == [6, 6, 4, 2]


def test_a_ranking_goes_on_to_all_nodes() -> None:
    assert CircuitPath.ranking_sizes((10, 5), 40) == [10, 5, 40, 14, 20, 27, 38]
    assert CircuitPath.ranking_sizes((10, 5), 10) == [10, 5, 10]
    assert max(CircuitPath.ranking_sizes((), 7)) == 7
