"""Edits of subject-verb agreement: other nouns and verbs, other numbers, and phrases with a noun between the two.

The rule: the verb agrees with the first noun, or, within a relative clause that stands open, with the clause's noun;
a phrase of a preposition and a noun changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.circuits.adversarial.edits import PromptEdit, replaced
from gossamer.tasks import lexicon
from gossamer.tasks.prompt import Piece, Prompt
from gossamer.tasks.subject_verb import NUMBERS, Pair

CLASSES = {"noun": ("subject", "noun"), "verb": ("clause_verb",), "preposition": ("preposition",)}
_PAIRS = [
    *(*lexicon.SUBJECTS, *lexicon.SPARE_SUBJECTS, *lexicon.CLAUSE_NOUNS, *lexicon.SPARE_CLAUSE_NOUNS),
    *(*lexicon.OBJECT_NOUNS, *lexicon.CLAUSE_VERBS, *lexicon.ANSWER_VERBS),
]
_FORMS = {form: (pair, number) for pair in _PAIRS for number, form in enumerate(pair)}


@dataclass(frozen=True)
class Phrase:
    """A preposition, "the" and a noun in a number (0 is the singular)."""

    preposition: str
    noun: Pair
    number: int

    @property
    def text(self) -> str:
        return f" {self.preposition} the {self.noun[self.number]}"


@dataclass(frozen=True)
class AgreementScene:
    """A subject in a number, and what stands between it and the verb.

    Attributes:
        structure: see :mod:`gossamer.tasks.subject_verb`.
        subject, noun: words as (singular, plural), with their numbers; "simple" has no noun.
        clause_verb, preposition: of the structures that have one.
        answers: the verb.
        after_subject, after_noun: phrases put there.
    """

    structure: str
    subject: Pair
    number: int
    answers: Pair
    noun: Pair | None = None
    noun_number: int = 0
    clause_verb: Pair | None = None
    preposition: str | None = None
    after_subject: Phrase | None = None
    after_noun: Phrase | None = None

    def prompt(self) -> Prompt:
        """The prompt: the verb agrees with the subject, or with the noun where its clause stands open."""
        pieces = [Piece("The "), Piece(self.subject[self.number], "subject"), *_phrase(self.after_subject)]
        if self.noun is not None:
            link = "preposition" if self.structure == "nounpp" else "that"
            pieces += [Piece(" "), Piece(self.preposition or "that", link), Piece(" the ")]
            pieces += [Piece(self.noun[self.noun_number], "noun"), *_phrase(self.after_noun)]
        if self.clause_verb is not None:
            pieces += [Piece(" "), Piece(self.clause_verb[self.noun_number], "clause_verb")]
        agreeing = self.noun_number if self.structure == "within_rc" else self.number
        case = NUMBERS[self.number] + ("" if self.noun is None else f"_{NUMBERS[self.noun_number]}")
        answer, other = (f" {self.answers[number]}" for number in (agreeing, 1 - agreeing))
        return Prompt(tuple(pieces), tuple(pieces), answer, other, self.structure, case)


def _phrase(phrase: Phrase | None) -> list[Piece]:
    return [] if phrase is None else [Piece(phrase.text)]


def scene(prompt: Prompt) -> AgreementScene:
    """What a prompt of one of the four structures says."""
    words = {piece.role: piece.text.strip() for piece in prompt.clean if piece.role is not None}
    subject, number = _FORMS[words["subject"]]
    noun, noun_number = _FORMS[words["noun"]] if "noun" in words else (None, 0)
    verb = _FORMS[words["clause_verb"]][0] if "clause_verb" in words else None
    answers = _FORMS[prompt.answer.strip()][0]
    return AgreementScene(prompt.template, subject, number, answers, noun, noun_number, verb, words.get("preposition"))


def edits(name: str, words: Mapping[str, Sequence[Any]]) -> list[PromptEdit]:
    """Other words and numbers at every place of the structure, and phrases after its nouns."""
    subjects, nouns = (words.get(key, ()) for key in ("subjects", "nouns"))
    found = [PromptEdit("noun", "subject", pair[0], ("subject",)) for pair in subjects]
    found += [PromptEdit("number", "subject", touches=("subject",))]
    places = ["subject"]
    if name != "sva-simple":
        found += [PromptEdit("noun", "noun", pair[0], ("noun",)) for pair in nouns]
        found += [PromptEdit("number", "noun", touches=("noun",))]
        places.append("noun")
    if name == "sva-rc":
        found += [PromptEdit("verb", "clause_verb", pair[0], ("clause_verb",)) for pair in lexicon.CLAUSE_VERBS]
    if name == "sva-nounpp":
        found += [PromptEdit("preposition", "preposition", one, ("preposition",)) for one in lexicon.PREPOSITIONS]
    # Nouns of the prompts that are kept apart stand in no edit.
    phrases = nouns if name == "sva-nounpp" else lexicon.OBJECT_NOUNS
    for place in places:
        for pair in phrases:
            for preposition in lexicon.PREPOSITIONS:
                for number in (0, 1):
                    text = f"{preposition} the {pair[number]}"
                    found.append(PromptEdit(f"{NUMBERS[number]} phrase", f"after {place}", text, ("noun",)))
    return found


def _noun(scene: AgreementScene, edit: PromptEdit) -> AgreementScene | None:
    pair = _FORMS[edit.word][0]
    if edit.where == "noun" and scene.noun is None:
        return None
    return replaced(scene, **{edit.where: pair})


def _number(scene: AgreementScene, edit: PromptEdit) -> AgreementScene | None:
    if edit.where == "subject":
        return replaced(scene, number=1 - scene.number)
    return None if scene.noun is None else replaced(scene, noun_number=1 - scene.noun_number)


def _verb(scene: AgreementScene, edit: PromptEdit) -> AgreementScene | None:
    return None if scene.clause_verb is None else replaced(scene, clause_verb=_FORMS[edit.word][0])


def _preposition(scene: AgreementScene, edit: PromptEdit) -> AgreementScene | None:
    return None if scene.preposition is None else replaced(scene, preposition=edit.word)


def _after(scene: AgreementScene, edit: PromptEdit) -> AgreementScene | None:
    preposition, _, form = edit.word.split()
    phrase = Phrase(preposition, *_FORMS[form])
    if edit.where == "after noun":
        return None if scene.noun is None else replaced(scene, after_noun=phrase)
    return replaced(scene, after_subject=phrase)


CHANGES = {
    "noun": _noun,
    "number": _number,
    "verb": _verb,
    "preposition": _preposition,
    "singular phrase": _after,
    "plural phrase": _after,
}
