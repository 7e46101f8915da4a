"""Prompts of tasks that dictionaries are fine-tuned on beside text, and how it is known later which those were."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.dictionary.training_prompts import text_digest
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.seeding import generator
from gossamer.tasks import Task
from gossamer.tokens import Tokens


@dataclass(frozen=True)
class TaskPrompts:
    """The training prompts of tasks, clean and counterfactual, as rows padded on the right. Never a held-out one.

    Memory: 9 bytes a token of the longest prompt, for each.

    Attributes:
        tokens: the rows.
        tasks: names of the tasks.
        texts: digests of the texts, by which held-out prompts are told from them; see
            :func:`gossamer.dictionary.training_prompts.seen_in_training`.
    """

    tokens: Tokens
    tasks: tuple[str, ...]
    texts: tuple[str, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{plural(len(self.tokens), 'prompt')} of {listed(self.tasks)}"

    @classmethod
    def of(cls, tasks: Sequence[Task]) -> "TaskPrompts":
        """Those of several tasks; a text that two of them share, or that is in there twice, once.

        Raises:
            UsageError: no tasks, or a training prompt of one is held out of another.
        """
        if not tasks:
            raise UsageError("prompts of tasks: expected at least one task, found none")
        rows: dict[str, list[int]] = {}
        for task in tasks:
            for place, side in enumerate((task.train.clean, task.train.counterfactual)):
                for prompt, ids, mask in zip(task.train.prompts, side.tokens.ids, side.tokens.mask, strict=True):
                    rows.setdefault(prompt.texts[place], ids[mask].tolist())
        for task in tasks:
            if held := next((text for one in task.test.prompts for text in one.texts if text in rows), None):
                raise UsageError(
                    f"task {task.name}: {held!r} is held out there and a training prompt of another task; give tasks "
                    "that share no texts"
                )
        names = tuple(dict.fromkeys(task.name for task in tasks))
        return cls(padded_right(list(rows.values())), names, tuple(sorted(map(text_digest, rows))))

    def rows(self, start: int, count: int, seed: int) -> Tokens:
        """Rows `start` to `start + count` of an endless sequence, each epoch a permutation of all prompts."""
        chosen = []
        for index in range(start, start + count):
            epoch, place = divmod(index, len(self.tokens))
            order = torch.randperm(len(self.tokens), generator=generator(seed, "prompts", epoch))
            chosen.append(int(order[place]))
        return self.tokens[torch.tensor(chosen)]

    @property
    def facts(self) -> dict[str, Any]:
        """What dictionaries keep of it, for JSON."""
        return {"tasks": list(self.tasks), "prompts": len(self.tokens), "texts_sha256": list(self.texts)}


def padded_right(rows: Sequence[Sequence[int]]) -> Tokens:
    """Rows of token ids, with zeros after the shorter ones."""
    lengths = torch.tensor(list(map(len, rows)))
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.long)
    ids[mask] = torch.tensor([token for row in rows for token in row])
    return Tokens(ids, mask)


def together(first: Tokens, second: Tokens) -> tuple[Tokens, Int[Tensor, "second"]]:
    """Rows of both below each other, padded on the right, and the numbers of the second ones."""
    rows = [ids[mask].tolist() for part in (first, second) for ids, mask in zip(part.ids, part.mask, strict=True)]
    return padded_right(rows), torch.arange(len(first), len(rows))
