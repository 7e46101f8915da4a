"""References to the hub: only the needed files are asked for, and nothing strange gets through."""

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from gossamer.dictionary import Dictionary
from gossamer.dictionary.formats import hub
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site


@pytest.fixture
def asked(make, tmp_path, monkeypatch):
    """A hub of one repository whose requests are noted."""
    root = tmp_path / "models--google--gemma-scope-2b-pt-res" / "snapshots" / "0123abc"
    make("jumprelu").save(root / "layer_4" / "width_16k" / "average_l0_60", "gemma_scope")
    requests = []

    def snapshot_download(repo, *, revision, allow_patterns):
        requests.append((repo, revision, allow_patterns))
        return str(root)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    return requests


def test_only_the_files_of_one_dictionary_are_fetched(asked):
    source = "hub:google/gemma-scope-2b-pt-res/layer_4/width_16k/average_l0_60"
    sae = Dictionary.load(source + "@main")
    assert (sae.site, sae.model_name, sae.reported.l0) == (Site("resid_post", 4), "google/gemma-2-2b", 60.0)
    assert sae.provenance["source"] == source
    assert sae.provenance["revision"] == "0123abc"
    ((repository, revision, patterns),) = asked
    assert (repository, revision) == ("google/gemma-scope-2b-pt-res", "main")
    assert "layer_4/width_16k/average_l0_60/params.npz" in patterns
    assert not any(sign in pattern for pattern in patterns for sign in "*[?")
    # Some formats keep the configuration of a run above its dictionaries; no other folder is touched.
    above = {pattern for pattern in patterns if not pattern.startswith("layer_4/width_16k/average_l0_60/")}
    assert above <= {
        f"{folder}/{name}"
        for folder in ("layer_4/width_16k", "layer_4")
        for name in ("config.json", "hyperparams.json", "lm_config.json")
    }


def test_a_reference_to_a_file_fetches_it_and_its_configuration(asked):
    for file, beside in (
        ("gpt2/v5_L5.pt", "gpt2/v5_L5_cfg.json"),
        ("runs/trainer_0/checkpoints/ae_10.pt", "runs/trainer_0/config.json"),
        ("L8R-8x/checkpoints/final.safetensors", "L8R-8x/hyperparams.json"),
        ("layer_7.safetensors", "config.yaml"),
    ):
        with pytest.raises(GossamerError):
            Dictionary.load(f"hub:some/repository/{file}")
        patterns = asked[-1][2]
        assert {file, beside} <= set(patterns)
        assert not any(pattern.startswith("..") or "*" in pattern for pattern in patterns)


@pytest.mark.parametrize(
    "reference",
    [
        "hub:",
        "hub:only",
        "hub:a/b/../c",
        "hub:a/b/*",
        "hub:a/b/[x]",
        "hub:a/b//c",
        "hub:../b/c",
        "hub:a/b@",
        "hub:a/b c",
    ],
)
def test_malformed_references(asked, reference):
    with pytest.raises(UsageError, match="expected hub:owner/repo/path"):
        Dictionary.load(reference)
    assert not asked


def test_nothing_known_at_a_path(asked):
    with pytest.raises(UsageError, match="no dictionary found"):
        Dictionary.load("hub:google/gemma-scope-2b-pt-res/layer_5")


def test_failures_are_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("no network\nand nothing cached")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(GossamerError, match=r"could not be fetched \(no network and nothing cached\)") as caught:
        Dictionary.load("hub:a/b/c")
    assert "\n" not in str(caught.value)


def test_gemma_scope_goes_by_the_names_of_its_repositories(asked):
    sae = Dictionary.load("gemma-scope-2b-pt-res/layer_4/width_16k/average_l0_60@main")
    assert (sae.site, sae.model_name) == (Site("resid_post", 4), "google/gemma-2-2b")
    assert sae.provenance["source"] == "hub:google/gemma-scope-2b-pt-res/layer_4/width_16k/average_l0_60"
    assert [request[:2] for request in asked] == [("google/gemma-scope-2b-pt-res", "main")]
