"""dictionary_learning: every class as the library evaluates it, finished runs and crashed ones."""

import json
import shutil

import pytest
import torch
from originals import GOLDEN, agrees_with_the_original

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

FINISHED, CRASHED = GOLDEN / "dictionary_learning", GOLDEN / "dictionary_learning_crashed"
CLASSES = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "batchtopk",
}


def copied(name, folder, *, trainer=None, buffer=None, source=FINISHED, **state):
    """A copy of a golden folder with some of its configuration or state changed (None takes an entry away)."""
    shutil.copytree(source / name, folder)
    cfg = json.loads((folder / "config.json").read_text())
    cfg["trainer"].update(trainer or {})
    cfg["buffer"].update(buffer or {})
    (folder / "config.json").write_text(json.dumps(cfg))
    if state:
        content = {**torch.load(folder / "ae.pt", weights_only=True), **state}
        torch.save({key: value for key, value in content.items() if value is not ...}, folder / "ae.pt")
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_every_class(name):
    sae = Dictionary.load(FINISHED / name)
    assert (sae.architecture, sae.site) == (CLASSES[name], Site("resid_post", 1))
    assert sae.model_name == "EleutherAI/pythia-14m"
    assert sae.k == (5 if "TopK" in name else None)
    assert sae.W_dec.is_contiguous()
    agrees_with_the_original(sae, FINISHED / name)
    assert sae.provenance["training"]["dict_class"] == name


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"AutoEncoderNew"}))
def test_a_crashed_run_left_unscaled_biases(name):
    sae = Dictionary.load(CRASHED / name)
    agrees_with_the_original(sae, CRASHED / name)
    assert sae.provenance["training"]["unfinished_at_step"] == 40
    assert sae.provenance["training"]["norm_factor"] == 3.25


def test_a_crashed_run_without_its_factor_is_refused(tmp_path):
    folder = copied("BatchTopKSAE", tmp_path / "a", source=CRASHED, norm_factor=...)
    with pytest.raises(GossamerError, match=r"ae\.pt: left by an unfinished run; expected norm_factor"):
        Dictionary.load(folder)
    folder = copied("BatchTopKSAE", tmp_path / "b", source=CRASHED, norm_factor=-1.0)
    with pytest.raises(GossamerError, match="expected a positive number at 'norm_factor'"):
        Dictionary.load(folder)
    folder = copied("BatchTopKSAE", tmp_path / "c", source=CRASHED, norm_factor=None)
    agrees_with_the_original(Dictionary.load(folder), FINISHED / "BatchTopKSAE")


@pytest.mark.parametrize("name", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_threshold_of_minus_one_was_never_updated(tmp_path, name):
    folder = copied(name, tmp_path / "a", threshold=torch.tensor(-1.0))
    with pytest.raises(GossamerError, match="threshold: expected a number from 0, found -1: BatchTopK's threshold was"):
        Dictionary.load(folder)


def test_topk_needs_no_threshold(tmp_path):
    folder = copied("AutoEncoderTopK", tmp_path / "a", threshold=torch.tensor(-1.0))
    agrees_with_the_original(Dictionary.load(folder), FINISHED / "AutoEncoderTopK")


def test_k_may_be_in_either_file_but_only_one(tmp_path):
    assert Dictionary.load(copied("AutoEncoderTopK", tmp_path / "a", k=...)).k == 5
    assert Dictionary.load(copied("AutoEncoderTopK", tmp_path / "b", trainer={"k": None})).k == 5
    with pytest.raises(GossamerError, match=r"expected one k, in it or in .*, found 5 and 6"):
        Dictionary.load(copied("AutoEncoderTopK", tmp_path / "c", trainer={"k": 6}))
    with pytest.raises(GossamerError, match=r"expected one k, in it or in .*, found none"):
        Dictionary.load(copied("AutoEncoderTopK", tmp_path / "d", trainer={"k": None}, k=...))


def test_a_checkpoint_of_the_run(tmp_path):
    folder = copied("GatedAutoEncoder", tmp_path / "a")
    (folder / "checkpoints").mkdir()
    for step in (10, 20):
        shutil.copy(folder / "ae.pt", folder / "checkpoints" / f"ae_{step}.pt")
    agrees_with_the_original(Dictionary.load(folder / "checkpoints" / "ae_20.pt"), FINISHED / "GatedAutoEncoder")
    with pytest.raises(UsageError, match=r"several files of dictionary_learning found \(ae_10\.pt, ae_20\.pt\)"):
        Dictionary.load(folder / "checkpoints")


@pytest.mark.parametrize(
    ("trainer", "buffer", "site"),
    [
        ({"submodule_name": "mlp_out_layer_3"}, {}, Site("mlp_out", 3)),
        ({"submodule_name": "attn_out_layer0"}, {}, Site("attn_out", 0)),
        ({"submodule_name": None}, {}, None),
        ({"submodule_name": "transformer.h.1"}, {}, None),
        ({}, {"io": "in"}, None),
    ],
)
def test_the_site_is_not_guessed(tmp_path, trainer, buffer, site):
    folder = copied("AutoEncoder", tmp_path / "a", trainer=trainer, buffer=buffer)
    assert Dictionary.load(folder).site == site
    if site is None:
        assert Dictionary.load(folder, site="resid_post.1").site == Site("resid_post", 1)


@pytest.mark.parametrize(
    ("trainer", "buffer", "match"),
    [
        ({"dict_class": "IdentityDict"}, {}, "unknown dict_class 'IdentityDict'; known: AutoEncoder, AutoEncoderNew"),
        ({"dict_class": None}, {}, "unknown dict_class None"),
        ({}, {"io": "in_and_out"}, "maps a submodule's input to its output"),
    ],
)
def test_what_is_not_known(tmp_path, trainer, buffer, match):
    with pytest.raises(UsageError, match=match):
        Dictionary.load(copied("AutoEncoder", tmp_path / "a", trainer=trainer, buffer=buffer))


@pytest.mark.parametrize(
    ("state", "match"),
    [
        ({"bias": ...}, "missing: bias"),
        ({"bias": torch.zeros(9)}, r"bias: expected shape \(8,\), found \(9,\)"),
        ({"encoder.weight": torch.zeros(24)}, r"expected a matrix encoder\.weight"),
        ({"bias": torch.full((8,), torch.nan)}, "bias: expected finite values"),
        ({"other": torch.zeros(3)}, "found also other"),
        ({"other": "text"}, "other: expected floating-point numbers, found str"),
        (
            {"bias": torch.zeros(8, dtype=torch.int64)},
            "bias: expected floating-point numbers, found a tensor",
        ),
    ],
)
def test_weights_that_do_not_fit(tmp_path, state, match):
    with pytest.raises(GossamerError, match=match):
        Dictionary.load(copied("AutoEncoder", tmp_path / "a", **state))


def test_meta_reads_shapes_only():
    for name in CLASSES:
        planned = Dictionary.load(FINISHED / name, device="meta")
        assert planned.W_enc.is_meta
        assert planned.nbytes == Dictionary.load(FINISHED / name).nbytes
