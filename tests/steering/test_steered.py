"""Steering in generate, in logits and in transformers' own generate and pipelines, with a cache and without one."""

import pytest
import torch
from test_intervention import random_dictionary
from transformers import pipeline

from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.site import Site
from gossamer.steering import (
    NEW_TOKENS,
    Condition,
    Positions,
    Steering,
    act_add,
    add,
    clamp,
    measure_site,
    orthogonal_decomposition,
    read_back,
    scale,
    steered,
)
from gossamer.tokens import Tokens

SITE = Site("resid_post", 1)
TEXTS = [" Mary went to the store", " John and Mary", " Then John gave a drink to Mary and John"]


def direction(seed=0, rows=()):
    return torch.randn(*rows, 32, generator=torch.Generator().manual_seed(seed))


def every_kind():
    dictionary = random_dictionary(SITE)
    return {
        "add": add(SITE, direction(), 0.7),
        "act_add": act_add("resid_pre.2", direction(rows=(3,)), 2.0),
        "clamp": clamp(dictionary, 3, 4.0).where(Positions(1)),
        "scale": scale(dictionary, 5, -3.0),
        "later": add("z.2", direction(2), 3.0).where(Positions(6, 9)),
        "new": add(SITE, direction(3), 1.5).where(NEW_TOKENS),
        "turned": orthogonal_decomposition("mlp_out.0", direction(4), 3.0),
        "gated": add(SITE, direction(5), 2.0).gated(Condition(Site("resid_pre", 1), 0.1, vector=direction(6))),
    }


