"""Every method held against the best of all others, counted by hand."""

from gossamer.circuits.curve import Curve, CurvePoint, MethodCount, behind_the_rest
from gossamer.circuits.task_metrics import TaskMetrics
from gossamer.statistics import Interval


def curve(method: str, kept: dict[int, float]) -> Curve:
    def point(size: int, value: float) -> CurvePoint:
        around = Interval(value, value, value)
        return CurvePoint(size, size, TaskMetrics(method, around, around, around, 1.0, 1.0, 0.0, around))

    return Curve(method, tuple(point(size, value) for size, value in kept.items()), 0.0, 0.0, 0.0)


def test_each_method_beside_the_best_of_all_others():
    curves = [
        curve("mask", {90: 1.05, 10: 0.7}),  # no circuit of 50: that of 10 stands there
        curve("a", {100: 0.9, 50: 0.7004, 10: 0.71}),
        curve("b", {100: 1.3, 50: 0.6, 10: 0.2}),
        curve("c", {10: 0.5}),
    ]
    assert behind_the_rest(curves, {100, 50, 10}) == (
        MethodCount("mask", 3, 1),  # level at 50, where rounding is no difference
        MethodCount("a", 3, 1),  # behind at 100
        MethodCount("b", 3, 3),  # at 100 too: what is above 1 is as far off
        MethodCount("c", 1, 1),
    )
    assert behind_the_rest(curves[:1], {100}) == (MethodCount("mask", 0, 0),), "nobody to be held against"
    assert behind_the_rest(curves, {10})[1] == MethodCount("a", 1, 0)
