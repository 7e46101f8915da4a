"""Measuring and attaching: sums against numpy, and the wrong tensor of the right width is caught."""

import dataclasses
import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gossamer.activations import attention_sink
from gossamer.activations.token_mask import counted_tokens
from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet, ReportedMetrics
from gossamer.dictionary.attach import DictionaryWarning, attach, measure
from gossamer.dictionary.config import Contents
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tokens import Tokens

BOS, D = 0, 12


class Toy(LanguageModel):
    """A model whose activations are a table: site, then token id, to vector."""

    name = "toy"
    n_layers = 3
    tokenizer = SimpleNamespace(bos_token_id=BOS)

    def __init__(self, tables):
        self.tables = tables
        self.batches = []
        # What stands at a token is the same at every position: no first token is a sink.
        attention_sink._known[self] = False

    def width(self, site):
        return next(iter(self.tables.values())).shape[1]

    def capture(self, tokens, sites):
        self.batches.append(len(tokens))
        return {site: self.tables[site][tokens.ids] for site in sites}


def table(seed, rank=4, vocabulary=50):
    """Activations in a subspace of few dimensions, of its own for each seed, and a huge BOS."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(D, rank, generator=generator))[0]
    values = torch.randn(vocabulary, rank, generator=generator) @ basis.T + 2 * basis[:, 0]
    values[BOS] = 500.0
    return values


def perfect(values, site, reported=None, model_name="toy"):
    """A relu dictionary with one latent a direction, both signs: it reconstructs the table's subspace exactly."""
    directions = torch.linalg.svd(values[1:])[2][:4]
    encoder = torch.cat([directions, -directions])
    config = DictionaryConfig("relu", D, len(encoder), Site.parse(site), model_name)
    tensors = {"W_enc": encoder.T, "W_dec": encoder, "b_enc": torch.zeros(8), "b_dec": torch.zeros(D)}
    sae = Dictionary(config, reported=reported)
    sae.load_state_dict(tensors)
    return sae.requires_grad_(False)


