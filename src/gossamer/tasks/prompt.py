"""A prompt as pieces of text: what a task is made of before any tokenizer has seen it."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gossamer.display import cut, short_repr
from gossamer.errors import UsageError

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Piece:
    """A stretch of text; `role` names what its tokens do in the prompt, None leaves them to a numbered gap."""

    text: str
    role: str | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt, its counterfactual and their answers.

    Attributes:
        clean: pieces of the prompt.
        counterfactual: pieces of the minimally different prompt.
        answer: continuation of the clean prompt, with its leading space where it has one.
        incorrect: the answer of the counterfactual.
        template: identity of the text around the variable parts; never reveals the answer.
        case: a label for reading and grouping only.
        also_correct, also_incorrect: further right and wrong answers, where there are several.
    """

    clean: tuple[Piece, ...]
    counterfactual: tuple[Piece, ...]
    answer: str
    incorrect: str
    template: str
    case: str = ""
    also_correct: tuple[str, ...] = ()
    also_incorrect: tuple[str, ...] = ()

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{cut(repr(self.clean_text), 60)} -> {cut(repr(self.answer), 20)}"
        yield f"counterfactual {cut(repr(self.counterfactual_text), 60)} -> {cut(repr(self.incorrect), 20)}"

    @property
    def answers(self) -> tuple[str, ...]:
        """All right answers."""
        return (self.answer, *self.also_correct)

    @property
    def incorrect_answers(self) -> tuple[str, ...]:
        """All wrong answers."""
        return (self.incorrect, *self.also_incorrect)

    @property
    def clean_text(self) -> str:
        """The prompt as one string."""
        return join(self.clean)

    @property
    def counterfactual_text(self) -> str:
        """The counterfactual as one string."""
        return join(self.counterfactual)

    @property
    def texts(self) -> tuple[str, str]:
        """The prompt and the counterfactual, each as one string."""
        return self.clean_text, self.counterfactual_text

    @property
    def key(self) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
        """What makes two prompts the same: both texts and all answers."""
        return *self.texts, self.answers, self.incorrect_answers


def join(pieces: tuple[Piece, ...]) -> str:
    """The text of `pieces`."""
    return "".join(piece.text for piece in pieces)


def fill(pattern: str, words: Mapping[str, Piece]) -> tuple[Piece, ...]:
    """`pattern` with each ``{placeholder}`` replaced by its piece; the text between becomes pieces without a role."""
    parts = _PLACEHOLDER.split(pattern)
    pieces = (words[part] if index % 2 else Piece(part) for index, part in enumerate(parts))
    return tuple(piece for piece in pieces if piece.text)


def distinct(rng: random.Random, n: int, draw: Callable[[random.Random], Prompt], what: str) -> list[Prompt]:
    """`n` different prompts from `draw`, in the order in which they first came up.

    Raises:
        UsageError: `n` is not positive, or `draw` has so few different prompts that `n` cannot be found.
    """
    if n < 1:
        raise UsageError(f"{what}: expected at least one prompt, found n={n}")
    found: dict[object, Prompt] = {}
    misses = 0
    while len(found) < n:
        prompt = draw(rng)
        misses = misses + 1 if prompt.key in found else 0
        found.setdefault(prompt.key, prompt)
        # With one prompt of k unseen, this many misses in a row happen with probability exp(-misses / k).
        if misses > 100 + 10 * len(found):
            raise UsageError(
                f"{what}: {n} different prompts asked for, the words give only {len(found)}; "
                "ask for fewer or give more words"
            )
    return list(found.values())


def need(words: Sequence[object], at_least: int, what: str) -> None:
    """Raise :class:`UsageError` if a word list is too short to make prompts of."""
    if len(words) < at_least:
        raise UsageError(
            f"{what}: at least {at_least} words needed, found {len(words)} ({', '.join(map(str, words)) or 'none'}); "
            "give more words, or use a tokenizer that has more of them as single tokens"
        )
