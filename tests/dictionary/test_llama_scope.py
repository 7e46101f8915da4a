"""Llama Scope in its three layouts: the makers' equations in float64, and a threshold whose units are measured."""

import json
import math
from pathlib import Path

import pytest
import torch
from originals import agrees_in_float64, drawn
from safetensors.torch import save_file

from gossamer.dictionary import Dictionary, DictionarySet
from gossamer.dictionary.formats.llama_scope_threshold import mean_l0, readings_of, settle
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.model.site import Site

D, N, K = 12, 40, 5
HOOK = "blocks.3.hook_resid_post"
MLP = ("blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out")
LINEAR = {"encoder.weight": (N, D), "encoder.bias": (N,), "decoder.weight": (D, N), "decoder.bias": (D,)}
CURRENT = {"W_E": (D, N), "b_E": (N,), "W_D": (N, D), "b_D": (D,)}
SCALE_IN, SCALE_OUT = 4.0, 0.5
FILE = Path("final.safetensors")


def norms(scale_in=SCALE_IN, scale_out=SCALE_IN):
    """Mean norms of activations that these factors bring to sqrt(d)."""
    return math.sqrt(D) / scale_in, math.sqrt(D) / scale_out


def text(scale=SCALE_IN, tokens=400):
    """Activations whose mean norm is about sqrt(d) / scale."""
    return torch.randn(tokens, D, generator=torch.Generator().manual_seed(3)) / scale


def plain(w):
    """Weights by the names of the current layout, in float64."""
    if "W_E" not in w:
        w = {"W_E": w["encoder.weight"].T, "b_E": w["encoder.bias"], "W_D": w["decoder.weight"].T, **w}
        w["b_D"] = w["decoder.bias"] if "decoder.bias" in w else torch.zeros(D)
    return {name: tensor.double() for name, tensor in w.items()}


def equation(w, x, threshold=None, *, gated=True, subtract=False, activation="jumprelu", scales=(SCALE_IN, SCALE_IN)):
    """The makers' encode and decode: scaled input, gating by decoder norms, output scaled back."""
    w, x = plain(w), x.double() * scales[0]
    pre = (x - (w["b_D"] if subtract else 0)) @ w["W_E"] + w["b_E"]
    score = pre * (w["W_D"].norm(dim=-1) if gated else 1)
    if activation == "jumprelu":
        mask = score > threshold
    elif activation == "topk":
        mask = (score >= score.topk(K, dim=-1).values[..., -1:]) & (score > 0)
    else:
        mask = score > 0
    return pre * mask, ((pre * mask) @ w["W_D"] + w["b_D"]) / scales[1]


def threshold_for(w, x, l0=K, **conventions):
    """A threshold at which `l0` latents of a token are active on average."""
    w, x = plain(w), x.double() * SCALE_IN
    score = (x @ w["W_E"] + w["b_E"]) * (w["W_D"].norm(dim=-1) if conventions.get("gated", True) else 1)
    ordered = score.flatten().sort(descending=True).values
    return float((ordered[l0 * len(x) - 1] + ordered[l0 * len(x)]) / 2)


def old_folder(folder, *, shapes=LINEAR, hooks=(HOOK, HOOK), out=SCALE_IN, **cfg):
    """A folder of the first release; returns the weights."""
    (folder / "checkpoints").mkdir(parents=True)
    w = drawn(shapes)
    save_file(w, folder / "checkpoints" / "final.safetensors")
    stated = {
        "d_model": D, "d_sae": N, "act_fn": "jumprelu", "top_k": K, "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": dict(zip(("in", "out"), norms(SCALE_IN, out), strict=True)),
        "hook_point_in": hooks[0], "hook_point_out": hooks[1], "use_glu_encoder": False,
        "apply_decoder_bias_to_pre_encoder": False, "sparsity_include_decoder_norm": True,
    }  # fmt: skip
    (folder / "hyperparams.json").write_text(json.dumps({**stated, **cfg}))
    (folder / "lm_config.json").write_text(json.dumps({"model_name": "meta-llama/Llama-3.1-8B"}))
    return w


