"""The flax GPT-2 of the examples: its logits, and every experiment, against the torch model under gossamer's hooks."""

import json
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("jax")
pytest.importorskip("flax")
pytest.importorskip("torch")

import jax
import numpy as np
import torch
from matplotlib import image as images

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROMPTS, SPLICED = 4, (1, 3)

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(real_folder):
    return real_folder / "models" / "tinytalk-3m-gpt2"


@pytest.fixture(scope="module")
def examples():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield


@pytest.fixture(scope="module")
def language_model(folder):
    from gossamer import LanguageModel

    return LanguageModel.load(folder)


@pytest.fixture(scope="module")
def dictionaries(examples, real_folder, language_model, tmp_path_factory):
    """A small set trained on a few stories by the torch side, and the folder that it was written to."""
    from jax_gpt2.train_dictionaries import train

    rows = (real_folder / "text" / "tinystories_val.jsonl").read_text().splitlines()[:24]
    texts = [json.loads(row)["text"] for row in rows]
    out = tmp_path_factory.mktemp("dictionaries")
    trained = train(language_model, texts, list(SPLICED), out, latents=256, k=16, tokens=16_384)
    return trained, out / "dictionaries"


@pytest.fixture(scope="module")
def ran(examples, real_folder, dictionaries, tmp_path_factory):
    """The variables of the whole script after it ran."""
    out = tmp_path_factory.mktemp("pictures")
    options = ["--prompts", str(PROMPTS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOSSAMER_REAL", str(real_folder))
        patch.setattr(sys, "argv", ["walkthrough", "--out", str(out), "--dictionaries", str(dictionaries[1]), *options])
        return runpy.run_module("jax_gpt2.walkthrough", run_name="__main__")


@pytest.fixture(scope="module")
def torch_side(ran, language_model):
    """The same prompts on the torch side: both token batches, the metric, and what is 0 and what is 1."""
    from gossamer.tokens import Tokens

    ioi = ran["ioi"]
    clean, counterfactual = (Tokens.full(torch.tensor(np.asarray(ids))) for ids in (ioi.clean, ioi.counterfactual))
    answer, other = (torch.tensor(np.asarray(ids)).long() for ids in (ioi.answer, ioi.other))
    rows = torch.arange(len(clean))

    def difference(logits):
        return (logits[rows, answer] - logits[rows, other]).mean()

    low, high = (
        float(difference(language_model.logits(tokens, at=tokens.last)).detach()) for tokens in (counterfactual, clean)
    )
    return clean, counterfactual, difference, low, high


def test_logits_are_those_of_the_torch_model(examples, folder, ran, language_model, torch_side):
    gpt2, params = ran["gpt2"], ran["params"]
    ours = np.asarray(jax.jit(gpt2.apply)(params, ran["ioi"].clean))
    theirs = language_model.logits(torch_side[0]).detach().numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_the_difference_between_the_prompts(ran, torch_side):
    _, _, _, low, high = torch_side
    np.testing.assert_allclose([ran["low"], ran["high"]], [low, high], rtol=0, atol=1e-4)
    assert high > 5 > -5 > low
    assert [ran["ioi"].labels.index(role) for role in ("IO", "S1", "S2")] == [3, 5, 15]


def test_the_map_of_activation_patching(ran, language_model, torch_side):
    """Every layer and position by hooks: one batch a layer, in which every position has the prompts once."""
    from gossamer import Site
    from gossamer.tokens import Tokens

    clean, counterfactual, difference, low, high = torch_side
    sites = [Site("resid_post", layer) for layer in range(8)]
    width = clean.ids.shape[1]
    repeated = Tokens.full(counterfactual.ids.repeat(width, 1))
    expected = np.zeros((8, width))
    with torch.no_grad():
        streams = language_model.capture(clean, sites)
        for layer, site in enumerate(sites):

            def put(x, site=site):
                x = x.clone().unflatten(0, (width, PROMPTS))
                for position in range(width):
                    x[position, :, position] = streams[site][:, position]
                return x.flatten(0, 1)

            with language_model.edit({site: put}):
                logits = language_model.logits(repeated, at=repeated.last).unflatten(0, (width, PROMPTS))
            expected[layer] = [float(difference(row)) for row in logits]
    np.testing.assert_allclose(ran["exact"], (expected - low) / (high - low), rtol=0, atol=1e-4)
    assert ran["effects"].traces == 1
    subject, last = ran["ioi"].position("S2"), width - 1
    assert ran["exact"][0, subject] > 0.9 > 0.1 > abs(ran["exact"][0, last])
    assert ran["exact"][7, last] == pytest.approx(1, abs=1e-4)


def test_the_map_of_attribution_patching(ran, language_model, torch_side):
    """The gradient of `resume`, the torch side's continuation from a site."""
    from gossamer import Site

    clean, counterfactual, difference, low, high = torch_side
    assert ran["slopes"].traces == 1
    assert ran["estimate"].shape == ran["exact"].shape
    for layer, row in enumerate(ran["estimate"]):
        site = Site("resid_post", layer)
        with torch.no_grad():
            target, stream = (language_model.capture(tokens, [site])[site] for tokens in (clean, counterfactual))
        stream = stream.clone().requires_grad_()
        difference(language_model.resume(site, stream, counterfactual, at=clean.last)).backward()
        expected = ((target - stream.detach()) * stream.grad).sum((0, 2)) / (high - low)
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-4)


def test_a_split_of_the_model_has_the_slopes_of_one_layer(ran, torch_side):
    """The model cut in two after layer 5, as flax, patches and scan have it."""
    from jax_gpt2.experiments import streams
    from jax_gpt2.sites import SITES

    from gossamer.jax import at, split

    ioi, forward, params = ran["ioi"], ran["forward"], ran["params"]

    @jax.jit
    def row(clean):
        stream, rest = split(forward, at("resid_post", layers=5))(params, ioi.counterfactual)
        return ((clean - stream) * jax.grad(lambda x: ioi.difference(rest(x)))(stream)).sum((0, 2))

    with SITES:
        found = row(streams(forward, params, ioi.clean)[5])
    _, _, _, low, high = torch_side
    np.testing.assert_allclose(ran["estimate"][5], found / (high - low), rtol=0, atol=1e-4)


def test_head_patterns_are_those_of_the_torch_model(ran, folder, torch_side):
    from transformers import AutoModelForCausalLM

    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        expected = torch.stack(eager(torch_side[0].ids, output_attentions=True).attentions)
    assert ran["patterns"].shape == (8, PROMPTS, 16, 18, 18)
    np.testing.assert_allclose(ran["patterns"], expected, rtol=0, atol=1e-5)
    assert ran["weight"] > 0.5


def test_dictionaries_in_the_stream(ran, dictionaries, language_model, torch_side):
    clean, _, difference, _, high = torch_side
    trained, _ = dictionaries
    found = {"model": (), "layer 1": (1,), "layer 3": (3,), "all": (1, 3)}
    assert list(ran["differences"]) == list(found)
    for name, layers in found.items():
        edits = {site: dictionary for site, dictionary in trained.items() if site.layer in layers}
        with torch.no_grad(), language_model.edit(edits):
            expected = difference(language_model.logits(clean, at=clean.last))
        assert ran["differences"][name] == pytest.approx(float(expected), abs=1e-3)
    assert ran["differences"]["model"] == pytest.approx(high, abs=1e-4)
    assert len({round(value, 2) for value in ran["differences"].values()}) == 4


def test_the_patch_leaves_nothing_behind(examples, ran):
    from jax_gpt2.sites import SITES

    from gossamer.jax import sites
    from gossamer.jax.patching.active import in_force

    forward, params, tokens = ran["forward"], ran["params"], ran["ioi"].clean
    assert in_force() == ()
    assert len(sites(forward, params, tokens)) == 0
    with SITES:
        names = [row.name for row in sites(forward, params, tokens)]
    assert names == ["probs", "resid_mid", "resid_post"]


@pytest.mark.parametrize("name", ["patching.png", "heads.png", "splices.png"])
def test_pictures_are_drawn(ran, name):
    picture = images.imread(ran["given"].out / name)
    assert picture.shape[1] > 600
    assert picture[..., :3].std() > 0.05


def test_the_script_says_what_it_needs(examples, monkeypatch, tmp_path):
    monkeypatch.setenv("GOSSAMER_REAL", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["walkthrough", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="set GOSSAMER_REAL"):
        runpy.run_module("jax_gpt2.walkthrough", run_name="__main__")


def test_dictionaries_that_were_changed_or_are_others_are_refused(examples, dictionaries, tmp_path):
    import shutil

    from jax_gpt2.dictionary import read_set

    copy = shutil.copytree(dictionaries[1], tmp_path / "copy")
    assert sorted(read_set(copy)) == list(SPLICED)
    weights = copy / "resid_post.1" / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ValueError, match="not the file that was saved"):
        read_set(copy)
    index = copy / "dictionaries.json"
    index.write_text(index.read_text().replace("resid_post.1", "mlp_out.1"))
    with pytest.raises(ValueError, match=r"expected dictionaries at resid_post.N, found mlp_out.1"):
        read_set(copy)
