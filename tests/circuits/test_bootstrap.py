"""Samples of prompts that share texts and templates, against variances that are known in closed form."""

from dataclasses import replace

import pytest
import torch
from circuit_lab import able_examples

from gossamer.circuits.bootstrap import bootstrap_weights, count_texts, few_texts, require_texts
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.bootstrap import RESAMPLES
from gossamer.tasks.prompt_pairs import PromptPairs


@pytest.fixture(scope="module")
def examples(model: LanguageModel) -> PromptPairs:
    """Twelve prompts of twelve texts and one template."""
    return able_examples(model, 12, seed=1)


def with_templates(examples: PromptPairs, templates: list[str]) -> PromptPairs:
    prompts = zip(examples.prompts, templates, strict=True)
    return replace(examples, prompts=tuple(replace(prompt, template=name) for prompt, name in prompts))


def test_prompts_with_nothing_in_common_are_drawn_one_by_one(examples: PromptPairs) -> None:
    drawn = torch.randint(12, (RESAMPLES, 12), generator=torch.Generator().manual_seed(3))
    expected = torch.stack([torch.bincount(row, minlength=12) for row in drawn]).double()
    assert bootstrap_weights(examples, 3).equal(expected)
    assert not bootstrap_weights(examples, 4).equal(expected)
    assert count_texts(examples) == 12


def test_rows_of_one_text_go_together(examples: PromptPairs) -> None:
    twice = examples.select([row for row in range(12) for _ in range(2)])
    found = bootstrap_weights(twice, 0)
    assert found[:, 0::2].equal(found[:, 1::2])
    assert found[:, 0::2].equal(bootstrap_weights(examples, 0))
    assert count_texts(twice) == 12
    values = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def spread(weights: torch.Tensor, of: torch.Tensor) -> float:
        return ((weights @ of) / weights.sum(dim=1)).std().item()

    as_rows = torch.randint(24, (RESAMPLES, 24), generator=torch.Generator().manual_seed(0))
    alone = torch.stack([torch.bincount(row, minlength=24) for row in as_rows]).double()
    doubled = values.repeat_interleave(2)
    # Twenty-four rows taken as independent look 1.41 times as sure as twelve texts are.
    assert spread(found, doubled) == pytest.approx(2**0.5 * spread(alone, doubled), rel=0.1)


def test_padding_does_not_make_another_text(examples: PromptPairs) -> None:
    clean = examples.clean
    ids = clean.tokens.ids.masked_fill(~clean.tokens.mask, 17)
    padded = replace(examples, clean=replace(clean, tokens=replace(clean.tokens, ids=ids)))
    assert bootstrap_weights(padded, 0).equal(bootstrap_weights(examples, 0))


def test_templates_are_drawn_and_then_their_texts(examples: PromptPairs) -> None:
    names = [*["a"] * 6, *["b"] * 4, *["c"] * 2]
    found = bootstrap_weights(with_templates(examples, names), 0)
    sizes = {"a": 6, "b": 4, "c": 2}
    columns = {name: torch.tensor([index for index, one in enumerate(names) if one == name]) for name in sizes}
    times = torch.stack([found[:, columns[name]].sum(dim=1) / size for name, size in sizes.items()], dim=1)
    assert times.equal(times.round()), "a template comes with as many texts as it has, each time it is drawn"
    assert (times.sum(dim=1) == 3).all()
    assert times.mean(dim=0).tolist() == pytest.approx([1, 1, 1], abs=0.1)
    assert found.mean(dim=0).tolist() == pytest.approx([1] * 12, abs=0.15)
    assert found[:, columns["a"]].std(dim=1).max() > 0
    # Values that differ between templates only: drawing texts alone would leave their mean far too sure.
    values = torch.tensor([{"a": 1.0, "b": 2.0, "c": 4.0}[name] for name in names], dtype=torch.float64)
    by_text = bootstrap_weights(examples, 0)
    spread = [((w @ values) / w.sum(dim=1)).std().item() for w in (found, by_text)]
    assert spread[0] > 1.5 * spread[1]


def test_one_text_alone_has_no_spread_and_few_texts_are_said(examples: PromptPairs) -> None:
    alone = examples.select([0, 0, 0])
    assert count_texts(alone) == 1
    assert (bootstrap_weights(alone, 0) == 1).all()
    assert few_texts(alone) == (
        "The held-out prompts are 1 different text: intervals over fewer than 10 say little; give more prompts.",
    )
    require_texts(examples.select([0, 1]), "t")
    with pytest.raises(UsageError, match="task t: at least 2 different held-out texts expected, found 1"):
        require_texts(alone, "t")
    assert "9 different texts" in few_texts(examples.select(range(9)))[0]
    assert few_texts(examples.select(range(10))) == ()
