"""Atomic writes and named damage."""

import json
import os
import stat

import pytest

from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.files import atomic_write, read_json, read_json_lines, require_folder, write_json, write_text


def test_written_text_is_read_back_and_leaves_nothing_else(tmp_path):
    path = write_text(tmp_path / "new" / "a.txt", "été\n")
    assert path.read_text(encoding="utf-8") == "été\n"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_failed_write_keeps_the_old_file_and_no_part(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def stopped() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(GossamerError, match=r"a.txt: could not be written \(No space left"),
        atomic_write(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["file/a.txt", "file/folder/a.txt", "folder", "a" * 300])
def test_a_path_that_cannot_be_a_file_is_the_users_mistake(tmp_path, path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=f"{path}: .*give another path"):
        write_text(tmp_path / path, "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_for_results_is_tried_and_left_as_it_was(tmp_path):
    require_folder(tmp_path / "new" / "folder")
    assert os.listdir(tmp_path) == []
    write_text(tmp_path / "file", "x")
    require_folder(tmp_path)
    for path in ("file", "file/folder", "new/" + "a" * 300):
        with pytest.raises(UsageError, match=f"{path}: cannot be written"):
            require_folder(tmp_path / path)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    for refused in (require_folder, lambda path: write_text(path / "a.txt", "x")):
        with pytest.raises(UsageError, match="Permission denied"):
            refused(tmp_path / "locked")


def test_the_umask_decides_who_may_read(tmp_path):
    old = os.umask(0o027)
    try:
        path = write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_json_has_no_nan(tmp_path):
    with pytest.raises(NotFiniteError, match=r"a\.json: finite numbers expected"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == []


def test_missing_and_damaged_json_are_named(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_json(tmp_path / "none.json")
    path = write_json(tmp_path / "a.json", {"x": [1, 2]})
    assert read_json(path) == {"x": [1, 2]}
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_json(path) == {"x": [1, 2]}
    path.write_text(json.dumps({"x": 1})[:-1])
    with pytest.raises(GossamerError, match=r"a.json: expected JSON, found damage"):
        read_json(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 60_000, "nested too deep"),
        (b'{"a":' * 60_000, "nested too deep"),
        (b"[" + b"9" * 5_000 + b"]", "a number of too many digits"),
        (b'["\\ud83d"]', "half of a character"),
        (b"\xff\xfe{}", "UTF-8 JSON, found other bytes"),
        (b'{"a": "\xe9"}', "UTF-8 JSON, found other bytes"),
        (b"", "found damage"),
        (b"{} {}", "found damage"),
    ],
)
def test_hostile_json_is_one_line(tmp_path, content, said):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(GossamerError, match=rf"a\.json: expected .*{said}") as caught:
        read_json(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' + (content or b"}"))
    with pytest.raises(GossamerError, match=r"a\.jsonl(, line 2)?: expected .*"):
        read_json_lines(tmp_path / "a.jsonl")


def test_lines_of_json_in_place_of_one_value_are_no_damage(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"a": 1}\n\n{"b": 2}\n')
    said = r"prompts\.jsonl: a circuit file expected, found lines of JSON \(as of prompts\); give the path of a circuit"
    with pytest.raises(UsageError, match=said):
        read_json(path, what="a circuit file")
    with pytest.raises(UsageError, match="one JSON value expected, found lines of JSON"):
        read_json(path)
    path.write_text('{"a": 1}\n{"b": \n')
    with pytest.raises(GossamerError, match="expected JSON, found damage"):
        read_json(path)


def test_whole_pairs_of_surrogates_are_characters(tmp_path):
    (tmp_path / "a.json").write_text(r'["\ud83d\ude00", "\\ud83d"]')
    assert read_json(tmp_path / "a.json") == ["\U0001f600", r"\ud83d"]


def test_json_lines_end_at_newlines_only(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "x\u2028y"}\n\n[2]\n', encoding="utf-8")
    assert read_json_lines(tmp_path / "a.jsonl") == [(1, {"a": "x\u2028y"}), (3, [2])]


def test_a_file_larger_than_the_limit_is_not_read(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2]")
    assert read_json(tmp_path / "a.json", limit=6) == [1, 2]
    with pytest.raises(UsageError, match=r"at most 5 bytes of JSON expected, found more"):
        read_json(tmp_path / "a.json", limit=5)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_an_unreadable_file_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "a.json").chmod(0)
    with pytest.raises(UsageError, match=r"cannot be read \(Permission denied\)"):
        read_json(tmp_path / "a.json")


def test_messages_are_one_printable_line_of_bounded_length():
    said = str(GossamerError(f"a\nb\x1b[31m\u202e{'x' * 1_000_000}: do this"))
    assert said.startswith(r"a b\x1b[31m\u202exxx")
    assert said.endswith("xx: do this")
    assert len(said) < 5_000
    assert str(UsageError("café 'x' → y…")) == "café 'x' → y…"
