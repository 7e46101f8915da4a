"""Samples of the model: its own distribution, seeded, cached file by file."""

import json
from dataclasses import replace

import pytest
from training_fixtures import CONFIG, texts

from gossamer.errors import UsageError
from gossamer.training import sampling
from gossamer.training.sampling import sample_text

SAMPLES = replace(CONFIG.corpus, sample_tokens=16 * 8 * 3, sample_batch=8, sample_prefix=4)


def test_samples_are_cached_and_the_same_whatever_was_drawn_before(tiny_gpt2, tmp_path):
    first = sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path / "a", seed=0)
    files = sorted(path.name for path in (tmp_path / "a").glob("samples-*"))
    assert files == [f"samples-{i:05d}.jsonl" for i in range(3)]
    assert len(first) > 16
    (tmp_path / "a" / files[1]).unlink()
    assert sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path / "a", seed=0) == first
    assert sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path / "b", seed=1) != first


def test_complete_samples_are_not_drawn_again(tiny_gpt2, tmp_path, monkeypatch):
    first = sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path, seed=0)
    monkeypatch.setattr(sampling, "_shard", None)
    assert sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path, seed=0) == first


def test_samples_of_other_settings_are_refused(tiny_gpt2, tmp_path):
    sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path, seed=0)
    with pytest.raises(UsageError, match="other settings"):
        sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path, seed=1)


def test_settings_are_a_record_and_those_of_earlier_versions_are_read(tiny_gpt2, tmp_path):
    first = sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path, seed=0)
    path = tmp_path / sampling.SETTINGS
    settings = dict(sampling.FORMAT.load(path).settings)
    assert settings["seed"] == 0
    path.write_text(json.dumps(settings))
    assert sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path, seed=0) == first
    path.write_text(json.dumps({**settings, "context": 3}))
    with pytest.raises(UsageError, match="other settings"):
        sample_text(tiny_gpt2, texts(), SAMPLES, tmp_path, seed=0)


def test_none_are_drawn_when_none_are_asked_for(tiny_gpt2, tmp_path):
    assert sample_text(tiny_gpt2, texts(), CONFIG.corpus, tmp_path / "a", seed=0) == []
    assert not (tmp_path / "a").exists()