def new_folder(folder, *, layout=CURRENT, hooks=(HOOK, HOOK), out=SCALE_IN, dataset_norms=True, **cfg):
    """A folder of the R1 or the current layout; returns the weights and the threshold of each latent."""
    folder.mkdir(parents=True)
    w = drawn(layout)
    threshold = drawn({"t": (N,)}, seed=9)["t"].abs() + 0.3
    name = "activation_function.log_jumprelu_threshold" if "W_E" in w else "log_jumprelu_threshold"
    stored = {**w, name: threshold.log()} if cfg.get("act_fn", "jumprelu") == "jumprelu" else dict(w)
    if dataset_norms:
        for hook, norm in zip(hooks, norms(SCALE_IN, out), strict=True):
            stored[f"dataset_average_activation_norm.{hook}"] = torch.tensor(norm)
    counters = {"tokens_since_last_activation": torch.zeros(N, dtype=torch.long), "is_dead": torch.zeros(N).bool()}
    save_file({**stored, **counters}, folder / "sae_weights.safetensors")
    stated = {
        "sae_type": "sae", "d_model": D, "expansion_factor": N / D, "act_fn": "jumprelu", "top_k": K,
        "norm_activation": "dataset-wise", "hook_point_in": hooks[0], "hook_point_out": hooks[1],
        "sparsity_include_decoder_norm": True, "use_decoder_bias": True, "use_glu_encoder": False,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**stated, **cfg}))
    return w, threshold


# R1 and current: nothing to be measured.


@pytest.mark.parametrize("layout", [LINEAR, CURRENT])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("subtract", [True, False])
def test_the_written_equations(tmp_path, layout, gated, subtract):
    w, threshold = new_folder(
        tmp_path / "a",
        layout=layout,
        sparsity_include_decoder_norm=gated,
        apply_decoder_bias_to_pre_encoder=subtract,
    )
    sae = Dictionary.load(tmp_path / "a")
    assert (sae.site, sae.site_out, sae.architecture) == (Site("resid_post", 3), None, "jumprelu")
    agrees_in_float64(sae, text(), *equation(w, text(), threshold.double(), gated=gated, subtract=subtract))


def test_relu_keeps_the_latents(tmp_path):
    w, _ = new_folder(tmp_path / "a", act_fn="relu")
    sae = Dictionary.load(tmp_path / "a")
    latents, x_hat = equation(w, text(), activation="relu")
    agrees_in_float64(sae, text(), latents * plain(w)["W_D"].norm(dim=-1), x_hat)


@pytest.mark.parametrize("gated", [True, False])
def test_topk_orders_by_decoder_norms(tmp_path, gated):
    w, _ = new_folder(tmp_path / "a", act_fn="topk", sparsity_include_decoder_norm=gated)
    latents, x_hat = equation(w, text(), activation="topk", gated=gated)
    # Latents are in units of the decoder's rows where these decide.
    units = plain(w)["W_D"].norm(dim=-1) if gated else 1
    agrees_in_float64(Dictionary.load(tmp_path / "a"), text(), latents * units, x_hat)


def test_no_decoder_bias(tmp_path):
    layout = {name: shape for name, shape in CURRENT.items() if name != "b_D"}
    w, threshold = new_folder(tmp_path / "a", layout=layout, use_decoder_bias=False)
    w["b_D"] = torch.zeros(D)
    agrees_in_float64(Dictionary.load(tmp_path / "a"), text(), *equation(w, text(), threshold.double()))


def test_a_scale_of_each_token(tmp_path):
    w, threshold = new_folder(tmp_path / "a", norm_activation="token-wise", dataset_norms=False)
    x = text()
    factor = math.sqrt(D) / x.double().norm(dim=-1, keepdim=True)
    latents, x_hat = equation(w, x.double() * factor, threshold.double(), scales=(1, 1))
    agrees_in_float64(Dictionary.load(tmp_path / "a"), x, latents, x_hat / factor)


