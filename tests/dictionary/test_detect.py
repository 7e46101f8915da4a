"""Which format lies somewhere, and what is said when that is not clear."""

import shutil

import pytest
import torch
from originals import GOLDEN

from gossamer.dictionary import Dictionary
from gossamer.dictionary.formats.detect import FORMATS
from gossamer.errors import UsageError


def test_names_shared_by_two_formats_are_told_apart_by_the_configuration(make, tmp_path):
    folder = make("jumprelu").save(tmp_path / "a")
    assert Dictionary.load(folder).provenance["format"] == "saelens"
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"several formats found \(saelens, llama_scope\); say which with format="):
        Dictionary.load(folder)
    (folder / "cfg.json").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(UsageError, match=r"is missing, no such file: cfg\.json \(saelens\), .*config\.json"):
        Dictionary.load(folder)


def test_a_named_file_decides_between_formats(make, tmp_path):
    make("jumprelu").save(tmp_path)
    make("jumprelu").save(tmp_path, "gemma_scope")
    assert Dictionary.load(tmp_path / "params.npz").provenance["format"] == "gemma_scope"
    assert Dictionary.load(tmp_path / "sae_weights.safetensors").provenance["format"] == "saelens"
    with pytest.raises(UsageError, match="several formats found"):
        Dictionary.load(tmp_path / "cfg.json")


def test_a_format_that_is_asked_for_reads_any_name(tmp_path):
    folder = shutil.copytree(GOLDEN / "dictionary_learning" / "AutoEncoder", tmp_path / "a")
    (folder / "ae.pt").rename(folder / "renamed.pt")
    (folder / "ae.pt").write_bytes(b"")
    sae = Dictionary.load(folder / "renamed.pt", format="dictionary_learning")
    assert sae.provenance["format"] == "dictionary_learning"


@pytest.mark.parametrize("fact", [{"norm_scaling_factor": 2.0}, {"activations": torch.zeros(20, 8)}])
def test_facts_of_no_use_are_refused(fact):
    with pytest.raises(UsageError, match=f"sparsify needs no {next(iter(fact))}; leave it out"):
        Dictionary.load(GOLDEN / "sparsify" / "layers.1", **fact)


@pytest.mark.parametrize("format", [name for name, known in FORMATS.items() if known.write is None])
def test_formats_that_are_only_read(make, tmp_path, format):
    with pytest.raises(UsageError, match=f"{format} can be read, not written; save as one of saelens, gemma_scope"):
        make("relu").save(tmp_path / "a", format)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("format", ["openai", "hook_z", "circuit_tracer"])
def test_an_empty_folder(tmp_path, format):
    with pytest.raises(UsageError, match=r"no .* found; give the folder that holds it"):
        Dictionary.load(tmp_path, format=format)
