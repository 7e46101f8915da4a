"""Many functions of one prompt taken apart at once.

The prompt stands in as many rows as there are functions, each row with the cotangent of one of them: a step back
(:mod:`gossamer.attention.upstream`) is then one batched product for all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.attribution_data import GROUPS
from gossamer.attention.catalogue import Catalogue, group_of
from gossamer.attention.codes import Codes
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.upstream import Terms, upstream
from gossamer.display import plural, short_repr
from gossamer.model.site import BySite, Site
from gossamer.sparse.latents import SparseLatents


def repeated(frozen: FrozenPass, n: int) -> FrozenPass:
    """A pass of one prompt as one of n rows that hold the same prompt. The model does not run; values are views."""
    tokens = frozen.tokens[torch.zeros(n, dtype=torch.long, device=frozen.replaced.device)]
    values = BySite((site, value.expand(n, *value.shape[1:])) for site, value in frozen.values.items())
    codes = BySite((site, _repeated_codes(one, n)) for site, one in frozen.codes.items())
    return FrozenPass(frozen.model, tokens, values, codes, frozen.replaced.expand(n, -1))


def _repeated_codes(codes: Codes, n: int) -> Codes:
    def rows(value: Tensor) -> Tensor:
        return value.expand(n, *value.shape[1:])

    def known(value: Tensor | None) -> Tensor | None:
        return None if value is None else rows(value)

    return replace(
        codes,
        latents=SparseLatents.concatenate([codes.latents] * n),
        counted=rows(codes.counted),
        scale=known(codes.scale),
        output_scale=known(codes.output_scale),
        bias=rows(codes.bias),
        skip=known(codes.skip),
        error=rows(codes.error),
    )


@dataclass(frozen=True, eq=False)
class GoingOn:
    """A term that is a function of what was written before: attention without a dictionary, or a linear path.

    Attributes:
        row: of which function it is a term.
        key: which term.
        site, position, vector: the function.
        value: of the term.
    """

    row: int
    key: int
    site: Site
    position: int
    vector: Float[Tensor, "d"]
    value: float

    __repr__ = short_repr


@dataclass(frozen=True, eq=False)
class TermTable:
    """Terms of several functions, a line for each: those of a function together, the largest first, biases last.

    Attributes:
        starts: where each function's terms begin, and the number of lines.
        keys: what the terms are (see :class:`gossamer.attention.catalogue.Catalogue`).
        by_head: the terms by the head that brought them; one column where no attention lies between.
        counts, totals: for each function and group, number and sum of all its terms, listed or not.
        constants: of each function, what biases on the way add that no token brings.
        going_on: the listed terms that are functions themselves, the largest of each function first.
    """

    starts: np.ndarray
    keys: np.ndarray
    by_head: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    constants: np.ndarray
    going_on: tuple[GoingOn, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.starts) - 1, "function")
        yield plural(len(self.keys), "term")


def take_apart(
    rows: FrozenPass,
    catalogue: Catalogue,
    site: Site,
    positions: Int[Tensor, "n"],
    vectors: Float[Tensor, "n d"],
    most: int,
) -> TermTable:
    """One step back from n functions vector . value of `site` at a token.

    Args:
        rows: the prompt n times (:func:`repeated`).
        catalogue: names of the terms.
        site, positions, vectors: the functions.
        most: of each, so many terms are listed, and the biases of each token.
    """
    n, width = rows.tokens.ids.shape
    cotangent = vectors.new_zeros(n, width, vectors.shape[1])
    cotangent[torch.arange(n, device=vectors.device), positions] = vectors
    blocks = list(upstream(rows, site, cotangent))
    heads = max(block.values.shape[1] for block in blocks)
    bias, constants = np.zeros((n, width, heads)), np.zeros(n)
    counts, totals = np.zeros((n, len(GROUPS)), dtype=np.int64), np.zeros((n, len(GROUPS)))
    parts = []
    for number, block in enumerate(blocks):
        row, position = (part.cpu().numpy() for part in (block.tokens // width, block.tokens % width))
        by_head = block.values.double().cpu().numpy()
        if block.kind == "bias":
            if by_head.shape[1] == heads:
                np.add.at(bias, (row, position), by_head)
            else:
                np.add.at(constants, row, by_head[:, 0])
            continue
        latents = -1 if block.latents is None else block.latents.cpu().numpy()
        here = np.abs(by_head).max(axis=1, initial=0) > 0
        keys = np.broadcast_to(catalogue.keys(block.kind, block.site, latents, position), row.shape)
        parts.append(_Lines(row[here], keys[here], by_head[here], np.full(int(here.sum()), number)))
        group = group_of(block.kind, block.site)
        np.add.at(counts[:, group], row[here], 1)
        np.add.at(totals[:, group], row[here], by_head[here].sum(axis=1))
    row, position = (np.abs(bias).max(axis=2) > 0).nonzero()
    parts.append(_Lines(row, catalogue.keys("bias", None, -1, position), bias[row, position], np.full(len(row), -1)))
    group = GROUPS.index("biases")
    np.add.at(counts[:, group], row, 1)
    totals[:, group] += bias.sum(axis=(1, 2))
    lines = _Lines(*map(np.concatenate, zip(*parts, strict=True)))
    kept = lines.largest(n, most)
    starts = np.searchsorted(kept.row, np.arange(n + 1))
    return TermTable(starts, kept.key, kept.by_head, counts, totals, constants, _going_on(kept, blocks, width))


class _Lines(NamedTuple):
    """Terms of several functions: which function, which term, by head, and in which block of terms (biases: -1)."""

    row: np.ndarray
    key: np.ndarray
    by_head: np.ndarray
    block: np.ndarray

    def largest(self, n: int, most: int) -> "_Lines":
        """Of each function the largest terms, largest first, and then all biases."""
        bias = self.block < 0
        order = np.lexsort((-np.abs(self.by_head.sum(axis=1)), bias, self.row))
        row = self.row[order]
        rank = np.arange(len(order)) - np.searchsorted(row, np.arange(n))[row]
        order = order[(rank < most) | bias[order]]
        return _Lines(*(part[order] for part in self))


def _going_on(lines: _Lines, blocks: Sequence[Terms], width: int) -> tuple[GoingOn, ...]:
    found = []
    for number, (row, key, block) in enumerate(
        zip(lines.row.tolist(), lines.key.tolist(), lines.block.tolist(), strict=True)
    ):
        terms = blocks[block]
        if block < 0 or terms.cotangent is None:
            continue
        # The position is the last part of a key.
        position = key % (width + 1) - 1
        vector = terms.cotangent[row, position]
        found.append(GoingOn(row, key, terms.site, position, vector, float(lines.by_head[number].sum())))
    return tuple(found)
