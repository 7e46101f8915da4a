"""Against the real library: what SAELens saves we read, what we save SAELens loads, outputs equal."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from gossamer.dictionary import Dictionary, ReportedMetrics
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

sae_lens = pytest.importorskip("sae_lens")

D, N, K = 12, 40, 5
INFERENCE = {
    "standard": (sae_lens.StandardSAE, sae_lens.StandardSAEConfig, {}),
    "gated": (sae_lens.GatedSAE, sae_lens.GatedSAEConfig, {}),
    "jumprelu": (sae_lens.JumpReLUSAE, sae_lens.JumpReLUSAEConfig, {}),
    "topk": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": K}),
    "topk-rescaled": (sae_lens.TopKSAE, sae_lens.TopKSAEConfig, {"k": K, "rescale_acts_by_decoder_norm": True}),
}
TRAINING = {
    "standard": (sae_lens.StandardTrainingSAE, sae_lens.StandardTrainingSAEConfig, {}),
    "gated": (sae_lens.GatedTrainingSAE, sae_lens.GatedTrainingSAEConfig, {}),
    "jumprelu": (sae_lens.JumpReLUTrainingSAE, sae_lens.JumpReLUTrainingSAEConfig, {}),
    "topk": (sae_lens.TopKTrainingSAE, sae_lens.TopKTrainingSAEConfig, {"k": K}),
    "batchtopk": (sae_lens.BatchTopKTrainingSAE, sae_lens.BatchTopKTrainingSAEConfig, {"k": 4.5}),
}


def randomised(sae, hook_name="blocks.1.hook_resid_post", model_name="toy"):
    """The library's own object with every parameter random, so that no convention hides behind a zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
            if name == "threshold":
                parameter.copy_(parameter.abs() + 0.1)
    if hasattr(sae, "topk_threshold"):
        sae.topk_threshold.fill_(0.37)
    sae.cfg.metadata.hook_name = hook_name
    sae.cfg.metadata.model_name = model_name
    return sae


def built(kind, name, hook_name="blocks.1.hook_resid_post", **settings):
    cls, config, extra = kind[name]
    return randomised(cls(config(d_in=D, d_sae=N, **extra, **settings)), hook_name)


