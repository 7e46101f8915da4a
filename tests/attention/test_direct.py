"""Direct feature attribution: shares of heads and sources sum to what they are shares of, in every family."""

import pytest
import torch
from random_dictionaries import pre_activations, random_dictionary
from tiny_families import CONFIGS, random_tokens, shared_model

from gossamer.activations import TokenMask
from gossamer.attention import FrozenPass, direct_attribution
from gossamer.errors import UsageError
from gossamer.model import Site

# Gemma 2 takes its softmax in float32 whatever the model's type.
ROUGH = {"gemma2": 1e-6}


@pytest.fixture(scope="module")
def frozen():
    model, tokens = shared_model("llama", dtype=torch.float64), random_tokens()
    return FrozenPass.of(
        model, [random_dictionary(model, tokens, "z.1"), random_dictionary(model, tokens, "resid_post.1")], tokens
    )


@pytest.mark.parametrize("name", list(CONFIGS))
def test_heads_and_sources_sum_to_the_pre_activation(name):
    model, tokens = shared_model(name, dtype=torch.float64), random_tokens()
    dictionary = random_dictionary(model, tokens, "z.2", subtract_b_dec=True)
    found = direct_attribution(FrozenPass.of(model, [dictionary], tokens), "z.2")
    with torch.no_grad():
        z = model.capture(tokens, ["z.2"])["z.2"].double()
    at = (found.rows, found.positions)
    expected = pre_activations(dictionary, z)[(*at, found.latents)]
    close = {"rtol": 0, "atol": ROUGH.get(name, 1e-12)}
    assert len(found) > 50
    assert found.bias.abs().min() > 0
    torch.testing.assert_close(found.contributions.sum(dim=(1, 2)) + found.bias, expected, **close)
    torch.testing.assert_close(found.pre_activations, expected, **close)
    torch.testing.assert_close(found.activations, expected, **close)
    # By head: the encoder's part of each head times the head's own output.
    heads = torch.unflatten(z[at], -1, (model.n_heads, -1))
    by_head = (torch.unflatten(dictionary.W_enc.T[found.latents], -1, (model.n_heads, -1)) * heads).sum(dim=-1)
    torch.testing.assert_close(found.by_head, by_head, **close)
    # Nothing comes from later tokens.
    sources = torch.arange(tokens.ids.shape[1])
    assert (found.by_source[sources > found.positions.unsqueeze(1)] == 0).all()


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "olmo2", "granite"])
@pytest.mark.parametrize("site", ["attn_out.1", "resid_post.1", "mlp_in.2"])
def test_latents_of_the_stream_have_shares_of_every_layer(name, site):
    """A layer's shares and biases are the latent's vector times what that layer's attention added."""
    model, tokens = shared_model(name, dtype=torch.float64), random_tokens()
    dictionary = random_dictionary(model, tokens, site)
    frozen = FrozenPass.of(model, [dictionary], tokens)
    for layer in [1] if site == "attn_out.1" else [0, 1]:
        found = direct_attribution(frozen, site, layer=layer)
        at = (found.rows, found.positions)
        vectors = dictionary.W_enc.T[found.latents]
        if site == "mlp_in.2":
            norm, scale = model.anatomy.mlp_norm(2), Site("mlp_norm_scale", 2)
            if norm is not None:
                scales = frozen.values[scale][at]
                vectors, _ = model.anatomy.norm_of(norm).pulled_back(vectors, scales)
        expected = (vectors * frozen.values[Site("attn_out", layer)][at]).sum(dim=-1)
        torch.testing.assert_close(found.contributions.sum(dim=(1, 2)) + found.bias, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["layer_norm", "centre", "constant_norm_rescale"])
def test_normalising_dictionaries_are_linear_at_the_scale_they_found(kind):
    model, tokens = shared_model("gpt2", dtype=torch.float64), random_tokens()
    dictionary = random_dictionary(model, tokens, "z.2", normalisation=kind, subtract_b_dec=True)
    frozen = FrozenPass.of(model, [dictionary], tokens)
    found = direct_attribution(frozen, "z.2")
    expected = pre_activations(dictionary, frozen.values[Site("z", 2)])
    expected = expected[found.rows, found.positions, found.latents]
    torch.testing.assert_close(found.contributions.sum(dim=(1, 2)) + found.bias, expected, rtol=0, atol=1e-12)


def test_one_position_and_chosen_latents(frozen):
    everything = direct_attribution(frozen, "z.1")
    last = direct_attribution(frozen, "z.1", position=-1)
    chosen = everything.positions == 8
    torch.testing.assert_close(last.contributions, everything.contributions[chosen])
    some = direct_attribution(frozen, "z.1", position=-1, latents=torch.tensor([3, 5]))
    assert (len(some), some.latents.tolist()) == (6, [3, 5] * 3)
    for entry in range(len(some)):
        same = (last.rows == some.rows[entry]) & (last.latents == some.latents[entry])
        assert bool(same.any()) == bool(some.activations[entry] > 0)
        if same.any():
            torch.testing.assert_close(some.contributions[entry], last.contributions[same][0])
    assert "resid_post.1" not in repr(some)
    assert str(some.feature(1)) == "z.1/5"


def test_nothing_active_is_no_entry():
    model, tokens = shared_model("gpt2", dtype=torch.float64), random_tokens()
    dictionary = random_dictionary(model, tokens, "z.1")
    later = FrozenPass.of(model, [dictionary], tokens, mask=TokenMask(positions=(1, None)))
    found = direct_attribution(later, "z.1", position=0)
    assert (len(found), found.contributions.shape) == (0, (0, 4, 9))


def test_blocks_change_nothing(frozen, monkeypatch):
    whole = direct_attribution(frozen, "z.1")
    monkeypatch.setattr("gossamer.attention.direct._BLOCK", 100)
    blocks = direct_attribution(frozen, "z.1")
    torch.testing.assert_close(blocks.contributions, whole.contributions, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("site", "options", "message"),
    [
        ("z.0", {}, "z.0: a dictionary expected, found some at z.1, resid_post.1 only"),
        ("z.1", {"position": 9}, "position: one of -9 to 8 expected, found 9"),
        ("z.1", {"latents": torch.tensor([60])}, "latents from 0 to 59 expected"),
        ("z.1", {"layer": 0}, "a layer whose attention it reads directly expected, found 0"),
        ("resid_post.1", {}, "give layer="),
        ("resid_post.1", {"layer": 2}, "a layer whose attention it reads directly expected, found 2"),
    ],
)
def test_bad_requests_are_one_line(frozen, site, options, message):
    with pytest.raises(UsageError, match=message) as raised:
        direct_attribution(frozen, site, **options)
    assert "\n" not in str(raised.value)
