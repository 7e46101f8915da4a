"""Whether a judge of completions can judge: texts of people whose concept is known, asked like completions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gossamer.chat.chat import MOST_FAILURES, Ability, Failure, ability
from gossamer.display import short_repr
from gossamer.statistics import Interval, auroc, newcombe
from gossamer.steering.benefit import WordList
from gossamer.steering.judge import CompletionJudge

# Texts of a side: most that are asked about, and fewest that say anything.
MOST, FEWEST = 10, 5
_WHY = {
    Ability.AT_CHANCE: "is at chance, or not far enough from it",
    Ability.UNANSWERED: "did not answer in a form that could be read",
}
# Words of a text that stand for the prompt.
_BEGINNING = 4


@dataclass(frozen=True)
class JudgeGold:
    """What a judge makes of the concept in texts that have it and in texts that have not.

    Attributes:
        auroc: of its ratings of the concept; None where more than a fifth of them failed, or a side has none.
        rated, failed: texts.
    """

    auroc: Interval | None
    rated: int
    failed: int

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield str(self)

    def __str__(self) -> str:
        found = "no AUROC" if self.auroc is None else f"AUROC {self.auroc}"
        return f"{found} on {self.rated} texts whose answer is known, {self.failed} without a rating"

    @property
    def ability(self) -> Ability:
        """What the judge is worth; only what an able one says ranks anything."""
        return ability(self.auroc)

    @property
    def said(self) -> str:
        """The numbers, and whether the judge ranks anything."""
        return f"{self}{'' if self.ability is Ability.ABLE else f'; it {_WHY[self.ability]}: it ranks nothing'}"

    def to_json(self) -> dict[str, Any]:
        """As records keep it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "JudgeGold":
        """From :meth:`to_json`."""
        return cls(Interval(**value["auroc"]) if value["auroc"] else None, value["rated"], value["failed"])


def judge_gold(
    judge: CompletionJudge, words: WordList, with_concept: Sequence[str], without: Sequence[str]
) -> JudgeGold | None:
    """Ask a judge of texts with a word of the concept and of texts without one, the first words of each as its prompt.

    None where there are fewer than 5 of a kind.
    """
    pairs = [[_parted(text) for text in side] for side in (with_concept, without)]
    ours = [one for one in pairs[0] if words.count(one[1])][:MOST]
    theirs = [one for one in pairs[1] if one[1] and not words.count("".join(one))][:MOST]
    if min(len(ours), len(theirs)) < FEWEST:
        return None
    # In turn, so that their order says nothing.
    asked = [one for several in zip(ours, theirs, strict=False) for one in several]
    asked += [*ours[len(theirs) :], *theirs[len(ours) :]]
    answers = judge.rate(", ".join(words.words), [one for one, _ in asked], [text for _, text in asked])
    rated: tuple[list[float], list[float]] = ([], [])
    for (_, text), answer in zip(asked, answers, strict=True):
        if not isinstance(answer, Failure):
            rated[0 if words.count(text) else 1].append(answer.concept)
    count = len(rated[0]) + len(rated[1])
    failed = len(asked) - count
    if failed > MOST_FAILURES * len(asked) or not rated[0] or not rated[1]:
        return JudgeGold(None, count, failed)
    return JudgeGold(newcombe(auroc(*rated), len(rated[0]), len(rated[1])), count, failed)


def _parted(text: str) -> tuple[str, str]:
    """The first words of a text, and the rest."""
    parts = text.split(" ")
    return " ".join(parts[:_BEGINNING]), " ".join(["", *parts[_BEGINNING:]])
