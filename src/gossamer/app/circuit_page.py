"""A circuit of a run as the page shows it, made of its files alone."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from gossamer.app.schema import Card, MapData, Metrics, NodePage, PromptShape, Table
from gossamer.app.workbench import SavedCircuit
from gossamer.circuits.edge import Edge, HeadShare
from gossamer.circuits.results import Findings, NodeCard, PromptView
from gossamer.features.feature import Node
from gossamer.features.feature_card import FeatureCard, FeatureExample
from gossamer.report import text

FORMAT = "gossamer.circuit-map.1"
METRIC = "metric"
MOST_NODES, MOST_EDGES = 2_000, 20_000
_HEADS, _WORDS, _TOKEN = 3, 3, 18


def prompt_shape(prompt: PromptView) -> PromptShape:
    """A prompt with nothing invisible in it."""
    return PromptShape(
        tokens=list(map(text.visible, prompt.tokens)),
        roles=list(prompt.roles),
        counterfactual=list(map(text.visible, prompt.counterfactual)),
        answer=text.visible(prompt.answer),
        incorrect=text.visible(prompt.incorrect),
    )


def map_of(found: SavedCircuit, most_nodes: int, most_edges: int) -> tuple[MapData, int, int]:
    """The map of a circuit's strongest nodes and of the strongest edges between them, and how many of each it hides."""
    circuit, cards = found.circuit, _cards(found)
    scored = sorted(circuit.nodes, key=lambda one: -abs(one.score or 0.0))
    shown = scored[:most_nodes]
    rows = {site: place for place, site in enumerate(circuit.sites)}
    columns = {role: place for place, role in enumerate(circuit.roles)}
    nodes = []
    for index, one in enumerate(shown):
        card = cards.get(one.node)
        facts = {name: None if card is None else getattr(card, name) for name in _FACTS}
        words = () if card is None else _words(card.card)
        nodes.append(
            {
                "id": str(one.node),
                "index": index,
                "row": rows[one.site],
                "column": columns[one.role],
                "name": f"latent {one.latent}",
                "words": [text.visible(word, _TOKEN) for word in words],
                "latent": one.latent,
                "kind": "latent",
                **facts,
                "effect": one.score,
            }
        )
    edges = _edges_between(circuit.edges, {one.node for one in shown})
    findings = found.findings
    body = {
        "format": FORMAT,
        "metric": {
            "id": METRIC,
            "label": "metric" if findings is None else findings.metric,
            "unit": "" if findings is None else findings.unit,
        },
        "rows": list(map(str, circuit.sites)),
        "columns": [_column(findings, role) for role in circuit.roles],
        "nodes": nodes,
        "edges": list(map(_edge, edges[:most_edges])),
        "groups": [],
    }
    hidden = len(circuit.edges) - min(len(edges), most_edges)
    return MapData.model_validate(body), len(circuit.nodes) - len(shown), hidden


_FACTS = ("direct", "activation", "ablated", "recurrence")


def _cards(found: SavedCircuit) -> dict[Node, NodeCard]:
    return {} if found.findings is None else {card.node: card for card in found.findings.nodes}


def _words(card: FeatureCard) -> Sequence[str]:
    return (card.explanation,) if card.explanation is not None else card.words(_WORDS)


def _column(findings: Findings | None, role: str) -> dict[str, Any]:
    if findings is None:
        return {"id": role, "label": role}
    prompt = findings.prompt
    places = [place for place, own in enumerate(prompt.roles) if own == role]
    tokens = [prompt.tokens[place] for place in places]
    others: list[str] = []
    if len(prompt.tokens) == len(prompt.counterfactual):
        others = [prompt.counterfactual[one] for one in places if prompt.counterfactual[one] != prompt.tokens[one]]
    shown = [[text.visible(token, _TOKEN) for token in one] for one in (tokens, others)]
    return {"id": role, "label": role, "tokens": shown[0], "counterfactual": shown[1]}


def _edges_between(edges: Sequence[Edge], nodes: set[Node]) -> list[Edge]:
    kept = [one for one in edges if one.source in nodes and (isinstance(one.target, str) or one.target in nodes)]
    return sorted(kept, key=lambda one: -abs(one.weight if one.influence is None else one.influence))


