"""Dictionaries of attention outputs as their makers publish them: a file and its configuration side by side."""

import json

import pytest
import torch
from originals import agrees_in_float64, drawn

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

D, N = 12, 40
NAME = "gpt2-small_L5_Hcat_z_lr1.20e-03_l11.00e+00_ds24576_v9"


def files_of(folder, name=NAME, **cfg):
    """The two files; returns the weights."""
    folder.mkdir(exist_ok=True)
    w = drawn({"W_enc": (D, N), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,)})
    torch.save(w, folder / f"{name}.pt")
    stated = {"act_size": D, "dict_size": N, "act_name": "blocks.5.attn.hook_z", "model_name": "gpt2-small", "seed": 49}
    (folder / f"{name}_cfg.json").write_text(json.dumps({**stated, **cfg}))
    return w


def equation(w, x):
    w = {name: tensor.double() for name, tensor in w.items()}
    latents = torch.relu((x.double() - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    return latents, latents @ w["W_dec"] + w["b_dec"]


def test_the_published_equation(tmp_path, x):
    w = files_of(tmp_path)
    for source in (tmp_path, tmp_path / f"{NAME}.pt"):
        sae = Dictionary.load(source)
        assert (sae.site, sae.model_name, sae.config.flatten_heads) == (Site("z", 5), "gpt2-small", True)
        assert sae.provenance["training"]["seed"] == 49
        agrees_in_float64(sae, x, *equation(w, x))


def test_several_side_by_side(tmp_path):
    files_of(tmp_path)
    files_of(tmp_path, "other", act_name="blocks.0.attn.hook_z")
    with pytest.raises(UsageError, match="several files of hook_z found"):
        Dictionary.load(tmp_path)
    assert Dictionary.load(tmp_path / "other.pt").site == Site("z", 0)


def test_saved_for_saelens_it_keeps_its_heads(tmp_path):
    sae_lens = pytest.importorskip("sae_lens")
    files_of(tmp_path)
    ours = Dictionary.load(tmp_path)
    theirs = sae_lens.SAE.load_from_disk(ours.save(tmp_path / "copy"))
    z = torch.randn(2, 3, 4, D // 4)
    torch.testing.assert_close(theirs(z).flatten(-2), ours(z.flatten(-2)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("cfg", "match"),
    [
        ({"act_size": 13}, r"W_enc: expected shape \(13, 40\), found \(12, 40\)"),
        ({"act_name": "blocks.5.attn.hook_result"}, "is no site"),
        ({"act_name": None}, "expected str at 'act_name'"),
        ({"dict_size": "40"}, "expected int at 'dict_size'"),
    ],
)
def test_a_configuration_that_does_not_fit(tmp_path, cfg, match):
    files_of(tmp_path, **cfg)
    with pytest.raises(GossamerError, match=match):
        Dictionary.load(tmp_path)


def test_without_its_configuration_it_is_not_known(tmp_path):
    files_of(tmp_path)
    (tmp_path / f"{NAME}_cfg.json").unlink()
    with pytest.raises(GossamerError, match="other formats are recognised by the configuration beside it"):
        Dictionary.load(tmp_path)
