"""Encoded prompts: what a network pass and an ablation need to know about every token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.tasks.prompt import Prompt
from gossamer.tokens import Tokens


@dataclass(frozen=True)
class Encoded:
    """Token ids of prompts with the role and the slot of each token; rows are padded on the right.

    Attributes:
        tokens: ids and mask.
        roles: index into the task's `role_names`; -1 for BOS and padding, which pass through untouched.
        slots: index into the task's `slot_names`: tokens of one (template, role, offset in the role's run), over which
            means are taken; -1 where the role is -1.
        end: position of the last token, where the answer is predicted.
    """

    tokens: Tokens
    roles: Int[Tensor, "batch pos"]
    slots: Int[Tensor, "batch pos"]
    end: Int[Tensor, "batch"]

    def __len__(self) -> int:
        return len(self.end)

    def __getitem__(self, rows: slice | Int[Tensor, "rows"]) -> "Encoded":
        return Encoded(self.tokens[rows], self.roles[rows], self.slots[rows], self.end[rows])

    def to(self, device: torch.device | str) -> "Encoded":
        """The same prompts on `device`."""
        return Encoded(self.tokens.to(device), self.roles.to(device), self.slots.to(device), self.end.to(device))


@dataclass(frozen=True)
class Examples:
    """Prompts with their counterfactuals and answers, row by row.

    Attributes:
        clean, counterfactual: the encoded texts; their widths differ unless `aligned`.
        answer, wrong: token ids of the right answer and of the counterfactual's answer.
        prompts: what was encoded.
        aligned: every prompt has the length and the roles of its counterfactual, token by token.
    """

    clean: Encoded
    counterfactual: Encoded
    answer: Int[Tensor, "batch"]
    wrong: Int[Tensor, "batch"]
    prompts: tuple[Prompt, ...]
    aligned: bool

    def __len__(self) -> int:
        return len(self.prompts)

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples with their tensors on `device`."""
        return Examples(
            self.clean.to(device),
            self.counterfactual.to(device),
            self.answer.to(device),
            self.wrong.to(device),
            self.prompts,
            self.aligned,
        )

    def select(self, rows: Sequence[int] | Int[Tensor, "rows"]) -> "Examples":
        """The chosen rows, in the order given, at the same width."""
        chosen = torch.as_tensor(rows, dtype=torch.long, device=self.answer.device)
        clean, counterfactual = self.clean[chosen], self.counterfactual[chosen]
        return Examples(
            clean,
            counterfactual,
            self.answer[chosen],
            self.wrong[chosen],
            tuple(self.prompts[row] for row in chosen.tolist()),
            is_aligned(clean, counterfactual),
        )


def is_aligned(clean: Encoded, counterfactual: Encoded) -> bool:
    """Whether the roles of all tokens are the same, position by position."""
    return clean.roles.shape == counterfactual.roles.shape and torch.equal(clean.roles, counterfactual.roles)
