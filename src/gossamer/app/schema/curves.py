"""Curves with intervals, as several views draw them."""

from typing import Literal

from pydantic import Field

from gossamer.app.schema.base import IntervalShape, Number, Shape


class CurveAxis(Shape):
    """The x axis of curves; its scale is linear up to `linear` where it is symlog."""

    label: str
    scale: Literal["symlog", "log"]
    linear: Number
    low: float
    high: float
    ticks: list[float]


class CurveHeight(Shape):
    """The y axis; `high` is null where the values decide."""

    label: str
    low: float
    high: Number


class CurveSeriesPoint(Shape):
    """A point with what is said of it; `best` where no other point of the series beats it."""

    x: Number
    y: Number
    note: str
    best: bool


class CurveSeries(Shape):
    """A line, its points and one number; `slot` is the place of its colour in the palette."""

    name: str
    look: Literal["reference", "prompt", "own", "named", "faint", "control", "other"]
    slot: int
    dashed: bool = False
    points: list[CurveSeriesPoint]
    line: list[list[Number]]
    value: IntervalShape | None
    mark: str


class CurveBand(Shape):
    """What lies between two lines."""

    name: str
    x: list[Number]
    low: list[Number]
    high: list[Number]


class CurveLevel(Shape):
    """A height that curves are seen against, drawn as a dotted line."""

    name: str
    y: Number


class CurvesData(Shape):
    """Curves as components/curves.js draws them: the same values as in the report."""

    format: str
    x: CurveAxis
    y: CurveHeight
    step: bool
    series: list[CurveSeries]
    band: CurveBand | None
    levels: list[CurveLevel] = Field([])
    values: str
    marks: str
