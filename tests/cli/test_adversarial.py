"""`gossamer adversarial`: the command as a user gives it, and lines refused before anything is loaded."""

import json

from spool_circuit import active_circuit

from gossamer import DictionarySet, LanguageModel, bundled
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
    mean, p99, drawn, found = said["worst"].values()
    assert mean < drawn
    assert p99 <= drawn <= found
    page = (tmp_path / "out" / "adversarial.html").read_text()
    assert page.count(said["verdict"]) == 1
    assert "Where the circuit is furthest from the model" in page