@pytest.mark.parametrize("name", [*every_kind(), "all"])
def test_cached_equals_uncached(name, tiny_gpt2):
    """Rows of several lengths, new token by new token, against anew for each; something is changed."""
    kinds = every_kind()
    chosen = list(kinds.values()) if name == "all" else [kinds[name]]
    prompts = tiny_gpt2.tokenize(TEXTS, side="left")
    lengths = prompts.lengths
    with torch.no_grad(), steered(tiny_gpt2, chosen, prompt_lengths=lengths):
        steps = list(tiny_gpt2.stream(prompts, max_new_tokens=5, stop=()))
        tokens = prompts
        for step in steps:
            torch.testing.assert_close(step.logits, tiny_gpt2.logits(tokens)[:, -1], rtol=1e-5, atol=1e-5)
            tokens = Tokens(
                torch.cat([tokens.ids, step.ids[:, None]], 1), torch.cat([tokens.mask, tokens.mask[:, -1:]], 1)
            )
        whole = tiny_gpt2.logits(tokens)
    assert not torch.allclose(whole[:, -1], tiny_gpt2.logits(tokens)[:, -1], atol=1e-3)
    if name == "new":
        torch.testing.assert_close(whole[:, : prompts.ids.shape[1]], tiny_gpt2.logits(prompts), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cache", [True, False])
def test_transformers_own_generate_is_steered_alike(cache, tiny_gpt2):
    chosen = list(every_kind().values())
    prompts = tiny_gpt2.tokenize(TEXTS, side="left")
    options = {"max_new_tokens": 6, "do_sample": False, "use_cache": cache, "pad_token_id": 0, "eos_token_id": None}
    with steered(tiny_gpt2, chosen, prompt_lengths=prompts.lengths):
        ours = tiny_gpt2.generate(prompts, max_new_tokens=6, stop=())
        theirs = tiny_gpt2.hf.generate(prompts.ids, attention_mask=prompts.mask.long(), **options)
    assert torch.equal(theirs, ours.whole.ids)
    plain = tiny_gpt2.hf.generate(prompts.ids, attention_mask=prompts.mask.long(), **options)
    assert not torch.equal(plain, theirs)
    assert torch.equal(plain, tiny_gpt2.generate(prompts, max_new_tokens=6, stop=()).whole.ids)


def test_a_pipeline_is_steered(tiny_gpt2):
    """One text, as evaluation harnesses and users call it, without any mask of ours."""
    chosen = [add(SITE, direction(), 2.0), clamp(random_dictionary(SITE), 3, 4.0)]
    made = pipeline("text-generation", model=tiny_gpt2.hf, tokenizer=tiny_gpt2.tokenizer, device="cpu")
    options = {"max_new_tokens": 6, "do_sample": False, "return_full_text": False, "pad_token_id": 0}
    with steered(tiny_gpt2, chosen):
        said = made(TEXTS[2], **options)[0]["generated_text"]
        expected = tiny_gpt2.generate([TEXTS[2]], max_new_tokens=6)
    assert said == tiny_gpt2.decode(expected.new)[0]
    assert made(TEXTS[2], **options)[0]["generated_text"] != said


def test_outside_and_after_a_failure_nothing_is_steered(tiny_gpt2):
    tokens = tiny_gpt2.tokenize(TEXTS)
    plain = tiny_gpt2.logits(tokens)
    with (
        pytest.raises(NotFiniteError, match=r"resid_post\.1 under steering"),
        steered(tiny_gpt2, add(SITE, direction(), 3e38)),
    ):
        tiny_gpt2.hf(tokens.ids)
    length = int(tokens.lengths[0])
    after = tiny_gpt2.hf(tokens.ids, attention_mask=tokens.mask.long()).logits
    assert torch.equal(after[0, :length], plain[0, :length])
    inner = steered(tiny_gpt2, add(SITE, direction(), 1.0))
    with pytest.raises(UsageError, match="called by itself"), tiny_gpt2.edit({SITE: lambda x: x}), inner:
        tiny_gpt2.hf(tokens.ids)
    assert torch.equal(tiny_gpt2.logits(tokens), plain)


def test_the_stream_after_steering_from_the_first_site_on_is_that_of_a_whole_pass(tiny_gpt2):
    tokens, kinds = tiny_gpt2.tokenize(TEXTS), every_kind()
    for names in (("add",), ("later",), ("add", "later", "turned"), ("gated",), ("act_add",)):
        steering = Steering([[kinds[name] for name in names], []], torch.tensor([0, 1, 0]))
        start = steering.start()
        assert (start is None) == ("gated" in names)
        sites = [Site("resid_post", 1), Site("resid_post", 2)]
        found = steering.capture(tiny_gpt2, tokens, sites)
        if start is not None:
            prefix = (start, tiny_gpt2.capture(tokens, [start])[start])
            again = steering.capture(tiny_gpt2, tokens, [site for site in sites if site >= start], prefix)
            for site, value in again.items():
                torch.testing.assert_close(value, found[site])
        whole = found[sites[1]]
        plain = tiny_gpt2.capture(tokens, ["resid_post.2"])["resid_post.2"]
        torch.testing.assert_close(whole[1], plain[1])
        assert not torch.allclose(whole[2], plain[2], atol=1e-3)


def test_the_re_encoded_activation_is_read_back(tiny_gpt2):
    dictionary, tokens = random_dictionary(SITE), tiny_gpt2.tokenize(TEXTS)
    (found,) = read_back(tiny_gpt2, clamp(dictionary, 3, 4.0), tokens)
    x = tiny_gpt2.capture(tokens, [SITE])[SITE][tokens.mask]
    before = dictionary.encode_dense(x)
    after = dictionary.encode_dense(x + (4.0 - before[:, 3:4]) * dictionary.W_dec[3])
    assert found.before == pytest.approx(float(before[:, 3].mean()), rel=1e-5)
    assert found.after == pytest.approx(float(after[:, 3].mean()), rel=1e-5)
    latent, change = found.others[0]
    moved = (after - before).mean(dim=0)
    moved[3] = 0
    assert latent == int(moved.abs().argmax())
    assert change == pytest.approx(float(moved[latent]), rel=1e-4)


def test_what_a_site_has_on_a_text(tiny_gpt2):
    dictionary, tokens = random_dictionary(SITE), tiny_gpt2.tokenize(TEXTS)
    found = measure_site(tiny_gpt2, SITE, tokens, dictionary)
    x = tiny_gpt2.capture(tokens, [SITE])[SITE][tokens.mask]
    latents = dictionary.encode_dense(x)
    assert found.norm == pytest.approx(float(x.norm(dim=1).mean()), rel=1e-5)
    torch.testing.assert_close(found.maxima, latents.amax(dim=0))
    torch.testing.assert_close(found.density, (latents > 0).float().mean(dim=0))
    vector = direction()
    half = found.of_norm(0.5, vector)
    assert float((half.raw * vector).norm()) == pytest.approx(0.5 * found.norm, rel=1e-5)
    assert found.of_projection(2.0, vector).raw == pytest.approx(2 * float((x @ vector).max()), rel=1e-5)
    alive = int(found.maxima.argmax())
    assert found.of_maximum(3.0, alive).raw == pytest.approx(3 * float(found.maxima[alive]))
    dead = random_dictionary(SITE)
    with torch.no_grad():
        dead.b_enc.sub_(1e3)
    with pytest.raises(UsageError, match="dead or rare"):
        measure_site(tiny_gpt2, SITE, tokens, dead).of_maximum(1.0, 3)


def test_a_row_that_has_ended_is_no_prompt_that_is_too_short():
    """Its positions are -1 in the steps that longer rows still take."""
    rows = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    push, x = Steering([[act_add("resid_post.0", rows, 2.0)]]), torch.zeros(2, 1, 3)
    site = push.sites[0]
    assert torch.equal(push.apply(site, x, torch.tensor([[-1], [5]]), {}), x)
    found = push.apply(site, torch.zeros(2, 2, 3), torch.tensor([[-1, -1], [0, 1]]), {})
    torch.testing.assert_close(found, torch.stack([torch.zeros(2, 3), 2 * rows]))
    with pytest.raises(UsageError, match="at least 2 tokens expected, as it adds to so many; found 1"):
        push.apply(site, x, torch.tensor([[-1], [0]]), {})
