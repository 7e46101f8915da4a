"""Counting that was stopped, and what is there of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from planted_relations import given, random_latents

from gossamer.errors import GossamerError, UsageError
from gossamer.progress import progress_bars
from gossamer.relations import ActiveAbove, Keep, SitePair, load_relation, relate, relate_in_folder
from gossamer.relations import blocks as blocks_module

PAIRS = [SitePair("a", "b"), SitePair("b", "b")]


@pytest.fixture
def stream():
    return given({"a": random_latents(11), "b": random_latents(7, seed=1)}, batch_size=2)


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _stopped(monkeypatch, after):
    """Let counting be interrupted behind so many blocks."""
    real, left = blocks_module._counted, [after]

    def counted(block):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(block)

    monkeypatch.setattr(blocks_module, "_counted", counted)
    return lambda: monkeypatch.setattr(blocks_module, "_counted", real)


@pytest.mark.slow
def test_killed_counting_goes_on_to_the_same_bytes(tmp_path):
    script = Path(__file__).with_name("relate_job.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr + "".join(path.read_text() for path in tmp_path.glob("*.error"))
    assert ran.stdout.count("-9") >= 3
    assert ran.stdout.strip().endswith(" 0")
    assert _files(tmp_path / "killed") == _files(tmp_path / "whole")
    assert "maxima of 6 of 6 blocks of rows are there already" in ran.stderr
    assert re.search("counts of [1-6] of 6 blocks of rows are there already", ran.stderr)


def test_what_is_there_is_said_and_not_counted_again(stream, tmp_path, monkeypatch, capsys):
    whole = relate_in_folder(stream, PAIRS, tmp_path / "whole", block_rows=5)
    go_on = _stopped(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        relate_in_folder(stream, PAIRS, tmp_path / "parts", block_rows=5)
    with pytest.raises(UsageError, match=r"holds another study \(other absolute\)"):
        relate_in_folder(stream, PAIRS, tmp_path / "parts", block_rows=5, activity=ActiveAbove(0.5))
    go_on()
    with progress_bars():
        relate_in_folder(stream, PAIRS, tmp_path / "parts", block_rows=5)
    assert "counts of 2 of 5 blocks of rows are there already" in capsys.readouterr().err
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == [
        "a-b.relation.safetensors",
        "b-b.relation.safetensors",
    ]
    # Complete relations are read; another request counts anew.
    _stopped(monkeypatch, 0)
    with progress_bars():
        again = relate_in_folder(stream, PAIRS, tmp_path / "whole", block_rows=5)
    assert "are not counted again" in capsys.readouterr().err
    assert (again[PAIRS[0]].kept.c == whole[PAIRS[0]].kept.c).all()
    for other in ({"block_rows": 6}, {"block_rows": 5, "keep": Keep(top=3)}, {"block_rows": 5, "null": False}):
        with pytest.raises(KeyboardInterrupt):
            relate_in_folder(stream, PAIRS, tmp_path / "whole", **other)


def test_a_damaged_block_is_named_and_counted_again(stream, tmp_path, monkeypatch, capsys):
    relate_in_folder(stream, PAIRS, tmp_path / "whole", block_rows=5)
    go_on = _stopped(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        relate_in_folder(stream, PAIRS, tmp_path / "parts", block_rows=5)
    go_on()
    damaged = tmp_path / "parts/blocks/counts-000001/0-null-products.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with progress_bars():
        relate_in_folder(stream, PAIRS, tmp_path / "parts", block_rows=5)
    said = capsys.readouterr().err
    assert f"counts of 2 of 5 blocks of rows are there already, {damaged} is damaged" in said
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")


@pytest.mark.parametrize("entries", [64, 2**20])
def test_files_of_blocks_change_nothing(stream, tmp_path, entries, monkeypatch):
    """With so little memory that blocks lie on disk, too."""
    from gossamer.relations import counting

    if entries == 64:
        monkeypatch.setattr(counting, "_CHUNK_PRODUCTS", 50)
    options = {"block_rows": 7, "entries": entries, "keep": Keep(("jaccard",), threshold=1e-12, least=1)}
    here = relate(stream, PAIRS, **options)
    saved = relate(stream, PAIRS, folder=tmp_path, **options)
    resumed = relate(stream, PAIRS, folder=tmp_path, **options)
    runs = any("run0" in path.read_bytes()[:4000].decode("latin-1") for path in tmp_path.rglob("*-counts.safetensors"))
    assert runs == (entries == 64)
    for pair, relation in here.items():
        for other in (saved[pair], resumed[pair]):
            for name in ("i", "j", "c", "products"):
                assert (getattr(other.kept, name) == getattr(relation.kept, name)).all()
            assert (other.upstream.squares == relation.upstream.squares).all()
            assert (other.null.forward["cosine"].value == relation.null.forward["cosine"].value).all()


def test_provenance_says_what_was_counted(stream, tmp_path):
    relate_in_folder(stream, PAIRS[:1], tmp_path, activity=ActiveAbove(relative=0.1))
    found = load_relation(tmp_path / "a-b.relation.safetensors").provenance
    assert found["settings"]["relative"] == 0.1
    assert found["settings"]["pairs"] == ["a>b"]
    assert set(found["settings"]["latents"]) == {"a", "b"}
    assert "gossamer" in found["versions"]


def test_blocks_of_no_row_are_refused_and_a_damaged_record_is_named(stream, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="blocks of at least 1 row expected, found 0"):
        relate(stream, PAIRS, block_rows=0)
    _stopped(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        relate_in_folder(stream, PAIRS, tmp_path, block_rows=5)
    (tmp_path / "blocks/blocks.json").write_text("{")
    with pytest.raises(GossamerError, match=r"blocks\.json: expected JSON"):
        relate_in_folder(stream, PAIRS, tmp_path, block_rows=5)
