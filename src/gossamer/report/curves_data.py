"""Curves as `components/curves.js` takes them, as JSON values: what steering brings at every cost, and how soon
searches for failures succeed.

Report, workbench and the figure for papers draw the same values; which method has a colour is said here once.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.circuits.adversarial.results import CIRCUIT, AdversarialResults
from gossamer.steering.pareto import MethodCurve

FORMAT = "gossamer.curves.1"
CONTROL, PROMPT = "random", "prompt"
# Below this cost, in nats a token, the axis is linear: the unsteered model stands at 0.
LINEAR = 0.02
# Methods whose curves are drawn in colour, beside the reference and the prompt.
_COLOURED = 4
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
