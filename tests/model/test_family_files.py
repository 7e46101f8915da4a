"""Families written into files: as YAML, JSON and TOML, and what is wrong with them."""

import json
from dataclasses import asdict, replace

import pytest
import yaml
from tiny_families import random_hf, random_tokens

from gossamer.errors import UsageError
from gossamer.model import Family, LanguageModel
from gossamer.model.families import FAMILIES, rescales
from gossamer.model.families.llama import GRANITE, LLAMA


def as_toml(fields):
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items() if value is not None)


WRITERS = {"yaml": yaml.safe_dump, "json": json.dumps, "toml": as_toml}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("suffix", list(WRITERS))
def test_every_family_comes_back_from_a_file(tmp_path, family, suffix):
    path = tmp_path / f"family.{suffix}"
    fields = {**asdict(family), "model_types": list(family.model_types)}
    path.write_text(WRITERS[suffix](fields))
    assert Family.read(path) == family


def test_a_file_serves_where_the_type_is_unknown(tmp_path):
    path = tmp_path / "mine.yaml"
    fields = {name: value for name, value in asdict(GRANITE).items() if value is not None and name != "model_types"}
    path.write_text(yaml.safe_dump({**fields, "name": "mine"}))
    model = LanguageModel.load(random_hf("granite"), family=Family.read(path))
    assert model.family == replace(GRANITE, name="mine", model_types=())
    assert model.logits(random_tokens()).isfinite().all()


def test_what_is_wrong_is_said(tmp_path):
    fields = {**asdict(LLAMA), "model_types": ["llama"]}
    path = tmp_path / "family.yaml"
    for changes, match in (
        ({"layer": "x"}, "unknown field 'layer'; expected some of name, model_types, layers"),
        ({"layers": 3}, "field layers: expected a text, found 3"),
        ({"parallel": [1]}, "field parallel: expected bool | str, found"),
        ({"fused": "both"}, "field fused: expected concatenated or interleaved, found 'both'"),
        ({"model_types": "llama"}, "field model_types: expected a list of texts"),
    ):
        path.write_text(yaml.safe_dump({**fields, **changes}))
        with pytest.raises(UsageError, match=match.replace("|", r"\|")) as raised:
            Family.read(path)
        assert "\n" not in str(raised.value)
    path.write_text(yaml.safe_dump({name: fields[name] for name in fields if name not in ("z", "mlp")}))
    with pytest.raises(UsageError, match="found no z, mlp; add them"):
        Family.read(path)
    for text, match in (("- 1", "found list"), ("a: [", "expected plain YAML"), ("\x00", "expected plain YAML")):
        path.write_text(text)
        with pytest.raises(UsageError, match=match):
            Family.read(path)
    (tmp_path / "family.toml").write_text("a = ")
    with pytest.raises(UsageError, match="expected TOML"):
        Family.read(tmp_path / "family.toml")
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such file"):
        Family.read(tmp_path / "nowhere.yaml")


def test_names_of_models_whose_modules_put_out_something_else():
    for name in (
        "google/gemma-2-2b",
        "google/gemma-3-270m",
        "allenai/OLMo-2-1124-7B",
        "ibm-granite/granite-3.1-2b",
    ):
        assert rescales(name), name
    for name in ("google/gemma-7b", "gpt2", "allenai/OLMo-7B", "meta-llama/Llama-3.2-1B", None):
        assert not rescales(name), name
