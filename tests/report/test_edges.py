"""Edges on the page: what the script is given, and what it does in a browser."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import report_sample as sample
from matplotlib.figure import Figure

from gossamer.circuits.edge import Edge, EdgePoint, HeadShare, QKEdge
from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.report import figures, page
from gossamer.report.claims import edges as claim
from gossamer.report.edges import edge_rows
from gossamer.statistics import Interval


@pytest.fixture(scope="module")
def findings() -> Findings:
    return sample.findings(40)


def test_rows_name_nodes_by_place_and_say_all_parts(findings: Findings) -> None:
    first, second = findings.nodes[0].node, findings.nodes[1].node
    heads = (HeadShare(3, 1, 1.25), HeadShare(2, 0, -0.5), HeadShare(2, 1, 0.25), HeadShare(2, 2, 0.125))
    edges = (
        Edge(first, second, 1.5, 0.5, 0.375, heads),
        Edge(second, "logit_diff", -2.0, -2.0, -2.0),
        Edge(first, "logit_diff", 0.25),
    )
    assert edge_rows(replace(findings, edges=edges)) == [
        [0, 1, 1, 0.25, "+1.50", "+0.500", "3.1",
         "head 3.1 +1.25, head 2.0 −0.500, same token +0.375, head 2.1 +0.250, other heads +0.125"],
        [1, -1, -1, 1.0, "−2.00", "−2.00", "", "same token −2.00"],
        [0, -1, 1, 0.125, "+0.250", "–", "", ""],
    ]  # fmt: skip


def test_edges_of_nodes_that_are_not_shown_are_left_out(findings: Findings) -> None:
    fewer = replace(findings, nodes=findings.nodes[:10])
    kept = edge_rows(fewer)
    assert 0 < len(kept) < len(edge_rows(findings))
    assert all(0 <= row[0] < 10 and -1 <= row[1] < 10 for row in kept)


def test_pairs_of_nodes_stand_in_a_table_where_they_were_asked_for(findings: Findings) -> None:
    first, second = findings.nodes[0].node, findings.nodes[1].node
    found = page(replace(findings, qk=(QKEdge(first, second, 3, 2, "END", "<b>", -1.25),)), {})
    assert "Why heads attended: 1 pair of nodes" in found
    cells = ("3.2", "END", "&lt;b&gt;", str(first), str(second), "−1.25")
    assert re.search(".*".join(map(re.escape, cells)), found)
    assert "Why heads attended" not in page(findings, {})


class Attributes(HTMLParser):
    """The attributes of the drawing of the circuit."""

    def handle_starttag(self, tag, attrs):
        if tag == "svg" and dict(attrs).get("id") == "map":
            self.found = dict(attrs)


def test_the_page_holds_the_edges_beside_the_drawing(findings: Findings) -> None:
    seen = Attributes()
    seen.feed(page(replace(findings, metric='a "<b>" metric'), {}))
    assert json.loads(seen.found["data-edges"]) == json.loads(json.dumps(edge_rows(findings)))
    assert seen.found["data-metric"] == 'a "<b>" metric'
    bare = page(replace(findings, edges=(), edge_test=None), {})
    assert 'id="edges"' not in bare
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


BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
# Acts as a reader would, and writes what is then to be seen into an attribute of the page.
READER = """<script>
const seen = [];
const note = () => seen.push([
  document.querySelector("#edges h3")?.textContent ?? null, document.querySelectorAll("#edge-lines path").length,
  document.querySelectorAll("#edges li").length, document.querySelectorAll(".pill.near").length,
  document.querySelector("#map").classList.contains("tracing")]);
const pill = document.querySelector('.pill[data-node="FIRST"]');
note();
pill.dispatchEvent(new Event("mouseenter")); note();
pill.focus();
pill.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowUp", bubbles: true})); note();
document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown", bubbles: true})); note();
document.querySelector("#edges button").click(); note();
document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"})); note();
document.body.dataset.seen = JSON.stringify(seen);
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here")
def test_in_a_browser_a_node_shows_its_edges_and_keys_walk_along_them(tmp_path) -> None:
    whole = sample.findings(12)
    by_site = sorted(range(12), key=lambda index: whole.nodes[index].site)
    low, middle, high = (whole.nodes[by_site[place]].node for place in (0, 6, 11))
    edges = (
        Edge(low, middle, 0.5, 0.5, 0.2, (HeadShare(9, 1, 0.3),)),
        Edge(low, high, -0.25, -0.125, -0.25),
        Edge(middle, "logit_diff", 1.0, 1.0, 1.0),
    )
    html = page(replace(whole, edges=edges), {}).replace("</body>", READER.replace("FIRST", str(by_site[0])))
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    shown = subprocess.run([*command, (tmp_path / "page.html").as_uri()], capture_output=True, text=True, timeout=60)
    seen = json.loads(re.search(r'data-seen="([^"]*)"', shown.stdout)[1].replace("&quot;", '"'))
    names = {node: f"{node.site} {node.role} {node.latent}" for node in (low, middle, high)}
    first = [names[low], 2, 2, 3, True]
    second = [names[middle], 2, 2, 2, True]
    assert seen == [[None, 0, 0, 0, False], first, second, first, second, [None, 0, 0, 0, False]]
