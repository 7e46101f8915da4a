"""Figures and a one-file HTML page from results; knows nothing of how they were computed."""

from gossamer.report.figures import budget, circuit_map, completeness, curves, stability, trace_check
from gossamer.report.page import page
from gossamer.report.write import write_report

__all__ = ["budget", "circuit_map", "completeness", "curves", "page", "stability", "trace_check", "write_report"]