def test_numbers_of_an_unscaled_file_mean_nothing(tmp_path):
    w, _ = new_folder(tmp_path / "a", norm_activation="inference", act_fn="topk", sparsity_include_decoder_norm=False)
    expected = equation(w, text(1.0), activation="topk", gated=False, scales=(1, 1))
    agrees_in_float64(Dictionary.load(tmp_path / "a"), text(1.0), *expected)


def test_t4_folding_the_scale_leaves_the_threshold_where_it_belongs(tmp_path):
    """The makers' fold divides b_E (and so every pre-activation) by the scale, and forgets the threshold."""
    w, threshold = new_folder(tmp_path / "a", sparsity_include_decoder_norm=False)
    latents, x_hat = equation(w, text(), threshold.double(), gated=False)
    sae = Dictionary.load(tmp_path / "a")
    assert float(sae.encode(text()).l0.double().mean()) == float((latents > 0).double().sum(-1).mean())
    torch.testing.assert_close(sae(text()), x_hat.float(), atol=2e-5, rtol=1e-5)
    pre = text().double() @ plain(w)["W_E"] + plain(w)["b_E"] / SCALE_IN
    forgotten = (pre > threshold.double()).double().sum(-1).mean()
    assert forgotten < 0.8 * float(sae.encode(text()).l0.double().mean())
    new_folder(tmp_path / "b", norm_activation="inference")
    with pytest.raises(UsageError, match=r"norm_activation is inference: .* leaves thresholds in other units"):
        Dictionary.load(tmp_path / "b")


def test_t5_equal_hooks_are_a_dictionary_and_different_ones_a_transcoder(tmp_path):
    new_folder(tmp_path / "a")
    assert DictionarySet([Dictionary.load(tmp_path / "a")])
    w, threshold = new_folder(tmp_path / "b", hooks=MLP, out=SCALE_OUT)
    transcoder = Dictionary.load(tmp_path / "b")
    assert (transcoder.site, transcoder.site_out) == (Site("mlp_normalized", 3), Site("mlp_out", 3))
    agrees_in_float64(transcoder, text(), *equation(w, text(), threshold.double(), scales=(SCALE_IN, SCALE_OUT)))


@pytest.mark.parametrize(
    ("cfg", "error", "match"),
    [
        ({"use_glu_encoder": True}, UsageError, "use_glu_encoder is not supported"),
        ({"act_fn": "batchtopk"}, UsageError, "unknown act_fn 'batchtopk'; known: relu, jumprelu, topk"),
        ({"norm_activation": "batch-wise"}, UsageError, "unknown norm_activation 'batch-wise'"),
        (
            {"hooks": ("blocks.3.hook_x", "blocks.3.hook_x")},
            UsageError,
            "'blocks.3.hook_x' is no known site",
        ),
        ({"d_model": 13, "d_sae": N}, GossamerError, r"W_E: expected shape \(13, 40\)"),
        ({"expansion_factor": None}, GossamerError, "expected a positive number at 'expansion_factor'"),
        ({"dataset_norms": False}, GossamerError, "expected a number dataset_average_activation_norm.blocks.3.hook"),
    ],
)
def test_what_is_not_known(tmp_path, cfg, error, match):
    new_folder(tmp_path / "a", **cfg)
    with pytest.raises(error, match=match):
        Dictionary.load(tmp_path / "a")


# The first release: one threshold, in units that its files do not name.


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize(("divisor", "reading"), [(1.0, "as it stands"), (SCALE_IN, "times the input's scale")])
def test_the_threshold_is_measured(tmp_path, gated, divisor, reading):
    w = drawn(LINEAR)
    true = threshold_for(w, text(), gated=gated)
    old_folder(tmp_path / "a", jump_relu_threshold=true / divisor, sparsity_include_decoder_norm=gated)
    sae = Dictionary.load(tmp_path / "a", format="llama_scope", activations=text())
    assert (sae.model_name, sae.reported.l0) == ("meta-llama/Llama-3.1-8B", K)
    assert sae.provenance["training"]["threshold"]["reading"] == reading
    assert sae.provenance["training"]["threshold"]["l0"] == pytest.approx(K, rel=0.01)
    agrees_in_float64(sae, text(), *equation(w, text(), true, gated=gated))