def _edge(edge: Edge) -> dict[str, Any]:
    return {
        "source": str(edge.source),
        "target": str(edge.target) if isinstance(edge.target, Node) else METRIC,
        "weight": edge.weight,
        "influence": edge.influence,
        "direct": edge.direct,
        "heads": [one.__dict__ for one in edge.heads[:_HEADS]],
        "others": _sum(edge.heads[_HEADS:]),
    }


def _sum(heads: Sequence[HeadShare]) -> float:
    return math.fsum(one.weight for one in heads)


def node_page(card: NodeCard, said: dict[str, Any], of: str) -> NodePage:
    """Everything that a findings file says of a node."""
    return NodePage(
        **said,
        name=str(card.node),
        role=card.role,
        generic=list(card.generic),
        card=card_shape(card.card, of),
        effect=card.effect,
        **{name: getattr(card, name) for name in _FACTS},
    )


def card_shape(card: FeatureCard, of: str) -> Card:
    """A latent's card; `of` says in words which text it is of. Links lead to the web or are left out."""
    web = card.link is not None and card.link.startswith(("https://", "http://"))
    return Card(
        feature=str(card.feature),
        model=card.model,
        label=text.visible(card.label),
        explanation=card.explanation,
        tokens=card.tokens,
        active=card.active,
        density=card.density,
        mean=card.mean,
        std=card.std,
        maximum=card.maximum,
        edges=list(card.histogram.edges),
        counts=list(card.histogram.counts),
        promotes=[{"word": text.visible(word), "value": value} for word, value in card.promotes],
        suppresses=[{"word": text.visible(word), "value": value} for word, value in card.suppresses],
        examples=[_example(one, card.maximum) for one in card.examples],
        strata=[_example(one, card.maximum) for one in card.strata],
        neighbours=[
            {"feature": str(one.feature), "measure": one.measure, "value": one.value} for one in card.neighbours
        ],
        link=card.link if web else None,
        text=of,
    )


def _example(example: FeatureExample, largest: float) -> dict[str, Any]:
    shares = [min(max(one / largest, 0.0), 1.0) if largest > 0 else 0.0 for one in example.activations]
    return {
        "tokens": list(map(_running, example.tokens)),
        "activations": list(example.activations),
        "position": example.position,
        "activation": example.activation,
        "shade": shares,
    }


def _running(token: str) -> str:
    """A token in running text: spaces stay, what is invisible does not."""
    return "".join(said for said, _ in text.pieces(token, running=True))


def metrics_of(rows: Sequence[Any]) -> list[Metrics]:
    """Rows of an error budget."""
    return [Metrics.model_validate(row) for row in rows]


def tables(findings: Findings) -> Iterator[Table]:
    """What the report says in tables beside budget and curves; those for which nothing was measured are left out."""
    points = findings.completeness.points
    if points:
        rows: list[list[Any]] = [[one.kind, one.size, one.circuit, one.model] for one in points]
        note = "Faithfulness of circuit and model when the same nodes are knocked out of both."
        yield Table(title="Completeness", columns=["subset", "nodes", "circuit", "model"], rows=rows, note=note)
    for overlap in findings.stability:
        rows = [
            [label, size, *row] for label, size, row in zip(overlap.labels, overlap.sizes, overlap.jaccard, strict=True)
        ]
        columns = ["circuit", "nodes", *overlap.labels]
        yield Table(title=f"Stability: {overlap.kind}", columns=columns, rows=rows, note="Jaccard index of the nodes.")
    if findings.cases:
        rows = [
            [case.name, case.prompts, case.full.metric.value, case.circuit.faithfulness.value, case.circuit.kl]
            for case in findings.cases
        ]
        columns = ["case", "prompts", f"{findings.metric}, full model", "faithfulness", "KL"]
        yield Table(title="Kinds of prompts", columns=columns, rows=rows)
    if findings.edge_test is not None:
        tested = findings.edge_test
        rows = [[one.edges, one.strongest.value, one.random.value] for one in tested.points]
        note = f"Faithfulness on {tested.tested_on} held-out prompts; edges measured on {tested.measured_on} others."
        columns = ["edges", "the strongest", "random, mean"]
        yield Table(title="Edges kept", columns=columns, rows=rows, note=note)
