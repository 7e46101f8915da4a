"""A frozen pass: dictionaries that belong elsewhere are caught, tokens that pass through are kept out."""

from dataclasses import replace

import pytest
import torch
from random_dictionaries import random_dictionary
from tiny_families import random_tokens, shared_model

from gossamer.activations import TokenMask
from gossamer.attention import FrozenPass
from gossamer.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.model import Site


@pytest.fixture(scope="module")
def model():
    return shared_model("gpt2", dtype=torch.float64)


def test_a_value_is_the_sum_of_its_latents_bias_and_error(model):
    tokens = random_tokens()
    frozen = FrozenPass.of(
        model, [random_dictionary(model, tokens, "z.1")], tokens, mask=TokenMask(positions=(1, None))
    )
    codes = frozen.codes_at("z.1")
    written = codes.latents.dense() @ codes.dictionary.W_dec
    torch.testing.assert_close(written + codes.bias + codes.error, frozen.values[Site("z", 1)], rtol=0, atol=1e-12)
    assert codes.active(0, 0) == {}
    torch.testing.assert_close(codes.error[:, 0], frozen.values[Site("z", 1)][:, 0])
    found = codes.active(1, 4)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found == {latent: value for latent, value in enumerate(codes.latents.dense()[1, 4].tolist()) if value > 0}


def test_embeddings_are_tokens_and_positions(model):
    frozen = FrozenPass.of(model, [], random_tokens())
    tokens, positions = frozen.embeddings
    torch.testing.assert_close(tokens + positions, frozen.values[Site("embed")])
    # A position adds the same to every token; a token adds the same at every position.
    assert (positions - positions[:1]).abs().max() < 1e-12
    for name in ("llama", "gemma2", "granite"):
        rotary = FrozenPass.of(shared_model(name, dtype=torch.float64), [], random_tokens())
        assert rotary.embeddings[1] is None


def test_a_dictionary_of_another_tensor_is_caught(model):
    """The width of z is that of the stream: only what it does there tells."""
    tokens = random_tokens()
    loud = random_dictionary(model, tokens, "z.1")
    with torch.no_grad():
        loud.b_enc += 100.0
    with pytest.raises(UsageError, match=r"z\.1: an L0 near less than 25% of its 60 latents expected, found 60"):
        FrozenPass.of(model, [loud], tokens)
    far = random_dictionary(model, tokens, "z.1")
    with torch.no_grad():
        far.b_dec += 1e3
    with pytest.raises(UsageError, match=r"a reconstruction nearer to z\.1 than its mean expected"):
        FrozenPass.of(model, [far], tokens)


def test_a_residual_dictionary_on_heads_of_the_same_width_is_caught(model):
    """z is as wide as the stream, and a dictionary of the stream says nothing of it."""
    tokens = random_tokens()
    made = random_dictionary(model, tokens, "resid_post.1")
    with torch.no_grad():
        stream, z = (model.capture(tokens, [site])[site].double() for site in ("resid_post.1", "z.1"))
    assert stream.shape == z.shape
    # As trained ones do: what is left of the stream without its mean, back on it.
    with torch.no_grad():
        made.W_dec.mul_(4 * stream.std() / z.std())
    moved = Dictionary(replace(made.config, site=Site("z", 1)), dtype=torch.float64)
    moved.load_state_dict(made.state_dict())
    with pytest.raises(UsageError, match=r"dictionary at z\.1: .* it was trained on another tensor than this site's"):
        FrozenPass.of(model, [moved], tokens)


def test_dictionaries_under_another_name_than_their_sites_are_refused(model):
    made = random_dictionary(model, random_tokens(), "z.1")
    with pytest.raises(UsageError, match=r"a dictionary at z\.2 expected, found one at z\.1"):
        FrozenPass.of(model, {"z.2": made}, random_tokens())
    homeless = Dictionary(replace(made.config, site=None), dtype=torch.float64)
    with pytest.raises(UsageError, match="a dictionary that says which site it reads expected, found one at no site"):
        FrozenPass.of(model, [homeless], random_tokens())


def test_a_model_whose_attention_cannot_be_opened_is_refused(monkeypatch):
    model = shared_model("llama", dtype=torch.float64)
    monkeypatch.setattr(model.hf.config, "_attn_implementation", "flex_attention")
    with pytest.raises(UsageError, match=r"cannot be read under 'flex_attention' attention; load the model with attn"):
        FrozenPass.of(model, [], random_tokens())


def test_two_dictionaries_of_one_thing_are_refused(model):
    tokens = random_tokens()
    both = [random_dictionary(model, tokens, "z.1"), random_dictionary(model, tokens, "attn_out.1")]
    with pytest.raises(UsageError, match=r"two dictionaries explain attn_out\.1 \(z\.1, attn_out\.1\)"):
        _ = FrozenPass.of(model, both, tokens).writers
    with pytest.raises(UsageError, match=r"two dictionaries read z\.1"):
        FrozenPass.of(model, [both[0], both[0]], tokens)


def test_dictionaries_count_where_they_learned(model):
    """What a file says of its training decides, unless a mask is given."""
    tokens = random_tokens()
    dictionary = random_dictionary(model, tokens, "z.1")
    dictionary.provenance["training"] = {"seqpos_slice": [2, None]}
    found = FrozenPass.of(model, [dictionary], tokens)
    assert found.replaced[:, :2].sum() == 0
    assert found.replaced[:, 2:].all()
    assert FrozenPass.of(model, [dictionary], tokens, mask=TokenMask(positions=(1, None))).replaced[:, 1].all()
