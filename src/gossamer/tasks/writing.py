"""Prompts out to files, in the forms that `reading` takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gossamer.errors import UsageError
from gossamer.files import write_json, write_json_lines
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.prompt_pairs import PromptPairs

FORMS = ("gossamer", "published", "auto-circuit")


def write_prompts(path: str | Path, sides: Mapping[str, PromptPairs], form: str = "gossamer") -> Path:
    """Write the prompts of each side, named in the rows' "split": JSON lines if `path` ends in .jsonl, else an array.

    Args:
        path: where to.
        sides: examples by name.
        form: "gossamer" keeps templates and roles; the others lose them. "published" is the form of circuit
            repositories (clean_prefix, patch_prefix, clean_answer, patch_answer, case), for one right and one wrong
            answer; "auto-circuit" is one object of prompts (see :mod:`gossamer.tasks.formats`).

    Raises:
        UsageError: an unknown form, or several answers in one that holds one.
    """
    if form not in FORMS:
        raise UsageError(f"form: expected {', '.join(FORMS[:-1])} or {FORMS[-1]}, found {form!r}")
    prompts = [(name, prompt) for name, side in sides.items() for prompt in side.prompts]
    if form == "published" and any(prompt.also_correct or prompt.also_incorrect for _, prompt in prompts):
        raise UsageError('form "published" holds one right and one wrong answer, found several; use "auto-circuit"')
    row = {"gossamer": _own_row, "published": _published_row, "auto-circuit": _auto_circuit_row}[form]
    rows = [row(prompt) | {"split": name} for name, prompt in prompts]
    if form == "auto-circuit":
        return write_json(path, {"prompts": rows})
    if str(path).endswith(".jsonl"):
        return write_json_lines(path, rows)
    return write_json(path, rows)


def _own_row(prompt: Prompt) -> dict[str, Any]:
    several = prompt.also_correct or prompt.also_incorrect
    one = {"answer": prompt.answer, "wrong": prompt.incorrect}
    return {
        "clean": prompt.clean_text,
        "counterfactual": prompt.counterfactual_text,
        **({"answers": list(prompt.answers), "incorrect_answers": list(prompt.incorrect_answers)} if several else one),
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
        "patch_answer": prompt.incorrect,
        "case": prompt.case,
    }


def _auto_circuit_row(prompt: Prompt) -> dict[str, Any]:
    return {
        "clean": prompt.clean_text,
        "corrupt": prompt.counterfactual_text,
        "answers": list(prompt.answers),
        "incorrect_answers": list(prompt.incorrect_answers),
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
