"""The map of a circuit alone: in a notebook as the value of a cell, or as a page of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.circuits.results import Findings
from gossamer.display import html_frame, short_repr
from gossamer.report import claims, html
from gossamer.report.edges import edge_table
from gossamer.report.map_data import map_data


@dataclass(frozen=True)
class CircuitMap:
    """A circuit to walk through: `CircuitMap(findings)` as the last line of a notebook's cell.

    It stands in a frame that holds all it needs: nothing is fetched, no widget is installed, and it works in a notebook
    that was exported too. A frame without scripts has the edges as a table.

    Attributes:
        findings: the circuit with its cards, groups and edges.
        height: of the frame, in pixels.
        folded: whether groups are folded at first.
    """

    findings: Findings
    height: int = 820
    folded: bool = False

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield repr(self.findings)

    def page(self) -> str:
        """The map as a whole HTML page."""
        return (
            html.environment()
            .get_template("map/page.html.j2")
            .render(
                findings=self.findings,
                headline=claims.headline(self.findings),
                edges=edge_table(self.findings),
                map=html.inline(map_data(self.findings)),
                component=html.component("circuit_map.js"),
                folded=self.folded,
            )
        )

    def _repr_html_(self) -> str:
        return html_frame(self.page(), "circuit map", self.height)
