"""sparsify: its own files read as it evaluates them, ours load in it, and what it means by its names."""

import json
import shutil

import pytest
import torch
from originals import GOLDEN, agrees_in_float64, agrees_with_the_original, drawn
from safetensors.torch import load_file, save_file

from gossamer.dictionary import Dictionary, DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

FILES = GOLDEN / "sparsify"
D, N, K = 12, 40, 5


def folder_of(parent, name="layers.1", tensors=None, **cfg):
    """A folder as sparsify writes it, with random weights."""
    folder = parent / name
    folder.mkdir(parents=True)
    shapes = {"encoder.weight": (N, D), "encoder.bias": (N,), "W_dec": (N, D), "b_dec": (D,)}
    tensors = drawn(shapes) if tensors is None else tensors
    save_file(tensors, folder / "sae.safetensors")
    stated = {"activation": "topk", "expansion_factor": 32, "normalize_decoder": True, "num_latents": N, "k": K}
    (folder / "cfg.json").write_text(json.dumps({**stated, "d_in": D, **cfg}))
    return folder, tensors


def equation(w, x, subtract=True):
    """The k largest of ReLU((x - b_dec) W^T + b), in float64."""
    w = {name: tensor.double() for name, tensor in w.items()}
    pre = torch.relu((x.double() - (w["b_dec"] if subtract else 0)) @ w["encoder.weight"].T + w["encoder.bias"])
    values, indices = pre.topk(K, dim=-1)
    latents = torch.zeros_like(pre).scatter(-1, indices, values)
    return latents, latents @ w["W_dec"] + w["b_dec"]


@pytest.mark.parametrize(
    ("place", "site", "site_out"),
    [
        ("layers.1", Site("resid_post", 1), None),
        ("layers.2/seed0", Site("resid_post", 2), None),
        ("layers.2/seed1", Site("resid_post", 2), None),
        ("layers.1.mlp", Site("mlp_in", 1), Site("mlp_out", 1)),
    ],
)
def test_its_own_files(place, site, site_out):
    sae = Dictionary.load(FILES / place)
    assert (sae.site, sae.site_out, sae.architecture, sae.k) == (site, site_out, "topk", K)
    agrees_with_the_original(sae, FILES / place)


def test_t1_decoder_rows_are_latents_also_where_no_shape_tells(tmp_path, x):
    square = {"encoder.weight": (D, D), "encoder.bias": (D,), "W_dec": (D, D), "b_dec": (D,)}
    folder, w = folder_of(tmp_path, tensors=drawn(square), num_latents=D)
    agrees_in_float64(Dictionary.load(folder), x, *equation(w, x))


@pytest.mark.parametrize("normalize_decoder", [True, False])
def test_t2_the_bias_is_subtracted_whatever_normalize_decoder_says(tmp_path, x, normalize_decoder):
    folder, w = folder_of(tmp_path, normalize_decoder=normalize_decoder)
    assert Dictionary.load(folder).config.subtract_b_dec
    agrees_in_float64(Dictionary.load(folder), x, *equation(w, x))


def test_older_files_hold_the_decoder_transposed(tmp_path, x):
    _, w = folder_of(tmp_path, "new")
    old = {**w, "decoder.weight": w["W_dec"].T.contiguous()}
    del old["W_dec"]
    folder, _ = folder_of(tmp_path, tensors=old)
    sae = Dictionary.load(folder)
    assert sae.W_dec.is_contiguous()
    agrees_in_float64(sae, x, *equation(w, x))


def test_a_missing_number_of_latents_is_a_multiple_of_the_width(tmp_path):
    shapes = {"encoder.weight": (36, D), "encoder.bias": (36,), "W_dec": (36, D), "b_dec": (D,)}
    folder, _ = folder_of(tmp_path, tensors=drawn(shapes), num_latents=0, expansion_factor=3)
    assert Dictionary.load(folder).n_latents == 36


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("layers.10", Site("resid_post", 10)),
        ("layers_10", Site("resid_post", 10)),
        ("h.3.attn", Site("attn_out", 3)),
        ("layers.0.mlp", Site("mlp_out", 0)),
        ("embed_tokens", Site("embed")),
        ("layers.4/seed22", Site("resid_post", 4)),
        ("layers.1.post_attention_layernorm", None),
        ("my favourite", None),
    ],
)
def test_the_folder_names_the_module(tmp_path, name, site):
    folder, _ = folder_of(tmp_path, name)
    assert Dictionary.load(folder).site == site
    if site is None:
        assert Dictionary.load(folder, site="resid_mid.1").site == Site("resid_mid", 1)


