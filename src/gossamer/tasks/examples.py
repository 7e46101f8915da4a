"""Encoded prompts: what a network pass and an ablation need to know about every token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.tasks.metric import LOGIT_DIFFERENCE, Metric
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

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self), 'prompt')} of at most {plural(self.roles.shape[1], 'token')}"

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
        also_right, also_wrong: further right and wrong answers, filled up with -1; None where no prompt has any.
        metric: what is measured of these prompts.
    """

    clean: Encoded
    counterfactual: Encoded
    answer: Int[Tensor, "batch"]
    wrong: Int[Tensor, "batch"]
    prompts: tuple[Prompt, ...]
    aligned: bool
    also_right: Int[Tensor, "batch right"] | None = None
    also_wrong: Int[Tensor, "batch wrong"] | None = None
    metric: Metric = LOGIT_DIFFERENCE

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self), "prompt")
        yield "aligned" if self.aligned else "not aligned"
        yield self.metric.label

    def __len__(self) -> int:
        return len(self.prompts)

    def answers(self, rows: slice | Int[Tensor, "rows"] = slice(None)) -> Int[Tensor, "rows answers"]:
        """All right answers of the chosen prompts, filled up with -1."""
        return _joined(self.answer[rows], None if self.also_right is None else self.also_right[rows])

    def wrong_answers(self, rows: slice | Int[Tensor, "rows"] = slice(None)) -> Int[Tensor, "rows answers"]:
        """All wrong answers of the chosen prompts, filled up with -1."""
        return _joined(self.wrong[rows], None if self.also_wrong is None else self.also_wrong[rows])

    def measure(
        self,
        logits: Float[Tensor, "rows vocab"],
        rows: slice | Int[Tensor, "rows"] = slice(None),
        reference: Float[Tensor, "rows vocab"] | None = None,
    ) -> Float[Tensor, "rows"]:
        """The metric of the chosen prompts' logits at the answer position; differentiable in them, float32.

        `reference` holds the full model's log-probabilities, for a metric that is a distance from it.
        """
        answers, wrong = (ids.to(logits.device) for ids in (self.answers(rows), self.wrong_answers(rows)))
        return self.metric(logits, answers, wrong, reference)

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples with their tensors on `device`."""
        return replace(
            self,
            clean=self.clean.to(device),
            counterfactual=self.counterfactual.to(device),
            answer=self.answer.to(device),
            wrong=self.wrong.to(device),
            also_right=None if self.also_right is None else self.also_right.to(device),
            also_wrong=None if self.also_wrong is None else self.also_wrong.to(device),
        )

    def select(self, rows: Sequence[int] | Int[Tensor, "rows"]) -> "Examples":
        """The chosen rows, in the order given, at the same width."""
        chosen = torch.as_tensor(rows, dtype=torch.long, device=self.answer.device)
        clean, counterfactual = self.clean[chosen], self.counterfactual[chosen]
        return replace(
            self,
            clean=clean,
            counterfactual=counterfactual,
            answer=self.answer[chosen],
            wrong=self.wrong[chosen],
            prompts=tuple(self.prompts[row] for row in chosen.tolist()),
            aligned=is_aligned(clean, counterfactual),
            also_right=None if self.also_right is None else self.also_right[chosen],
            also_wrong=None if self.also_wrong is None else self.also_wrong[chosen],
        )


def _joined(first: Int[Tensor, "rows"], more: Int[Tensor, "rows more"] | None) -> Int[Tensor, "rows answers"]:
    return first[:, None] if more is None else torch.cat([first[:, None], more], dim=1)


def is_aligned(clean: Encoded, counterfactual: Encoded) -> bool:
    """Whether the roles of all tokens are the same, position by position."""
    return clean.roles.shape == counterfactual.roles.shape and torch.equal(clean.roles, counterfactual.roles)
