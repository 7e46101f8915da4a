"""The relations view in a browser: the graph by mouse and keys, its twin, a pair, and the report's own component."""

import json
import shutil
from dataclasses import replace

import pytest
from relations_run import NAMES, write_relations
from test_page import SIZES
from workbench_run import TOKEN, grave_findings, no_sideways_scroll, serving

from gossamer import Dictionary, DictionarySet
from gossamer.app.exported_page import export_page
from gossamer.dictionary.config import DictionaryConfig
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


@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("detail", ["communities", "latents"])
def test_no_name_lies_over_another_and_a_click_on_one_chooses_its_node(visit, width, detail):
    page = visit(WHERE, width)
    page.wait_for_selector(".graph-canvas canvas")
    page.select_option("select >> nth=1", detail)
    page.wait_for_selector(f"text=/Showing \\d+ of \\d+ {detail}/")
    page.wait_for_timeout(500)
    page.focus(".graph-canvas")
    page.keyboard.press("Home")
    page.wait_for_selector(".panel h3")
    page.wait_for_timeout(500)
    names = json.loads(page.get_attribute(".graph-canvas", "data-names"))
    room = page.locator(".graph-canvas").bounding_box()
    # What is planted is one community.
    assert len(names) >= (1 if detail == "communities" else 3)
    for at, one in enumerate(names):
        assert 0 <= one["left"] <= one["left"] + one["width"] <= room["width"]
        assert 0 <= one["top"] <= one["top"] + one["height"] <= room["height"]
        for other in names[:at]:
            apart = one["left"] >= other["left"] + other["width"] or other["left"] >= one["left"] + one["width"]
            assert apart or one["top"] >= other["top"] + other["height"] or other["top"] >= one["top"] + one["height"]
    page.keyboard.press("Escape")
    page.wait_for_selector(".panel .note:has-text('Choose a')")
    one = json.loads(page.get_attribute(".graph-canvas", "data-names"))[0]
    place = {"x": one["left"] + one["width"] / 2, "y": one["top"] + one["height"] / 2}
    page.click(".graph-canvas", position=place)
    page.wait_for_selector(".panel h3")


def test_names_lead_to_the_pages_of_their_latents_where_the_run_has_them(built, made, browser, tmp_path):
    """Dictionaries of the names and widths that the relations have, of a model that says nothing."""
    run = tmp_path / "run"
    shutil.copytree(made[0] / "relations", run / "relations")
    widths = {one.name: one.latents for one in made[3].dictionaries}
    facts = [DictionaryConfig("relu", 8, width, name, "planted") for name, width in widths.items()]
    DictionarySet(map(Dictionary, facts)).save(run / "dictionaries")
    with serving(run) as address:
        page = browser.new_page()
        page.goto(f"{address}/#token={TOKEN}&{WHERE}/pair?a=resid_post.0/4&b=resid_post.1/2")
        assert page.get_attribute("h2 a >> nth=0", "href") == "#/latent/dictionaries~dictionaries/resid_post.0%2F4"
        page.close()
        # Of other widths they are others.
        shutil.rmtree(run / "dictionaries")
        DictionarySet(Dictionary(replace(one, n_latents=one.n_latents + 1)) for one in facts).save(run / "dictionaries")
        page = browser.new_page()
        page.goto(f"{address}/#token={TOKEN}&{WHERE}/pair?a=resid_post.0/4&b=resid_post.1/2")
        page.wait_for_selector("h2 code >> nth=0")
        assert page.locator("h2 a").count() == 0
        page.close()


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
    page.focus(".graph-canvas")
    page.keyboard.press("Home")
    page.wait_for_selector(".panel h3 code")
    assert "Upstream" in page.inner_text(".panel")
    page.click("button:has-text('All communities')")
    # At every threshold that the page holds, as many edges as there are above it.
    graph = made[2]
    page.select_option("select >> nth=1", "latents")
    steps = page.eval_on_selector_all("select >> nth=2 >> option", "found => found.map((one) => one.value)")
    assert len(steps) >= 2
    for step in steps[1:]:
        page.select_option("select >> nth=2", step)
        left = int((graph.similarity >= float(step)).sum())
        page.wait_for_selector(f"text=/ {left} of {left} edges/")
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
