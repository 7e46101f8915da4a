"""What steering changes on a text that is given: cross-entropy, KL, likeliest tokens, and features that were not meant.

On neutral text this is what steering costs; on text with the concept the fall of cross-entropy is what it brings,
without any sampling, and exp(rise) is ActAdd's perplexity ratio (Turner et al. 2023).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.predictions import log_probabilities, predicting
from gossamer.model.site import BySite, Site
from gossamer.steering.cell import Cell, steering_of, with_prefix
from gossamer.steering.coefficient import SiteScale
from gossamer.steering.steered import absolute_positions
from gossamer.tasks.metric import preferred
from gossamer.tasks.task import Task
from gossamer.tokens import Tokens

# Log-probabilities of one model that exist at a time.
_BLOCK_VALUES = 2**24
# A decoder row that points so far along a vector is the vector's own feature, not an off-target one.
_OWN = 0.5
# Share of its maximum from which on a feature's mean change counts.
_MOVED = 0.05


@dataclass(frozen=True, eq=False)
class Observer:
    """A dictionary, at the steered site or a later one, that says which other features steering moves.

    Attributes:
        dictionary: the dictionary.
        maxima: largest activation of each latent on a text.
    """

    dictionary: Dictionary
    maxima: Float[Tensor, "n"]

    @classmethod
    def of(cls, dictionary: Dictionary, scale: SiteScale) -> "Observer":
        """With the largest activations of a measured site."""
        return cls(dictionary, scale.maxima)

    @property
    def site(self) -> Site:
        """Where it reads."""
        assert self.dictionary.site is not None
        return self.dictionary.site


@dataclass(frozen=True, eq=False)
class PredictionChanges:
    """What cells do to the predictions of a text; sums over the predicted tokens of each row, float64.

    Attributes:
        tokens: predicted tokens of each row.
        cross_entropy: rise of -log p of the next token, in nats.
        kl: KL(unsteered || steered).
        changed: tokens whose likeliest next token is another one.
        relative_norm: of each cell, mean |delta| over mean |x| at the first intervention's site and positions.
        activation: mean activation of the first intervention's feature there, encoded again; NaN without a feature.
        off_target: mean |change| of the observer's mean activations, own features left out; NaN without an observer.
        moved: how many of them change by more than 5 % of their maximum; -1 without an observer.
    """

    tokens: Int[Tensor, "rows"]
    cross_entropy: Float[Tensor, "cells rows"]
    kl: Float[Tensor, "cells rows"]
    changed: Float[Tensor, "cells rows"]
    relative_norm: Float[Tensor, "cells"]
    activation: Float[Tensor, "cells"]
    off_target: Float[Tensor, "cells"]
    moved: Int[Tensor, "cells"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.relative_norm), "cell")
        yield plural(int(self.tokens.sum()), "predicted token")

    def mean(self, name: str) -> Float[Tensor, "cells"]:
        """Mean a token of `cross_entropy`, `kl` or `changed`."""
        found: Tensor = getattr(self, name).sum(dim=1) / self.tokens.sum()
        return found


@torch.no_grad()
def prediction_changes(
    model: LanguageModel,
    cells: Sequence[Cell],
    text: Tokens,
    *,
    observer: Observer | None = None,
    rows_at_once: int = 256,
) -> PredictionChanges:
    """Measure cells on a text, many of them in each batch; layers before the steered site run once for all.

    Memory: streams of `rows_at_once` rows, log-probabilities of 2**24 values, latents of one batch with an observer.

    Args:
        text: rows padded on the right.
        rows_at_once: rows of all cells together in a batch.

    Raises:
        UsageError: nothing is predicted, or an observer before a steered site.
        NotFiniteError: a value or a logit is not finite.
    """
    if not cells or not bool(predicting(text).any()):
        raise UsageError("steering: at least one cell and a text of two tokens expected, found none")
    if observer is not None:
        late = [one.site for cell in cells for one in cell.interventions if one.site > observer.site]
        if late:
            raise UsageError(f"observer: a dictionary not before {late[0]} expected, found one at {observer.site}")
    sums = _ChangeSums(len(cells), len(text), 0 if observer is None else observer.dictionary.n_latents)
    blocks = torch.split(torch.arange(len(text)), max(1, min(len(text), rows_at_once // 4)))
    for rows in blocks:
        for prefix in dict.fromkeys(cell.prefix for cell in cells):
            chosen = [number for number, cell in enumerate(cells) if cell.prefix == prefix]
            for part in torch.split(torch.tensor(chosen), max(1, rows_at_once // len(rows))):
                _measure(model, [cells[number] for number in part.tolist()], part, text[rows], rows, observer, sums)
    tokens = predicting(text).sum(dim=1)
    off_target, moved = sums.off_target(observer, cells, int(_observed(text).sum()))
    return PredictionChanges(
        tokens,
        sums.cross_entropy,
        sums.kl,
        sums.changed,
        sums.delta / sums.length.clamp(min=torch.finfo(torch.float64).tiny),
        sums.activation / sums.acting,
        off_target,
        moved,
    )


def accuracies(model: LanguageModel, cells: Sequence[Cell], task: Task, at_once: int) -> list[float]:
    """Share of a task's held-out prompts whose right answer beats every wrong one, in each cell."""
    examples = task.test
    tokens, at = examples.clean.tokens, examples.clean.answer_position
    found = []
    for cell in cells:
        right, read = [], with_prefix(model, tokens, cell.prefix)
        behind = at + read.ids.shape[1] - tokens.ids.shape[1]
        for rows in torch.split(torch.arange(len(examples)), at_once):
            with model.edit(steering_of([cell], len(rows), read.lengths[rows]).edits()):
                logits = model.logits(read[rows], at=behind[rows]).cpu()
            right.append(preferred(logits, examples.answers(rows), examples.incorrect_answers(rows)))
        found.append(float(torch.cat(right).double().mean()))
    return found


