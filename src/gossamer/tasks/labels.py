"""Which words of a prompt have which role, when the prompt is plain text: four ways to tell."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gossamer.errors import UsageError
from gossamer.tasks.prompt import Piece
from gossamer.tasks.prompt_tokenizer import PromptTokenizer

EncodedRow = Mapping[str, Any]
Pieces = tuple[Piece, ...]
Span = tuple[int, int, str]
"""Start and end in characters, and the role."""

_WORD = re.compile(r"\w+|[^\w\s]")


def compiled(pattern: str, option: str) -> re.Pattern[str]:
    """`pattern` as a regular expression. Raises :class:`UsageError` naming `option` if it is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{option}: a regular expression expected, found {pattern!r} ({error})") from error


def by_row(prompt_tokenizer: PromptTokenizer) -> Callable[[EncodedRow], tuple[Pieces, Pieces]]:
    """Roles from the row's own "roles" and "counterfactual_roles"; without the latter they are carried over."""

    def label(row: EncodedRow) -> tuple[Pieces, Pieces]:
        if not row.get("roles"):
            raise UsageError(
                'roles such as {"subject": "cat"} expected, found none; give every row some, or choose others: '
                "--roles position, answers or diff (roles= in Python)"
            )
        clean = cut(row["clean"], _given(row["clean"], row["roles"], "roles"))
        other = row.get("counterfactual_roles")
        if other is None:
            return clean, carried(clean, row["counterfactual"], prompt_tokenizer)
        spans = _given(row["counterfactual"], other, "counterfactual_roles")
        return clean, cut(row["counterfactual"], spans)

    return label


def by_answers(
    names: tuple[str, ...], prompt_tokenizer: PromptTokenizer
) -> Callable[[EncodedRow], tuple[Pieces, Pieces]]:
    """Roles for the mentions of the answer and of the wrong answer; a counterfactual with other words takes them over.

    The counterfactual's mentions of either word have the roles of the clean prompt's, in order, if they are as many.
    """
    if len(names) != 2:
        raise UsageError(f"roles by answers need two names, found {len(names)}; give names such as ('IO', 'S')")

    def label(row: EncodedRow) -> tuple[Pieces, Pieces]:
        words = (row["answer"].strip(), row["wrong"].strip())
        found = sorted((*span, word) for word in set(words) for span in mentions(row["clean"], word))
        if not found:
            raise UsageError(
                f"roles by answers need {words[0]!r} or {words[1]!r} in the text, found neither; choose "
                "--roles position or diff (roles= in Python)"
            )
        counts = Counter(word for _, _, word in found)
        seen: Counter[str] = Counter()
        spans = []
        for start, end, word in found:
            seen[word] += 1
            name = names[words.index(word)]
            spans.append((start, end, f"{name}{seen[word]}" if counts[word] > 1 else name))
        clean = cut(row["clean"], spans)
        text = row["counterfactual"]
        others = sorted(span for word in set(words) for span in mentions(text, word))
        if len(others) != len(spans):
            return clean, carried(clean, text, prompt_tokenizer)
        return clean, cut(text, [(*other, role) for other, (_, _, role) in zip(others, spans, strict=True)])

    return label


def by_difference(names: tuple[str, ...]) -> Callable[[EncodedRow], tuple[Pieces, Pieces]]:
    """Roles for the runs of words that differ between the texts, which must have equally many words."""

    def label(row: EncodedRow) -> tuple[Pieces, Pieces]:
        texts = (row["clean"], row["counterfactual"])
        clean, other = ([match.span() for match in _WORD.finditer(text)] for text in texts)
        if len(clean) != len(other):
            raise UsageError(
                f"roles by difference need texts of equally many words, found {len(clean)} and {len(other)}; give the "
                'rows "roles" and "counterfactual_roles"'
            )
        changed = [texts[0][slice(*a)] != texts[1][slice(*b)] for a, b in zip(clean, other, strict=True)]
        starts = [index for index, new in enumerate(changed) if new and not (index and changed[index - 1])]
        if not starts:
            raise UsageError("roles by difference need texts that differ, found the same text twice; mend the row")
        ends = [next((end for end in range(start, len(changed)) if not changed[end]), len(changed)) for start in starts]
        labels = [names[n] if n < len(names) else f"differs{n + 1}" for n in range(len(starts))]
        runs = list(zip(starts, ends, labels, strict=True))
        a, b = ([(words[i][0], words[j - 1][1], name) for i, j, name in runs] for words in (clean, other))
        return cut(texts[0], a), cut(texts[1], b)

    return label


