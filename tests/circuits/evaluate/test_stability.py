"""Overlap of circuits: matrices by hand, and the identities they must obey."""

import random

import pytest

from gossamer.circuits.circuit import Circuit, Node
from gossamer.circuits.evaluate.stability import containment, generic_latents, jaccard, overlap


def _keys(*latents: int) -> list[tuple[str, str, int]]:
    return [("resid_post.1", "END", latent) for latent in latents]


def test_overlap_by_hand() -> None:
    found = overlap("seed", ["0", "1", "2"], [_keys(1, 2, 3, 4), _keys(3, 4), _keys(9)])
    assert found.kind == "seed"
    assert found.labels == ("0", "1", "2")
    assert found.sizes == (4, 2, 1)
    assert found.jaccard == ((1.0, 0.5, 0.0), (0.5, 1.0, 0.0), (0.0, 0.0, 1.0))
    assert found.containment == ((1.0, 1.0, 0.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def test_the_role_and_the_site_tell_nodes_apart() -> None:
    one = [("resid_post.1", "END", 5)]
    assert jaccard(one, [("resid_post.1", "S", 5)]) == 0
    assert jaccard(one, [("z.1", "END", 5)]) == 0


def test_empty_circuits() -> None:
    assert jaccard([], []) == containment([], []) == 1
    assert jaccard([], [1]) == 0
    assert containment([], [1]) == 1


@pytest.mark.parametrize("seed", range(5))
def test_matrices_are_symmetric_and_jaccard_never_exceeds_containment(seed: int) -> None:
    draw = random.Random(seed)
    circuits = [_keys(*draw.sample(range(30), draw.randint(1, 20))) for _ in range(4)]
    found = overlap("split", list("abcd"), circuits)
    for row in range(4):
        assert found.jaccard[row][row] == found.containment[row][row] == 1
        for column in range(4):
            assert found.jaccard[row][column] == found.jaccard[column][row]
            assert found.containment[row][column] == found.containment[column][row]
            assert 0 <= found.jaccard[row][column] <= found.containment[row][column] <= 1
            both = len(set(circuits[row]) & set(circuits[column]))
            union = found.sizes[row] + found.sizes[column] - both
            assert found.jaccard[row][column] == pytest.approx(both / union)


def _circuit(task: str, model: str, *nodes: tuple[str, str, int]) -> Circuit:
    return Circuit(tuple(Node(*node) for node in nodes), model, task, ("resid_post.1",), ("S", "END"))


def test_generic_latents_are_shared_with_other_tasks_of_the_same_model_at_any_role() -> None:
    own = _circuit("ioi", "tiny", ("resid_post.1", "S", 3), ("resid_post.1", "END", 4))
    others = [
        _circuit("agreement", "tiny", ("resid_post.1", "END", 3)),
        _circuit("code", "tiny", ("resid_post.1", "END", 3), ("resid_post.1", "END", 8)),
        _circuit("code", "other model", ("resid_post.1", "END", 4)),
        _circuit("ioi", "tiny", ("resid_post.1", "END", 4)),
    ]
    assert generic_latents(own, others) == {("resid_post.1", 3): ("agreement", "code")}
    assert generic_latents(own, []) == {}