class _ChangeSums:
    """What is added up over the batches."""

    def __init__(self, cells: int, rows: int, latents: int) -> None:
        real = torch.float64
        self.cross_entropy, self.kl, self.changed = (torch.zeros(cells, rows, dtype=real) for _ in range(3))
        self.delta, self.length, self.activation, self.acting = (torch.zeros(cells, dtype=real) for _ in range(4))
        self.latents = torch.zeros(cells, latents, dtype=real)

    def off_target(
        self, observer: Observer | None, cells: Sequence[Cell], tokens: int
    ) -> tuple[Float[Tensor, "cells"], Int[Tensor, "cells"]]:
        if observer is None:
            return torch.full((len(self.delta),), torch.nan, dtype=torch.float64), torch.full((len(self.delta),), -1)
        own = _own(cells, observer)
        change = (self.latents / tokens).abs().masked_fill(own, 0.0)
        above = (change > _MOVED * observer.maxima.double()) & (observer.maxima > 0)
        return change.sum(dim=1) / (~own).sum(dim=1).clamp(min=1), above.sum(dim=1)


def _own(cells: Sequence[Cell], observer: Observer) -> Tensor:
    """The observer's latents that are what each cell steers along, cells x latents."""
    rows = torch.nn.functional.normalize(observer.dictionary.W_dec.detach().float(), dim=1)
    own = torch.zeros(len(cells), len(rows), dtype=torch.bool)
    for number, cell in enumerate(cells):
        for one in cell.interventions:
            vectors = torch.nn.functional.normalize(one.vector.reshape(-1, one.vector.shape[-1]).float(), dim=1)
            if vectors.shape[1] == rows.shape[1]:
                own[number] |= ((rows @ vectors.T.to(rows)).amax(dim=1) > _OWN).cpu()
    return own


