"""Which tokens count: all others pass through dictionaries, and are left out of every average."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from gossamer.activations.attention_sink import first_token_is_sink
from gossamer.activations.text import bos_id
from gossamer.batching import in_batches
from gossamer.errors import GossamerError, UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.model.tokenizing import special_ids
from gossamer.results.values import from_json, to_json
from gossamer.tokens import Tokens

_BATCH = 16


@dataclass(frozen=True)
class LoudTokens:
    """Tokens whose activation at `site` has more than `ratio` times the median norm of those that count otherwise."""

    site: Site
    ratio: float = 10.0

    def __post_init__(self) -> None:
        if not self.ratio > 1:
            raise UsageError(f"loud tokens: a ratio above 1 to the median norm expected, found {self.ratio}")


@dataclass(frozen=True)
class TokenMask:
    """Which tokens count. Padding never does.

    A few tokens that are unlike all others make every average: BOS, marks of a chat, attention sinks.

    Attributes:
        bos: whether BOS tokens count.
        special: whether the tokenizer's other special tokens count (end of text, marks of a chat).
        sinks: whether a row's first token counts where the model uses it as an attention sink
            (:func:`first_token_is_sink`, which is measured).
        ids: tokens that do not count wherever they stand.
        positions: the arguments of a slice of each row, from its first real token to its last: (1,) is the first
            alone, (1, None) all others, (None, -5) all but five at the end. SAELens calls it seqpos_slice. None: all.
        loud: tokens that do not count for their norm; None: all norms count. Costs a pass of the model up to that site.
    """

    bos: bool = False
    special: bool = True
    sinks: bool = False
    ids: tuple[int, ...] = ()
    positions: tuple[int | None, ...] | None = None
    loud: LoudTokens | None = None

    def __post_init__(self) -> None:
        if self.positions is not None and (not 1 <= len(self.positions) <= 3 or self.positions[2:] == (0,)):
            raise UsageError(f"positions: the arguments of a slice expected, such as (1, None), found {self.positions}")

    def counted(self, model: LanguageModel, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
        """True at the tokens of all rows that count, on the CPU.

        The median that loud tokens are held against is that of all rows: the answer depends on no batch.

        Raises:
            NotFiniteError: an activation at the site of `loud` is not finite.
        """
        counted, bos = tokens.mask, bos_id(model)
        if bos is not None and not self.bos:
            counted = counted & (tokens.ids != bos)
        if not self.special:
            left_out = torch.tensor(sorted(special_ids(model.tokenizer) - {bos}), dtype=torch.long)
            counted = counted & ~torch.isin(tokens.ids, left_out.to(tokens.ids.device))
        if self.ids:
            counted = counted & ~torch.isin(tokens.ids, torch.tensor(self.ids).to(tokens.ids.device))
        if not self.sinks and first_token_is_sink(model):
            counted = counted & ~tokens.first
        if self.positions is not None:
            counted = counted & _at_positions(tokens, slice(*self.positions))
        return counted if self.loud is None else counted & ~_louder(model, tokens, counted, self.loud)

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON: what differs from the default."""
        return {name: value for name, value in to_json(self).items() if value != to_json(DEFAULT_MASK)[name]}

    @classmethod
    def from_facts(cls, facts: Any, where: str) -> "TokenMask":
        """The mask whose :attr:`facts` these are.

        Raises:
            GossamerError: they are none; `where` is what holds them.
        """
        try:
            found: TokenMask = from_json(facts, cls, "token_mask")
        except (ValueError, UsageError) as error:
            raise GossamerError(
                f"{where}: expected a mask of tokens, found damage ({error}); write it again"
            ) from error
        return found


# What counts unless a caller says otherwise, and every token that is no padding.
DEFAULT_MASK = TokenMask()
REAL_TOKENS = TokenMask(bos=True, sinks=True)


def counted_tokens(model: LanguageModel, tokens: Tokens) -> Bool[Tensor, "batch pos"]:
    """True at the tokens that count by default: neither padding nor BOS, nor a first token that is an attention sink.

    Whether first tokens are sinks is a fact of the model, which is measured (:func:`first_token_is_sink`).
    """
    return DEFAULT_MASK.counted(model, tokens)


def _at_positions(tokens: Tokens, positions: slice) -> Bool[Tensor, "batch pos"]:
    """Numbers of positions are those of real tokens, wherever padding is."""
    lengths, place = tokens.lengths, tokens.mask.cumsum(dim=1) - 1
    found = torch.zeros_like(tokens.mask)
    for length in set(lengths.tolist()):
        chosen = torch.tensor(range(length)[positions], dtype=torch.long, device=place.device)
        found |= (lengths == length)[:, None] & torch.isin(place, chosen)
    return found & tokens.mask


def _louder(
    model: LanguageModel, tokens: Tokens, counted: Bool[Tensor, "batch pos"], loud: LoudTokens
) -> Bool[Tensor, "batch pos"]:
    @torch.no_grad()
    def batch(rows: slice) -> Tensor:
        stream = require_finite(model.capture(tokens[rows], [loud.site])[loud.site], f"activations at {loud.site}")
        return stream.float().norm(dim=-1).to(counted.device)

    norms = torch.cat(in_batches(len(tokens), _BATCH, batch)) if len(tokens) else torch.zeros(counted.shape)
    return norms > loud.ratio * norms[counted].median() if counted.any() else torch.zeros_like(counted)
