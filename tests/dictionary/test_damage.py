"""Damaged, foreign and hostile files end in one line that names the file."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError

WEIGHTS, CONFIG = "sae_weights.safetensors", "cfg.json"


@pytest.fixture
def folder(make, tmp_path):
    return make("jumprelu").save(tmp_path)


def refused(folder, match, error=GossamerError, **facts):
    with pytest.raises(error, match=match) as caught:
        Dictionary.load(folder, **facts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def retold(folder, **changes):
    cfg = json.loads((folder / CONFIG).read_text())
    cfg.update(changes)
    (folder / CONFIG).write_text(json.dumps(cfg))


def reweighted(folder, **changes):
    tensors = {**load_file(folder / WEIGHTS), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / WEIGHTS)


@pytest.mark.parametrize("kept", [0, 5, 100, 2000])
def test_truncated_safetensors(folder, kept):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:kept])
    assert str(folder / WEIGHTS) in refused(folder, "damaged")


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"x"', "\x00\xff"])
def test_damaged_configuration(folder, text):
    (folder / CONFIG).write_text(text, encoding="latin-1")
    assert str(folder / CONFIG) in refused(folder, "expected")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"d_in": 13}, r"W_enc: expected shape \(13, 40\), found \(12, 40\)"),
        ({"d_sae": 41}, r"expected shape \(12, 41\)"),
        ({"d_sae": "40"}, "expected int at 'd_sae', found '40'"),
        ({"d_in": None}, "expected int at 'd_in', found None"),
        ({"d_in": True}, "expected int at 'd_in'"),
        ({"d_in": -1}, "positive widths"),
        ({"metadata": [1]}, "expected dict at 'metadata'"),
        ({"metadata": {"sae_lens_version": "6.0.0", "gossamer": 3}}, "expected dict at 'gossamer'"),
        ({"metadata": {"sae_lens_version": "6.0.0", "l0": "many"}}, "expected a number at 'l0'"),
        (
            {"metadata": {"sae_lens_version": "6.0.0", "gossamer": {"provenance": {"training": 1}}}},
            "dict at 'training'",
        ),
        ({"metadata": {"sae_lens_version": "6.0.0", "model_from_pretrained_kwargs": 1}}, "dict at 'model_from"),
        ({"apply_b_dec_to_input": "yes"}, "expected bool"),
    ],
)
def test_configuration_that_does_not_fit(folder, changes, match):
    retold(folder, **changes)
    refused(folder, match)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"architecture": "temporal"}, "unknown architecture 'temporal'; known: standard, jumprelu, topk"),
        ({"architecture": ["relu"]}, "unknown architecture"),
        (
            {"architecture": "skip_transcoder", "d_out": 12, "apply_b_dec_to_input": False},
            "hook_name_out None is no known site, so nothing says where this transcoder writes",
        ),
        ({"normalize_activations": "covariance_whitening"}, "unknown normalize_activations"),
        ({"metadata": {"sae_lens_version": "6.0.0", "hook_name": "blocks.3.ln2.hook_scale"}}, "say which one it is"),
        (
            {"metadata": {"sae_lens_version": "6.0.0", "hook_name": "blocks.3.attn.hook_z", "hook_head_index": 2}},
            "head 2",
        ),
        ({"metadata": {}, "activation_fn": "tanh-relu"}, "unknown activation_fn 'tanh-relu'"),
        ({"architecture": "topk", "k": 0}, "whole k from 1"),
        ({"architecture": "topk", "k": 41}, "whole k from 1 to n_latents=40, found k=41"),
    ],
)
def test_unknown_conventions(folder, changes, match):
    retold(folder, **changes)
    refused(folder, match, UsageError)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"b_enc": None}, "missing: b_enc"),
        ({"W_skip": torch.zeros(12, 12)}, "found also W_skip"),
        ({"threshold": torch.zeros(39)}, r"threshold: expected shape \(40,\), found \(39,\)"),
        ({"W_dec": torch.full((40, 12), torch.nan)}, r"W_dec: expected finite values, found nan at index \(0, 0\)"),
        ({"b_dec": torch.zeros(12, dtype=torch.int64)}, "b_dec: expected floating-point numbers"),
    ],
)
def test_weights_that_do_not_fit(folder, changes, match):
    reweighted(folder, **changes)
    assert str(folder / WEIGHTS) in refused(folder, match)


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_a_scale_that_overflows_once_it_is_folded(folder, factor):
    retold(folder, normalize_activations="expected_average_only_in")
    refused(folder, "as loaded: expected finite values, found -?inf", norm_scaling_factor=factor)


FLAT = {"metadata": None, "architecture": "standard", "apply_b_dec_to_input": False, "hook_name": None}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"rescale_act_by_decoder_norm": True}, "unknown key .*; expected 'rescale_acts_by_decoder_norm'"),
        ({"archtecture": "topk"}, "unknown key 'archtecture'; expected 'architecture'"),
        ({"normalise_activations": "layer_norm"}, "expected 'normalize_activations'"),
        ({**FLAT, "activation_fn_str": ""}, "unknown activation_fn ''"),
        ({**FLAT, "activation_fn_kwargs": {"k": 4}}, "have k = 4 of topk, activation_fn is relu"),
    ],
)
def test_what_would_be_a_silent_default_is_refused(folder, changes, match):
    retold(folder, **changes)
    refused(folder, match, UsageError)


def test_what_happens_to_its_file_does_not_reach_a_dictionary(folder, make):
    """The file is written over and cut short in place, as a copy that is interrupted does."""
    loaded = Dictionary.load(folder)
    with (folder / WEIGHTS).open("r+b") as file:
        length = file.seek(0, 2)
        file.seek(length // 2)
        file.write(b"\x11" * (length - length // 2))
        file.truncate(length - 100)
    expected = make("jumprelu").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan")])
def test_impossible_training_scale(folder, factor):
    retold(folder, normalize_activations="expected_average_only_in")
    refused(folder, "expected a positive", UsageError, norm_scaling_factor=factor)


def test_missing_files(folder, tmp_path):
    refused(tmp_path / "nothing", "no such file or folder", UsageError)
    (folder / CONFIG).unlink()
    refused(folder, "no such file", UsageError)
    (folder / WEIGHTS).unlink()
    refused(folder, "no dictionary found; expected one of", UsageError)


def test_several_formats_in_one_folder(make, folder):
    make("jumprelu").save(folder, "gemma_scope")
    refused(folder, "several formats found", UsageError)
    assert Dictionary.load(folder, format="saelens").site is not None
    refused(folder, "unknown format 'zip'; known: saelens", UsageError, format="zip")


class Trap:
    """Writes a file if it is ever unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_pickles_are_never_opened(folder, tmp_path):
    trap = tmp_path / "sprung"
    (folder / WEIGHTS).write_bytes(pickle.dumps(Trap(str(trap))))
    refused(folder, "damaged")
    scope = tmp_path / "scope"
    scope.mkdir()
    (scope / "params.npz").write_bytes(pickle.dumps(Trap(str(trap))))
    refused(scope, "damaged")
    np.savez(scope / "params.npz", W_enc=np.array([Trap(str(trap))], dtype=object))
    refused(scope, "expected floating-point numbers")
    refused(scope, "expected floating-point numbers", device="meta")
    assert not trap.exists()
