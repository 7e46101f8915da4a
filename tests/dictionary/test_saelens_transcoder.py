"""Transcoders against the real library: what SAELens saves we read, what we save SAELens loads, outputs equal."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_saelens import D, N, randomised, same

from gossamer.dictionary import Dictionary, ReportedMetrics
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

sae_lens = pytest.importorskip("sae_lens")

READS, WRITES = Site("mlp_in", 1), Site("mlp_out", 1)
THEIRS = {
    "transcoder": (sae_lens.Transcoder, sae_lens.TranscoderConfig),
    "jumprelu_transcoder": (sae_lens.JumpReLUTranscoder, sae_lens.JumpReLUTranscoderConfig),
    "skip_transcoder": (sae_lens.SkipTranscoder, sae_lens.SkipTranscoderConfig),
    "jumprelu_skip_transcoder": (sae_lens.JumpReLUSkipTranscoder, sae_lens.JumpReLUSkipTranscoderConfig),
}
OURS = {"relu": "transcoder", "jumprelu": "jumprelu_transcoder", "batchtopk": "jumprelu_transcoder"}
SKIPPING = {"transcoder": "skip_transcoder", "jumprelu_transcoder": "jumprelu_skip_transcoder"}


def built(name, **settings):
    """SAELens' own transcoder with random weights."""
    kind, config = THEIRS[name]
    widths = {"d_in": D, "d_out": D, "d_sae": N, "apply_b_dec_to_input": False}
    theirs = randomised(kind(config(**{**widths, **settings})), READS.transformer_lens)
    theirs.cfg.metadata.hook_name_out = WRITES.transformer_lens
    return theirs


@pytest.fixture
def ours(make):
    def transcoder(architecture, **more):
        return make(architecture, site=str(READS), site_out=WRITES, **more)

    return transcoder


@pytest.fixture
def folder(ours, tmp_path):
    return ours("jumprelu").save(tmp_path)


def retold(folder, **changes):
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"] |= changes.pop("metadata", {})
    (folder / "cfg.json").write_text(json.dumps({**cfg, **changes}))


def identical(one, other):
    return one.config == other.config and all(
        torch.equal(other.state_dict()[name], value) for name, value in one.state_dict().items()
    )


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reads_what_saelens_saves_and_the_reverse(tmp_path, x, name, dtype):
    theirs, x = built(name, dtype=dtype), x.to(getattr(torch, dtype))
    theirs.save_model(tmp_path / "theirs")
    read = Dictionary.load(tmp_path / "theirs")
    assert (read.site, read.site_out, read.model_name) == (READS, WRITES, "toy")
    assert (read.W_skip is not None) == (name in SKIPPING.values())
    same(read, theirs, x)
    back = sae_lens.SAE.load_from_disk(read.save(tmp_path / "ours"))
    assert back.cfg.to_dict() | {"metadata": None} == theirs.cfg.to_dict() | {"metadata": None}
    assert all(torch.equal(back.state_dict()[key], value) for key, value in theirs.state_dict().items())
    same(read, back, x)
    assert identical(Dictionary.load(tmp_path / "ours"), read)


@pytest.mark.parametrize("architecture", OURS)
@pytest.mark.parametrize("skip", [False, True])
def test_saelens_loads_what_is_written_and_it_reads_back_to_the_bit(ours, tmp_path, x, architecture, skip):
    sae = ours(architecture, skip=skip, reported=ReportedMetrics(l0=7.5, explained_variance=0.8))
    back = sae_lens.SAE.load_from_disk(sae.save(tmp_path))
    assert type(back) is THEIRS[SKIPPING[OURS[architecture]] if skip else OURS[architecture]][0]
    found = (back.cfg.metadata.hook_name, back.cfg.metadata.hook_name_out, back.cfg.metadata.l0)
    assert found == ("blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out", 7.5)
    same(sae, back, x)
    again = Dictionary.load(tmp_path)
    assert identical(again, sae)
    assert (again.reported, again.provenance["training"].get("hook_name_out")) == (sae.reported, None)


def hooked(folder, name, provenance, **facts):
    """The file as another version of gossamer, or SAELens, would have left it."""
    cfg = json.loads((folder / "cfg.json").read_text())
    cfg["metadata"] = {**cfg["metadata"], "hook_name": name, "gossamer": None, **facts}
    if provenance is None:
        del cfg["metadata"]["gossamer"]
    else:
        cfg["metadata"]["gossamer"] = {"claims": {}, "provenance": provenance}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return Dictionary.load(folder).site


def test_a_norm_before_its_gain_is_another_site_than_what_enters_the_mlp(folder):
    """TransformerLens' ln2.hook_normalized; gossamer once wrote that name for mlp_in, and those files still load."""
    name = "blocks.1.ln2.hook_normalized"
    assert hooked(folder, name, None) == Site("mlp_normalized", 1)
    assert hooked(folder, name, {"format": "saelens", "source": "a file of SAELens"}) == Site("mlp_normalized", 1)
    assert hooked(folder, name, {"training": {}}) == READS
    assert hooked(folder, name, {"format": "saelens", "source": "a file of ours"}, plan={"n": 4}) == READS
    assert hooked(folder, "hook_embed", {}) == Site("embed")
    assert hooked(folder, "blocks.1.attn.hook_q", None) == Site("q_proj", 1)


