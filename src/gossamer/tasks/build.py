"""From prompts to rows of tokens, refusing (or on request dropping) what one token cannot hold."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gossamer.errors import UsageError
from gossamer.tasks.encoding import Row
from gossamer.tasks.prompt import Prompt
from gossamer.tasks.spelling import Speller

ROLE_KINDS = ("given", "position")


class TaskWarning(UserWarning):
    """Rows or words were left out of a task; the task's provenance has the counts."""


@dataclass(frozen=True)
class Fault:
    """A word that is not one token where one is needed."""

    row: int
    where: str
    word: str
    tokens: tuple[str, ...]

    def __str__(self) -> str:
        spelled = "|".join(self.tokens) or "part of another token"
        return f"{self.word!r} ({self.where}: {spelled})"


@dataclass(frozen=True)
class Draft:
    """Prompts in tokens, with the faults found in them; rows with a faulty answer have no row."""

    rows: dict[int, Row]
    faults: tuple[Fault, ...]

    def bad_rows(self) -> set[int]:
        """Numbers of the prompts that have a fault."""
        return {fault.row for fault in self.faults}


def draft(prompts: Mapping[int, Prompt], speller: Speller, one_token: Collection[str] | None) -> Draft:
    """Spell `prompts` and find their faults.

    Args:
        prompts: what to spell, by the number that messages call it by.
        speller: the tokenizer.
        one_token: roles whose words must be one token; None means every role whose word has no space inside.
            Answers always must, and named words must always have tokens of their own.
    """
    listed = list(prompts.values())
    texts = [prompt.clean_text for prompt in listed]
    spelled = zip(
        prompts.items(),
        speller.spell([prompt.clean for prompt in listed]),
        speller.spell([prompt.counterfactual for prompt in listed]),
        speller.answers(texts, [prompt.answer for prompt in listed]),
        speller.answers(texts, [prompt.wrong for prompt in listed]),
        strict=True,
    )
    rows, faults = {}, []
    for (number, prompt), clean, counterfactual, answer, wrong in spelled:
        for where, text, found in (("answer", prompt.answer, answer), ("wrong answer", prompt.wrong, wrong)):
            if found.id is None:
                faults.append(_fault(speller, number, where, text, found.added))
        for word in (*clean.words, *counterfactual.words):
            checked = len(word.text.split()) == 1 if one_token is None else word.role in one_token
            if not word.separable or (checked and len(word.ids) != 1):
                faults.append(_fault(speller, number, f"role {word.role}", word.text, word.ids))
        if answer.id is not None and wrong.id is not None:
            rows[number] = Row(prompt, clean, counterfactual, answer.id, wrong.id)
    return Draft(rows, tuple(faults))


def _fault(speller: Speller, row: int, where: str, word: str, ids: Sequence[int]) -> Fault:
    return Fault(row, where, word, tuple(map(speller.word, ids)))


def build_rows(
    prompts: Sequence[Prompt], speller: Speller, *, roles: str, drop_multi_token: bool, length: int | None = None
) -> tuple[list[Row], dict[str, int]]:
    """Rows of the prompts that can be used, and how many were left out for which reason.

    Raises:
        UsageError: no prompts; words that are not one token, unless they are to be dropped; unequal lengths with
            roles="position"; nothing left.
    """
    first_seen: dict[tuple[str, ...], int] = {}
    for number, prompt in enumerate(prompts):
        first_seen.setdefault(prompt.key, number)
    unique = {number: prompts[number] for number in first_seen.values()}
    left_out = {"duplicates": len(prompts) - len(unique)}
    found = draft(unique, speller, None if drop_multi_token else ())
    if found.faults and not drop_multi_token:
        first = found.faults[0].row
        raise UsageError(f"prompt {first}: {refusal(found.faults)}")
    _check_answers(found.rows)
    bad = found.bad_rows()
    rows = [row for number, row in found.rows.items() if number not in bad]
    left_out["multi_token"] = len(bad)
    if length is not None:
        fitting = [row for row in rows if len(row.clean.ids) == len(row.counterfactual.ids) == length]
        left_out["other_length"], rows = len(rows) - len(fitting), fitting
    if not rows:
        example = f"; first: {found.faults[0]}" if found.faults else ""
        raise UsageError(
            f"prompts expected, found none that can be used of {len(prompts)} "
            f"(left out: {said(left_out) or 'none'}){example}; "
            "use a tokenizer that has these words as single tokens, or other prompts"
        )
    return (by_position(rows) if roles == "position" else rows), left_out


def _check_answers(rows: Mapping[int, Row]) -> None:
    for number, row in rows.items():
        if row.answer == row.wrong:
            raise UsageError(
                f"prompt {number}: two different answers expected, found {row.prompt.answer!r} and "
                f"{row.prompt.wrong!r}, which are one token; mend or remove the row"
            )


def refusal(faults: Sequence[Fault]) -> str:
    """One line that names every offending word, the first few with their tokens."""
    words: dict[str, Fault] = {}
    for fault in faults:
        words.setdefault(fault.word.strip(), fault)
    shown = ", ".join(str(fault) for fault in list(words.values())[:6])
    more = f" and {', '.join(list(words)[6:])}" if len(words) > 6 else ""
    return (
        f"answers and role words must be single tokens of their own; this tokenizer splits {shown}{more}; "
        "use other words, or drop_multi_token=True to leave them out"
    )


def by_position(rows: Sequence[Row]) -> list[Row]:
    """`rows` with a role for each position. Raises :class:`UsageError` unless all texts have one length."""
    lengths = sorted({len(text.ids) for row in rows for text in (row.clean, row.counterfactual)})
    if len(lengths) > 1:
        raise UsageError(
            f"roles='position' needs prompts of one length, found {lengths[0]} to {lengths[-1]} tokens; give each row "
            '"roles" (such as {"subject": "cat"}), use roles="answers" or roles="diff", or keep one length with length='
        )
    return [
        Row(row.prompt, row.clean.by_position(), row.counterfactual.by_position(), row.answer, row.wrong)
        for row in rows
    ]


def said(counts: dict[str, int]) -> str:
    """Counts that are not zero, in words."""
    return ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items() if count)


def warn_left_out(name: str, counts: dict[str, int], total: int) -> None:
    """Say aloud that rows were left out, unless they only repeat others."""
    if any(count for reason, count in counts.items() if reason != "duplicates"):
        warnings.warn(f"task {name}: of {total} prompts left out: {said(counts)}", TaskWarning, stacklevel=3)
