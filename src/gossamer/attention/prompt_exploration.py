"""One prompt taken apart: every strong latent, once, and what a root is made of."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.attention.attribution_data import (
    Function,
    Items,
    Limits,
    PairScore,
    PromptAttribution,
)
from gossamer.attention.batched import repeated, take_apart
from gossamer.attention.catalogue import Catalogue
from gossamer.attention.frozen import FrozenPass
from gossamer.attention.qk import HeadMaps, ScoreAttribution, attribute_score
from gossamer.attention.source import Source
from gossamer.attention.trace import Root, latent_root, trace
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.model.site import Site
from gossamer.results.column import Column

# Numbers of one batch of functions, pulled back to every token and head.
_BLOCK = 2**22
# Heads of a term that are listed.
_HEADS = 3
# Nodes of the tree from the root whose latents are taken apart although others are more active.
_TRACED = 120
# Terms that go on (attention without a dictionary): how many are taken apart of a latent's function and of a root's,
# and for how many steps.
_OF_LATENT, _OF_ROOT, _STEPS = 3, 12, 3


# What a reader begins with: a logit difference, or a latent and a position.
Begin = Root | tuple[Feature, int] | None


class _Request(NamedTuple):
    """A function to be taken apart: vector . value of `site` at a token, and a constant."""

    key: int
    position: int
    site: Site
    vector: Float[Tensor, "d"]
    value: float
    constant: float = 0.0
    parent: int | None = None
    # How many of its terms that go on are taken apart, and for how many steps.
    branches: int = _OF_LATENT
    steps: int = _STEPS


@torch.no_grad()
def explore_prompt(frozen: FrozenPass, begin: Begin = None, limits: Limits | None = None) -> PromptAttribution:
    """Take one prompt apart: its strongest latents, what one begins with, and latents on the largest paths to that.

    Size in a file, in bytes, with F functions of T listed terms, A of them through attention of H heads, and P tokens:
    about F (350 + 8 T) + A (20 T + 2.7 H P) + 2.7 layers H P^2. Memory: a few times 2**22 numbers.

    Args:
        frozen: a pass of one prompt.
        begin: what to begin with: a logit difference, or a latent and a position (from the end where negative).
        limits: how much is listed.

    Raises:
        UsageError: several prompts, or a latent that is not active there.
    """
    limits = limits or Limits()
    if len(frozen.tokens) != 1:
        raise UsageError(f"exploring: one prompt expected, found {len(frozen.tokens)}; explore each by itself")
    work = _Exploration(frozen, limits, Catalogue(frozen))
    root = latent_root(frozen, *begin) if isinstance(begin, tuple) else begin
    chosen, first = _chosen(frozen, root, limits), None
    if isinstance(begin, tuple):
        asked = (begin[0].site, int(frozen.positions(begin[1])[0]), begin[0].latent)
        chosen = sorted({*chosen, asked})
        first = chosen.index(asked)
    wave = list(work.latents(chosen))
    if isinstance(begin, Root):
        wave.append(work.root(begin))
        first = len(wave) - 1
    while wave:
        wave = work.taken_apart(wave)
    ids = frozen.tokens.ids[0].tolist()
    words = tuple(str(token) if frozen.model.tokenizer is None else frozen.model.word(token) for token in ids)
    seen = torch.ones(len(words), len(words)).tril().bool()
    patterns = (frozen.values[Site("pattern", layer)][0].cpu()[:, seen] for layer in range(frozen.model.n_layers))
    scores = list(work.scores())
    items, functions, found = work.finished(scores)
    return PromptAttribution(
        words,
        tuple(frozen.replaced[0].tolist()),
        first,
        None if root is None else root.name,
        items,
        functions,
        tuple(Column.of(pattern, "float32") for pattern in patterns),
        tuple(Column.of(codes.latents.counts.cpu(), "int32") for codes in frozen.codes.values()),
        found,
    )


def _chosen(frozen: FrozenPass, root: Root | None, limits: Limits) -> list[tuple[Site, int, int]]:
    """Latents to take apart as (site, position, latent): the strongest, and those on the largest paths to the root."""
    found = {
        (site, position, latent)
        for site, codes in frozen.codes.items()
        for position in range(frozen.tokens.ids.shape[1])
        for latent in list(codes.active(0, position))[: limits.latents]
    }
    if root is not None:
        for node in trace(frozen, root, nodes=_TRACED).nodes:
            site, latent, place = node.source.site, node.source.latent, node.source.place
            if site is not None and latent is not None and isinstance(place, int):
                found.add((site, place, latent))
    return sorted(found)


class _FunctionTerms(NamedTuple):
    """A function taken apart, its terms as keys."""

    asked: _Request
    layer: int | None
    values: np.ndarray
    keys: np.ndarray
    by_head: np.ndarray
    constant: float
    counts: np.ndarray
    totals: np.ndarray


@dataclass(eq=False)
class _Exploration:
    """One prompt's functions while they are taken apart."""

    frozen: FrozenPass
    limits: Limits
    catalogue: Catalogue
    made: dict[int, _FunctionTerms] = field(default_factory=dict)

    __repr__ = short_repr

    def latents(self, chosen: Iterable[tuple[Site, int, int]]) -> Iterator[_Request]:
        """The pre-activations of latents."""
        by_site: dict[Site, list[tuple[int, int]]] = defaultdict(list)
        for site, position, latent in chosen:
            by_site[site].append((position, latent))
        for site, places in by_site.items():
            codes, read = self.frozen.codes[site], self.frozen.values[site]
            positions, numbers = torch.tensor(places, device=read.device).T
            at = torch.zeros_like(positions), positions
            vectors, constants = codes.encoder(numbers, read)
            vectors = codes.at_input(vectors, at=at)
            values = (vectors * read[at]).sum(dim=1) + constants
            found = zip(places, vectors, values.tolist(), constants.tolist(), strict=True)
            for (position, latent), vector, value, constant in found:
                key = self.catalogue.key(Source("latent", site, latent, position))
                yield _Request(key, position, site, vector, value, constant)

    def root(self, root: Root) -> _Request:
        """The function of a root, which reads one token."""
        position = int(root.cotangent[0].abs().sum(dim=1).argmax())
        key = self.catalogue.key(Source("root", None, None, None))
        vector = root.cotangent[0, position]
        return _Request(key, position, root.site, vector, root.value, root.constant, None, _OF_ROOT, 2 * _STEPS)

    def taken_apart(self, wave: Sequence[_Request]) -> list[_Request]:
        """Make the functions of a wave, numbered in its order; returns those that go on from them."""
        first = len(self.made)
        by_site: dict[Site, list[int]] = defaultdict(list)
        for number, one in enumerate(wave):
            by_site[one.site].append(number)
        frozen = self.frozen
        batch = max(1, _BLOCK // (frozen.tokens.ids.shape[1] * frozen.model.n_heads * frozen.model.d_model))
        following: list[_Request] = []
        for numbers in by_site.values():
            for start in range(0, len(numbers), batch):
                part = numbers[start : start + batch]
                following += self._batch([wave[number] for number in part], [first + number for number in part])
        return following

    def _batch(self, wanted: Sequence[_Request], numbers: Sequence[int]) -> Iterator[_Request]:
        """Make functions of one site."""
        site = wanted[0].site
        positions = torch.tensor([one.position for one in wanted], device=self.frozen.replaced.device)
        vectors = torch.stack([one.vector for one in wanted])
        rows = repeated(self.frozen, len(wanted))
        table = take_apart(rows, self.catalogue, site, positions, vectors, self.limits.terms)
        layer, values = self._values(site, positions, vectors)
        for row, (one, number) in enumerate(zip(wanted, numbers, strict=True)):
            lines = slice(table.starts[row], table.starts[row + 1])
            self.made[number] = _FunctionTerms(
                one,
                layer,
                values[row, :, : one.position + 1],
                table.keys[lines],
                table.by_head[lines],
                one.constant + float(table.constants[row]),
                table.counts[row],
                table.totals[row],
            )
        taken: dict[int, int] = defaultdict(int)
        for term in table.going_on:
            one = wanted[term.row]
            taken[term.row] += 1
            if one.steps > 0 and taken[term.row] <= one.branches:
                limits = one.branches, one.steps - 1
                function = term.key, term.position, term.site, term.vector, term.value
                yield _Request(*function, 0.0, numbers[term.row], *limits)

    def _values(self, site: Site, positions: Tensor, vectors: Tensor) -> tuple[int | None, np.ndarray]:
        """The layer that functions look through, and their v . w, (functions, heads, sources); no heads without one."""
        if site.kind not in ("z", "attn_out"):
            return None, np.zeros((len(vectors), 0, self.frozen.tokens.ids.shape[1]))
        layer = site.layer or 0
        if site.kind == "attn_out":
            vectors, _ = self.frozen.through_output(layer, vectors, at=(torch.zeros_like(positions), positions))
        values = self.frozen.repeated_values(layer)[0]
        return layer, torch.einsum("fhd,khd->fhk", self.frozen.by_head(vectors), values).double().cpu().numpy()

    def scores(self) -> Iterator[ScoreAttribution]:
        """Scores of the heads and pairs of positions that brought the largest shares of all functions together."""
        layers = sorted({one.layer for one in self.made.values() if one.layer is not None})
        patterns = {layer: self.frozen.values[Site("pattern", layer)][0].double().cpu().numpy() for layer in layers}
        brought = {layer: np.zeros_like(pattern) for layer, pattern in patterns.items()}
        for one in self.made.values():
            if one.layer is None:
                continue
            query, seen = one.asked.position, one.values.shape[1]
            parts = np.abs(one.values * patterns[one.layer][:, query, :seen])
            brought[one.layer][:, query, :seen] += parts / max(parts.sum(), np.finfo(float).tiny)
        if not layers:
            return
        every = np.stack(list(brought.values()))
        order = np.argsort(-every, axis=None, kind="stable")[: self.limits.scores]
        chosen = [place for place in zip(*np.unravel_index(order, every.shape), strict=True) if every[place] > 0]
        for place in sorted({int(one[0]) for one in chosen}):
            maps = HeadMaps(self.frozen, layers[place])
            for which, head, query, key in chosen:
                if which == place:
                    yield attribute_score(maps, int(head), int(query), int(key))

    def finished(self, scores: Sequence[ScoreAttribution]) -> tuple[Items, tuple[Function, ...], tuple[PairScore, ...]]:
        """Everything that was made, keys replaced by lines of the items."""
        listed = [[(pair[0], pair[1], value) for *pair, value in score.top(self.limits.pairs)] for score in scores]
        sources = {source: self.catalogue.key(source) for pairs in listed for one in pairs for source in one[:2]}
        keys = [np.array(list(sources.values()), dtype=np.int64)]
        keys += [np.append(one.keys, one.asked.key) for one in self.made.values()]
        every = np.unique(np.concatenate(keys))

        def lines(wanted: Sequence[int]) -> Column:
            return _lines(every, wanted)

        functions = tuple(_function(self.made[number], every) for number in range(len(self.made)))
        found = tuple(
            PairScore(
                score.layer,
                score.head,
                score.query,
                score.key,
                score.score,
                lines([sources[query] for query, _, _ in pairs]),
                lines([sources[key] for _, key, _ in pairs]),
                Column.of([value for _, _, value in pairs], "float32"),
                score.table.numel(),
                score.remainder,
            )
            for score, pairs in zip(scores, listed, strict=True)
        )
        return self.catalogue.items(every), functions, found


def _function(one: _FunctionTerms, every: np.ndarray) -> Function:
    heads = np.argsort(-np.abs(one.by_head), axis=1, kind="stable")[:, : 0 if one.layer is None else _HEADS]
    by_head = np.take_along_axis(one.by_head, heads, axis=1)
    return Function(
        int(np.searchsorted(every, one.asked.key)),
        one.asked.parent,
        one.asked.value,
        one.constant,
        one.layer,
        Column.of(one.values, "float32"),
        _lines(every, one.keys),
        Column.of(one.by_head.sum(axis=1), "float32"),
        Column.of(heads, "uint8"),
        Column.of(by_head, "float32"),
        Column.of(one.counts, "int32"),
        Column.of(one.totals, "float32"),
    )


def _lines(every: np.ndarray, keys: Sequence[int] | np.ndarray) -> Column:
    return Column.of(np.searchsorted(every, keys), "uint16" if len(every) < 2**16 else "int32")