@pytest.fixture
def tokens():
    """BOS first in every row, padding on the right, and one BOS inside a row."""
    ids = torch.randint(1, 50, (9, 8), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = BOS
    ids[3, 4] = BOS
    mask = torch.arange(8) < torch.arange(9)[:, None] % 5 + 4
    return Tokens(ids, mask)


@pytest.fixture
def model():
    return Toy({Site("z", 1): table(5), Site("resid_post", 1): table(6)})


def test_bos_and_padding_do_not_count(model, tokens):
    counted = counted_tokens(model, tokens)
    expected = tokens.mask.clone()
    expected[:, 0] = False
    expected[3, 4] = False
    assert torch.equal(counted, expected)
    model.tokenizer = SimpleNamespace(bos_token_id=None)
    assert torch.equal(counted_tokens(model, tokens), tokens.mask)


@pytest.mark.parametrize("architecture", ["relu", "topk", "gated", "batchtopk"])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_measures_are_those_of_numpy(make, model, tokens, architecture, batch_size):
    site = Site("z", 1)
    sae = make(architecture, site="z.1", normalisation="layer_norm", subtract_b_dec=True)
    result = measure(model, {site: sae}, tokens, batch_size=batch_size)[site]
    kept = model.tables[site][tokens.ids[counted_tokens(model, tokens)]]
    exact, out = kept.double().numpy(), sae(kept).double().numpy()
    assert result.explained_variance == pytest.approx(
        1 - np.square(exact - out).sum() / np.square(exact - exact.mean(0)).sum(), rel=1e-6
    )
    assert result.l0 == pytest.approx((sae.encode_dense(kept) > 0).sum(-1).double().mean().item())
    assert result.tokens == len(kept)
    assert result.formula == "1 - sum ||x - x_hat||^2 / sum ||x - mean||^2"


def test_a_dictionary_that_fits_attaches_silently(model, tokens):
    dictionaries = DictionarySet(
        [
            perfect(model.tables[Site("z", 1)], "z.1", ReportedMetrics(4.0, 1.0)),
            perfect(model.tables[Site("resid_post", 1)], "resid_post.1"),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attachments = dictionaries.attach(model, tokens)
    assert [str(attachment.site) for attachment in attachments] == ["z.1", "resid_post.1"]
    for attachment in attachments:
        assert attachment.warnings == ()
        assert attachment.measured.explained_variance == pytest.approx(1, abs=1e-6)
        assert attachment.measured.l0 == pytest.approx(4, abs=0.2)


def test_the_wrong_tensor_of_the_same_width_is_caught(model, tokens, tmp_path):
    z = perfect(model.tables[Site("z", 1)], "z.1", ReportedMetrics(4.0, 0.99))
    z.save(tmp_path)
    with pytest.raises(UsageError, match=r"the file's site is z\.1"):
        DictionarySet.load(tmp_path, site="resid_post.1")
    with pytest.raises(UsageError, match=r"expected a dictionary of resid_post\.1, found one of z\.1"):
        attach(model, {Site("resid_post", 1): z}, tokens)
    mislabelled = perfect(model.tables[Site("z", 1)], "resid_post.1", ReportedMetrics(4.0, 0.99))
    with pytest.warns(DictionaryWarning, match=r"explained variance .* its file claims 0\.99; .* another tensor"):
        (attachment,) = DictionarySet([mislabelled]).attach(model, tokens)
    assert len(attachment.warnings) == 1


def test_worse_than_the_mean_needs_no_claim(make, model, tokens):
    with pytest.warns(DictionaryWarning, match="worse than the mean"):
        DictionarySet([make(site="z.1")]).attach(model, tokens)


@pytest.mark.parametrize(("claimed", "warned"), [(4.0, False), (7.9, False), (2.1, False), (8.5, True), (1.9, True)])
def test_l0_within_a_factor_of_two(model, tokens, claimed, warned):
    sae = perfect(model.tables[Site("z", 1)], "z.1", ReportedMetrics(l0=claimed))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (attachment,) = DictionarySet([sae]).attach(model, tokens)
    assert bool(attachment.warnings) == warned == any("L0 is 4" in str(each.message) for each in caught)


def test_other_models_sites_and_widths_are_refused(make, model, tokens):
    with pytest.raises(UsageError, match="trained on gpt2-small, the model is toy"):
        DictionarySet([make(site="z.1", model_name="gpt2-small")]).attach(model, tokens)
    with pytest.raises(UsageError, match="toy has layers 0 to 2"):
        DictionarySet([make(site="z.3")]).attach(model, tokens)
    model.tables = {Site("z", 1): torch.zeros(50, 16)}
    with pytest.raises(UsageError, match="expected width 16 as in toy, found 12"):
        DictionarySet([make(site="z.1")]).attach(model, tokens)


def test_another_model_may_be_meant_and_no_model_is_said(model, tokens):
    values = model.tables[Site("z", 1)]
    with pytest.warns(DictionaryWarning, match="trained on other, used on toy"):
        DictionarySet([perfect(values, "z.1", model_name="other")]).attach(model, tokens, allow_other_model=True)
    with pytest.warns(DictionaryWarning, match="names no model"):
        DictionarySet([perfect(values, "z.1", model_name=None)]).attach(model, tokens)


@pytest.mark.parametrize("name", ["toy", "someone/toy", "some/folder/Toy/"])
def test_names_are_compared_without_their_owner(model, tokens, name):
    dictionaries = DictionarySet([perfect(model.tables[Site("z", 1)], "z.1", model_name=name)])
    assert dictionaries.attach(model, tokens)[0].warnings == ()
    model.name = "openai-community/gpt2"
    aliased = DictionarySet([perfect(model.tables[Site("z", 1)], "z.1", model_name="gpt2-small")])
    assert aliased.attach(model, tokens)[0].warnings == ()


def test_too_little_text_and_activations_that_are_not_finite(make, model, tokens):
    with pytest.raises(UsageError, match="at least two tokens"):
        measure(model, {Site("z", 1): make(site="z.1")}, Tokens.full(tokens.ids[:1, :2]))
    model.tables[Site("z", 1)][7] = math.nan
    with pytest.raises(NotFiniteError, match=r"activations at z\.1"):
        measure(model, {Site("z", 1): make(site="z.1")}, Tokens.full(torch.tensor([[BOS, 7, 8]])))


def test_batches_bound_the_memory(make, model, tokens):
    measure(model, {Site("z", 1): make(site="z.1")}, tokens, batch_size=4)
    assert model.batches == [4, 4, 1]


@pytest.fixture(scope="module")
def gpt2():
    """A tiny GPT-2, whose z and residual stream have the same width, and text for it."""
    torch.manual_seed(0)
    config = GPT2Config(n_layer=2, n_embd=16, n_head=4, vocab_size=30, n_positions=16, bos_token_id=0, eos_token_id=0)
    return LanguageModel.load(GPT2LMHeadModel(config).eval()), Tokens.full(torch.randint(1, 30, (8, 12)))


@pytest.mark.parametrize("architecture", ["relu", "jumprelu", "topk", "batchtopk"])
def test_on_a_model_z_is_told_from_the_stream(gpt2, tmp_path, architecture):
    model, tokens = gpt2
    z = model.capture(tokens, [Site("z", 1)])[Site("z", 1)].detach().flatten(0, 1)
    sae = principal(z, architecture, model.name)
    sae.reported = ReportedMetrics(
        explained_variance=measure(model, {Site("z", 1): sae}, tokens)[Site("z", 1)].explained_variance
    )
    assert sae.reported.explained_variance > 0.7
    fitting = DictionarySet.load(DictionarySet([sae]).save(tmp_path / "set"))
    assert fitting.attach(model, tokens)[0].warnings == ()
    config = dataclasses.replace(sae.config, site=Site("resid_post", 1))
    mislabelled = Dictionary.from_contents(Contents(config, sae.state_dict(), sae.provenance, sae.reported))
    with pytest.warns(DictionaryWarning, match=r"resid_post\.1: explained variance"):
        DictionarySet([mislabelled]).attach(model, tokens)


def principal(x, architecture, model_name):
    """Half the principal directions of `x` in both signs around its mean: a good dictionary of `x` alone."""
    mean = x.mean(0)
    directions = torch.linalg.svd(x - mean, full_matrices=False)[2][:8]
    encoder = torch.cat([directions, -directions])
    config = DictionaryConfig(
        architecture,
        x.shape[1],
        len(encoder),
        Site("z", 1),
        model_name,
        k=8 if architecture == "topk" else None,
        subtract_b_dec=True,
    )
    tensors = {"W_enc": encoder.T, "W_dec": encoder, "b_enc": torch.zeros(len(encoder)), "b_dec": mean}
    if "threshold" in config.shapes:
        tensors["threshold"] = torch.full(config.shapes["threshold"], 1e-6)
    return Dictionary.from_contents(Contents(config, tensors))


@pytest.mark.parametrize("skip", [False, True])
def test_what_a_transcoder_explains_is_what_it_writes(model, tokens, skip):
    read, written = model.tables
    config = DictionaryConfig("relu", D, 40, read, "toy", site_out=written, skip=skip)
    generator = torch.Generator().manual_seed(8)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in config.shapes.items()}
    transcoder = Dictionary.from_contents(Contents(config, tensors))
    found = measure(model, {read: transcoder}, tokens, batch_size=4)[read]
    ids = tokens.ids[counted_tokens(model, tokens)]
    x, y = (model.tables[site][ids].double().numpy() for site in (read, written))
    w = {name: value.double().numpy() for name, value in tensors.items()}
    latents = np.maximum(x @ w["W_enc"] + w["b_enc"], 0)
    error = np.square(y - latents @ w["W_dec"] - w["b_dec"] - (x @ w["W_skip"] if skip else 0)).sum()
    assert found.l0 == pytest.approx((latents > 0).sum(axis=1).mean())
    assert found.explained_variance == pytest.approx(1 - error / np.square(y - y.mean(axis=0)).sum(), rel=1e-5)
    with pytest.raises(UsageError, match=r"attaching it needs .* found a transcoder from z\.1 to resid_post\.1"):
        attach(model, {read: transcoder}, tokens)
