"""Curves as the component draws them: alone on a page of a strict policy, by mouse and by keys."""

import itertools
import math
import re
from dataclasses import replace

import pytest
from report_sample import findings as sampled
from test_adversarial import sample
from test_steering_figure import OTHERS, SHARES, sweep_curves

from gossamer.circuits.methods import METHODS
from gossamer.report import html
from gossamer.report.adversarial import write_adversarial_page
from gossamer.report.curves_data import budget_data, circuit_curves_data, pareto_data
from gossamer.report.method_looks import method_looks

HOST = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>curves</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'">
</head><body><div id="host"><p id="twin">twin</p></div><script type="module">
MODULE
mountCurves(document.getElementById("host"), DATA);
</script></body></html>"""


@pytest.fixture
def mounted(open_page, tmp_path):
    def mounted(data, **how):
        path = tmp_path / "curves.html"
        text = HOST.replace("MODULE", str(html.component("curves.js"))).replace("DATA", str(html.inline(data)))
        path.write_text(text, encoding="utf-8")
        return open_page(path, **how)

    return mounted


def data(limit=1.0):
    curves = sweep_curves(SHARES | OTHERS)
    labels = {place: f"{place} x" for place in range(20)}
    return pareto_data(curves, "diff_mean", "share", limit, labels), curves


def test_lines_are_the_curves_whose_areas_are_listed():
    """The area under each line, worked out from its corners, is the area of the sweep."""
    drawn, curves = data()
    by_name = {one.method.replace("_", " "): one for one in curves}
    assert [one["value"]["value"] for one in drawn["series"]] == sorted(
        (one.area.value for one in curves), reverse=True
    )
    for one in drawn["series"]:
        own = by_name[one["name"]]
        corners = one["line"]
        under = sum(y * (after - x) for (x, y), (after, _) in itertools.pairwise(corners))
        assert under == pytest.approx(own.area.value)
        assert len(one["points"]) == len(own.cells)
    looks = {one["name"]: one["look"] for one in drawn["series"]}
    assert (looks["diff mean"], looks["prompt"], looks["random feature 0"]) == ("reference", "prompt", "control")
    assert sum(look == "named" for look in looks.values()) == 4


def test_the_band_holds_the_controls_and_the_picture_everything_else(mounted):
    page = mounted(data()[0])
    names = page.locator("#host li b").all_inner_texts()
    assert names[0] == "other 0"
    assert len(names) == len(SHARES | OTHERS)
    assert page.locator("#host .plot .series:visible path.line").count() == len(names) - 2
    assert "2 random controls" in page.inner_text("#host .said")
    assert page.locator("#host .plot path.band").count() == 1
    assert page.is_visible("#twin")
    # The prompt's step stands at .6 of the axis, where ticks say it does.
    ticks = {}
    for text in page.locator("#host .plot svg text").all():
        if re.fullmatch(r"0\.\d", text.text_content()) and text.get_attribute("text-anchor") == "end":
            ticks[float(text.text_content())] = float(text.get_attribute("y")) - 4
    top, low = max(ticks), min(ticks)
    expected = ticks[top] + (ticks[low] - ticks[top]) * (top - 0.6) / (top - low)
    line = page.get_attribute("#host .plot .series.prompt path.line", "d")
    assert float(line.split()[-1]) == pytest.approx(expected, abs=0.1)
    # Costs: .1 stands a decade's seven tenths behind the end of the linear part, .02, which takes four tenths.
    xs = [float(one) for one in re.findall(r"[ML]([\d.]+)", line)]
    share = (0.4 + math.log10(0.1 / 0.02)) / (0.4 + math.log10(1 / 0.02))
    assert (xs[1] - 36) / (xs[-1] - 36) == pytest.approx(share, abs=0.005)


def test_a_method_comes_forward_by_keys_and_is_kept(mounted):
    page = mounted(data()[0])
    page.focus("#host li button >> nth=0")
    assert page.locator("#host .plot .series.near").count() == 1
    assert "other 0" in page.inner_text("#host .said")
    assert "0.900 at 0.100" in page.inner_text("#host .said")
    page.keyboard.press("Enter")
    assert page.get_attribute("#host li button >> nth=0", "aria-pressed") == "true"
    page.keyboard.press("Tab")
    assert "other 0" in page.inner_text("#host .said b")
    page.keyboard.press("Escape")
    assert page.locator("#host .plot .series.near").count() == 0
    # The curve of a control is drawn when it is asked for.
    place = page.locator("#host li b").all_inner_texts().index("random feature 0")
    page.focus(f"#host li button >> nth={place}")
    assert page.locator("#host .plot .series.control:visible path.line").count() == 1


@pytest.mark.parametrize("width", [420, 1400])
def test_it_fits(mounted, width):
    page = mounted(data()[0], viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_names_of_methods_are_text(mounted):
    drawn = data()[0]
    drawn["series"][0]["name"] = "<img src=x onerror=alert(1)>\u202e"
    page = mounted(drawn)
    assert page.locator("#host img").count() == 0
    assert "\\u202e" in page.inner_text("#host li >> nth=0")


def test_searches_are_lines_with_the_circuit_s_band(open_page, tmp_path):
    drawn = budget_data(sample())
    assert [one["look"] for one in drawn["series"]] == ["own", *["named"] * 5]
    assert drawn["series"][0]["line"] == [(16, 0.5), (32, 0.5)]
    assert (drawn["band"]["low"], drawn["band"]["high"]) == ([0.2, 0.2], [0.8, 0.8])
    page = open_page(write_adversarial_page(sample(), tmp_path / "page.html"))
    assert page.locator("#curves li").count() == 6
    assert "0.500 [0.200, 0.800]" in page.inner_text("#curves li >> nth=0")


def test_circuits_of_every_size_are_the_findings_curves(mounted):
    findings = sampled()
    drawn, size = circuit_curves_data(findings), len(findings.nodes)
    known = {curve.method: curve for curve in findings.curves}
    assert drawn["series"][0]["name"] == findings.curves[0].method
    assert {one["name"] for one in drawn["series"]} == {name for name, one in known.items() if one.points}
    for one in drawn["series"]:
        points = {point.size: point.task_metrics.faithfulness for point in known[one["name"]].points if point.size}
        assert one["line"] == [(size, points[size].value) for size in sorted(points)]
        small = [own for own in points if own <= size]
        assert (one["value"] or {}).get("value") == (points[max(small)].value if small else None)
    listed = [one["value"]["value"] for one in drawn["series"][1:] if one["value"]]
    assert listed == sorted(listed, reverse=True)
    assert [one["y"] for one in drawn["levels"]] == [1.0, *(findings.budget[at].faithfulness.value for at in (-3, -1))]
    page = mounted(drawn)
    assert page.locator("#host .plot .level").count() == sum(
        drawn["y"]["low"] <= one["y"] <= drawn["y"]["high"] for one in drawn["levels"]
    )
    assert page.inner_text("#host li b >> nth=0") == findings.curves[0].method


def test_what_was_not_measured_is_not_drawn():
    findings = sampled()
    assert circuit_curves_data(replace(findings, curves=())) is None
    empty = replace(findings, curves=tuple(replace(one, points=()) for one in findings.curves))
    assert circuit_curves_data(empty) is None


def test_a_wide_gap_of_sizes_is_not_crossed_and_looks_go_by_name(mounted):
    findings = sampled()
    ours, reference, *_ = findings.curves
    apart = [replace(reference.points[0], size=size) for size in (3, 6, 28)]
    gap = replace(reference, method="reference recipe", points=tuple(apart))
    signed = replace(reference, method="RelP, signed")
    drawn = circuit_curves_data(replace(findings, curves=(ours, gap, signed, replace(signed, method="RelP"))))
    by_name = {one["name"]: one for one in drawn["series"]}
    sizes = [(x, y is None) for x, y in by_name["reference recipe"]["line"]]
    assert sizes == [(3, False), (6, False), (pytest.approx(math.sqrt(6 * 28)), True), (28, False)]
    looks = {name: (one["slot"], one["dashed"]) for name, one in by_name.items()}
    assert looks["RelP"][0] == looks["RelP, signed"][0] != looks["reference recipe"][0]
    assert [looks[name][1] for name in ("RelP", "RelP, signed")] == [False, True]
    page = mounted(drawn)
    assert page.locator("#host .plot .series.dashed").count() == 1
    paths = [one.get_attribute("d") for one in page.locator("#host .plot .series.slot0 path.line").all()]
    assert [path.count("M") for path in paths] == [2]


def test_methods_have_colours_of_their_own_and_keep_them():
    names = ["mask", *(name for name in METHODS if name != "mask")]
    looks = method_looks(names)
    assert len({(look.slot, look.dashed) for look in looks.values()}) == len(names)
    few = method_looks(["mask", "RelP", "another", "random"])
    assert [few[name] for name in ("RelP", "random")] == [looks[name] for name in ("RelP", "random")]
    assert len({look.colour for look in few.values()}) == 4
