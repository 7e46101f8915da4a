"""Pairs of a circuit's nodes that make a head attend, against differences of scores of a network run by hand."""

import pytest
import torch
from tiny_families import shared_model
from tiny_splice import ROLES, some_nodes, tiny_examples, tiny_splice
from torch import Tensor

from gossamer.attention.qk_edges import qk_edges
from gossamer.circuits.edge import Edge, HeadShare
from gossamer.circuits.edges import circuit_edges
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.errors import UsageError
from gossamer.features import Feature, Node
from gossamer.model.site import Site

LAYER, HEAD = 1, 1
FIRST = Site.parse("resid_post.0")


def carried(attends: str, attended: str, *, target: str | None = None) -> Edge:
    """An edge that the head brought from one role to another."""
    end = target or Node(Feature(Site.parse("resid_post.1"), 0), attends)
    return Edge(Node(Feature(FIRST, 0), attended), end, 1.0, 1.0, 0.25, (HeadShare(LAYER, HEAD, 0.75),))


def scores(splice: Splice, circuit: Nodes, mask: Tensor, scale: Tensor | None) -> tuple[Tensor, Tensor]:
    """The head's scores from the definition, the scale of the norm before attention as given, and that scale."""
    model, clean, site = splice.model, splice.examples.clean, FIRST
    dictionary, values = splice.dictionaries[site], splice.ablation.sites[site]
    groups, norm = clean.ablation_groups.clamp(min=0), Site("attn_norm_scale", LAYER)

    def spliced(x: Tensor) -> Tensor:
        grid = torch.zeros(len(ROLES), dictionary.n_latents, dtype=torch.float64)
        here = circuit.site == 0
        grid[circuit.role[here], circuit.latent[here]] = mask[here]
        ablated = values.latents[groups]
        latents = ablated + grid[clean.roles.clamp(min=0)] * (dictionary.encode_dense(x) - ablated)
        return torch.where(
            (clean.roles < 0)[..., None], x, dictionary.decode_normalised(latents) + values.error[groups]
        )

    edits = {site: spliced} | ({} if scale is None else {norm: lambda x: scale})
    with torch.no_grad(), model.edit(edits):
        found = model.capture(clean.tokens, [norm, Site("scores", LAYER)])
    return found[Site("scores", LAYER)][:, HEAD], found[norm]


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox parallel"])
def test_a_pair_is_what_both_nodes_add_to_the_score_together(name: str) -> None:
    splice = tiny_splice(shared_model(name, dtype=torch.float64), tiny_examples(), ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 24)
    found = qk_edges(splice, circuit, [carried("END", "A")], keep=1000)
    assert found
    assert {(one.layer, one.head, one.attends, one.attended) for one in found} == {(LAYER, HEAD, "END", "A")}
    # Only the nodes of a role are at its tokens, and nothing moves between tokens before this layer.
    assert {(one.query.role, one.key.role) for one in found} == {("END", "A")}
    keys, one = circuit.keys(), torch.ones(len(circuit), dtype=torch.float64)
    _, scale = scores(splice, circuit, one, None)
    roles = splice.examples.clean.roles
    pairs = (roles == ROLES.index("END"))[:, :, None] & (roles == ROLES.index("A"))[:, None, :]
    for pair in found[:6]:
        corners = []
        for query, key in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
            mask = one.clone()
            mask[keys.index(pair.query)], mask[keys.index(pair.key)] = query, key
            here, _ = scores(splice, circuit, mask, scale)
            corners.append(here[pairs].sum() / len(roles))
        expected = corners[0] - corners[1] - corners[2] + corners[3]
        assert pair.weight == pytest.approx(float(expected), rel=1e-4, abs=1e-7)


def test_the_largest_pairs_of_each_place_are_kept_and_the_metric_is_read_at_the_answer() -> None:
    splice = tiny_splice(shared_model("gpt2", dtype=torch.float64), tiny_examples(), ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 24)
    every = qk_edges(splice, circuit, [carried("END", "A")], keep=1000)
    sizes = [abs(one.weight) for one in every]
    assert sizes == sorted(sizes, reverse=True)
    assert qk_edges(splice, circuit, [carried("END", "A")] * 2, keep=3) == every[:3]
    # The answer is read at the tokens that have the role END.
    answer = qk_edges(splice, circuit, [carried("END", "A", target="logit_diff")], keep=1000)
    assert [one.weight for one in answer] == pytest.approx([one.weight for one in every])
    assert {one.attends for one in answer} == {"answer"}


def test_heads_of_measured_edges_are_looked_at() -> None:
    splice = tiny_splice(shared_model("gpt2", dtype=torch.float64), tiny_examples(), ("resid_post.0", "resid_post.1"))
    circuit = some_nodes(splice, 24)
    edges = circuit_edges(splice, circuit)
    places = {(e.heads[0].layer, e.heads[0].head) for e in edges if e.heads and abs(e.heads[0].weight) > abs(e.direct)}
    assert {(one.layer, one.head) for one in qk_edges(splice, circuit, edges)} <= places
    assert places
    # What stayed at its token for the most part asks about no head.
    stayed = Edge(edges[0].source, edges[0].target, 1.0, 1.0, 0.75, (HeadShare(LAYER, HEAD, 0.25),))
    assert qk_edges(splice, circuit, [stayed]) == ()


def test_no_pair_is_refused() -> None:
    splice = tiny_splice(shared_model("gpt2", dtype=torch.float64), tiny_examples(), ("resid_post.0", "resid_post.1"))
    with pytest.raises(UsageError, match="keep"):
        qk_edges(splice, some_nodes(splice, 4), [], keep=0)
