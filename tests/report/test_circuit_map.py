"""The map of a circuit in a browser: what it draws is what it was given, and all of it can be reached."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
import report_sample as sample

from gossamer.circuits.edge import Edge, HeadShare
from gossamer.circuits.results import Findings
from gossamer.errors import GossamerError
from gossamer.features.feature import ERROR, Feature
from gossamer.report import CircuitMap, claims, html, page
from gossamer.report.map_data import FORMAT, map_data

# As strict as the policy of an application: no inline style, nothing fetched.
HOST = """<!DOCTYPE html><html lang="en"><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'none'">
<title>host</title><body><div id="map"></div>
<script type="application/json" id="data">DATA</script>
<script type="module">
MODULE
window.lib = { boxesOf, linesOf, placesOf, mapPicture, number, visible, FORMAT };
window.data = JSON.parse(document.getElementById("data").textContent);
window.map = mountCircuitMap(document.getElementById("map"), window.data, OPTIONS);
</script></body></html>"""


@pytest.fixture(scope="module")
def findings() -> Findings:
    return sample.findings(18)


@pytest.fixture
def mounted(open_page, tmp_path):
    """The component alone on a page of a strict policy."""

    def mounted(findings, options=None, **how):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.html"
        module = "\n".join(html.component(name) for name in ("circuit_map.js", "map_picture.js"))
        text = HOST.replace("OPTIONS", json.dumps(options or {})).replace("MODULE", module)
        path.write_text(text.replace("DATA", str(html.inline(map_data(findings)))), encoding="utf-8")
        return open_page(path, **how)

    return mounted


def chain(whole: Findings) -> tuple[Findings, list[str]]:
    """Three nodes at rising sites with known edges, and their ids."""
    by_site = sorted(range(len(whole.nodes)), key=lambda index: whole.nodes[index].site)
    low, middle, high = (whole.nodes[by_site[place]].node for place in (0, len(by_site) // 2, -1))
    edges = (
        Edge(low, middle, 0.5, 0.5, 0.2, (HeadShare(9, 1, 0.3),)),
        Edge(low, high, -0.25, -0.125, -0.25),
        Edge(middle, "logit_diff", 1.0, 1.0, 1.0),
    )
    return replace(whole, edges=edges), [str(low), str(middle), str(high)]


def heading(shown) -> str:
    return shown.locator("#map .panel h3 + span").inner_text()


def named(node: str) -> str:
    feature, role = node.split("@")
    site, latent = feature.split("/")
    return f"{site} {role} {latent}"


def test_the_data_hold_every_node_and_edge_by_name(findings):
    found = map_data(findings, {0: "#node-0"})
    assert found["format"] == FORMAT
    assert [node["id"] for node in found["nodes"]] == [str(node.node) for node in findings.nodes]
    assert [(node["row"], node["column"]) for node in found["nodes"]] == [
        (findings.sites.index(node.site), findings.roles.index(node.role)) for node in findings.nodes
    ]
    assert (found["nodes"][0]["href"], found["nodes"][1]["href"]) == ("#node-0", None)
    assert len(found["edges"]) == len(findings.edges)
    assert found["columns"][1]["tokens"] == ["␣Mary"]
    assert found["columns"][1]["counterfactual"] == ["␣Peter"]
    json.dumps(found, allow_nan=False)


def test_words_stand_in_place_of_numbers(findings):
    first = findings.nodes[0]
    said = replace(first, card=replace(first.card, explanation="names\u202e of people"))
    mute = replace(findings.nodes[1], card=replace(findings.nodes[1].card, promotes=(), examples=()))
    found = map_data(replace(findings, nodes=(said, mute, *findings.nodes[2:])))["nodes"]
    assert found[0]["words"] == ["names\\u202e of people"]
    assert (found[1]["words"], found[1]["name"]) == ([], f"latent {mute.latent}")
    assert found[2]["words"]


def test_an_error_node_is_drawn_as_what_it_is(findings):
    first = findings.nodes[0]
    error = replace(first, card=replace(first.card, feature=Feature(first.site, ERROR), promotes=()))
    found = map_data(replace(findings, nodes=(error, *findings.nodes[1:]), edges=()))["nodes"]
    assert (found[0]["kind"], found[0]["latent"], found[0]["name"]) == ("error", None, "error")
    assert found[0]["words"] == ["reconstruction error"]
    assert found[0]["id"] == f"{first.site}/error@{first.role}"
    assert {node["kind"] for node in found[1:]} == {"latent"}
    whole = replace(findings, nodes=(error, *findings.nodes[1:]))
    assert "(1 error)" in claims.headline(whole)
    assert "error" not in claims.headline(findings)


SHAPE = """box => ["::before", "::after"].map(part => getComputedStyle(box, part)).map(look =>
    look.clipPath.startsWith("polygon") && [look.clipPath.split(",").length, look.backgroundColor])"""


def test_an_error_node_has_pointed_ends_in_map_and_picture(mounted, findings):
    first = findings.nodes[0]
    error = replace(first, card=replace(first.card, feature=Feature(first.site, ERROR), promotes=()))
    whole = replace(findings, nodes=(error, *findings.nodes[1:]), edges=())
    shown = mounted(whole)
    (edge, inside) = shown.locator("#map .box.error").evaluate(SHAPE)
    assert (edge[0], inside[0]) == (6, 6)
    assert edge[1] != inside[1]
    latents = shown.locator("#map .box.latent")
    assert latents.count() == len(findings.nodes) - 1
    assert latents.first.evaluate(SHAPE) == [False, False]
    assert "A box with pointed ends is an error node" in shown.locator("#map .panel").inner_text()
    picture = ElementTree.fromstring(shown.evaluate("lib.mapPicture(document.getElementById('map'))"))
    (drawn,) = picture.findall("{*}polygon")
    corners = [tuple(map(float, corner.split(","))) for corner in drawn.attrib["points"].split()]
    box = shown.locator("#map .box.error").evaluate(
        "box => [box.offsetLeft, box.offsetTop, box.offsetWidth, box.offsetHeight]"
    )
    left, right = min(corners), max(corners)
    assert (left[0], right[0] - left[0], left[1]) == (box[0] + 0.5, box[2] - 1, box[1] + box[3] / 2)
    assert len(corners) == 6
    assert drawn.findtext("{*}title").startswith("reconstruction error")
    assert len(picture.findall("{*}rect[{*}title]")) == len(findings.nodes)  # the latents, and the metric
    shown.locator("#map .box.error").focus()
    (chosen, _) = shown.locator("#map .box.error").evaluate(SHAPE)
    assert chosen[1] != edge[1]
    shown.keyboard.press("Escape")
    assert shown.locator("#map .chosen").count() == 0
    assert shown.locator("#map .box.error").evaluate(SHAPE)[0] == chosen  # the keyboard is still there
    assert "pointed ends" not in mounted(findings).locator("#map .panel").inner_text()


def test_a_node_off_the_axes_is_refused(findings):
    with pytest.raises(GossamerError, match="S9"):
        map_data(replace(findings, nodes=(replace(findings.nodes[0], role="S9"),)))


def test_every_node_is_drawn_once_in_its_row_and_column(mounted):
    shown = mounted(sample.findings(300))
    boxes = shown.eval_on_selector_all("#map .box", "all => all.map(one => one.getBoundingClientRect().toJSON())")
    assert len(boxes) == 301  # and the metric
    assert len({(round(box["x"]), round(box["y"])) for box in boxes}) == 301
    by_row = shown.evaluate("""() => {
        const boxes = lib.boxesOf(data, new Set()), {places, columns} = lib.placesOf(data, boxes, 1200);
        return boxes.map(box => {
          const place = places.get(box.id), column = columns.find(one => one.columns.includes(box.column));
          return [box.row, place.y, place.x >= column.x && place.x + place.width <= column.x + column.width];
        });
    }""")
    assert all(inside for _, _, inside in by_row)
    for row, y, _ in by_row:
        assert all(other_y < y for other, other_y, _ in by_row if other > row)


def test_the_slider_prints_what_it_hides(mounted, findings):
    shown = mounted(findings, {"edges": 5})
    total = len(findings.edges)
    said = shown.locator("#map output")
    assert said.inner_text().startswith(f"5 of {total} drawn (|influence| at least")
    assert said.inner_text().endswith(f"{total - 5} hidden")
    assert shown.locator("#map path").count() == 5
    shown.locator("#map input").fill(str(total))
    assert shown.locator("#map path").count() == total
    assert said.inner_text() == f"{total} of {total} drawn, 0 hidden"
    shown.locator("#map input").fill("0")
    assert shown.locator("#map path").count() == 0


def test_a_chosen_node_shows_all_its_edges_whatever_is_hidden(mounted, findings):
    whole, (low, middle, high) = chain(findings)
    shown = mounted(whole, {"edges": 0})
    assert shown.locator("#map path").count() == 0
    shown.evaluate("id => map.focus(id)", low)
    assert heading(shown) == named(low)
    near = shown.eval_on_selector_all("#map path.near", "all => all.map(one => one.getAttribute('class'))")
    assert sorted(near) == ["lowers near", "raises near"]
    assert shown.locator("#map .box.near").count() == 3
    items = shown.eval_on_selector_all("#map .sides li", "all => all.map(one => one.textContent)")
    assert [named(middle) in items[0], named(high) in items[1]] == [True, True]
    assert "+0.500" in items[0]
    assert "head 9.1 +0.300, same token +0.200" in items[0]
    assert "−0.250" in items[1]
    labels = shown.eval_on_selector_all("#map text", "all => all.map(one => one.textContent)")
    assert sorted(labels) == ["+0.500 · 9.1", "−0.250"]


def test_keys_walk_along_edges_and_a_list_leads_on(mounted, findings):
    whole, (low, middle, high) = chain(findings)
    shown = mounted(whole)
    shown.evaluate("id => map.focus(id)", low)
    shown.locator("#map .box.chosen").focus()
    shown.keyboard.press("ArrowUp")
    assert heading(shown) == named(middle)
    shown.keyboard.press("ArrowUp")
    assert shown.locator("#map .panel h3").inner_text() == "logit difference"
    shown.keyboard.press("ArrowDown")
    shown.keyboard.press("ArrowDown")
    assert heading(shown) == named(low)
    shown.locator("#map .sides li button").nth(1).click()
    assert heading(shown) == named(high)
    shown.keyboard.press("Escape")
    assert shown.locator("#map .panel h3").count() == 0
    assert shown.locator("#map .tracing").count() == 0


def test_one_stop_of_the_tab_key_and_arrows_reach_every_box(mounted, findings):
    shown = mounted(findings)
    assert shown.eval_on_selector_all("#map .box", "all => all.filter(one => one.tabIndex === 0).length") == 1
    shown.locator("#map .box").first.focus()
    seen = set()
    for _ in range(len(findings.nodes) + 1):
        seen.add(shown.locator("#map .box.chosen").get_attribute("aria-label"))
        shown.keyboard.press("ArrowRight")
    assert len(seen) == len(findings.nodes) + 1


def test_a_folded_group_is_one_box_with_the_sums_of_its_edges(mounted, findings):
    groups = {str(node): f"group {k}" for k, group in enumerate(findings.groups) for node in group.nodes}
    assert groups
    shown = mounted(findings)
    shown.get_by_role("button", name=f"Fold into {len(findings.groups)} groups").click()
    assert shown.locator("#map .box.group").count() == len(findings.groups)
    alone = [str(node.node) for node in findings.nodes if str(node.node) not in groups]
    assert shown.locator("#map .box").count() == len(findings.groups) + len(alone) + 1
    place = {**{node: node for node in alone}, **groups}
    sums: dict[tuple[str, str], float] = {}
    for edge in map_data(findings)["edges"]:
        key = place[edge["source"]], place.get(edge["target"], "metric")
        sums[key] = sums.get(key, 0.0) + edge["influence"]
    between = {key: value for key, value in sums.items() if key[0] != key[1]}
    found = shown.evaluate("lib.linesOf(data, lib.boxesOf(data, new Set(data.groups.map(one => one.id))))")
    assert {(line["source"], line["target"]): line["influence"] for line in found["lines"]} == pytest.approx(between)
    assert sum(len(line["edges"]) for line in found["lines"]) + found["inside"] == len(findings.edges)
    shown.locator("#map .box.group").first.focus()
    assert "effect when ablated as one +0.250" in shown.locator("#map .panel").inner_text()
    shown.keyboard.press("g")
    assert shown.locator("#map .box.group").count() == len(findings.groups) - 1
    shown.keyboard.press("g")
    assert shown.locator("#map .box.group").count() == len(findings.groups)


def test_the_page_says_what_boxes_cost_beside_random_ones(findings):
    said = claims.groups(findings).replace("\u202f", " ")
    assert said == (
        "In 3 boxes in place of 18 nodes, each moving as one, it keeps 85 % in place of 87 % of the logit difference "
        "(random groups of the same sizes 47 %); the fewest that lose at most 2.0 % where they were chosen, 9 boxes, "
        "keep 86 %"
    )
    assert claims.groups(findings) in page(findings, {})
    without = page(replace(findings, groups=(), group_test=None), {})
    assert "nodes a box" not in without


def test_hostile_text_is_text(mounted, findings):
    bad = '"><img src=x onerror="window.hurt=1"></script><script>window.hurt=1</script>\u202e'
    first = findings.nodes[0]
    card = replace(first.card, explanation=bad, link="javascript:alert(1)")
    hostile = replace(findings, metric=bad, unit=bad, nodes=(replace(first, card=card), *findings.nodes[1:]))
    shown = mounted(hostile)
    shown.evaluate("""() => {
        Object.assign(data.nodes[0], { href: "javascript:window.hurt=1", words: [data.metric.label] });
        map.update(data);
    }""")
    for box in shown.locator("#map .box").all()[:4]:
        box.click()
    shown.evaluate("id => map.focus(id)", str(first.node))
    assert shown.locator("#map a").count() == 0
    assert "<img src=x" in shown.locator("#map .panel h3").inner_text()
    assert "\\u202e" in shown.locator("#map .panel h3").inner_text()
    assert shown.evaluate("[window.hurt, document.images.length]") == [None, 0]


@pytest.mark.parametrize("width", [420, 1400])
def test_the_page_never_scrolls_sideways(open_page, tmp_path, findings, width):
    (tmp_path / "page.html").write_text(page(findings, {}), encoding="utf-8")
    shown = open_page(tmp_path / "page.html", viewport={"width": width, "height": 900})
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.locator("#map .box").count() == len(findings.nodes) + 1


def test_it_is_dark_where_the_page_around_is_and_by_itself(mounted, findings):
    light, dark = (mounted(findings, {"theme": theme}) for theme in ("light", "dark"))
    of = "getComputedStyle(document.getElementById('map').shadowRoot.querySelector('.map')).backgroundColor"
    assert light.evaluate(of) == "rgb(255, 255, 255)"
    assert dark.evaluate(of) == "rgb(20, 24, 29)"
    around = mounted(findings)
    around.evaluate("document.documentElement.style.colorScheme = 'dark'")
    assert around.evaluate(of) == "rgb(20, 24, 29)"


def test_numbers_are_those_of_the_rest_of_the_page(mounted, findings):
    from gossamer.report import text

    shown = mounted(findings)
    for value in (0.0, 1.0, -0.5, 0.01234, 0.00001, -0.00001, 12.34, 123.4, -12345.6, 0.00123):
        assert shown.evaluate("value => lib.number(value, true)", value) == text.number(value, signed=True)
    assert shown.evaluate("lib.number(null)") == text.MISSING


def test_without_a_script_the_table_is_there_and_with_one_it_is_the_twin(open_page, tmp_path, findings):
    (tmp_path / "page.html").write_text(page(findings, {}), encoding="utf-8")
    bare = open_page(tmp_path / "page.html", java_script_enabled=False)
    assert bare.locator("#map tbody tr").count() == len(findings.edges)
    assert bare.locator("#map table").is_visible()
    shown = open_page(tmp_path / "page.html")
    assert not shown.locator("#map table").is_visible()
    shown.get_by_text("The map as a table").click()
    assert shown.locator("#map table").is_visible()


def test_what_is_chosen_in_the_map_is_lit_on_the_page_and_the_other_way_round(open_page, tmp_path, findings):
    (tmp_path / "page.html").write_text(page(findings, {}), encoding="utf-8")
    shown = open_page(tmp_path / "page.html")
    shown.locator("#map .box:not(.metric)").first.click()
    assert shown.locator(".card.lit").count() == 1
    name = shown.locator("#map .panel h3 + span").inner_text().split()
    assert [part in shown.locator(".card.lit h3").inner_text() for part in name] == [True] * 3
    shown.locator("#map .panel a").click()
    assert shown.evaluate("location.hash").startswith("#node-")
    shown.locator("#row-3").hover()
    assert shown.locator("#map .box.lit").count() == 1


def test_in_a_notebook_it_stands_in_a_frame_that_needs_nothing(open_page, tmp_path, findings):
    bad = replace(findings, task='"><script>parent.hurt = 1</script>')
    shown = CircuitMap(bad, height=700, folded=True)._repr_html_()
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><title>cell</title>{shown}", encoding="utf-8")
    page = open_page(tmp_path / "notebook.html")
    frame = page.frame_locator("iframe")
    frame.locator("#map .box.group").first.click()
    assert frame.locator("#map .box.group").count() == len(findings.groups)
    assert "effect when ablated as one" in frame.locator("#map .panel").inner_text()
    assert page.evaluate("[window.hurt, document.querySelector('iframe').clientHeight]") == [None, 700]
    # What stays where a notebook is not trusted, and drops the frame, is not seen beside the map.
    assert "circuit map is drawn once this notebook is trusted" in shown.rpartition(">")[0].rpartition(">")[2]
    assert "trusted" not in page.inner_text("body")
    assert repr(CircuitMap(findings)).startswith("CircuitMap(Findings(ioi/baba on google/gemma-2-9b, 18 nodes")
