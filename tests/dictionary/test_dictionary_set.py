"""Sets of dictionaries: order, saving, verified loading."""

import json

import pytest
import torch

from gossamer.dictionary import DictionarySet
from gossamer.errors import GossamerError, UsageError
from gossamer.model.site import Site

SITES = ("resid_post.2", "z.0", "mlp_out.1", "resid_post.0")
ORDER = ["z.0", "resid_post.0", "mlp_out.1", "resid_post.2"]


@pytest.fixture
def saved(make, tmp_path):
    dictionaries = [make("batchtopk" if site[0] == "z" else "relu", site=site, seed=i) for i, site in enumerate(SITES)]
    return DictionarySet(dictionaries).save(tmp_path / "set")


def test_order_is_that_of_the_model(make):
    dictionaries = DictionarySet([make(site=site) for site in SITES])
    assert [str(site) for site in dictionaries] == ORDER
    assert dictionaries[Site.parse("z.0")].site == Site("z", 0)
    assert len(dictionaries) == 4
    assert dictionaries.model_name == "toy"
    assert dictionaries.nbytes == sum(dictionary.nbytes for dictionary in dictionaries.values())


@pytest.mark.parametrize(
    ("described", "match"),
    [
        ([], "at least one"),
        ([{"site": None}], "load it with site="),
        ([{"site": "z.0"}, {"site": "z.0"}], r"two dictionaries at z\.0"),
        ([{"site": "z.0"}, {"site": "z.1", "model_name": "other"}], "different models in one set: other, toy"),
    ],
)
def test_impossible_sets(make, described, match):
    with pytest.raises(UsageError, match=match):
        DictionarySet([make(**each) for each in described])


def test_saving_and_loading(make, saved, x):
    loaded = DictionarySet.load(saved, dtype=torch.float64)
    assert [str(site) for site in loaded] == ORDER
    assert sorted(path.name for path in saved.iterdir()) == ["dictionaries.json", *sorted(ORDER)]
    torch.testing.assert_close(loaded[Site("resid_post", 2)](x.double()), make("relu", seed=0).double()(x.double()))
    assert loaded[Site("z", 0)].architecture == "batchtopk"
    assert loaded.to(dtype=torch.float32)[Site("z", 0)].W_enc.dtype == torch.float32
    planned = DictionarySet.load(saved, device="meta")
    assert planned.nbytes == loaded.nbytes


def test_single_dictionaries_are_sets_of_one(make, saved, tmp_path):
    assert list(DictionarySet.load(saved / "z.0")) == [Site("z", 0)]
    scope = make("jumprelu").save(tmp_path / "scope", "gemma_scope")
    several = DictionarySet.load([saved / "z.0", str(saved / "resid_post.2")])
    assert [str(site) for site in several] == ["z.0", "resid_post.2"]
    assert list(DictionarySet.load(scope, site="mlp_out.3")) == [Site("mlp_out", 3)]
    with pytest.raises(UsageError, match="load it with site="):
        DictionarySet.load(scope)
    with pytest.raises(UsageError, match="holds its facts; leave out site"):
        DictionarySet.load(saved, site="z.0")


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_changed_files_are_refused(saved, name):
    path = saved / "z.0" / name
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    with pytest.raises(GossamerError, match=r"z\.0.*expected SHA-256 .*changed after saving") as caught:
        DictionarySet.load(saved)
    assert str(path) in str(caught.value)
    path.unlink()
    with pytest.raises(GossamerError, match="found no such file"):
        DictionarySet.load(saved)


@pytest.mark.parametrize(
    "changes",
    [
        {"folder": "../elsewhere"},
        {"folder": "/etc"},
        {"site": "../z.0"},
        {"site": 3},
        {"sha256": {}},
        {"sha256": {"../../x": "0", "cfg.json": "0"}},
        {"sha256": None},
    ],
)
def test_an_index_cannot_lead_elsewhere(saved, changes):
    index = json.loads((saved / "dictionaries.json").read_text())
    index["dictionaries"][0].update(changes)
    (saved / "dictionaries.json").write_text(json.dumps(index))
    with pytest.raises(GossamerError):
        DictionarySet.load(saved)


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"format": "gossamer.dictionaries.1", "dictionaries": 3}'])
def test_damaged_index(saved, text):
    (saved / "dictionaries.json").write_text(text)
    with pytest.raises(GossamerError, match=r"dictionaries\.json"):
        DictionarySet.load(saved)


@pytest.mark.parametrize("above", [".", ".."])
def test_a_folder_of_sets_says_where_they_lie(make, tmp_path, above):
    for seed in range(6):
        DictionarySet([make(site="z.0", seed=seed)]).save(tmp_path / "run" / "dictionaries" / f"set{seed}")
    with pytest.raises(UsageError, match=r"sets of dictionaries lie in .*set0, .* and 2 more; give one of them"):
        DictionarySet.load(tmp_path / "run" / "dictionaries" / above)


def test_a_site_may_be_named(make):
    dictionaries = DictionarySet([make(site=site) for site in SITES])
    assert (
        dictionaries["resid_post.2"] is dictionaries["blocks.2.hook_resid_post"] is dictionaries[Site("resid_post", 2)]
    )
    assert "z.0" in dictionaries
    assert "z.1" not in dictionaries
    with pytest.raises(KeyError):
        dictionaries["z.1"]


def test_the_folder_of_a_training_run_means_its_finished_set(make, tmp_path):
    DictionarySet([make(site="z.0", seed=0)]).save(tmp_path / "run" / "fitted")
    finished = DictionarySet([make(site="z.0", seed=1)])
    finished.save(tmp_path / "run" / "dictionaries")
    found = DictionarySet.load(tmp_path / "run")["z.0"]
    assert torch.equal(found.W_dec, finished["z.0"].W_dec)
