"""--family: a description of an architecture from a file."""

import json
from dataclasses import asdict

import pytest

from gossamer import bundled
from gossamer.model.families.gpt2 import GPT2

SPOOL = bundled.path("spool") / "dictionaries"

COMMANDS = (
    ("tasks", "ioi", "--model", "MODEL"),
    ("evaluate", "MODEL", "--dictionaries", "SPOOL", "--text", "TEXT"),
    ("circuit", "MODEL", "--task", "ioi", "--dictionaries", "SPOOL"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_the_family_is_that_of_the_file(gossamer, tiny, tmp_path, command):
    """With wrong facts the family is refused by its name; with the right ones something else is in the way."""
    family, text = tmp_path / "family.json", tmp_path / "text.jsonl"
    text.write_text(json.dumps({"text": "Mary went"}))
    given = [str({"MODEL": tiny, "TEXT": text, "SPOOL": SPOOL}.get(word, word)) for word in command]
    facts = {**asdict(GPT2), "name": "mine"}
    family.write_text(json.dumps({**facts, "layers": "transformer.layers"}))
    found = gossamer(*given, "--family", family)
    assert found.code == 1
    assert "family mine: expected a module transformer.layers" in " ".join(found.err.split())
    family.write_text(json.dumps(facts))
    assert "family mine" not in gossamer(*given, "--family", family).err
