"""The page: findings in, one self-contained HTML text out."""

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass

from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from gossamer.circuits.bootstrap import FEW_TEXTS
from gossamer.circuits.curve import Curve, CurvePoint
from gossamer.circuits.results import Findings, NodeCard
from gossamer.circuits.shortfalls import RestoredError
from gossamer.circuits.task_metrics import TaskMetrics, budget_marks
from gossamer.display import plural
from gossamer.report import claims, figures, html, layout, style, text
from gossamer.report.curves_data import circuit_curves_data
from gossamer.report.edges import edge_table
from gossamer.report.map_data import map_data
from gossamer.report.method_looks import method_looks
from gossamer.report.snippets import Snippet, snippets

MAX_CARDS, MAX_CASES = 60, 20
Figures = dict[str, Figure]
Pictures = dict[str, str]


@dataclass(frozen=True)
class NodeView:
    """A node as the page shows it. `rank` counts from 1 by falling strength; `index` is its place in the findings."""

    index: int
    rank: int
    node: NodeCard
    share: float
    snippets: tuple[Snippet, ...]
    link: str | None


@dataclass(frozen=True)
class MethodRow:
    """One line of the table of methods; `reached` is its smallest circuit that reaches the page's level."""

    curve: Curve
    index: int
    colour: str
    reached: CurvePoint | None


def drawn(findings: Findings) -> Figures:
    """Every figure that the findings have the numbers for, by name."""
    has: dict[str, tuple[bool, Callable[[Findings], Figure]]] = {
        "circuit_map": (bool(findings.nodes), figures.circuit_map),
        "budget": (bool(findings.budget), figures.budget),
        "curves": (any(point.size for curve in findings.curves for point in curve.points), figures.curves),
        "completeness": (bool(findings.completeness.points), figures.completeness),
        "edges": (findings.edge_test is not None and bool(findings.edge_test.points), figures.edges),
        # Circuits of one path nest, whatever another run would find.
        "stability": (any(one.kind != "size" for one in findings.stability), figures.stability),
    }
    return {name: style.settled(draw(findings)) for name, (present, draw) in has.items() if present}


def pictured(made: Figures) -> Pictures:
    """The figures as `<svg>` text, by name."""
    return {name: style.svg(figure) for name, figure in made.items()}


def page(findings: Findings, made: Pictures | None = None, explored: str | None = None) -> str:
    """The report as HTML text: styles, script and pictures inline, nothing fetched from anywhere.

    Args:
        findings: what to show.
        made: the figures drawn from them as SVG (:func:`pictured`); drawn here if not given.
        explored: a page of prompts taken apart, beside this one, to link to.

    Raises:
        GossamerError: findings that contradict themselves (a node outside the axes, an incomplete budget).
    """
    made = pictured(drawn(findings)) if made is None else made
    target, lines = claims.level(findings), circuit_curves_data(findings)
    template = _environment().get_template("report.html.j2")
    summary, views = claims.summary(findings), _nodes(findings)
    pictures = {
        name: "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        for name, svg in made.items()
        if name not in ("curves", "circuit_map")
    }
    return template.render(
        findings=findings,
        explored=explored,
        summary=summary[:1].upper() + summary[1:],
        captions={
            "budget": claims.budget(findings),
            "curves": claims.curves(findings),
            "completeness": claims.completeness(findings),
            "edges": claims.edges(findings),
            "stability": claims.stability(findings),
            "core": claims.core(findings),
            "groups": claims.groups(findings),
            "explained": claims.explained(findings),
            "families": claims.families(findings),
            "unseen": claims.unseen(findings),
            "controls": claims.against_controls(findings),
        },
        beyond=claims.beyond(findings),
        few_texts=FEW_TEXTS,
        restored=_restored(findings),
        tiles=_tiles(findings),
        map=html.inline(map_data(findings, {view.index: _anchor(view) for view in views})),
        component=html.component("circuit_map.js"),
        edges=edge_table(findings),
        aligned=layout.aligned(findings.prompt),
        curves=None if lines is None else html.inline(lines),
        curves_component=html.component("curves.js"),
        curves_svg=Markup(made["curves"]) if "curves" in made else None,
        pictures=pictures,
        target=target,
        methods=_methods(findings, target),
        nodes=views,
        max_cards=MAX_CARDS,
        max_cases=MAX_CASES,
    )


def _environment() -> Environment:
    environment = html.environment()
    environment.filters |= {
        "pieces": text.pieces,
        "visible": text.visible,
        "number": text.number,
        "ratio": text.ratio,
        "percent": text.percent,
        "seconds": text.seconds,
        "plural": plural,
        "budget_marks": budget_marks,
        "sort_key": _sort_key,
    }
    environment.tests["finite"] = math.isfinite
    return environment


