"""A task whose prompts begin with an attention sink: the first token passes through every dictionary, as a BOS does."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from gossamer.activations.attention_sink import first_token_is_sink
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tasks.task import Task


def with_sinks_passed_through(model: LanguageModel, task: Task) -> Task:
    """The task without a role or ablation group at first tokens, if the model uses them as sinks; else the task as it
    is.

    Raises:
        UsageError: a prompt and its counterfactual begin with different tokens, which would then reach the model's
            output past every dictionary.
    """
    if not first_token_is_sink(model):
        return task
    for examples in (task.train, task.test):
        _require_same_first_token(model, task.name, examples)
    return replace(task, train=_without_first_roles(task.train), test=_without_first_roles(task.test))


def _require_same_first_token(model: LanguageModel, name: str, examples: PromptPairs) -> None:
    first, other = (side.tokens.ids[side.tokens.first] for side in (examples.clean, examples.counterfactual))
    differing = torch.nonzero(first != other).flatten().tolist()
    if differing:
        words = " and ".join(repr(model.word(int(ids[differing[0]]))) for ids in (first, other))
        raise UsageError(
            f"{model.title} uses the first token of a prompt as an attention sink, so that it passes through every "
            f"dictionary; in {len(differing)} of {len(examples)} prompts of {name} it differs from the "
            f"counterfactual's ({words}), and would carry the task past the circuit; begin all prompts with the same "
            "word, or with BOS (bos=True, --bos) if the tokenizer has one"
        )


def _without_first_roles(examples: PromptPairs) -> PromptPairs:
    return replace(examples, clean=_passing(examples.clean), counterfactual=_passing(examples.counterfactual))


def _passing(side: TokenizedPrompts) -> TokenizedPrompts:
    first: Bool[Tensor, "batch pos"] = side.tokens.first
    return replace(
        side, roles=side.roles.masked_fill(first, -1), ablation_groups=side.ablation_groups.masked_fill(first, -1)
    )
