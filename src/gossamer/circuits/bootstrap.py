"""Bootstrap samples of a task's prompts: see :mod:`gossamer.tasks.bootstrap`."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.errors import UsageError
from gossamer.tasks.bootstrap import sampled
from gossamer.tasks.prompt_pairs import PromptPairs

# An interval over fewer texts than this says little.
FEW_TEXTS = 10


class FewTextsWarning(UserWarning):
    """Numbers are measured on so few texts that their intervals say little."""


def bootstrap_weights(examples: PromptPairs, seed: int) -> Float[Tensor, "draw prompt"]:
    """How often each prompt is drawn in each of `RESAMPLES` samples; float64 on the CPU.

    The same prompts and seed give the same samples, so that intervals of different networks can be compared.
    """
    return sampled(*_texts(examples), seed)


def resampled_rows(examples: PromptPairs, seed: int) -> Int[Tensor, "rows"]:
    """The rows of one bootstrap sample of the prompts, whole texts at a time; on the CPU."""
    drawn = bootstrap_weights(examples, seed)[0].long()
    return torch.arange(len(drawn)).repeat_interleave(drawn)


def count_texts(examples: PromptPairs) -> int:
    """How many different texts the prompts are."""
    return len(_texts(examples)[1])


def require_texts(examples: PromptPairs, task: str) -> None:
    """Refuse held-out prompts of one text alone: bootstrap samples of it are all the same, an interval of no width.

    Raises:
        UsageError: the message names the task.
    """
    if count_texts(examples) < 2:
        raise UsageError(
            f"task {task}: at least 2 different held-out texts expected, found 1, over which no interval can be known; "
            "give more prompts"
        )


def few_texts(examples: PromptPairs) -> tuple[str, ...]:
    """A sentence that the reader of an interval must see where it stands on few texts; none where they are enough."""
    count = count_texts(examples)
    if count >= FEW_TEXTS:
        return ()
    return (
        f"The held-out prompts are {count} different text{'s' if count > 1 else ''}: intervals over fewer than "
        f"{FEW_TEXTS} say little; give more prompts.",
    )


def _texts(examples: PromptPairs) -> tuple[Int[Tensor, "prompt"], Int[Tensor, "text"]]:
    """Number of each prompt's text, in order of first appearance, and number of each text's template."""
    texts: dict[tuple[str, tuple[int, ...]], int] = {}
    templates: dict[str, int] = {}
    clean = examples.clean.tokens
    rows = zip(examples.prompts, clean.ids.tolist(), clean.mask.tolist(), strict=True)
    numbers = []
    for prompt, ids, mask in rows:
        tokens = tuple(token for token, there in zip(ids, mask, strict=True) if there)
        templates.setdefault(prompt.template, len(templates))
        numbers.append(texts.setdefault((prompt.template, tokens), len(texts)))
    return torch.tensor(numbers), torch.tensor([templates[template] for template, _ in texts])