def same(ours, theirs, x):
    torch.testing.assert_close(ours.encode_dense(x), theirs.encode(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.encode(x).dense(), theirs.encode(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)
    assert 0 < (ours.encode_dense(x) > 0).float().mean() < 0.9


@pytest.mark.parametrize("name", INFERENCE)
@pytest.mark.parametrize("normalisation", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("subtract", [True, False])
def test_reads_what_saelens_saves_and_the_reverse(tmp_path, x, name, normalisation, subtract):
    theirs = built(INFERENCE, name, normalize_activations=normalisation, apply_b_dec_to_input=subtract)
    theirs.save_model(tmp_path / "theirs")
    ours = Dictionary.load(tmp_path / "theirs")
    assert (ours.site, ours.model_name) == (Site("resid_post", 1), "toy")
    same(ours, theirs, x)
    back = sae_lens.SAE.load_from_disk(ours.save(tmp_path / "ours"))
    assert back.cfg.architecture() == theirs.cfg.architecture()
    assert (back.cfg.metadata.hook_name, back.cfg.metadata.model_name) == ("blocks.1.hook_resid_post", "toy")
    same(ours, back, x)
    again = Dictionary.load(tmp_path / "ours")
    assert again.config == ours.config
    assert all(torch.equal(again.state_dict()[key], value) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("name", TRAINING)
def test_reads_inference_saves_of_trainers(tmp_path, x, name):
    trainer = built(TRAINING, name)
    trainer.save_inference_model(tmp_path)
    ours = Dictionary.load(tmp_path)
    same(ours, sae_lens.SAE.load_from_disk(tmp_path), x)
    assert ours.architecture == {"standard": "relu"}.get(name, name)
    assert ours.k == {"topk": K, "batchtopk": 4.5}.get(name)


@pytest.mark.parametrize("name", TRAINING)
def test_reads_training_checkpoints(tmp_path, x, name):
    trainer = built(TRAINING, name)
    trainer.save_model(tmp_path / "checkpoint")
    trainer.save_inference_model(tmp_path / "inference")
    same(Dictionary.load(tmp_path / "checkpoint"), sae_lens.SAE.load_from_disk(tmp_path / "inference"), x)


@pytest.mark.parametrize("name", TRAINING)
@pytest.mark.parametrize("given", ["argument", "file"])
def test_training_scale_is_folded_as_saelens_folds_it(tmp_path, x, name, given):
    trainer = built(TRAINING, name, normalize_activations="expected_average_only_in")
    trainer.save_model(tmp_path / "raw")
    with pytest.raises(UsageError, match="norm_scaling_factor="):
        Dictionary.load(tmp_path / "raw")
    if given == "file":
        (tmp_path / "raw" / "activation_scaler.json").write_text('{"scaling_factor": 1.7, "has_whitening": false}')
    ours = Dictionary.load(tmp_path / "raw", norm_scaling_factor=1.7 if given == "argument" else None)
    trainer.fold_activation_norm_scaling_factor(1.7)
    trainer.save_inference_model(tmp_path / "folded")
    same(ours, sae_lens.SAE.load_from_disk(tmp_path / "folded"), x)
    with pytest.raises(UsageError, match="leave it out"):
        Dictionary.load(tmp_path / "folded", norm_scaling_factor=1.7)


def test_never_updated_batchtopk_threshold_is_refused(tmp_path):
    trainer = built(TRAINING, "batchtopk")
    trainer.topk_threshold.fill_(0.0)
    trainer.save_model(tmp_path / "checkpoint")
    trainer.save_inference_model(tmp_path / "inference")
    for folder in ("checkpoint", "inference"):
        with pytest.raises(GossamerError, match=r"threshold.*found 0: BatchTopK's threshold was never updated"):
            Dictionary.load(tmp_path / folder)


def test_batchtopk_is_written_as_jumprelu_and_restored(make, tmp_path, x):
    sae = make("batchtopk")
    back = sae_lens.SAE.load_from_disk(sae.save(tmp_path))
    assert back.cfg.architecture() == "jumprelu"
    assert torch.equal(back.threshold.detach(), sae.threshold.expand(sae.n_latents))
    same(sae, back, x)
    again = Dictionary.load(tmp_path)
    assert again.config == sae.config
    assert torch.equal(again.threshold, sae.threshold)


def test_thresholds_folded_apart_stay_jumprelu(tmp_path, x):
    built(TRAINING, "batchtopk").save_inference_model(tmp_path / "equal")
    theirs = sae_lens.SAE.load_from_disk(tmp_path / "equal", fold_W_dec_norm=True)
    theirs.save_model(tmp_path / "apart")
    ours = Dictionary.load(tmp_path / "apart")
    same(ours, theirs, x)


def test_heads_are_flattened(tmp_path):
    theirs = built(INFERENCE, "standard", "blocks.0.attn.hook_z", reshape_activations="hook_z")
    theirs.save_model(tmp_path / "theirs")
    ours = Dictionary.load(tmp_path / "theirs")
    assert (ours.site, ours.config.flatten_heads) == (Site("z", 0), True)
    z = torch.randn(2, 3, 4, D // 4)
    torch.testing.assert_close(ours(z.flatten(-2)), theirs(z).flatten(-2), atol=1e-5, rtol=1e-5)
    back = sae_lens.SAE.load_from_disk(ours.save(tmp_path / "ours"))
    torch.testing.assert_close(back(z), theirs(z), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_dtypes(tmp_path, dtype):
    built(INFERENCE, "jumprelu", dtype=dtype).save_model(tmp_path / "theirs")
    ours = Dictionary.load(tmp_path / "theirs")
    assert ours.W_enc.dtype == getattr(torch, dtype)
    assert sae_lens.SAE.load_from_disk(ours.save(tmp_path / "ours")).dtype == getattr(torch, dtype)
    assert Dictionary.load(tmp_path / "theirs", dtype=torch.float32).threshold.dtype == torch.float32


def test_centred_writing_weights(tmp_path, x):
    theirs = built(INFERENCE, "standard")
    theirs.cfg.metadata.model_from_pretrained_kwargs = {"center_writing_weights": True}
    theirs.save_model(tmp_path / "theirs")
    ours = Dictionary.load(tmp_path / "theirs")
    mean = x.mean(-1, keepdim=True)
    torch.testing.assert_close(ours(x), theirs(x - mean) + mean, atol=1e-5, rtol=1e-5)
    assert Dictionary.load(ours.save(tmp_path / "ours")).config == ours.config


# Before version 6 the configuration was flat, with other names and defaults.


def old_folder(folder, tensors=None, **cfg):
    """A folder as SAELens 2 to 5 left it; returns the weights."""
    theirs = built(INFERENCE, "standard")
    theirs.save_model(folder)
    weights = {**load_file(folder / "sae_weights.safetensors"), **(tensors or {})}
    save_file(weights, folder / "sae_weights.safetensors")
    flat = {"d_in": D, "d_sae": N, "dtype": "torch.float32", "model_name": "gpt2-small", "device": "cuda", **cfg}
    (folder / "cfg.json").write_text(json.dumps(flat))
    return weights


def old_equation(w, x, activation=torch.relu, scale=1.0):
    """SAELens 5: `scaling_factor` multiplies latents before decoding, b_dec is subtracted by default."""
    acts = activation((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    return acts, (acts * scale) @ w["W_dec"] + w["b_dec"]


def agree(ours, expected, x):
    torch.testing.assert_close(ours.encode_dense(x), expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours(x), expected[1], atol=1e-5, rtol=1e-5)


def test_old_names_and_defaults(tmp_path, x):
    w = old_folder(tmp_path, hook_point="blocks.2.hook_resid_pre", hook_point_head_index=None, activation_fn_str="relu")
    ours = Dictionary.load(tmp_path)
    assert (ours.site, ours.model_name, ours.architecture) == (Site("resid_pre", 2), "gpt2-small", "relu")
    assert ours.provenance["training"]["prepend_bos"] is True
    agree(ours, old_equation(w, x), x)
    same(ours, sae_lens.SAE.load_from_disk(tmp_path), x)


def test_old_topk_is_an_activation_function(tmp_path, x):
    cfg = {"hook_name": "blocks.0.hook_mlp_out", "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    old_folder(tmp_path, **cfg)
    ours = Dictionary.load(tmp_path)
    assert (ours.architecture, ours.k) == ("topk", K)
    same(ours, sae_lens.SAE.load_from_disk(tmp_path), x)


def test_old_finetuning_scale_is_folded(tmp_path, x):
    scale = torch.rand(N) + 0.5
    w = old_folder(
        tmp_path, {"scaling_factor": scale}, hook_name="blocks.0.hook_mlp_out", finetuning_scaling_factor=True
    )
    w.pop("scaling_factor")
    ours = Dictionary.load(tmp_path)
    agree(ours, old_equation(w, x, scale=scale), x)
    torch.testing.assert_close(sae_lens.SAE.load_from_disk(ours.save(tmp_path / "new"))(x), ours(x))


def test_old_scale_of_ones_means_nothing_and_others_must_be_meant(tmp_path, x):
    w = old_folder(tmp_path, {"scaling_factor": torch.ones(N)}, hook_name="blocks.0.hook_mlp_out")
    agree(Dictionary.load(tmp_path), old_equation(w, x), x)
    old_folder(tmp_path, {"scaling_factor": torch.full((N,), 2.0)}, hook_name="blocks.0.hook_mlp_out")
    with pytest.raises(GossamerError, match="scaling_factor: expected ones"):
        Dictionary.load(tmp_path)


@pytest.mark.parametrize("value", [True, False, None])
def test_old_boolean_normalisation(tmp_path, x, value):
    w = old_folder(tmp_path, hook_name="blocks.0.hook_resid_pre", normalize_activations=value)
    if value:
        with pytest.raises(UsageError, match="expected_average_only_in"):
            Dictionary.load(tmp_path)
        factor = math.sqrt(D) / float(x.norm(dim=-1).mean())
        acts, out = old_equation(w, x * factor)
        agree(Dictionary.load(tmp_path, norm_scaling_factor=factor), (acts, out / factor), x)
    else:
        agree(Dictionary.load(tmp_path), old_equation(w, x), x)


def test_old_hook_z_is_flattened_by_its_name(tmp_path):
    old_folder(tmp_path, hook_name="blocks.1.attn.hook_z")
    assert Dictionary.load(tmp_path).config.flatten_heads
    assert Dictionary.load(tmp_path).site == Site("z", 1)


def test_old_log_threshold(tmp_path, x):
    theirs = built(INFERENCE, "jumprelu")
    theirs.save_model(tmp_path)
    weights = load_file(tmp_path / "sae_weights.safetensors")
    weights["log_threshold"] = weights.pop("threshold").log()
    save_file(weights, tmp_path / "sae_weights.safetensors")
    same(Dictionary.load(tmp_path), theirs, x)


# What the file says beyond the numbers.


def test_provenance_and_claims_survive(make, tmp_path):
    claims = ReportedMetrics(l0=12.5, explained_variance=0.87)
    sae = make("jumprelu", provenance={"training": {"seed": 3, "context_size": 64}}, reported=claims)
    first = Dictionary.load(sae.save(tmp_path / "one"))
    assert first.reported == claims
    assert first.provenance["training"]["seed"] == 3
    assert first.provenance["format"] == "saelens"
    assert len(first.provenance["sha256"]) == 64
    third = Dictionary.load(Dictionary.load(first.save(tmp_path / "two")).save(tmp_path / "three"))
    assert third.reported == claims
    assert third.provenance["derived_from"]["source"] == str(tmp_path / "one")
    assert third.provenance["training"]["context_size"] == 64


def test_saelens_l0_is_a_claim(tmp_path):
    theirs = built(INFERENCE, "standard")
    theirs.cfg.metadata.l0 = 31
    theirs.save_model(tmp_path)
    assert Dictionary.load(tmp_path).reported == ReportedMetrics(l0=31.0)


def test_meta_reads_shapes_only(make, tmp_path):
    for architecture in ("jumprelu", "batchtopk", "topk"):
        sae = make(architecture)
        planned = Dictionary.load(sae.save(tmp_path / architecture), device="meta")
        assert planned.W_enc.is_meta
        assert planned.config == sae.config
        assert planned.nbytes == sae.nbytes


def test_site_and_model_of_a_file_cannot_be_overridden(make, tmp_path):
    make(site="z.1").save(tmp_path / "z")
    with pytest.raises(UsageError, match=r"the file's site is z\.1, you asked for resid_post\.1"):
        Dictionary.load(tmp_path / "z", site="resid_post.1")
    with pytest.raises(UsageError, match="the file's model name is toy"):
        Dictionary.load(tmp_path / "z", model_name="other")
    make(site=None, model_name=None).save(tmp_path / "bare")
    bare = Dictionary.load(tmp_path / "bare", site="mlp_out.0", model_name="other")
    assert (bare.site, bare.model_name) == (Site("mlp_out", 0), "other")
