"""The circuit view: what the files say, and what only the model can say of the nodes a reader picks."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query

from gossamer.app.circuit_page import (
    MOST_EDGES,
    MOST_NODES,
    budget_rows,
    case_shape,
    footnote,
    map_of,
    node_page,
    prompt_shape,
    tables,
)
from gossamer.app.schema.base import PartId
from gossamer.app.schema.circuits import (
    CircuitPage,
    CircuitTests,
    CurveShape,
    NodePage,
    Patched,
    PatchRequest,
    PromptRow,
    Prompts,
    Score,
    ScoreRequest,
    WordChangeShape,
)
from gossamer.app.schema.curves import CurvesData
from gossamer.app.sets import why_not_live
from gossamer.app.workbench import SavedCircuit, UnknownError, Workbench
from gossamer.circuits.evaluate.rerun import RestoredCircuit
from gossamer.circuits.findings import prompt_view
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.patching import patch_nodes
from gossamer.circuits.task_metrics import budget_marks
from gossamer.errors import UsageError
from gossamer.features.feature import Node
from gossamer.report import claims, text
from gossamer.report.curves_data import circuit_curves_data


def circuit_routes(bench: Workbench) -> APIRouter:
    """Circuits of the run, as their files have them."""
    routes = APIRouter(prefix="/circuits/{circuit}")

    @routes.get("")
    def page(
        circuit: PartId,
        max_nodes: Annotated[int, Query(ge=1, le=MOST_NODES)] = MOST_NODES,
        max_edges: Annotated[int, Query(ge=0, le=MOST_EDGES)] = MOST_EDGES,
    ) -> CircuitPage:
        """A circuit, with what its drawing needs; the weakest nodes and edges beyond the limits are counted."""
        found = bench.circuit(circuit)
        drawn, nodes, edges = map_of(found, max_nodes, max_edges)
        return CircuitPage(
            **bench.said(found.circuit.sha256),
            id=found.part.id,
            file=str(found.part.path),
            map=drawn,
            hidden_nodes=nodes,
            hidden_edges=edges,
            live=bench.offline or why_not_live(found.circuit),
            **_described(found),
        )

    @routes.get("/nodes")
    def node(circuit: PartId, name: Annotated[str, Query(max_length=200)]) -> NodePage:
        """What is known of one of its nodes."""
        found = bench.circuit(circuit)
        wanted = Node.parse(name)
        if found.findings is None:
            raise UnknownError(f"node {name}: {circuit} has no findings beside it; run 'gossamer circuit' to its end")
        card = next((one for one in found.findings.nodes if one.node == wanted), None)
        if card is None:
            raise UnknownError(f"node {name}: not in {circuit}, which has {len(found.circuit.nodes)} others")
        return node_page(card, bench.said(found.circuit.sha256), found.findings.cards_of)

    @routes.get("/evaluation")
    def evaluation(circuit: PartId) -> CircuitTests:
        """How the circuit was tested: budget, curves of all methods, tables."""
        found = bench.circuit(circuit)
        if found.findings is None:
            raise UnknownError(f"{circuit}: no findings beside it; run 'gossamer circuit' to its end")
        known = found.findings
        drawn = circuit_curves_data(known)
        return CircuitTests(
            **bench.said(found.circuit.sha256),
            metric=known.metric,
            unit=known.unit,
            budget=budget_rows(known.budget),
            curves=[CurveShape.model_validate(curve) for curve in known.curves],
            drawn=None if drawn is None else CurvesData.model_validate(drawn),
            cases=list(map(case_shape, known.cases)),
            footnote=footnote(chain.from_iterable(claims.marks(known).values()), claims.has_errors(known)),
            tables=list(tables(known)),
            warnings=list(known.warnings),
        )

    return routes


def measured_circuit_routes(bench: Workbench) -> APIRouter:
    """Circuits of the run, as only their model can say what they do."""
    routes = APIRouter(prefix="/circuits/{circuit}")
    references: dict[tuple[str, str], Any] = {}

    @routes.get("/prompts")
    def prompts(
        circuit: PartId,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        cursor: Annotated[int, Query(ge=0)] = 0,
    ) -> Prompts:
        """Held-out prompts of its task, as the circuit's file has them."""
        found = bench.circuit(circuit).circuit
        body = None if found.inputs is None else found.inputs.task
        if body is None:
            raise UnknownError(f"{circuit}: its file does not hold its prompts; make it again with this version")
        with bench.restored(circuit) as restored:
            held_out = restored.study.task.test.prompts
            rows = [
                PromptRow(
                    row=row,
                    text=one.clean_text,
                    answer=text.visible(one.answer),
                    incorrect=text.visible(one.incorrect),
                    case=one.case,
                )
                for row, one in list(enumerate(held_out))[cursor : cursor + limit]
            ]
            return Prompts(**bench.said(found.sha256), total=len(held_out), rows=rows)

    @routes.post("/score")
    def score(circuit: PartId, asked: ScoreRequest) -> Score:
        """What some nodes keep by themselves, and what is left without them, measured now."""
        with bench.restored(circuit) as restored:
            return Score(**bench.said(restored.circuit.sha256), **_scored(restored, asked, references))

    @routes.post("/patch")
    def patch(circuit: PartId, asked: PatchRequest) -> Patched:
        """What the model says on a held-out prompt when nodes are moved in it."""
        with bench.restored(circuit) as restored:
            study = restored.study
            nodes = _chosen(restored, asked.nodes)
            found = patch_nodes(study, study.task.test, asked.prompt, nodes, asked.mode, asked.value)
            words = [WordChangeShape(**{**vars(one), "word": text.visible(one.word)}) for one in found.words]
            return Patched(
                **bench.said(restored.circuit.sha256),
                prompt=prompt_shape(prompt_view(study, asked.prompt)),
                mode=found.mode,
                metric=found.metric,
                patched_metric=found.patched_metric,
                kl=found.kl,
                words=words,
            )

    return routes


