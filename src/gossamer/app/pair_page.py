"""A pair of latents as the page shows it."""

from collections.abc import Iterator

from gossamer.app.related import RelatedFolder
from gossamer.app.schema.base import IntervalShape
from gossamer.app.schema.relations import (
    CausalShape,
    ExampleWords,
    JointExample,
    LatentOfPair,
    MeasuredShape,
    PairPage,
)
from gossamer.app.workbench import UnknownError, Workbench
from gossamer.relations import Relation, SitePair, pair_table
from gossamer.relations.relations_data import PromptFacts
from gossamer.report import text
from gossamer.report.snippets import AFTER, BEFORE, snippets

_EXAMPLES, _JOINT = 6, 12
Latent = tuple[str, int]


def pair_page(bench: Workbench, found: RelatedFolder, a: Latent, b: Latent) -> PairPage:
    """The page of two latents, whichever is upstream.

    Raises:
        UnknownError: their dictionaries were not related.
        UsageError: those of :func:`gossamer.relations.pair_table`.
    """
    known = found.relations
    for upstream, downstream in ((a, b), (b, a)):
        relation = known.get(SitePair(upstream[0], downstream[0]))
        if relation is not None:
            break
    else:
        listed = ", ".join(map(str, known))
        raise UnknownError(f"{a[0]} and {b[0]}: were not related; those are there: {listed}")
    counted = pair_table(relation, upstream[1], downstream[1])
    causal, said = _causal(found, relation, upstream[1], downstream[1])
    return PairPage(
        **bench.said(),
        upstream=latent_of(found, *upstream),
        downstream=latent_of(found, *downstream),
        tokens=counted.tokens,
        table=[[counted.both, counted.upstream_only], [counted.downstream_only, counted.neither]],
        phi=IntervalShape.model_validate(counted.phi),
        lift=IntervalShape.model_validate(counted.lift),
        measures=[
            MeasuredShape(name=name, value=IntervalShape.model_validate(one)) for name, one in counted.measures.items()
        ],
        joint=_joint(found, upstream, downstream),
        causal=causal,
        causal_said=said,
    )


def latent_of(found: RelatedFolder, name: str, latent: int) -> LatentOfPair:
    """One latent with what is known of it."""
    facts = found.facts(name, latent)
    active = next(
        (
            int(side.active[latent])
            for pair, one in found.relations.items()
            for own, side in zip(pair, (one.upstream, one.downstream), strict=True)
            if own == name and latent < len(side.active)
        ),
        0,
    )
    examples = [
        ExampleWords(
            before=("… " if one.cut_left else "") + text.running(one.before),
            token=text.running((one.token,)),
            after=text.running(one.after) + (" …" if one.cut_right else ""),
            activation=one.activation,
        )
        for one in snippets(facts.examples[:_EXAMPLES])
    ]
    explanation = text.visible(facts.explanation) if facts.explanation else None
    words = [text.visible(word) for word in facts.words]
    return LatentOfPair(name=f"{name}/{latent}", words=words, explanation=explanation, active=active, examples=examples)


def _causal(found: RelatedFolder, relation: Relation, i: int, j: int) -> tuple[CausalShape | None, str]:
    effects = found.data.effects
    if effects is None:
        return None, "Nothing was ablated: count with gossamer relate --ablate."
    own = next((one for one in effects if (one.upstream, one.downstream) == tuple(relation.pair)), None)
    if own is None:
        return None, f"No pair of {relation.pair} was ablated."
    place = next((at for at, ends in enumerate(zip(own.i, own.j, strict=True)) if ends == (i, j)), None)
    if place is None:
        return None, f"This pair is not among the {len(own.i):,} of {relation.pair} that were drawn to be ablated."
    finite = [one for one in own.effect if one == one]
    smaller = sum(one < own.effect[place] for one in finite) / max(len(finite), 1)
    shape = CausalShape(
        effect=own.effect[place],
        absolute=own.absolute[place] if own.absolute else None,
        tokens=own.tokens[place] if own.tokens else None,
        rank=smaller,
        pairs=len(finite),
    )
    return shape, "The upstream latent was taken out of the stream, with its dictionary's error kept."


def _joint(found: RelatedFolder, upstream: Latent, downstream: Latent) -> list[JointExample]:
    """Tokens of the file's prompts at which both are lit."""
    data = found.data
    if data.graph is None:
        return []
    names = [one.name for one in data.dictionaries]
    nodes = list(zip(data.graph.dictionary.tolist(), data.graph.latent.tolist(), strict=True))
    wanted = [(names.index(name), latent) for name, latent in (upstream, downstream)]
    if any(one not in nodes for one in wanted):
        return []
    ends = [nodes.index(one) for one in wanted]
    every = [one for prompt in data.prompts for one in _at_once(prompt, ends[0], ends[1])]
    return sorted(every, key=lambda one: -min(one.upstream or 0.0, one.downstream or 0.0))[:_JOINT]


def _at_once(prompt: PromptFacts, upstream: int, downstream: int) -> Iterator[JointExample]:
    lit: dict[int, dict[int, float]] = {upstream: {}, downstream: {}}
    for node, position, value in zip(
        prompt.node.tolist(), prompt.position.tolist(), prompt.activation.tolist(), strict=True
    ):
        if node in lit:
            lit[node][position] = value
    for at in sorted(lit[upstream].keys() & lit[downstream].keys()):
        yield JointExample(
            before=text.running(prompt.tokens[max(at - BEFORE, 0) : at]),
            token=text.running((prompt.tokens[at],)),
            after=text.running(prompt.tokens[at + 1 : at + 1 + AFTER]),
            upstream=lit[upstream][at],
            downstream=lit[downstream][at],
        )
