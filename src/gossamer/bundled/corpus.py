r"""The generated text that the bundled model learns from: every kind of task, and plain sentences beside them.

A document is one token row: BOS, text, end of text. There are six kinds:

ioi        a prompt of indirect object identification in either order and its answer, or (one in six) a prompt with
           three different names, whose answer is either of the first two
agreement  one of the four structures and a verb in the right number: is/are in 70 % of the documents, so that it is
           the most likely verb everywhere, has/have, does/do, goes/go in the others
index      a list and several lookups, some of which fail
key        a dictionary and several lookups, some of which fail
story      sentences with the same names, places, things and nouns in other places and other order
session    Python sessions that print a list, or a dictionary in the order of its keys: every value of the latter is a
           lookup, which prepares the model for the harder one of `key`

One tenth of all prompts, chosen by a hash of their text, is held out: no document contains such a prompt, also not as
the second lookup of a session, and accuracy is measured on them alone.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gossamer.tasks import code_output, ioi, subject_verb
from gossamer.tasks.lexicon import (
    ANSWER_VERBS,
    CLAUSE_NOUNS,
    CLAUSE_VERBS,
    DICTIONARY_NAMES,
    DIGITS,
    LIST_NAMES,
    NAMES,
    OBJECT_NOUNS,
    OBJECTS,
    PLACES,
    PREPOSITIONS,
    SUBJECTS,
)
from gossamer.tasks.prompt import Prompt

Fragments = list[tuple[str, float]]

# Weights in the loss of predicting a token.
ANSWER, CONTEXT, UNSCORED = 1.0, 0.1, 0.0

BE = ANSWER_VERBS[:1]
STRUCTURES: tuple[str, ...] = ("simple", "rc", "within_rc", "nounpp")
STRUCTURE_SHARES = (0.35, 0.25, 0.2, 0.2)
ENDINGS: dict[str, tuple[str, ...]] = {
    "is": (" happy.", " at the {place}.", " near the {thing}."),
    "are": (" happy.", " at the {place}.", " near the {thing}."),
    "has": (" a {object}.",),
    "have": (" a {object}.",),
    "does": (" the work.",),
    "do": (" the work.",),
    "goes": (" to the {place}.",),
    "go": (" to the {place}.",),
}
STORIES: tuple[str, ...] = (
    "{a} went to the {place}.",
    "{a} gave a {object} to {b}.",
    "{a} has a {object}.",
    "One day, {a} saw {b} at the {place}.",
    "The {object} is in the {place}.",
    "Then {a} went to the {place} with {b}.",
    "{a} is happy.",
    "{a}, {b} and {c} are at the {place}.",
    "{b} said hello to {a}.",
    "Then the {subject} visits the {noun}.",
    "{a} likes the {thing}.",
    "When {a} was at the {place}, {b} was with {c}.",
)
LOOKUPS = 3
LOOKUP_FAILS = 0.5
LONGEST_LIST = 6
LONGEST_DICTIONARY = 5
# Training begins with dictionaries of at most this many keys: the lookup is learned sooner on short ones.
SHORT = 3
# A traceback without its middle lines and message: short, because most of a row's cost is its length.
FAILURE = " (most recent call last):\n{error}\n"


@dataclass(frozen=True)
class Document:
    """A training document.

    Attributes:
        kind: which of `KINDS` it is.
        fragments: consecutive text, and its weight in the loss: `ANSWER`, `CONTEXT` or `UNSCORED`.
    """

    kind: str
    fragments: tuple[tuple[str, float], ...]

    @property
    def text(self) -> str:
        """The document as one string."""
        return "".join(text for text, _ in self.fragments)


def held_out(prompt: str) -> bool:
    """Whether a prompt (its text without the answer) is kept out of the corpus: one tenth is, by its hash."""
    return hashlib.blake2b(prompt.encode(), digest_size=8).digest()[0] % 10 == 0


def _fresh(draw: Callable[[], Prompt]) -> Prompt:
    """Draw until neither text of the pair is held out."""
    while True:
        prompt = draw()
        if not held_out(prompt.clean_text) and not held_out(prompt.counterfactual_text):
            return prompt


def _ioi(rng: random.Random, short: bool) -> Fragments:
    if rng.random() < 1 / 6:
        prompt = _fresh(lambda: ioi.sample(rng, 1, counterfactual="random")[0])
        first_two = [piece.text for piece in prompt.counterfactual if piece.role in ("IO", "S1")]
        return [(prompt.counterfactual_text, CONTEXT), (f" {rng.choice(first_two)}", CONTEXT), (".", CONTEXT)]
    prompt = _fresh(lambda: ioi.sample(rng, 1)[0])
    return [(prompt.clean_text, CONTEXT), (prompt.answer, ANSWER), (".", CONTEXT)]


def _agreement(rng: random.Random, short: bool) -> Fragments:
    answers = BE if rng.random() < 0.7 else ANSWER_VERBS[1:]
    structure = rng.choices(STRUCTURES, STRUCTURE_SHARES)[0]
    prompt = _fresh(lambda: subject_verb.sample(rng, 1, structure=structure, answers=answers)[0])
    ending = rng.choice(ENDINGS[prompt.answer.strip()]).format_map(_words(rng))
    after = rng.choice(STORIES).format_map(_words(rng))
    return [*_scored(prompt.clean_text), (prompt.answer, ANSWER), (f"{ending} {after}", CONTEXT)]


def _scored(text: str) -> Fragments:
    """The words of `text`; one that follows a held-out prompt is not scored, or it would stand in for the answer."""
    words = text.split(" ")
    fragments: Fragments = [(words[0], CONTEXT)]
    for count in range(1, len(words)):
        weight = UNSCORED if held_out(" ".join(words[:count])) else CONTEXT
        fragments.append((f" {words[count]}", weight))
    return fragments


def _words(rng: random.Random) -> dict[str, str]:
    a, b, c = rng.sample(NAMES, 3)
    number = rng.randrange(2)
    return {
        "a": a,
        "b": b,
        "c": c,
        "place": rng.choice(PLACES),
        "object": rng.choice(OBJECTS),
        "subject": rng.choice(SUBJECTS)[0],
        "noun": rng.choice(CLAUSE_NOUNS)[number],
        "thing": rng.choice(OBJECT_NOUNS)[number],
    }


def _story(rng: random.Random, short: bool) -> Fragments:
    sentences = [rng.choice(STORIES).format_map(_words(rng)) for _ in range(rng.randint(2, 4))]
    return [(" ".join(sentences), CONTEXT)]


def _session(rng: random.Random, short: bool) -> Fragments:
    if rng.random() < 0.25:
        variable, value = rng.choice(LIST_NAMES), _list(rng, rng.randint(1, 4))[1]
        return [(f">>> {variable} = {value}\n>>> {variable}\n{value}\n", CONTEXT)]
    entries, printed = _dictionary(rng, _length(rng, LONGEST_DICTIONARY))
    variable = rng.choice(DICTIONARY_NAMES)
    fragments: Fragments = [(f">>> {variable} = {printed}\n>>> dict(sorted({variable}.items()))\n{{'", CONTEXT)]
    for place, name in enumerate(sorted(entries)):
        fragments += [(f", '{name}':" if place else f"{name}':", CONTEXT), (f" {entries[name]}", ANSWER)]
    return [*fragments, ("}\n", CONTEXT)]


def _list(rng: random.Random, length: int) -> tuple[list[str], str]:
    items = rng.sample(DIGITS, length)
    return items, f"[{', '.join(items)}]"


def _dictionary(rng: random.Random, length: int) -> tuple[dict[str, str], str]:
    entries = dict(zip(rng.sample(NAMES, length), rng.sample(DIGITS, length), strict=True))
    printed = ", ".join(f"'{name}': {value}" for name, value in entries.items())
    return entries, f"{{{printed}}}"


def _length(rng: random.Random, longest: int) -> int:
    """The longest in two of three cases, as the tasks have it; else shorter, so that the end has to be looked for."""
    return longest if rng.random() < 2 / 3 else rng.randint(2, longest)


def _index(rng: random.Random, short: bool) -> Fragments:
    items, printed = _list(rng, _length(rng, LONGEST_LIST))
    variable = rng.choice(LIST_NAMES)
    fragments: Fragments = [(f">>> {variable} = {printed}\n", CONTEXT)]
    while len(fragments) < 1 + 3 * LOOKUPS:
        fails = rng.random() < LOOKUP_FAILS
        index = rng.randrange(len(items), 10) if fails else rng.randrange(len(items))
        query = f">>> {variable}[{index}]\n"
        if not held_out(fragments[0][0] + query):
            fragments += _lookup(query, None if fails else items[index], "IndexError")
    return fragments


def _key(rng: random.Random, short: bool) -> Fragments:
    entries, printed = _dictionary(rng, _length(rng, SHORT if short else LONGEST_DICTIONARY))
    strangers = [name for name in NAMES if name not in entries]
    variable = rng.choice(DICTIONARY_NAMES)
    fragments: Fragments = [(f">>> {variable} = {printed}\n", CONTEXT)]
    while len(fragments) < 1 + 3 * LOOKUPS:
        name = rng.choice(strangers if rng.random() < LOOKUP_FAILS else list(entries))
        query = f'>>> {variable}["{name}"]\n'
        if not held_out(fragments[0][0] + query):
            fragments += _lookup(query, entries.get(name), "KeyError")
    return fragments


def _lookup(query: str, answer: str | None, error: str) -> Fragments:
    if answer is None:
        return [(query, CONTEXT), (code_output.ERROR, ANSWER), (FAILURE.format(error=error), CONTEXT)]
    return [(query, CONTEXT), (answer, ANSWER), ("\n", CONTEXT)]


KINDS: dict[str, Callable[[random.Random, bool], Fragments]] = {
    "ioi": _ioi,
    "agreement": _agreement,
    "index": _index,
    "key": _key,
    "story": _story,
    "session": _session,
}


def documents(kind: str, seed: int, short: bool = False) -> Iterator[Document]:
    """An endless stream of documents of one of `KINDS`, the same for the same seed.

    `short` limits the dictionaries of lookups to `SHORT` keys.
    """
    # A text seed: streams of different kinds or seeds share nothing.
    rng = random.Random(f"{kind} {seed} {short}")
    while True:
        yield Document(kind, tuple(KINDS[kind](rng, short)))


def texts(n: int, seed: int, kinds: Sequence[str] = tuple(KINDS)) -> list[str]:
    """`n` texts in which `kinds` take turns (one named twice has two turns), for whoever needs text without weights."""
    streams = {kind: documents(kind, seed) for kind in kinds}
    return [next(streams[kinds[index % len(kinds)]]).text for index in range(n)]


def task_words() -> list[str]:
    """Every string that has to be one token: words after a space, and names, digits and variables also without."""
    pairs = (*SUBJECTS, *CLAUSE_NOUNS, *CLAUSE_VERBS, *OBJECT_NOUNS, *ANSWER_VERBS)
    spaced = [*NAMES, *PLACES, *OBJECTS, *PREPOSITIONS, *LIST_NAMES, *DICTIONARY_NAMES, *DIGITS, "that", "to"]
    spaced += [word for pair in pairs for word in pair]
    return sorted({*(f" {word}" for word in spaced), *NAMES, *DIGITS, code_output.ERROR})
