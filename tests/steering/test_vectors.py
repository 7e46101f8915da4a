"""Vectors against their formulas on captured activations."""

import pytest
import torch

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.steering.vectors import (
    activation_addition,
    caa,
    contrast_states,
    diff_mean,
    feature_vector,
    pca,
    random_direction,
)
from gossamer.tokens import Tokens

SITE = Site("resid_post", 1)
HAPPY = [" Mary was happy", " John likes the dog", " she played together"]
SAD = [" Mary was sad because he", " he was sad", " Tom was sad at the store"]


def values(model, text, site=SITE):
    return model.capture(model.tokenize([text]), [site])[site][0]


def test_differences_of_means(tiny_gpt2):
    states = contrast_states(tiny_gpt2, HAPPY, SAD, SITE)
    ours, theirs = ([values(tiny_gpt2, text) for text in texts] for texts in (HAPPY, SAD))
    expected = torch.cat(ours).mean(dim=0) - torch.cat(theirs).mean(dim=0)
    torch.testing.assert_close(states.difference, expected, rtol=1e-4, atol=1e-5)
    found = diff_mean(states)
    torch.testing.assert_close(found.vector, expected / expected.norm(), rtol=1e-4, atol=1e-5)
    means = torch.stack([one.mean(dim=0) for one in theirs])
    torch.testing.assert_close(states.text_means("negative"), means, rtol=1e-4, atol=1e-5)


def test_the_first_principal_component_of_pairs(tiny_gpt2):
    states = contrast_states(tiny_gpt2, HAPPY, SAD, SITE)
    pairs = (states.text_means("positive") - states.text_means("negative")).double()
    variance, axes = torch.linalg.eigh(pairs.T @ pairs)
    found = pca(states).vector.double()
    assert abs(float(found @ axes[:, -1])) == pytest.approx(1, abs=1e-5)
    assert float((pairs @ found).mean()) > 0
    with pytest.raises(UsageError, match="pairs of texts"):
        pca(contrast_states(tiny_gpt2, HAPPY[:2], SAD, SITE))
    del variance


def test_contrastive_activation_addition_reads_the_last_token(tiny_gpt2):
    pairs = [values(tiny_gpt2, one)[-1] - values(tiny_gpt2, other)[-1] for one, other in zip(HAPPY, SAD, strict=True)]
    torch.testing.assert_close(
        caa(tiny_gpt2, HAPPY, SAD, SITE).vector, torch.stack(pairs).mean(dim=0), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(UsageError, match="pairs"):
        caa(tiny_gpt2, HAPPY, SAD[:1], SITE)


def test_activation_addition_has_a_row_a_position(tiny_gpt2):
    found = activation_addition(tiny_gpt2, " Mary was happy", " Tom was sad", "resid_pre.2")
    site = Site("resid_pre", 2)
    expected = values(tiny_gpt2, " Mary was happy", site) - values(tiny_gpt2, " Tom was sad", site)
    torch.testing.assert_close(found.vector, expected)
    assert (found.site, found.add(2.0).kind) == (site, "act_add")
    with pytest.raises(UsageError, match="differ"):
        activation_addition(tiny_gpt2, " Mary", " Mary", "resid_pre.2")
    # This tokenizer has no token for a space alone: there is nothing to pad with.
    with pytest.raises(UsageError, match="one length"):
        activation_addition(tiny_gpt2, " Mary was", " Mary", "resid_pre.2")


def test_activation_addition_pads_with_spaces(tiny_gpt2, monkeypatch):
    """With a tokenizer that has a token for a space, here that of `.`."""
    dot = tiny_gpt2.tokenize(["."]).ids[0].tolist()
    monkeypatch.setattr("gossamer.steering.vectors.encode", lambda model, text: dot)
    found = activation_addition(tiny_gpt2, " Mary was happy", " Tom", "resid_pre.2")
    site = Site("resid_pre", 2)
    padded = torch.tensor([[*tiny_gpt2.tokenize([" Tom"]).ids[0].tolist(), *dot, *dot]])
    theirs = tiny_gpt2.capture(Tokens.full(padded), [site])[site][0]
    torch.testing.assert_close(found.vector, values(tiny_gpt2, " Mary was happy", site) - theirs)


def test_random_directions_are_as_long_and_of_their_seed(tiny_gpt2):
    like = caa(tiny_gpt2, HAPPY, SAD, SITE)
    found, again, other = (random_direction(like, seed) for seed in (0, 0, 1))
    assert found.length == pytest.approx(like.length, rel=1e-5)
    assert torch.equal(found.vector, again.vector)
    assert not torch.equal(found.vector, other.vector)


def test_texts_that_cannot_be_used_are_refused(tiny_gpt2):
    for positive, said in (([], "at least one positive"), ([" Mary", "<|endoftext|>"], "positive text 1 has no token")):
        with pytest.raises(UsageError, match=said):
            contrast_states(tiny_gpt2, positive, SAD, SITE)
    from test_intervention import by_hand

    with pytest.raises(UsageError, match="from 0 to 2"):
        feature_vector(by_hand(), 3)
