"""The page of how information moved: safe and self-contained, and in a browser by mouse and by keys."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import report_sample

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.attention import AttributionData, Limits, Question, attribution_data
from gossamer.errors import UsageError
from gossamer.report import attribution_page, write_attribution_page, write_report

PROMPT = "The boys near the dog"
HOSTILE = ("</script><script>window.hurt = 1</script>", "<img src=x onerror='window.hurt = 1'>", "\u202e&amp;", "\n")


@pytest.fixture(scope="module")
def data() -> AttributionData:
    model = LanguageModel.load("bundled:spool")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    questions = [Question(PROMPT, " are", " is"), Question("The girl saw the boys")]
    return attribution_data(model, dictionaries, questions, limits=Limits(latents=4, terms=20, scores=20))


def hostile(data: AttributionData) -> AttributionData:
    first = data.prompts[0]
    tokens = (first.tokens[0], *HOSTILE, *first.tokens[5:])
    words = dict.fromkeys(data.dictionaries[0].words, HOSTILE)
    facts = replace(data.dictionaries[0], words=words, link="javascript:window.hurt = 1//")
    prompts = (replace(first, tokens=tokens, target=HOSTILE[1]), *data.prompts[1:])
    return replace(data, model="<b>m</b>", prompts=prompts, dictionaries=(facts, *data.dictionaries[1:]))


def test_nothing_is_fetched_and_the_record_is_inside(data, tmp_path):
    path = write_attribution_page(data, tmp_path / "page.html")
    html = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "src=" not in html
    assert "href=" not in html
    held = html.partition('id="data">')[2].partition("</script>")[0]
    saved = json.loads(data.save(tmp_path / "data.json").read_text())
    assert json.loads(held) == {name: value for name, value in saved.items() if name != "sha256"}
    assert attribution_page(data) == html


def test_hostile_text_does_not_end_the_script(data):
    html = attribution_page(hostile(data))
    assert html.count("</script>") == 3
    assert "<img" not in html
    assert "<b>m" not in html


@pytest.fixture
def visit(open_page, data, tmp_path):
    """Open a page made of some data."""

    def visit(shown: AttributionData = data, **how):
        return open_page(write_attribution_page(shown, tmp_path / f"{len(list(tmp_path.iterdir()))}.html"), **how)

    return visit


def number(text: str) -> float:
    return float(text.replace("\u2212", "-").replace("+", "").replace("\u202f", "").replace("%", ""))


def rows(page, table: str) -> list[list[str]]:
    return page.eval_on_selector_all(
        f"#{table} tbody tr", "rows => rows.map(row => [...row.cells].map(c => c.innerText.trim()))"
    )


def crumbs(page) -> list[str]:
    return page.eval_on_selector_all("#crumbs button", "all => all.map(one => one.innerText)")


def test_a_path_by_mouse(data, visit, tmp_path):
    page, prompt = visit(), data.prompts[0]
    root = prompt.functions[prompt.root]
    assert crumbs(page) == [f"logit difference, ' are' over ' is' +{root.value:.2f}"]
    # The kinds, and the terms with what is left out, add up to the node.
    for table, column in (("kinds", 3), ("terms", 5)):
        assert sum(number(row[column]) for row in rows(page, table)) == pytest.approx(root.value, abs=0.05)
    assert "errors" in page.inner_text("#kinds")
    assert "biases" in page.inner_text("#kinds")
    assert "not listed in this file" in page.inner_text("#terms")
    # The answer reads the stream: what is shown is the last attention layer, where it looked.
    assert "Heads of layer 3" in page.inner_text("#matrix-title")
    page.locator("#terms button.name:not(.ends)", has_text="attn_out.3").click()
    assert len(crumbs(page)) == 2
    assert "39" in page.inner_text("#crumbs .via")
    # The cell of the subject, by the head that brings most of it.
    cells = page.locator("#m-product td:not(.sum)")
    labels = cells.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
    best = max(range(len(labels)), key=lambda one: number(labels[one].split(" = ")[1].split(",")[0]))
    assert "boys" in labels[best]
    cells.nth(best).click()
    assert page.inner_text("#readout").startswith("from 2 ␣boys, head ")
    said = re.search(r"pattern (\S+) × value (\S+) = (\S+), ", page.inner_text("#readout"))
    pattern, value, product = map(number, said.groups())
    assert pattern * value == pytest.approx(product, rel=0.02)
    listed = rows(page, "terms")
    assert {row[1] for row in listed} == {"2 ␣boys", ""}
    assert sum(number(row[5]) for row in listed) == pytest.approx(product, abs=0.02)
    # Unticked kinds are counted, not gone.
    page.click("#kinds input[data-group='residual latents']")
    assert "of kinds that are unticked" in page.inner_text("#terms")
    assert sum(number(row[5]) for row in rows(page, "terms")) == pytest.approx(product, abs=0.02)
    page.click("#kinds input[data-group='residual latents']")
    # Through one head, back in time.
    page.locator("#terms button.name:not(.ends)").first.click()
    assert len(crumbs(page)) == 3
    assert "by head" in page.inner_text("#crumbs")
    page.click("#pin-path")
    assert page.locator("#drawing .pinned").count() == 3
    assert page.locator("#drawing .edge").count() == 2
    with page.expect_download() as got:
        page.click("#export-path")
    got.value.save_as(tmp_path / "path.json")
    path = json.loads((tmp_path / "path.json").read_text())
    assert path["format"] == "gossamer.attribution_path.1"
    assert path["prompt"] == list(prompt.tokens)
    assert [step["node"]["kind"] for step in path["steps"]] == ["root", "attention", "latent"]
    total = 1.0
    for step in path["steps"][1:]:
        total *= step["local"]["share"]
        assert step["cumulative"]["share"] == pytest.approx(total)
        assert step["cumulative"]["contribution"] == pytest.approx(total * root.value)
    assert path["steps"][2]["source"] == 2
    with page.expect_download() as got:
        page.click("#export-graph")
    got.value.save_as(tmp_path / "graph.json")
    graph = json.loads((tmp_path / "graph.json").read_text())
    assert graph["format"] == "gossamer.attribution_graph.1"
    assert {node["kind"] for node in graph["nodes"]} == {"root", "attention", "latent"}
    first = next(
        edge
        for edge in graph["edges"]
        if edge["contribution"] == pytest.approx(path["steps"][1]["local"]["contribution"])
    )
    assert first["share"] == pytest.approx(first["contribution"] / root.value)
    page.click("#crumbs button >> nth=0")
    assert len(crumbs(page)) == 1
    page.click("#unpin")
    assert page.locator("#drawing").count() == 0 or not page.is_visible("#graph")


def test_a_path_by_keys(visit):
    page = visit()
    page.focus("#terms button.name")
    # Downwards to the first that opens.
    while page.evaluate("document.activeElement.getAttribute('aria-disabled')") == "true":
        page.keyboard.press("ArrowDown")
    page.keyboard.press("p")
    assert page.evaluate("document.activeElement.closest('#terms') !== null")
    assert page.locator("#drawing .pinned").count() == 1
    page.keyboard.press("Enter")
    assert len(crumbs(page)) == 2
    assert page.evaluate("document.activeElement.id") == "node-title"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # The grid of heads: one stop of Tab, arrows inside, Enter chooses, Escape lets go and then goes back.
    assert page.locator("#m-product td[tabindex='0']").count() == 1
    page.focus("#m-product td[data-at='0:0']")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.at") == "1:1"
    page.keyboard.press("Enter")
    assert "through head 1" in page.inner_text("#terms-title")
    assert page.evaluate("document.activeElement.dataset.at") == "1:1"
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert "through all heads" in page.inner_text("#terms-title")
    page.keyboard.press("Escape")
    assert "every token" in page.inner_text("#terms-title")
    page.keyboard.press("Escape")
    assert len(crumbs(page)) == 1
    page.keyboard.press("Escape")
    # The grid of latents: to a cell, its list, one of it.
    assert page.evaluate("document.activeElement.dataset.cell") == "2:0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") == "1:1"
    page.keyboard.press("Enter")
    assert "Active in resid_post.2 at 1 The" in page.inner_text("#cell h3")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.cell") == "1:1"
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert crumbs(page)[0].startswith("resid_post.2/")
    page.focus("#drawing .pinned")
    page.keyboard.press("Delete")
    assert not page.is_visible("#graph")
    # Everything that has a name is reached, and nothing holds the focus.
    seen = set()
    page.evaluate("document.activeElement.blur()")
    for _ in range(20):
        page.keyboard.press("Tab")
        seen.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.className || document.activeElement.tagName"
            )
        )
    assert {"prompt", "begin", "back", "pin", "pin-path", "export-path"} <= seen


def test_why_a_head_looked_there(data, visit):
    page = visit()
    score = data.prompts[0].scores[0]
    items = data.prompts[0].items
    of = next(
        one
        for one in data.prompts[0].functions
        if one.layer == score.layer
        and items.position.values[one.item] == score.query
        and one.parent is not None
        and one.parent != data.prompts[0].root
    )
    above = data.prompts[0].functions[of.parent]
    # By the API of the page itself: any path leads there.
    page.evaluate(
        "([parent, item, index]) => { explorer.begin(parent); explorer.open(item, index, 1, null, null); }",
        [of.parent, of.item, data.prompts[0].functions.index(of)],
    )
    assert above.item >= 0
    page.evaluate("([source, head]) => explorer.select(source, head)", [score.key, score.head])
    page.click("#why")
    assert f"Why head {score.layer}.{score.head} looked" in page.inner_text("#score h3")
    assert sum(number(row[3]) for row in rows(page, "score")) == pytest.approx(score.score, abs=0.05)
    page.keyboard.press("Escape")
    assert page.inner_text("#score") == ""
    assert page.evaluate("document.activeElement.id") == "why"


def test_another_prompt_without_an_answer(data, visit):
    page = visit()
    page.select_option("#prompt", "1")
    assert not page.is_visible("#begin")
    assert not page.is_visible("#node")
    assert page.locator("#grid thead th").count() == len(data.prompts[1].tokens) + 1
    dot = page.locator("#grid .dot").first
    dot.click()
    title = page.inner_text("#node-title")
    assert title.startswith("resid_post.3/")
    assert page.locator(".dot.open").count() == 1
    # Dots of earlier dictionaries have the colour of what they add.
    assert page.locator(".dot.painted").count() > 0


def test_hostile_text_is_text(data, visit):
    page = visit(hostile(data))
    page.locator("#grid .dot").first.click()
    assert page.evaluate("window.hurt") is None
    assert page.locator("img").count() == 0
    assert page.locator("#node-facts a").count() == 0
    assert "<img src=x onerror='window.hurt = 1'>" in page.inner_text("#begin")
    assert "\\u202e" in page.inner_text("#grid")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (800, "dark")])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(visit, width, scheme):
    page = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.locator("#terms button.name:not(.ends)").first.click()
    page.click("#pin-path")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert min(contrasts.values()) >= 4.5, min(contrasts.items(), key=lambda pair: pair[1])


# Of every text that is shown, by what it says: the contrast of its colour with the first opaque background below it.
CONTRASTS = """() => {
  const numbers = (colour) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const found = {}, walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, hidden = ["SCRIPT", "STYLE", "OPTION"].includes(element.tagName);
    if (!node.data.trim() || hidden || !element.checkVisibility() || element.closest("svg")) continue;
    let below = element, ground = [255, 255, 255, 0];
    while (below && (ground = numbers(getComputedStyle(below).backgroundColor))[3] < 255) below = below.parentElement;
    const pair = [light(numbers(getComputedStyle(element).color)), light(ground)].sort((a, b) => b - a);
    found[node.data.trim() + " in " + element.tagName + "." + element.className] = (pair[0] + 0.05) / (pair[1] + 0.05);
  }
  return found;
}"""


def test_the_file_is_no_larger_than_its_data(data, tmp_path):
    page, record = write_attribution_page(data, tmp_path / "p.html"), data.save(tmp_path / "d.json")
    assert 0 < Path(page).stat().st_size - record.stat().st_size < 90_000


def test_a_circuits_report_links_to_it(data, tmp_path):
    findings = report_sample.findings()
    alone = write_report(findings, tmp_path / "alone").read_text()
    assert "explore.html" not in alone
    page = write_report(findings, tmp_path / "both", replace(data, model=findings.model))
    assert '<a href="explore.html">' in page.read_text()
    loaded = AttributionData.load(tmp_path / "both" / "explore.json")
    assert (tmp_path / "both" / "explore.html").read_text() == attribution_page(loaded)
    with pytest.raises(UsageError, match=r"prompts of .* expected beside it, found some of bundled:spool"):
        write_report(findings, tmp_path / "wrong", data)
