"""The replacement model against the same edits written by hand, in float64."""

import pytest
import torch
from torch import nn
from word_model import tiny_gpt2_model

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.errors import UsageError
from gossamer.model import LanguageModel, Site
from gossamer.replacement import ReplacementModel

TEXTS = [" Mary went to the store", " John and Mary went", " Then John gave a drink to Mary and John"]
NAMES = ("resid_post.0", "z.1", "mlp_out.1", "resid_post.1", "resid_post.2")
EXACT = {"atol": 1e-9, "rtol": 1e-9}


def dictionary(site: Site, seed: int, **conventions) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)
    made = Dictionary(DictionaryConfig("relu", 32, 48, site=site, **conventions), dtype=torch.float64)
    for parameter in made.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made.requires_grad_(False)


@pytest.fixture
def model(tokenizer) -> LanguageModel:
    return LanguageModel.load(tiny_gpt2_model(tokenizer).double(), tokenizer=tokenizer)


@pytest.fixture
def tokens(model):
    return model.tokenize(TEXTS, bos=True)


@pytest.fixture
def replaced(tokens):
    """Neither BOS nor padding, nor one token in the middle."""
    chosen = tokens.mask & (torch.arange(tokens.mask.shape[1]) > 0)
    chosen[1, 2] = False
    return chosen


@pytest.fixture
def dictionaries():
    return {Site.parse(name): dictionary(Site.parse(name), seed) for seed, name in enumerate(NAMES)}


def by_hand(model, dictionaries, tokens, replaced, rule):
    """Logits with `rule(site, x)` at the replaced tokens: plain edits, from the first layer on."""

    def edit(site):
        return lambda x: torch.where(replaced[..., None], rule(site, x), x)

    with model.edit({site: edit(site) for site in dictionaries}):
        return model.logits(tokens)


@pytest.mark.parametrize("names", [NAMES, NAMES[1:2], NAMES[2:3], NAMES[3:], NAMES[4:]], ids="+".join)
@pytest.mark.parametrize("errors", ["drop", "keep", "mean"])
def test_it_is_the_model_with_the_edits_written_out(model, tokens, replaced, dictionaries, names, errors):
    chosen = {Site.parse(name): dictionaries[Site.parse(name)] for name in names}
    means = {site: torch.linspace(-1, 1, 32, dtype=torch.float64) * site.depth for site in chosen}
    network = ReplacementModel(model, chosen, errors, means if errors == "mean" else {})
    rules = {"drop": lambda s, x: chosen[s](x), "keep": lambda s, x: x, "mean": lambda s, x: chosen[s](x) + means[s]}
    expected = by_hand(model, chosen, tokens, replaced, rules[errors])
    torch.testing.assert_close(network.logits(tokens, replaced), expected, **EXACT)
    at = network.logits(tokens, replaced, at=tokens.last, prefix=network.prefix(tokens))
    torch.testing.assert_close(at, expected[torch.arange(len(tokens)), tokens.last], **EXACT)


@pytest.mark.parametrize("errors", ["drop", "keep"])
def test_an_edit_of_latents_moves_the_stream_by_their_decoder_rows(model, tokens, replaced, dictionaries, errors):
    site = Site("resid_post", 1)
    network = ReplacementModel(model, {site: dictionaries[site]}, errors)

    def louder(latents):
        return latents.index_add(-1, torch.tensor([5]), torch.full_like(latents[..., :1], 3.0))

    found = network.logits(tokens, replaced, reconstruct=lambda s, x: network.reconstruct(s, x, louder))
    row = 3 * dictionaries[site].W_dec[5]
    base = (lambda s, x: x + row) if errors == "keep" else (lambda s, x: dictionaries[s](x) + row)
    torch.testing.assert_close(found, by_hand(model, {site: 0}, tokens, replaced, base), **EXACT)


@pytest.mark.parametrize("names", [NAMES[:1], NAMES[3:4], NAMES[1:2], NAMES], ids="+".join)
def test_rows_that_constants_leave_equal_go_on_as_one(model, dictionaries, names):
    """Three rows of one length whose BOS alone passes through, and one of which a word does so too."""
    tokens = model.tokenize([" Mary went to", " John and Mary", " went to John", " Mary and John", " Mary"], bos=True)
    replaced = tokens.mask & (torch.arange(tokens.mask.shape[1]) > 0)
    replaced[3, 2] = False
    chosen = {Site.parse(name): dictionaries[Site.parse(name)] for name in names}
    values = {site: torch.linspace(-1, 1, 32, dtype=torch.float64) * (site.depth + 1) for site in chosen}
    network, last, rows = ReplacementModel(model, chosen), Site("resid_post", 2), []

    def seen(x):
        rows.append(len(x))
        return x

    def edit(site):
        return lambda x: torch.where(replaced[..., None], values[site].expand_as(x), x)

    with model.edit({site: edit(site) for site in chosen}):
        expected = model.capture(tokens, [last])[last]
    prefix = network.prefix(tokens)
    with model.edit({Site("attn_out", 2): seen}):
        found = network.capture_ablated(tokens, replaced, last, values, prefix)
    torch.testing.assert_close(found, expected, **EXACT)
    # Inside a layer the stream that is resumed is the model's own, whose rows differ.
    assert rows == [3 if names[0].startswith("resid_post") else 5]


