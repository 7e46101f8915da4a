"""A cache of activations: the same numbers as on the fly, resumable at any moment, damage named, disks respected."""

import itertools
import json
import shutil

import pytest
import torch
from training_fixtures import CONFIG, texts, with_fit

from gossamer.activations.corpus import Corpus, split_texts
from gossamer.errors import GossamerError, NotFiniteError, UsageError
from gossamer.model import LanguageModel, Site
from gossamer.tensor_files import require_space
from gossamer.training.buffer import OnTheFly
from gossamer.training.cache import Cached, write_cache
from gossamer.training.cache.manifest import FILE, Manifest, shard_name
from gossamer.training.cache.write import buffers_for, epoch
from gossamer.training.source import TurnPlace, batches

SITES = [Site("resid_post", 0), Site("mlp_out", 1)]


@pytest.fixture
def corpus(tiny_gpt2):
    return Corpus.build(tiny_gpt2, *split_texts(texts(), CONFIG.corpus, seed=0), CONFIG.corpus, seed=0)


@pytest.fixture
def on_the_fly(tiny_gpt2, corpus):
    return OnTheFly(tiny_gpt2, corpus, SITES, with_fit(), seed=0)


def _of_version_1(manifest):
    """What the version before wrote of the same cache."""
    left_out = ("sha256", "model_dtype")
    return {name: value for name, value in manifest.items() if name not in left_out} | {
        "format": "gossamer.activations.1"
    }


def _files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _taken(source, count, start=None, batch=64):
    return [part for _, (part,) in itertools.islice(batches(source, start or TurnPlace(), batch), count)]


