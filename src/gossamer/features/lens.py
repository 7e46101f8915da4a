"""The words that a latent raises and lowers when its decoder row is read by the model's own head (logit lens)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site

Words = tuple[tuple[str, float], ...]
# Logits that stand in memory at a time.
_BLOCK_VALUES = 2**24


class LensWords(NamedTuple):
    """Words with the change of their logit, the largest change first.

    Attributes:
        promotes: words that the latent raises.
        suppresses: words that it lowers.
    """

    promotes: Words
    suppresses: Words

    def __repr__(self) -> str:
        return short_repr(self)

    def _facts(self) -> Iterator[str]:
        yield f"promotes {' '.join(word.strip() for word, _ in self.promotes[:5])}"
        yield f"suppresses {' '.join(word.strip() for word, _ in self.suppresses[:5])}"


def writes_to_stream(site: Site) -> bool:
    """Whether a decoder row at `site` is a direction of the residual stream, which the head can read."""
    return site.facts.in_stream


def has_words(model: LanguageModel, dictionary: Dictionary) -> bool:
    """Whether the head can read a dictionary's rows: directions of the stream, and those of z by what attention makes
    of them, where the model's family says how it does."""
    site, family = dictionary.site_out or dictionary.site, model.anatomy.family
    if site is None:
        return False
    return writes_to_stream(site) or (site.kind == "z" and None not in (family.q, family.k, family.v))


def stream_rows(
    model: LanguageModel, dictionary: Dictionary, latents: Sequence[int]
) -> Float[Tensor, "latent d_model"]:
    """Decoder rows as directions of the residual stream.

    Those of z go through the heads' output matrix, and through the gain of a norm after attention where there is one:
    the direction is exact, the length is that of a norm that divides by nothing.

    Raises:
        UsageError: the dictionary writes neither to the residual stream nor to z.
    """
    site, rows = dictionary.site_out or dictionary.site, dictionary.W_dec[list(latents)]
    if site is None or not has_words(model, dictionary):
        raise UsageError(f"logit lens: a dictionary that writes to the residual stream or z expected, found {site}")
    if writes_to_stream(site):
        return rows
    layer = site.layer or 0
    weights = model.attention_weights(layer)
    written = rows @ weights.W_O.to(rows).flatten(0, 1)
    norm = model.anatomy.output_norm(layer)
    return written if norm is None else norm.pushed_forward(written, torch.ones_like(written[:, :1])).to(rows)


@torch.no_grad()
def logit_lens(
    model: LanguageModel, dictionary: Dictionary, latents: Sequence[int], *, words: int = 8
) -> list[LensWords]:
    """What the head makes of each latent's decoder row alone, less what it makes of nothing, and less the mean change.

    The row goes through the model's final norm by itself, so that its direction counts and its length does not; a
    transcoder's rows are read where it writes, those of z after the heads' output matrix (:func:`stream_rows`).
    Source: nostalgebraist 2020 (logit lens). Memory: 2**24 logits.

    Args:
        latents: numbers of the latents, in the order of the result.
        words: how many words each way.

    Raises:
        UsageError: the dictionary writes neither to the residual stream nor to z, or it has no such latent.
    """
    if wrong := [latent for latent in latents if not 0 <= latent < dictionary.n_latents]:
        raise UsageError(f"logit lens: latents from 0 to {dictionary.n_latents - 1} expected, found {wrong[0]}")
    found: list[LensWords] = []
    for part in torch.split(stream_rows(model, dictionary, latents), max(1, _BLOCK_VALUES // model.d_vocab)):
        found += _read(model, part, min(words, model.d_vocab))
    return found


@torch.no_grad()
def most_raising(
    model: LanguageModel, dictionary: Dictionary, tokens: Sequence[int], count: int
) -> list[tuple[int, int, float]]:
    """The latents that raise the logit of one of some tokens most, by :func:`logit_lens`: latent, token and change.

    Cost: n_latents * d_vocab * d_model multiplications. Memory: 2**24 logits.

    Args:
        tokens: of the vocabulary; of each latent the one that it raises most.
        count: at most so many, the largest change first; those that lower all of the tokens are left out.

    Raises:
        UsageError: the dictionary writes neither to the residual stream nor to z, or no token.
    """
    if not tokens:
        raise UsageError("logit lens: at least one token expected, found none")
    block, columns = max(1, _BLOCK_VALUES // model.d_vocab), torch.tensor(list(tokens))
    parts = [
        _change(model, stream_rows(model, dictionary, range(first, min(first + block, dictionary.n_latents))))
        .cpu()[:, columns]
        .max(dim=1)
        for first in range(0, dictionary.n_latents, block)
    ]
    values, places = (torch.cat([part[side] for part in parts]) for side in (0, 1))
    best = values.topk(min(count, len(values)))
    return [
        (latent, int(columns[places[latent]]), value)
        for latent, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        if value > 0
    ]


def _change(model: LanguageModel, rows: Float[Tensor, "latent d"]) -> Float[Tensor, "latent vocab"]:
    """Of every logit, less what the head makes of nothing, and less the mean change."""
    change = model.unembed(rows).float() - model.unembed(torch.zeros_like(rows[:1])).float()
    return change - change.mean(dim=1, keepdim=True)


def _read(model: LanguageModel, rows: Float[Tensor, "latent d"], words: int) -> Iterator[LensWords]:
    change = _change(model, rows)
    raised, lowered = change.topk(words, dim=1), (-change).topk(words, dim=1)
    for up, up_ids, down, down_ids in zip(
        raised.values.tolist(), raised.indices.tolist(), lowered.values.tolist(), lowered.indices.tolist(), strict=True
    ):
        promotes = tuple((model.word(word), value) for word, value in zip(up_ids, up, strict=True))
        yield LensWords(promotes, tuple((model.word(word), -value) for word, value in zip(down_ids, down, strict=True)))
