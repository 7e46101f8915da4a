"""Gemma Scope 1 and 2: the equations, the words of an address, what the formats cannot hold."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

ONE = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71"
TWO = "gemma-scope-2-1b-pt/resid_post/layer_13_width_16k_l0_medium"
MLP_IN = "model.layers.{}.pre_feedforward_layernorm.output"
MLP_OUT = "model.layers.{}.post_feedforward_layernorm.output"
AFFINE = {"affine_skip_connection": torch.randn(12, 12, generator=torch.Generator().manual_seed(7)) * 0.4}


def arrays(seed=0, d=12, n=40):
    generator = np.random.default_rng(seed)
    draw = {"W_enc": (d, n), "W_dec": (n, d), "b_enc": (n,), "b_dec": (d,), "threshold": (n,)}
    return {name: np.abs(a) if name == "threshold" else a for name, a in _drawn(generator, draw).items()}


def _drawn(generator, shapes):
    return {name: generator.normal(size=shape, scale=0.4).astype(np.float32) for name, shape in shapes.items()}


def equation(w, x):
    """a = ReLU(pre) * (pre > threshold) with neither input bias nor normalisation, in numpy."""
    pre = x.numpy() @ w["W_enc"] + w["b_enc"]
    acts = np.maximum(pre, 0) * (pre > w["threshold"])
    return torch.from_numpy(acts), torch.from_numpy(acts @ w["W_dec"] + w["b_dec"])


def agree(sae, w, x):
    acts, out = equation(w, x)
    torch.testing.assert_close(sae.encode_dense(x), acts, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(sae(x), out, atol=1e-5, rtol=1e-5)


def first(folder, **spelled):
    folder.mkdir(parents=True)
    w = arrays()
    np.savez(folder / "params.npz", **{spelled.get(name, name): array for name, array in w.items()})
    return w


def second(folder, cfg=None, **extra):
    folder.mkdir(parents=True)
    w = arrays()
    tensors = {name.lower(): torch.from_numpy(array) for name, array in w.items()}
    save_file({**tensors, **extra}, folder / "params.safetensors")
    if cfg is not None:
        (folder / "config.json").write_text(json.dumps(cfg))
    return w


@pytest.mark.parametrize("spelled", [{}, {"W_enc": "w_enc", "W_dec": "w_dec"}])
def test_first_reads_numbers_and_address(tmp_path, x, spelled):
    w = first(tmp_path / ONE, **spelled)
    sae = Dictionary.load(tmp_path / ONE)
    assert (sae.site, sae.model_name, sae.reported.l0) == (Site("resid_post", 20), "google/gemma-2-2b", 71.0)
    assert sae.architecture == "jumprelu"
    agree(sae, w, x)
    agree(Dictionary.load(tmp_path / ONE / "params.npz"), w, x)


@pytest.mark.parametrize(
    ("address", "site", "model_name"),
    [
        ("gemma-scope-9b-it-res/layer_9/width_16k/average_l0_88", Site("resid_post", 9), "google/gemma-2-9b-it"),
        ("gemma-scope-27b-pt-mlp/layer_3/width_131k/average_l0_5", Site("mlp_out", 3), "google/gemma-2-27b"),
        (
            "models--google--gemma-scope-2b-pt-att/snapshots/ab12/layer_0/width_16k/average_l0_9",
            Site("z", 0),
            "google/gemma-2-2b",
        ),
    ],
)
def test_first_knows_the_addresses(tmp_path, address, site, model_name):
    first(tmp_path / address)
    sae = Dictionary.load(tmp_path / address)
    assert (sae.site, sae.model_name) == (site, model_name)


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("gemma-scope-2b-pt-transcoders/layer_1/width_16k/average_l0_5", "a transcoder"),
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "an embedding dictionary"),
    ],
)
def test_first_refuses_what_is_not_known(tmp_path, address, match):
    first(tmp_path / address)
    with pytest.raises(UsageError, match=match):
        Dictionary.load(tmp_path / address)


def test_first_takes_facts_that_the_address_lacks(tmp_path):
    first(tmp_path / "mine")
    assert Dictionary.load(tmp_path / "mine").site is None
    sae = Dictionary.load(tmp_path / "mine", site="z.3", model_name="toy")
    assert (sae.site, sae.model_name) == (Site("z", 3), "toy")
    with pytest.raises(UsageError, match="needs no norm_scaling_factor"):
        Dictionary.load(tmp_path / "mine", norm_scaling_factor=2.0)


def test_first_is_refused_when_damaged(tmp_path):
    w = first(tmp_path / "a")
    path = tmp_path / "a" / "params.npz"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(GossamerError, match=r"params\.npz: damaged") as caught:
        Dictionary.load(tmp_path / "a")
    assert "\n" not in str(caught.value)
    np.savez(path, **{**w, "threshold": w["threshold"][1:]})
    with pytest.raises(GossamerError, match=r"threshold: expected shape \(40,\), found \(39,\)"):
        Dictionary.load(tmp_path / "a")
    np.savez(path, **{**w, "b_dec": np.full(12, np.nan, np.float32)})
    with pytest.raises(GossamerError, match="b_dec: expected finite"):
        Dictionary.load(tmp_path / "a")
    np.savez(path, b_dec=w["b_dec"])
    with pytest.raises(GossamerError, match="expected a matrix W_enc"):
        Dictionary.load(tmp_path / "a")


def test_a_flipped_byte_is_noticed(tmp_path):
    first(tmp_path / "a")
    path = tmp_path / "a" / "params.npz"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    with pytest.raises(GossamerError, match=r"params\.npz"):
        Dictionary.load(tmp_path / "a")


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("format", ["gemma_scope", "gemma_scope_2"])
def test_written_files_read_back_the_same(make, tmp_path, x, format, subtract):
    sae = make("jumprelu", subtract_b_dec=subtract, model_name="google/gemma-3-1b-pt")
    again = Dictionary.load(sae.save(tmp_path, format), site="resid_post.1", model_name="google/gemma-3-1b-pt")
    torch.testing.assert_close(again(x), sae(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again.encode_dense(x), sae.encode_dense(x), atol=1e-5, rtol=1e-5)
    assert again.provenance["format"] == format
    if format == "gemma_scope":
        agree(sae, dict(np.load(tmp_path / "params.npz")), x)
    else:
        stored = load_file(tmp_path / "params.safetensors")
        assert sorted(stored) == ["b_dec", "b_enc", "threshold", "w_dec", "w_enc"]
        assert Dictionary.load(tmp_path).config == again.config


def test_what_the_formats_cannot_hold(make, tmp_path):
    for format in ("gemma_scope", "gemma_scope_2"):
        for architecture in ("relu", "topk", "batchtopk", "gated"):
            with pytest.raises(UsageError, match=f"holds jumprelu only, this dictionary is {architecture}"):
                make(architecture).save(tmp_path, format)
        with pytest.raises(UsageError, match="needs layer_norm"):
            make("jumprelu", normalisation="layer_norm").save(tmp_path, format)
    with pytest.raises(UsageError, match=r"this dictionary is at resid_mid\.1"):
        make("jumprelu", site="resid_mid.1").save(tmp_path, "gemma_scope_2")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("point", "site"),
    [
        ("model.layers.13.output", Site("resid_post", 13)),
        ("model.layers.5.self_attn.o_proj.input", Site("z", 5)),
        ("model.language_model.layers.7.post_feedforward_layernorm.output", Site("mlp_out", 7)),
    ],
)
def test_second_reads_its_configuration(tmp_path, x, point, site):
    cfg = {"architecture": "jump_relu", "model_name": "gemma-v3-4b-pt", "hf_hook_point_in": point}
    w = second(tmp_path / "a", cfg)
    sae = Dictionary.load(tmp_path / "a")
    assert (sae.site, sae.model_name) == (site, "google/gemma-3-4b-pt")
    agree(sae, w, x)


@pytest.mark.parametrize(
    ("address", "site", "model_name"),
    [
        (TWO, Site("resid_post", 13), "google/gemma-3-1b-pt"),
        ("gemma-scope-2-270m-pt/attn_out_all/layer_2_width_16k_l0_small", Site("z", 2), "google/gemma-3-270m"),
        ("gemma-scope-2-12b-it/mlp_out/layer_40_width_65k_l0_big", Site("mlp_out", 40), "google/gemma-3-12b-it"),
    ],
)
def test_second_infers_a_missing_configuration(tmp_path, address, site, model_name):
    second(tmp_path / address)
    sae = Dictionary.load(tmp_path / address)
    assert (sae.site, sae.model_name) == (site, model_name)


@pytest.mark.parametrize(
    ("cfg", "match"),
    [
        ({"architecture": "relu"}, "unknown architecture 'relu'; known: jump_relu"),
        ({"architecture": "jump_relu", "hf_hook_point_in": "model.layers.1.mlp.input"}, "unknown hf_hook_point_in"),
        (
            {"architecture": "jump_relu", "hf_hook_point_in": "model.layers.1.output", "hf_hook_point_out": "x"},
            "unknown hf_hook_point_out 'x'; known: model.layers.L.output",
        ),
        (
            {"architecture": "jump_relu", "hf_hook_point_in": MLP_IN.format(1)},
            "unknown hf_hook_point_in 'model.layers.1.pre_feedforward_layernorm.output'",
        ),
        (
            {"architecture": "jump_relu", "affine_connection": True},
            "affine_connection: expected only of a transcoder, found hf_hook_point_out None; say there where it writes",
        ),
        (
            {"architecture": "jump_relu", "hf_hook_point_in": MLP_OUT.format(1), "hf_hook_point_out": MLP_OUT.format(2)}
            | {"affine_connection": "yes"},
            "expected bool at 'affine_connection', found 'yes'",
        ),
    ],
)
def test_second_refuses_what_is_not_known(tmp_path, cfg, match):
    second(tmp_path / "a", cfg)
    with pytest.raises(GossamerError, match=match) as caught:
        Dictionary.load(tmp_path / "a")
    assert "\n" not in str(caught.value)
    second(tmp_path / "gemma-scope-2-1b-pt" / "crosscoder" / "layer_1_width_16k_l0_small")
    with pytest.raises(UsageError, match="a crosscoder"):
        Dictionary.load(tmp_path / "gemma-scope-2-1b-pt" / "crosscoder" / "layer_1_width_16k_l0_small")


@pytest.mark.parametrize("affine", [True, False])
def test_second_reads_a_transcoder(tmp_path, x, affine):
    cfg = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-it", "type": "transcoder", "width": 40}
    points = {"hf_hook_point_in": MLP_IN.format(13), "hf_hook_point_out": MLP_OUT.format(13)}
    w = second(tmp_path / "a", {**cfg, **points, "affine_connection": affine}, **(AFFINE if affine else {}))
    transcoder = Dictionary.load(tmp_path / "a")
    assert (transcoder.site, transcoder.site_out) == (Site("mlp_in", 13), Site("mlp_out", 13))
    assert (transcoder.config.skip, transcoder.model_name) == (affine, "google/gemma-3-1b-it")
    acts, out = equation(w, x)
    torch.testing.assert_close(transcoder.encode_dense(x), acts, atol=1e-5, rtol=1e-5)
    # Stored (d_in, d_out): nothing is transposed.
    skip = x @ AFFINE["affine_skip_connection"] if affine else 0
    torch.testing.assert_close(transcoder(x), out + skip, atol=1e-5, rtol=1e-5)
    again = Dictionary.load(transcoder.save(tmp_path / "copy"))
    assert again.config == transcoder.config
    torch.testing.assert_close(again(x), transcoder(x))
    for format in ("gemma_scope", "gemma_scope_2"):
        with pytest.raises(UsageError, match=f"gossamer writes no transcoders as {format}; save it as saelens"):
            transcoder.save(tmp_path / format, format)
        assert not (tmp_path / format).exists()


@pytest.mark.parametrize("affine", [True, False])
def test_second_reads_a_transcoder_as_saelens_does(tmp_path, x, monkeypatch, affine):
    sae_lens = pytest.importorskip("sae_lens")
    loaders = pytest.importorskip("sae_lens.loading.pretrained_sae_loaders")
    kind = sae_lens.JumpReLUSkipTranscoder if affine else sae_lens.JumpReLUTranscoder
    place = "transcoder_all/layer_7_width_16k_l0_big" + ("_affine" if affine else "")
    folder, points = tmp_path / place, {"hf_hook_point_in": MLP_IN.format(7), "hf_hook_point_out": MLP_OUT.format(7)}
    cfg = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-it", **points, "affine_connection": affine}
    w = second(folder, cfg, **(AFFINE if affine else {}))

    def fetched(repo_id, filename, subfolder="", **_):
        return str(tmp_path / subfolder / filename)

    monkeypatch.setattr(loaders, "hf_hub_download", fetched)
    shapes = {name.lower(): array.shape for name, array in w.items()}
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", lambda *_: shapes)
    stated, tensors, _ = loaders.gemma_3_sae_huggingface_loader("google/gemma-scope-2-1b-it", place)
    theirs = kind.from_dict({name: stated[name] for name in ("d_in", "d_out", "d_sae", "apply_b_dec_to_input")})
    theirs.load_state_dict(tensors)
    with torch.no_grad():
        torch.testing.assert_close(Dictionary.load(folder)(x), theirs(x), atol=1e-5, rtol=1e-5)
        assert stated["architecture"] == theirs.cfg.architecture()


@pytest.mark.parametrize(
    ("address", "extra"),
    [
        ("transcoder/layer_7_width_16k_l0_small", {}),
        ("transcoder_all/layer_7_width_262k_l0_big_affine", AFFINE),
    ],
)
def test_second_infers_a_transcoder_from_its_address(tmp_path, address, extra):
    folder = tmp_path / "gemma-scope-2-4b-it" / address
    second(folder, **extra)
    for source in (folder, folder / "params.safetensors"):
        transcoder = Dictionary.load(source)
        assert (transcoder.site, transcoder.site_out) == (Site("mlp_in", 7), Site("mlp_out", 7))
        assert (transcoder.config.skip, transcoder.model_name) == (bool(extra), "google/gemma-3-4b-it")


@pytest.mark.parametrize(
    ("affine", "extra", "match"),
    [
        (True, {}, "missing: W_skip"),
        (True, {"affine_skip_connection": torch.zeros(12, 13)}, r"W_skip: expected shape \(12, 12\), found \(12, 13\)"),
        (
            True,
            {"affine_skip_connection": torch.full((12, 12), torch.nan)},
            "W_skip: expected finite values, found nan",
        ),
        (False, {"affine_skip_connection": torch.zeros(12, 12)}, "found also affine_skip_connection"),
    ],
)
def test_second_refuses_a_skip_connection_that_does_not_fit(tmp_path, affine, extra, match):
    points = {"hf_hook_point_in": MLP_IN.format(13), "hf_hook_point_out": MLP_OUT.format(13)}
    second(tmp_path / "a", {"architecture": "jump_relu", **points, "affine_connection": affine}, **extra)
    with pytest.raises(GossamerError, match=match) as caught:
        Dictionary.load(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_second_refuses_a_surplus_tensor(tmp_path):
    cfg = {"architecture": "jump_relu", "hf_hook_point_in": "model.layers.1.output"}
    second(tmp_path / "a", cfg, affine_skip_connection=torch.zeros(12, 12))
    with pytest.raises(GossamerError, match="found also affine_skip_connection"):
        Dictionary.load(tmp_path / "a")


@pytest.mark.parametrize("format", ["gemma_scope", "gemma_scope_2"])
def test_meta_reads_shapes_only(make, tmp_path, format):
    sae = make("jumprelu")
    planned = Dictionary.load(sae.save(tmp_path, format), device="meta")
    assert planned.W_enc.is_meta
    assert planned.nbytes == sae.nbytes
