"""What a page or a workbench draws of how information moved: plain numbers in columns, nothing of how they were made.

The file is described in docs/attention.md. Contributions are of a function's own value ("local"); along a path shares
multiply, and whoever draws it multiplies them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gossamer.attention.source import Kind
from gossamer.display import plural, short_repr
from gossamer.results.column import Column
from gossamer.results.document import Format

KINDS: tuple[str, ...] = get_args(Kind)
# What a reader switches on and off together.
GROUPS = (
    "embeddings",
    "residual latents",
    "attention latents",
    "MLP latents",
    "attention",
    "MLP",
    "skip",
    "errors",
    "biases",
)


@dataclass(frozen=True)
class Items:
    """What contributes, a line for each, in columns; functions and scores name items by their line.

    Attributes:
        sites: names of sites.
        kind: place in `KINDS`.
        group: place in `GROUPS`; of the root, that of residual latents, which means nothing.
        site: place in `sites`; -1 for the root and for biases, which are sums over sites.
        latent: which; -1 where the item is no latent.
        position: token, from 0; -1 for the root.
        activation: of latents; 0 for other items.
    """

    sites: tuple[str, ...]
    kind: Column
    group: Column
    site: Column
    latent: Column
    position: Column
    activation: Column

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.kind), "item")


@dataclass(frozen=True)
class Function:
    """A value that is taken apart: value = constant + sum over all terms, the listed ones and those left out.

    Attributes:
        item: whose value it is: the root, a latent (its pre-activation), or a term of another function that goes on
            (attention without a dictionary, the linear path of a transcoder).
        parent: of a term of another function, which function; None for others.
        value: what is taken apart; of a latent that is active, its activation.
        constant: the part that no term brings: the latent's own bias, an output bias. With a layer, the rest of `value`
            is pattern times values, summed.
        layer: the attention layer whose heads moved the terms to the function's token; None where none did.
        values: v . w by head and source, (heads, sources) row by row, of the tokens up to its own; times the pattern it
            is what each head brings from each token. Empty without a layer.
        items: the terms that are listed, the largest first, then biases by position.
        contributions: their parts of the value.
        heads: for each listed term, the heads that brought most of it, as many for each. Empty without a layer.
        by_head: what those heads brought.
        counts: number of terms of each group, listed or not (see `GROUPS`).
        totals: sum of the terms of each group, listed or not.
    """

    item: int
    parent: int | None
    value: float
    constant: float
    layer: int | None
    values: Column
    items: Column
    contributions: Column
    heads: Column
    by_head: Column
    counts: Column
    totals: Column

    __repr__ = short_repr


@dataclass(frozen=True)
class PairScore:
    """Why a head attended from a token to another: the largest pairs of its score before the softmax.

    Attributes:
        layer, head, query, key: of what.
        score: what goes into the softmax.
        query_items, key_items: the two parts of each listed pair.
        contributions: of each pair.
        pairs: number of all pairs.
        remainder: what is no sum over pairs (a cap on scores).
    """

    layer: int
    head: int
    query: int
    key: int
    score: float
    query_items: Column
    key_items: Column
    contributions: Column
    pairs: int
    remainder: float

    __repr__ = short_repr


@dataclass(frozen=True)
class PromptAttribution:
    """One prompt.

    Attributes:
        tokens: their texts; their numbers where the model has no tokenizer.
        counted: at which of them dictionaries count.
        root: number of the function to begin with, if one was asked for.
        target: what it is.
        items: what contributes.
        functions: what was taken apart.
        patterns: by layer, (heads, query, key <= query): of each head row by row, each as long as its query sees.
        active: by dictionary, how many latents are active at each token.
        scores: of the pairs of positions that matter most to the functions.
    """

    tokens: tuple[str, ...]
    counted: tuple[bool, ...]
    root: int | None
    target: str | None
    items: Items
    functions: tuple[Function, ...]
    patterns: tuple[Column, ...]
    active: tuple[Column, ...]
    scores: tuple[PairScore, ...]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.tokens), "token")
        yield plural(len(self.functions), "function")


@dataclass(frozen=True)
class AttributionDictionary:
    """A dictionary of the page.

    Attributes:
        site: what it reads.
        layer: of that site.
        group: place in `GROUPS` of its latents.
        latents: how many it has.
        link: address of its latents' pages but for the latent's number at the end, where there are such pages.
        words: words that a latent raises most (logit lens), by the latent's number, of latents that were taken apart.
    """

    site: str
    layer: int
    group: int
    latents: int
    link: str | None
    words: dict[str, tuple[str, ...]]

    __repr__ = short_repr


@dataclass(frozen=True)
class Limits:
    """How much a file holds.

    Attributes:
        latents: at each token of each dictionary, the most strongly active ones that are taken apart. Latents on the
            largest paths to a root are, too.
        terms: of each function, the largest ones that are listed; biases always are. Of each, the three heads that
            brought most.
        scores: of each prompt, pairs of positions of a head whose score is taken apart.
        pairs: of each score.
    """

    latents: int = 8
    terms: int = 32
    scores: int = 250
    pairs: int = 12

    __repr__ = short_repr


@dataclass(frozen=True)
class AttributionData:
    """How information moved in some prompts, to be looked at.

    Attributes:
        model: title of the model.
        layers, heads: its shape.
        dictionaries: in the order of sites.
        limits: what was left out.
        prompts: the prompts.
        kinds, groups: what the numbers of items' kinds and groups mean.
    """

    model: str
    layers: int
    heads: int
    dictionaries: tuple[AttributionDictionary, ...]
    limits: Limits
    prompts: tuple[PromptAttribution, ...]
    kinds: tuple[str, ...] = KINDS
    groups: tuple[str, ...] = GROUPS

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.model
        yield plural(len(self.prompts), "prompt")
        yield plural(sum(len(one.functions) for one in self.prompts), "function")

    def save(self, path: str | Path) -> Path:
        """Write JSON, atomically. Returns the path."""
        return FORMAT.save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "AttributionData":
        """Read a saved file.

        Raises:
            UsageError: no such file, or another kind of file.
            GossamerError: it is damaged.
        """
        return FORMAT.load(path)


FORMAT: Format[AttributionData] = Format("gossamer.attribution", 1, AttributionData, "attribution data")