def _sort_key(value: float) -> str:
    """For the sortable table: unknown values sort last."""
    return f"{value:.9g}" if math.isfinite(value) else ""


def _anchor(view: NodeView) -> str:
    """Where the page says most of a node: at its card, or in its row of the table."""
    return f"#{'node' if view.rank <= MAX_CARDS else 'row'}-{view.index}"


def _tiles(findings: Findings) -> list[tuple[str, str, str]]:
    """The numbers at the head of the page: (value, what it is, remark)."""
    known = claims.landmarks(findings)
    candidates = claims.circuit_size(findings).partition(" of ")[2].removesuffix(" candidate nodes")
    sites = len({node.site for node in findings.nodes})
    where = f"at {plural(sites, 'site')}" + (f", of {candidates} candidates" if candidates else "")
    tiles = [(f"{len(findings.nodes):,}", "nodes", where)]
    if known is not None:
        circuit = known.circuit
        share = text.ratio(circuit.faithfulness.value) + circuit.mark
        tiles += [
            (share, "faithfulness to the full model", _spread(circuit)),
            (
                text.ratio(circuit.faithfulness_to_dictionaries.value),
                "faithfulness to model + dictionaries",
                f"the dictionaries alone reach {text.ratio(known.dictionaries.faithfulness.value)} of the full model",
            ),
            (text.percent(circuit.accuracy), "accuracy", _accuracies(known)),
            (text.number(circuit.kl), "KL to the full model, nats", _divergences(known)),
        ]
    left = findings.completeness.knocked_out
    if math.isfinite(left.faithfulness.value):
        tiles.append(
            (text.ratio(left.faithfulness.value), "left without the circuit", f"{_range(left)}; 0 is complete")
        )
    return tiles


def _divergences(known: claims.Landmarks) -> str:
    """What stands beside the circuit's KL: the empty circuit's, and both between the prompt's own answers alone."""
    circuit, empty = known.circuit, known.empty
    return (
        f"empty circuit {text.number(empty.kl)}; between the answers alone {text.number(circuit.answer_kl)}, "
        f"empty circuit {text.number(empty.answer_kl)}"
    )


def _accuracies(known: claims.Landmarks) -> str:
    """What stands beside the circuit's accuracy: how often the answer beats the whole vocabulary, and the model's."""
    full = known.full
    return (
        f"top-1 {text.percent(known.circuit.top1)}; full model {text.percent(full.accuracy)}, "
        f"top-1 {text.percent(full.top1)}"
    )


def _spread(task_metrics: TaskMetrics) -> str:
    """Interval of the mean, and how far single prompts are off: what the mean hides."""
    return f"{_range(task_metrics)}; single prompts are off by {text.ratio(task_metrics.prompt_error.value)}"


def _range(task_metrics: TaskMetrics) -> str:
    found = task_metrics.faithfulness
    return f"95{chr(0x202F)}% interval {text.ratio(found.low)} to {text.ratio(found.high)}"


def _methods(findings: Findings, target: float | None) -> list[MethodRow]:
    rows, looks = [], method_looks([curve.method for curve in findings.curves])
    for index, curve in enumerate(findings.curves):
        reached = claims.smallest(curve, target) if target is not None else None
        rows.append(MethodRow(curve, index, looks[curve.method].colour, reached))
    return rows


def _restored(findings: Findings) -> tuple[list[str], list[tuple[str, list[RestoredError]]]]:
    """Roles as columns, and for each site what exact errors at each of them bring back."""
    columns = list(dict.fromkeys(one.role or "all tokens" for one in findings.restored))
    rows: dict[str, list[RestoredError]] = {}
    for one in findings.restored:
        rows.setdefault("all sites" if one.site is None else str(one.site), []).append(one)
    return columns, list(rows.items())


def _nodes(findings: Findings) -> list[NodeView]:
    largest = max((abs(node.effect) for node in findings.nodes if math.isfinite(node.effect)), default=0.0) or 1.0
    views = []
    for rank, index in enumerate(layout.by_strength(findings.nodes), start=1):
        node = findings.nodes[index]
        share = node.effect / largest if math.isfinite(node.effect) else 0.0
        cut = snippets(node.card.examples) if rank <= MAX_CARDS else ()
        # Addresses come from files of other people: only web addresses become links.
        link = node.card.link
        link = link if link and link.startswith(("https://", "http://")) else None
        views.append(NodeView(index, rank, node, share, cut, link))
    return views
