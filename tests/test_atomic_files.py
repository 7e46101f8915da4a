"""Atomic writes and named damage."""

import json
import os
import stat

import pytest

from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json, replacing, write_json, write_text


def test_written_text_is_read_back_and_leaves_nothing_else(tmp_path):
    path = write_text(tmp_path / "new" / "a.txt", "été\n")
    assert path.read_text(encoding="utf-8") == "été\n"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_failed_write_keeps_the_old_file_and_no_part(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def stopped() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(GossamerError, match=r"a.txt: could not be written \(No space left"),
        replacing(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


def test_the_umask_decides_who_may_read(tmp_path):
    old = os.umask(0o027)
    try:
        path = write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_json_has_no_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == []


def test_missing_and_damaged_json_are_named(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_json(tmp_path / "none.json")
    path = write_json(tmp_path / "a.json", {"x": [1, 2]})
    assert read_json(path) == {"x": [1, 2]}
    path.write_text(json.dumps({"x": 1})[:-1])
    with pytest.raises(GossamerError, match=r"a.json: expected JSON, found damage"):
        read_json(path)