def test_in_float32_the_batches_are_those_of_the_model_bit_for_bit(on_the_fly, tmp_path):
    shards = epoch(on_the_fly)
    write_cache(on_the_fly, shards, "float32", tmp_path)
    cached = Cached(tmp_path)
    count = sum(one.tokens // 64 for one in cached.manifest.shards)
    assert shards > 2
    for ours, theirs in zip(_taken(cached, count), _taken(on_the_fly, count), strict=True):
        assert all(torch.equal(ours[site], theirs[site]) for site in SITES)
    first = on_the_fly.first()
    assert all(torch.equal(values, first[site]) for site, values in cached.first().items())


@pytest.mark.parametrize(("dtype", "close"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_the_bits_round_and_no_more(on_the_fly, tmp_path, dtype, close):
    write_cache(on_the_fly, 1, dtype, tmp_path)
    (ours,), (theirs,) = _taken(Cached(tmp_path), 1), _taken(on_the_fly, 1)
    for site in SITES:
        assert ours[site].dtype == torch.float32
        torch.testing.assert_close(ours[site], theirs[site], rtol=close, atol=1e-6)
        assert not torch.equal(ours[site], theirs[site])


def test_tokens_stand_beside_their_activations(tiny_gpt2, on_the_fly, tmp_path):
    """The embedding of a token is decided by its id and place: what stands there is among the model's for that id."""
    write_cache(on_the_fly, 1, "float32", tmp_path)
    cached = Cached(tmp_path)
    rows = on_the_fly.tokens(0)
    with torch.no_grad():
        captured = tiny_gpt2.capture(rows, SITES[:1])[SITES[0]]
    for index in (0, 7, 100):
        same = captured[(rows.ids == cached.tokens(0)[index]) & rows.mask]
        assert (same - cached.shard(0)[SITES[0]][index]).abs().amax(dim=1).min() < 1e-5


def test_after_the_last_shard_all_come_again_in_another_order(on_the_fly, tmp_path):
    write_cache(on_the_fly, 2, "float32", tmp_path)
    cached = Cached(tmp_path, reuse=2)

    def values(turn):
        one = cached.turn(turn)
        return one.take(0, one.tokens)[SITES[0]]

    turns = [values(index) for index in range(8)]
    for one, other in ((0, 1), (2, 3), (4, 5), (6, 7)):
        assert not torch.equal(turns[one], turns[other])
        torch.testing.assert_close(turns[one].sort(dim=0).values, turns[other].sort(dim=0).values, rtol=0, atol=0)
    sums = [float(turn.double().sum()) for turn in turns]
    assert sorted(map(round, sums[:4])) == sorted(map(round, sums[4:]))
    assert torch.equal(turns[0], cached.shard(0)[SITES[0]])


def test_writing_goes_on_where_it_stopped_and_ends_in_the_same_bytes(on_the_fly, tmp_path):
    write_cache(on_the_fly, 3, "bfloat16", tmp_path / "whole")
    write_cache(on_the_fly, 1, "bfloat16", tmp_path / "parts")
    # What a kill leaves: a shard that no manifest knows yet, and half of another under its temporary name.
    (tmp_path / "parts" / shard_name(1)).write_bytes(b"complete, but not known")
    (tmp_path / "parts" / f".{shard_name(2)}.abc.part").write_bytes(b"half")
    (tmp_path / "parts" / ".tmpAbc123").write_bytes(b"half")
    write_cache(on_the_fly, 3, "bfloat16", tmp_path / "parts")
    assert _files(tmp_path / "parts") == _files(tmp_path / "whole")
    written = (tmp_path / "parts" / shard_name(0)).stat().st_mtime_ns
    write_cache(on_the_fly, 2, "bfloat16", tmp_path / "parts")
    assert (tmp_path / "parts" / shard_name(0)).stat().st_mtime_ns == written


def test_no_more_than_an_epoch_is_written(on_the_fly, tmp_path):
    assert len(write_cache(on_the_fly, 10**6, "float16", tmp_path).shards) == epoch(on_the_fly)
    assert buffers_for(on_the_fly, 10**6, 64, 1) == epoch(on_the_fly)
    tokens = Manifest.load(tmp_path).shards[0].tokens
    assert [buffers_for(on_the_fly, steps, 64, 1) for steps in (1, tokens // 64, tokens // 64 + 1)] == [1, 1, 2]
    assert buffers_for(on_the_fly, tokens // 64 + 1, 64, 2) == 1


def test_a_truncated_shard_is_named_at_once(on_the_fly, tmp_path):
    write_cache(on_the_fly, 2, "bfloat16", tmp_path)
    path = tmp_path / shard_name(1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(GossamerError, match=r"shard-00001\.safetensors.*damage.*bytes instead of") as caught:
        Cached(tmp_path)
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(GossamerError, match=r"shard-00001\.safetensors.*no such file"):
        Cached(tmp_path)


@pytest.mark.parametrize("where", [0, 20, -1])
def test_a_flipped_bit_is_found_before_it_is_used_and_the_shard_named(on_the_fly, tmp_path, where):
    write_cache(on_the_fly, 2, "bfloat16", tmp_path)
    path = tmp_path / shard_name(1)
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    cached = Cached(tmp_path)
    cached.turn(0)
    with pytest.raises(GossamerError, match=r"shard-00001\.safetensors.*SHA-256 differs"):
        cached.turn(1)


def test_another_cache_in_the_folder_is_refused(tiny_gpt2, corpus, on_the_fly, tmp_path):
    write_cache(on_the_fly, 1, "bfloat16", tmp_path)
    with pytest.raises(UsageError, match=r"dtype: bfloat16 there, float16 asked"):
        write_cache(on_the_fly, 1, "float16", tmp_path)
    with pytest.raises(UsageError, match=r"seed: 0 there, 1 asked"):
        write_cache(OnTheFly(tiny_gpt2, corpus, SITES, with_fit(), seed=1), 1, "bfloat16", tmp_path)
    other = OnTheFly(tiny_gpt2, corpus, [Site("resid_post", 2)], with_fit(), seed=0)
    with pytest.raises(UsageError, match=r"sites.resid_post.2: None there, 32 asked"):
        write_cache(other, 1, "bfloat16", tmp_path)
    with pytest.raises(UsageError, match=r"dtype of a cache: .*found 'int8'"):
        write_cache(on_the_fly, 1, "int8", tmp_path / "new")


def test_some_of_the_sites_may_be_used_and_no_others(tiny_gpt2, corpus, on_the_fly, tmp_path):
    write_cache(on_the_fly, 1, "bfloat16", tmp_path)
    one = OnTheFly(tiny_gpt2, corpus, SITES[:1], with_fit(), seed=0)
    write_cache(one, 1, "bfloat16", tmp_path)
    (batch,) = _taken(Cached(tmp_path, SITES[:1]), 1)
    assert list(batch) == SITES[:1]
    with pytest.raises(UsageError, match=r"holds more sites .* and lacks shards"):
        write_cache(one, 2, "bfloat16", tmp_path)
    with pytest.raises(UsageError, match=r"asked for resid_post\.2"):
        Cached(tmp_path, [Site("resid_post", 2)])
    with pytest.raises(UsageError, match="holds 1 shards, asked for 4"):
        Cached(tmp_path, shards=4)


def test_no_cache_and_a_damaged_manifest_are_named(on_the_fly, tmp_path):
    with pytest.raises(UsageError, match=r"found no manifest\.json"):
        Cached(tmp_path)
    write_cache(on_the_fly, 1, "bfloat16", tmp_path)
    found = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**found, "seed": 1}))
    with pytest.raises(GossamerError, match=r"manifest\.json: a manifest .* it was changed or damaged"):
        Cached(tmp_path)
    found = _of_version_1(found)
    for damage in ({"format": "other"}, {"dtype": "int4"}, {"shards": [{}]}, {"sites": {"nowhere.3": 4}}, {"more": 1}):
        (tmp_path / FILE).write_text(json.dumps({**found, **damage}))
        with pytest.raises(GossamerError, match=r"manifest\.json: expected a manifest"):
            Cached(tmp_path)


def test_what_is_too_large_for_float16_is_refused(tiny_gpt2, on_the_fly, tmp_path):
    with torch.no_grad():
        tiny_gpt2.hf.transformer.h[1].mlp.c_proj.bias[3] = 1e5
    with pytest.raises(NotFiniteError, match=r"activations at mlp_out\.1 in float16"):
        write_cache(on_the_fly, 1, "float16", tmp_path)
    assert not list(tmp_path.iterdir())
    write_cache(on_the_fly, 1, "bfloat16", tmp_path)


def test_room_is_asked_for_before_the_work(on_the_fly, tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UsageError, match=r"the cache needs .*B, found .*B free; make room") as caught:
        require_space(tmp_path / "new" / "folder", free * 2, "the cache")
    assert "\n" not in str(caught.value)
    require_space(tmp_path / "new" / "folder", 1000, "the cache")
    assert not list(tmp_path.iterdir())


def test_a_cache_of_other_weights_is_refused(tiny_gpt2, on_the_fly, tmp_path):
    write_cache(on_the_fly, 1, "float32", tmp_path)
    with torch.no_grad():
        tiny_gpt2.hf.transformer.h[0].mlp.c_fc.weight[20:] *= 1.5
    with pytest.raises(UsageError, match=r"holds other activations \(weights: \w{12}… there, \w{12}… asked\)"):
        write_cache(on_the_fly, 1, "float32", tmp_path)


def test_a_cache_of_another_dtype_of_the_model_is_refused_in_words(tokenizer, tiny_gpt2, corpus, on_the_fly, tmp_path):
    write_cache(on_the_fly, 1, "float32", tmp_path)
    other = LanguageModel.load(tiny_gpt2.hf.to(torch.float64), tokenizer=tokenizer)
    with pytest.raises(UsageError, match=r"\(model_dtype: float32 there, float64 asked, weights"):
        write_cache(OnTheFly(other, corpus, SITES, with_fit(), seed=0), 1, "float32", tmp_path)


def test_a_cache_of_the_version_before_is_gone_on_with(on_the_fly, tmp_path):
    write_cache(on_the_fly, 1, "float32", tmp_path)
    facts = Cached(tmp_path).facts
    (tmp_path / FILE).write_text(json.dumps(_of_version_1(json.loads((tmp_path / FILE).read_text()))))
    # A checkpoint of that version knows what its cache said.
    assert Cached(tmp_path).facts == {name: value for name, value in facts.items() if name != "model_dtype"}
    found = write_cache(on_the_fly, 2, "float32", tmp_path)
    assert len(found.shards) == 2
    assert Manifest.load(tmp_path) == found


def test_a_cache_of_an_earlier_version_is_read_but_not_taken_for_a_models(on_the_fly, tmp_path):
    write_cache(on_the_fly, 1, "float32", tmp_path)
    manifest = _of_version_1(json.loads((tmp_path / FILE).read_text()))
    del manifest["weights"]
    (tmp_path / FILE).write_text(json.dumps(manifest))
    assert "weights" not in Cached(tmp_path).facts
    with pytest.raises(UsageError, match="earlier version, which did not record the model's weights"):
        write_cache(on_the_fly, 1, "float32", tmp_path)
