"""Other ways of coding, by hand and by what each of them promises."""

import itertools

import pytest
import torch
from scipy.optimize import nnls

from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.encoding_methods import encoded, pursued, refit, rescaled, top_k
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.replacement.evaluate import evaluate_methods


def shrunken(d=12, n=40, factor=None):
    """Unit rows and an encoder that finds roughly the right latents, too weakly."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n, d, generator=generator, dtype=torch.float64)
    rows /= rows.norm(dim=1, keepdim=True)
    factor = torch.ones(n, dtype=torch.float64) if factor is None else factor
    config = DictionaryConfig("relu", d, n, site=Site("resid_post", 0))
    tensors = {"W_enc": rows.T * factor, "W_dec": rows, "b_enc": -0.3 * factor, "b_dec": torch.full((d,), 0.1).double()}
    return Dictionary.from_contents(Contents(config, tensors))


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(60, 12, generator=generator, dtype=torch.float64)


def error(dictionary, method, x):
    return (x - dictionary.decode(method.encode(x))).square().sum(dim=1)


def test_the_cut_encoder_keeps_its_strongest(x):
    dictionary = shrunken()
    whole = dictionary.encode_dense(x)
    found = top_k(dictionary, 3).encode(x).dense()
    values, latents = whole.topk(3, dim=1)
    torch.testing.assert_close(found, torch.zeros_like(whole).scatter(1, latents, values))
    torch.testing.assert_close(top_k(dictionary, 40).encode(x).dense(), whole)


def test_the_strongest_are_those_that_write_most_whatever_their_rows_norms(x):
    dictionary = shrunken()
    lengths = torch.linspace(0.1, 10, 40, dtype=torch.float64)
    tensors = {name: value.clone() for name, value in dictionary.state_dict().items()}
    tensors["W_enc"], tensors["b_enc"] = tensors["W_enc"] / lengths, tensors["b_enc"] / lengths
    tensors["W_dec"] *= lengths[:, None]
    longer = Dictionary.from_contents(Contents(dictionary.config, tensors))
    found, expected = (top_k(one, 3).encode(x) for one in (longer, dictionary))
    torch.testing.assert_close(found.dense() * lengths, expected.dense())


def test_reweighting_is_the_best_that_the_same_latents_can_do(x):
    dictionary = shrunken()
    chosen = top_k(dictionary, 4).encode(x)
    found = refit(dictionary, 4).encode(x)
    assert (found.dense() > 0).sum() <= (chosen.dense() > 0).sum()
    assert not ((found.dense() > 0) & (chosen.dense() == 0)).any()
    for row in range(20):
        rows = dictionary.W_dec[chosen.indices[row]]
        best = min(
            residual(rows[list(some)], x[row] - dictionary.b_dec)
            for size in range(1, 5)
            for some in itertools.combinations(range(4), size)
            if nonnegative(rows[list(some)], x[row] - dictionary.b_dec)
        )
        assert error(dictionary, refit(dictionary, 4), x[row : row + 1]).item() == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize("k", [2, 12, 40])
def test_reweighting_never_makes_a_token_worse(x, k):
    dictionary = shrunken()
    before, after = (error(dictionary, method(dictionary, k), x) for method in (top_k, refit))
    assert (after <= before + 1e-9).all()


def test_reweighting_more_latents_than_dimensions_is_non_negative_least_squares(x):
    dictionary = shrunken()
    chosen, found = top_k(dictionary, 40).encode(x), error(dictionary, refit(dictionary, 40), x)
    for row in range(20):
        rows = dictionary.W_dec[chosen.indices[row, : int(chosen.l0[row])]]
        _, best = nnls(rows.T.numpy(), (x[row] - dictionary.b_dec).numpy())
        assert found[row].sqrt().item() == pytest.approx(best, abs=0.02 * x[row].norm().item())


def residual(rows, target):
    return (target - solved(rows, target) @ rows).square().sum().item()


def nonnegative(rows, target):
    return bool((solved(rows, target) >= 0).all())


def solved(rows, target):
    return torch.linalg.lstsq(rows.T, target[:, None]).solution[:, 0]


def test_rescaling_undoes_shrinkage_exactly_where_latents_do_not_overlap():
    factor = torch.tensor([0.5, 0.25, 2.0, 1.0], dtype=torch.float64)
    config = DictionaryConfig("relu", 4, 4, site=Site("resid_post", 0))
    eye = torch.eye(4, dtype=torch.float64)
    tensors = {"W_enc": eye * factor, "W_dec": eye, "b_enc": torch.zeros(4), "b_dec": torch.zeros(4)}
    dictionary = Dictionary.from_contents(Contents(config, {k: v.double() for k, v in tensors.items()}))
    x = torch.rand(30, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 3] = 0
    found = rescaled(dictionary, x).encode(x).dense()
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-6)
    later = torch.tensor([[0, 0, 0, 2.0]], dtype=torch.float64)
    torch.testing.assert_close(rescaled(dictionary, x).encode(later).dense(), later)


def test_a_factor_and_a_shift_undo_a_penalty_exactly_where_latents_do_not_overlap():
    factor, taken = torch.tensor([0.5, 0.25, 2.0, 1.0], dtype=torch.float64), torch.tensor([0.1, 0.05, 0.5, 0.3])
    config = DictionaryConfig("relu", 4, 4, site=Site("resid_post", 0))
    eye = torch.eye(4, dtype=torch.float64)
    tensors = {"W_enc": eye * factor, "W_dec": eye, "b_enc": -taken, "b_dec": torch.zeros(4)}
    dictionary = Dictionary.from_contents(Contents(config, {k: v.double() for k, v in tensors.items()}))
    x = torch.rand(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, 3] = 0
    active = dictionary.encode_dense(x) > 0
    torch.testing.assert_close(rescaled(dictionary, x, shift=True).encode(x).dense(), x * active, rtol=1e-3, atol=1e-4)
    assert error(dictionary, rescaled(dictionary, x), x).sum() > 0.1
    # What was never active stays as it is.
    later = torch.tensor([[0, 0, 0, 2.0]], dtype=torch.float64)
    found = rescaled(dictionary, x, shift=True).encode(later).dense()
    torch.testing.assert_close(found, dictionary.encode_dense(later))


def test_rescaling_helps_a_shrunken_encoder_and_changes_no_choice(x):
    dictionary = shrunken(factor=torch.linspace(0.2, 0.8, 40, dtype=torch.float64))
    found = rescaled(dictionary, x)
    assert error(dictionary, found, x).sum() < error(dictionary, encoded(dictionary), x).sum()
    before = dictionary.encode_dense(x)
    assert not ((found.encode(x).dense() > 0) & (before == 0)).any()


def test_pursuit_chooses_better_than_the_encoder(x):
    dictionary = shrunken()
    assert error(dictionary, pursued(dictionary, 4), x).sum() < error(dictionary, refit(dictionary, 4), x).sum()


@pytest.mark.parametrize("skip", [False, True])
def test_a_transcoder_is_refused(x, skip):
    config = DictionaryConfig("relu", 12, 40, site=Site("mlp_in", 0), site_out=Site("mlp_out", 0), skip=skip)
    transcoder = Dictionary(config, device="meta")
    with pytest.raises(UsageError, match=r"reweighting needs .* found a transcoder from mlp_in\.0 to mlp_out\.0"):
        refit(transcoder, 5)
    with pytest.raises(UsageError, match=r"rescaling needs .* found a transcoder"):
        rescaled(transcoder, x)


def test_all_of_them_can_be_evaluated(tiny_gpt2):
    d, site = tiny_gpt2.d_model, tiny_gpt2.sites("resid_post")[1]
    generator = torch.Generator().manual_seed(0)
    config = DictionaryConfig("relu", d, 2 * d, site=site)
    tensors = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in config.shapes.items()}
    dictionary = Dictionary.from_contents(Contents(config, tensors))
    tokens = tiny_gpt2.tokenize([" Mary went to the store", " John gave a drink to Mary"], bos=True)
    sample = tiny_gpt2.capture(tokens, [site])[site][tokens.mask]
    methods = {
        "encoder": encoded(dictionary),
        "top_k": top_k(dictionary, 5),
        "refit": refit(dictionary, 5),
        "rescaled": rescaled(dictionary, sample),
        "shifted": rescaled(dictionary, sample, shift=True),
        "pursuit": pursued(dictionary, 5),
    }
    found = evaluate_methods(tiny_gpt2, methods, tokens)
    assert max(found[name].l0 for name in ("top_k", "refit", "pursuit")) <= 5
    assert found["refit"].mse < found["top_k"].mse
    assert max(found[name].mse for name in ("rescaled", "shifted")) < found["encoder"].mse
    assert found["pursuit"].mse < found["refit"].mse
    assert len({one.ce_spliced for one in found.values()}) == 6
    assert len({one.ce_zero for one in found.values()}) == 1
