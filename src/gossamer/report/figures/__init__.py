"""One function a figure; each takes findings and returns a matplotlib figure tied to no window or state."""

from gossamer.report.figures.budget import budget
from gossamer.report.figures.circuit_map import circuit_map
from gossamer.report.figures.completeness import completeness
from gossamer.report.figures.curves import curves
from gossamer.report.figures.edges import edges
from gossamer.report.figures.stability import stability
from gossamer.report.figures.trace_check import trace_check

__all__ = ["budget", "circuit_map", "completeness", "curves", "edges", "stability", "trace_check"]