def test_a_transcoders_threshold_may_be_in_units_of_its_output(tmp_path):
    w = drawn(LINEAR)
    true = threshold_for(w, text())
    old_folder(tmp_path / "a", hooks=MLP, out=SCALE_OUT, jump_relu_threshold=true / SCALE_OUT)
    sae = Dictionary.load(tmp_path / "a", activations=text())
    assert sae.provenance["training"]["threshold"]["reading"] == "times the output's scale"
    agrees_in_float64(sae, text(), *equation(w, text(), true, scales=(SCALE_IN, SCALE_OUT)))


def test_without_activations_it_says_what_to_give(tmp_path):
    old_folder(tmp_path / "a", jump_relu_threshold=0.5)
    with pytest.raises(UsageError, match=r"give activations=, what is at resid_post\.3 on some") as caught:
        Dictionary.load(tmp_path / "a", format="llama_scope")
    assert "\n" not in str(caught.value)
    assert Dictionary.load(tmp_path / "a", device="meta").W_enc.is_meta


def test_no_reading_near_the_published_l0_is_refused(tmp_path):
    old_folder(tmp_path / "a", jump_relu_threshold=1e-6)
    with pytest.raises(GossamerError, match=r"near the published 5, found \d+.* with the threshold as it stands, \d+"):
        Dictionary.load(tmp_path / "a", activations=text())


def test_two_readings_near_the_published_l0_are_refused():
    readings = {"as it stands": 0.5, "times the input's scale": 0.6}
    with pytest.raises(GossamerError, match=r"found 50 with the threshold as it stands, 45 with .*give more tokens"):
        settle(readings, {"as it stands": 50.0, "times the input's scale": 45.0}, 50.0, FILE)


def test_equal_readings_count_once():
    assert readings_of(0.2, 4.0, 4.0) == {"as it stands": 0.2, "times the input's scale": 0.8}
    assert readings_of(0.2, 1.0, 1.0) == {"as it stands": 0.2}
    assert list(readings_of(0.2, 1.0, 18.9)) == ["as it stands", "times the output's scale"]


def test_l0_is_counted_in_blocks(monkeypatch):
    w = plain(drawn(LINEAR))
    tensors, gates = {"W_enc": w["W_E"], "b_enc": w["b_E"]}, w["W_D"].norm(dim=-1)
    whole = mean_l0(text(), tensors, gates, {"a": 0.1, "b": 0.5}, FILE)
    monkeypatch.setattr("gossamer.dictionary.formats.llama_scope_threshold._BLOCK_VALUES", 7 * N)
    assert mean_l0(text(), tensors, gates, {"a": 0.1, "b": 0.5}, FILE) == whole
    assert whole["a"] > whole["b"] > 0


@pytest.mark.parametrize(
    ("activations", "error", "match"),
    [
        (text(tokens=15), UsageError, r"at least 16 tokens of width 12, found shape \(15, 12\)"),
        (torch.zeros(100, D + 1), UsageError, r"of width 12, found shape \(100, 13\)"),
        (torch.full((100, D), torch.nan), NotFiniteError, "activations: expected finite"),
    ],
)
def test_impossible_activations(tmp_path, activations, error, match):
    old_folder(tmp_path / "a", jump_relu_threshold=0.5)
    with pytest.raises(error, match=match):
        Dictionary.load(tmp_path / "a", activations=activations)


def test_once_settled_it_is_saved_without_the_question(tmp_path):
    old_folder(tmp_path / "a", jump_relu_threshold=threshold_for(drawn(LINEAR), text()))
    sae = Dictionary.load(tmp_path / "a", activations=text())
    again = Dictionary.load(sae.save(tmp_path / "b"))
    torch.testing.assert_close(again(text()), sae(text()))
    assert again.reported.l0 == K
