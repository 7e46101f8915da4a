"""Studies in a browser: tables and pictures at any width, links to the circuits of their tasks, Python that runs."""

import pytest
from workbench_run import grave_findings, no_sideways_scroll, serving

STUDIES = {
    "/study/circuits~study": "Circuits of several tasks",
    "/study/coding~results": "Encoder or decoder",
    "/study/recipes~results": "Ways to train dictionaries",
    "/study/adversarial~seeds": "over seeds",
    # With nothing measured yet.
    "/study/ioi~ioi": "Who gets what",
}


@pytest.fixture
def harmless():
    # What the driver of a machine without a GPU says when a picture is read back.
    return ("GL Driver Message",)


@pytest.fixture(scope="module")
def address(built, kinds):
    with serving(kinds) as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), [(420, "dark"), (1400, "light")])
def test_studies_are_there_fit_and_have_nothing_grave_by_axe(visit, width, scheme):
    page = visit("/", width, scheme)
    for where, title in STUDIES.items():
        page.goto(page.url.split("#")[0] + f"#{where}")
        page.wait_for_selector(f"h1:has-text('{title}')")
        assert no_sideways_scroll(page), where
        assert not grave_findings(page), where
    page.wait_for_selector(".empty:has-text('gossamer ioi')")


def test_every_file_of_the_overview_leads_to_a_view_that_draws_it(visit):
    page = visit("/")
    page.wait_for_selector("table caption:has-text('Files of the run')", state="attached")
    led = page.eval_on_selector_all("td a[href^='#/']", "found => found.map((one) => one.getAttribute('href'))")
    assert len(led) > 12
    for where in dict.fromkeys(led):
        page.goto(page.url.split("#")[0] + where)
        page.wait_for_selector("h1")
        page.wait_for_selector("main .waiting", state="detached")
        assert page.locator("main [role=alert]").all_inner_texts() == [], where
        page.go_back()


def test_a_task_leads_to_its_circuit_and_rows_behind_are_counted(visit):
    page = visit("/study/circuits~study")
    page.wait_for_selector("h1:has-text('Circuits of several tasks')")
    assert "behind by point value" in page.inner_text("main")
    assert "behind beyond the interval" in page.inner_text("main")
    page.click("td a:has-text('sva one') >> nth=0")
    page.wait_for_selector("h1:has-text('sva-simple in bundled:spool')")


def test_what_is_copied_as_python_runs(visit, capsys):
    for where, said in {
        "/study/circuits~study": "gone: cannot do it",
        "/study/coding~results": "CE recovered at each k",
        "/study/recipes~results": "Most latents are dead with ghost",
        "/study/adversarial~seeds": "With 0 of 2 seeds",
    }.items():
        page = visit(where)
        page.click("text=Copy as Python")
        page.wait_for_selector("text=copied")
        exec(page.evaluate("navigator.clipboard.readText()"), {})
        assert said in capsys.readouterr().out
