"""Texts from files, and their tokens without special tokens."""

import json
from pathlib import Path
from typing import Any

from gossamer.errors import GossamerError, UsageError
from gossamer.files import read_json_lines, read_text
from gossamer.model.language_model import LanguageModel

# Of a file of text, in bytes: it is held in memory as a whole.
LIMIT = 1 << 37


def read_texts(path: str | Path) -> list[str]:
    """Texts of a file: `{"text": …}` a line where its first line is that or it ends in .jsonl, else one a paragraph.

    Raises:
        UsageError: no such file, no text in it, or a .json file of another form.
        GossamerError: a line is not such an object, or the file is not UTF-8.
    """
    source = Path(path)
    content = "" if source.suffix == ".jsonl" else read_text(source, limit=LIMIT)
    if source.suffix == ".jsonl" or _begins_with_object(content):
        texts = [_text(row, f"{source}, line {number}") for number, row in read_json_lines(source, LIMIT)]
    elif source.suffix == ".json":
        raise UsageError(f'{source}: expected {{"text": …}} a line (JSON Lines), found other JSON; convert the file')
    else:
        texts = content.split("\n\n")
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UsageError(f"{source}: expected text, found none; give a file with text in it")
    return texts


def _begins_with_object(content: str) -> bool:
    """Whether the first line that is not blank is `{"text": …}`: a file's name may end in anything."""
    first = content.lstrip().split("\n", 1)[0]
    try:
        return first.startswith("{") and "text" in json.loads(first)
    except (ValueError, RecursionError):
        return False


def _text(row: Any, where: str) -> str:
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise GossamerError(f'{where}: expected {{"text": …}} with a text, found {str(row)[:60]!r}')
    return text


def encode(model: LanguageModel, text: str) -> list[int]:
    """Token ids of `text` without special tokens."""
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def bos_id(model: LanguageModel) -> int | None:
    """The id of the tokenizer's BOS, if it has one."""
    found = getattr(model.tokenizer, "bos_token_id", None)
    return None if found is None else int(found)
