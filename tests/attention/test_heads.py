"""Which heads a latent is of: planted latents, and the formulas."""

import pytest
import torch
from random_dictionaries import random_dictionary
from tiny_families import random_tokens, shared_model

from gossamer.attention import FrozenPass, direct_attribution, head_shares
from gossamer.errors import UsageError


@pytest.mark.parametrize("name", ["gpt2", "gemma3"])
def test_shares_by_the_three_measures(name):
    model, tokens = shared_model(name, dtype=torch.float64), random_tokens()
    dictionary = random_dictionary(model, tokens, "z.1")
    d, heads = model.d_head, model.n_heads
    # Latent 0 writes with head 2 alone, and latent 1 reads head 1 alone.
    with torch.no_grad():
        dictionary.W_dec[0] = 0
        dictionary.W_dec[0, 2 * d : 3 * d] = 1.0
        dictionary.W_enc[:d, 1] = 0
        dictionary.W_enc[2 * d :, 1] = 0
        dictionary.threshold[1] = 0.0
        dictionary.b_enc[1] = 5.0
    frozen = FrozenPass.of(model, [dictionary], tokens)
    found = head_shares(model, dictionary, frozen)
    rows = torch.unflatten(dictionary.W_dec, -1, (heads, d)).float()
    weights = model.attention_weights(1)
    written = torch.einsum("nhd,hdm->nhm", rows, weights.W_O.float()).norm(dim=2)
    torch.testing.assert_close(found.decoder, rows.norm(dim=2) / rows.norm(dim=2).sum(dim=1, keepdim=True))
    torch.testing.assert_close(found.output, written / written.sum(dim=1, keepdim=True))
    assert found.decoder[0].tolist() == found.output[0].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert found.activation[1].tolist() == [0.0, 1.0, 0.0, 0.0]
    parts = direct_attribution(frozen, "z.1")
    mine = parts.by_head[parts.latents == 7].abs().sum(dim=0)
    torch.testing.assert_close(found.activation[7], mine / mine.sum())
    assert found.top(2, 1)[0] == (parts.feature(0)._replace(latent=0), 1.0)
    assert set(found.agreement) == {"decoder and output", "decoder and activation", "output and activation"}
    assert all(-1 <= value <= 1 for value in found.agreement.values())
    assert "decoder and output: rank correlation" in repr(found)
    assert head_shares(model, dictionary).activation is None


def test_bad_requests_are_one_line():
    model, tokens = shared_model("gpt2", dtype=torch.float64), random_tokens()
    found = head_shares(model, random_dictionary(model, tokens, "z.1"))
    with pytest.raises(UsageError, match=r"a dictionary on z expected, found one at resid_post\.1"):
        head_shares(model, random_dictionary(model, tokens, "resid_post.1"))
    with pytest.raises(UsageError, match="head: one of 0 to 3 expected, found 4"):
        found.top(4)
    with pytest.raises(UsageError, match="decoder, output or"):
        found.top(0, by="activation")