def test_one_threshold_is_written_for_every_latent(ours, tmp_path):
    sae = ours("batchtopk")
    written = load_file(sae.save(tmp_path) / "sae_weights.safetensors")
    assert torch.equal(written["threshold"], sae.threshold.expand(N))
    assert Dictionary.load(tmp_path).k == sae.k


def test_the_equations_in_float64(ours, tmp_path, x):
    sae = Dictionary.load(ours("jumprelu").save(tmp_path), dtype=torch.float64)
    w = {name: value.double() for name, value in load_file(tmp_path / "sae_weights.safetensors").items()}
    pre = x.double() @ w["W_enc"] + w["b_enc"]
    latents = pre.relu() * (pre > w["threshold"])
    torch.testing.assert_close(sae.encode_dense(x.double()), latents)
    torch.testing.assert_close(sae(x.double()), latents @ w["W_dec"] + w["b_dec"])


@pytest.mark.parametrize(
    ("architecture", "match"),
    [("topk", "this one is topk; save it as sparsify"), ("gated", "this one is gated; no other format holds it")],
)
def test_what_saelens_has_no_transcoder_for(ours, tmp_path, architecture, match):
    with pytest.raises(UsageError, match=f"saelens holds relu, jumprelu, batchtopk transcoders only, {match}"):
        ours(architecture).save(tmp_path / "no")
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("architecture", ["relu", "jumprelu"])
def test_the_skip_connection_in_float64(ours, tmp_path, x, architecture):
    sae = Dictionary.load(ours(architecture, skip=True).save(tmp_path), dtype=torch.float64)
    w = {name: value.double() for name, value in load_file(tmp_path / "sae_weights.safetensors").items()}
    without = sae.encode_dense(x.double()) @ w["W_dec"] + w["b_dec"]
    # W_skip is square, so that no shape tells which way it is stored: (d_out, d_in).
    torch.testing.assert_close(sae(x.double()), without + x.double() @ w["W_skip"].T)
    torch.testing.assert_close(sae.decode(sae.encode(x.double())), without)


@pytest.mark.parametrize("architecture", ["relu", "jumprelu"])
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"W_skip": None}, "missing: W_skip"),
        ({"W_skip": torch.zeros(D + 1, D)}, r"W_skip: expected shape \(12, 12\), found \(13, 12\); fetch the file"),
        ({"W_skip": torch.zeros(D)}, r"W_skip: expected shape \(12, 12\), found \(12,\)"),
        ({"W_skip": torch.full((D, D), torch.nan)}, r"W_skip: expected finite values, found nan at index \(0, 0\)"),
        ({"W_skip": torch.zeros(D, D, dtype=torch.int64)}, "W_skip: expected floating-point numbers"),
    ],
)
def test_skip_weights_that_do_not_fit(ours, tmp_path, architecture, changes, match):
    folder = ours(architecture, skip=True).save(tmp_path)
    weights_do_not_fit(folder, changes, match)


def test_another_width_of_the_output_is_refused(tmp_path):
    built("transcoder", d_out=D + 1).save_model(tmp_path)
    with pytest.raises(UsageError, match="from width 12 to 13; only equal widths are supported"):
        Dictionary.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"d_out": None}, "expected int at 'd_out', found None"),
        ({"d_out": "12"}, "expected int at 'd_out', found '12'"),
        ({"d_in": 13, "d_out": 13}, r"W_enc: expected shape \(13, 40\), found \(12, 40\)"),
        ({"apply_b_dec_to_input": True}, "apply_b_dec_to_input: expected false"),
        ({"apply_b_dec_to_input": None}, "apply_b_dec_to_input: expected false"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm' of a transcoder is not"),
        ({"normalize_activations": "expected_average_only_in"}, "of a transcoder is not supported"),
        ({"metadata": {"hook_name_out": None}}, "hook_name_out None is no known site"),
        ({"metadata": {"hook_name_out": "blocks.1.hook_scale"}}, "hook_name_out 'blocks.1.hook_scale' is no known"),
        ({"metadata": {"hook_name_out": READS.transformer_lens}}, "a transcoder writes elsewhere than it reads"),
        ({"metadata": {"hook_head_index_out": 2}}, "writes one head"),
        ({"metadata": {"model_from_pretrained_kwargs": {"center_writing_weights": True}}}, "centred writing weights"),
    ],
)
def test_a_configuration_that_does_not_fit(folder, changes, match):
    retold(folder, **changes)
    with pytest.raises(GossamerError, match=match) as caught:
        Dictionary.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"threshold": None}, "missing: threshold"),
        ({"W_dec": None}, "missing: W_dec"),
        ({"W_skip": torch.zeros(D, D)}, "found also W_skip, whose meaning .* is not known; correct the configuration"),
        ({"W_dec": torch.zeros(N, D + 1)}, r"W_dec: expected shape \(40, 12\), found \(40, 13\)"),
        ({"b_dec": torch.zeros(N)}, r"b_dec: expected shape \(12,\), found \(40,\)"),
        ({"threshold": torch.full((N,), torch.nan)}, "threshold: expected finite values, found nan"),
    ],
)
def test_weights_that_do_not_fit(folder, changes, match):
    weights_do_not_fit(folder, changes, match)


def weights_do_not_fit(folder, changes, match):
    path = folder / "sae_weights.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(GossamerError, match=match) as caught:
        Dictionary.load(folder)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_meta_reads_shapes_only(folder):
    planned = Dictionary.load(folder, device="meta")
    assert planned.W_dec.is_meta
    assert planned.config == Dictionary.load(folder).config