def exported_circuits(bench: Workbench) -> Iterator[str]:
    """What is asked of circuits without their models."""
    for part in bench.run.parts().values():
        if part.kind != "circuit":
            continue
        root = f"/circuits/{part.id}"
        yield from (root, f"{root}?max_nodes=1&max_edges=0", f"{root}/evaluation")
        circuit = bench.run.read(part).content
        if circuit is not None:
            yield from (f"{root}/nodes?name={quote(str(node))}" for node in circuit.keys()[:MOST_NODES])


def _described(found: SavedCircuit) -> dict[str, Any]:
    circuit, findings = found.circuit, found.findings
    facts: dict[str, Any] = {
        "title": f"{circuit.task} on {circuit.model}",
        "task": circuit.task,
        "model": circuit.model,
        "sites": list(map(str, circuit.sites)),
        "roles": list(circuit.roles),
        "measured": dict(circuit.measured),
    }
    if findings is None:
        unknown = {"metric": "metric", "unit": "", "kept": "metric", "prompt": None, "cards_of": None}
        return {**facts, **unknown, "budget": [], "warnings": [], "settings": {}}
    part = found.findings_part
    return {
        **facts,
        "metric": findings.metric,
        "unit": findings.unit,
        "kept": findings.kept,
        "prompt": prompt_shape(findings.prompt),
        "budget": budget_rows(findings.budget),
        "warnings": list(findings.warnings),
        "settings": findings.settings,
        "cards_of": findings.cards_of,
        "findings": None if part is None else part.id,
        "findings_file": None if part is None else str(part.path),
        "summary": claims.summary(findings),
        "footnote": footnote(budget_marks(findings.budget)[-2:-1], claims.has_errors(findings)),
    }


def _chosen(restored: RestoredCircuit, names: Sequence[str]) -> Nodes:
    """The circuit's nodes of these names."""
    wanted = list(dict.fromkeys(map(Node.parse, names)))
    places = restored.nodes.find(wanted)
    if len(places) != len(wanted):
        raise UsageError(f"nodes: {len(wanted) - len(places)} of {len(wanted)} are not in the circuit")
    return restored.nodes.select(places)


def _scored(restored: RestoredCircuit, asked: ScoreRequest, references: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """The numbers of :class:`Score`; those that do not depend on what is pinned are measured once."""
    held_out = asked.prompts == "held out"
    evaluator = restored.evaluator if held_out else restored.choice
    pinned, whole, key = _chosen(restored, asked.nodes), restored.nodes, (restored.circuit.sha256, asked.prompts)
    if key not in references:
        references[key] = {
            "circuit": evaluator.task_metrics("circuit", evaluator.prompt_metrics(whole)),
            "empty": evaluator.task_metrics("no node", evaluator.prompt_metrics(whole.none())),
            "dictionaries": evaluator.task_metrics("all latents", evaluator.dictionaries),
        }
    rows = {
        "pinned": evaluator.task_metrics("pinned nodes", evaluator.prompt_metrics(pinned)),
        "without": evaluator.task_metrics("all latents but the pinned nodes", evaluator.without(pinned)),
        **references[key],
    }
    return {
        "prompts": len(evaluator.splice.examples),
        "measured_on": "held-out prompts" if held_out else "training prompts that choices are made on",
        "footnote": footnote(
            (row.mark for row in rows.values()), any(node.node.is_error for node in restored.circuit.nodes)
        ),
        **rows,
    }
