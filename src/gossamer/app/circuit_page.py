"""A circuit of a run as the page shows it, made of its files alone."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from gossamer.app.schema.base import Table
from gossamer.app.schema.circuits import CaseShape, MapData, Metrics, NodePage, PromptShape
from gossamer.app.schema.latents import Card, Example, NeighbourShape, Word
from gossamer.app.workbench import SavedCircuit
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.results import Findings, NodeCard, PromptCase, PromptView
from gossamer.circuits.task_metrics import TaskMetrics, budget_marks, case_marks
from gossamer.features.feature_card import FeatureCard, FeatureExample
from gossamer.features.lens import Words
from gossamer.report import claims, layout, text
from gossamer.report.edges import edge_values, strength
from gossamer.report.map_data import FORMAT, METRIC, group_values, map_data, named

MOST_NODES, MOST_EDGES = 2_000, 20_000
# What findings say of a node beside its card and its effect.
_FACTS = ("direct", "activation", "ablated", "recurrence")


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
    circuit, findings = found.circuit, found.findings
    if findings is None:
        values = _bare_map(circuit, most_nodes)
    else:
        strongest = layout.by_strength(findings.nodes)[:most_nodes]
        values = map_data(replace(findings, nodes=tuple(findings.nodes[place] for place in strongest)))
    values["edges"] = values["edges"][:most_edges]
    hidden = len(circuit.nodes) - len(values["nodes"]), len(circuit.edges) - len(values["edges"])
    return MapData.model_validate(values), *hidden


def _bare_map(circuit: Circuit, most_nodes: int) -> dict[str, Any]:
    """The map of a circuit of which nothing but its file is known: no words, no example prompt."""
    shown = sorted(circuit.nodes, key=lambda one: -abs(one.score or 0.0))[:most_nodes]
    rows = {site: place for place, site in enumerate(circuit.sites)}
    columns = {role: place for place, role in enumerate(circuit.roles)}
    kept = {one.node for one in shown}
    edges = [one for one in circuit.edges if one.source in kept and (isinstance(one.target, str) or one.target in kept)]
    unknown = dict.fromkeys(_FACTS)
    return {
        "format": FORMAT,
        "metric": {"id": METRIC, "label": "metric", "unit": ""},
        "rows": list(map(str, circuit.sites)),
        "columns": [{"id": role, "label": role} for role in circuit.roles],
        "nodes": [
            {
                "id": str(one.node),
                "index": index,
                "row": rows[one.site],
                "column": columns[one.role],
                **named(one.feature),
                "words": [],
                "effect": one.score,
                **unknown,
            }
            for index, one in enumerate(shown)
        ],
        "edges": [edge_values(edge, METRIC) for edge in sorted(edges, key=lambda edge: -strength(edge))],
        "groups": group_values(group for group in circuit.groups if kept.issuperset(group.nodes)),
    }


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
        promotes=_said(card.promotes),
        suppresses=_said(card.suppresses),
        examples=[example_shape(one, card.maximum) for one in card.examples],
        strata=[example_shape(one, card.maximum) for one in card.strata],
        neighbours=[
            NeighbourShape(feature=str(one.feature), measure=one.measure, value=one.value) for one in card.neighbours
        ],
        link=card.link if web else None,
        text=of,
    )


def _said(words: Words) -> list[Word]:
    return [Word(word=text.visible(word), value=value) for word, value in words]


def example_shape(example: FeatureExample, largest: float) -> Example:
    """A stretch of text with the shade of every token, as a share of `largest`."""
    return Example(
        tokens=list(map(text.running, example.tokens)),
        activations=list(example.activations),
        position=example.position,
        activation=example.activation,
        document=example.document,
        stratum=example.stratum,
        shade=[min(max(one / largest, 0.0), 1.0) if largest > 0 else 0.0 for one in example.activations],
    )


def budget_rows(budget: Sequence[TaskMetrics]) -> list[Metrics]:
    """Rows of an error budget, of which the circuits alone may have the mark."""
    return [_marked(row, mark) for row, mark in zip(budget, budget_marks(budget), strict=True)]


def case_shape(case: PromptCase) -> CaseShape:
    """One kind of prompts, of which the circuit alone may have the mark."""
    full, circuit = map(_marked, (case.full, case.circuit), case_marks(case.circuit))
    return CaseShape(name=case.name, prompts=case.prompts, full=full, circuit=circuit)


def _marked(row: TaskMetrics, mark: str) -> Metrics:
    return Metrics.model_validate(row).model_copy(update={"mark": mark})


def footnote(marks: Iterable[str], errors: bool) -> str | None:
    """What the mark of a table's rows says, as a sentence; None where none has it (see :func:`claims.mark_note`)."""
    note = claims.mark_note(marks, errors)
    return None if note is None else f"{note}."


def tables(findings: Findings) -> Iterator[Table]:
    """What the report says in tables beside budget, curves and cases, as far as it was measured."""
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
    if findings.edge_test is not None:
        tested = findings.edge_test
        rows = [[one.edges, one.strongest.value, one.random.value] for one in tested.points]
        note = f"Faithfulness on {tested.tested_on} held-out prompts; edges measured on {tested.measured_on} others."
        columns = ["edges", "the strongest", "random, mean"]
        yield Table(title="Edges kept", columns=columns, rows=rows, note=note)
