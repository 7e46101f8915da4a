import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from planted_relations import given, planted
from safetensors import safe_open
from safetensors.torch import save_file

from gossamer.errors import GossamerError, UsageError
from gossamer.relations import SitePair, load_relation, relate, save_relation

PAIR = SitePair("up", "down")


@pytest.mark.parametrize("null", [False, True])
def test_a_relation_comes_back_as_it_was(null, tmp_path):
    up, down = planted(rows=40)
    relation = relate(given({"up": up, "down": down}), [PAIR], null=null)[PAIR]
    decoders = np.random.default_rng(0).standard_normal((2, 24, 5))
    relation = relation.with_decoders(decoders[0], decoders[1][:23])
    path = save_relation(relation, tmp_path / "one.safetensors")
    found = load_relation(path)
    assert str(found) == str(relation)
    np.testing.assert_equal(asdict(found), asdict(relation))
    if null:
        assert found.null_threshold("jaccard") == relation.null_threshold("jaccard")


def test_other_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "one.safetensors"
    with pytest.raises(UsageError, match="no such file"):
        load_relation(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(UsageError, match=r"format 'gossamer\.relation\.2'\), found something else"):
        load_relation(path)
    save_file({"a": torch.zeros(2)}, path, {"format": "gossamer.relation.3", "relation": "{}"})
    with pytest.raises(UsageError, match="version 3: upgrade gossamer"):
        load_relation(path)
    save_file({"a": torch.zeros(2)}, path, {"format": "gossamer.relation.1", "relation": "{}"})
    with pytest.raises(GossamerError, match="found damage"):
        load_relation(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(GossamerError, match="found damage"):
        load_relation(path)


def test_a_changed_number_is_noticed_and_files_of_version_1_load(tmp_path):
    up, down = planted(rows=40)
    relation = relate(given({"up": up, "down": down}), [PAIR])[PAIR]
    path = save_relation(relation, tmp_path / "one.safetensors")
    with safe_open(path, framework="pt") as file:
        said = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # What version 1 wrote.
    keep = {"by": ["jaccard", "sufficiency", "necessity"], "top": 8, "threshold": None, "least": 10}
    facts = {"pair": ["up", "down"], "keep": keep, "tokens": [relation.tokens, relation.null.tokens]}
    save_file(tensors, tmp_path / "old.safetensors", {"format": "gossamer.relation.1", "relation": json.dumps(facts)})
    found = load_relation(tmp_path / "old.safetensors")
    np.testing.assert_equal(asdict(found), asdict(relation))
    tensors["real/kept/c"][3] += 1
    save_file(tensors, path, said)
    with pytest.raises(GossamerError, match=r"one\.safetensors: a relation whose checksum matches its tensors"):
        load_relation(path)
