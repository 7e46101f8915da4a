"""The part of all relations that prompts light up, in columns."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import UsageError
from gossamer.relations.graph import RelationGraph
from gossamer.relations.latents import Csr
from gossamer.relations.measures import DECODER_COSINE, MEASURES, Floats, Ints, pearson_interval
from gossamer.relations.prompt_latents import PromptActivations
from gossamer.relations.relation import RelatedPairs, Relation, top_of_each
from gossamer.relations.relations_data import PromptFacts, PromptGraph, RelationLimits
from gossamer.results.column import Column
from gossamer.statistics import wilson

# Of a latent, its dictionary's place and its number, as one number.
_WIDTH = 2**32


def prompt_graph(
    relations: Sequence[Relation],
    names: Sequence[str],
    prompts: Sequence[PromptActivations],
    communities: tuple[RelationGraph, Ints] | None,
    limits: RelationLimits,
) -> tuple[PromptGraph, tuple[PromptFacts, ...]]:
    """Latents that some prompt lights up, kept pairs between them, and what each prompt lights up at each token.

    Args:
        names: of the dictionaries, in order; edges go from one to a later one.
        communities: a graph, and the community of each of its nodes.

    Raises:
        UsageError: a prompt lacks a dictionary.
    """
    active, maximum = _of_text(relations)
    lit = [[_lit(_latents(one, name), maximum[name], limits) for name in names] for one in prompts]
    numbers = [place * _WIDTH + found[1] for one in lit for place, found in enumerate(one)]
    keys = np.unique(np.concatenate(numbers)).astype(np.int64)
    facts = tuple(_prompt(one, names, found, keys) for one, found in zip(prompts, lit, strict=True))
    ahead = [one for one in relations if names.index(one.pair.upstream) < names.index(one.pair.downstream)]
    kept = {name: np.zeros(len(active[name]), np.int64) for name in names}
    for one in ahead:
        for name, own in zip(one.pair, (one.kept.i, one.kept.j), strict=True):
            kept[name] += np.bincount(own, minlength=len(kept[name]))
    dictionary, latent = keys // _WIDTH, keys % _WIDTH
    latents = [latent[dictionary == place] for place in range(len(names))]
    nodes = [np.concatenate([of[name][one] for name, one in zip(names, latents, strict=True)]) for of in (active, kept)]
    tops = np.concatenate([maximum[name][one] for name, one in zip(names, latents, strict=True)])
    together = np.zeros((len(facts), len(keys)), bool)
    for row, lit_by in zip(together, facts, strict=True):
        row[lit_by.node.values] = True
    edges = _edges(ahead, names, keys, together, limits)
    graph = PromptGraph(
        dictionary=Column.of(dictionary, "uint16"),
        latent=Column.of(latent, "int32"),
        active=Column.of(nodes[0], "int32"),
        maximum=Column.of(tops, "float32"),
        kept=Column.of(nodes[1], "int32"),
        community=Column.of(_labels(communities, names, keys), "int32"),
        head=Column.of(edges.numbers[0], "int32"),
        tail=Column.of(edges.numbers[1], "int32"),
        n=Column.of(edges.numbers[2], "int32"),
        m=Column.of(edges.numbers[3], "int32"),
        c=Column.of(edges.numbers[4], "int32"),
        values={name: Column.of(one, "float32") for name, one in edges.values.items()},
        intervals={
            name: (Column.of(low, "float32"), Column.of(high, "float32"))
            for name, (low, high) in edges.intervals.items()
        },
        left_out=edges.left_out,
    )
    return graph, facts


def _prompt(
    prompt: PromptActivations, names: Sequence[str], lit: Sequence[tuple[Ints, Ints, Floats]], keys: Ints
) -> PromptFacts:
    nodes = [np.searchsorted(keys, place * _WIDTH + latents) for place, (_, latents, _) in enumerate(lit)]
    tokens, activations = ([one[part] for one in lit] for part in (0, 2))
    counts = [np.diff(_latents(prompt, name).indptr) for name in names]
    return PromptFacts(
        prompt.text,
        prompt.tokens,
        prompt.counted,
        Column.of(np.concatenate(nodes), "int32"),
        Column.of(np.concatenate(tokens), "int32"),
        Column.of(np.concatenate(activations), "float32"),
        Column.of(np.concatenate(counts), "int32"),
    )


def _of_text(relations: Sequence[Relation]) -> tuple[dict[str, Ints], dict[str, Floats]]:
    """Of each dictionary's latents, tokens at which they are active, and their largest activation."""
    active, maximum = {}, {}
    for one in relations:
        for name, sums in zip(one.pair, (one.upstream, one.downstream), strict=True):
            active[name], maximum[name] = sums.active, sums.maximum
    return active, maximum


