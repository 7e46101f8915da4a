"""Stores that were stopped, damaged, written by two or lie at a URL."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow
import pyarrow.parquet
import pytest
from store_fixtures import SETTINGS, SITES, dictionaries, texts

from gossamer.errors import GossamerError, UsageError
from gossamer.features import Feature
from gossamer.results import folder_lock
from gossamer.store import FeatureStore, build_store, explanations
from gossamer.store.feature_store import damage
from gossamer.store.location import locate

SMALL = dataclasses.replace(SETTINGS, shard_tokens=40)


@pytest.fixture
def build(tiny_gpt2):
    def run(url, **options):
        return build_store(tiny_gpt2, dictionaries(), texts(8), url, settings=SMALL, **options)

    return run


def _files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_a_killed_build_goes_on_to_the_same_bytes_and_a_full_disk_loses_nothing(tmp_path):
    script = Path(__file__).with_name("build_job.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr + "".join(path.read_text() for path in tmp_path.glob("*.error"))
    moments, readers, found, *_ = ran.stdout.splitlines()
    assert moments.count("-9") >= 3
    assert moments.endswith(" 0")
    assert _files(tmp_path / "killed") == _files(tmp_path / "whole")
    # Two processes that read at once.
    assert readers == "[0, 0]"
    assert "by_latent/000000.parquet: could not be written (File too large); nothing was changed" in found
    assert not (tmp_path / "full").exists() or not _files(tmp_path / "full")


def test_building_again_writes_nothing_and_an_interrupted_build_writes_the_rest(build, tmp_path, monkeypatch):
    build(tmp_path / "whole")
    whole = _files(tmp_path / "whole")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").rglob("*.*")}
    build(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "whole").rglob("*.*")} == times

    from gossamer.store import build as module

    real, left = module.shard_tables, [2]

    def stopped(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "shard_tables", stopped)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "parts")
    with pytest.raises(UsageError, match=r"a complete store expected, found 2 of \d+ shards"):
        FeatureStore(tmp_path / "parts")
    monkeypatch.setattr(module, "shard_tables", real)
    build(tmp_path / "parts")
    assert _files(tmp_path / "parts") == whole


@pytest.mark.parametrize("name", ["by_latent/000001.parquet", "tokens/000002.parquet", "examples/z.1.parquet"])
def test_damage_is_named_and_mended_alone(build, tmp_path, name):
    build(tmp_path)
    whole = _files(tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with FeatureStore(tmp_path) as store:
        assert store.verify() == {name: "its SHA-256 differs from the manifest's"}
    path.write_bytes(content[:-1])
    with pytest.raises(GossamerError, match=rf"{name}: damaged .* bytes instead of .* --repair"):
        FeatureStore(tmp_path)
    path.unlink()
    with pytest.raises(GossamerError, match=rf"{name}: damaged \(no such file\)"):
        FeatureStore(tmp_path)
    assert damage(tmp_path)[1] == {name: "no such file"}
    part = name.rpartition("/")[2]
    others = {one: one.stat().st_mtime_ns for one in tmp_path.rglob("*.parquet") if one.name != part}
    build(tmp_path, repair=True)
    assert _files(tmp_path) == whole
    assert {one: one.stat().st_mtime_ns for one in others} == others


def test_a_shard_that_comes_out_otherwise_takes_the_old_ones_place_with_all_that_hangs_on_it(
    build, tmp_path, monkeypatch
):
    """As on another machine: a store stays one whole."""
    build(tmp_path)
    with FeatureStore(tmp_path) as store:
        before = store.sql("SELECT sum(total) AS s FROM statistics")["s"][0].as_py()
    from gossamer.store import shards

    real = shards._encoded

    def louder(*arguments):
        return {site: dataclasses.replace(one, values=2 * one.values) for site, one in real(*arguments).items()}

    monkeypatch.setattr(shards, "_encoded", louder)
    (tmp_path / "by_token/000000.parquet").unlink()
    build(tmp_path, repair=True)
    with FeatureStore(tmp_path) as store:
        assert store.verify() == {}
        after = store.sql("SELECT sum(total) AS s FROM statistics")["s"][0].as_py()
        values = store.sql("SELECT sum(value::DOUBLE) AS s FROM activations")["s"][0].as_py()
    assert after == pytest.approx(values)
    assert after > before * 1.01


def test_damaged_explanations_are_named_by_their_own_hash(build, tmp_path):
    build(tmp_path)
    feature, path = Feature(SITES[0], 3), tmp_path / "explanations.parquet"
    with FeatureStore(tmp_path) as store:
        store.explain({feature: "names of girls", Feature(SITES[0], 4): "names of boys"})
        assert store.verify() == {}
        content, rows, named = path.read_bytes(), explanations.read(locate(tmp_path)), 0
        for place in range(0, len(content), 29):
            changed = bytearray(content)
            changed[place] ^= 1
            path.write_bytes(changed)
            # What does not change a row does no harm.
            if store.verify():
                named += 1
                with pytest.raises(
                    GossamerError, match=r"explanations\.parquet: damaged .*delete it and explain again"
                ):
                    store.explain({feature: "again"})
            else:
                assert explanations.read(locate(tmp_path)) == rows
            assert path.read_bytes() == changed
        assert named > 20
    # Files of before have neither scores nor a hash.
    older = pyarrow.table({name: [row[name] for row in rows] for name in ("site", "latent", "text", "method")})
    pyarrow.parquet.write_table(older, path)
    with FeatureStore(tmp_path) as store:
        assert store.verify() == {}
        store.explain({feature: "again"})
        assert store.verify() == {}
        assert [store.card(one).explanation for one in (feature, Feature(SITES[0], 4))] == ["again", "names of boys"]
    path.write_bytes(content[:20])
    with pytest.raises(GossamerError, match="could not be read") as caught:
        FeatureStore(tmp_path)
    assert "\n" not in str(caught.value)
    path.unlink()
    with FeatureStore(tmp_path) as store:
        store.explain({feature: "again"})
        assert store.card(feature).explanation == "again"


def test_one_writer_at_a_time(build, tmp_path):
    with folder_lock(tmp_path), pytest.raises(UsageError, match="another process is at work there"):
        build(tmp_path)
    build("memory://locked")
    fsspec.filesystem("memory").pipe_file("/locked/writer.lock", b"")
    with pytest.raises(UsageError, match=r"another process writes there, or one was killed .*delete writer\.lock"):
        build("memory://locked")


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_url_holds_the_same_store_as_a_folder(build, tmp_path, scheme):
    url = "memory://stores/one" if scheme == "memory" else f"file://{tmp_path}/url"
    build(tmp_path / "folder")
    build(url)
    feature = Feature(SITES[0], 3)
    with FeatureStore(tmp_path / "folder") as ours, FeatureStore(url) as other:
        assert other.manifest == ours.manifest
        assert other.verify() == {}
        assert other.tokens_of(feature).equals(ours.tokens_of(feature))
        assert other.card(feature) == ours.card(feature)
        other.explain({feature: "something"})
        assert other.card(feature).explanation == "something"
    with pytest.raises(UsageError, match="no file system of that name"):
        FeatureStore("nowhere://store")