def test_captured_values_are_those_that_the_dictionaries_leave(model, tokens, replaced, dictionaries):
    network = ReplacementModel(model, dictionaries)
    sites = [*dictionaries, Site("attn_out", 2)]
    found = network.capture(tokens, replaced, sites)
    with model.edit({s: lambda x, s=s: torch.where(replaced[..., None], dictionaries[s](x), x) for s in dictionaries}):
        expected = model.capture(tokens, sites)
    for site in sites:
        torch.testing.assert_close(found[site], expected[site], **EXACT)
    with pytest.raises(UsageError, match=r"capture from resid_post\.0: sites after it expected, found z\.0"):
        network.capture(tokens, replaced, [Site("z", 0)])


def test_the_layers_before_the_first_dictionary_do_not_run_with_a_prefix(model, tokens, replaced, dictionaries):
    site = Site("resid_post", 1)
    network = ReplacementModel(model, {site: dictionaries[site]})
    prefix, expected = network.prefix(tokens), network.logits(tokens, replaced)
    model.hf.transformer.h[0].register_forward_hook(lambda *_: pytest.fail("an earlier layer ran"))
    assert torch.equal(network.logits(tokens, replaced, prefix=prefix), expected)


def test_no_weight_of_the_model_gets_a_gradient_and_all_are_left_as_they_were(model, tokens, replaced, dictionaries):
    model.hf.requires_grad_(True)
    network = ReplacementModel(model, dictionaries)
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    out = network.logits(tokens, replaced, reconstruct=lambda s, x: network.reconstruct(s, x) * scale)
    out.sum().backward()
    assert scale.grad is not None
    assert scale.grad != 0
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.hf.parameters())


def test_some_sites_are_a_network_of_their_own(model, tokens, replaced, dictionaries):
    network = ReplacementModel(model, dictionaries)
    last = network.with_sites([Site("resid_post", 2)])
    assert list(last.dictionaries) == [Site("resid_post", 2)]
    assert (network.start, last.start) == (Site("resid_post", 0), Site("resid_post", 2))
    alone = by_hand(model, last.dictionaries, tokens, replaced, lambda s, x: dictionaries[s](x))
    torch.testing.assert_close(last.logits(tokens, replaced), alone, **EXACT)


def test_what_cannot_be_replaced_is_refused(model, dictionaries):
    site = Site("resid_post", 1)
    with pytest.raises(UsageError, match="at least one dictionary"):
        ReplacementModel(model, {})
    with pytest.raises(UsageError, match=r"execution order expected \(resid_post.0, z.1"):
        ReplacementModel(model, dict(reversed(dictionaries.items())))
    with pytest.raises(UsageError, match="errors: one of mean, drop, keep expected, found 'none'"):
        ReplacementModel(model, dictionaries, "none")
    with pytest.raises(UsageError, match="needs the mean error of every site"):
        ReplacementModel(model, dictionaries, "mean")
    with pytest.raises(UsageError, match=r"found a transcoder from resid_post\.1 to resid_post\.2"):
        ReplacementModel(model, {site: dictionary(site, 0, site_out=Site("resid_post", 2))})
    with pytest.raises(UsageError, match="embed cannot be spliced"):
        ReplacementModel(model, {Site("embed"): dictionary(Site("embed"), 0)})


def test_it_says_what_it_is(model, dictionaries):
    said = repr(ReplacementModel(model, dictionaries))
    assert "resid_post.0, z.1, mlp_out.1" in said
    assert "\n" not in said


def test_the_model_may_be_on_training_mode(model, tokens, replaced, dictionaries):
    expected = ReplacementModel(model, dictionaries).logits(tokens, replaced)
    for module in model.hf.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model.hf.train()
    assert torch.equal(ReplacementModel(model, dictionaries).logits(tokens, replaced), expected)
    assert model.hf.training
