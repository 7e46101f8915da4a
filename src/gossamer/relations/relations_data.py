"""What a page or a workbench draws of relations: plain numbers in columns, nothing of how they were counted.

The file is described in docs/relations.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.display import plural, short_repr
from gossamer.features.feature_card import FeatureExample
from gossamer.relations.causal import Ablations
from gossamer.relations.community_facts import CommunityFacts, size_facts
from gossamer.relations.gates import Gate
from gossamer.relations.lifecycle import LifecycleCounts
from gossamer.results.column import Column
from gossamer.results.document import Format, Older
from gossamer.results.values import to_json


@dataclass(frozen=True)
class SourceFacts:
    """A dictionary: its name, the layer in it (None: it names none), and how many latents it has."""

    name: str
    layer: int | None
    latents: int


@dataclass(frozen=True)
class SweepCurve:
    """How many judged latents have a partner at least so alike, at each of `RelationsData.thresholds`.

    Attributes:
        measure: by which.
        forward, backward: upstream latents, and downstream ones.
        judged: latents with enough support, upstream and downstream.
        null_forward, null_backward: what shuffled documents give; None without a null.
    """

    measure: str
    forward: Column
    backward: Column
    judged: tuple[int, int]
    null_forward: Column | None
    null_backward: Column | None


@dataclass(frozen=True)
class PairCurves:
    """A pair of dictionaries: tokens it was counted on, kept pairs of latents, and a curve for each measure."""

    upstream: str
    downstream: str
    tokens: int
    kept: int
    sweeps: tuple[SweepCurve, ...]


@dataclass(frozen=True)
class PairGates:
    """The gates of a pair of dictionaries, by the largest gain.

    Attributes:
        upstream, downstream: the dictionaries.
        found: how many there are, of which the first are listed in `gates`.
        confirmed: of each listed one, whether its output does what the gate says when its inputs are ablated; None: too
            rare to tell. Empty: nothing was ablated.
    """

    upstream: str
    downstream: str
    found: int
    gates: tuple[Gate, ...]
    confirmed: tuple[bool | None, ...] = ()


@dataclass(frozen=True)
class PromptGraph:
    """All latents that some prompt lights up, and the kept pairs of which both ends are lit by one, in columns.

    Attributes:
        dictionary, latent: of each node; `active`: its tokens in the text, `maximum`: its largest activation there.
        kept: kept pairs of it, lit or not.
        community: in the first of `RelationsData.communities`; -1 for none.
        head, tail: nodes of each edge, upstream and downstream.
        n, m, c: tokens at which the upstream, the downstream, and both latents are active.
        values: of each edge by measure; NaN where it was not measured.
        intervals: lower and upper ends of 95 % intervals, of measures that have one.
        left_out: edges beyond the limit, those that rank lowest by every measure.
    """

    dictionary: Column
    latent: Column
    active: Column
    maximum: Column
    kept: Column
    community: Column
    head: Column
    tail: Column
    n: Column
    m: Column
    c: Column
    values: dict[str, Column]
    intervals: dict[str, tuple[Column, Column]]
    left_out: int


@dataclass(frozen=True)
class PromptFacts:
    """A prompt and what it lights up.

    Attributes:
        text: the prompt.
        tokens: their texts; `counted`: at which of them dictionaries count.
        node, position, activation: of each lit latent at each token, node of the graph.
        active: latents above 0, by dictionary and token, (dictionaries, tokens) row by row: how many are not listed.
    """

    text: str
    tokens: tuple[str, ...]
    counted: tuple[bool, ...]
    node: Column
    position: Column
    activation: Column
    active: Column


@dataclass(frozen=True)
class LatentFacts:
    """What is said of one latent.

    Attributes:
        words: that it raises most, or that it fires on.
        explanation: what it is said to stand for.
        link: address of its page elsewhere.
        examples: where it fires most.
    """

    words: tuple[str, ...] = ()
    explanation: str | None = None
    link: str | None = None
    examples: tuple[FeatureExample, ...] = ()


@dataclass(frozen=True)
class RelationLimits:
    """How much a file holds; what is left out is counted.

    Attributes:
        relative: share of its largest activation from which on a prompt lights a latent up.
        latents: of each dictionary at each token, the most strongly active ones.
        edges: between lit latents.
        gates: of each pair of dictionaries.
        communities: that are listed; `members`: of each.
    """

    relative: float = 0.1
    latents: int = 24
    edges: int = 20_000
    gates: int = 500
    communities: int = 100
    members: int = 60


@dataclass(frozen=True)
class RelationsData:
    """Relations of some dictionaries, to be looked at.

    Attributes:
        model: title of the model.
        text: what was read.
        dictionaries: in the order of sites.
        pairs: of dictionaries.
        chains: runs of dictionaries of which each goes on to the nearest one that it was related to.
        thresholds: of the sweeps.
        edge_thresholds: by measure, from which value on at most 5 % of all pairs are expected by chance; measures that
            nothing calibrates have none.
        lifecycles: of pairs, at several settings; empty: not asked for.
        gates: None: not looked for.
        communities: of one graph, by several methods; empty: not looked for.
        graph: None: no prompts.
        prompts: what they light up.
        effects: None: not measured.
        latents: by dictionary and number.
        limits: what was left out.
    """

    model: str
    text: str
    dictionaries: tuple[SourceFacts, ...]
    pairs: tuple[PairCurves, ...]
    chains: tuple[tuple[str, ...], ...]
    thresholds: Column
    edge_thresholds: dict[str, float]
    lifecycles: tuple[LifecycleCounts, ...]
    gates: tuple[PairGates, ...] | None
    communities: tuple[CommunityFacts, ...]
    graph: PromptGraph | None
    prompts: tuple[PromptFacts, ...]
    effects: tuple[Ablations, ...] | None
    latents: dict[str, dict[str, LatentFacts]]
    limits: RelationLimits

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.model}, {plural(len(self.pairs), 'pair')} of dictionaries"
        yield plural(len(self.prompts), "prompt")

    def save(self, path: str | Path) -> Path:
        """Write JSON, atomically. Returns the path."""
        return FORMAT.save(path, self)

    @classmethod
    def load(cls, path: str | Path) -> "RelationsData":
        """Read a saved file.

        Raises:
            UsageError: no such file, or another kind of file.
            GossamerError: it is damaged.
        """
        return FORMAT.load(path)


def _from_version_1(body: dict[str, Any]) -> dict[str, Any]:
    """Communities had the sizes of all and said less of the listed ones; ablations stood by measure."""
    names = [one["name"] for one in body["dictionaries"]]
    effects = body["effects"]
    return {
        **body,
        "communities": [_community_of_version_1(one, names) for one in body["communities"]],
        "effects": None if effects is None else [_ablations_of_version_1(one) for one in effects],
    }


def _community_of_version_1(found: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    made = dict(found)
    sizes, labels = np.array(Column.parse(made.pop("sizes")).values, np.int64), []
    for size, one in zip(sizes.tolist(), made.pop("listed"), strict=False):
        # As far as its listed members say it.
        layers = [names[place] for place in sorted(set(Column.parse(one["dictionary"]).tolist()))]
        labels.append({"size": size, "layers": layers, **one})
    return {**made, **to_json(size_facts(sizes)), "labels": labels}


def _ablations_of_version_1(found: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {name: found[name] for name in ("upstream", "downstream", "agreement")}
    made |= {"i": [], "j": [], "effect": [], "absolute": [], "tokens": [], "drawn": {}, "values": {}}
    for one in found["points"]:
        columns = {name: Column.parse(one[name]).tolist() for name in ("i", "j", "effect", "value")}
        first = len(made["i"])
        made["drawn"][one["measure"]] = list(range(first, first + len(columns["i"])))
        made["values"][one["measure"]] = columns["value"]
        for name in ("i", "j", "effect"):
            made[name] += columns[name]
    return made


FORMAT: Format[RelationsData] = Format(
    "gossamer.relations",
    2,
    RelationsData,
    "data of relations",
    {"gossamer.relations.1": Older(_from_version_1)},
)
