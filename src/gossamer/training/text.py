"""Texts from files, and their tokens without special tokens."""

import json
from pathlib import Path

from gossamer.errors import GossamerError, UsageError
from gossamer.model.language_model import LanguageModel


def read_texts(path: str | Path) -> list[str]:
    """Texts of a file: `{"text": …}` a line where it ends in .jsonl, else one text a paragraph.

    Raises:
        UsageError: no such file, or no text in it.
        GossamerError: a line is not such an object, or the file is not UTF-8.
    """
    source = Path(path)
    if not source.is_file():
        raise UsageError(f"{source}: no such file; give a .jsonl file with a text a line, or plain text")
    try:
        # Some editors begin a file with a byte-order mark, which is no text.
        content = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise GossamerError(f"{source}: expected UTF-8 text, found other bytes ({error}); convert the file") from error
    if source.suffix == ".jsonl":
        texts = [_text(line, source, number) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
    else:
        texts = content.split("\n\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UsageError(f"{source}: expected text, found none; give a file with text in it")
    return texts


def _text(line: str, source: Path, number: int) -> str:
    try:
        text = json.loads(line)["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise GossamerError(f'{source}, line {number}: expected {{"text": …}}, found {line[:60]!r}') from error
    if not isinstance(text, str):
        raise GossamerError(f"{source}, line {number}: expected a text, found {text!r}")
    return text


def encode(model: LanguageModel, text: str) -> list[int]:
    """Token ids of `text` without special tokens."""
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def bos_id(model: LanguageModel) -> int | None:
    """The id of the tokenizer's BOS, if it has one."""
    found = getattr(model.tokenizer, "bos_token_id", None)
    return None if found is None else int(found)
