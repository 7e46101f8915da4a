"""The page in a browser: every view on a real run, by mouse and by keys, narrow and wide, light and dark."""

import gzip
import json
import re
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from workbench_run import TOKEN, no_sideways_scroll

from gossamer.app import page as built_page

FIRST_LOAD = 250_000
SIZES = [(420, "light"), (420, "dark"), (1400, "light"), (1400, "dark")]


def choose(page, place):
    """Choose a box of the map; returns the name of its node."""
    page.locator(".map-host button.box:not(.metric)").nth(place).click()
    return page.inner_text(".node header code")


def test_the_first_load_is_small(built):
    files = [path for path in built.rglob("*") if path.is_file()]
    html = (built / "index.html").read_text()
    first = [path for path in files if path.name in html or path.name == "index.html"]
    assert len(first) >= 3
    assert sum(len(gzip.compress(path.read_bytes())) for path in first) <= FIRST_LOAD
    assert not re.search(r"https?://", html)
    assert built_page.is_built()


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_every_view_is_there_and_fits(visit, width, scheme):
    page = visit("/", width, scheme)
    page.wait_for_selector("h1:has-text('run')")
    assert no_sideways_scroll(page)
    assert page.locator(".tag.whole").count() == 2
    page.click("nav[aria-label='Views'] >> text=Circuit")
    page.wait_for_selector("h1:has-text('sva-simple in bundled:spool')")
    assert page.locator(".map-host button.box:not(.metric)").count() == 12
    choose(page, 0)
    page.wait_for_selector(".latent .examples")
    assert no_sideways_scroll(page)
    for tab, expected in (("Nodes", 12), ("Edges", 1), ("How it was tested", 4)):
        page.click(f".tabs >> text={tab}")
        page.wait_for_selector(f".tabs [aria-current]:has-text('{tab}')")
        page.wait_for_selector("table tbody tr")
        assert page.locator("table tbody tr").count() >= expected
        assert no_sideways_scroll(page)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_pins_by_keys_are_measured_undone_and_in_the_address(visit, made):
    page = visit("/circuit/circuit")
    page.wait_for_selector(".map-host button.box")
    first = choose(page, 0)
    page.keyboard.press("p")
    second = choose(page, 1)
    page.keyboard.press("p")
    page.wait_for_selector(".pinned h3:has-text('2 nodes pinned')")
    page.wait_for_selector(".scores")
    page.wait_for_selector(".pinned [aria-busy=false]")
    alone = page.inner_text(".scores tr.ours td >> nth=0")
    page.keyboard.press("u")
    page.wait_for_selector(".pinned h3:has-text('1 node pinned')")
    page.keyboard.press("Shift+U")
    page.wait_for_selector(".pinned h3:has-text('2 nodes pinned')")
    page.wait_for_selector(".pinned [aria-busy=false]")
    assert page.inner_text(".scores tr.ours td >> nth=0") == alone
    address = page.url
    assert "token" not in address
    page.reload()
    page.wait_for_selector(".pinned h3:has-text('2 nodes pinned')")
    chips = page.inner_text(".chips")
    assert first in chips
    assert second in chips
    # All of them, on the held-out prompts, are the circuit of the file.
    page.click("text=Pin all")
    page.wait_for_selector(".pinned [aria-busy=false]")
    held = []
    page.route("**/score", lambda route: held.append(route))
    page.click("text=Measure on the held-out prompts")
    page.wait_for_selector(".pinned [aria-busy=true]")
    # What stands there until the answer comes is of the other prompts, and says so.
    assert page.locator("text=/On \\d+ prompts: training prompts/").count() == 1
    assert page.locator("text=/On \\d+ held-out prompts/").count() == 0
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    page.unroute("**/score")
    page.wait_for_selector("text=/On \\d+ held-out prompts/")
    page.wait_for_selector(".pinned [aria-busy=false]")
    said = page.inner_text(".scores tr.ours td >> nth=0").split()[0].replace("−", "-")
    assert float(said) == pytest.approx(made[1].circuit.measured["faithfulness"], abs=0.006)


def test_labels_groups_and_views_are_kept(visit):
    page = visit("/circuit/circuit")
    page.wait_for_selector(".map-host button.box")
    name = choose(page, 0)
    page.keyboard.press("l")
    page.keyboard.type("<img src=x onerror=alert(1)>")
    page.fill("[name=group]", "number")
    page.keyboard.press("Enter")
    page.wait_for_selector(".node h3:has-text('<img src=x')")
    assert page.locator("img").count() == 0
    page.wait_for_selector(".map-host button:has-text('Fold into 1 groups')")
    page.keyboard.press("p")
    page.fill("[name=name]", "mine")
    page.click(".keep button:has-text('Keep')")
    page.wait_for_selector("text=kept as views/mine.json")
    other = visit("/circuit/circuit")
    other.wait_for_selector(".keep option:has-text('mine')", state="attached")
    other.select_option(".keep select", "mine")
    other.wait_for_selector(".pinned h3:has-text('1 node pinned')")
    other.click(".chips button >> nth=0")
    other.wait_for_selector(f".node header code:has-text('{name}')")
    assert other.input_value("[name=label]") == "<img src=x onerror=alert(1)>"
    assert other.input_value("[name=group]") == "number"


