"""The relations view in a browser: the graph by mouse and keys, its twin, a pair, and the report's own component."""

import json

import pytest
from relations_run import NAMES, write_relations
from test_page import SIZES
from workbench_run import grave_findings, no_sideways_scroll

from gossamer.app.exported_page import export_page
from gossamer.relations import SitePair, pair_table

WHERE = "/relations/relations~page"
# What the driver of a machine without a GPU says when a picture is read back.
DRIVER = "GL Driver Message"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of planted relations, in place of that of a circuit."""
    folder = tmp_path_factory.mktemp("related") / "run"
    return folder, *write_relations(folder / "relations")


@pytest.fixture
def harmless():
    return (DRIVER,)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_every_part_is_there_and_fits(visit, width, scheme):
    page = visit(WHERE, width, scheme)
    page.wait_for_selector(".graph-canvas canvas")
    assert "52 of 52 latents" in page.inner_text(".stage [role=status] >> nth=0")
    assert no_sideways_scroll(page)
    for tab, there in (
        ("Passed on", "#sankeys svg"), ("Gates", "#gates-twin tbody tr"), ("Communities", "#communities-twin tbody tr"),
        ("A prompt", "#canvas .node"), ("Causal", "#effects-view"),
    ):  # fmt: skip
        page.click(f".tabs >> text={tab}")
        page.wait_for_selector(there)
        assert no_sideways_scroll(page)
        assert page.locator("section:visible h2:visible").count() >= 1
    page.goto(page.url.rpartition("/")[0] + "/pair?a=resid_post.0/0&b=resid_post.1/0")
    page.wait_for_selector(".two")
    assert no_sideways_scroll(page)


def test_keys_walk_along_edges_and_open_a_latent(visit, made):
    graph = made[2]
    page = visit(WHERE)
    page.wait_for_selector(".graph-canvas canvas")
    page.focus(".graph-canvas")
    page.keyboard.press("Home")
    page.wait_for_selector(".panel h3 code")
    first = page.inner_text(".panel h3 code")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("first => document.querySelector('.panel h3 code')?.innerText !== first", arg=first)
    second = page.inner_text(".panel h3 code")
    # Down the strongest edge: to the most alike latent of the dictionary before.
    ends = dict(zip(graph.ids, range(len(graph)), strict=True))
    node = ends[f"{first.split('/')[0][-1]}_{first.split('/')[1]}"]
    own = [(value, graph.heads[at]) for at, value in enumerate(graph.similarity) if graph.tails[at] == node]
    best = max(own)[1]
    assert second == f"{graph.names[graph.sources[best]]}/{graph.latents[best]}"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.className") == "panel"
    page.click("button:has-text('Its community alone')")
    page.wait_for_selector("button:has-text('All communities')")
    assert "community=" in page.url
    page.click("button:has-text('All communities')")
    page.select_option("select >> nth=1", "communities")
    page.wait_for_selector("text=/Showing \\d+ of \\d+ communities/")


def test_the_twin_has_what_is_drawn_and_python_gives_the_same(visit, made, tmp_path, capsys):
    graph = made[2]
    page = visit(WHERE)
    page.wait_for_selector(".graph-canvas canvas")
    page.click("summary:has-text('The same as tables')")
    page.wait_for_selector(".stage table >> nth=1")
    with page.expect_download() as saved:
        page.click(".datatable button:has-text('CSV') >> nth=1")
    saved.value.save_as(tmp_path / "edges.csv")
    assert len((tmp_path / "edges.csv").read_text().splitlines()) == len(graph.heads) + 1
    with page.expect_download() as saved:
        page.click("text=Download data")
    saved.value.save_as(tmp_path / "graph.json")
    shown = json.loads((tmp_path / "graph.json").read_text())
    assert len(shown["nodes"]) == len(graph)
    weights = sorted(edge["weight"] for edge in shown["edges"])
    assert weights == pytest.approx(sorted(graph.similarity.tolist()), rel=1e-3)
    for where, said in (
        (WHERE, "52 latents of 52 in sight"), (f"{WHERE}/gates", "RelationsData(planted"),
        (f"{WHERE}/pair?a=resid_post.0/0&b=resid_post.1/0", "PairTable("),
    ):  # fmt: skip
        page = visit(where)
        page.click("text=Copy as Python")
        page.wait_for_selector("text=copied")
        exec(page.evaluate("navigator.clipboard.readText()"), {})
        assert said in capsys.readouterr().out


def test_an_exported_page_has_the_graph_without_a_server(built, made, browser, tmp_path):
    written = export_page(made[0], tmp_path / "one.html")
    page, wrong = browser.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{written.page.as_uri()}#{WHERE}")
    page.wait_for_selector(".graph-canvas canvas")
    page.focus(".graph-canvas")
    page.keyboard.press("+")
    page.select_option("select >> nth=1", "communities")
    page.wait_for_selector("text=/Showing \\d+ of \\d+ communities/")
    page.keyboard.press("Home")
    page.focus(".graph-canvas")
    page.keyboard.press("Home")
    page.click("button:has-text('Look inside')")
    page.wait_for_selector("button:has-text('All communities')")
    page.wait_for_selector("text=/Showing \\d+ of \\d+ latents/")
    page.click(".tabs >> text=Passed on")
    page.wait_for_selector("#sankeys svg")
    page.close()
    assert wrong == []


def test_a_pair_shows_its_table(visit, made):
    expected = pair_table(made[1][SitePair(*NAMES[:2])], 4, 2)
    page = visit(f"{WHERE}/pair?a=resid_post.0/4&b=resid_post.1/2")
    page.wait_for_selector(".two")
    cells = [int(text.replace(",", "")) for text in page.locator(".two tbody td").all_inner_texts()]
    both, up, down, neither = expected.both, expected.upstream_only, expected.downstream_only, expected.neither
    assert cells == [both, up, both + up, down, neither, down + neither, both + down, up + neither, expected.tokens]
    assert "\\u202e" in page.inner_text("main")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "tab", ["", "/lifecycle", "/gates", "/communities", "/prompt", "/causal", "/pair?a=resid_post.0/0&b=resid_post.1/0"]
)
def test_axe_finds_nothing_grave(visit, tab, scheme):
    page = visit(f"{WHERE}{tab}", 1400, scheme)
    page.wait_for_selector("h2:visible, .graph-canvas canvas")
    page.wait_for_timeout(300)
    assert grave_findings(page) == {}
