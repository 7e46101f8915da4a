r"""Predicting what a Python session prints: a list index or a dictionary key, and the error when the lookup fails.

index  ">>> data = [4, 7, 5, 6, 8, 1]\n>>> data[4]\n"                    -> "8"; "Traceback" for an index past the end
key    ">>> age = {'Bob': 9, 'Tom': 6, 'Rose': 5}\n>>> age["Tom"]\n"     -> "6"; "Traceback" for a name that is no key

With counterfactual="traceback" (the published pairs) a lookup that works is paired with its twin that fails, and the
twin with it: both directions are drawn equally often. With "other" both look up different entries. Roles follow the
lookup that works, in both prompts of a pair: `target` (index) or `target_key`, `target_value` (key) for the entry that
is asked for, wherever it stands; `items` or `keys`, `values` for the rest; `index` or `query_key` for what is looked
up; `name` and `query_name` for the variable, `close` for the closing bracket, `END` for the final newline. With "other"
the target is the clean prompt's.
"""

import random
from collections.abc import Sequence

from gossamer.errors import UsageError
from gossamer.tasks.lexicon import DICTIONARY_NAMES, DIGITS, LIST_NAMES, NAMES
from gossamer.tasks.prompt import Piece, Prompt, distinct, need

COUNTERFACTUALS = ("traceback", "other")
ERROR = "Traceback"
LONGEST = 6


def sample_index(
    rng: random.Random,
    n: int,
    *,
    length: int = 6,
    variables: Sequence[str] = LIST_NAMES,
    digits: Sequence[str] = DIGITS,
    counterfactual: str = "traceback",
) -> list[Prompt]:
    """`n` different list lookups; items are different single digits, a failing index is `length` to 9.

    Raises:
        UsageError: `length` not in 2..6, unknown counterfactual, too few words, or `n` too large for the words.
    """
    _check(length, counterfactual, "code-index")
    need(digits, length, "code-index digits")
    need(variables, 1, "code-index variables")

    def draw(rng: random.Random) -> Prompt:
        variable, items = rng.choice(list(variables)), rng.sample(list(digits), length)
        target, other = rng.sample(range(length), 2)
        fails = counterfactual == "traceback"
        changed = rng.randrange(length, 10) if fails else other
        works = _list_pieces(variable, items, target, target)
        twin = _list_pieces(variable, items, target, changed)
        return _pair(rng, works, twin, items[target], ERROR if fails else items[other], f"list{length}")

    return distinct(rng, n, draw, "code-index")


def sample_key(
    rng: random.Random,
    n: int,
    *,
    length: int = 5,
    variables: Sequence[str] = DICTIONARY_NAMES,
    names: Sequence[str] = NAMES,
    digits: Sequence[str] = DIGITS,
    counterfactual: str = "traceback",
) -> list[Prompt]:
    """`n` different dictionary lookups; values are different single digits.

    A lookup fails because it asks for a new name, or (as often) because the name it asks for is replaced in the
    dictionary.

    Raises:
        UsageError: `length` not in 2..6, unknown counterfactual, too few words, or `n` too large for the words.
    """
    _check(length, counterfactual, "code-key")
    need(digits, length, "code-key digits")
    need(names, length + 1, "code-key names")
    need(variables, 1, "code-key variables")

    def draw(rng: random.Random) -> Prompt:
        variable, values = rng.choice(list(variables)), rng.sample(list(digits), length)
        *keys, stranger = rng.sample(list(names), length + 1)
        target, other = rng.sample(range(length), 2)
        works = _dictionary_pieces(variable, keys, values, target, keys[target])
        if counterfactual == "other":
            twin = _dictionary_pieces(variable, keys, values, target, keys[other])
        elif rng.random() < 0.5:
            twin = _dictionary_pieces(variable, keys, values, target, stranger)
        else:
            replaced = [stranger if index == target else key for index, key in enumerate(keys)]
            twin = _dictionary_pieces(variable, replaced, values, target, keys[target])
        answer = ERROR if counterfactual == "traceback" else values[other]
        return _pair(rng, works, twin, values[target], answer, f"dictionary{length}")

    return distinct(rng, n, draw, "code-key")


def _list_pieces(variable: str, items: list[str], target: int, index: int) -> tuple[Piece, ...]:
    body: list[Piece] = []
    for position, item in enumerate(items):
        body += [Piece(", " if position else " = ["), Piece(item, "target" if position == target else "items")]
    return _session(variable, body, "]\n>>> ", Piece("["), Piece(str(index), "index"), "]")


def _dictionary_pieces(variable: str, keys: list[str], values: list[str], target: int, query: str) -> tuple[Piece, ...]:
    body: list[Piece] = []
    for position, (key, value) in enumerate(zip(keys, values, strict=True)):
        prefix = "target_" if position == target else ""
        body += [
            Piece(", '" if position else " = {'"),
            Piece(key, f"{prefix}key" if prefix else "keys"),
            Piece("': "),
            Piece(value, f"{prefix}value" if prefix else "values"),
        ]
    return _session(variable, body, "}\n>>> ", Piece('["'), Piece(query, "query_key"), '"]')


def _session(
    variable: str, body: list[Piece], end: str, opening: Piece, query: Piece, closing: str
) -> tuple[Piece, ...]:
    lookup = (Piece(end), Piece(variable, "query_name"), opening, query, Piece(closing, "close"), Piece("\n", "END"))
    return (Piece(">>> "), Piece(variable, "name"), *body, *lookup)


def _pair(
    rng: random.Random, works: tuple[Piece, ...], twin: tuple[Piece, ...], answer: str, incorrect: str, template: str
) -> Prompt:
    """The pair; if one of the two fails, in a random direction."""
    if incorrect == ERROR and rng.random() < 0.5:
        return Prompt(twin, works, incorrect, answer, template, case="fails")
    return Prompt(works, twin, answer, incorrect, template, case="works")


def _check(length: int, counterfactual: str, what: str) -> None:
    if not 2 <= length <= LONGEST:
        raise UsageError(f"{what}: expected a length of 2 to {LONGEST}, found {length}")
    if counterfactual not in COUNTERFACTUALS:
        raise UsageError(
            f"{what}: expected counterfactual to be {' or '.join(COUNTERFACTUALS)}, found {counterfactual!r}"
        )