def test_a_patch_shows_the_logits(visit):
    page = visit("/circuit/circuit")
    page.wait_for_selector(".map-host button.box")
    choose(page, 0)
    page.click("summary:has-text('Patch nodes')")
    page.wait_for_selector(".patch select")
    page.select_option(".patch select >> nth=1", "zero")
    page.click(".patch button[type=submit]")
    page.wait_for_selector(".patch table tbody tr")
    assert page.inner_text(".patch tbody th >> nth=0").endswith("right")
    assert "KL from the model" in page.inner_text(".patch")


def test_tables_sort_filter_and_leave_as_files(visit, tmp_path, made):
    page = visit("/circuit/circuit/nodes")
    page.click("th button:has-text('effect')")
    effects = [float(text.replace("−", "-")) for text in page.locator("tbody tr td:nth-child(5)").all_inner_texts()]
    assert effects == sorted(effects, reverse=True)
    site = str(made[2].nodes[0].site)
    page.fill("input[type=search]", site)
    wanted = sum(str(node.site) == site for node in made[2].nodes)
    assert page.locator("tbody tr").count() == wanted
    with page.expect_download() as saved:
        page.click("text=CSV")
    saved.value.save_as(tmp_path / "nodes.csv")
    assert len((tmp_path / "nodes.csv").read_text().splitlines()) == wanted + 1
    page.click(".tabs >> text=Map")
    with page.expect_download() as saved:
        page.click("text=Download data")
    saved.value.save_as(tmp_path / "circuit.json")
    assert json.loads((tmp_path / "circuit.json").read_text())["digest"] == made[1].circuit.sha256


def test_the_drawing_leaves_as_a_picture_and_the_circuit_in_formats_of_others(visit, tmp_path, made):
    page = visit("/circuit/circuit")
    page.wait_for_selector(".map-host button.box")
    choose(page, 0)
    with page.expect_download() as saved:
        page.click("text=This drawing (SVG)")
    saved.value.save_as(tmp_path / "map.svg")
    root = ElementTree.parse(tmp_path / "map.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    titles = [one.text for one in root.iter(f"{space}title")]
    drawn = page.locator(".map-host button.box")
    assert titles == [box.get_attribute("aria-label") for box in drawn.all()]
    assert len(titles) == len(made[2].nodes) + 1
    assert len(list(root.iter(f"{space}path"))) == page.locator(".map-host svg path").count() > 0
    assert {name for one in root.iter() for name in one.attrib if "href" in name or name == "style"} == set()
    # The file drawn again is as large as the map, and not blank.
    shown = page.context.browser.new_page(viewport={"width": 1000, "height": 800})
    shown.goto((tmp_path / "map.svg").as_uri())
    assert shown.evaluate("document.documentElement.getBoundingClientRect().width") == float(root.get("width"))
    shown.close()
    for name, ending in (("GraphML", ".graphml"), ("circuit-tracer", ".zip"), ("Figure (SVG)", ".svg")):
        with page.expect_download() as saved:
            page.click(f".exports button:text-is('{name}')")
        assert saved.value.suggested_filename.endswith(ending)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_text_and_a_latent_are_there_and_fit(visit, width, scheme):
    page = visit("/prompt/circuit", width, scheme)
    page.fill("textarea", "The boys near the dog")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".strip")
    page.click(".strip button >> nth=2")
    page.wait_for_selector("h2:has-text('Latents at token 2')")
    page.click(".sites .plainbutton >> nth=0")
    page.wait_for_selector("text=Coloured by")
    page.wait_for_selector(".strip .s5")
    word = page.inner_text(".predictions button >> nth=1 >> bdi")
    page.click(".predictions button >> nth=1")
    page.wait_for_selector(f".predictions [aria-pressed=true]:has-text('{word}')")
    # What was chosen stays chosen, and the order is now that of attributions to it.
    page.wait_for_selector("h2:has-text('Latents at token 2')")
    assert page.is_checked("input[name=order] >> nth=1")
    assert no_sideways_scroll(page)
    page.click("text=Take each away and measure >> nth=0")
    page.wait_for_selector("th:has-text('without it')")
    assert no_sideways_scroll(page)
    page.click(".sites a >> nth=0")
    page.wait_for_selector(".latent")
    page.fill("textarea", "The girls near the cats")
    page.click("button:has-text('Run')")
    page.wait_for_selector("text=/Where it fires|active at no token/")
    assert no_sideways_scroll(page)


def test_what_is_copied_as_python_runs(visit, capsys, made):
    latent = quote(str(made[2].nodes[0].card.feature), safe="")
    views = (
        "/",
        "/circuit/circuit",
        "/circuit/circuit/evaluation",
        "/prompt/circuit?text=The+boys",
        f"/latent/circuit/{latent}",
    )
    for where in views:
        page = visit(where)
        page.click("text=Copy as Python")
        page.wait_for_selector("text=copied")
        exec(page.evaluate("navigator.clipboard.readText()"), {})
    said = capsys.readouterr().out
    assert "findings findings whole" in said
    assert "pinned nodes" in said
    assert "PromptLatents(" in said
    assert "FeatureCard(" in said


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("/circuit/nothing", "not in run"),
        ("/circuit/%3Cimg%20src=x%3E", "String should match pattern"),
        ("/nowhere", "There is no such view"),
    ],
)
def test_what_is_not_there_is_said(browser, address, where, said):
    page = browser.new_page()
    page.goto(f"{address}/#token={TOKEN}&{where}")
    page.wait_for_selector(f"[role=alert]:has-text('{said}')")
    page.close()


def test_without_the_token_nothing_is_shown(browser, address):
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("[role=alert]:has-text('open the address as printed')")
    assert page.locator("table").count() == 0
    page.close()
