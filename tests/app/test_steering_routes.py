"""The sweep's route against the library's own functions on the same file."""

import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
from sweep_run import write_sweep
from workbench_run import bench_of, client_of

from gossamer.report.curves_data import pareto_data
from gossamer.steering import load_sweep, sweep_curves
from gossamer.steering.summary import BENEFIT_NAMES

PATH = "/api/v1/steering/sweeps/steering~sweep"


@pytest.fixture(scope="session")
def swept(tmp_path_factory):
    """The folder of a run with a whole sweep."""
    folder = tmp_path_factory.mktemp("swept") / "run"
    write_sweep(folder / "steering")
    return folder


@pytest.fixture(scope="session")
def asked(swept):
    return client_of(bench_of(swept))


def test_the_page_has_the_numbers_of_the_report(asked, swept):
    page = asked.get(PATH).json()
    record = load_sweep(swept / "steering")
    curves = {one.method: one for one in sweep_curves(record, "diff_mean")}
    assert [one["method"] for one in page["methods"]] == sorted(curves, key=lambda name: -curves[name].area.value)
    for one in page["methods"]:
        own = curves[one["method"]]
        assert one["area"]["value"] == pytest.approx(own.area.value)
        assert (one["area"]["low"], one["area"]["high"]) == pytest.approx((own.area.low, own.area.high))
        assert [at["benefit"]["value"] for at in one["chosen"]] == pytest.approx(
            [at.benefit.value for at in own.chosen]
        )
    assert page["digest"] == json.loads((swept / "steering" / "sweep.json").read_text())["sha256"]
    assert (page["done"], page["planned"]) == (12, 12)
    assert page["absent"] == {"caa": "no pairs were given"}
    (warned,) = [one for one in page["methods"] if one["warned"]]
    assert (warned["method"], warned["cosine"], warned["auroc"]) == ("pca", 0.5, 0.75)
    assert warned["explained"].startswith("WARNING: pca rests on a fit")
    controls = {one["method"] for one in page["methods"] if one["control"]}
    assert controls == {"random_direction_0", "random_feature_0"}


def test_cells_are_means_of_the_rows(asked, swept):
    """Worked out from the file's columns by hand."""
    page, record = asked.get(PATH).json(), load_sweep(swept / "steering")
    tokens = sum(record.settings["neutral_tokens"])
    for cell, row in zip(page["cells"], record.rows, strict=True):
        hits = [float(one > 0) for one in row.words.tolist()]
        assert cell["benefit"]["value"] == pytest.approx(sum(hits) / len(hits))
        assert cell["hit"] == pytest.approx(sum(hits) / len(hits))
        assert cell["cost"]["value"] == pytest.approx(sum(row.cross_entropy.tolist()) / tokens, abs=1e-6)
        assert cell["kl"] == pytest.approx(sum(row.kl.tolist()) / tokens, abs=1e-6)
        assert cell["benefit"]["low"] <= cell["benefit"]["value"] <= cell["benefit"]["high"]


def test_the_picture_s_data_is_the_report_s(asked, swept):
    record = load_sweep(swept / "steering")
    page = asked.get(PATH, params={"limit": 0.5, "reference": "pca", "cost": "kl", "benefit": "words"}).json()
    curves = sweep_curves(record, "pca", benefit="words", cost="kl", limit=0.5)
    own = pareto_data(curves, "pca", BENEFIT_NAMES["words"], 0.5)
    for drawn, one in zip(page["curves"]["series"], own["series"], strict=True):
        assert (drawn["name"], drawn["look"]) == (one["name"], one["look"])
        assert np.array(drawn["line"]) == pytest.approx(np.array(one["line"]))
        # The area is that under the line that is drawn.
        under = sum(here[1] * (after[0] - here[0]) for here, after in pairwise(drawn["line"])) / 0.5
        assert under == pytest.approx(drawn["value"]["value"], abs=1e-9)
    assert page["findings"] == []


def test_a_sweep_that_was_stopped_says_so(tmp_path):
    write_sweep(tmp_path / "run" / "steering", stop_after=1)
    page = client_of(bench_of(tmp_path / "run")).get(PATH).json()
    assert (page["done"], page["planned"]) == (1, 12)
    assert page["curves"] is None
    assert "unsteered" in page["not_drawn"]
    assert len(page["cells"]) == 1


@pytest.mark.parametrize(
    ("params", "status", "said"),
    [
        ({"benefit": "judged"}, 422, "judged"),
        ({"benefit": "nothing"}, 422, "benefit"),
        ({"cost": "nothing"}, 422, "cost"),
        ({"reference": "nobody"}, 422, "nobody"),
        ({"limit": -1}, 422, "limit"),
        ({"limit": "nan"}, 422, "limit"),
    ],
)
def test_what_was_not_measured_is_refused(asked, params, status, said):
    answer = asked.get(PATH, params=params)
    assert answer.status_code == status
    assert said in answer.text


def test_a_damaged_sweep_is_named(swept, tmp_path):
    run = shutil.copytree(swept, tmp_path / "run")
    file = run / "steering" / "sweep.json"
    file.write_text(file.read_text().replace('"diff_mean"', '"diff_mode"', 1))
    answer = client_of(bench_of(run)).get(PATH)
    assert answer.status_code == 422
    assert "sweep.json" in answer.json()["detail"]
