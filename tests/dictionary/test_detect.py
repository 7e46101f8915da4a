"""Which format lies somewhere, and what is said when that is not clear."""

import contextlib
import shutil
from pathlib import Path

import pytest
import torch
from originals import GOLDEN

from gossamer.dictionary import Dictionary, DictionaryConfig
from gossamer.dictionary.formats.detect import FORMATS
from gossamer.errors import UsageError
from gossamer.model.site import Site


def test_names_shared_by_two_formats_are_told_apart_by_the_configuration(make, tmp_path):
    folder = make("jumprelu").save(tmp_path / "a")
    assert Dictionary.load(folder).provenance["format"] == "saelens"
    (folder / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"several formats found \(saelens, llama_scope\); give format= \(--fact"):
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


def test_a_save_stopped_at_any_moment_never_mixes_two_dictionaries(tmp_path, monkeypatch):
    """Weights and configuration are two files: new weights under the old configuration would be a third dictionary."""
    old, new = (seeded(layer, kind) for layer, kind in enumerate(("relu", "jumprelu")))
    original, seen, calls = Path.replace, set(), []

    def stopping(self, target):
        calls.append(self)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return original(self, target)

    for stop in range(1, 10):
        folder = old.save(tmp_path / f"stopped at {stop}")
        calls.clear()
        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(Path, "replace", stopping)
            new.save(folder)
        assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
        try:
            found = Dictionary.load(folder)
        except UsageError:
            seen.add("refused")
            continue
        (whole,) = [one for one in (old, new) if one.site == found.site]
        assert all(torch.equal(one, found.state_dict()[name]) for name, one in whole.state_dict().items())
        seen.add(found.architecture)
    assert seen == {"relu", "refused", "jumprelu"}


def seeded(layer, architecture):
    torch.manual_seed(layer)
    dictionary = Dictionary(DictionaryConfig(architecture, 4, 8, site=Site("resid_post", layer)))
    for parameter in dictionary.parameters():
        parameter.data = torch.rand_like(parameter)
    return dictionary.requires_grad_(False)