def by_pattern(pattern: str) -> Callable[[EncodedRow], tuple[Pieces, Pieces]]:
    """Roles from the named groups of a regular expression that both texts match as a whole."""
    expression = compiled(pattern, "pattern")
    if not expression.groupindex:
        raise UsageError(f"pattern: named groups such as (?P<subject>\\w+) expected, found none in {pattern!r}")

    def pieces(text: str) -> Pieces:
        match = expression.fullmatch(text)
        if match is None:
            raise UsageError(f"roles by pattern: {pattern!r} expected to match the whole text, found {text!r}")
        spans = [(*match.span(role), role) for role in expression.groupindex if match.group(role)]
        return cut(text, spans)

    return lambda row: (pieces(row["clean"]), pieces(row["counterfactual"]))


def mentions(text: str, word: str) -> list[tuple[int, int]]:
    """Where `word` stands in `text` as a whole word."""
    return [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text)] if word else []


def cut(text: str, spans: Sequence[Span]) -> Pieces:
    """`text` in pieces at `spans`. Raises :class:`UsageError` if spans overlap or leave the text."""
    pieces, position = [], 0
    for start, end, role in sorted(spans):
        if not position <= start < end <= len(text):
            raise UsageError(
                f"role {role}: a span inside the text of {len(text)} characters that overlaps no other expected, found "
                f"[{start}, {end}]; mend the roles"
            )
        pieces += [Piece(text[position:start]), Piece(text[start:end], role)]
        position = end
    return tuple(piece for piece in (*pieces, Piece(text[position:])) if piece.text)


def carried(clean: Pieces, text: str, prompt_tokenizer: PromptTokenizer) -> Pieces:
    """`text` with the roles of `clean`, token by token. Raises :class:`UsageError` if the token counts differ."""
    if not any(piece.role for piece in clean):
        return (Piece(text),)
    spelled = prompt_tokenizer.spell([clean])[0]
    ends = prompt_tokenizer.ends(text)
    if len(spelled.ids) != len(ends):
        raise UsageError(
            f"roles of the counterfactual expected, because it has {len(ends)} tokens and the prompt has "
            f'{len(spelled.ids)}, so that they cannot be carried over; give the row "counterfactual_roles"'
        )
    named = {word.role for word in spelled.words}
    pieces: list[Piece] = []
    start = 0
    for end, role, offset in zip(ends, spelled.roles, spelled.offsets, strict=True):
        text_here, role_here = text[start:end], role if role in named else None
        if offset and pieces:
            text_here = pieces.pop().text + text_here
        if text_here:
            pieces.append(Piece(text_here, role_here))
        start = end
    return tuple(pieces)


def _given(text: str, roles: Any, field: str) -> list[Span]:
    if not isinstance(roles, dict):
        raise UsageError(f'{field}: an object such as {{"IO": "Mary"}} expected, found {roles!r}; mend the row')
    return [(start, end, role) for role, place in roles.items() for start, end in _places(text, role, place)]


def _places(text: str, role: str, place: Any) -> list[tuple[int, int]]:
    if isinstance(place, str):
        found = mentions(text, place.strip())
        if not found:
            raise UsageError(f"role {role}: {place!r} expected in the text, found none in {text!r}; mend the roles")
        return found
    spans = [place] if isinstance(place, list) and place and not isinstance(place[0], list) else place
    if not isinstance(spans, list) or not all(_is_span(span) for span in spans):
        raise UsageError(f"role {role}: a word, [start, end] or a list of those spans expected, found {place!r}")
    return [(start, end) for start, end in spans]


def _is_span(span: Any) -> bool:
    return isinstance(span, list) and len(span) == 2 and all(isinstance(end, int) for end in span)