def test_the_run_names_the_model(tmp_path):
    for name in ("layers.1", "layers.2/seed0"):
        folder, _ = folder_of(tmp_path, name)
        (tmp_path / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-14m", "hookpoints": []}))
        assert Dictionary.load(folder).model_name == "EleutherAI/pythia-14m"


def test_an_output_before_gemmas_norm_is_no_site(tmp_path):
    folder, _ = folder_of(tmp_path, "layers.3.mlp")
    with pytest.raises(UsageError, match=r"the output of layers\.3\.mlp before its norm, which is no site"):
        Dictionary.load(folder, model_name="google/gemma-2-2b")
    folder, _ = folder_of(tmp_path, "layers.3")
    assert Dictionary.load(folder, model_name="google/gemma-2-2b").site == Site("resid_post", 3)


def test_folders_of_several_dictionaries():
    with pytest.raises(UsageError, match=r"dictionaries lie in its folders seed0, seed1; give one of them"):
        Dictionary.load(FILES / "layers.2")
    with pytest.raises(UsageError, match=r"dictionaries lie in its folders layers\.1, layers\.1\.mlp; give one"):
        Dictionary.load(FILES)


@pytest.mark.parametrize(
    ("cfg", "match"),
    [
        ({"activation": "groupmax"}, "unknown activation 'groupmax'; known: topk"),
        ({"signed": True}, "signed is not supported"),
        ({"skip_connection": True}, "skip_connection: expected only with transcode true, found transcode None"),
        ({"skip_connection": True, "transcode": False}, "expected only with transcode true, found transcode False"),
        ({"k": 41}, "whole k from 1 to n_latents=40, found k=41"),
    ],
)
def test_what_is_not_known(tmp_path, cfg, match):
    folder, _ = folder_of(tmp_path, **cfg)
    with pytest.raises(UsageError, match=match):
        Dictionary.load(folder)


@pytest.mark.parametrize(
    ("cfg", "match"),
    [
        ({"d_in": 13}, r"encoder\.weight: expected shape \(40, 13\), found \(40, 12\)"),
        ({"num_latents": "40"}, "expected int at 'num_latents'"),
        ({"k": None}, "expected int at 'k'"),
        ({"transcode": "no"}, "expected bool at 'transcode'"),
        ({"skip_connection": "no"}, "expected bool at 'skip_connection'"),
    ],
)
def test_a_configuration_that_does_not_fit(tmp_path, cfg, match):
    folder, _ = folder_of(tmp_path, **cfg)
    with pytest.raises(GossamerError, match=match):
        Dictionary.load(folder)


# Writing.


@pytest.mark.parametrize("subtract", [True, False])
def test_written_files_read_back_the_same(make, tmp_path, x, subtract):
    sae = make("topk", subtract_b_dec=subtract)
    again = Dictionary.load(sae.save(tmp_path / "any name", "sparsify"))
    torch.testing.assert_close(again.encode_dense(x), sae.encode_dense(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(again(x), sae(x), atol=1e-5, rtol=1e-5)
    assert (again.site, again.model_name, again.config.subtract_b_dec) == (sae.site, sae.model_name, True)
    agrees_in_float64(sae, x, *equation(load_file(tmp_path / "any name" / "sae.safetensors"), x))
    third = Dictionary.load(again.save(tmp_path / "third", "sparsify"))
    assert third.config == again.config
    assert all(torch.equal(third.state_dict()[key], value) for key, value in again.state_dict().items())
    assert third.provenance["derived_from"]["source"] == str(tmp_path / "any name")


def test_a_transcoder_is_written_and_read(tmp_path):
    theirs = Dictionary.load(FILES / "layers.1.mlp")
    again = Dictionary.load(theirs.save(tmp_path / "copy", "sparsify"))
    assert again.config == theirs.config
    agrees_with_the_original(again, FILES / "layers.1.mlp")


@pytest.mark.parametrize("place", ["layers.1", "layers.1.mlp"])
def test_sparsify_loads_what_is_written(tmp_path, place):
    sparsify = pytest.importorskip("sparsify")
    sae = Dictionary.load(FILES / place)
    coder = sparsify.SparseCoder.load_from_disk(sae.save(tmp_path / place, "sparsify"))
    x = load_file(FILES / place / "golden.safetensors")["x"]
    torch.testing.assert_close(coder(x).sae_out, sae(x), atol=1e-5, rtol=1e-5)
    assert (coder.cfg.k, coder.cfg.transcode) == (K, sae.site_out is not None)


def test_what_the_format_cannot_hold(make, tmp_path):
    for architecture in ("relu", "jumprelu", "batchtopk", "gated"):
        with pytest.raises(UsageError, match=f"holds topk only, this dictionary is {architecture}"):
            make(architecture).save(tmp_path / "no", "sparsify")
    with pytest.raises(UsageError, match="needs layer_norm"):
        make("topk", normalisation="layer_norm").save(tmp_path / "no", "sparsify")
    assert not (tmp_path / "no").exists()


def test_meta_reads_shapes_only():
    planned = Dictionary.load(FILES / "layers.1", device="meta")
    assert planned.W_dec.is_meta
    assert planned.nbytes == Dictionary.load(FILES / "layers.1").nbytes


# Transcoders, whatever their format.


def test_a_transcoder_is_not_taken_for_a_reconstruction(tmp_path):
    transcoder = Dictionary.load(FILES / "layers.1.mlp")
    with pytest.raises(UsageError, match=r"found a transcoder from mlp_in\.1 to mlp_out\.1"):
        DictionarySet([transcoder])
    for format, match in (
        ("saelens", "this one is topk; save it as sparsify"),
        ("gemma_scope", "writes no transcoders"),
    ):
        with pytest.raises(UsageError, match=match):
            transcoder.save(tmp_path / format, format)
        assert not (tmp_path / format).exists()


@pytest.fixture
def skipping(tmp_path):
    """sparsify's own transcoder with a skip connection and random weights, and where it saved it."""
    sparsify = pytest.importorskip("sparsify")
    config = sparsify.SparseCoderConfig(num_latents=N, k=K, skip_connection=True, transcode=True)
    coder, generator = sparsify.SparseCoder(D, config), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    coder.save_to_disk(tmp_path / "layers.1.mlp")
    return coder, tmp_path / "layers.1.mlp"


def its_output(coder, x):
    with torch.no_grad():
        return coder(x.flatten(0, 1)).sae_out.reshape(x.shape)


def test_a_skip_connection_is_evaluated_as_sparsify_does(skipping, tmp_path, x):
    coder, folder = skipping
    read = Dictionary.load(folder)
    assert (read.site, read.site_out, read.config.subtract_b_dec) == (Site("mlp_in", 1), Site("mlp_out", 1), False)
    torch.testing.assert_close(read(x), its_output(coder, x), atol=1e-5, rtol=1e-5)
    w = load_file(folder / "sae.safetensors")
    latents, without = equation(w, x, subtract=False)
    agrees_in_float64(read, x, latents, without + x.double() @ w["W_skip"].double().T)
    back = type(coder).load_from_disk(read.save(tmp_path / "ours", "sparsify"))
    assert back.cfg.to_dict() | {"normalize_decoder": None} == coder.cfg.to_dict() | {
        "normalize_decoder": None,
        "expansion_factor": back.cfg.expansion_factor,
    }
    assert all(torch.equal(back.state_dict()[name], value) for name, value in coder.state_dict().items())
    again = Dictionary.load(tmp_path / "ours")
    assert again.config == read.config
    assert all(torch.equal(again.state_dict()[name], value) for name, value in read.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"W_skip": None}, "missing: W_skip; fetch the file again"),
        ({"W_skip": torch.zeros(D, D + 1)}, r"W_skip: expected shape \(12, 12\), found \(12, 13\)"),
        ({"W_skip": torch.full((D, D), torch.nan)}, "W_skip: expected finite values, found nan"),
    ],
)
def test_skip_weights_that_do_not_fit(skipping, changes, match):
    _, folder = skipping
    tensors = {**load_file(folder / "sae.safetensors"), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "sae.safetensors")
    with pytest.raises(GossamerError, match=match) as caught:
        Dictionary.load(folder)
    assert "\n" not in str(caught.value)


def test_a_skip_connection_that_the_configuration_does_not_state(skipping):
    _, folder = skipping
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps({**cfg, "skip_connection": False}))
    with pytest.raises(GossamerError, match="found also W_skip, whose meaning for this architecture is not known"):
        Dictionary.load(folder)


def test_a_transcoder_with_a_skip_connection_is_no_reconstruction_either(skipping, tmp_path):
    transcoder = Dictionary.load(skipping[1])
    for format, match in (
        ("saelens", "this one is topk; save it as sparsify"),
        ("gemma_scope", "writes no transcoders as gemma_scope; save it as saelens, or as sparsify if it is topk"),
        ("gemma_scope_2", "writes no transcoders as gemma_scope_2"),
    ):
        with pytest.raises(UsageError, match=match):
            transcoder.save(tmp_path / format, format)
        assert not (tmp_path / format).exists()


def test_a_transcoder_of_an_unnamed_module(tmp_path):
    folder = shutil.copytree(FILES / "layers.1.mlp", tmp_path / "copy")
    with pytest.raises(UsageError, match="named after no layer or MLP"):
        Dictionary.load(folder)
