"""From prompts to rows of tokens, leaving out what this tokenizer cannot tell apart."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gossamer.errors import UsageError
from gossamer.tasks.encoding import EncodedRow
from gossamer.tasks.prompt import Piece, Prompt, join
from gossamer.tasks.prompt_tokenizer import PromptTokenizer, SpelledAnswer

ROLE_KINDS = ("given", "position")


class TaskWarning(UserWarning):
    """Rows or words were left out of a task; the task's provenance has the counts."""


@dataclass(frozen=True)
class Fault:
    """A word that is not one token where one is needed, and why if that is known."""

    row: int
    where: str
    word: str
    tokens: tuple[str, ...]
    cause: str = ""

    def __str__(self) -> str:
        spelled = "|".join(self.tokens) or "part of another token"
        return f"{self.word!r} ({self.where}: {spelled}{self.cause and '; ' + self.cause})"


@dataclass(frozen=True)
class Draft:
    """Prompts in tokens, with the faults found in them; rows with a faulty answer have no row."""

    rows: dict[int, EncodedRow]
    faults: tuple[Fault, ...]

    def bad_rows(self) -> set[int]:
        """Numbers of the prompts that have a fault."""
        return {fault.row for fault in self.faults}


def draft(prompts: Mapping[int, Prompt], prompt_tokenizer: PromptTokenizer, one_token: Collection[str] | None) -> Draft:
    """Spell `prompts` and find their faults.

    An answer of several tokens is stood for by its first where that tells it from the answers of the other side. Of
    several answers those that no token can stand for are left out.

    Args:
        prompts: what to spell, by the number that messages call it by.
        prompt_tokenizer: the tokenizer.
        one_token: roles whose words must be one token; None means every role whose word has no space inside.
            Named words must always have tokens of their own.
    """
    listed = list(prompts.values())
    spelled = zip(
        prompts.items(),
        prompt_tokenizer.spell([prompt.clean for prompt in listed]),
        prompt_tokenizer.spell([prompt.counterfactual for prompt in listed]),
        _answers(listed, prompt_tokenizer),
        strict=True,
    )
    rows, faults = {}, []
    for (number, prompt), clean, counterfactual, sides in spelled:
        right, incorrect = sides
        faults += _answer_faults(prompt_tokenizer, number, prompt, right, incorrect)
        for word in (*clean.words, *counterfactual.words):
            checked = len(word.text.split()) == 1 if one_token is None else word.role in one_token
            if not word.separable or (checked and len(word.ids) != 1):
                faults.append(_fault(prompt_tokenizer, number, f"role {word.role}", word.text, word.ids))
        if right.tokens and incorrect.tokens:
            shortened = (*right.shortened, *incorrect.shortened)
            rows[number] = EncodedRow(prompt, clean, counterfactual, right.tokens, incorrect.tokens, shortened)
    return Draft(rows, tuple(faults))


@dataclass(frozen=True)
class _Side:
    """The right or the wrong answers of a prompt: the tokens that stand for them, and what they add to the prompt."""

    tokens: tuple[int, ...]
    shortened: tuple[str, ...]
    added: tuple[SpelledAnswer, ...]


def _answers(prompts: Sequence[Prompt], prompt_tokenizer: PromptTokenizer) -> list[tuple[_Side, _Side]]:
    """Right and wrong answers of every prompt."""
    pairs = [(prompt.clean_text, text) for prompt in prompts for text in (*prompt.answers, *prompt.incorrect_answers)]
    found = iter(prompt_tokenizer.answers([text for text, _ in pairs], [answer for _, answer in pairs]))

    def side(texts: tuple[str, ...]) -> _Side:
        added = tuple(next(found) for _ in texts)
        tokens = [_token(text, one, len(texts) > 1, prompt_tokenizer) for text, one in zip(texts, added, strict=True)]
        several = tuple(text for text, one in zip(texts, added, strict=True) if one.continues and len(one.added) > 1)
        return _Side(tuple(dict.fromkeys(token for token in tokens if token is not None)), several, added)

    return [(side(prompt.answers), side(prompt.incorrect_answers)) for prompt in prompts]


