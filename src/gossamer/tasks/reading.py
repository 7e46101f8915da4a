"""Prompts from files: a user's own rows, or the rows that circuit repositories publish.

A file is a JSON array or JSON lines, whatever its name ends in (several published ``.json`` files are JSON lines), or
one of the forms of :mod:`gossamer.tasks.formats`: auto-circuit's JSON object, or CSV. A row is

    {"clean": text, "counterfactual": text, "answer": " Mary", "wrong": " John",
     "template"?: text, "case"?: text, "roles"?: {...}, "counterfactual_roles"?: {...}}

with lists "answers" and "incorrect_answers" in place of "answer" and "wrong" where there are several, or, as published,
{"clean_prefix", "patch_prefix", "clean_answer", "patch_answer", "case"?}. In "roles" each name has a word of the text
(every mention of it), a span [start, end] in characters, or a list of spans.
"""

import contextlib
import csv
import json
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer.display import short_repr
from gossamer.errors import GossamerError, UsageError
from gossamer.files import parse_json, parse_json_lines, read_text
from gossamer.tasks.build import TaskWarning
from gossamer.tasks.formats import auto_circuit_rows, csv_rows
from gossamer.tasks.labels import by_answers, by_difference, by_pattern, by_row, compiled
from gossamer.tasks.metric import LOGIT_DIFFERENCE, LOGIT_MARGIN, PROBABILITY_DIFFERENCE, Metric
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

ROLE_SOURCES = ("given", "position", "answers", "diff", "pattern")
EncodedRow = Mapping[str, Any]
Labels = Callable[[EncodedRow], tuple[tuple[Piece, ...], tuple[Piece, ...]]]

PUBLISHED = {
    "clean": "clean_prefix",
    "counterfactual": "patch_prefix",
    "answer": "clean_answer",
    "wrong": "patch_answer",
}


@dataclass(frozen=True)
class ReadPrompts:
    """What a file holds: prompts, where their roles came from, and what to record of it."""

    prompts: tuple[Prompt, ...]
    roles: str
    provenance: Mapping[str, Any]

    __repr__ = short_repr

    @property
    def metric(self) -> Metric:
        """What prompts of this kind are measured by unless asked otherwise.

        The probability difference where some have several right answers (greater-than), the margin where only the wrong
        ones are several (docstring), else the logit difference.
        """
        if any(prompt.also_correct for prompt in self.prompts):
            return PROBABILITY_DIFFERENCE
        return LOGIT_MARGIN if any(prompt.also_incorrect for prompt in self.prompts) else LOGIT_DIFFERENCE


def read_prompts(
    path: str | Path,
    tokenizer: Any,
    *,
    roles: str | None = None,
    names: Sequence[str] | None = None,
    pattern: str | None = None,
    template: Callable[[EncodedRow], str] | None = None,
    template_pattern: str | None = None,
) -> ReadPrompts:
    """Read prompts and label their words with roles.

    Args:
        path: the file.
        tokenizer: used to carry roles over to a counterfactual that has none of its own, token by token, and to read
            answers and positions that are given in tokens.
        roles: where they come from.
            "given": the rows' "roles". "position": none, each position will be its own.
            "answers": mentions of the answer and of the wrong answer in the text are named `names` (default
            ("answer", "wrong")), numbered where there are several: ("IO", "S") gives IO, S1, S2.
            "diff": runs of words that differ between the texts, named `names` in turn, else differs1, differs2, ...
            "pattern": the named groups of the regular expression `pattern`, which both texts must match from the start.
            None: "given" if any row has roles, else "position".
        names: names for "answers" and "diff".
        pattern: for "pattern".
        template: gives a row's template. It must not reveal the answer: means are taken within templates.
        template_pattern: a regular expression searched in the row's "case"; its first group (or whole match) is the
            template. Without either, the row's "template", or one template for the whole file.

    Raises:
        UsageError: no such file; no rows; missing fields; answers that are no text; roles that cannot be found.
        GossamerError: the file is damaged.
    """
    form, rows = _read(path, tokenizer)
    if roles is None:
        roles = "given" if any(row.get("roles") for row in rows) else "position"
    unlabelled = 0
    if roles == "given" and form == "auto-circuit":
        every, rows = len(rows), [row for row in rows if row.get("roles")]
        unlabelled = every - len(rows)
    label = _labels(roles, names, pattern, PromptTokenizer(tokenizer, bos=False))
    chosen = _template(template, template_pattern)
    prompts = tuple(_prompt(f"{path}: row {number}", row, label, chosen) for number, row in enumerate(rows))
    changed = sum(isinstance(row[field], int) for row in rows for field in ("answer", "wrong"))
    provenance = {
        "file": Path(path).name,
        "roles_from": roles,
        "integer_answers_made_text": changed,
        "cases": dict(Counter(prompt.case for prompt in prompts).most_common()),
    }
    if unlabelled:
        text = f"{path}: {unlabelled} prompts left out, of other numbers of tokens than the file's positions are for"
        warnings.warn(text, TaskWarning, stacklevel=2)
        provenance["without_labels"] = unlabelled
    return ReadPrompts(prompts, roles, provenance)


