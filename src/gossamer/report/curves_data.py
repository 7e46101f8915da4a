"""Curves as `components/curves.js` takes them, as JSON values: what steering brings at every cost, how soon searches
for failures succeed, and how faithful circuits of every size are.

Report, workbench and the figure for papers draw the same values. Which method of a sweep has a colour is said here
once; what methods of circuits look like, in :mod:`gossamer.report.method_looks`.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from gossamer.circuits.adversarial.results import CIRCUIT, AdversarialResults
from gossamer.circuits.curve import Curve, CurvePoint
from gossamer.circuits.results import Findings
from gossamer.report import claims
from gossamer.report.method_looks import method_looks
from gossamer.steering.pareto import MethodCurve

Value = TypeVar("Value")
Unknown = TypeVar("Unknown")
FORMAT = "gossamer.curves.1"
CONTROL, PROMPT = "random", "prompt"
# Below this cost, in nats a token, the axis is linear: the unsteered model stands at 0.
LINEAR = 0.02
# Methods whose curves are drawn in colour, beside the reference and the prompt.
_COLOURED = 4
# Sizes further apart are not joined by a line.
_GAP = 3.0
_TICKS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def pareto_data(
    curves: Sequence[MethodCurve],
    reference: str,
    benefit: str,
    limit: float = 1.0,
    labels: Mapping[int, str] | None = None,
    cost: str = "cross-entropy on neutral text (nats a token)",
) -> dict[str, Any]:
    """The methods of a sweep, the largest area first.

    Args:
        reference: the method that the others are held against.
        benefit: what the y axis is called.
        limit: largest cost.
        labels: what is said of a cell, by its place in the sweep; without it points have no note.
        cost: what the x axis is called.

    Each series has a `look` ("reference", "prompt", "named" with a `slot` of a colour, "control" or "other"), all its
    `points`, the corners of its step line up to `limit` (`line`), its area with a 95 % interval (`value`), and a `mark`
    where it improves on the reference. `band` is what random controls reach at every cost.
    """
    ranked = sorted(curves, key=lambda one: -one.area.value)
    looks = _looks([one.method for one in ranked], reference)
    lines = [_line(one, limit) for one in ranked]
    series = []
    for one, line in zip(ranked, lines, strict=True):
        look, slot = looks[one.method]
        points = [
            {
                "x": one.costs[place],
                "y": one.benefits[place],
                "note": (labels or {}).get(cell, ""),
                "best": place in one.frontier,
            }
            for place, cell in enumerate(one.cells)
        ]
        value = {"value": one.area.value, "low": one.area.low, "high": one.area.high}
        series.append(
            {
                "name": one.method.replace("_", " "),
                "look": look,
                "slot": slot,
                "points": points,
                "line": line,
                "value": value,
                "mark": "+" if one.improves else "",
            }
        )
    controls = [line for one, line in zip(ranked, lines, strict=True) if one.method.startswith(CONTROL) and line]
    nats = "nat" if limit == 1 else "nats"
    return {
        "format": FORMAT,
        "x": {
            "label": f"cost: {cost}",
            "scale": "symlog",
            "linear": LINEAR,
            "low": 0.0,
            "high": limit,
            "ticks": [tick for tick in _TICKS if tick <= limit],
        },
        "y": {"label": benefit, "low": 0.0, "high": None},
        "step": True,
        "series": series,
        "band": _band(controls),
        "values": f"area up to {limit:g} {nats}, 95 % intervals",
        "marks": f"improves on {reference.replace('_', ' ')}",
    }


def budget_data(found: AdversarialResults) -> dict[str, Any]:
    """How many of an arm's searches come to a recipe that breaks at least half of their prompts, by what they spent.

    The circuit's arm is first, with the band of its Wilson intervals.
    """
    own = found.arm(CIRCUIT)
    series = []
    for slot, one in enumerate([own, *(arm for arm in found.arms if arm.letter != CIRCUIT)]):
        solved = list(zip(found.budgets, one.solved, strict=True))
        last = one.solved[-1]
        series.append(
            {
                "name": f"{one.letter} {one.name}",
                "look": "own" if one is own else "named",
                "slot": max(slot - 1, 0),
                "points": [
                    {"x": budget, "y": at.value, "note": f"95 % {at.low:.0%} to {at.high:.0%}", "best": True}
                    for budget, at in solved
                ],
                "line": [(budget, at.value) for budget, at in solved],
                "value": {"value": last.value, "low": last.low, "high": last.high},
                "mark": "",
            }
        )
    band = {
        "name": "95 % of the circuit's",
        "x": list(found.budgets),
        "low": [one.low for one in own.solved],
        "high": [one.high for one in own.solved],
    }
    ends = found.budgets[0], found.budgets[-1]
    return {
        "format": FORMAT,
        "x": {
            "label": "forward passes of one prompt (a backward pass counts two)",
            "scale": "log",
            "linear": None,
            "low": float(ends[0]),
            "high": float(ends[1]),
            "ticks": list(found.budgets),
        },
        "y": {"label": "share of searches that succeeded", "low": 0.0, "high": 1.0},
        "step": False,
        "series": series,
        "band": band,
        "values": f"succeeded within {ends[1]} passes, Wilson 95 % intervals",
        "marks": "",
    }


def circuit_curves_data(findings: Findings) -> dict[str, Any] | None:
    """Faithfulness of every method's circuits over their size, ours first with its band; None where none was measured.

    The number beside a method is of its largest circuit with at most as many nodes as the circuit of the findings.
    """
    curves = [(curve, points) for curve in findings.curves if (points := _measured(curve))]
    if not curves:
        return None
    size = len(findings.nodes)
    ours, *others = [(curve, points, _up_to(points, size)) for curve, points in curves]
    looks = method_looks([curve.method for curve in findings.curves])
    others.sort(key=lambda one: -math.inf if one[2] is None else one[2].task_metrics.faithfulness.value, reverse=True)
    series = [
        {
            "name": curve.method,
            "look": "own" if place == 0 else "named" if place <= _COLOURED else "faint",
            "slot": looks[curve.method].slot or 0,
            "dashed": looks[curve.method].dashed,
            **_faithfulness_series(points, at),
        }
        for place, (curve, points, at) in enumerate([ours, *others])
    ]
    shares = [point.task_metrics.faithfulness for _, points in curves for point in points]
    sizes = [point.size for _, points in curves for point in points]
    band = across_gaps([(point.size, point.task_metrics.faithfulness) for point in ours[1]], None)
    return {
        "format": FORMAT,
        "x": {
            "label": "circuit size (nodes)",
            "scale": "log",
            "linear": None,
            "low": float(min(sizes)),
            "high": float(max(sizes)),
            "ticks": _size_ticks(min(sizes), max(sizes)),
        },
        # One method far off the scale must not flatten the others.
        "y": {
            "label": claims.axis(findings),
            "low": max(min(0.0, *(one.value for one in shares)), -0.5),
            "high": min(max(1.1, *(one.value for one in shares)), 2.0),
        },
        "step": False,
        "series": series,
        "band": {
            "name": "",
            "x": [size for size, _ in band],
            "low": [None if one is None else _finite(one.low) for _, one in band],
            "high": [None if one is None else _finite(one.high) for _, one in band],
        },
        "levels": _levels(findings),
        "values": f"with at most {size:,} nodes, 95 % intervals",
        "marks": claims.EXCEEDS,
    }


def _faithfulness_series(points: Sequence[CurvePoint], chosen: CurvePoint | None) -> dict[str, Any]:
    """Points and line of one method's circuits; the number beside it is that of the chosen one."""
    shares = [(point.size, point.task_metrics.faithfulness.value) for point in points]
    own = None if chosen is None else chosen.task_metrics.faithfulness
    return {
        "points": [
            {"x": size, "y": share, "note": _said(point), "best": True}
            for point, (size, share) in zip(points, shares, strict=True)
        ],
        "line": across_gaps(shares, None),
        "value": None if own is None else {"value": own.value, "low": _finite(own.low), "high": _finite(own.high)},
        "mark": "" if chosen is None else chosen.task_metrics.mark,
    }


