"""Transcoder sets of circuit-tracer: the encoder is stored transposed, and the output is another site."""

import json

import pytest
import torch
from originals import agrees_in_float64, drawn
from safetensors.torch import save_file

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

D, N, K = 12, 40, 5
SHAPES = {"W_enc": (N, D), "W_dec": (N, D), "b_enc": (N,), "b_dec": (D,)}


def set_of(folder, layer=3, shapes=SHAPES, *, config=True, **cfg):
    """The file of one layer and, unless `config` is false, the set's configuration; returns the weights."""
    w = drawn(shapes)
    if "activation_function.threshold" in w:
        w["activation_function.threshold"] = w["activation_function.threshold"].abs() + 0.1
    save_file(w, folder / f"layer_{layer}.safetensors")
    stated = {"model_name": "Qwen/Qwen3-4B", "model_kind": "transcoder_set", "feature_input_hook": "mlp.hook_in"}
    if config:
        # JSON is YAML.
        (folder / "config.yaml").write_text(json.dumps({**stated, "feature_output_hook": "mlp.hook_out", **cfg}))
    return w


def equation(w, x, activation):
    w = {name: tensor.double() for name, tensor in w.items()}
    pre = x.double() @ w["W_enc"].T + w["b_enc"]
    if activation == "jumprelu":
        latents = pre * (pre > w["activation_function.threshold"])
    elif activation == "topk":
        values, indices = pre.topk(K, dim=-1)
        latents = torch.zeros_like(pre).scatter(-1, indices, values.clamp(min=0))
    else:
        latents = pre.clamp(min=0)
    skip = x.double() @ w["W_skip"].T if "W_skip" in w else 0
    return latents, latents @ w["W_dec"] + w["b_dec"] + skip


@pytest.mark.parametrize(
    ("activation", "extra", "cfg"),
    [
        ("relu", {}, {}),
        ("jumprelu", {"activation_function.threshold": (N,)}, {}),
        ("topk", {}, {"activation": "topk", "k": K}),
    ],
)
@pytest.mark.parametrize("skip", [{}, {"W_skip": (D, D)}])
def test_the_written_equations(tmp_path, x, activation, extra, cfg, skip):
    w = set_of(tmp_path, shapes={**SHAPES, **extra, **skip}, **cfg)
    for source in (tmp_path, tmp_path / "layer_3.safetensors"):
        transcoder = Dictionary.load(source)
        assert (transcoder.site, transcoder.site_out) == (Site("mlp_in", 3), Site("mlp_out", 3))
        assert (transcoder.architecture, transcoder.model_name) == (activation, "Qwen/Qwen3-4B")
        assert transcoder.config.skip == bool(skip)
        agrees_in_float64(transcoder, x, *equation(w, x, activation))


def test_the_encoder_is_transposed_also_where_no_shape_tells(tmp_path, x):
    w = set_of(tmp_path, shapes={"W_enc": (D, D), "W_dec": (D, D), "b_enc": (D,), "b_dec": (D,)})
    agrees_in_float64(Dictionary.load(tmp_path), x, *equation(w, x, "relu"))


def test_a_set_without_configuration_maps_mlp_to_mlp(tmp_path):
    set_of(tmp_path, config=False)
    transcoder = Dictionary.load(tmp_path, model_name="Qwen/Qwen3-14B")
    assert (str(transcoder.site), str(transcoder.site_out)) == ("mlp_in.3", "mlp_out.3")
    assert transcoder.model_name == "Qwen/Qwen3-14B"


def test_one_of_several_layers_has_to_be_named(tmp_path):
    for layer in (0, 1):
        set_of(tmp_path, layer)
    with pytest.raises(UsageError, match=r"several files of circuit_tracer found \(layer_0\.safetensors, layer_1"):
        Dictionary.load(tmp_path)
    assert Dictionary.load(tmp_path / "layer_1.safetensors").site == Site("mlp_in", 1)


@pytest.mark.parametrize(
    ("cfg", "match"),
    [
        ({"feature_input_hook": "hook_resid_pre"}, "unknown feature_input_hook 'hook_resid_pre'; known: mlp.hook_in"),
        ({"feature_output_hook": "hook_attn_out"}, "unknown feature_output_hook"),
        ({"activation": "gelu"}, "unknown activation 'gelu'; known: relu, topk"),
        ({"model_name": "google/gemma-3-1b-it"}, "writes the MLP's output before its norm"),
    ],
)
def test_what_is_not_known(tmp_path, cfg, match):
    set_of(tmp_path, **cfg)
    with pytest.raises(UsageError, match=match):
        Dictionary.load(tmp_path)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (torch.zeros(D, D + 1), r"W_skip: expected shape \(12, 12\), found \(12, 13\); fetch the file again"),
        (torch.full((D, D), torch.inf), "W_skip: expected finite values, found inf"),
    ],
)
def test_a_skip_connection_that_does_not_fit(tmp_path, value, match):
    w = set_of(tmp_path)
    save_file({**w, "W_skip": value}, tmp_path / "layer_3.safetensors")
    with pytest.raises(GossamerError, match=match) as caught:
        Dictionary.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_skip_connection_goes_on_to_saelens(tmp_path, x):
    set_of(tmp_path, shapes={**SHAPES, "W_skip": (D, D)}, model_name="Qwen/Qwen3-4B")
    transcoder = Dictionary.load(tmp_path)
    again = Dictionary.load(transcoder.save(tmp_path / "copy"))
    assert again.config == transcoder.config
    torch.testing.assert_close(again(x), transcoder(x))
    assert Dictionary.load(tmp_path, device="meta").nbytes == transcoder.nbytes


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00"])
def test_damaged_configuration(tmp_path, text):
    set_of(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(GossamerError, match=r"config\.yaml: expected") as caught:
        Dictionary.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_is_a_link_to_nothing_is_no_missing_one(tmp_path):
    """As a cache leaves one whose content was removed: without it, TopK would become ReLU."""
    set_of(tmp_path, activation="topk", k=K)
    (tmp_path / "config.yaml").rename(tmp_path / "blob")
    (tmp_path / "config.yaml").symlink_to(tmp_path / "blob")
    assert Dictionary.load(tmp_path).k == K
    (tmp_path / "blob").unlink()
    with pytest.raises(GossamerError, match=r"config\.yaml: a link to a file that is not there"):
        Dictionary.load(tmp_path)
