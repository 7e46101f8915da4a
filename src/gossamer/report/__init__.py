"""Figures and a one-file HTML page from results; knows nothing of how they were computed."""

from gossamer.report.attribution_page import attribution_page, write_attribution_page
from gossamer.report.figures import budget, circuit_map, completeness, curves, stability, trace_check
from gossamer.report.notebook_map import CircuitMap
from gossamer.report.page import page
from gossamer.report.relations_page import relations_page, write_relations_page
from gossamer.report.write import write_report

__all__ = [
    "CircuitMap",
    "attribution_page",
    "budget",
    "circuit_map",
    "completeness",
    "curves",
    "page",
    "relations_page",
    "stability",
    "trace_check",
    "write_attribution_page",
    "write_relations_page",
    "write_report",
]
