"""Text that a model writes under steering: every cell, prompt and sample in one batch; and how degenerate it is."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.generation import Sampling, left_padded
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import log_probabilities
from gossamer.progress import begin
from gossamer.steering.cell import Cell, steering_of
from gossamer.tokens import Tokens

_BLOCK_VALUES = 2**24


@dataclass(frozen=True)
class SamplingPlan:
    """What is written for each cell: `samples` completions of every prompt.

    The draws of a prompt and sample are the same in all cells, so that cells differ by steering and not by chance.
    """

    samples: int = 8
    max_new_tokens: int = 32
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.max_new_tokens < 1:
            raise UsageError(
                f"sampling: at least one sample of at least one token expected, found {self.samples} of "
                f"{self.max_new_tokens}"
            )
        if self.samples > 1 and self.temperature == 0:
            raise UsageError("sampling: one sample expected at temperature 0, as all would be the same")


@dataclass(frozen=True, eq=False)
class Completions:
    """What one cell's model wrote; rows are prompts, and of each prompt its samples.

    Attributes:
        texts: without the prompts.
        new: their tokens.
        log_probability: mean log-probability of each row's tokens under the unsteered model, after the bare prompt.
    """

    texts: tuple[str, ...]
    new: Tokens
    log_probability: Float[Tensor, "rows"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.texts), "completion")

    @property
    def distinct_2(self) -> float:
        """Different pairs of neighbouring tokens over all such pairs, mean over rows."""
        return _mean([len(set(pairs)) / len(pairs) for row in self._ids if (pairs := _grams(row, 2))])

    @property
    def repeated_4(self) -> float:
        """Share of runs of four tokens that stood in the same row before, mean over rows."""
        return _mean([1 - len(set(runs)) / len(runs) for row in self._ids if (runs := _grams(row, 4))])

    @property
    def zlib_ratio(self) -> float:
        """Bytes of all texts together, compressed, over what they are; it falls where texts repeat."""
        data = "\n".join(self.texts).encode()
        return len(zlib.compress(data, 9)) / max(len(data), 1)

    @property
    def commonest(self) -> str:
        """The text that was written most often."""
        return Counter(self.texts).most_common(1)[0][0]

    @property
    def _ids(self) -> list[list[int]]:
        return [ids[mask].tolist() for ids, mask in zip(self.new.ids, self.new.mask, strict=True)]


def _grams(ids: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[place : place + size]) for place in range(len(ids) - size + 1)]


def _mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return sum(values) / len(values) if values else float("nan")


@torch.no_grad()
def complete(
    model: LanguageModel, cells: Sequence[Cell], prompts: Sequence[str], plan: SamplingPlan, *, rows_at_once: int = 4096
) -> list[Completions]:
    """Complete prompts in all cells, as many cells in a batch as `rows_at_once` rows hold (at least one).

    Memory: keys and values of one batch, and 2**24 log-probabilities.

    Raises:
        UsageError: no cells or prompts, or prompts that are too long with what is to be written.
        NotFiniteError: a value or a logit is not finite.
    """
    plain = left_padded(model.tokenize(prompts))[torch.arange(len(prompts)).repeat_interleave(plan.samples)]
    return [
        Completions(tuple(model.decode(new)), new, _log_probability(model, plain, new))
        for new in write(model, cells, prompts, plan, rows_at_once=rows_at_once)
    ]


def write(
    model: LanguageModel, cells: Sequence[Cell], prompts: Sequence[str], plan: SamplingPlan, *, rows_at_once: int = 4096
) -> Iterator[Tokens]:
    """The new tokens of each cell, prompt by prompt with its samples; nothing is measured. As :func:`complete`."""
    if not cells or not prompts:
        raise UsageError(f"completions: cells and prompts expected, found {len(cells)} and {len(prompts)}")
    rows = len(prompts) * plan.samples
    size, advance = max(1, rows_at_once // rows), begin("writing", len(cells))
    for start in range(0, len(cells), size):
        part = cells[start : start + size]
        new = _written(model, part, prompts, plan, rows)
        yield from (new[torch.arange(place * rows, (place + 1) * rows)] for place in range(len(part)))
        advance(len(part), part[-1].method)


def _written(
    model: LanguageModel, cells: Sequence[Cell], prompts: Sequence[str], plan: SamplingPlan, rows: int
) -> Tokens:
    """The new tokens of a batch of cells, cell after cell."""
    texts = [cell.prefix + prompt for cell in cells for prompt in prompts]
    tokens = left_padded(model.tokenize(texts))[torch.arange(len(texts)).repeat_interleave(plan.samples)]
    sampling = Sampling(plan.temperature, plan.top_k, plan.top_p, plan.seed, repeat_every=rows)
    with model.edit(steering_of(cells, rows, tokens.lengths).edits()):
        steps = []
        for step in model.stream(tokens, max_new_tokens=plan.max_new_tokens, sampling=sampling):
            require_finite(step.logits, "logits under steering (take a smaller coefficient)")
            # Not the step itself, whose logits would stay as well.
            steps.append((step.ids, step.active))
    return Tokens(torch.stack([ids for ids, _ in steps], dim=1), torch.stack([one for _, one in steps], dim=1))


def _log_probability(model: LanguageModel, prompts: Tokens, new: Tokens) -> Float[Tensor, "rows"]:
    """Mean log-probability of each row's new tokens without steering."""
    whole = Tokens(torch.cat([prompts.ids, new.ids], dim=1), torch.cat([prompts.mask, new.mask], dim=1))
    (last,) = model.sites("resid_post")[-1:]
    width = new.ids.shape[1]
    sums = torch.zeros(len(new), dtype=torch.float64)
    per_block = max(1, _BLOCK_VALUES // (model.d_vocab * width))
    for rows in torch.split(torch.arange(len(new)), max(per_block, 64)):
        stream = model.capture(whole[rows], [last])[last][:, -width - 1 : -1]
        for part in torch.split(torch.arange(len(rows)), per_block):
            odds = _of_tokens(model, stream[part], new.ids[rows[part]])
            sums[rows[part]] = (odds * new.mask[rows[part]]).double().sum(dim=1)
    return sums / new.mask.sum(dim=1).clamp(min=1)


def _of_tokens(
    model: LanguageModel, stream: Float[Tensor, "rows pos d"], ids: Int[Tensor, "rows pos"]
) -> Float[Tensor, "rows pos"]:
    odds = log_probabilities(model, stream.flatten(0, 1)).reshape(*stream.shape[:2], -1)
    return odds.gather(2, ids.to(odds.device)[..., None])[..., 0].cpu()
