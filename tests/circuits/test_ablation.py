"""Ablation values against a loop in numpy over single prompts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from circuit_lab import N_SLOTS, able_examples, random_dictionary, sites_of, unaligned
from tiny_splice import tiny_model

from gossamer.batching import MemoryWarning
from gossamer.circuits.ablation import Ablation
from gossamer.dictionary import Dictionary
from gossamer.errors import NotFiniteError, UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.tasks.prompt_pairs import TokenizedPrompts
from gossamer.tasks.task import Task
from gossamer.tokens import Tokens

SITES = sites_of("resid_post.0", "z.1", "resid_post.2")
FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def dictionaries() -> dict[Site, Dictionary]:
    conventions = ({}, {"subtract_b_dec": True}, {"normalisation": "layer_norm"})
    return {site: random_dictionary(site, seed=seed, **conventions[seed]) for seed, site in enumerate(SITES)}


def by_loop(
    model: LanguageModel, dictionary: Dictionary, site: Site, prompts: TokenizedPrompts
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Mean latents and mean error of every ablation group, prompt after prompt without padding, token after token."""
    latents: dict[int, list[np.ndarray]] = {}
    errors: dict[int, list[np.ndarray]] = {}
    for row in range(len(prompts)):
        length = int(prompts.tokens.mask[row].sum())
        with torch.no_grad():
            x = model.capture(Tokens.full(prompts.tokens.ids[row : row + 1, :length]), [site])[site][0]
            found = dictionary.encode_dense(x)
            error = x - dictionary(x)
        for token in range(length):
            group = int(prompts.ablation_groups[row, token])
            if group >= 0:
                latents.setdefault(group, []).append(found[token].numpy())
                errors.setdefault(group, []).append(error[token].numpy())
    return tuple({group: np.mean(rows, axis=0) for group, rows in all_rows.items()} for all_rows in (latents, errors))


def check(
    ablation: Ablation, model: LanguageModel, dictionaries: dict[Site, Dictionary], prompts: TokenizedPrompts
) -> None:
    for site, dictionary in dictionaries.items():
        values = ablation.sites[site]
        latents, errors = by_loop(model, dictionary, site, prompts)
        for group in range(N_SLOTS):
            np.testing.assert_allclose(values.latents[group].numpy(), latents[group], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(values.error[group].numpy(), errors[group], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [5, 64])
def test_means_over_the_training_counterfactuals_by_a_loop(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary], batch_size: int
) -> None:
    check(
        Ablation.measure(model, dictionaries, task, batch_size=batch_size),
        model,
        dictionaries,
        task.train.counterfactual,
    )


def test_each_token_counts_once_in_its_slot(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary]
) -> None:
    # Both words of A in one ablation group: twice as many tokens as prompts.
    other = task.train.counterfactual
    joined = replace(other, ablation_groups=torch.where(other.ablation_groups == 2, 1, other.ablation_groups))
    joined_task = replace(task, train=replace(task.train, counterfactual=joined))
    found = Ablation.measure(model, dictionaries, joined_task)
    separate = Ablation.measure(model, dictionaries, task)
    for site, dictionary in dictionaries.items():
        latents, _ = by_loop(model, dictionary, site, joined)
        np.testing.assert_allclose(found.sites[site].latents[1].numpy(), latents[1], rtol=1e-5, atol=1e-6)
        halves = separate.sites[site].latents
        torch.testing.assert_close(found.sites[site].latents[1], (halves[1] + halves[2]) / 2, **FLOAT32)
        assert (found.sites[site].latents[2] == 0).all(), "an ablation group without tokens stays at zero"


