"""Circuits in the formats of other tools: the attribution-graph JSON that Neuronpedia and circuit-tracer read."""

from gossamer.circuits.export.attribution_graph import (
    PlacedNode,
    read_attribution_graph,
    save_attribution_graph,
    to_attribution_graph,
)
from gossamer.circuits.export.marks import with_marks
from gossamer.circuits.export.on_prompt import graph_beside, graph_on_prompt
from gossamer.circuits.export.prompt import GraphPrompt, Output, graph_prompt
from gossamer.circuits.export.validation import validate_attribution_graph
from gossamer.circuits.export.viewer_folder import save_viewer_folder

__all__ = [
    "GraphPrompt",
    "Output",
    "PlacedNode",
    "graph_beside",
    "graph_on_prompt",
    "graph_prompt",
    "read_attribution_graph",
    "save_attribution_graph",
    "save_viewer_folder",
    "to_attribution_graph",
    "validate_attribution_graph",
    "with_marks",
]
