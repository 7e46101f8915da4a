"""Names of pretrained dictionaries: every one in SAELens' own registry is a reference that the hub's reader takes."""

import sys

import pytest
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory, get_repo_id_and_folder_name

from gossamer.cli import early
from gossamer.dictionary.formats import hub, releases
from gossamer.errors import UsageError


def test_every_name_of_the_registry_is_where_saelens_finds_it():
    seen = 0
    for release, known in get_pretrained_saes_directory().items():
        for identifier in known.saes_map:
            repository, path = get_repo_id_and_folder_name(release, identifier)
            reference = releases.hub_reference(f"saelens:{release}/{identifier}@v1")
            match = hub._REFERENCE.fullmatch(reference)
            assert match is not None, reference
            assert (match["repo"], match["path"].strip("/"), match["revision"]) == (repository, path.strip("/."), "v1")
            seen += 1
    assert seen > 10_000


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("saelens:gpt2-small-resjb/x", "like it are gpt2-small-res-jb"),
        ("saelens:gpt2-small-res-jb/blocks.8.hook_resid_prE", "like it are blocks.8.hook_resid_pre"),
        ("saelens:gpt2-small-res-jb/?", "its names are like blocks.0.hook_resid_pre"),
        ("saelens:gpt2-small-res-jb", "saelens:RELEASE/ID expected"),
        ("saelens:", "saelens:RELEASE/ID expected"),
    ],
)
def test_an_unknown_name_is_told_its_likes(name, said):
    with pytest.raises(UsageError, match=said.replace("?", r"\?")):
        releases.hub_reference(name)


def test_without_saelens_what_to_do_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sae_lens.loading.pretrained_saes_directory", None)
    with pytest.raises(UsageError, match="not installed"):
        releases.hub_reference("saelens:gpt2-small-res-jb/blocks.8.hook_resid_pre")
    name = "gemma-scope-2-270m-pt/resid_post/layer_12_width_16k_l0_small"
    assert releases.hub_reference(name) == f"hub:google/{name}"


def test_a_folder_of_that_name_is_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "gemma-scope-2b-pt-res/layer_4"
    assert releases.is_release(name)
    (tmp_path / name).mkdir(parents=True)
    assert not releases.is_release(name)


@pytest.mark.parametrize("name", ["hub:a/b", "saelens:gpt2-small-res-jb/x", "gemma-scope-2b-pt-res/layer_4"])
def test_what_the_command_line_lets_pass_is_what_the_library_knows(name):
    early.require_dictionaries([name])
    assert hub.is_reference(name)
