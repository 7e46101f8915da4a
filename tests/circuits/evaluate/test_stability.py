"""Overlap of circuits: matrices by hand, and the identities they must obey."""

import random

import pytest
from circuit_lab import node_at, sites_of

from gossamer.circuits.circuit import Circuit, CircuitNode
from gossamer.circuits.evaluate.stability import containment, generic_latents, jaccard, overlap
from gossamer.features import Feature, Node


def _keys(*latents: int) -> list[Node]:
    return [node_at("resid_post.1", "END", latent) for latent in latents]


def test_overlap_by_hand() -> None:
    found = overlap("bootstrap", ["0", "1", "2"], [_keys(1, 2, 3, 4), _keys(3, 4), _keys(9)])
    assert found.kind == "bootstrap"
    assert found.labels == ("0", "1", "2")
    assert found.sizes == (4, 2, 1)
    assert found.jaccard == ((1.0, 0.5, 0.0), (0.5, 1.0, 0.0), (0.0, 0.0, 1.0))
    assert found.containment == ((1.0, 1.0, 0.0), (1.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def test_the_role_and_the_site_tell_nodes_apart() -> None:
    one = [node_at("resid_post.1", "END", 5)]
    assert jaccard(one, [node_at("resid_post.1", "S", 5)]) == 0
    assert jaccard(one, [node_at("z.1", "END", 5)]) == 0


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


def _circuit(task: str, checksums: dict[str, str | None], *nodes: tuple[str, str, int]) -> Circuit:
    dictionaries = {site: {"source": "somewhere", "sha256": checksum} for site, checksum in checksums.items()}
    axes = (sites_of("resid_post.1", "resid_post.2"), ("S", "END"))
    provenance = {"dictionaries": dictionaries}
    return Circuit(tuple(CircuitNode(node_at(*one)) for one in nodes), "tiny", task, *axes, provenance=provenance)


OWN = {"resid_post.1": "aa", "resid_post.2": "bb"}


def test_generic_latents_are_shared_with_other_tasks_of_the_same_dictionaries_at_any_role() -> None:
    own = _circuit("ioi", OWN, ("resid_post.1", "S", 3), ("resid_post.1", "END", 4), ("resid_post.2", "S", 3))
    others = [
        _circuit("agreement", OWN, ("resid_post.1", "END", 3)),
        _circuit("code", OWN, ("resid_post.1", "END", 3), ("resid_post.1", "END", 8)),
        _circuit("ioi", OWN, ("resid_post.1", "END", 4)),
        # Retrained at one site: its numbers there mean other latents.
        _circuit("half", {**OWN, "resid_post.1": "cc"}, ("resid_post.1", "END", 4), ("resid_post.2", "END", 3)),
    ]
    assert generic_latents(own, others) == {
        Feature.parse("resid_post.1/3"): ("agreement", "code"),
        Feature.parse("resid_post.2/3"): ("half",),
    }
    assert generic_latents(own, []) == {}


@pytest.mark.parametrize("checksums", [{}, {"resid_post.1": None}, {"resid_post.1": "cc", "resid_post.2": "aa"}])
def test_a_circuit_of_other_dictionaries_flags_nothing_and_is_warned_of(checksums: dict[str, str | None]) -> None:
    own = _circuit("ioi", OWN, ("resid_post.1", "S", 3), ("resid_post.2", "S", 3))
    other = _circuit("agreement", checksums, ("resid_post.1", "END", 3), ("resid_post.2", "END", 3))
    with pytest.warns(UserWarning, match="circuit of agreement on tiny: no dictionary in common with that of ioi"):
        assert generic_latents(own, [other]) == {}
    unknown = _circuit("ioi", {"resid_post.1": None}, ("resid_post.1", "S", 3))
    with pytest.warns(UserWarning, match="differ or are missing"):
        assert generic_latents(unknown, [_circuit("agreement", {"resid_post.1": None}, ("resid_post.1", "S", 3))]) == {}
