"""Prompts out to files, in the forms that `reading` takes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.errors import UsageError
from gossamer.files import write_json, write_text
from gossamer.tasks.examples import Examples
from gossamer.tasks.prompt import Piece, Prompt

FORMS = ("gossamer", "published")


def write_prompts(path: str | Path, sides: Mapping[str, Examples], form: str = "gossamer") -> Path:
    """Write the prompts of each side, named in the rows' "split": JSON lines if `path` ends in .jsonl, else an array.

    Args:
        path: where to.
        sides: examples by name.
        form: "gossamer" keeps templates and roles; "published" is the form of circuit repositories
            (clean_prefix, patch_prefix, clean_answer, patch_answer, case) and loses them.

    Raises:
        UsageError: an unknown form.
    """
    if form not in FORMS:
        raise UsageError(f"form: expected {' or '.join(FORMS)}, found {form!r}")
    row = _own_row if form == "gossamer" else _published_row
    rows = [row(prompt) | {"split": name} for name, side in sides.items() for prompt in side.prompts]
    if str(path).endswith(".jsonl"):
        return write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return write_json(path, rows)


def _own_row(prompt: Prompt) -> dict[str, Any]:
    return {
        "clean": prompt.clean_text,
        "counterfactual": prompt.counterfactual_text,
        "answer": prompt.answer,
        "wrong": prompt.wrong,
        "template": prompt.template,
        "case": prompt.case,
        "roles": _spans(prompt.clean),
        "counterfactual_roles": _spans(prompt.counterfactual),
    }


def _published_row(prompt: Prompt) -> dict[str, Any]:
    return {
        "clean_prefix": prompt.clean_text,
        "patch_prefix": prompt.counterfactual_text,
        "clean_answer": prompt.answer,
        "patch_answer": prompt.wrong,
        "case": prompt.case,
    }


def _spans(pieces: tuple[Piece, ...]) -> dict[str, list[list[int]]]:
    spans: dict[str, list[list[int]]] = {}
    position = 0
    for piece in pieces:
        end = position + len(piece.text)
        if piece.role is not None:
            spans.setdefault(piece.role, []).append([position, end])
        position = end
    return spans
