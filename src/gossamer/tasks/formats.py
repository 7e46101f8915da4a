"""Prompt files of other circuit tools, as rows of our own form.

auto-circuit writes one JSON object, ``{"prompts": [{"clean", "corrupt", "answers": [...], "incorrect_answers":
[...]}]}``, optionally with "word_idxs" (name to token position) and "seq_labels" (a label a token), which become roles.
Positions count from the first token of the text; files whose first label is BOS count from there.

EAP-IG and MIB write CSV with the columns clean and corrupted, and answers in one of these pairs:

- text: answer / wrong_answer, answers / incorrect_answers, answers / corrupted_answers, country / corrupted_country,
...
- token ids of one tokenizer: correct_idx / incorrect_idx, clean_answer_idx / corrupted_answer_idx, ...
- correct_idx alone (greater-than): the two digits of a year; later ones are right, it and earlier ones are wrong.

A cell or a field may hold a list of answers.
"""

import ast
import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gossamer.errors import UsageError
from gossamer.tasks.prompt_tokenizer import token_text

EncodedRow = dict[str, Any]

TEXT_COLUMNS = (
    ("answer", "wrong"),
    ("answer", "wrong_answer"),
    ("answers", "incorrect_answers"),
    ("answers", "corrupted_answers"),
    ("clean_answer", "corrupted_answer"),
    ("clean_answer", "patch_answer"),
    ("correct", "incorrect"),
    ("country", "corrupted_country"),
)
ID_COLUMNS = (
    ("correct_idx", "incorrect_idx"),
    ("clean_answer_idx", "corrupted_answer_idx"),
    ("country_idx", "corrupted_country_idx"),
    ("answers_idx", "corrupted_answers_idx"),
)
YEARS = tuple(f"{year:02d}" for year in range(100))
_COUNTERFACTUALS = ("corrupted", "corrupt", "counterfactual", "patch")
_BOS_LABELS = ("BOS", "<|BOS|>", "<bos>", "<s>", "<|endoftext|>", "<|begin_of_text|>")


def auto_circuit_rows(body: Mapping[str, Any], where: str, tokenizer: Any) -> list[EncodedRow]:
    """The rows of an auto-circuit file.

    Raises:
        UsageError: prompts that are token ids (files of toy models), missing fields, or labels of no prompt's length.
    """
    prompts = body["prompts"]
    if not isinstance(prompts, list):
        raise UsageError(f'{where}: a list of prompts expected in "prompts", found {type(prompts).__name__}')
    rows = [_auto_circuit_row(f"{where}: row {number}", row, tokenizer) for number, row in enumerate(prompts)]
    positions, length = _positions(body, where)
    return rows if not positions or tokenizer is None else _labelled(rows, positions, length, where, tokenizer)


def _auto_circuit_row(where: str, row: Any, tokenizer: Any) -> EncodedRow:
    fields = ("clean", "corrupt", "answers", "incorrect_answers")
    if not isinstance(row, dict) or (missing := [field for field in fields if field not in row]):
        found = ", ".join(missing) if isinstance(row, dict) else "an object"
        raise UsageError(f"{where}: {found} expected, found none; a row needs {', '.join(fields)}")
    for side in ("clean", "corrupt"):
        if not isinstance(row[side], str):
            raise UsageError(
                f"{where}: text expected for {side}, found {_short(row[side])}; token ids are of one toy model only"
            )
    answers, incorrect = (_answers(where, field, row[field], tokenizer) for field in ("answers", "incorrect_answers"))
    rest = {key: value for key, value in row.items() if key not in fields}
    return {
        **rest,
        "clean": row["clean"],
        "counterfactual": row["corrupt"],
        "answers": answers,
        "incorrect_answers": incorrect,
    }


def _answers(where: str, field: str, found: Any, tokenizer: Any) -> list[str]:
    """Answers as texts: a text, a token id, or a list of those."""
    values = found if isinstance(found, list) else [found]
    if not values or not all(isinstance(value, (str, int)) and not isinstance(value, bool) for value in values):
        raise UsageError(f"{where}: texts or token ids expected for {field}, found {_short(found)}")
    return [value if isinstance(value, str) else _word(where, value, tokenizer) for value in values]


def _word(where: str, token: int, tokenizer: Any) -> str:
    if tokenizer is None:
        raise UsageError(f"{where}: answers are token ids; give the tokenizer that they are of")
    if not 0 <= token < len(tokenizer):
        raise UsageError(
            f"{where}: a token id below {len(tokenizer)} expected, found {token}: the file is for another tokenizer; "
            "use a file with the answers as text"
        )
    return token_text(tokenizer, token)


def _positions(body: Mapping[str, Any], where: str) -> tuple[dict[str, int], int | None]:
    """Position of each name, counted from the first token of the text, and how many tokens a text has if known."""
    labels, words = body.get("seq_labels") or [], body.get("word_idxs") or {}
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise UsageError(f"{where}: a list of texts expected for seq_labels, found {_short(labels)}")
    if not isinstance(words, dict) or not all(isinstance(place, int) for place in words.values()):
        raise UsageError(f"{where}: an object of token positions expected for word_idxs, found {_short(words)}")
    shift = 1 if labels and labels[0] in _BOS_LABELS else 0
    if not words:
        seen: dict[str, int] = {}
        for place, label in enumerate(labels):
            name = label.strip() or f"p{place}"
            words[name if name not in seen else f"{name}{place}"] = place
            seen[name] = place
    places = {name: place - shift for name, place in words.items() if place >= shift}
    # The last token is END by itself, and a position has one name: the first.
    taken: dict[int, str] = {}
    for name, place in places.items():
        if name.lower() != "end":
            taken.setdefault(place, name)
    return {name: place for place, name in taken.items()}, len(labels) - shift if labels else None


