"""Traces: every node is its biases, its children and what is not shown; prompts add up by role."""

from collections import defaultdict

import pytest
import torch
from random_dictionaries import random_dictionary
from tiny_families import random_tokens, shared_model

from gossamer.attention import FrozenPass, TraceTree, check_trace, latent_root, logit_root, trace
from gossamer.attention.upstream import upstream
from gossamer.errors import UsageError
from gossamer.features import Feature
from gossamer.model import Site


def frozen_of(name, sites, tokens, outs=(), n=60):
    model, text = shared_model(name, dtype=torch.float64), random_tokens()
    dictionaries = [random_dictionary(model, text, site, seed=number, n=n) for number, site in enumerate(sites)]
    dictionaries += [random_dictionary(model, text, site, site_out=out, skip=True, n=n) for site, out in outs]
    return FrozenPass.of(model, dictionaries, tokens)


@pytest.fixture(scope="module")
def frozen():
    """Few latents and tokens: a whole tree has a node for every path."""
    tokens = random_tokens(1).cut(3)
    return frozen_of("gpt2", ["z.0", "z.2"], tokens, [("mlp_in.1", "mlp_out.1")], n=12)


def ends(frozen):
    batch = len(frozen.tokens)
    ids = torch.arange(5, 5 + batch), torch.arange(20, 20 + batch)
    return (*ids, torch.full((batch,), frozen.tokens.ids.shape[1] - 1))


def test_a_logit_difference_is_taken_apart(frozen):
    root = logit_root(frozen, *ends(frozen))
    with torch.no_grad():
        logits = frozen.model.logits(frozen.tokens)[0, -1]
    assert root.value == pytest.approx(float(logits[5] - logits[20]), abs=1e-9)
    found = trace(frozen, root, nodes=100_000)
    assert 50 < len(found.nodes) < 3000
    for number, node in enumerate(found.nodes):
        children = [found.nodes[child] for child in found.children(number)]
        if not node.expanded:
            assert children == []
            assert node.source.kind in ("token", "position", "mlp", "error")
            continue
        assert sum(child.contribution for child in children) + node.bias == pytest.approx(node.contribution, abs=1e-9)
        assert node.remainder == pytest.approx(0, abs=1e-9)
        if abs(node.contribution) > 1e-6:
            assert sum(child.share for child in children) == pytest.approx(1 - node.bias / node.contribution, abs=1e-6)
    # Heads are told where attention lies between, and only there.
    for node in found.nodes:
        if node.heads:
            assert sum(node.heads) == pytest.approx(node.contribution, abs=1e-9)
            assert found.nodes[node.parent].source.site.kind in ("z", "attn_out")


def test_a_small_tree_has_the_largest_contributions_and_says_what_it_leaves_out(frozen):
    root = logit_root(frozen, *ends(frozen))
    small, large = (trace(frozen, root, nodes=nodes) for nodes in (12, 40))
    assert [node.source for node in small.nodes] == [node.source for node in large.nodes[:12]]
    for number, node in enumerate(small.nodes):
        shown = sum(small.nodes[child].contribution for child in small.children(number))
        if node.expanded:
            assert shown + node.bias + node.remainder == pytest.approx(node.contribution, abs=1e-9)
    assert small.path(11)[0] == 0
    assert small.path(11)[-1] == 11
    assert len(trace(frozen, root, nodes=40, least=0.2).nodes) < 40


def test_a_latent_is_taken_apart(frozen):
    latents = frozen.codes_at("z.2").active(0, 2)
    feature = Feature(Site("z", 2), next(iter(latents)))
    found = trace(frozen, latent_root(frozen, feature, -1), nodes=100_000)
    assert found.nodes[0].contribution == pytest.approx(latents[feature.latent], abs=1e-9)
    assert found.nodes[0].remainder == pytest.approx(0, abs=1e-9)
    assert str(found.nodes[1].source).partition("@")[2].isdecimal()


