"""Texts are read from whatever holds them; what is in a file counts, not its name."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from gossamer import files
from gossamer.activations.text import read_texts
from gossamer.errors import GossamerError, UsageError

STORIES = ["One day.\nShe went home.", "Two days\u2028went by."]
LINES = "\n".join(json.dumps({"text": story, "n": 1}, ensure_ascii=False) for story in STORIES)


def _compressed() -> bytes:
    """The same bytes whenever it is called: without the time."""
    return gzip.compress(b"One. " * 50, mtime=0)


def _flipped(content: bytes) -> bytes:
    return content[:20] + bytes([content[20] ^ 0x55]) + content[21:]


def test_texts_are_read_from_lines_and_from_paragraphs(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "One.\\nTwo."}\n\n{"text": "Three."}\n')
    (tmp_path / "a.txt").write_text("One.\nTwo.\n\nThree.\n\n\n")
    assert read_texts(tmp_path / "a.jsonl") == ["One.\nTwo.", "Three."]
    assert [text.strip() for text in read_texts(tmp_path / "a.txt")] == ["One.\nTwo.", "Three."]
    # Some editors begin a file with a byte-order mark.
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes())
    assert read_texts(tmp_path / "b.jsonl") == ["One.\nTwo.", "Three."]


@pytest.mark.parametrize(
    ("name", "content", "error", "expected"),
    [
        ("none.txt", None, UsageError, "no such file"),
        ("empty.txt", b" \n\n", UsageError, "found none"),
        ("empty.jsonl", b"", UsageError, "found none"),
        ("bad.jsonl", b'{"text": "a"}\n{"txet": "b"}\n', GossamerError, "line 2"),
        ("number.jsonl", b'{"text": 3}\n', GossamerError, 'line 1: expected {"text": …} with a text'),
        ("latin.txt", b"caf\xe9", GossamerError, "UTF-8"),
        ("number.json", b"3", UsageError, "a line \\(JSON Lines\\) or a list of them, found other JSON"),
        ("mixed.json", b'["One.", 2]', GossamerError, "entry 2: expected"),
        (
            "key.jsonl",
            b'{"story": "One."}',
            UsageError,
            "expected a text at 'text', found 'story'; say where: --text-key",
        ),
        ("cut.gz", gzip.compress(b"One. " * 50, mtime=0)[:-9], GossamerError, "damaged where it is compressed"),
        (
            "flipped.gz",
            _flipped(gzip.compress(b"One. " * 50, mtime=0)),
            GossamerError,
            "damaged where it is compressed",
        ),
        ("half.jsonl", b'{"text": "One."}\n{"text": "\\ud83d"}\n', GossamerError, "line 2: .* half of a character"),
    ],
)
def test_bad_text_files_are_named(tmp_path, name, content, error, expected):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=expected):
        read_texts(tmp_path / name)


@pytest.mark.parametrize("name", ["a.json", "a.txt", "a"])
def test_what_is_in_a_file_counts_not_its_name(tmp_path, name):
    (tmp_path / name).write_text('\n{"text": "One.\u2028Two."}\n{"text": "Three.\\n\\nFour."}\n', encoding="utf-8")
    assert read_texts(tmp_path / name) == ["One.\u2028Two.", "Three.\n\nFour."]
    (tmp_path / "braces.txt").write_text("{sings} One.\n\n{speaks} Two.")
    assert read_texts(tmp_path / "braces.txt") == ["{sings} One.", "{speaks} Two."]


@pytest.mark.parametrize("content", [f"[{', '.join(map(json.dumps, STORIES))}]", f"[{LINES.replace(chr(10), ', ')}]"])
def test_a_list_is_read_as_lines_are(tmp_path, content):
    for name in ("a.json", "a"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_texts(tmp_path / name) == STORIES
    (tmp_path / "b.txt").write_text("[She sings] One.\n\nTwo.")
    assert read_texts(tmp_path / "b.txt") == ["[She sings] One.", "Two."]


def test_a_story_a_line_is_a_text_a_line(tmp_path):
    (tmp_path / "lines.txt").write_text("One day.\nTwo days.\n")
    assert read_texts(tmp_path / "lines.txt") == ["One day.", "Two days."]
    (tmp_path / "paragraphs.txt").write_text("\nOne day.\nShe went.\n \nTwo days.\n")
    assert read_texts(tmp_path / "paragraphs.txt") == ["One day.\nShe went.", "Two days."]
    (tmp_path / "marked.txt").write_text("One day.\n\nShe went.\n<|endoftext|>\nTwo days.\n<|endoftext|>")
    assert [one.strip() for one in read_texts(tmp_path / "marked.txt")] == ["One day.\n\nShe went.", "Two days."]


def test_compressed_files_are_read(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(LINES.encode()))
    with pyarrow.CompressedOutputStream(str(tmp_path / "b"), "zstd") as file:
        file.write(LINES.encode())
    assert read_texts(tmp_path / "a") == read_texts(tmp_path / "b") == STORIES
    content = (tmp_path / "b").read_bytes()
    (tmp_path / "c.zst").write_bytes(content[:-9])
    with pytest.raises(GossamerError, match="damaged where it is compressed"):
        read_texts(tmp_path / "c.zst")


def test_what_unpacks_to_more_than_it_may_is_refused(tmp_path, monkeypatch):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"a" * 100_000, mtime=0))
    monkeypatch.setattr(files, "_PART", 1000)
    with pytest.raises(UsageError, match="at most 5,000 bytes of text expected, found more"):
        files.read_text(tmp_path / "bomb.gz", limit=5000)


def test_tables_are_read(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"text": STORIES, "n": [1, 2]}), tmp_path / "a")
    pyarrow.parquet.write_table(pyarrow.table({"story": [STORIES[0], None]}), tmp_path / "b.parquet")
    assert read_texts(tmp_path / "a") == STORIES
    with pytest.raises(UsageError, match="expected a column 'text', found 'story'; say which: --text-key"):
        read_texts(tmp_path / "b.parquet")
    with pytest.raises(GossamerError, match="row 2: expected a text at 'story', found 'None'"):
        read_texts(tmp_path / "b.parquet", "story")
    (tmp_path / "c.parquet").write_bytes((tmp_path / "a").read_bytes()[:-9])
    with pytest.raises(GossamerError, match="damaged or no Parquet"):
        read_texts(tmp_path / "c.parquet")


def test_the_key_of_the_text_can_be_given(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"story": "One."}\n{"story": "Two."}\n')
    assert read_texts(tmp_path / "a.jsonl", "story") == ["One.", "Two."]


def test_a_folder_is_its_files_in_order(tmp_path):
    (tmp_path / "part" / "b").mkdir(parents=True)
    (tmp_path / "part" / "b" / "2.txt").write_text("Three.")
    (tmp_path / "part" / "1.jsonl").write_text(LINES, encoding="utf-8")
    (tmp_path / "part" / ".hidden").write_text("None.")
    assert read_texts(tmp_path / "part") == [*STORIES, "Three."]
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="found none"):
        read_texts(tmp_path / "none")


def test_a_package_that_is_missing_is_named():
    with pytest.raises(UsageError, match="reading it needs no_such_package, which is not installed; pip install"):
        files.needed("no_such_package.part", "reading it")