def _measure(
    model: LanguageModel,
    cells: Sequence[Cell],
    numbers: Int[Tensor, "cells"],
    text: Tokens,
    rows: Int[Tensor, "rows"],
    observer: Observer | None,
    sums: _ChangeSums,
) -> None:
    """Some cells on some rows, in one batch."""
    prefixed = with_prefix(model, text, cells[0].prefix)
    # All of a given text counts as new.
    steering = steering_of(cells, len(text), torch.zeros(len(cells) * len(text), dtype=torch.long))
    start, last = steering.start(), model.sites("resid_post")[-1]
    wanted = {*(one.site for cell in cells for one in cell.interventions), last}
    wanted |= set() if observer is None else {observer.site}
    plain = model.capture(text, sorted(wanted | ({start} if start is not None else set())))
    tiled = torch.arange(len(text)).repeat(len(cells))
    prefix = None if start is None or cells[0].prefix else (start, plain[start][tiled])
    values = steering.capture(model, prefixed[tiled], sorted(wanted), prefix)
    # The places that the text has without a prefix; where it begins with BOS, the prefix's last token stands for that.
    skipped = prefixed.ids.shape[1] - text.ids.shape[1]
    every = BySite((site, value[:, skipped:].reshape(-1, *plain[site].shape)) for site, value in values.items())
    _predictions(model, plain[last], every[last], text, numbers, rows, sums)
    _strength(cells, plain, every, text, numbers, sums)
    if observer is not None:
        _observe(observer, plain[observer.site], every[observer.site], text, numbers, sums)


def _predictions(
    model: LanguageModel,
    plain: Float[Tensor, "rows pos d"],
    steered: Float[Tensor, "cells rows pos d"],
    text: Tokens,
    numbers: Int[Tensor, "cells"],
    rows: Int[Tensor, "rows"],
    sums: _ChangeSums,
) -> None:
    row, position = predicting(text).nonzero().unbind(dim=1)
    following = text.ids[row, position + 1].to(plain.device)
    for part in torch.split(torch.arange(len(row)), max(1, _BLOCK_VALUES // model.d_vocab)):
        here = (row[part].to(plain.device), position[part].to(plain.device))
        before = log_probabilities(model, plain[here])
        best, odds, own = before.argmax(dim=1), before.exp(), before.gather(1, following[part][:, None])[:, 0]
        for place, number in enumerate(numbers.tolist()):
            after = log_probabilities(model, steered[place][here])
            found = {
                "cross_entropy": own - after.gather(1, following[part][:, None])[:, 0],
                "changed": after.argmax(dim=1) != best,
                "kl": (odds * (before - after)).sum(dim=1),
            }
            for name, values in found.items():
                getattr(sums, name)[number].index_add_(0, rows[row[part]], values.double().cpu())


def _strength(
    cells: Sequence[Cell],
    plain: BySite[Tensor],
    steered: BySite[Tensor],
    text: Tokens,
    numbers: Int[Tensor, "cells"],
    sums: _ChangeSums,
) -> None:
    """How far each cell's first intervention moved the stream, and where its feature is now."""
    where = absolute_positions(text)
    for place, number in enumerate(numbers.tolist()):
        if not cells[place].interventions:
            sums.acting[number] = torch.nan
            continue
        one = cells[place].interventions[0]
        acts = one.positions.mask(where, torch.zeros(len(where), dtype=torch.long))
        before, after = plain[one.site][acts], steered[one.site][place][acts]
        sums.delta[number] += (after - before).double().norm(dim=1).sum().cpu()
        sums.length[number] += before.double().norm(dim=1).sum().cpu()
        if one.dictionary is None or one.latent is None:
            sums.acting[number] = torch.nan
            continue
        column = torch.tensor([one.latent], device=after.device)
        sums.activation[number] += one.dictionary.encode_dense(after, column).double().sum().cpu()
        sums.acting[number] += int(acts.sum())


def _observed(text: Tokens) -> Bool[Tensor, "rows pos"]:
    """All tokens but the first of a row, which may be BOS or an attention sink."""
    return text.mask & ~text.first


def _observe(
    observer: Observer,
    plain: Float[Tensor, "rows pos d"],
    steered: Float[Tensor, "cells rows pos d"],
    text: Tokens,
    numbers: Int[Tensor, "cells"],
    sums: _ChangeSums,
) -> None:
    counted = _observed(text)
    before = observer.dictionary.encode_dense(plain[counted]).double().sum(dim=0)
    for place, number in enumerate(numbers.tolist()):
        after = observer.dictionary.encode_dense(steered[place][counted]).double().sum(dim=0)
        sums.latents[number] += (after - before).cpu()
