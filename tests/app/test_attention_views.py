"""The attention views: what the routes say is what the files hold, and the pages draw it."""

import json
import shutil

import pytest
from attention_run import PROMPT, write_attention
from test_page import SIZES
from workbench_run import TOKEN, bench_of, client_of, grave_findings, no_sideways_scroll, serving

from gossamer import bundled
from gossamer.attention import AttributionData
from gossamer.report.ioi import sections, sentences

VIEWS = {"attention": "/attention/explore", "trace": "/trace/trace", "ioi": "/study/ioi~ioi"}
THERE = {"attention": "#terms tbody tr", "trace": ".tree tbody tr", "ioi": ".picture img"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of attention, in place of that of a circuit."""
    folder = tmp_path_factory.mktemp("attention") / "run"
    folder.mkdir()
    return folder, *write_attention(folder)


@pytest.fixture(scope="module")
def asked(made):
    return client_of(bench_of(made[0]))


def test_the_explorer_gets_the_files_own_data(asked, made, tmp_path):
    page = asked.get("/api/v1/attribution/explore").json()
    (tmp_path / "data.json").write_text(json.dumps(page["data"]))
    assert AttributionData.load(tmp_path / "data.json") == made[1]
    assert page["shown"]["tokens"][0][1:] == ["The", "␣boys", "␣near", "␣the", "␣dog"]


def test_a_trace_is_its_tree_with_what_was_measured(asked, made):
    traced = made[2]
    page = asked.get("/api/v1/traces/trace").json()
    assert sorted(node["number"] for node in page["nodes"]) == list(range(12))
    depth = {}
    for node in page["nodes"]:
        own = traced.trace.nodes[node["number"]]
        assert (node["parent"], node["contribution"], node["remainder"]) == (
            own.parent,
            own.contribution,
            own.remainder,
        )
        depth[node["number"]] = 0 if own.parent is None else depth[own.parent] + 1
        assert node["depth"] == depth[node["number"]]
        if own.heads:
            assert abs(node["head_contribution"]) == max(map(abs, own.heads))
    measured = {edge.child: (edge.predicted, edge.frozen, edge.live) for edge in traced.check.edges}
    shown = {node["number"]: (node["predicted"], node["frozen"], node["live"]) for node in page["nodes"][1:]}
    assert shown == measured
    assert page["agreement"][0]["value"] == traced.check.frozen.value
    assert page["pictures"][0]["svg"].startswith("<svg")


def test_the_study_is_its_report(asked, made):
    study = made[3]
    page = asked.get("/api/v1/studies/ioi~ioi").json()
    assert page["sentences"] == list(sentences(study))
    expected = list(sections(study))
    assert [table["title"] for table in page["tables"]] == [title for title, _ in expected]
    for table, (_, rows) in zip(page["tables"], expected, strict=True):
        assert table["columns"] == rows[0]
        assert table["rows"] == rows[1:]
    assert {one["name"] for one in page["pictures"]} == {"heads", "noising"}


@pytest.mark.parametrize("where", ["/attribution/trace", "/traces/nothing", "/studies/explore"])
def test_parts_of_another_kind_are_not_found(asked, where):
    answer = asked.get(f"/api/v1{where}")
    assert answer.status_code == 404
    assert "not in run" in answer.json()["detail"]


@pytest.mark.parametrize(("width", "scheme"), SIZES)
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_is_there_fits_and_has_nothing_grave_by_axe(visit, view, width, scheme):
    page = visit(VIEWS[view], width, scheme)
    page.wait_for_selector(THERE[view])
    assert no_sideways_scroll(page)
    assert grave_findings(page) == {}


def test_the_explorer_goes_back_in_time_by_keys(visit):
    page = visit("/attention/explore")
    page.wait_for_selector("#terms button.name")
    page.locator("#terms button.name:not(.ends)").first.focus()
    page.keyboard.press("p")
    page.wait_for_selector("#drawing .pinned")
    page.keyboard.press("Enter")
    page.wait_for_selector("#crumbs li >> nth=1")
    assert page.evaluate("document.querySelector('.component').shadowRoot.activeElement.id") == "node-title"
    page.keyboard.press("Escape")
    page.wait_for_function(
        "document.querySelector('.component').shadowRoot.querySelectorAll('#crumbs li').length === 1"
    )


def test_a_branch_is_folded_and_python_gives_the_same(visit, made, capsys):
    page = visit("/trace/trace")
    page.wait_for_selector(".tree tbody tr")
    assert page.locator(".tree tbody tr").count() == 12
    page.click("text=Close all but the first")
    first = sum(node.parent in (None, 0) for node in made[2].trace.nodes)
    assert page.locator(".tree tbody tr").count() == first
    for where, said in (
        ("/trace/trace", "attn_out.3"),
        ("/attention/explore", "AttributionData("),
        ("/study/ioi~ioi", next(sentences(made[3]))),
    ):
        page = visit(where)
        page.click("text=Copy as Python")
        page.wait_for_selector("text=copied")
        exec(page.evaluate("navigator.clipboard.readText()"), {})
        assert said in capsys.readouterr().out


def test_tables_of_studies_sort_by_number_and_say_what_the_report_says(visit, made, tmp_path):
    title, rows = next((title, rows) for title, rows in sections(made[3]) if title.startswith("Single heads"))
    page = visit("/study/ioi~ioi")
    page.wait_for_selector(".picture img")
    table = page.locator("section", has_text=title)
    assert table.locator("tbody tr td:first-child").all_inner_texts() == [row[0] for row in rows[1:]]
    table.locator("th button:has-text('choosing')").click()
    shown = [float(cell) for cell in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]
    assert shown == sorted(map(float, (row[2] for row in rows[1:])), reverse=True)


def test_a_latent_of_a_trace_is_followed_back_in_the_explorer(built, made, browser, tmp_path):
    """Where the run has the dictionaries of the trace."""
    run = tmp_path / "run"
    shutil.copytree(bundled.path("spool") / "dictionaries", run / "dictionaries")
    made[2].save(run / "trace.json")
    with serving(run) as address:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/#token={TOKEN}&/trace/trace")
        link = page.locator("a.follow").first
        name = link.get_attribute("aria-label").split()[1]
        link.click()
        page.wait_for_selector("#terms tbody tr")
        assert page.input_value("textarea[name=text]") == PROMPT
        assert page.input_value("input[name=feature]") == name
        title = page.inner_text("#node-title")
        assert name.split("/")[1] in title
        page.click("nav[aria-label=Breadcrumbs] >> text=trace")
        page.wait_for_selector(".tree tbody tr")
        page.close()
