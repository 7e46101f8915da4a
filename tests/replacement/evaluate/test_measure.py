"""Evaluations against the same numbers taken token by token, and against what identities demand."""

import pytest
import torch
from evaluation_oracles import TEXTS, by_token, losses, random_dictionary

from gossamer.activations import REAL_TOKENS
from gossamer.dictionary import attach
from gossamer.dictionary.config import Contents, DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import NotFiniteError, UsageError
from gossamer.replacement.evaluate import Evaluation, evaluate


def identity(site, d):
    """x = relu(x) - relu(-x): a dictionary that loses nothing."""
    eye = torch.eye(d)
    config = DictionaryConfig("relu", d, 2 * d, site=site)
    tensors = {"W_enc": torch.cat([eye, -eye], dim=1), "W_dec": torch.cat([eye, -eye])}
    return Dictionary.from_contents(Contents(config, tensors | {"b_enc": torch.zeros(2 * d), "b_dec": torch.zeros(d)}))


@pytest.fixture
def tokens(tiny_gpt2):
    return tiny_gpt2.tokenize(TEXTS, bos=True)


@pytest.fixture
def sites(tiny_gpt2):
    return [tiny_gpt2.sites("resid_post")[0], tiny_gpt2.sites("mlp_out")[1]]


@pytest.fixture
def dictionaries(tiny_gpt2, sites):
    first = random_dictionary(sites[0], tiny_gpt2.d_model, normalisation="layer_norm")
    return {sites[0]: first, sites[1]: random_dictionary(sites[1], tiny_gpt2.d_model, architecture="jumprelu")}


@pytest.fixture
def found(tiny_gpt2, dictionaries, tokens) -> dict:
    return evaluate(tiny_gpt2, dictionaries, tokens, batch_size=3)


def test_reconstruction_by_token(tiny_gpt2, dictionaries, tokens, found):
    for site, dictionary in dictionaries.items():
        x, out, latents, _ = by_token(tiny_gpt2, dictionary, tokens)
        one = found[site]
        error, spread = (x - out).square().sum(1), (x - x.mean(0)).square().sum(1)
        assert (one.tokens, one.site) == (len(x), site)
        expected = {
            "l0": (latents > 0).sum(1).double().mean(),
            "l1": latents.sum(1).mean(),
            "mse": (x - out).square().mean(),
            "explained_variance": 1 - error.sum() / spread.sum(),
            "explained_variance_legacy": (1 - error / spread).mean(),
            "cosine": torch.cosine_similarity(x, out).mean(),
            "norm_in": x.norm(dim=1).mean(),
            "norm_out": out.norm(dim=1).mean(),
            "norm_ratio": (out.norm(dim=1) / x.norm(dim=1)).mean(),
            "reconstruction_bias": out.square().sum(1).mean() / (x * out).sum(1).mean(),
        }
        for name, value in expected.items():
            assert getattr(one, name) == pytest.approx(value.item(), rel=1e-5, abs=1e-6), name
        assert one.explained_variance != pytest.approx(one.explained_variance_legacy, rel=1e-3)
        assert one.fired.tolist() == (latents > 0).sum(0).tolist()
        assert one.dead == (latents.max(0).values == 0).double().mean().item()
        assert one.dense == ((latents > 0).double().mean(0) > 0.1).double().mean().item()


def test_predictions_by_row(tiny_gpt2, dictionaries, tokens, found):
    model = tiny_gpt2
    for site, dictionary in dictionaries.items():

        def replaced(one, make, site=site):
            keep = (one.ids != model.tokenizer.bos_token_id)[..., None]
            return {site: lambda x: torch.where(keep, make(x), x)}

        clean, odds = losses(model, tokens, lambda one: {})
        spliced, after = losses(model, tokens, lambda one, d=dictionary: replaced(one, d))
        zero, without = losses(model, tokens, lambda one: replaced(one, torch.zeros_like))
        one = found[site]
        assert one.predicted == len(odds)
        assert (one.ce_model, one.ce_spliced, one.ce_zero) == pytest.approx((clean, spliced, zero), rel=1e-5)
        for name, other in (("kl_spliced", after), ("kl_zero", without)):
            kl = (odds.exp() * (odds - other)).sum(1).mean().item()
            assert getattr(one, name) == pytest.approx(kl, rel=1e-4, abs=1e-7)
        assert one.loss_recovered == pytest.approx((zero - spliced) / (zero - clean), rel=1e-3)