def _labelled(
    rows: list[EncodedRow], positions: Mapping[str, int], length: int | None, where: str, tokenizer: Any
) -> list[EncodedRow]:
    """The rows with the named positions as roles, in both texts.

    Positions hold for texts that the tokenizer spells in as many tokens as the file's labels, or else as most; the
    others are left without roles.
    """
    spans = [_spans(row[side], tokenizer) for row in rows for side in ("clean", "counterfactual")]
    lengths = [len(found) for found in spans]
    usual = max(sorted(set(lengths)), key=lengths.count)
    length = usual if length is None else length
    if length not in lengths or length <= max(positions.values()):
        named = max(length, max(positions.values()) + 1)
        raise UsageError(
            f"{where}: names of positions in texts of {named} tokens, found texts of {usual}: they are for another "
            "tokenizer; choose other roles: --roles diff, answers or position (roles= in Python)"
        )
    labelled = []
    for row, clean, other in zip(rows, spans[0::2], spans[1::2], strict=True):
        if len(clean) == len(other) == length:
            roles = ({name: [list(found[place])] for name, place in positions.items()} for found in (clean, other))
            row = row | dict(zip(("roles", "counterfactual_roles"), roles, strict=True))
        labelled.append(row)
    return labelled


def _spans(text: str, tokenizer: Any) -> list[tuple[int, int]]:
    return list(tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])


def csv_rows(text: str, where: str, tokenizer: Any) -> list[EncodedRow]:
    """The rows of a CSV file of EAP-IG or MIB.

    Raises:
        UsageError: columns that are missing, cells that hold no answer, or token ids of another tokenizer.
    """
    lines = [line for line in csv.reader(io.StringIO(text)) if line]
    if not lines:
        return []
    columns = [column.strip() for column in lines[0]]
    other = next((column for column in _COUNTERFACTUALS if column in columns), None)
    if "clean" not in columns or other is None:
        raise UsageError(f"{where}: columns clean and corrupted expected, found {', '.join(columns)}")
    read = _answer_reader(columns, where, tokenizer)
    rows = []
    for number, cells in enumerate(lines[1:]):
        if len(cells) != len(columns):
            raise UsageError(f"{where}: row {number}: {len(columns)} cells expected, found {len(cells)}; mend the row")
        row = dict(zip(columns, cells, strict=True))
        answers, incorrect = read(f"{where}: row {number}", row)
        kept = {key: row[key] for key in ("case", "template") if row.get(key)}
        rows.append(
            {
                **kept,
                "clean": row["clean"],
                "counterfactual": row[other],
                "answers": answers,
                "incorrect_answers": incorrect,
            }
        )
    return rows


def _answer_reader(
    columns: Sequence[str], where: str, tokenizer: Any
) -> Callable[[str, Mapping[str, str]], tuple[list[str], list[str]]]:
    """How the right and the wrong answers of a line are read, by the columns that the file has."""
    text = next((pair for pair in TEXT_COLUMNS if set(pair) <= set(columns)), None)
    if text is not None:
        return lambda where, row: (_texts(row, text[0]), _texts(row, text[1]))
    ids = next((pair for pair in ID_COLUMNS if set(pair) <= set(columns)), None)
    if ids is not None:
        return lambda where, row: (_words(where, row, ids[0], tokenizer), _words(where, row, ids[1], tokenizer))
    if "correct_idx" in columns:
        return _years
    raise UsageError(
        f"{where}: columns of answers expected ({', '.join('/'.join(pair) for pair in (*TEXT_COLUMNS, *ID_COLUMNS))}, "
        f"or correct_idx alone for years), found {', '.join(columns)}"
    )


def _texts(row: Mapping[str, str], column: str) -> list[str]:
    """Answers as text; one that begins with a letter gets the space that most tokenizers keep with a word."""
    space = "" if row["clean"][-1:].isspace() else " "
    found = [str(value) for value in _listed(row[column])]
    return [space + text if re.match(r"\w", text) and not text[0].isdigit() else text for text in found]


def _words(where: str, row: Mapping[str, str], column: str, tokenizer: Any) -> list[str]:
    values = _listed(row[column])
    try:
        tokens = [int(value) for value in values]
    except ValueError:
        raise UsageError(f"{where}: token ids expected in {column}, found {_short(row[column])}") from None
    return _answers(where, column, tokens, tokenizer)


def _years(where: str, row: Mapping[str, str]) -> tuple[list[str], list[str]]:
    year = row["correct_idx"].strip()
    if not year.isdecimal() or not 0 <= int(year) < len(YEARS) - 1:
        raise UsageError(
            f"{where}: correct_idx alone is read as the last two digits of a year, 0 to {len(YEARS) - 2} expected, "
            f"found {_short(year)}; for token ids give incorrect_idx too"
        )
    return list(YEARS[int(year) + 1 :]), list(YEARS[: int(year) + 1])


def _listed(cell: str) -> list[Any]:
    """The values of a cell: those of a list written as JSON or as Python writes it, else the cell itself."""
    if not cell.lstrip().startswith("["):
        return [cell]
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return [cell]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