def read_rows(path: str | Path, tokenizer: Any = None) -> list[dict[str, Any]]:
    """The rows of a file of any form, with our field names; other fields are kept as they are.

    `tokenizer` is needed for answers that are token ids, and for positions that are to become roles.

    Raises:
        UsageError: no such file, no rows, or a row without the four fields.
        GossamerError: the file is damaged.
    """
    return _read(path, tokenizer)[1]


def _read(path: str | Path, tokenizer: Any) -> tuple[str, list[dict[str, Any]]]:
    """The form of a file, and its rows."""
    form, rows = _parse(Path(path), tokenizer)
    if not rows:
        raise UsageError(f"{path}: rows expected, found none; give a file with at least one prompt")
    return form, [_renamed(f"{path}: row {number}", row) for number, row in enumerate(rows)]


def _parse(path: Path, tokenizer: Any) -> tuple[str, list[Any]]:
    text, where = read_text(path, "prompts (JSON, JSON lines or CSV)"), str(path)
    if path.suffix.lower() == ".csv":
        try:
            return "csv", csv_rows(text, where, tokenizer)
        except (ValueError, RecursionError, csv.Error) as error:
            raise GossamerError(f"{where}: expected CSV, found damage ({error}); fetch it again") from error
    if text.lstrip().startswith("["):
        return "rows", parse_json(text, where)
    body = _whole(text)
    if body is not None:
        return "auto-circuit", auto_circuit_rows(body, where, tokenizer)
    return "rows", [row for _, row in parse_json_lines(text, where)]


def _whole(text: str) -> dict[str, Any] | None:
    """The file as the one object that auto-circuit writes, if it is one."""
    with contextlib.suppress(GossamerError):
        body = parse_json(text, "")
        return body if isinstance(body, dict) and "prompts" in body else None
    return None


def _renamed(where: str, row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: an object expected, found {type(row).__name__}; see the documented row forms")
    renamed = {**{ours: row[theirs] for ours, theirs in PUBLISHED.items() if theirs in row}, **row}
    # A label that is null is none: as text it would be "None".
    renamed = {field: value for field, value in renamed.items() if value is not None or field in PUBLISHED}
    for several, one, more in (("answers", "answer", "also_right"), ("incorrect_answers", "wrong", "also_wrong")):
        if several in renamed:
            values = renamed.pop(several)
            if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
                raise UsageError(f"{where}: a list of texts expected for {several}, found {values!r}; mend the row")
            renamed[one], renamed[more] = values[0], tuple(dict.fromkeys(values[1:]))
    missing = [field for field in PUBLISHED if field not in renamed]
    if missing:
        raise UsageError(
            f"{where}: {', '.join(missing)} expected, found {', '.join(row) or 'nothing'}; rows need clean, "
            "counterfactual, answer, wrong (or clean_prefix, patch_prefix, clean_answer, patch_answer)"
        )
    for field in PUBLISHED:
        kinds = (str,) if field in ("clean", "counterfactual") else (str, int)
        if not isinstance(renamed[field], kinds) or isinstance(renamed[field], bool) or renamed[field] == "":
            raise UsageError(f"{where}: text expected for {field}, found {renamed[field]!r}; mend the row")
    _require_characters(where, row)
    return renamed


def _require_characters(where: str, row: EncodedRow) -> None:
    """Refuse halves of surrogate pairs: a cell can escape them one by one, no tokenizer and no file takes them."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise UsageError(f"{where}: whole characters expected, found half of one ({half!r}); mend the row") from error


def _prompt(where: str, row: EncodedRow, label: Labels, template: Callable[[EncodedRow], str]) -> Prompt:
    # Some published files hold digits to be predicted as numbers: json 6 is the text "6".
    texts = {**row, "answer": str(row["answer"]), "wrong": str(row["wrong"]), "case": str(row.get("case", ""))}
    try:
        clean, counterfactual = label(texts)
        more = (row.get(side, ()) for side in ("also_right", "also_wrong"))
        return Prompt(clean, counterfactual, texts["answer"], texts["wrong"], template(texts), texts["case"], *more)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _labels(roles: str, names: Sequence[str] | None, pattern: str | None, prompt_tokenizer: PromptTokenizer) -> Labels:
    if roles == "answers":
        return by_answers(tuple(names or ("answer", "wrong")), prompt_tokenizer)
    if roles == "diff":
        return by_difference(tuple(names or ()))
    if roles == "given":
        return by_row(prompt_tokenizer)
    if roles == "position":
        return lambda row: ((Piece(row["clean"]),), (Piece(row["counterfactual"]),))
    if roles == "pattern" and pattern:
        return by_pattern(pattern)
    if roles == "pattern":
        raise UsageError("roles='pattern' needs pattern=, a regular expression with named groups; found none")
    raise UsageError(f"roles: expected one of {', '.join(ROLE_SOURCES)}; found {roles!r}")


def _template(template: Callable[[EncodedRow], str] | None, pattern: str | None) -> Callable[[EncodedRow], str]:
    if template is not None:
        return template
    if pattern is None:
        return lambda row: str(row.get("template", "prompts"))
    return _searched(pattern)


def _searched(pattern: str) -> Callable[[EncodedRow], str]:
    expression = compiled(pattern, "template_pattern")

    def found(row: EncodedRow) -> str:
        match = expression.search(row["case"])
        if match is None:
            raise UsageError(f"template_pattern {pattern!r} expected in the case, found {row['case']!r}; mend either")
        return match.group(1) if expression.groups else match.group()

    return found
