"""Texts from files, and their tokens without special tokens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gossamer.activations import remote
from gossamer.errors import GossamerError, UsageError
from gossamer.files import begins_with, needed, parse_json, parse_json_lines, read_text
from gossamer.model.language_model import LanguageModel

# Of a file of text, in bytes: it is held in memory as a whole.
LIMIT = 1 << 37
# Between the texts of files that were made for training.
_SEPARATOR = "<|endoftext|>"


def read_texts(source: str | Path, key: str = "text") -> list[str]:
    """Texts of a file, of all files of a folder (in the order of their names), or of a data set on the hub.

    What is in a file counts, not its name. JSON: an object a line, or a list, with a text at `key` (or texts alone).
    Parquet: a column `key`, for which pyarrow has to be installed. Anything else is text as it is: separated by
    <|endoftext|>, or else one a paragraph, or else, where no line is blank, one a line. Files may be compressed by gzip
    or zstd. Memory: the whole file and its texts.

    Args:
        source: a path; `hub:owner/data-set/path/of/file` for a file of a data set; or `datasets:NAME:SPLIT#ROWS` for
            its first rows, streamed (see :mod:`gossamer.activations.remote`).
        key: where an object or a table has its text.

    Raises:
        UsageError: nothing there, no text in it, JSON of another form, or no such key.
        GossamerError: a row is not such an object, a file is not UTF-8 or damaged, or the hub cannot be reached.
    """
    if str(source).startswith(remote.STREAM):
        found = (_text(row, key, where) for where, row in remote.streamed_rows(str(source)))
    else:
        path = remote.fetched_file(str(source)) if remote.is_remote(source) else Path(source)
        files = sorted(file for file in path.rglob("[!.]*") if file.is_file()) if path.is_dir() else [path]
        found = (text for file in files for text in _texts(file, key))
    texts = [text for text in found if text.strip()]
    if not texts:
        raise UsageError(f"{source}: expected text, found none; give a file with text in it")
    return texts


def _texts(source: Path, key: str) -> Iterator[str]:
    """The texts of one file, blank ones too."""
    if source.is_file() and begins_with(source, b"PAR1"):
        yield from _column(source, key)
        return
    content = read_text(source, limit=LIMIT)
    if (rows := _rows(content, source, key)) is not None:
        for where, row in rows:
            yield row if isinstance(row, str) else _text(row, key, where)
    elif _SEPARATOR in content:
        yield from content.split(_SEPARATOR)
    else:
        paragraphs = re.split(r"\n[^\S\n]*\n", content.strip("\n"))
        yield from paragraphs if len(paragraphs) > 1 else content.split("\n")


def _rows(content: str, source: Path, key: str) -> list[tuple[str, Any]] | None:
    """The values of a text in JSON, with where each stands; None if it is other text."""
    first = content.lstrip().split("\n", 1)[0]
    if source.suffix == ".jsonl" or (first.startswith("{") and isinstance(_quietly(first), dict)):
        return [(f"{source}, line {number}", row) for number, row in parse_json_lines(content, str(source))]
    claims = source.suffix == ".json"
    value = parse_json(content, str(source)) if claims else _quietly(content) if first.startswith("[") else None
    if isinstance(value, list):
        return [(f"{source}, entry {number}", row) for number, row in enumerate(value, 1)]
    if claims:
        raise UsageError(
            f'{source}: expected {{"{key}": …}} a line (JSON Lines) or a list of them, found other JSON; convert it'
        )
    return None


def _quietly(text: str) -> Any:
    """The value of a text, if it is JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _text(row: Any, key: str, where: str) -> str:
    text = row.get(key) if isinstance(row, dict) else None
    if isinstance(text, str):
        return text
    if isinstance(row, dict) and key not in row:
        names = ", ".join(map(repr, list(row)[:8])) or "nothing"
        raise UsageError(f"{where}: expected a text at {key!r}, found {names}; say where: --text-key (key=)")
    raise GossamerError(f'{where}: expected {{"{key}": …}} with a text, found {str(row)[:60]!r}')


def _column(source: Path, key: str) -> Iterator[str]:
    """A column of a Parquet file."""
    parquet, arrow = (needed(name, f"{source}: reading Parquet") for name in ("pyarrow.parquet", "pyarrow"))
    try:
        with parquet.ParquetFile(source) as file:
            if key not in file.schema_arrow.names:
                names = ", ".join(map(repr, file.schema_arrow.names[:8]))
                raise UsageError(f"{source}: expected a column {key!r}, found {names}; say which: --text-key (key=)")
            values = file.read([key]).column(key).to_pylist()
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise GossamerError(f"{source}: damaged or no Parquet ({reason}); fetch it again") from error
    for number, value in enumerate(values, 1):
        if not isinstance(value, str):
            raise GossamerError(f"{source}, row {number}: expected a text at {key!r}, found {str(value)[:60]!r}")
        yield value


def encode(model: LanguageModel, text: str) -> list[int]:
    """Token ids of `text` without special tokens."""
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def bos_id(model: LanguageModel) -> int | None:
    """The id of the tokenizer's BOS, if it has one."""
    found = getattr(model.tokenizer, "bos_token_id", None)
    return None if found is None else int(found)
