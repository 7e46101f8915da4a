"""What a folder of results holds, and what is said of files that are damaged, newer or not meant to be there."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from gossamer.app.run_folder import KINDS, RunFolder
from gossamer.circuits.circuit import Circuit
from gossamer.errors import UsageError
from gossamer.results import Format


def states(folder):
    run = RunFolder(folder)
    return {part.id: run.checked(part) for part in run.parts().values()}


def test_what_a_circuit_command_leaves_is_found_and_whole(run):
    (run / "report.html").write_text("<p>")
    (run / "notes.json").write_text('{"format": "somebody else"}')
    (run / "circuit-tracer" / "features").mkdir(parents=True)
    (run / "circuit-tracer" / "features" / "circuit.json").write_text("not ours")
    found = RunFolder(run)
    assert {part.id: part.kind for part in found.parts().values()} == {"circuit": "circuit", "findings": "findings"}
    assert {one.state for one in states(run).values()} == {"whole"}
    assert [str(page) for page in found.pages()] == ["report.html"]
    assert found.read(found.parts()["circuit"]).content == Circuit.load(run / "circuit.json")


def test_every_format_that_is_named_can_be_read():
    for name, kind in KINDS.items():
        if kind.form is not None:
            module, _, attribute = kind.form.partition(":")
            form = getattr(__import__(module, fromlist=[attribute]), attribute)
            assert callable(form.load)
            assert not isinstance(form, Format) or form.name == name


def test_what_is_wrong_is_said_in_one_line_without_the_machines_folders(run):
    body = json.loads((run / "circuit.json").read_text())
    (run / "circuit.json").write_text(json.dumps({**body, "task": "another"}))
    (run / "findings.json").write_text((run / "findings.json").read_text()[:5000])
    newer = run / "later"
    newer.mkdir()
    (newer / "circuit.json").write_text(json.dumps({**body, "format": "gossamer.circuit.999"}))
    empty = run / "empty"
    empty.mkdir()
    (empty / "circuit.json").write_text("")
    found = states(run)
    assert {name: one.state for name, one in found.items()} == {
        "circuit": "damaged",
        "findings": "damaged",
        "later~circuit": "newer",
        "empty~circuit": "damaged",
    }
    assert "changed or damaged" in found["circuit"].message
    assert "upgrade gossamer" in found["later~circuit"].message
    for one in found.values():
        assert "\n" not in one.message
        assert str(run) not in one.message


def test_links_that_lead_out_are_not_followed(run, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "circuit.json").write_bytes((run / "circuit.json").read_bytes())
    (run / "linked").symlink_to(outside)
    (run / "linked.json").symlink_to(outside / "circuit.json")
    (run / "page.html").symlink_to(outside / "circuit.json")
    assert set(RunFolder(run).parts()) == {"circuit", "findings"}
    assert RunFolder(run).pages() == []


def test_ids_are_plain_and_no_two_are_the_same(run):
    names = ["a b", "a_b", "ä", "_", "..", "a" * 60, "a" * 61, "x\n", "%2e", "<img>"]
    for name in names:
        if name != "..":
            folder = run / name
            folder.mkdir()
            (folder / "circuit.json").write_bytes((run / "circuit.json").read_bytes())
    (run / "a_b~circuit.json").write_bytes((run / "circuit.json").read_bytes())
    parts = RunFolder(run).parts()
    assert len(parts) == 2 + len(names) - 1 + 1
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{1,160}", name) for name in parts)
    assert len({part.path for part in parts.values()}) == len(parts)


def test_a_run_at_work_grows(run):
    (run / "findings.json").unlink()
    found = RunFolder(run)
    assert set(found.parts()) == {"circuit"}
    before = found.parts()["circuit"]
    assert found.read(before).state == "whole"
    changed = json.loads((run / "circuit.json").read_text())
    (run / "circuit.json").write_text(json.dumps({**changed, "task": "?"}))
    os.utime(run / "circuit.json", (0, 0))
    assert found.read(found.parts()["circuit"]).state == "damaged"


def test_what_is_no_folder_is_refused(run):
    for path in (run / "circuit.json", run / "nothing"):
        with pytest.raises(UsageError, match="folder of a run expected"):
            RunFolder(path)


def test_several_threads_read_the_same_files_at_once(run):
    """As the requests of one page do."""
    for _ in range(5):
        folder = RunFolder(run)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(folder.read, [*folder.parts().values()] * 8))
        assert {one.state for one in found} == {"whole"}
