"""Scores of features before sweeping: the method file's T7, and their definitions on a small model."""

import pytest
import torch
from test_intervention import SITE, random_dictionary

from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.steering import measure_site
from gossamer.steering.selection import (
    PROMPT,
    confidence,
    lens_tokens,
    output_score,
    output_score_top1,
    random_latents,
    selection_scores,
)

TEXTS = [" Mary went to the store", " John and Mary", " Then John gave a drink to Mary and John"]


def test_t7_two_versions_of_the_output_score():
    p = torch.tensor([[0.05, 0.4, 0.1, 0.25, 0.2]])
    torch.testing.assert_close(output_score(p, torch.tensor([[2, 3]])), torch.tensor([0.2]))
    torch.testing.assert_close(output_score_top1(p, torch.tensor([2])), torch.tensor([0.02]))
    torch.testing.assert_close(confidence(p, 2), -(p[0, 1].log() + p[0, 3].log())[None] / 2)


def test_scores_are_what_they_say(tiny_gpt2):
    dictionary, tokens = random_dictionary(SITE), tiny_gpt2.tokenize(TEXTS * 5)
    scale = measure_site(tiny_gpt2, SITE, tokens, dictionary)
    latents = [latent for latent in range(24) if scale.maxima[latent] > 0][:3]
    found = selection_scores(tiny_gpt2, dictionary, latents, scale, tokens)
    prompt = tiny_gpt2.tokenize([PROMPT])
    x = tiny_gpt2.capture(prompt, [SITE])[SITE]
    strength = 10 * dictionary.encode_dense(x[0, -1]).max()
    clean = tiny_gpt2.logits(prompt)[0, -1].softmax(dim=0)
    for one in found:
        latent = one.feature.latent

        def push(value, c, latent=latent):
            return torch.cat([value[:, :-1], value[:, -1:] + c * dictionary.W_dec[latent]], dim=1)

        rows = {}
        for name, c in (("all", strength), ("own", 10 * scale.maxima[latent])):
            with tiny_gpt2.edit({SITE: lambda value, c=c, push=push: push(value, c)}):
                rows[name] = tiny_gpt2.logits(prompt)[0, -1].softmax(dim=0)
        lens = tiny_gpt2.unembed(dictionary.W_dec[latent][None])[0].argsort(descending=True)[:20]
        order = rows["all"].argsort(descending=True).tolist()
        best = min(order.index(token) for token in lens.tolist())
        expected = (1 - best / len(order)) * rows["all"][lens].max()
        assert one.output_score == pytest.approx(float(expected), rel=1e-4)
        rank = rows["own"].argsort(descending=True).tolist().index(int(lens[0])) + 1
        assert one.output_score_top1 == pytest.approx(float((1 - rank / len(order)) * rows["own"][lens[0]]), rel=1e-4)
        change = confidence(rows["all"][None]) - confidence(clean[None])
        assert one.confidence_change == pytest.approx(float(change), rel=1e-3, abs=1e-5)
        assert one.lens == tuple(tiny_gpt2.word(int(token)) for token in lens[:5])
        # Where a feature fires most in each text, and whether that word is in its lens.
        activations = dictionary.encode_dense(tiny_gpt2.capture(tokens, [SITE])[SITE], torch.tensor([latent]))[..., 0]
        tops = activations.masked_fill(~tokens.mask, -1).max(dim=1)
        fires = tops.values > 0
        peaks = tokens.ids[torch.arange(len(tokens)), tops.indices][fires]
        share = float(torch.isin(peaks, lens).double().mean()) if int(fires.sum()) >= 10 else None
        assert one.input_score == pytest.approx(share)


def test_the_lens_is_the_heads_own_largest(tiny_gpt2):
    dictionary = random_dictionary(SITE)
    found = lens_tokens(tiny_gpt2, dictionary, [4, 2], 3)
    logits = tiny_gpt2.unembed(dictionary.W_dec[[4, 2]])
    assert torch.equal(found, logits.argsort(dim=1, descending=True)[:, :3])
    with pytest.raises(UsageError, match="0 to 23 expected, found 24"):
        lens_tokens(tiny_gpt2, dictionary, [24])


def test_random_features_are_active_ones(tiny_gpt2):
    dictionary, tokens = random_dictionary(SITE), tiny_gpt2.tokenize(TEXTS)
    scale = measure_site(tiny_gpt2, SITE, tokens, dictionary)
    alive = (scale.density > 0).nonzero()[:, 0].tolist()
    found = random_latents(scale, 4, 0, exclude=alive[:3])
    assert len(set(found)) == 4
    assert set(found) <= set(alive[3:])
    assert found == random_latents(scale, 4, 0, exclude=alive[:3])
    with pytest.raises(UsageError, match="active features"):
        random_latents(scale, len(alive) + 1, 0)


def test_a_dictionary_off_the_stream_is_refused(tiny_gpt2):
    dictionary = random_dictionary(Site("z", 1))
    scale = measure_site(tiny_gpt2, "z.1", tiny_gpt2.tokenize(TEXTS), dictionary)
    with pytest.raises(UsageError, match="residual stream"):
        selection_scores(tiny_gpt2, dictionary, [0], scale, TEXTS)
