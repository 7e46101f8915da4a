"""Adversarial prompts as the page has them, against what the file holds."""

import json

import pytest
from adversarial_run import BROKEN, results, write_adversarial
from workbench_run import bench_of, client_of

from gossamer.report.curves_data import budget_data

PATH = "/api/v1/adversarial/adversarial~adversarial"


@pytest.fixture
def asked(run, made):
    write_adversarial(run / "adversarial", made[1].circuit.sha256)
    return client_of(bench_of(run))


def test_arms_have_what_they_break_with_intervals(asked):
    page, own = asked.get(PATH).json(), results()
    assert {one["letter"]: one["breaks"] for one in page["arms"]} == BROKEN
    assert all(one["of"] == 4 for one in page["arms"])
    for one, arm in zip(page["arms"], own.arms, strict=True):
        assert one["broken"] == {"value": arm.broken.value, "low": arm.broken.low, "high": arm.broken.high}
    assert page["verdict"] == own.verdict
    assert page["verdict"].startswith("The circuit added nothing: one recipe found with it breaks 3 of 4")
    assert page["arms"][0]["recipe"][1] == "after S1: near↵the <b>"


def test_the_curves_are_the_report_s_with_the_circuit_first(asked):
    page = asked.get(PATH).json()
    assert page["curves"]["format"] == "gossamer.curves.1"
    assert [one["name"][0] for one in page["curves"]["series"]] == list("DABCEF")
    # A chart need not say that it has no levels, and no dashes; a route does.
    chart = json.loads(json.dumps(budget_data(results())))
    assert {"levels": [], **chart, "series": [{"dashed": False, **one} for one in chart["series"]]} == page[
        "curves"
    ] | {
        "series": [
            {**one, "value": {name: one["value"][name] for name in ("value", "low", "high")}}
            for one in page["curves"]["series"]
        ]
    }
    assert page["curves"]["band"]["high"] == [0.8, 0.9]


def test_failures_mark_what_differs_and_hide_nothing_invisible(asked):
    failure = asked.get(PATH).json()["failures"][0]
    assert failure["clean"] == [{"token": "␣<i>", "changed": False}, {"token": "a", "changed": True}]
    assert failure["edited"][1] == {"token": "b\\u202e", "changed": True}
    assert (failure["answer"], failure["said"]) == ("␣Tom", "␣Sam")


def test_every_group_s_repair_of_a_failure_is_the_file_s_with_shares(asked):
    mended, other, older = asked.get(PATH).json()["failures"]
    whole, detector = mended["repairs"]
    assert (whole["detector"], whole["before"], whole["after"]) == (None, 1.75, -0.5)
    assert (whole["patched"], whole["random"]) == (1.25, -0.7)
    # From -1 to 2 it is 3: of these 2.25 and .3, and .6 and -.3, come back.
    assert (whole["share"], whole["random_share"]) == (pytest.approx(0.75), pytest.approx(0.1))
    assert (detector["detector"], detector["share"]) == (0, pytest.approx(0.2))
    assert detector["random_share"] == pytest.approx(-0.1)
    assert (other["repairs"], older["repairs"]) == ([], None)


def test_worst_prompts_are_sorted_and_the_circuit_is_found(asked, made):
    page = asked.get(PATH).json()
    assert [(one["how"], one["kl"]) for one in page["worst"]["prompts"]] == [("found", 0.9), ("drawn", 0.5)]
    assert (page["worst"]["mean"], page["worst"]["p99"]) == (0.1, 0.4)
    assert page["circuit"] == "circuit"
    assert page["repairs"][1]["detector"] is None


def test_of_another_circuit_no_link_is_made(tmp_path):
    write_adversarial(tmp_path / "run")
    page = client_of(bench_of(tmp_path / "run")).get("/api/v1/adversarial/adversarial").json()
    assert page["circuit"] is None
