"""Cross-entropy and KL in blocks, against every row alone in float64, and within the memory of a few blocks."""

import os
import subprocess
import sys

import pytest
import torch

from gossamer.errors import NotFiniteError
from gossamer.model import predictions
from gossamer.model.predictions import compare_predictions, predicting

TEXTS = [" Mary went to the store", " John and Mary went", " Then John gave a drink to Mary and John"]


@pytest.fixture(params=["right", "left"])
def tokens(tiny_gpt2, request):
    return tiny_gpt2.tokenize(TEXTS, bos=True, side=request.param)


@pytest.fixture
def streams(tiny_gpt2, tokens):
    last = tiny_gpt2.sites("resid_post")[-1]
    own = tiny_gpt2.capture(tokens, [last])[last]
    draw = torch.Generator().manual_seed(0)
    return own, {name: own + 0.3 * torch.randn(own.shape, generator=draw) for name in ("one", "other")}


def by_row(model, own, stream, tokens):
    cross_entropy, kl = 0.0, 0.0
    for row, mask in enumerate(tokens.mask):
        ids = tokens.ids[row][mask]
        expected, found = (model.unembed(x[row][mask][:-1]).double().log_softmax(-1) for x in (own, stream))
        cross_entropy -= float(found.gather(1, ids[1:, None]).sum())
        kl += float((expected.exp() * (expected - found)).sum())
    return cross_entropy, kl


@pytest.mark.parametrize("block", [1, 7 * 120, 2**24])
def test_sums_are_those_of_every_row_alone(tiny_gpt2, tokens, streams, block, monkeypatch):
    monkeypatch.setattr(predictions, "_BLOCK_VALUES", block)
    own, others = streams
    total, found = compare_predictions(tiny_gpt2, own, others, tokens)
    assert total.item() == pytest.approx(by_row(tiny_gpt2, own, own, tokens)[0], rel=1e-5)
    for name, stream in others.items():
        expected = by_row(tiny_gpt2, own, stream, tokens)
        assert (found[name].cross_entropy.item(), found[name].kl.item()) == pytest.approx(expected, rel=1e-5)
    assert int(predicting(tokens).sum()) == sum(int(mask.sum()) - 1 for mask in tokens.mask)


def test_the_head_runs_once_for_rows_that_are_equal(tiny_gpt2, tokens, streams, monkeypatch):
    monkeypatch.setattr(predictions, "_BLOCK_VALUES", 2**24)
    own, others = streams
    places = torch.where(tokens.mask, tokens.mask.cumsum(dim=1) - 1, 0)
    alike = own[2][tokens.mask[2]][places]
    rows = []
    hook = tiny_gpt2.anatomy.head.register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    found = compare_predictions(tiny_gpt2, own, {"alike": alike, "one": others["one"]}, tokens)[1]
    hook.remove()
    # All streams of the block together: of the model's own, BOS is one row; `alike` has those of the longest text.
    predicted = int(predicting(tokens).sum())
    assert rows == [(predicted - 2) + int(tokens.lengths[2] - 1) + predicted]
    expected = by_row(tiny_gpt2, own, alike, tokens)
    assert (found["alike"].cross_entropy.item(), found["alike"].kl.item()) == pytest.approx(expected, rel=1e-5)


def test_what_is_not_finite_is_named(tiny_gpt2, tokens, streams):
    own, others = streams
    others["one"][:, 1] = float("nan")
    with pytest.raises(NotFiniteError, match="logits of"):
        compare_predictions(tiny_gpt2, own, others, tokens)


PROGRAM = """
import resource, torch
from transformers import GPT2Config, GPT2LMHeadModel
from gossamer.model import LanguageModel
from gossamer.model.predictions import compare_predictions
from gossamer.tokens import Tokens
from word_model import word_tokenizer

config = GPT2Config(vocab_size=262144, n_positions=512, n_embd=16, n_layer=1, n_head=1)
model = LanguageModel.load(GPT2LMHeadModel(config).eval(), tokenizer=word_tokenizer())
tokens = Tokens.full(torch.randint(0, 1000, (2, 512)))
last = model.sites("resid_post")[-1]
stream = model.capture(tokens, [last])[last]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
compare_predictions(model, stream, {"zero": stream * 0}, tokens)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_a_wide_vocabulary_takes_the_memory_of_a_few_blocks(pytestconfig):
    """All logits of these 1,024 tokens are 1 GiB in float32, and log-probabilities of two models three times that."""
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=pytestconfig.rootpath / "tests",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (pytestconfig.rootpath / "src", ".")))},
    )
    assert float(said.stdout.split()[-1]) < 6 * 64


@pytest.mark.parametrize("block", [1, 7 * 120, 2**24])
def test_divergence_is_the_kl_of_all_logits_at_once_and_so_is_its_gradient(tiny_gpt2, monkeypatch, block):
    monkeypatch.setattr(predictions, "_BLOCK_VALUES", block)
    tiny_gpt2.hf.double()
    draw = torch.Generator().manual_seed(0)
    own, apart = (torch.randn(11, 32, generator=draw, dtype=torch.float64) for _ in range(2))
    streams = [(own + 0.3 * apart).requires_grad_() for _ in range(2)]
    expected, found = (tiny_gpt2.unembed(x).log_softmax(-1) for x in (own, streams[0]))
    whole = (expected.exp() * (expected - found)).sum(dim=-1)
    blocks = predictions.divergence(tiny_gpt2, own, streams[1])
    weights = torch.linspace(0.5, 2, 11)
    # Values and gradients are in float32, as logits are.
    torch.testing.assert_close(blocks.double(), whole, atol=1e-6, rtol=1e-5)
    for kl in (whole, blocks):
        (kl * weights).sum().backward()
    torch.testing.assert_close(streams[1].grad, streams[0].grad, atol=1e-6, rtol=1e-5)


def test_divergence_without_a_gradient_is_the_same(tiny_gpt2, streams):
    own, others = (streams[0].reshape(-1, 32), streams[1]["one"].reshape(-1, 32))
    with_graph = predictions.divergence(tiny_gpt2, own, others.clone().requires_grad_())
    torch.testing.assert_close(predictions.divergence(tiny_gpt2, own, others), with_graph.detach())
    with pytest.raises(NotFiniteError, match="logits"):
        predictions.divergence(tiny_gpt2, own, torch.full_like(others, torch.nan))