def _token(text: str, answer: SpelledAnswer, one_of_several: bool, prompt_tokenizer: PromptTokenizer) -> int | None:
    """The token that stands for an answer.

    Of many answers a few run into the prompt's last token (" 17" and "76" are the one token " 1776"): what the model
    can say next is then the answer's own token, and so the published metrics take it.
    """
    if answer.first is not None:
        # A space of its own, before the first letter, tells nothing from anything.
        return None if len(answer.added) > 1 and not prompt_tokenizer.word(answer.first).strip() else answer.first
    alone = prompt_tokenizer.ids([text])[0] if one_of_several else []
    return alone[0] if len(alone) == 1 else None


def _answer_faults(
    prompt_tokenizer: PromptTokenizer, number: int, prompt: Prompt, right: _Side, incorrect: _Side
) -> list[Fault]:
    """A side without any token, or answers of several tokens whose first does not tell right from wrong."""
    shared = set(right.tokens) & set(incorrect.tokens)
    found = []
    for where, texts, side in (
        ("answer", prompt.answers, right),
        ("wrong answer", prompt.incorrect_answers, incorrect),
    ):
        for text, answer in zip(texts, side.added, strict=True):
            if text in side.shortened and answer.first in shared:
                found.append(
                    _fault(prompt_tokenizer, number, where, text, answer.added, "both begin with the same token")
                )
            elif not side.tokens:
                # Most tokenizers keep a space with the word after it.
                blank = not answer.continues and prompt.clean_text[-1:].isspace()
                cause = "the prompt ends in a space: move it to the answer" if blank else ""
                found.append(_fault(prompt_tokenizer, number, where, text, answer.added, cause))
    return found


def _fault(
    prompt_tokenizer: PromptTokenizer, row: int, where: str, word: str, ids: Sequence[int], cause: str = ""
) -> Fault:
    return Fault(row, where, word, tuple(map(prompt_tokenizer.word, ids)), cause)


def with_one_bos(tokenizer: Any, bos: bool | None, prompts: Sequence[Prompt]) -> tuple[PromptTokenizer, list[Prompt]]:
    """The prompt tokenizer, and the prompts without a BOS token written out in their texts: it puts the one there.

    Where the tokenizer adds none by itself, prompts that all write it out begin with it all the same.

    Raises:
        UsageError: BOS is written out though `bos` is False, or in some texts only where nothing adds it to the others.
    """
    prompt_tokenizer = PromptTokenizer(tokenizer, bos)
    written = prompt_tokenizer.written_bos
    marked = [
        [written != "" and text.startswith(written) for text in (prompt.clean_text, prompt.counterfactual_text)]
        for prompt in prompts
    ]
    if not any(map(any, marked)):
        return prompt_tokenizer, list(prompts)
    first = next(number for number, sides in enumerate(marked) if any(sides))
    if bos is False:
        raise UsageError(
            f"prompt {first}: no BOS token expected, found {written!r} written out; remove it from the text, "
            "or use --bos (bos=True in Python)"
        )
    if not prompt_tokenizer.bos and not all(map(all, marked)):
        raise UsageError(
            f"prompt {first}: begins with {written!r} written out, but not all texts do; write it in all or none of "
            "them, or use --bos (bos=True in Python) to begin all of them with it"
        )
    without = [
        replace(prompt, clean=_after(written, prompt.clean), counterfactual=_after(written, prompt.counterfactual))
        for prompt in prompts
    ]
    return PromptTokenizer(tokenizer, True), without


