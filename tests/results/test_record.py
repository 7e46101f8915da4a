"""Files of results: versions, checksums, damage; and studies that are killed and go on to the same bytes."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.results import Format, Older, Record, Recorder, digest, record_format


@dataclass(frozen=True)
class Row:
    number: int
    square: float


ROWS = record_format("test.rows", 2, Row, "a study of squares")
SETTINGS = {"upto": 40, "sizes": (1, 2)}
# A study as any other: what is there is not done again. Slow enough to be killed in the middle.
STUDY = """
import sys, time
sys.path.insert(0, sys.argv[1])
from test_record import ROWS, SETTINGS, Row
from gossamer.results import Recorder
recorder = Recorder(sys.argv[2], ROWS, SETTINGS, {"seed": 0})
for number in range(len(recorder.rows), 40):
    time.sleep(0.01)
    recorder.add(Row(number, number**2 / 3))
"""


def study(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", STUDY, Path(__file__).parent, path])


def test_a_study_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    assert study(tmp_path / "whole.json").wait() == 0
    path, kills, seen = tmp_path / "killed.json", 0, 0
    while True:
        process = study(path)
        # Once it is at work: 0 to 5 rows further, wherever that falls in computing or writing.
        while process.poll() is None and not (path.is_file() and len(ROWS.load(path).rows) > seen):
            time.sleep(0.002)
        time.sleep(0.007 * (kills % 5))
        process.send_signal(signal.SIGKILL)
        if process.wait() == 0:
            break
        kills += 1
        assert len(ROWS.load(path).rows) > seen
        seen = len(ROWS.load(path).rows)
    assert kills > 2
    assert path.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_rows_are_on_disk_as_soon_as_they_are_added_and_load_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.json"
    recorder = Recorder(path, ROWS, SETTINGS)
    recorder.add(Row(1, math.inf), Row(2, 4.0))
    assert ROWS.load(path) == Record({"upto": 40, "sizes": [1, 2]}, (Row(1, math.inf), Row(2, 4.0)), {})
    again = Recorder(path, ROWS, SETTINGS)
    assert again.rows == recorder.rows
    again.add(Row(3, 9.0))
    assert len(ROWS.load(path).rows) == 3
    assert [file.name for file in path.parent.iterdir()] == ["rows.json"]
    assert Recorder(None, ROWS, SETTINGS).record.rows == ()


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    Recorder(tmp_path / "rows.json", ROWS, SETTINGS).add(Row(1, 1.0))
    with pytest.raises(UsageError, match=r"holds another study \(other upto, new\)"):
        Recorder(tmp_path / "rows.json", ROWS, {**SETTINGS, "upto": 3, "new": 1})
    with pytest.raises(UsageError, match="cannot be written"):
        Recorder(tmp_path / "rows.json" / "rows.json", ROWS, SETTINGS)


def saved(tmp_path: Path) -> Path:
    return ROWS.save(tmp_path / "rows.json", Record({}, (Row(1, 1.0), Row(2, 4.0))))


def test_a_byte_changed_anywhere_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    for place in range(0, len(content) - 1, 3):
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        path.write_bytes(changed)
        if json.loads(content) == _parsed(changed):
            continue
        with pytest.raises(GossamerError, match=r"rows\.json: ") as caught:
            ROWS.load(path)
        assert "\n" not in str(caught.value)


def _parsed(content: bytes) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_a_file_cut_anywhere_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    for end in range(len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(GossamerError):
            ROWS.load(path)


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("test.rows.3", "found version 3: upgrade gossamer"),
        ("test.rows.1", "found version 1$"),
        ("other.2", "found something else"),
        ("gossamer.circuit.6", "found format 'gossamer.circuit.6'$"),
        (None, "found something else"),
    ],
)
def test_other_formats_and_versions_are_told_apart(tmp_path: Path, tag: str | None, said: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"format": tag, "sha256": "", "rows": []}))
    with pytest.raises(UsageError, match=rf"a study of squares \(format 'test\.rows\.2'\), {said}"):
        ROWS.load(tmp_path / "a.json")


def test_older_versions_are_upgraded_and_their_checksums_believed(tmp_path: Path) -> None:
    def upgrade(body: dict[str, object]) -> dict[str, object]:
        return {"number": body["n"], "square": body["sq"]}

    form: Format[Row] = Format("test.row", 3, Row, "a row", {"row-2": Older(upgrade), "": Older(upgrade, False)})
    body = {"n": 2, "sq": 4}
    (tmp_path / "new.json").write_text(json.dumps({"format": "row-2", "sha256": digest(body), **body}))
    (tmp_path / "old.json").write_text(json.dumps(body))
    assert form.load(tmp_path / "new.json") == form.load(tmp_path / "old.json") == Row(2, 4.0)
    (tmp_path / "new.json").write_text(json.dumps({"format": "row-2", "sha256": digest(body), **body, "sq": 5}))
    with pytest.raises(GossamerError, match="a row whose checksum matches its content expected"):
        form.load(tmp_path / "new.json")
    (tmp_path / "old.json").write_text(json.dumps({"n": 2}))
    with pytest.raises(GossamerError, match=r"expected a row, found damage \('sq'\)"):
        form.load(tmp_path / "old.json")


def test_damage_and_other_files_are_named_with_what_was_expected(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_text(path.read_text().replace("4.0", "NaN"))
    with pytest.raises(GossamerError, match=r"rows\.json: a study of squares whose checksum .* found NaN"):
        ROWS.load(path)
    path.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(UsageError, match=r"rows\.json: a study of squares expected, found lines of JSON"):
        ROWS.load(path)


def test_a_number_that_is_none_is_refused_where_nothing_says_that_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(NotFiniteError, match=r"settings.rate: a finite number expected, found nan"):
        ROWS.save(tmp_path / "rows.json", Record({"rate": math.nan}, ()))
    assert os.listdir(tmp_path) == []
