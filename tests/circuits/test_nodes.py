"""Sets of nodes: selection, per-site views, keys and look-up."""

import random

import pytest
import torch

from gossamer.circuits.nodes import Nodes
from gossamer.features import Feature, Node
from gossamer.model.site import Site

SITES = (Site.parse("resid_post.0"), Site.parse("z.1"), Site.parse("resid_post.1"))
ROLES = ("S", "IO", "END")


@pytest.fixture
def grids() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, width, generator=generator) < 0.4 for width in (5, 7, 4)]


@pytest.fixture
def nodes(grids: list[torch.Tensor]) -> Nodes:
    return Nodes.from_grids(SITES, ROLES, grids)


def test_from_grids_has_one_node_for_each_true_entry(nodes: Nodes, grids: list[torch.Tensor]) -> None:
    expected = {
        Node(Feature(site, latent), ROLES[role])
        for site, grid in zip(SITES, grids, strict=True)
        for role in range(3)
        for latent in range(grid.shape[1])
        if grid[role, latent]
    }
    assert len(nodes) == len(expected) == sum(int(grid.sum()) for grid in grids)
    assert set(nodes.keys()) == expected
    assert nodes.unique_latents() == len({node.feature for node in expected})


def test_keys_are_distinct_and_find_their_positions(nodes: Nodes) -> None:
    keys = nodes.keys()
    assert len(set(keys)) == len(nodes)
    order = list(range(len(nodes)))
    random.Random(0).shuffle(order)
    assert nodes.find([keys[position] for position in order]).tolist() == order


def test_find_leaves_out_what_is_not_there(nodes: Nodes) -> None:
    absent = [Node.parse(name) for name in ("resid_post.0/99@S", "resid_post.7/0@S", "z.1/0@BOS", "z.1/0")]
    assert nodes.find(absent).tolist() == []
    assert nodes.find([absent[0], nodes.keys()[3]]).tolist() == [3]


def test_select_by_boolean_and_by_position_agree(nodes: Nodes) -> None:
    chosen = torch.tensor([4, 1, 6])
    boolean = torch.zeros(len(nodes), dtype=torch.bool).index_fill(0, chosen, True)
    assert nodes.select(chosen).keys() == [nodes.keys()[i] for i in (4, 1, 6)]
    assert set(nodes.select(boolean).keys()) == set(nodes.select(chosen).keys())
    assert nodes.select(chosen).sites == SITES
    assert len(nodes.none()) == 0
    assert nodes.none().keys() == []


def test_at_gives_sorted_columns_that_rebuild_the_nodes(nodes: Nodes) -> None:
    keys, seen = nodes.keys(), []
    for index, site in enumerate(SITES):
        here = nodes.at(index)
        assert here.columns.tolist() == sorted(set(here.columns.tolist()))
        for where, role, column in zip(here.where.tolist(), here.role.tolist(), here.column.tolist(), strict=True):
            assert str(keys[where]) == f"{site}/{int(here.columns[column])}@{ROLES[role]}"
            seen.append(where)
    assert sorted(seen) == list(range(len(nodes)))


def test_at_of_a_site_without_nodes_is_empty(nodes: Nodes) -> None:
    only_first = nodes.select(nodes.site == 0)
    here = only_first.at(2)
    assert len(here.columns) == len(here.where) == len(here.role) == len(here.column) == 0


def test_a_latent_kept_at_two_roles_is_two_nodes_and_one_column() -> None:
    grid = torch.zeros(3, 10, dtype=torch.bool)
    grid[0, 8] = grid[2, 8] = True
    nodes = Nodes.from_grids(SITES[:1], ROLES, [grid])
    assert len(nodes) == 2
    assert nodes.unique_latents() == 1
    assert nodes.at(0).columns.tolist() == [8]
    assert nodes.at(0).column.tolist() == [0, 0]
