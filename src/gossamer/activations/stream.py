"""One stream of a corpus through a model: what it has at some sites, batch by batch, and which of its tokens count."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.batching import code_of, in_batches
from gossamer.display import listed, plural, short_repr
from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site
from gossamer.progress import begin
from gossamer.tokens import Tokens

BATCH = 16
# Activations of all rows that are kept for a second map, in bytes.
_KEPT = 2**28
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ActivationBatch:
    """Some rows on their way through the model.

    Attributes:
        rows: which of the stream's rows these are, in the order in which it takes them.
        tokens: the rows.
        mask: True at the tokens that count.
        values: what the model has at each site, at every token and unchecked.
    """

    rows: slice
    tokens: Tokens
    mask: Bool[Tensor, "rows pos"]
    values: Mapping[Site, Float[Tensor, "rows pos ..."]]

    __repr__ = short_repr

    def at(self, site: Site) -> Float[Tensor, "rows pos ..."]:
        """What the model has at a site, at every token.

        Raises:
            NotFiniteError: a value is not finite (the site is named).
        """
        return require_finite(self.values[site], f"activations at {site}")

    def counted(self, site: Site) -> Float[Tensor, "tokens ..."]:
        """What the model has at a site, at the tokens that count, in the order of the rows.

        Raises:
            NotFiniteError: one of these values is not finite (the site is named).
        """
        values = self.values[site]
        return require_finite(values[self.mask.to(values.device)], f"activations at {site}")


@dataclass(frozen=True, eq=False)
class ActivationStream:
    """Rows of tokens that go through a model in batches; every measurement of activations is a :meth:`map` over one.

    A batch for which memory runs out, in the model or in the work done on it, is halved, tried again, and stays halved
    for the same work on as long rows of this model: results do not depend on the size of batches.

    Memory: the activations of one batch at all sites, and what the work keeps; with `keep` up to 256 MiB more.

    Attributes:
        model: the model, under the edits that are open when the stream runs.
        tokens: rows, in order.
        sites: where activations are read; none for rows and masks alone, for which the model does not run.
        mask: which tokens count: a policy, or True at each of them, where a caller chose them (padding never counts).
        batch_size: most rows at once.
        what: the work in words, for progress; None: it is not announced.
        gradients: whether activations keep the graph they come from.
        keep: whether what a first map has read is kept for the next, if that of all rows is small: the model then runs
            once. The edits that are open must be the same.
        kept: what is kept so far, by the first of some rows and the one after the last.
        trimmed: whether rows that are padded on the right go through the model from the longest to the shortest
            (:attr:`order`), each batch cut to its longest, so that little padding is computed.

    Raises:
        UsageError: no rows, batches of no row, or a mask of another shape than the tokens.
    """

    model: LanguageModel
    tokens: Tokens
    sites: Sequence[Site]
    mask: TokenMask | Bool[Tensor, "batch pos"] = DEFAULT_MASK
    batch_size: int = BATCH
    what: str | None = None
    gradients: bool = False
    keep: bool = False
    kept: dict[tuple[int, int], Mapping[Site, Tensor]] = field(default_factory=dict)
    trimmed: bool = False

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch size: at least 1 row expected, found {self.batch_size}")
        if not len(self.tokens):
            raise UsageError("activations: at least one row of tokens expected, found none; give some text")
        if isinstance(self.mask, Tensor) and self.mask.shape != self.tokens.ids.shape:
            shapes = f"{tuple(self.tokens.ids.shape)} expected, found {tuple(self.mask.shape)}"
            raise UsageError(f"activations: a mask of the tokens' shape {shapes}")

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model.title
        yield f"{plural(len(self.tokens), 'row')} at {listed(self.sites)}"

    @cached_property
    def counted(self) -> Bool[Tensor, "batch pos"]:
        """True at the tokens of all rows that count; found out once."""
        if isinstance(self.mask, Tensor):
            return self.mask & self.tokens.mask
        return self.mask.counted(self.model, self.tokens)

    @cached_property
    def _cuts(self) -> bool:
        mask = self.tokens.mask
        return self.trimmed and bool((mask[:, :-1] >= mask[:, 1:]).all())

    @cached_property
    def order(self) -> Int[Tensor, "batch"]:
        """Which row comes when, on the CPU."""
        if self._cuts:
            return torch.argsort(self.tokens.lengths, descending=True, stable=True).cpu()
        return torch.arange(len(self.tokens))

    def map(self, work: Callable[[ActivationBatch], Result]) -> list[Result]:
        """What `work` makes of each batch, in the order of the rows (:attr:`order`).

        Work that is interrupted by a lack of memory is done again, in two parts: it changes nothing outside before it
        has all that it needs.

        Raises:
            GossamerError: a single row does not fit into memory.
        """
        counted = self.counted
        advance = None if self.what is None else begin(self.what, len(self.tokens))

        def batch(rows: slice) -> Result:
            with torch.set_grad_enabled(self.gradients):
                tokens, mask = self.tokens[rows], counted[rows]
                if self._cuts:
                    chosen = self.order[rows]
                    width = int(self.tokens.lengths[chosen[0]])
                    tokens, mask = self.tokens[chosen].cut(width), counted[chosen][:, :width]
                found = work(ActivationBatch(rows, tokens, mask, self._values(rows, tokens)))
            if advance is not None:
                advance(rows.stop - rows.start, "")
            return found

        same = (code_of(work), self.model.name, tuple(self.sites), self.tokens.ids.shape[1])
        return in_batches(len(self.tokens), self.batch_size, batch, same_as=same)

    def _values(self, rows: slice, tokens: Tokens) -> Mapping[Site, Tensor]:
        if not self.sites:
            return {}
        values: Mapping[Site, Tensor] = self.kept.get((rows.start, rows.stop), {})
        if not set(self.sites) <= values.keys():
            values = self.model.capture(tokens, self.sites)
            if self._keeps:
                self.kept[rows.start, rows.stop] = values
        return values

    @property
    def _keeps(self) -> bool:
        """Whether the activations of all rows are kept."""
        width = sum(map(self.model.width, self.sites))
        return self.keep and self.tokens.ids.numel() * width * self.model.dtype.itemsize <= _KEPT

    @property
    def passes(self) -> int:
        """Of the model, for a map and the means that it needs first."""
        return 1 if self._keeps else 2

    def collect(self, dtype: torch.dtype | None = None) -> dict[Site, Float[Tensor, "tokens ..."]]:
        """The activations of all tokens that count, in order. Memory: all of them, and those of one batch.

        Args:
            dtype: to convert them to, batch by batch; None: the model's.

        Raises:
            NotFiniteError: one is not finite (the site is named).
        """

        counts = self.counted.sum(dim=1).cpu()
        ends = counts.cumsum(dim=0)
        kept: dict[Site, Tensor] = {}

        def keep(batch: ActivationBatch) -> None:
            # Each row's tokens go to the row's own places.
            rows = self.order[batch.rows]
            places = torch.cat([torch.arange(int(ends[row] - counts[row]), int(ends[row])) for row in rows])
            for site in self.sites:
                values = batch.counted(site)
                if site not in kept:
                    kept[site] = values.new_empty((int(ends[-1]), *values.shape[1:]), dtype=dtype or values.dtype)
                kept[site][places.to(values.device)] = values.to(kept[site].dtype)

        self.map(keep)
        return kept

    def means(self, sites: Sequence[Site] | None = None) -> dict[Site, Float[Tensor, "..."]]:
        """Mean activation at `sites` (default: all) over the tokens that count, in float64.

        Other sites are read only if that is kept for the next map.

        Raises:
            UsageError: no token counts.
            NotFiniteError: an activation is not finite (the site is named).
        """
        if not (tokens := int(self.counted.sum())):
            raise UsageError("activations: tokens besides BOS, padding and attention sinks expected; give more text")

        chosen = self.sites if sites is None else sites

        def summed(batch: ActivationBatch) -> dict[Site, Tensor]:
            return {site: batch.counted(site).double().sum(dim=0) for site in chosen}

        parts = (self if self._keeps else replace(self, sites=chosen)).map(summed)
        return {site: torch.stack([part[site] for part in parts]).sum(dim=0) / tokens for site in chosen}
