"""What the tests of commands share."""

import sys
from typing import NamedTuple

import pytest
from word_model import tiny_gpt2_model

from gossamer import cli


class Ran(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


@pytest.fixture
def gossamer(monkeypatch, capsys):
    """Run a command in this process, as the entry point does."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["gossamer", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.run()
        return Ran(ended.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def tiny(tokenizer, tmp_path):
    """The folder of a saved model of random weights."""
    tiny_gpt2_model(tokenizer).save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"
