"""Truncated and altered files of every format that is read: one line that names the file, and no dictionary."""

import json
import random
import shutil

import pytest
import test_circuit_tracer
import test_hook_z
import test_llama_scope
import test_openai
import torch
from originals import GOLDEN

from gossamer.dictionary import Dictionary
from gossamer.errors import GossamerError


def golden_files(folder, weights):
    return lambda parent: shutil.copytree(GOLDEN / folder, parent / "a") / weights


def made(build, weights):
    def files(parent):
        build(parent)
        return parent / weights

    return files


# A weights file of each format, in a folder of its own.
TORCH = {
    "dictionary_learning": golden_files("dictionary_learning/BatchTopKSAE", "ae.pt"),
    "crashed run": golden_files("dictionary_learning_crashed/GatedAutoEncoder", "ae.pt"),
    "openai": made(lambda parent: test_openai.file_of(parent / "1.pt"), "1.pt"),
    "hook_z": made(lambda parent: test_hook_z.files_of(parent, "L5"), "L5.pt"),
}
SAFETENSORS = {
    "sparsify": golden_files("sparsify/layers.1", "sae.safetensors"),
    "circuit_tracer": made(test_circuit_tracer.set_of, "layer_3.safetensors"),
    "R1": made(
        lambda parent: test_llama_scope.new_folder(parent / "a", layout=test_llama_scope.LINEAR),
        "a/sae_weights.safetensors",
    ),
    "llamascopium": made(lambda parent: test_llama_scope.new_folder(parent / "a"), "a/sae_weights.safetensors"),
    "llama scope": made(
        lambda parent: test_llama_scope.old_folder(parent / "a", jump_relu_threshold=0.5),
        "a/checkpoints/final.safetensors",
    ),
}
CONFIGURED = {
    "dictionary_learning": "config.json",
    "hook_z": "L5_cfg.json",
    "sparsify": "cfg.json",
    "R1": "config.json",
}
EVERY = pytest.mark.parametrize("name", [*TORCH, *SAFETENSORS])


def refused(path, names=None, **facts):
    with pytest.raises(GossamerError) as caught:
        Dictionary.load(path, **facts)
    assert str(names or path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def outcome(path):
    """The state of the dictionary, or the one line that refuses it."""
    try:
        return Dictionary.load(path).state_dict()
    except GossamerError as error:
        return str(error)


def facts_for(name):
    return {"activations": test_llama_scope.text()} if name == "llama scope" else {}


@EVERY
@pytest.mark.parametrize("kept", [0, 5, 300, 0.5, 0.9, -1])
def test_truncated(tmp_path, name, kept):
    path = {**TORCH, **SAFETENSORS}[name](tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert "damaged" in refused(path, **facts_for(name))


@EVERY
def test_empty_and_foreign_content(tmp_path, name):
    path = {**TORCH, **SAFETENSORS}[name](tmp_path)
    for content in (b"\x00" * 5000, b'{"a": 1}', bytes(random.Random(0).randrange(256) for _ in range(5000))):
        path.write_bytes(content)
        assert "damaged" in refused(path, **facts_for(name))


@pytest.mark.parametrize("name", TORCH)
def test_a_flipped_bit_in_a_torch_file_is_noticed_or_changes_nothing(tmp_path, name):
    path = TORCH[name](tmp_path)
    content, whole = path.read_bytes(), Dictionary.load(path).state_dict()
    noticed = 0
    for place in random.Random(1).sample(range(len(content)), 150):
        changed = bytearray(content)
        changed[place] ^= 1 << (place % 8)
        path.write_bytes(changed)
        found = outcome(path)
        if isinstance(found, str):
            assert str(path) in found
            assert "\n" not in found
            noticed += 1
        else:
            assert all(torch.equal(found[key], value) for key, value in whole.items())
    assert noticed > 75


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_damaged_header_of_safetensors_is_noticed(tmp_path, name):
    path = SAFETENSORS[name](tmp_path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    for place in (0, 3, 7, 8, 8 + length - 1):
        changed = bytearray(content)
        changed[place] ^= 0x11
        path.write_bytes(changed)
        refused(path, **facts_for(name))
    # A name that is one letter off is another tensor.
    path.write_bytes(
        content.replace(b"dec", b"dek", 1) if b"dec" in content[:length] else content.replace(b"W_D", b"W_K", 1)
    )
    assert "expected tensors" in refused(path, **facts_for(name))


@pytest.mark.parametrize("name", CONFIGURED)
@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"x"', "\x00\xff"])
def test_damaged_configuration(tmp_path, name, text):
    path = {**TORCH, **SAFETENSORS}[name](tmp_path)
    config = path.parent / CONFIGURED[name]
    config.write_text(text, encoding="latin-1")
    assert "expected" in refused(path, names=config)


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_configuration_of_other_types(tmp_path, name):
    path = {**TORCH, **SAFETENSORS}[name](tmp_path)
    config = path.parent / CONFIGURED[name]
    cfg = json.loads(config.read_text())
    for key in cfg:
        # Numbers that no float holds, too, and mappings without what belongs into them.
        for value in ([None], {}, 10**400, -1, 1e400):
            config.write_text(json.dumps({**cfg, key: value}))
            assert "\n" not in outcome(path)
