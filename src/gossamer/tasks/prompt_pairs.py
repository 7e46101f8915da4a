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
class TokenizedPrompts:
    """Token ids of prompts with the role and the ablation group of each token; rows are padded on the right.

    Attributes:
        tokens: ids and mask.
        roles: index into the task's `role_names`; -1 for BOS and padding, which pass through untouched.
        ablation_groups: index into the task's `ablation_group_names`: tokens of one (template, role, offset in the
            role's run), over which means are taken; -1 where the role is -1.
        answer_position: position of the last token, where the answer is predicted.
    """

    tokens: Tokens
    roles: Int[Tensor, "batch pos"]
    ablation_groups: Int[Tensor, "batch pos"]
    answer_position: Int[Tensor, "batch"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self), 'prompt')} of at most {plural(self.roles.shape[1], 'token')}"

    def __len__(self) -> int:
        return len(self.answer_position)

    def __getitem__(self, rows: slice | Int[Tensor, "rows"]) -> "TokenizedPrompts":
        return TokenizedPrompts(
            self.tokens[rows], self.roles[rows], self.ablation_groups[rows], self.answer_position[rows]
        )

    def to(self, device: torch.device | str) -> "TokenizedPrompts":
        """The same prompts on `device`."""
        return TokenizedPrompts(
            self.tokens.to(device),
            self.roles.to(device),
            self.ablation_groups.to(device),
            self.answer_position.to(device),
        )


@dataclass(frozen=True)
class PromptPairs:
    """Prompts with their counterfactuals and answers, row by row.

    Attributes:
        clean, counterfactual: the encoded texts; their widths differ unless `aligned`.
        answer, incorrect: token ids of the right answer and of the counterfactual's answer.
        prompts: what was encoded.
        aligned: every prompt has the length and the roles of its counterfactual, token by token.
        also_correct, also_incorrect: further right and wrong answers, filled up with -1; None where no prompt has any.
        metric: what is measured of these prompts.
    """

    clean: TokenizedPrompts
    counterfactual: TokenizedPrompts
    answer: Int[Tensor, "batch"]
    incorrect: Int[Tensor, "batch"]
    prompts: tuple[Prompt, ...]
    aligned: bool
    also_correct: Int[Tensor, "batch right"] | None = None
    also_incorrect: Int[Tensor, "batch wrong"] | None = None
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
        return _joined(self.answer[rows], None if self.also_correct is None else self.also_correct[rows])

    def incorrect_answers(self, rows: slice | Int[Tensor, "rows"] = slice(None)) -> Int[Tensor, "rows answers"]:
        """All wrong answers of the chosen prompts, filled up with -1."""
        return _joined(self.incorrect[rows], None if self.also_incorrect is None else self.also_incorrect[rows])

    def measure(
        self,
        logits: Float[Tensor, "rows vocab"],
        rows: slice | Int[Tensor, "rows"] = slice(None),
        reference: Float[Tensor, "rows vocab"] | None = None,
    ) -> Float[Tensor, "rows"]:
        """The metric of the chosen prompts' logits at the answer position; differentiable in them, float32.

        `reference` holds the full model's log-probabilities, for a metric that is a distance from it.
        """
        answers, incorrect = (ids.to(logits.device) for ids in (self.answers(rows), self.incorrect_answers(rows)))
        return self.metric(logits, answers, incorrect, reference)

    def answer_ids(self, rows: slice | Int[Tensor, "rows"] = slice(None)) -> Int[Tensor, "rows answers"]:
        """All answers of the chosen prompts, the right ones first, filled up with -1."""
        return torch.cat([self.answers(rows), self.incorrect_answers(rows)], dim=1)

    def answer_places(self, rows: slice | Int[Tensor, "rows"] = slice(None)) -> tuple[Tensor, Tensor]:
        """Where in :meth:`answer_ids` the right and the wrong answers stand; -1 where there is none."""
        ids = self.answer_ids(rows)
        places = torch.where(ids >= 0, torch.arange(ids.shape[1], device=ids.device), -1)
        right = 1 if self.also_correct is None else 1 + self.also_correct.shape[1]
        return places[:, :right], places[:, right:]

    def to(self, device: torch.device | str) -> "PromptPairs":
        """The same examples with their tensors on `device`."""
        return replace(
            self,
            clean=self.clean.to(device),
            counterfactual=self.counterfactual.to(device),
            answer=self.answer.to(device),
            incorrect=self.incorrect.to(device),
            also_correct=None if self.also_correct is None else self.also_correct.to(device),
            also_incorrect=None if self.also_incorrect is None else self.also_incorrect.to(device),
        )

    def select(self, rows: Sequence[int] | Int[Tensor, "rows"]) -> "PromptPairs":
        """The chosen rows, in the order given, at the same width."""
        chosen = torch.as_tensor(rows, dtype=torch.long, device=self.answer.device)
        clean, counterfactual = self.clean[chosen], self.counterfactual[chosen]
        return replace(
            self,
            clean=clean,
            counterfactual=counterfactual,
            answer=self.answer[chosen],
            incorrect=self.incorrect[chosen],
            prompts=tuple(self.prompts[row] for row in chosen.tolist()),
            aligned=is_aligned(clean, counterfactual),
            also_correct=None if self.also_correct is None else self.also_correct[chosen],
            also_incorrect=None if self.also_incorrect is None else self.also_incorrect[chosen],
        )


def _joined(first: Int[Tensor, "rows"], more: Int[Tensor, "rows more"] | None) -> Int[Tensor, "rows answers"]:
    return first[:, None] if more is None else torch.cat([first[:, None], more], dim=1)


def is_aligned(clean: TokenizedPrompts, counterfactual: TokenizedPrompts) -> bool:
    """Whether the roles of all tokens are the same, position by position."""
    return clean.roles.shape == counterfactual.roles.shape and torch.equal(clean.roles, counterfactual.roles)
