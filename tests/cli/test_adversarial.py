"""`gossamer adversarial`: the command as a user gives it, and lines refused before anything is loaded."""

import json

from spool_circuit import active_circuit

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.circuits.adversarial import FORMAT, PromptRecord
from gossamer.circuits.adversarial.prompt_record import FILE
from gossamer.tasks import get


def test_refused_lines(gossamer, tmp_path, monkeypatch):
    monkeypatch.setattr(LanguageModel, "load", None)
    ran = gossamer("adversarial", tmp_path / "none.json")
    assert (ran.code, "no such file" in ran.err) == (2, True)
    (tmp_path / "c.json").write_text("{}")
    ran = gossamer("adversarial", tmp_path / "c.json", "--budget", "0")
    assert (ran.code, "--budget: at least 8 expected, found 0" in ran.err) == (2, True)
    ran = gossamer("adversarial", tmp_path / "c.json", "--out", tmp_path / "out")
    assert (ran.code, "expected a circuit file" in ran.err) == (2, True)


def test_the_command_writes_results_and_page(gossamer, tmp_path):
    model = LanguageModel.load("bundled:spool")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    task = get("ioi").generate(model.tokenizer, n=64, bos=True)
    path = active_circuit(model, dictionaries, task).save(tmp_path / "circuit.json")
    few = ("--budget", 16, "--searches", 1, "--held-out", 6, "--worst-case", "--out", tmp_path / "out", "--json")
    ran = gossamer("adversarial", path, *few)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert set(said["arms"]) == set("ABCDEF")
    assert said["verdict"].split(":")[0] in ("The circuit added nothing", "Knowing the circuit helps")
    mean, p95, p99, drawn, found = said["worst"].values()
    assert mean < p95 <= p99 <= drawn <= found
    page = (tmp_path / "out" / "adversarial.html").read_text()
    assert page.count(said["verdict"]) == 1
    assert "At a closer look" in page
    record = PromptRecord.load(said["prompts"])
    for letter, arm in said["arms"].items():
        own = [one.success.check.stands for one in record.successes if one.arm == letter]
        assert (arm["broken"], arm["strict"]) == (len(own), sum(own))
    assert "Where the circuit is furthest from the model" in page
    assert "seeds" not in said


def test_seeds_are_studies_of_their_own_and_go_on(gossamer, tmp_path):
    model = LanguageModel.load("bundled:spool")
    dictionaries = DictionarySet.load(bundled.path("spool") / "dictionaries")
    task = get("ioi").generate(model.tokenizer, n=64, bos=True)
    path, folder = active_circuit(model, dictionaries, task).save(tmp_path / "circuit.json"), tmp_path / "out"
    few = ("--budget", 16, "--searches", 1, "--held-out", 6, "--out", folder, "--json")
    ran = gossamer("adversarial", path, *few, "--seeds", 2)
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    head, *rows = said["seeds"]["rows"]
    assert head == ["arm", "seed 0", "seed 1", "mean", "circuit ahead of it"]
    own = [FORMAT.load(folder / f"seed-{seed}" / "adversarial.json") for seed in (0, 1)]
    assert [one.settings["seed"] for one in own] == [0, 1]
    for row in rows:
        shares = [one.arm(row[0][0]).broken.value for one in own]
        assert row[1:3] == [f"{round(6 * share)} of 6" for share in shares]
        assert row[3] == f"{sum(shares) / 2:.0%}"
    assert said["arms"]["A"]["broken"] == sum(own[0].arm("A").held_out)
    records = [PromptRecord.load(folder / f"seed-{seed}" / FILE) for seed in (0, 1)]
    assert [one.about["settings"]["seed"] for one in records] == [0, 1]
    assert said["prompts"] == str(folder / "seed-0" / FILE)
    assert said["seeds"]["verdict"] in (folder / "adversarial.html").read_text()
    before = (folder / "seeds.json").read_bytes()
    again = gossamer("adversarial", path, *few, "--seeds", 2)
    assert (again.code, (folder / "seeds.json").read_bytes()) == (0, before)
    other = gossamer("adversarial", path, *few, "--seeds", 2, "--budget", 24)
    assert (other.code, "holds another study (other budget)" in other.err) == (2, True)