def _latents(prompt: PromptActivations, name: str) -> Csr:
    if name not in prompt.latents:
        raise UsageError(f"prompts: latents of {name} expected, found those of {', '.join(prompt.latents) or 'none'}")
    return prompt.latents[name]


def _lit(latents: Csr, maximum: Floats, limits: RelationLimits) -> tuple[Ints, Ints, Floats]:
    """Token, latent and activation of what is lit, the most strongly active at each token."""
    tokens = np.repeat(np.arange(latents.shape[0]), np.diff(latents.indptr))
    values = np.where(latents.data >= limits.relative * maximum[latents.indices], latents.data, 0.0)
    chosen = top_of_each(tokens, values, limits.latents)
    return tokens[chosen], latents.indices[chosen].astype(np.int64), values[chosen]


def _labels(communities: tuple[RelationGraph, Ints] | None, names: Sequence[str], keys: Ints) -> Ints:
    """The community of each node; -1 of those that are not in the graph."""
    if communities is None or not len(communities[1]):
        return np.full(len(keys), -1)
    graph, labels = communities
    places = np.array([names.index(name) if name in names else len(names) for name in graph.names])
    own = places[graph.sources] * _WIDTH + graph.latents
    order = np.argsort(own)
    at = np.minimum(np.searchsorted(own[order], keys), len(own) - 1)
    return np.where(own[order][at] == keys, labels[order][at], -1)


class _Edges(NamedTuple):
    """Kept pairs: head, tail, n, m and c in rows; by measure, values and ends of intervals; how many are not here."""

    numbers: Ints
    values: dict[str, Floats]
    intervals: dict[str, Floats]
    left_out: int


def _edges(
    relations: Sequence[Relation],
    names: Sequence[str],
    keys: Ints,
    together: NDArray[np.bool_],
    limits: RelationLimits,
) -> _Edges:
    """Kept pairs between nodes that one prompt lights up; of too many, those that rank highest by any measure.

    Args:
        together: whether each prompt lights each node up.
    """
    # Others, such as the likeness of explanations, are known of best partners alone.
    of_pairs = (*MEASURES, DECODER_COSINE)
    measures = list(dict.fromkeys(name for one in relations for name in one.forward if name in of_pairs))
    found = [_between(one, [names.index(name) * _WIDTH for name in one.pair], keys, measures) for one in relations]
    numbers = np.concatenate([np.zeros((5, 0), np.int64), *(one.numbers for one in found)], axis=1)
    values, intervals = (
        {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]} if parts else {}
        for parts in ([one.values for one in found], [one.intervals for one in found])
    )
    chosen = np.flatnonzero((together[:, numbers[0]] & together[:, numbers[1]]).any(axis=0))
    left_out = max(len(chosen) - limits.edges, 0)
    if left_out:
        # NaN ranks last.
        ranks = [np.argsort(np.argsort(-one[chosen], kind="stable"), kind="stable") for one in values.values()]
        best = np.argsort(np.min(ranks, axis=0), kind="stable")[: limits.edges]
        chosen = chosen[np.sort(best)]
    values, intervals = ({name: one[..., chosen] for name, one in part.items()} for part in (values, intervals))
    return _Edges(numbers[:, chosen], values, intervals, left_out)


def _between(relation: Relation, ends: Sequence[int], keys: Ints, measures: Sequence[str]) -> _Edges:
    inside = np.isin(relation.kept.i + ends[0], keys) & np.isin(relation.kept.j + ends[1], keys)
    pairs = relation.kept[inside]
    counts = relation.counts(pairs)
    nodes = [np.searchsorted(keys, own + start) for own, start in zip((pairs.i, pairs.j), ends, strict=True)]
    values = {name: _values(relation, name, pairs) for name in measures}
    both = {"sufficiency": wilson(counts.c, counts.n), "necessity": wilson(counts.c, counts.m)}
    if "pearson" in measures:
        both["pearson"] = pearson_interval(counts)
    intervals = {name: np.stack(one) for name, one in both.items()}
    return _Edges(np.stack([*nodes, counts.n, counts.m, counts.c]), values, intervals, 0)


def _values(relation: Relation, measure: str, pairs: RelatedPairs) -> Floats:
    """NaN where it was not measured."""
    known = pairs.decoder_cosine is not None if measure == DECODER_COSINE else measure in relation.forward
    return relation.values(measure, pairs) if known else np.full(len(pairs), np.nan)