def across_gaps(points: Sequence[tuple[int, Value]], nothing: Unknown) -> list[tuple[int | float, Value | Unknown]]:
    """Values over sizes, with `nothing` between neighbours whose sizes are more than a factor of `_GAP` apart."""
    found: list[tuple[int | float, Value | Unknown]] = []
    for size, value in points:
        if found and size > _GAP * found[-1][0]:
            found.append((math.sqrt(size * found[-1][0]), nothing))
        found.append((size, value))
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _measured(curve: Curve) -> list[CurvePoint]:
    """Circuits with nodes and a finite faithfulness, the smallest first."""
    known = [one for one in curve.points if one.size and math.isfinite(one.task_metrics.faithfulness.value)]
    return sorted(known, key=lambda point: point.size)


def _up_to(points: Sequence[CurvePoint], size: int) -> CurvePoint | None:
    """The largest circuit of at most so many nodes."""
    return next((point for point in reversed(points) if point.size <= size), None)


def _said(point: CurvePoint) -> str:
    found = point.task_metrics
    share = found.faithfulness
    return (
        f"{point.size:,} nodes, 95 % {share.low:.2f} to {share.high:.2f}{found.mark}, per-prompt error "
        f"{found.prompt_error.value:.2f}, accuracy {found.accuracy:.2f}, KL {found.kl:.2f}"
    )


def _size_ticks(low: int, high: int) -> list[float]:
    ticks = [float(m * 10**e) for e in range(7) for m in (1, 2, 5) if low <= m * 10**e <= high]
    return ticks if len(ticks) <= 10 else [tick for tick in ticks if str(tick)[0] == "1"]


def _levels(findings: Findings) -> list[dict[str, Any]]:
    """The full model, all dictionaries and the empty circuit."""
    known = claims.landmarks(findings)
    found = [("full model", 1.0)]
    if known is not None:
        found.append(("model + dictionaries", known.dictionaries.faithfulness.value))
        found.append(("empty circuit", known.empty.faithfulness.value))
    return [{"name": name, "y": value} for name, value in found if math.isfinite(value)]


def _looks(ranked: Sequence[str], reference: str) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    slots = iter(range(_COLOURED))
    for name in ranked:
        if name.startswith(CONTROL):
            found[name] = "control", 0
        elif name == reference:
            found[name] = "reference", 0
        elif name == PROMPT:
            found[name] = "prompt", 0
        else:
            slot = next(slots, None)
            found[name] = ("other", 0) if slot is None else ("named", slot)
    return found


def _line(one: MethodCurve, limit: float) -> list[tuple[float, float]]:
    """Costs and benefits of the frontier up to the limit."""
    kept = [place for place in one.frontier if one.costs[place] <= limit]
    corners = [(max(0.0, one.costs[place]), one.benefits[place]) for place in kept]
    return [*corners, (limit, corners[-1][1])] if corners else []


def _band(lines: Sequence[Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    """From the least to the most that random controls reach at every cost."""
    if not lines:
        return None
    places = sorted({cost for line in lines for cost, _ in line})
    reached = [[line[bisect_right([cost for cost, _ in line], place) - 1][1] for line in lines] for place in places]
    low, high = [min(values) for values in reached], [max(values) for values in reached]
    return {"name": "random controls", "x": places, "low": low, "high": high}