def test_over_a_task_contributions_are_means_by_role():
    tokens = random_tokens(3)
    whole = frozen_of("gpt2", ["z.0", "resid_post.1"], tokens, n=20)
    roles = torch.full(tokens.ids.shape, -1)
    roles[:, 2:5], roles[:, 8] = 0, 1
    found = trace(whole, logit_root(whole, *ends(whole)), nodes=60, roles=roles, role_names=["A", "END"])
    assert {node.source.place for node in found.nodes[1:]} <= {"A", "END", "no role"}
    # The first hop of each prompt alone, its terms added up by hand.
    places = {2: "A", 3: "A", 4: "A", 8: "END"}
    expected, total = defaultdict(float), 0.0
    for row in range(3):
        one = frozen_of("gpt2", ["z.0", "resid_post.1"], tokens[row : row + 1], n=20)
        root = logit_root(one, *(values[row : row + 1] for values in ends(whole)))
        total += root.value / 3
        for terms in upstream(one, root.site, root.cotangent):
            for entry, value in enumerate(terms.values.sum(dim=1).tolist()):
                latent = None if terms.latents is None else int(terms.latents[entry])
                place = places.get(int(terms.tokens[entry]), "no role")
                expected[(terms.kind, terms.site, latent, place)] += value / 3
    assert found.nodes[0].contribution == pytest.approx(total)
    children = [found.nodes[number] for number in found.children(0)]
    assert len(children) > 5
    for node in children:
        assert node.contribution == pytest.approx(expected[tuple(node.source)], abs=1e-9)


def test_a_tree_is_grown_by_hand(frozen):
    root = logit_root(frozen, *ends(frozen))
    whole, tree = trace(frozen, root, nodes=100_000), TraceTree(frozen, root)
    assert not tree.trace.nodes[0].expanded
    first = tree.expand(0, most=4)
    assert first == [1, 2, 3, 4]
    largest = [whole.nodes[number] for number in whole.children(0)[:5]]
    assert [node.source for node in tree.trace.nodes[1:]] == [node.source for node in largest[:4]]
    # The next call goes on with what is not shown.
    assert [tree.trace.nodes[number].source for number in tree.expand(0, most=1)] == [largest[4].source]
    inner = next(number for number in first if tree.trace.nodes[number].source.kind in ("latent", "attention"))
    (child,) = tree.expand(inner, most=1)
    found = tree.trace
    assert found.path(child) == [0, inner, child]
    for number in (0, inner):
        node = found.nodes[number]
        shown = sum(found.nodes[one].contribution for one in found.children(number))
        assert shown + node.bias + node.remainder == pytest.approx(node.contribution, abs=1e-9)
    # By itself it goes on with the largest that are missing, and ends where a tree grown at once does.
    grown = tree.grow(nodes=100_000)
    assert grown.nodes[: len(found.nodes)] != found.nodes
    assert [node.source for node in grown.nodes[: len(found.nodes)]] == [node.source for node in found.nodes]
    assert len(grown.nodes) == len(whole.nodes)
    assert sum(node.contribution for node in grown.nodes) == pytest.approx(
        sum(node.contribution for node in whole.nodes), abs=1e-8
    )
    leaf = next(number for number, node in enumerate(grown.nodes) if node.source.kind == "token")
    with pytest.raises(UsageError, match=r"token embed@\d+ ends a path; expand a latent or an attention layer"):
        tree.expand(leaf)
    with pytest.raises(UsageError, match=r"a node from 0 to \d+ expected, found -1"):
        tree.expand(-1)


def test_over_a_task_a_contribution_is_removed_at_all_tokens_of_its_role():
    tokens = random_tokens(3)
    whole = frozen_of("gpt2", ["z.0", "resid_post.1"], tokens, n=20)
    roles = torch.full(tokens.ids.shape, -1)
    roles[:, 2:5], roles[:, 8] = 0, 1
    named = {"roles": roles, "role_names": ["A", "END"]}
    root = logit_root(whole, *ends(whole))
    found = trace(whole, root, nodes=25, **named)
    checked = check_trace(whole, root, found, **named)
    assert (checked.frozen.texts, checked.live.texts, checked.frozen.edges) == (3, 3, 24)
    for edge in checked.edges:
        assert edge.predicted == pytest.approx(found.nodes[edge.child].contribution, abs=1e-9)
    # One edge by hand, with nothing held: a latent of the last dictionary, taken out of each prompt's stream.
    edge = next(
        edge
        for edge in checked.edges
        if found.nodes[edge.child].parent == 0 and found.nodes[edge.child].source.kind == "latent"
    )
    source = found.nodes[edge.child].source
    places = torch.where(roles >= 0, roles, 2) == ["A", "END", "no role"].index(source.place)
    codes = whole.codes_at(source.site)
    taken = torch.zeros(3, tokens.ids.shape[1], codes.dictionary.n_latents, dtype=torch.float64)
    taken.view(-1, taken.shape[2])[codes.latents.tokens, codes.latents.latents] = codes.latents.activations
    vectors = taken[:, :, source.latent, None] * places[..., None] * codes.dictionary.W_dec[source.latent]
    with torch.no_grad(), whole.model.edit({source.site: lambda x: x - vectors}):
        rest = whole.model.capture(tokens, [root.site])[root.site]
    fallen = ((whole.values[root.site] - rest) * root.cotangent).sum() / 3
    assert edge.live == pytest.approx(float(fallen), abs=1e-9)
    assert edge.live != pytest.approx(edge.predicted, abs=1e-6)


