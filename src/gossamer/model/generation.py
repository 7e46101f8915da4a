"""Generating text token by token, with a key-value cache and under edits."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.tokens import Tokens


class Step(NamedTuple):
    """One token of every row.

    Attributes:
        ids: the new token of each row; at rows that had ended before, padding.
        active: whether the row had not ended before this token.
        logits: from which the tokens were chosen, as the model gave them.
    """

    ids: Int[Tensor, "batch"]
    active: Bool[Tensor, "batch"]
    logits: Float[Tensor, "batch vocab"]

    def __repr__(self) -> str:
        return short_repr(self)


@dataclass(frozen=True)
class Generation:
    """Prompts and what the model made of them.

    Attributes:
        prompts: padded on the left.
        new: the tokens that were generated, with the one that ended a row; padded on the right.
    """

    prompts: Tokens
    new: Tokens

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.prompts), "prompt")
        yield f"at most {plural(self.new.ids.shape[1], 'new token')}"

    @property
    def whole(self) -> Tokens:
        """Prompts and new tokens in one batch."""
        return Tokens(
            torch.cat([self.prompts.ids, self.new.ids], dim=1), torch.cat([self.prompts.mask, self.new.mask], dim=1)
        )


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: by which logits are divided; 0 takes the most likely token.
        top_k: only the k most likely tokens; None for all.
        top_p: only the most likely tokens that together reach this probability; None for all.
        seed: of the draws, or a generator on the CPU, which goes on from where it stands.
        repeat_every: rows that draw for themselves; the next so many repeat their draws, and so on, so that what is
            drawn for a row does not depend on how many sets of rows are in the batch. None: each row for itself.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | torch.Generator = 0
    repeat_every: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature: expected a number from 0, found {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UsageError(f"top_k: expected at least 1, found {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"top_p: expected a probability above 0, found {self.top_p}")
        if self.repeat_every is not None and self.repeat_every < 1:
            raise UsageError(f"repeat_every: expected at least 1 row, found {self.repeat_every}")

    def choose(self, logits: Float[Tensor, "batch vocab"], draw: torch.Generator) -> Int[Tensor, "batch"]:
        """One token a row; `draw` is a generator on the CPU, so that a choice depends on nothing else."""
        if self.temperature == 0:
            return logits.argmax(dim=-1)
        logits = logits.float() / self.temperature
        if self.top_k is not None:
            least = logits.topk(min(self.top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if self.top_p is not None:
            odds, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
            beyond = odds.cumsum(dim=-1) - odds >= self.top_p
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(-1, order, beyond), -torch.inf)
        uniform = torch.rand(self.repeat_every or len(logits), 1, generator=draw)
        return drawn(logits, uniform.repeat(-(-len(logits) // len(uniform)), 1)[: len(logits)])


GREEDY = Sampling()


def drawn(logits: Float[Tensor, "batch vocab"], uniform: Float[Tensor, "batch one"]) -> Int[Tensor, "batch"]:
    """One token a row from softmax(logits): where its uniform number falls among the cumulated odds.

    This is twice as fast as torch.multinomial on the CPU.
    """
    logits = logits.float()
    cumulated = (logits - logits.amax(dim=-1, keepdim=True)).exp().cumsum(dim=-1)
    found = torch.searchsorted(cumulated, uniform.to(logits.device) * cumulated[:, -1:], right=True)
    return found.clamp(max=logits.shape[-1] - 1)[:, 0]


def steps(
    next_logits: Callable[[Tokens], Float[Tensor, "batch vocab"]],
    prompts: Tokens,
    count: int,
    sampling: Sampling,
    stop: Sequence[int],
    padding: int,
) -> Iterator[Step]:
    """`count` tokens for every row, fewer when all rows have ended. `next_logits` is given the whole text so far."""
    draw = sampling.seed if isinstance(sampling.seed, torch.Generator) else torch.Generator().manual_seed(sampling.seed)
    so_far, active = prompts, torch.ones(len(prompts), dtype=torch.bool)
    for _ in range(count):
        logits = next_logits(so_far)
        ids = torch.where(active, sampling.choose(logits, draw).cpu(), padding)
        yield Step(ids, active, logits)
        so_far = Tokens(torch.cat([so_far.ids, ids[:, None]], dim=1), torch.cat([so_far.mask, active[:, None]], dim=1))
        active = active & ~torch.isin(ids, torch.tensor(list(stop), dtype=ids.dtype))
        if not active.any():
            return


def left_padded(tokens: Tokens) -> Tokens:
    """The same rows with all padding on the left, on the CPU."""
    tokens = tokens.to("cpu")
    order = tokens.mask.int().argsort(dim=1, stable=True)
    return Tokens(tokens.ids.gather(1, order), tokens.mask.gather(1, order))


def ends(hf: nn.Module, tokenizer: Any) -> list[int]:
    """Tokens that end a text: those of the model's configuration and the tokenizer's."""
    configured = getattr(getattr(hf, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return sorted(end for end in {*listed, getattr(tokenizer, "eos_token_id", None)} if end is not None)
