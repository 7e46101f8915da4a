"""The metric of errors against explicit Jacobians."""

import pytest
import torch

from gossamer.batching import MemoryWarning
from gossamer.model import LanguageModel, Site
from gossamer.tokens import Tokens
from gossamer.training.sensitivity import sensitivity, unembedding_covariance

SITE = Site("resid_post", 1)


class Wide(LanguageModel):
    """A model that has nothing but an unembedding, in bfloat16 and far from zero."""

    d_model, d_vocab = 12, 20_000
    rows = (torch.randn(20_000, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13) + 5).bfloat16()

    def __init__(self):
        pass

    def unembedding_rows(self, ids):
        return self.rows[ids]


def test_the_covariance_is_that_of_the_logits_change(tiny_gpt2):
    """The variance over the vocabulary of a change in the logits is the quadratic form of the change in z."""
    dz = torch.randn(5, tiny_gpt2.d_model, generator=torch.Generator().manual_seed(0))
    logits = dz @ tiny_gpt2.unembedding_rows(torch.arange(tiny_gpt2.d_vocab)).t()
    found = ((dz @ unembedding_covariance(tiny_gpt2)) * dz).sum(dim=1)
    torch.testing.assert_close(found, logits.var(dim=1, correction=0), rtol=1e-4, atol=1e-4)


def test_it_is_the_mean_of_squared_jacobians(tiny_gpt2):
    """2,048 random directions for the same row come within a few percent of the Jacobians of every position."""
    row = torch.tensor([[5, 17, 30, 41]])
    root = torch.linalg.cholesky(unembedding_covariance(tiny_gpt2).double() + 1e-9 * torch.eye(32)).float()

    def output(stream):
        tokens = Tokens.full(row)
        last = tiny_gpt2.sites("resid_post")[-1]
        with tiny_gpt2.edit({SITE: lambda value: stream}):
            read = tiny_gpt2.capture(tokens, [last])
        return tiny_gpt2.anatomy.norm(read[last]) @ root

    stream = tiny_gpt2.capture(Tokens.full(row), [SITE])[SITE]
    jacobian = torch.autograd.functional.jacobian(output, stream)[0, :, :, 0].reshape(-1, 4, 32)
    exact = torch.einsum("opd,ope->de", jacobian, jacobian)
    exact *= 32 / exact.trace()
    found = sensitivity(tiny_gpt2, Tokens.full(row.expand(2048, -1)), [SITE], seed=0, batch_size=256)[SITE]
    assert (found - exact).norm() / exact.norm() < 0.1


def test_it_depends_on_no_batch(tiny_gpt2, monkeypatch):
    rows = Tokens.full(torch.arange(1, 61).reshape(12, 5))
    whole = sensitivity(tiny_gpt2, rows, [SITE], seed=0, batch_size=5)[SITE]
    capture = tiny_gpt2.capture

    def hungry(tokens, *sites):
        if len(tokens) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return capture(tokens, *sites)

    monkeypatch.setattr(tiny_gpt2, "capture", hungry)
    with pytest.warns(MemoryWarning):
        halved = sensitivity(tiny_gpt2, rows, [SITE], seed=0, batch_size=5)[SITE]
    torch.testing.assert_close(halved, whole, rtol=1e-4, atol=1e-4)


def test_a_direction_that_nothing_reads_costs_nothing(tiny_gpt2):
    """The final norm removes the mean, so an error along (1, ..., 1) at the last site does not reach the output."""
    last = tiny_gpt2.sites("resid_post")[-1]
    rows = Tokens.full(torch.arange(1, 65).reshape(8, 8))
    found = sensitivity(tiny_gpt2, rows, [last], seed=0)[last]
    ones = torch.ones(32) / 32**0.5
    assert ones @ found @ ones < 1e-4 * found.trace() / 32


def test_the_covariance_of_a_wide_vocabulary_is_that_of_float64():
    found = unembedding_covariance(Wide()).double()
    exact = torch.cov(Wide.rows.double().T, correction=0)
    assert float((found - exact).norm() / exact.norm()) < 2e-6
