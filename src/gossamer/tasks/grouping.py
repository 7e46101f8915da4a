"""One task with other mask groups: by role, by position, or one for all tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import torch

from gossamer.errors import UsageError
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts
from gossamer.tasks.task import Task

Grouping = Literal["role", "position", "shared"]
ANY = "any"


def grouped(task: Task, by: str) -> Task:
    """`task` with masks by its own roles ("role"), by position in the prompt ("position"), or one for all ("shared").

    Only the roles change: ablation groups, the groups of the ablation means, stay as they are. Shared masks are poor
    where a latent matters at one token only, but they say which latents matter anywhere.

    Raises:
        UsageError: an unknown grouping, or positions of prompts of different lengths.
    """
    if by not in get_args(Grouping):
        raise UsageError(f"masks are by {', '.join(get_args(Grouping))}; found {by!r}")
    if by == "role":
        return task
    sides = (task.train.clean, task.train.counterfactual, task.test.clean, task.test.counterfactual)
    if by == "shared":
        return replace(task, role_names=(ANY,), train=_shared(task.train), test=_shared(task.test))
    ends = {int(end) for side in sides for end in side.answer_position}
    if len(ends) > 1:
        raise UsageError(
            f"masks by position need prompts of one length, found lengths {min(ends) + 1} to {max(ends) + 1}; "
            "use masks by role, or shared"
        )
    names = tuple(f"p{position}" for position in range(ends.pop() + 1))
    return replace(task, role_names=names, train=_positions(task.train), test=_positions(task.test))


def _shared(examples: PromptPairs) -> PromptPairs:
    return _with_roles(examples, lambda side: side.roles.clamp(max=0))


def _positions(examples: PromptPairs) -> PromptPairs:
    def own(side: TokenizedPrompts) -> torch.Tensor:
        places = torch.arange(side.roles.shape[1], device=side.roles.device).expand_as(side.roles)
        return torch.where(side.roles >= 0, places, -1)

    return _with_roles(examples, own)


def _with_roles(examples: PromptPairs, roles: Callable[[TokenizedPrompts], torch.Tensor]) -> PromptPairs:
    clean, other = examples.clean, examples.counterfactual
    return replace(
        examples, clean=replace(clean, roles=roles(clean)), counterfactual=replace(other, roles=roles(other))
    )
