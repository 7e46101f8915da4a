"""A circuit on one of its held-out prompts as an attribution graph, and the one that lies beside its file."""

from pathlib import Path
from typing import Any

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.edge import Edge
from gossamer.circuits.export.attribution_graph import placed_nodes, to_attribution_graph
from gossamer.circuits.export.prompt import graph_prompt
from gossamer.circuits.export.validation import validate_attribution_graph
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.splice import Splice
from gossamer.errors import GossamerError
from gossamer.features.links import neuronpedia_set
from gossamer.files import read_json
from gossamer.results.values import to_json


def graph_on_prompt(circuit: Circuit, nodes: Nodes, splice: Splice, row: int = 0) -> dict[str, Any]:
    """The circuit on prompt `row` of the splice's, as the graph that Neuronpedia and circuit-tracer read.

    Args:
        circuit: with its edges.
        nodes: its nodes, as places in the splice's dictionaries.
        splice: with the prompts.
        row: number of the prompt.

    Raises:
        UsageError: no such prompt.
    """
    known = neuronpedia_set({site: splice.dictionaries[site] for site in circuit.sites})
    scan, source_set = (None, None) if known is None else known
    return to_attribution_graph(
        circuit,
        graph_prompt(splice, nodes, row),
        widths={site: dictionary.n_latents for site, dictionary in splice.dictionaries.items()},
        n_layers=splice.model.n_layers,
        scan=scan,
        slug=f"{circuit.task}-{len(nodes)}",
        source_set=source_set,
    )


def graph_beside(circuit: Circuit, folder: Path) -> dict[str, Any] | None:
    """The graph.json of a folder, if it is of this circuit: with its edges, and no node that is not in it.

    A command that finds a circuit writes it, on the first held-out prompt: no model has to be loaded for it again.
    """
    try:
        graph: dict[str, Any] = read_json(folder / "graph.json")
        validate_attribution_graph(graph)
        own = graph["metadata"]["gossamer"]
        nodes = {placed.node for placed, _ in placed_nodes(graph)}
    except (GossamerError, KeyError, TypeError, ValueError, AttributeError):
        return None  # not there, damaged, or of another program
    same = own.get("edges") == to_json(circuit.edges, tuple[Edge, ...])
    return graph if same and nodes <= set(circuit.keys()) else None
