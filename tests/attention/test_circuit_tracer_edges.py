"""Against circuit-tracer: its own edges through transcoders, on tiny models; golden/make.py writes the files.

Both hold patterns and norm scales (nothing is folded), weigh a latent's decoder with its activation, and explain a
latent's pre-activation. circuit-tracer differs in what it calls a node: attention and the linear path of a transcoder
are passed through, position embeddings and biases are left out; a logit is one less the mean of the vocabulary (its
difference of two logits is ours); at the first token, where transcoders do not count, the MLP is no node, though its
transcoder's linear path is still passed through.
"""

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gossamer.activations import TokenMask
from gossamer.attention import FrozenPass, TraceTree, latent_root, logit_root
from gossamer.attention.upstream import upstream
from gossamer.dictionary import Dictionary
from gossamer.features import Feature
from gossamer.model import LanguageModel, Site
from gossamer.tokens import Tokens

GOLDEN = Path(__file__).parent / "golden"
LAYERS = 2


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def case(request):
    """The pass, the graph, and a name for each of its columns but those of logits."""
    folder = GOLDEN / request.param
    graph = load_file(folder / "graph.safetensors")
    hf = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    transcoders = [Dictionary.load(folder / "transcoders" / f"layer_{layer}.safetensors") for layer in range(LAYERS)]
    mask = TokenMask(positions=(1, None))
    frozen = FrozenPass.of(LanguageModel.load(hf), transcoders, Tokens.full(graph["tokens"].unsqueeze(0)), mask=mask)
    columns = [("latent", Site("mlp_in", layer), latent, at) for layer, at, latent in graph["latents"].tolist()]
    positions = range(len(graph["tokens"]))
    columns += [("error", Site("mlp_out", layer), None, at) for layer in range(LAYERS) for at in positions]
    columns += [("token", Site("embed"), None, at) for at in positions]
    return frozen, graph, columns


@torch.no_grad()
def direct_effects(frozen, root):
    """Of every source on a root, through attention and linear paths."""
    found, waiting = defaultdict(float), [(root.site, root.cotangent)]
    while waiting:
        for terms in upstream(frozen, *waiting.pop()):
            if terms.kind in ("attention", "skip"):
                waiting.append((terms.site, terms.cotangent))
                continue
            for number, token in enumerate(terms.tokens.tolist()):
                latent = None if terms.latents is None else int(terms.latents[number])
                found[terms.kind, terms.site, latent, token] += float(terms.values[number].sum())
    return found


def compared(frozen, columns):
    """The columns of what is a node on both sides, in a place that both see alike."""
    skips = any(codes.skip is not None for codes in frozen.codes.values())
    return [number for number, (kind, _, _, at) in enumerate(columns) if at > 0 or (kind == "token" and not skips)]


def test_the_same_latents_are_active(case):
    frozen, graph, _ = case
    ours = {
        (codes.reads.layer, at, latent): activation
        for codes in frozen.codes.values()
        for at in range(len(graph["tokens"]))
        for latent, activation in codes.active(0, at).items()
    }
    theirs = dict(zip(map(tuple, graph["latents"].tolist()), graph["activations"].tolist(), strict=True))
    assert len(theirs) > 30
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_every_edge_to_a_latent(case):
    frozen, graph, columns = case
    chosen = compared(frozen, columns)
    for row, (layer, at, latent) in enumerate(graph["latents"].tolist()):
        found = direct_effects(frozen, latent_root(frozen, Feature(Site("mlp_in", layer), latent), at))
        ours = torch.tensor([found[columns[number]] for number in chosen])
        torch.testing.assert_close(ours, graph["adjacency"][row, chosen], rtol=1e-4, atol=2e-5)
        # What is no column of theirs.
        assert {source[0] for source in found.keys() - set(columns)} <= {"bias", "position"}


def test_every_edge_to_a_difference_of_logits(case):
    frozen, graph, columns = case
    chosen = compared(frozen, columns)
    ids = graph["logits"]
    rows = graph["adjacency"][-len(ids) :]
    for other in (1, 2):
        root = logit_root(frozen, ids[:1], ids[other : other + 1], frozen.tokens.last)
        found = direct_effects(frozen, root)
        ours = torch.tensor([found[columns[number]] for number in chosen])
        torch.testing.assert_close(ours, (rows[0] - rows[other])[chosen], rtol=1e-4, atol=2e-5)


def test_paths_of_a_tree_add_up_to_edges(case):
    """Grown by hand through attention and linear paths, a tree's leaves are the edges, path by path."""
    frozen, graph, columns = case
    # An early one, as there is a path for every token on the way.
    target = next(row for row, (layer, at, _) in enumerate(graph["latents"].tolist()) if (layer, at) >= (1, 1))
    layer, at, latent = graph["latents"][target].tolist()
    assert layer == 1
    tree = TraceTree(frozen, latent_root(frozen, Feature(Site("mlp_in", layer), latent), at))
    waiting, found = [0], defaultdict(float)
    while waiting:
        children = [child for number in waiting for child in tree.expand(number, most=10_000)]
        nodes = tree.trace.nodes
        waiting = [child for child in children if nodes[child].source.kind in ("attention", "skip")]
        for child in set(children) - set(waiting):
            found[tuple(nodes[child].source)] += nodes[child].contribution
    chosen = compared(frozen, columns)
    row = graph["adjacency"][target, chosen]
    ours = torch.tensor([found[columns[number]] for number in chosen])
    assert row.abs().max() > 0.1
    torch.testing.assert_close(ours, row, rtol=1e-4, atol=2e-5)