def test_the_order_of_the_prompts_does_not_matter(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary]
) -> None:
    found = Ablation.measure(model, dictionaries, task)
    backwards = torch.arange(len(task.train) - 1, -1, -1)
    again = Ablation.measure(model, dictionaries, replace(task, train=task.train.select(backwards)), batch_size=3)
    site = SITES[0]
    for one in SITES:
        torch.testing.assert_close(again.sites[one].latents, found.sites[one].latents, **FLOAT32)
        torch.testing.assert_close(again.sites[one].error, found.sites[one].error, **FLOAT32)
    # The published running mean, which weights the last prompts most, is another number.
    other = task.train.counterfactual
    with torch.no_grad():
        latents = dictionaries[site].encode_dense(model.capture(other.tokens, [site])[site])
    recent = torch.zeros_like(latents[0, 1])
    for batch in range(0, len(other), 4):
        for row in range(batch, batch + 4):
            if other.ablation_groups[row, 2] == 1:
                recent = recent + (latents[row, 2] - recent) / (batch // 4 + 1)
    assert (recent - found.sites[site].latents[1]).abs().max() > 1e-3


def test_only_the_training_counterfactuals_are_looked_at(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary]
) -> None:
    found = Ablation.measure(model, dictionaries, task)
    elsewhere = replace(
        task, train=replace(task.train, clean=task.test.clean[torch.arange(12) % 8]), test=able_examples(model, 4, 9)
    )
    moved = replace(task, train=replace(task.train, counterfactual=task.train.clean))
    for site in SITES:
        assert torch.equal(
            Ablation.measure(model, dictionaries, elsewhere).sites[site].latents, found.sites[site].latents
        )
        change = Ablation.measure(model, dictionaries, moved).sites[site].latents - found.sites[site].latents
        assert change.abs().max() > 1e-2


def test_only_what_is_needed_is_measured(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Ablation.measure(model, dictionaries, task)
    zero = Ablation.measure(model, dictionaries, task, kind="zero", errors="mean")
    keep = Ablation.measure(model, dictionaries, task, kind="mean", errors="keep")
    for site in SITES:
        assert zero.sites[site].latents is None
        assert keep.sites[site].error is None
        assert torch.equal(zero.sites[site].error, both.sites[site].error)
        assert torch.equal(keep.sites[site].latents, both.sites[site].latents)
    monkeypatch.setattr(model, "capture", lambda *_: pytest.fail("nothing has to be measured"))
    for kind, errors in (("zero", "drop"), ("resample", "keep")):
        found = Ablation.measure(model, dictionaries, task, kind=kind, errors=errors)
        assert (found.kind, found.errors) == (kind, errors)
        assert all(values.latents is None and values.error is None for values in found.sites.values())


def test_a_batch_that_runs_out_of_memory_is_not_counted_twice(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Ablation.measure(model, dictionaries, task)
    last, real = dictionaries[SITES[-1]], Dictionary.encode_dense

    def limited(self: Dictionary, x: torch.Tensor, columns: torch.Tensor | None = None) -> torch.Tensor:
        if self is last and len(x) > 24:
            raise torch.OutOfMemoryError("for the test")
        return real(self, x, columns)

    monkeypatch.setattr(Dictionary, "encode_dense", limited)
    with pytest.warns(MemoryWarning, match="halved from 12 to 6"):
        again = Ablation.measure(model, dictionaries, task)
    for site in SITES:
        torch.testing.assert_close(again.sites[site].latents, found.sites[site].latents, **FLOAT32)


def test_resampling_needs_alignment(model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary]) -> None:
    for side in ("train", "test"):
        crooked = replace(task, **{side: unaligned(getattr(task, side))})
        with pytest.raises(UsageError, match=r"ablation resample needs every prompt aligned.*use ablation mean"):
            Ablation.measure(model, dictionaries, crooked, kind="resample")
        Ablation.measure(model, dictionaries, crooked, kind="mean")


@pytest.mark.parametrize("errors", ["mean", "keep"])
def test_a_transcoder_is_refused(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary], errors: str
) -> None:
    transcoder = random_dictionary(SITES[0], site_out=Site("mlp_out", 2), skip=True)
    with pytest.raises(UsageError, match=r"ablation needs .* found a transcoder from resid_post\.0 to mlp_out\.2"):
        Ablation.measure(model, {**dictionaries, SITES[0]: transcoder}, task, kind="zero", errors=errors)


def test_unaligned_counterfactuals_have_means_by_slot(
    model: LanguageModel, task: Task, dictionaries: dict[Site, Dictionary]
) -> None:
    crooked = replace(task, train=unaligned(task.train))
    check(Ablation.measure(model, dictionaries, crooked), model, dictionaries, task.train.counterfactual)


def test_a_nan_in_a_weight_names_the_first_site_that_sees_it(task: Task, dictionaries: dict[Site, Dictionary]) -> None:
    model = tiny_model()
    model.hf.transformer.h[1].attn.c_attn.bias.data[-1] = torch.nan
    with pytest.raises(NotFiniteError, match=r"^z\.1: expected finite values, found nan"):
        Ablation.measure(model, dictionaries, task)
