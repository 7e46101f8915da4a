"""Latents on one text: activations are the encoder's, attributions are derivatives, removals are exact."""

import pytest
import torch

from gossamer import DictionarySet, LanguageModel, Site, bundled
from gossamer.errors import UsageError
from gossamer.features.prompt_latents import MOST_TOKENS, prompt_latents, without_each

TEXT = "The boys near the dog"
SITE = Site.parse("resid_post.2")


@pytest.fixture(scope="module")
def made():
    """In float64, so that differences of log-probabilities are derivatives to many digits."""
    model = LanguageModel.load("bundled:spool", device="cpu", dtype=torch.float64)
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries", dtype=torch.float64)
    return model, dictionaries, prompt_latents(model, dictionaries, TEXT, bos=True)


def moved(model, found, site, position, by):
    """The target's log-probability when a vector is added at one token of a site."""

    def change(x):
        x = x.clone()
        x[:, position] += by
        return x

    with torch.no_grad(), model.edit({site: change}):
        logits = model.logits(found.tokens, at=torch.tensor([found.at]))
    return logits[0].log_softmax(dim=0)[found.target]


def strongest(found, position, count=5):
    return found.sites[SITE].activations[position].topk(count).indices


def test_activations_and_errors_are_the_encoders(made):
    model, dictionaries, found = made
    x = model.capture(found.tokens, [SITE])[SITE]
    latents = dictionaries[SITE].encode_dense(x)
    assert torch.allclose(found.sites[SITE].activations, latents[0].float())
    error = x - dictionaries[SITE].reconstruct(x, latents)
    assert torch.allclose(found.sites[SITE].error_share, (error.norm(dim=-1) / x.norm(dim=-1))[0].float())
    assert found.counted.tolist() == [False] + [True] * (found.tokens.ids.shape[1] - 1)


def test_the_target_is_what_the_model_finds_most_likely_unless_another_is_asked_for(made):
    model, dictionaries, found = made
    logits = model.logits(found.tokens)[0, -1]
    assert found.target == int(logits.argmax())
    assert torch.allclose(found.log_probs, logits.float().log_softmax(dim=0), atol=1e-5)
    other = prompt_latents(model, dictionaries, TEXT, bos=True, target=5, at=2)
    assert (other.target, other.at) == (5, 2)
    # Nothing after the token that is read can have a part in it.
    assert other.sites[SITE].attributions[3:].abs().max() == 0
    assert other.sites[SITE].attributions[1:3].abs().max() > 0


def test_an_attribution_is_the_derivative_times_the_activation(made):
    model, dictionaries, found = made
    for position in (2, found.at):
        for latent in strongest(found, position).tolist():
            row, step = dictionaries[SITE].W_dec[latent], 1e-5
            up, down = (moved(model, found, SITE, position, sign * step * row) for sign in (1, -1))
            wanted = (up - down) / (2 * step) * found.sites[SITE].activations[position, latent]
            assert found.sites[SITE].attributions[position, latent].item() == pytest.approx(
                wanted.item(), rel=1e-3, abs=1e-6
            )


def test_a_removal_is_what_the_model_says_without_the_latent(made):
    model, dictionaries, found = made
    latents = strongest(found, found.at)
    changes = without_each(model, dictionaries, found, SITE, found.at, latents)
    for latent, change in zip(latents.tolist(), changes.tolist(), strict=True):
        by = -found.sites[SITE].activations[found.at, latent] * dictionaries[SITE].W_dec[latent]
        assert change == pytest.approx(
            (moved(model, found, SITE, found.at, by) - found.log_probs[found.target]).item(), abs=1e-5
        )
    assert changes.abs().max() > 1e-2
    assert len(without_each(model, dictionaries, found, SITE, 1, latents[:0])) == 0


def test_what_is_not_there_is_refused(made):
    model, dictionaries, found = made
    with pytest.raises(UsageError, match="at: a token from 0 to"):
        prompt_latents(model, dictionaries, TEXT, at=99)
    with pytest.raises(UsageError, match="target: a token from 0 to"):
        prompt_latents(model, dictionaries, TEXT, target=model.d_vocab)
    with pytest.raises(UsageError, match=f"at most {MOST_TOKENS} tokens"):
        prompt_latents(model, dictionaries, "dog " * 600)
    with pytest.raises(UsageError, match="position: a token"):
        without_each(model, dictionaries, found, SITE, 99, torch.tensor([1]))
    with pytest.raises(UsageError, match="latents: from 0 to"):
        without_each(model, dictionaries, found, SITE, 1, torch.tensor([10**6]))
