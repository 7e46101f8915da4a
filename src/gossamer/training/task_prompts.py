"""Prompts of tasks that dictionaries are fine-tuned on beside text, and how it is known later which those were."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.dictionary.training_prompts import text_digest
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.seeding import generator
from gossamer.tasks import Task
from gossamer.tasks.prompt_pairs import PromptPairs
from gossamer.tokens import Tokens


@dataclass(frozen=True)
class TaskPrompts:
    """The training prompts of tasks, clean and counterfactual, as rows padded on the right. Never a held-out one.

    What a model does with words that no training prompt has is not learned from those that some have: with `others`,
    half of the rows say other words in place of their two answers, wherever these stand, drawn anew each time. What the
    model says of them is what is learned, so that no answer need be known.

    Memory: 9 bytes a token of the longest prompt, for each.

    Attributes:
        tokens: the rows.
        answers: token ids of the right and the wrong answer of each.
        tasks: names of the tasks.
        texts: digests of the texts, by which held-out prompts are told from them; see
            :func:`gossamer.dictionary.training_prompts.seen_in_training`.
        others: token ids of the words that may stand in for the answers; none: rows are as they are.
    """

    tokens: Tokens
    answers: Int[Tensor, "prompts 2"]
    tasks: tuple[str, ...]
    texts: tuple[str, ...]
    others: Int[Tensor, "words"] = field(default_factory=lambda: torch.tensor([], dtype=torch.long))

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
        answers: dict[str, tuple[int, int]] = {}
        for task in tasks:
            pairs = list(zip(*_answers(task.train), strict=True))
            for place, side in enumerate((task.train.clean, task.train.counterfactual)):
                for row, prompt in enumerate(task.train.prompts):
                    text = prompt.texts[place]
                    rows.setdefault(text, side.tokens.ids[row][side.tokens.mask[row]].tolist())
                    answers.setdefault(text, pairs[row])
        for task in tasks:
            if held := next((text for one in task.test.prompts for text in one.texts if text in rows), None):
                raise UsageError(
                    f"task {task.name}: {held!r} is held out there and a training prompt of another task; give tasks "
                    "that share no texts"
                )
        names = tuple(dict.fromkeys(task.name for task in tasks))
        found = torch.tensor(list(answers.values()))
        return cls(padded_right(list(rows.values())), found, names, tuple(sorted(map(text_digest, rows))))

    def varied(self, words: Int[Tensor, "words"]) -> "TaskPrompts":
        """The same prompts, in which these words may stand in for the answers; see :func:`similar_words`.

        Raises:
            UsageError: fewer than two words, or no prompt says one of its answers.
        """
        if len(words) < 2:
            raise UsageError(f"words in place of answers: at least 2 expected, found {len(words)}")
        if not bool((self.tokens.ids[:, :, None] == self.answers[:, None]).any()):
            raise UsageError(
                f"prompts of {listed(self.tasks)} say none of their answers: other words cannot stand in for them; "
                "leave the similar words out"
            )
        return replace(self, others=words)

    def rows(self, start: int, count: int, seed: int) -> Tokens:
        """Rows `start` to `start + count` of an endless sequence, each epoch a permutation of all prompts."""
        chosen = []
        for index in range(start, start + count):
            epoch, place = divmod(index, len(self.tokens))
            order = torch.randperm(len(self.tokens), generator=generator(seed, "prompts", epoch))
            chosen.append(int(order[place]))
        found = self.tokens[torch.tensor(chosen)]
        if not len(self.others):
            return found
        ids = found.ids.clone()
        for row, index in enumerate(chosen):
            draw = generator(seed, "words", start + row)
            if int(torch.randint(2, (), generator=draw)):
                instead = self.others[torch.randperm(len(self.others), generator=draw)[:2]]
                for was, now in zip(self.answers[index], instead, strict=True):
                    ids[row][found.mask[row] & (found.ids[row] == was)] = now
        return Tokens(ids, found.mask)

    @property
    def facts(self) -> dict[str, Any]:
        """What dictionaries keep of it, for JSON."""
        found = {"tasks": list(self.tasks), "prompts": len(self.tokens), "texts_sha256": list(self.texts)}
        return found if not len(self.others) else {**found, "similar_words": self.others.tolist()}


def similar_words(
    model: LanguageModel, tasks: Sequence[Task], count: int, *, without: Collection[int] = ()
) -> Int[Tensor, "count"]:
    """The `count` tokens whose embeddings are most like those of the answers to training prompts, these among them.

    By the cosine with the mean direction of the answers' embeddings, from the mean of all. Never an answer to a
    held-out prompt: rows with other words in them are then none of the held-out prompts, and where a task divides its
    prompts by word, its held-out words stay unseen. Nor a token of `without`.

    Raises:
        UsageError: there are fewer tokens than that.
    """
    learned = sorted({one for task in tasks for side in _answers(task.train) for one in side})
    held = sorted({*without, *(one for task in tasks for side in _answers(task.test) for one in side)})
    table = model.hf.get_input_embeddings().weight.detach().float()  # type: ignore[operator]
    if count > len(table) - len(held):
        raise UsageError(f"similar words: at most {len(table) - len(held)} expected, found {count}")
    directions = torch.nn.functional.normalize(table - table.mean(dim=0), dim=1)
    likeness = directions @ directions[learned].mean(dim=0)
    likeness[held] = -torch.inf
    return likeness.topk(count).indices.sort().values.cpu()


def _answers(side: PromptPairs) -> tuple[list[int], list[int]]:
    """Token ids of the right and of the wrong answers."""
    return side.answer.tolist(), side.incorrect.tolist()


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
