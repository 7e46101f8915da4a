"""A task whose prompts hold tokens that pass through every dictionary, as a BOS does."""

from collections.abc import Collection
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_tokens import counted_for
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tasks.task import Task


def with_tokens_passed_through(model: LanguageModel, dictionaries: Collection[Dictionary], task: Task) -> Task:
    """The task without a role or ablation group at tokens on which not all dictionaries learned; or as it is.

    These are first tokens that the model uses as attention sinks, and what a dictionary's own mask leaves out.

    Raises:
        UsageError: such tokens of a prompt and of its counterfactual differ, and would reach the model's output past
            every dictionary.
    """
    train, test = (_passing(model, dictionaries, task.name, examples) for examples in (task.train, task.test))
    return task if train is None and test is None else replace(task, train=train or task.train, test=test or task.test)


def _passing(
    model: LanguageModel, dictionaries: Collection[Dictionary], name: str, examples: PromptPairs
) -> PromptPairs | None:
    """The prompts with what passes through marked; None where nothing does."""
    sides = (examples.clean, examples.counterfactual)
    passed = [
        (side.roles >= 0) & ~counted_for(model, dictionaries, side.tokens).to(side.roles.device) for side in sides
    ]
    if not any(bool(one.any()) for one in passed):
        return None
    words = [_ids(side, one) for side, one in zip(sides, passed, strict=True)]
    differing = [row for row, (ids, others) in enumerate(zip(*words, strict=True)) if ids != others]
    if differing:
        found = " and ".join(_spelled(model, ids[differing[0]]) for ids in words)
        raise UsageError(
            f"{model.title}: tokens that it uses as an attention sink, or on which the dictionaries did not learn, "
            f"pass through every dictionary; in {len(differing)} of {len(examples)} prompts of {name} they differ from "
            f"the counterfactual's ({found}), and would carry the task past the circuit; begin all prompts with the "
            "same word, or with BOS (bos=True, --bos) if the tokenizer has one, or use dictionaries of all tokens"
        )
    clean, counterfactual = (
        replace(side, roles=side.roles.masked_fill(one, -1), ablation_groups=side.ablation_groups.masked_fill(one, -1))
        for side, one in zip(sides, passed, strict=True)
    )
    return replace(examples, clean=clean, counterfactual=counterfactual)


def _ids(side: TokenizedPrompts, passed: Bool[Tensor, "batch pos"]) -> list[list[int]]:
    return [
        ids[chosen].tolist() for ids, chosen in zip(side.tokens.ids, passed.to(side.tokens.ids.device), strict=True)
    ]


def _spelled(model: LanguageModel, ids: list[int]) -> str:
    return " ".join(repr(model.word(one)) for one in ids) or "none"
