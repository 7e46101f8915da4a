"""What is kept from learning stays as it began, all else learns; random weights are the architecture's own."""

from dataclasses import replace

import pytest
import torch
from training_fixtures import CONFIG, texts

from gossamer.errors import UsageError
from gossamer.model import Site
from gossamer.model.fingerprint import weights_sha256
from gossamer.training import train_dictionaries, train_sets
from gossamer.training.config import DictionarySpec, DictionaryTrainerConfig, OptimiserConfig, TrainingConfig
from gossamer.training.controls import CONTROLS, FROZEN, control_of, held_near, with_random_weights
from gossamer.training.dead_latents import Resampling
from gossamer.training.dictionary_trainer import DictionaryTrainer
from gossamer.training.sweep_specs import SweepSpec

SITE = Site("resid_post", 1)


def _trained(control, steps=30):
    trainer = replace(CONFIG.trainer, optimiser=OptimiserConfig(learning_rate=0.1), sensitivity=0.0, control=control)
    plan = DictionarySpec("one", SITE, None, trainer, seed=3)
    draw = torch.Generator().manual_seed(0)
    trainer = DictionaryTrainer.begin(plan, steps, torch.randn(64, 16, generator=draw))
    start = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    for step in range(steps):
        trainer.step(torch.randn(64, 16, generator=draw), None, step)
    return start, trainer


@pytest.mark.parametrize("control", FROZEN)
def test_what_is_frozen_does_not_move_and_all_else_does(control):
    start, trainer = _trained(control)
    for name, value in trainer.parameters.items():
        assert torch.equal(value, start[name]) == (name == FROZEN[control]), name


def test_soft_frozen_rows_stay_within_their_cosine_and_use_it():
    start, trainer = _trained("soft-frozen", 60)
    free = _trained("none", 60)[1].parameters["W_dec"]
    near = torch.cosine_similarity(trainer.parameters["W_dec"], start["W_dec"], dim=1)
    assert near.min() > 0.8 - 1e-5
    assert near.min() < 0.81
    assert torch.cosine_similarity(free, start["W_dec"], dim=1).min() < 0.7


def test_a_checkpoint_of_a_soft_frozen_dictionary_goes_on_as_if_nothing_had_happened():
    _, trainer = _trained("soft-frozen")
    again = DictionaryTrainer.resume(trainer.plan, 30, trainer.state(), "cpu")
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(5)) * 9
    for one in (trainer, again):
        one.step(x, None, 29)
    assert torch.equal(trainer.parameters["W_dec"], again.parameters["W_dec"])


def test_rows_are_turned_in_the_plane_of_their_start_and_no_further():
    draw = torch.Generator().manual_seed(0)
    start, rows = (torch.randn(50, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    rows[:5] = start[:5] * 3 + 0.1
    found = held_near(rows, start)
    torch.testing.assert_close(found.norm(dim=1), rows.norm(dim=1))
    before, after = (torch.cosine_similarity(one, start, dim=1) for one in (rows, found))
    torch.testing.assert_close(after, before.clamp(min=0.8))
    assert torch.equal(found[before >= 0.8], rows[before >= 0.8])
    # In the plane of the two: nothing is left across it.
    for one, row, axis in zip(found, rows, start, strict=True):
        plane = torch.linalg.qr(torch.stack([row, axis], dim=1)).Q
        assert (one - plane @ (plane.T @ one)).norm() < 1e-9


def test_random_weights_are_those_of_the_seed_and_leave_torchs_own_numbers_alone(tiny_gpt2):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, same, other = (with_random_weights(tiny_gpt2, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert weights_sha256(one.hf) == weights_sha256(same.hf)
    assert len({weights_sha256(model.hf) for model in (tiny_gpt2, one, other)}) == 3
    shapes = [{name: value.shape for name, value in model.hf.state_dict().items()} for model in (tiny_gpt2, one)]
    assert shapes[0] == shapes[1]
    assert (one.title, one.dtype, one.hf.training) == (tiny_gpt2.title, tiny_gpt2.dtype, False)


@pytest.mark.parametrize("control", ["frozen-decoder", "random-model"])
def test_a_set_is_trained_as_a_control_through_all_stages_and_says_so(tiny_gpt2, tmp_path, control):
    config = replace(CONFIG, trainer=replace(CONFIG.trainer, control=control))
    found, plain = (
        train_dictionaries(tiny_gpt2, texts(), [SITE], one, tmp_path / name)[SITE]
        for name, one in (("control", config), ("plain", CONFIG))
    )
    assert (control_of(found), control_of(plain)) == (control, "none")
    assert found.config.model_name == plain.config.model_name
    assert "control" not in plain.provenance["training"]["config"]["trainer"]
    assert found.provenance["training"]["corpus_sha256"] == plain.provenance["training"]["corpus_sha256"]
    assert not torch.equal(found.W_enc, plain.W_enc)
    if control == "frozen-decoder":
        # Fitting and fine-tuning both left the directions where they were drawn, up to the units of training.
        fitted = train_dictionaries(
            tiny_gpt2, texts(), [SITE], replace(config, finetune=replace(config.finetune, tokens=0)), tmp_path / "fit"
        )[SITE]
        torch.testing.assert_close(found.W_dec, fitted.W_dec, atol=1e-6, rtol=1e-5)
        assert not torch.allclose(found.W_enc, fitted.W_enc, atol=1e-4)


def test_records_without_a_control_are_as_they_were():
    assert "control" not in TrainingConfig().facts["trainer"]
    assert "control" not in DictionarySpec("one", SITE).facts["trainer"]
    for control in CONTROLS:
        assert DictionaryTrainerConfig(control=control).facts["control"] == control


def test_impossible_controls_are_refused(tiny_gpt2, tmp_path):
    with pytest.raises(UsageError, match="control among"):
        DictionaryTrainerConfig(control="frozen")
    with pytest.raises(UsageError, match="no resampling of dead latents with the control frozen-decoder"):
        DictionaryTrainerConfig(control="frozen-decoder", dead_latents=Resampling())
    plans = [SweepSpec(name, replace(CONFIG.trainer, control=name), 0) for name in ("none", "soft-frozen")]
    with pytest.raises(UsageError, match="one control for all plans, found none, soft-frozen"):
        train_sets(tiny_gpt2, texts(), [SITE], CONFIG, plans, tmp_path / "sets")