def test_the_interval_of_a_task_draws_texts_and_not_rows():
    """The same prompt three times is one text: its edges are drawn."""
    tokens = random_tokens(1)
    tokens = tokens[torch.zeros(3, dtype=torch.long)]
    whole = frozen_of("gpt2", ["z.0"], tokens, n=20)
    roles = torch.zeros_like(tokens.ids)
    root = logit_root(whole, *ends(whole))
    found = trace(whole, root, nodes=12, roles=roles, role_names=["all"])
    assert check_trace(whole, root, found, roles=roles, role_names=["all"]).frozen.texts == 1
    with pytest.raises(UsageError, match="roles that tokens are added up by, expected; found 3"):
        check_trace(whole, root, found)


def test_edges_are_exact_where_nothing_lies_between():
    """MLPs that add nothing, and one layer between: the measured effect is the predicted one."""
    model = shared_model("gpt2", dtype=torch.float64)
    with model.edit(dict.fromkeys(model.sites("mlp_out"), torch.zeros_like)):
        frozen = frozen_of("gpt2", ["z.0", "z.1"], random_tokens(1), n=20)
        feature = Feature(Site("z", 1), next(iter(frozen.codes_at("z.1").active(0, 8))))
        root = latent_root(frozen, feature, -1)
        found = trace(frozen, root, nodes=60)
        checked = check_trace(frozen, root, found)
    assert len(checked.edges) == 59
    between = 0
    for edge in checked.edges:
        node = found.nodes[edge.child]
        # An embedding reaches layer 1 through layer 0 too.
        if node.source.site == Site("embed") and node.parent == 0:
            between += 1
            continue
        assert edge.frozen == pytest.approx(edge.predicted, abs=1e-9)
    assert 0 < between < 30
    assert checked.live.value < checked.frozen.value < 1
    assert checked.live.low <= checked.live.value <= checked.live.high
    assert "59 edges, frozen: rank correlation" in repr(checked)


def test_with_layers_between_indirect_effects_count_too(frozen):
    root = logit_root(frozen, *ends(frozen))
    checked = check_trace(frozen, root, trace(frozen, root, nodes=40))
    assert any(abs(edge.frozen - edge.predicted) > 1e-3 for edge in checked.edges)
    assert -1 <= checked.live.value <= 1
    # What is added last is followed by nothing but the final norm.
    last = {edge.child: edge for edge in checked.edges}
    found = trace(frozen, root, nodes=40)
    for number in found.children(0):
        if found.nodes[number].source.site == Site("mlp_out", 2):
            assert last[number].frozen == pytest.approx(last[number].predicted, abs=1e-9)


def test_bad_requests_are_one_line(frozen):
    latents = frozen.codes_at("z.2").active(0, 2)
    silent = next(latent for latent in range(12) if latent not in latents)
    site = Site("z", 2)
    with pytest.raises(UsageError, match=rf"z\.2/{silent} is not active at position -1.*it is active (at|nowhere)"):
        latent_root(frozen, Feature(site, silent), -1)
    with pytest.raises(UsageError, match=r"z\.2/99: a latent below 12 expected"):
        latent_root(frozen, Feature(site, 99), -1)
    with pytest.raises(UsageError, match="position: one of -3 to 2"):
        latent_root(frozen, Feature(site, 0), 12)
    with pytest.raises(UsageError, match=r"resid_post\.1: a dictionary expected"):
        latent_root(frozen, Feature(Site("resid_post", 1), 0), 1)
    root = logit_root(frozen, *ends(frozen))
    with pytest.raises(UsageError, match="at least 1 node"):
        trace(frozen, root, nodes=0)
    with pytest.raises(UsageError, match="at least one edge expected"):
        check_trace(frozen, root, trace(frozen, root, nodes=1))
    several = frozen_of("gpt2", ["z.0"], random_tokens(2))
    with pytest.raises(UsageError, match="one prompt, or roles"):
        trace(several, logit_root(several, *ends(several)))