def test_positions_add_up(tiny_gpt2, dictionaries, tokens, found):
    for site, dictionary in dictionaries.items():
        x, out, latents, kept = by_token(tiny_gpt2, dictionary, tokens)
        place = kept.nonzero()[:, 1]
        spread = (x - x.mean(0)).square().sum(1)
        assert sum(one.tokens for one in found[site].positions) == found[site].tokens
        assert found[site].positions[0].position == 1
        for one in found[site].positions:
            here = place == one.position
            assert one.tokens == int(here.sum())
            assert one.l0 == pytest.approx((latents[here] > 0).sum(1).double().mean().item())
            share = ((x - out)[here].square().sum() / spread[here].sum()).item()
            assert one.unexplained == pytest.approx(share, rel=1e-5)


def test_a_dictionary_that_loses_nothing(tiny_gpt2, tokens, sites):
    one = evaluate(tiny_gpt2, {sites[0]: identity(sites[0], tiny_gpt2.d_model)}, tokens)[sites[0]]
    assert one.explained_variance == pytest.approx(1, abs=1e-6)
    assert (one.cosine, one.norm_ratio, one.reconstruction_bias) == pytest.approx((1, 1, 1), abs=1e-6)
    assert one.ce_spliced == pytest.approx(one.ce_model, abs=1e-6)
    assert one.loss_recovered == pytest.approx(1, abs=1e-4)
    assert one.kl_score == pytest.approx(1, abs=1e-4)
    assert one.l0 == pytest.approx(tiny_gpt2.d_model)


def test_it_agrees_with_what_attaching_measures(tiny_gpt2, dictionaries, tokens, found):
    for site, measured in attach.measure(tiny_gpt2, dictionaries, tokens).items():
        assert found[site].l0 == pytest.approx(measured.l0)
        assert found[site].explained_variance == pytest.approx(measured.explained_variance, rel=1e-6)


def test_bos_is_measured_when_asked(tiny_gpt2, dictionaries, tokens, sites, found):
    one = evaluate(tiny_gpt2, dictionaries, tokens, mask=REAL_TOKENS)[sites[0]]
    assert one.tokens == found[sites[0]].tokens + len(TEXTS)
    assert one.positions[0].position == 0
    assert (one.includes_bos, found[sites[0]].includes_bos) == (True, False)
    assert one.ce_zero != pytest.approx(found[sites[0]].ce_zero)


def test_batches_do_not_matter(tiny_gpt2, dictionaries, tokens, sites, found):
    one = evaluate(tiny_gpt2, dictionaries, tokens, batch_size=1)[sites[1]]
    for name in ("mse", "explained_variance_legacy", "ce_spliced", "kl_zero", "norm_ratio"):
        assert getattr(one, name) == pytest.approx(getattr(found[sites[1]], name), rel=1e-6)


def test_the_histogram_holds_every_living_latent(found, sites):
    one: Evaluation = found[sites[0]]
    edges, counts = one.density_histogram(10)
    assert (len(edges), len(counts)) == (11, 10)
    assert sum(counts) == int((one.fired > 0).sum())
    assert edges[0] == pytest.approx(-torch.log10(torch.tensor(float(one.tokens))).item())
    above = (one.density >= 10 ** edges[-2]).sum().item()
    assert abs(counts[-1] - above) <= 1


def test_too_little_text_and_what_is_not_finite_are_refused(tiny_gpt2, dictionaries, sites):
    with pytest.raises(UsageError, match="at least two tokens besides BOS and padding"):
        evaluate(tiny_gpt2, dictionaries, tiny_gpt2.tokenize([" Mary"], bos=True))
    broken = random_dictionary(sites[0], tiny_gpt2.d_model)
    broken.W_dec[3] = float("nan")
    with pytest.raises(NotFiniteError, match=str(sites[0])):
        evaluate(tiny_gpt2, {sites[0]: broken}, tiny_gpt2.tokenize(TEXTS, bos=True))


def test_a_transcoder_is_refused(tiny_gpt2, tokens, sites):
    transcoder = random_dictionary(sites[0], tiny_gpt2.d_model, site_out=sites[1])
    with pytest.raises(UsageError, match=f"evaluation needs .* found a transcoder from {sites[0]} to {sites[1]}"):
        evaluate(tiny_gpt2, {sites[0]: transcoder}, tokens)


def test_sites_may_be_names(tiny_gpt2, dictionaries, tokens, found):
    named = {str(site): one for site, one in dictionaries.items()}
    again = evaluate(tiny_gpt2, named, tokens, batch_size=3)
    assert list(again) == list(found)
    assert again["resid_post.0"].l0 == found["resid_post.0"].l0
    assert [one.site for one in attach.attach(tiny_gpt2, named, tokens)] == list(found)
