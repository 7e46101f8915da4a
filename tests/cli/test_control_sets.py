"""What `--control` and `--control-dictionaries` name, and what they refuse before any search."""

from types import SimpleNamespace

import pytest
import torch

from gossamer.cli import inputs
from gossamer.dictionary import Dictionary, DictionaryConfig, DictionarySet
from gossamer.errors import UsageError

MODEL = SimpleNamespace(device=torch.device("cpu"))


def _set(n_latents=6, control=None):
    dictionary = Dictionary(DictionaryConfig("relu", 4, n_latents, site="resid_post.0", model_name="m"))
    with torch.no_grad():
        for parameter in dictionary.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    if control is not None:
        dictionary.provenance["training"] = {"config": {"trainer": {"control": control}}}
    return DictionarySet([dictionary.requires_grad_(False)])


def test_controls_are_named_by_what_was_done_to_them_or_by_their_folder(tmp_path):
    for name, control in (("one", "soft-frozen"), ("two", "soft-frozen"), ("plain", None)):
        _set(control=control).save(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("one", "two", "plain")]
    found = inputs.control_sets(MODEL, _set(), ["shuffled-latents"], folders, seed=0)
    assert list(found) == ["shuffled-latents", "soft-frozen", "soft-frozen (two)", "plain"]
    with pytest.raises(UsageError, match="found soft-frozen \\(one\\) twice"):
        inputs.control_sets(MODEL, _set(), None, [folders[0]] * 3, seed=0)
    assert inputs.control_sets(MODEL, _set(), None, None, seed=0) == {}


def test_a_control_of_another_width_is_refused_before_the_search(tmp_path):
    _set(n_latents=7).save(tmp_path / "wide")
    with pytest.raises(UsageError, match=r"control wide: .*resid_post.0 of 6 latents"):
        inputs.control_sets(MODEL, _set(), None, [str(tmp_path / "wide")], seed=0)