def _after(written: str, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """`pieces` without any `written` that they begin with."""
    while join(pieces).startswith(written):
        left, rest = len(written), []
        for piece in pieces:
            rest.append(replace(piece, text=piece.text[left:]))
            left = max(left - len(piece.text), 0)
        pieces = tuple(piece for piece in rest if piece.text)
    return pieces


def build_rows(
    prompts: Sequence[Prompt],
    prompt_tokenizer: PromptTokenizer,
    *,
    roles: str,
    drop_multi_token: bool,
    length: int | None = None,
) -> tuple[list[EncodedRow], dict[str, int], tuple[Fault, ...]]:
    """Rows of the prompts that can be used, how many were left out for which reason, and the faults of those.

    Raises:
        UsageError: no prompts; an answer that is right and wrong at once; unequal lengths with roles="position";
            nothing left.
    """
    first_seen: dict[object, int] = {}
    for number, prompt in enumerate(prompts):
        first_seen.setdefault(prompt.key, number)
    unique = {number: prompts[number] for number in first_seen.values()}
    left_out = {"duplicates": len(prompts) - len(unique)}
    found = draft(unique, prompt_tokenizer, None if drop_multi_token else ())
    if drop_multi_token:
        found = replace(found, faults=(*found.faults, *shortened_answers(found)))
    bad = found.bad_rows()
    rows = {number: row for number, row in found.rows.items() if number not in bad}
    _check_answers(rows)
    left_out["multi_token"] = len(bad)
    chosen = list(rows.values())
    if length is not None:
        fitting = [row for row in chosen if len(row.clean.ids) == len(row.counterfactual.ids) == length]
        left_out["other_length"], chosen = len(chosen) - len(fitting), fitting
    if not chosen:
        raise UsageError(
            f"prompts expected, found none that can be used of {len(prompts)} "
            f"(left out: {said(left_out) or 'none'}){_first_cause(found)}"
        )
    return (by_position(chosen) if roles == "position" else chosen), left_out, found.faults


def shortened_answers(found: Draft) -> list[Fault]:
    """The answers of several tokens for which the first stands, as faults where that is not wanted."""
    rows = found.rows.items()
    return [Fault(number, "answer", text, ("several tokens",)) for number, row in rows for text in row.shortened]


def _first_cause(found: Draft) -> str:
    """Why the first of the faulty prompts cannot be used, and what to do."""
    if not found.faults:
        return "; give prompts, each with a right and a wrong answer"
    return f"; first, prompt {found.faults[0].row}: {refusal(found.faults[:1])}"


def _check_answers(rows: Mapping[int, EncodedRow]) -> None:
    for number, row in rows.items():
        if set(row.answers) & set(row.incorrect):
            raise UsageError(
                f"prompt {number}: two different answers expected, found {row.prompt.answer!r} and "
                f"{row.prompt.incorrect!r}, which are one token; mend or remove the row"
            )


def named(faults: Sequence[Fault]) -> str:
    """Every offending word once, the first few with their tokens."""
    words: dict[str, Fault] = {}
    for fault in faults:
        words.setdefault(fault.word.strip(), fault)
    shown = ", ".join(str(fault) for fault in list(words.values())[:6])
    return shown + (f" and {', '.join(list(words)[6:])}" if len(words) > 6 else "")


def refusal(faults: Sequence[Fault]) -> str:
    """One line that says what is wrong with these words, and what to do."""
    return (
        "role words must be tokens of their own, and an answer one token or several of which the first tells it from "
        f"the wrong answers; not so with this tokenizer: {named(faults)}; use other words or another model"
    )


def by_position(rows: Sequence[EncodedRow]) -> list[EncodedRow]:
    """`rows` with a role for each position. Raises :class:`UsageError` unless all texts have one length."""
    lengths = sorted({len(text.ids) for row in rows for text in (row.clean, row.counterfactual)})
    if len(lengths) > 1:
        raise UsageError(
            f"a role for each position needs prompts of one length, found {lengths[0]} to {lengths[-1]} tokens; "
            'give each row "roles" (such as {"subject": "cat"}), or choose other roles or one length: '
            "--roles answers, --roles diff or --length N (roles=, length= in Python)"
        )
    both = ((row, row.clean.by_position(), row.counterfactual.by_position()) for row in rows)
    return [replace(row, clean=clean, counterfactual=other) for row, clean, other in both]


def said(counts: dict[str, int]) -> str:
    """Counts that are not zero, in words."""
    return ", ".join(f"{count} {what.replace('_', ' ')}" for what, count in counts.items() if count)


def warn_left_out(name: str, counts: dict[str, int], total: int, faults: Sequence[Fault] = ()) -> None:
    """Say aloud that rows were left out, unless they only repeat others, and for which words."""
    if any(count for reason, count in counts.items() if reason != "duplicates"):
        words = f" ({named(faults)})" if faults else ""
        warnings.warn(f"task {name}: of {total} prompts left out: {said(counts)}{words}", TaskWarning, stacklevel=3)


def warn_shortened(name: str, rows: Sequence[EncodedRow]) -> int:
    """Say aloud for which answers the first of several tokens stands. Returns in how many prompts."""
    shortened = [row for row in rows if row.shortened]
    words = list(dict.fromkeys(text for row in shortened for text in row.shortened))
    if words:
        more = f" and {len(words) - 6} more" if len(words) > 6 else ""
        warnings.warn(
            f"task {name}: the first token stands for answers of several tokens in {len(shortened)} prompts: "
            f"{', '.join(map(repr, words[:6]))}{more}",
            TaskWarning,
            stacklevel=3,
        )
    return len(shortened)
