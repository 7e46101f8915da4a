"""Edges on the page: what the map is given, what the table says, and the figure of their test."""

import re
from dataclasses import replace

import pytest
import report_sample as sample
from matplotlib.figure import Figure

from gossamer.circuits.edge import Edge, EdgePoint, HeadShare, QKEdge
from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.report import figures, page
from gossamer.report.claims import edges as claim
from gossamer.report.edges import edge_table, edge_values, edges_between
from gossamer.statistics import Interval


@pytest.fixture(scope="module")
def findings() -> Findings:
    return sample.findings(40)


@pytest.fixture(scope="module")
def parted(findings: Findings) -> Findings:
    first, second = findings.nodes[0].node, findings.nodes[1].node
    heads = (HeadShare(3, 1, 1.25), HeadShare(2, 0, -0.5), HeadShare(2, 1, 0.25), HeadShare(2, 2, 0.125))
    edges = (
        Edge(first, second, 1.5, 0.5, 0.375, heads),
        Edge(second, "logit_diff", -2.0, -2.0, -2.0),
        Edge(first, "logit_diff", 0.25),
    )
    return replace(findings, edges=edges)


def test_edges_are_values_with_the_strongest_heads_and_the_rest_together(parted: Findings) -> None:
    first, second = str(parted.nodes[0].node), str(parted.nodes[1].node)
    heads = [{"layer": layer, "head": head, "weight": weight} for layer, head, weight in (
        (3, 1, 1.25), (2, 0, -0.5), (2, 1, 0.25))]  # fmt: skip
    assert [edge_values(edge, "metric") for edge in edges_between(parted)] == [
        {"source": second, "target": "metric", "weight": -2.0, "influence": -2.0, "direct": -2.0, "heads": [],
         "others": 0.0},
        {"source": first, "target": second, "weight": 1.5, "influence": 0.5, "direct": 0.375, "heads": heads,
         "others": 0.125},
        {"source": first, "target": "metric", "weight": 0.25, "influence": None, "direct": None, "heads": [],
         "others": 0.0},
    ]  # fmt: skip


def test_the_table_says_the_same_in_words(parted: Findings) -> None:
    first, second = str(parted.nodes[0].node), str(parted.nodes[1].node)
    assert edge_table(parted) == [
        (second, "logit difference", "−2.00", "−2.00", "same token −2.00"),
        (first, second, "+1.50", "+0.500",
         "head 3.1 +1.25, head 2.0 −0.500, same token +0.375, head 2.1 +0.250, other heads +0.125"),
        (first, "logit difference", "+0.250", "–", ""),
    ]  # fmt: skip
    for cells in edge_table(parted):
        assert re.search(".*".join(map(re.escape, cells)), page(parted, {}), re.DOTALL)


def test_edges_of_nodes_that_are_not_shown_are_left_out(findings: Findings) -> None:
    fewer = replace(findings, nodes=findings.nodes[:10])
    kept, known = edges_between(fewer), {node.node for node in fewer.nodes}
    assert 0 < len(kept) < len(edges_between(findings)) == len(findings.edges)
    assert all(edge.source in known and (isinstance(edge.target, str) or edge.target in known) for edge in kept)


def test_pairs_of_nodes_stand_in_a_table_where_they_were_asked_for(findings: Findings) -> None:
    first, second = findings.nodes[0].node, findings.nodes[1].node
    found = page(replace(findings, qk=(QKEdge(first, second, 3, 2, "END", "<b>", -1.25),)), {})
    assert "Why heads attended: 1 pair of nodes" in found
    cells = ("3.2", "END", "&lt;b&gt;", str(first), str(second), "−1.25")
    assert re.search(".*".join(map(re.escape, cells)), found)
    assert "Why heads attended" not in page(findings, {})


def test_a_page_without_edges_says_so(findings: Findings) -> None:
    bare = page(replace(findings, edges=(), edge_test=None), {})
    assert "No edges were measured" in bare
    assert "Edges were not tested." in bare


def test_the_figure_shows_both_curves_and_every_random_set(findings: Findings) -> None:
    figure = figures.edges(findings)
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    test = findings.edge_test
    assert lines["strongest"].get_ydata() == pytest.approx([point.strongest.value for point in test.points])
    assert lines["random"].get_xdata() == pytest.approx([point.edges for point in test.points])
    dots = [dot for spots in axes.collections[2:] for dot in spots.get_offsets().tolist()]
    assert sorted(y for _, y in dots) == pytest.approx(sorted(value for point in test.points for value in point.draws))
    with pytest.raises(GossamerError, match="edges"):
        figures.edges(replace(findings, edge_test=None))


def test_the_claim_names_the_fewest_edges_that_keep_most(findings: Findings) -> None:
    assert claim(findings).replace("\u202f", "") == (
        "The strongest 31 of 62 edges keep 85% of the logit difference, as many random ones 36%"
    )
    low = Interval(0.3, 0.2, 0.4)
    weak = replace(findings.edge_test, points=(EdgePoint(62, low, low, (0.3,)),))
    assert claim(replace(findings, edge_test=weak)).startswith("All 62 measured edges keep 30")
    assert claim(replace(findings, edge_test=None)) is None
