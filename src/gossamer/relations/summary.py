"""From relations and what was found in them to the data that a page or a workbench draws."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gossamer.errors import UsageError
from gossamer.features.feature import Feature
from gossamer.features.feature_card import CardSource
from gossamer.features.lens import logit_lens, writes_to_stream
from gossamer.features.links import neuronpedia_link
from gossamer.model.site import Site
from gossamer.relations.causal import AblationCheck, Ablations
from gossamer.relations.communities import Communities
from gossamer.relations.community_facts import CommunityFacts, community_facts, listed_members
from gossamer.relations.counting import SitePair
from gossamer.relations.error_share import ErrorShare
from gossamer.relations.gate_ablation import GateCheck
from gossamer.relations.gates import Gate
from gossamer.relations.graph import RelationGraph, layer_of
from gossamer.relations.latents import LatentSource
from gossamer.relations.lifecycle import Lifecycle, LifecycleSettings, lifecycle, threshold_sweep
from gossamer.relations.measures import Ints
from gossamer.relations.prompt_graph import prompt_graph
from gossamer.relations.prompt_latents import PromptActivations
from gossamer.relations.relation import Relation
from gossamer.relations.relations_data import (
    LatentFacts,
    PairCurves,
    PairGates,
    PromptGraph,
    RelationLimits,
    RelationsData,
    SourceFacts,
    SweepCurve,
)
from gossamer.relations.study_results import RelationStudy
from gossamer.results.column import Column

# Asked for latents of a dictionary, by its name, what is known of them; it need not know all.
Describe = Callable[[str, Sequence[int]], Mapping[int, LatentFacts]]
_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_LABEL_WORDS = 4


def relations_data(
    relations: Sequence[Relation],
    *,
    model: str,
    text: str = "",
    lifecycles: Sequence[Lifecycle] = (),
    gates: Mapping[SitePair, Sequence[Gate] | Sequence[GateCheck]] | None = None,
    graph: RelationGraph | None = None,
    communities: Sequence[Communities] = (),
    checks: Mapping[SitePair, AblationCheck] | None = None,
    prompts: Sequence[PromptActivations] = (),
    describe: Describe | None = None,
    limits: RelationLimits | None = None,
) -> RelationsData:
    """Bring together what is to be looked at (:func:`gossamer.report.write_relations_page`).

    What is not given is left out, and the page says how it is made. Bytes in a file: 60 a gate, 100 an edge between lit
    latents, 16 a lit latent at a token, 5 a listed member of a community; words and examples of named latents.

    Args:
        relations: pairs of dictionaries of one text. Those that go upstream or from a dictionary to itself have no
            edges in a prompt's graph.
        model: its title; `text`: what was read, in words.
        lifecycles: of pairs, at any settings (:func:`lifecycles_of` for several).
        gates: of pairs, with what ablating their inputs did or without.
        graph: of which `communities` are partitions; those of the first colour the graphs of prompts.
        checks: of pairs that are among `relations`.
        prompts: what they light up (:func:`prompt_latents`); `limits`: how much a file holds.
        describe: what is known of latents; asked once for each dictionary (:func:`described`).

    Raises:
        UsageError: no relations, communities without a graph, a check of another pair, a prompt lacking a dictionary.
    """
    if not relations:
        raise UsageError("relations: at least one expected, found none")
    limits, widths = limits or RelationLimits(), _widths(relations)
    names = list(widths)
    listed = [_listed(graph, one, limits) for one in communities]
    labels = None if graph is None or not communities else (graph, communities[0].labels)
    lit, shown = prompt_graph(relations, names, prompts, labels, limits) if prompts else (None, ())
    found_gates = _gates(gates, limits)
    members = [node for one in listed for node in one]
    latents = _described(_named(lit, found_gates, names), graph, members, describe)
    measures = list(dict.fromkeys(measure for one in relations for measure in one.forward))
    return RelationsData(
        *(model, text),
        dictionaries=tuple(SourceFacts(name, layer_of(name), width) for name, width in widths.items()),
        pairs=tuple(_pair(one) for one in relations),
        chains=chains(names, [one.pair for one in relations]),
        thresholds=Column.of(threshold_sweep(relations[0], measures[0]).thresholds, "float32"),
        edge_thresholds=_edge_thresholds(relations, measures),
        lifecycles=tuple(one.tally for one in lifecycles),
        gates=found_gates,
        communities=_communities(graph, communities, listed, latents, names),
        graph=lit,
        prompts=shown,
        effects=None if checks is None else tuple(_effects(pair, one, relations) for pair, one in checks.items()),
        latents={name: {str(latent): facts for latent, facts in own.items()} for name, own in latents.items()},
        limits=limits,
    )


def lifecycles_of(
    relations: Sequence[Relation],
    *,
    measures: Sequence[str] | None = None,
    thresholds: Sequence[float] = _THRESHOLDS,
    matchings: Sequence[str] = ("best", "mutual"),
    errors: Mapping[SitePair, ErrorShare] | None = None,
) -> list[Lifecycle]:
    """What becomes of features at several settings, to choose among on a page.

    Args:
        measures: None: all that every relation has.
        errors: what the next dictionaries' errors hold (:func:`error_share`).

    Raises:
        UsageError: those of :func:`lifecycle`.
    """
    known = [name for name in relations[0].forward if all(name in one.forward for one in relations)]
    return [
        lifecycle(relation, LifecycleSettings(measure, threshold, matching), (errors or {}).get(relation.pair))
        for measure in measures or known
        for threshold in thresholds
        for matching in matchings
        for relation in relations
    ]


def described(sources: Mapping[str, LatentSource], *, words: int = 6) -> Describe:
    """Logit-lens words of dictionaries that write into the residual stream, and links to Neuronpedia where their files
    name a source there."""

    def describe(name: str, latents: Sequence[int]) -> dict[int, LatentFacts]:
        source = sources[name]
        dictionary = source.dictionary
        lens: list[Any] = [None] * len(latents)
        if writes_to_stream(dictionary.site_out or source.site):
            lens = list(logit_lens(source.model, dictionary, latents, words=words))
        return {
            latent: LatentFacts(
                () if read is None else tuple(word for word, _ in read.promotes),
                link=neuronpedia_link(dictionary, latent),
            )
            for latent, read in zip(latents, lens, strict=True)
        }

    return describe


def from_cards(source: CardSource, *, examples: int = 2) -> Describe:
    """What a store's cards say: words, explanation, link, and some examples. Of dictionaries beside a site's first one
    (`NAME@LABEL`) it says nothing."""

    def describe(name: str, latents: Sequence[int]) -> dict[int, LatentFacts]:
        if "@" in name:
            return {}
        site = Site.parse(name)
        cards = source.cards([Feature(site, latent) for latent in latents])
        return {
            feature.latent: LatentFacts(
                tuple(word for word, _ in one.promotes), one.explanation, one.link, one.examples[:examples]
            )
            for feature, one in cards.items()
        }

    return describe


def from_words(words: Mapping[str, Sequence[Sequence[str]]]) -> Describe:
    """Words of all latents of each dictionary, such as those they fire on (:func:`fired_on`)."""

    def describe(name: str, latents: Sequence[int]) -> dict[int, LatentFacts]:
        return {latent: LatentFacts(tuple(words[name][latent])) for latent in latents}

    return describe


def of_study(
    study: RelationStudy, relations: Mapping[SitePair, Relation]
) -> tuple[dict[SitePair, Sequence[Gate] | Sequence[GateCheck]] | None, dict[SitePair, AblationCheck] | None]:
    """The gates and the ablations that a study found, as :func:`relations_data` takes them; None of parts not done.

    Args:
        relations: of the study's folder (:func:`load_folder`).
    """
    named = [(SitePair(one.upstream, one.downstream), one.gate) for one in study.found.gates]
    gates: dict[SitePair, Sequence[Gate] | Sequence[GateCheck]] = {}
    for search in study.found.searches:
        own = SitePair(search.upstream, search.downstream)
        gates[own] = [gate for pair, gate in named if pair == own]
    gates |= {SitePair(one.upstream, one.downstream): one.checks for one in study.found.checked}
    pairs = {SitePair(one.upstream, one.downstream): one for one in study.found.ablations}
    checks = {pair: one.check(relations[pair]) for pair, one in pairs.items()}
    return gates if "gates" in study.parts else None, checks if "causal" in study.parts else None


def _widths(relations: Sequence[Relation]) -> dict[str, int]:
    """Latents of each dictionary, in the order in which a forward pass reaches them, where their names say it."""
    found = {
        name: len(side.active)
        for one in relations
        for name, side in zip(one.pair, (one.upstream, one.downstream), strict=True)
    }
    try:
        order = sorted(found, key=lambda name: (Site.parse(name.partition("@")[0]), name))
    except UsageError:
        order = list(found)
    return {name: found[name] for name in order}


def chains(names: Sequence[str], pairs: Sequence[SitePair]) -> tuple[tuple[str, ...], ...]:
    """Runs of dictionaries (at least two) of which each goes on to the nearest one after it that it was related to."""
    place = {name: number for number, name in enumerate(names)}
    ahead = [pair for pair in pairs if place[pair.upstream] < place[pair.downstream]]
    after = {one: min((to for start, to in ahead if start == one), key=place.__getitem__) for one, _ in ahead}
    before = {to: max((start for start, other in ahead if other == to), key=place.__getitem__) for _, to in ahead}
    links = {one: to for one, to in after.items() if before[to] == one}
    found = []
    for name in names:
        if name in links and name not in links.values():
            run = [name]
            while run[-1] in links:
                run.append(links[run[-1]])
            found.append(tuple(run))
    return tuple(found)


def _pair(relation: Relation) -> PairCurves:
    curves = []
    for measure in relation.forward:
        swept = threshold_sweep(relation, measure)
        null = [None if one is None else Column.of(one, "int32") for one in (swept.null_forward, swept.null_backward)]
        reached = [Column.of(one, "int32") for one in (swept.forward, swept.backward)]
        curves.append(SweepCurve(measure, reached[0], reached[1], swept.judged, null[0], null[1]))
    return PairCurves(*relation.pair, relation.tokens, len(relation.kept), tuple(curves))


def _edge_thresholds(relations: Sequence[Relation], measures: Sequence[str]) -> dict[str, float]:
    """Of measures whose null leaves some pairs above chance in every relation."""
    found = {}
    for measure in measures:
        if all(one.null is not None and measure in one.histograms for one in relations):
            value = max(one.edge_threshold(measure) for one in relations)
            if value < max(one.forward[measure].value.max(initial=0) for one in relations):
                found[measure] = float(value)
    return found


def _gates(
    found: Mapping[SitePair, Sequence[Gate] | Sequence[GateCheck]] | None, limits: RelationLimits
) -> tuple[PairGates, ...] | None:
    if found is None:
        return None
    made = []
    for pair, gates in found.items():
        listed = gates[: limits.gates]
        checks = [one for one in listed if isinstance(one, GateCheck)]
        confirmed = tuple(one.confirmed if one.judged else None for one in checks)
        kept = tuple(one.gate if isinstance(one, GateCheck) else one for one in listed)
        made.append(PairGates(*pair, len(gates), kept, confirmed))
    return tuple(made)


def _listed(graph: RelationGraph | None, communities: Communities, limits: RelationLimits) -> list[Ints]:
    """The nodes that are listed of each community that is."""
    if graph is None or len(communities.labels) != len(graph):
        found = "none" if graph is None else f"one of {len(graph)} nodes"
        raise UsageError(f"communities: the graph of their {len(communities.labels)} nodes expected, found {found}")
    return listed_members(graph, communities, limits.communities, limits.members)


def _communities(
    graph: RelationGraph | None,
    found: Sequence[Communities],
    listed: Sequence[Sequence[Ints]],
    latents: Mapping[str, Mapping[int, LatentFacts]],
    names: Sequence[str],
) -> tuple[CommunityFacts, ...]:
    """Facts of every partition, with the words that listed members share."""
    facts: list[CommunityFacts] = []
    if graph is None:
        return ()
    for one, members in zip(found, listed, strict=True):
        words = {}
        for node in np.concatenate([np.zeros(0, np.int64), *members]).tolist():
            own = latents.get(graph.names[graph.sources[node]], {}).get(int(graph.latents[node]))
            if own is not None:
                words[node] = [word.strip().lower() for word in own.words if word.strip()]
        places = {name: place for place, name in enumerate(names)}
        facts.append(community_facts(graph, one, words, places, members=members, count=_LABEL_WORDS))
    return tuple(facts)


def _effects(pair: SitePair, check: AblationCheck, relations: Sequence[Relation]) -> Ablations:
    relation = next((one for one in relations if one.pair == pair), None)
    if relation is None:
        known = ", ".join(str(one.pair) for one in relations)
        raise UsageError(f"causal check: one of {known} expected, found {pair}")
    return Ablations.of(relation, check)


def _described(
    named: Mapping[str, set[int]], graph: RelationGraph | None, members: Sequence[Ints], describe: Describe | None
) -> dict[str, dict[int, LatentFacts]]:
    """What is known of latents that are named, and of members of communities: these are many and have no examples."""
    if describe is None:
        return {}
    asked = {name: set(own) for name, own in named.items()}
    if graph is not None and members:
        for node in np.concatenate(members).tolist():
            asked[graph.names[graph.sources[node]]].add(int(graph.latents[node]))
    found = {name: dict(describe(name, sorted(own))) for name, own in asked.items() if own}
    for name, own in found.items():
        for latent in set(own) - named[name]:
            own[latent] = replace(own[latent], examples=())
    return found


def _named(
    graph: PromptGraph | None,
    gates: Sequence[PairGates] | None,
    names: Sequence[str],
) -> dict[str, set[int]]:
    """The latents that a page names, of each dictionary, beside members of communities."""
    found: dict[str, set[int]] = {name: set() for name in names}
    if graph is not None:
        for place, number in zip(graph.dictionary.tolist(), graph.latent.tolist(), strict=True):
            found[names[place]].add(number)
    for one in gates or ():
        for gate in one.gates:
            found[one.upstream].update(gate.inputs)
            found[one.downstream].add(gate.output)
    return found
