"""Subject-verb agreement in four structures; clean and counterfactual differ in the number of one noun.

simple     "The {subject}"                                    the verb agrees with the subject
rc         "The {subject} that the {noun} {clause_verb}"      with the subject, across a relative clause
within_rc  "The {subject} that the {noun}"                    with the noun of the clause
nounpp     "The {subject} {preposition} the {noun}"           with the subject, across a prepositional phrase

Roles: `subject`, `that`, `noun`, `clause_verb`, `preposition`; the determiners are gaps.
Source of the structures: Finlayson et al. 2021 (arXiv 2106.06087) and Marks et al. 2024 (arXiv 2403.19647).
"""

import random
from collections.abc import Sequence

from gossamer.errors import UsageError
from gossamer.tasks.lexicon import ANSWER_VERBS, CLAUSE_NOUNS, CLAUSE_VERBS, OBJECT_NOUNS, PREPOSITIONS, SUBJECTS
from gossamer.tasks.prompt import Piece, Prompt, distinct, fill, need

Pair = tuple[str, str]
Pairs = Sequence[Pair]

PATTERNS: dict[str, str] = {
    "simple": "The {subject}",
    "rc": "The {subject} {that} the {noun} {clause_verb}",
    "within_rc": "The {subject} {that} the {noun}",
    "nounpp": "The {subject} {preposition} the {noun}",
}
NUMBERS = ("singular", "plural")


def sample(
    rng: random.Random,
    n: int,
    *,
    structure: str = "rc",
    subjects: Pairs = SUBJECTS,
    nouns: Pairs | None = None,
    clause_verbs: Pairs = CLAUSE_VERBS,
    prepositions: Sequence[str] = PREPOSITIONS,
    answers: Pairs = ANSWER_VERBS,
) -> list[Prompt]:
    """`n` different prompts of one structure.

    Args:
        rng: source of all randomness.
        n: how many; the same text with another pair of answer verbs counts as another prompt.
        structure: "simple", "rc", "within_rc" or "nounpp".
        subjects, nouns, clause_verbs, answers: words as (singular, plural). `nouns` defaults to people in a relative
            clause and to things after a preposition.
        prepositions: for "nounpp".

    Raises:
        UsageError: unknown structure, too few words, or `n` too large for the words.
    """
    if structure not in PATTERNS:
        raise UsageError(f"structure: expected one of {', '.join(PATTERNS)}; found {structure!r}")
    nouns = nouns if nouns is not None else OBJECT_NOUNS if structure == "nounpp" else CLAUSE_NOUNS
    for words, what in ((subjects, "subjects"), (nouns, "nouns"), (clause_verbs, "clause verbs"), (answers, "answers")):
        need(words, 1, f"subject-verb {what}")
    need(prepositions, 1, "subject-verb prepositions")

    lists = (subjects, nouns, clause_verbs, answers)

    def draw(rng: random.Random) -> Prompt:
        number, other = rng.randrange(2), rng.randrange(2)
        subject, noun, verb, answer = (rng.choice(list(pairs)) for pairs in lists)
        words = (subject, noun, verb, rng.choice(list(prepositions)))
        agreeing, changed = (other, (number, 1 - other)) if structure == "within_rc" else (number, (1 - number, other))
        return Prompt(
            clean=_pieces(structure, words, number, other),
            counterfactual=_pieces(structure, words, *changed),
            answer=f" {answer[agreeing]}",
            incorrect=f" {answer[1 - agreeing]}",
            template=structure,
            case=NUMBERS[number] if structure == "simple" else f"{NUMBERS[number]}_{NUMBERS[other]}",
        )

    return distinct(rng, n, draw, f"subject-verb {structure}")


def _pieces(structure: str, words: tuple[Pair, Pair, Pair, str], number: int, other: int) -> tuple[Piece, ...]:
    """The prompt with the subject in `number` and the noun in `other`, where 0 is the singular."""
    subject, noun, clause_verb, preposition = words
    found = {
        "subject": subject[number],
        "that": "that",
        "noun": noun[other],
        "clause_verb": clause_verb[other],
        "preposition": preposition,
    }
    return fill(PATTERNS[structure], {role: Piece(word, role) for role, word in found.items()})
