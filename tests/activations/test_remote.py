"""Texts that lie elsewhere, read by the hub's own client and by `datasets` itself."""

import json
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from gossamer.activations import remote
from gossamer.activations.text import read_texts
from gossamer.cli import early
from gossamer.errors import GossamerError, UsageError

STORIES = ["One day.\nShe went home.", "Two days\u2028went by."]
LINES = "\n".join(json.dumps({"text": story, "n": 1}, ensure_ascii=False) for story in STORIES)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A data set in a folder, as `datasets` reads one: 30 rows of training, 3 of test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "stories"
    folder.mkdir()
    for split, count in (("train", 30), ("test", 3)):
        rows = [json.dumps({"story": f"{split} {number}", "n": number}) for number in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
    return folder


def test_a_file_of_a_data_set_on_the_hub(tmp_path, monkeypatch):
    """The hub's own client is asked for what the reference names; here it finds it in its cache."""
    (tmp_path / "stories.jsonl").write_text(LINES, encoding="utf-8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked = []

    def found(*names, **options):
        asked.append((names, options))
        return str(tmp_path / "stories.jsonl")

    monkeypatch.setattr(remote, "hf_hub_download", found)
    assert read_texts("hub:owner/set.1/data/train-00000.jsonl@main") == STORIES
    assert asked == [(("owner/set.1", "data/train-00000.jsonl"), {"repo_type": "dataset", "revision": "main"})]
    for reference in ("hub:owner/set", "hub:owner/set/../../x", "hub:a"):
        with pytest.raises(UsageError, match="expected hub:owner/data-set/path/of/file"):
            read_texts(reference)


def test_what_the_hub_does_not_have_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert remote.hf_hub_download is hf_hub_download
    with pytest.raises(GossamerError, match=r"hub:owner/none/a\.txt: could not be fetched"):
        read_texts("hub:owner/none/a.txt")


def test_rows_of_a_data_set_stream_in(dataset, monkeypatch):
    assert read_texts(f"datasets:{dataset}:test", "story") == ["test 0", "test 1", "test 2"]
    assert read_texts(f"datasets:{dataset}#7", "story") == [f"train {number}" for number in range(7)]
    assert read_texts(f"datasets:{dataset}:train:default#2", "story") == ["train 0", "train 1"]
    monkeypatch.setattr(remote, "ROWS", 4)
    assert len(read_texts(f"datasets:{dataset}", "story")) == 4


def test_no_more_is_read_than_is_asked_for(dataset):
    (dataset / "train.jsonl").rename(dataset / "train-00000-of-00002.jsonl")
    (dataset / "train-00001-of-00002.jsonl").write_text("no JSON")
    assert len(read_texts(f"datasets:{dataset}#30", "story")) == 30
    with pytest.raises(GossamerError, match="could not be fetched"):
        read_texts(f"datasets:{dataset}", "story")


@pytest.mark.parametrize("reference", ["datasets:", "datasets:a#0", "datasets:a#x", "datasets:a:b:c:d", "datasets:a@"])
def test_a_malformed_name_is_refused(reference):
    with pytest.raises(UsageError, match="expected datasets:NAME"):
        read_texts(reference)


def test_a_row_without_a_text_says_what_it_has(dataset):
    with pytest.raises(UsageError, match=r"row 1: expected a text at 'text', found 'story', 'n'; say where"):
        read_texts(f"datasets:{dataset}")


def test_a_split_that_is_not_there_is_named(dataset):
    with pytest.raises(GossamerError, match="dev"):
        read_texts(f"datasets:{dataset}:dev", "story")


@pytest.mark.parametrize("name", ["hub:a/b/c", "datasets:a"])
def test_what_the_command_line_lets_pass_is_what_the_library_knows(name):
    early.require_texts([Path(name)])
    assert remote.is_remote(name)
