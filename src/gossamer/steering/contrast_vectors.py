"""Rows of a sweep that are made of contrasts: ActAdd of two prompts, CAA and PCA of pairs of texts."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.files import read_json_lines
from gossamer.model.language_model import LanguageModel
from gossamer.steering.vectors import ContrastStates, SteeringVector, activation_addition, caa, contrast_states, pca

CONTRAST_ROWS = ("act_add", "caa", "pca")


@dataclass(frozen=True)
class ContrastPairs:
    """Pairs of texts that differ in one thing, as a question with either answer.

    Attributes:
        positive, negative: the texts, pair by pair.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if len(self.positive) != len(self.negative) or len(self.positive) < 2:
            raise UsageError(
                f"pairs: at least 2 pairs of texts expected, found {len(self.positive)} positive and "
                f"{len(self.negative)} negative ones"
            )

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.positive), "pair")

    @classmethod
    def read(cls, path: str | Path) -> "ContrastPairs":
        """From a file with {"positive": ..., "negative": ...} a line.

        Raises:
            UsageError: a line that is none, or fewer than two.
        """
        pairs = []
        for number, value in read_json_lines(path):
            given = value if isinstance(value, dict) else {}
            texts = [text for side in ("positive", "negative") if isinstance(text := given.get(side), str) and text]
            if len(texts) != 2:
                raise UsageError(f'{path}, line {number}: {{"positive": "...", "negative": "..."}} expected')
            pairs.append(texts)
        return cls(tuple(one for one, _ in pairs), tuple(other for _, other in pairs))


@dataclass(frozen=True, eq=False)
class ContrastVectors:
    """Vectors of contrasts, and which there are none of.

    Attributes:
        vectors: by method.
        absent: methods that lack what they are made of, with the reason.
    """

    vectors: Mapping[str, SteeringVector]
    absent: Mapping[str, str]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield ", ".join(self.vectors) or "none"


def contrast_vectors(
    model: LanguageModel,
    states: ContrastStates,
    continued: Sequence[str],
    *,
    pairs: ContrastPairs | None = None,
    act_add: tuple[str, str] | None = None,
    rows: Collection[str] = CONTRAST_ROWS,
) -> ContrastVectors:
    """The rows that are asked for, at the site of `states`.

    Args:
        states: of texts with the concept and without it; PCA pairs these, first with first, where there are no `pairs`.
        continued: prompts of the sweep, which ActAdd's vectors have to fit into.
        pairs: of texts, for CAA (their last tokens) and PCA (their means).
        act_add: two prompts, what is wanted and what is not.

    Raises:
        UsageError: prompts for ActAdd that are one, or longer than a prompt that is continued.
    """
    found, absent = dict[str, SteeringVector](), dict[str, str]()
    if "pca" in rows:
        count = min(int(states.positive_texts.max()), int(states.negative_texts.max())) + 1
        own = states.first(count)
        found["pca"] = pca(own if pairs is None else contrast_states(model, *_sides(pairs), states.site))
    if "caa" in rows and pairs is not None:
        found["caa"] = caa(model, *_sides(pairs), states.site)
    elif "caa" in rows:
        absent["caa"] = "pairs of texts that differ in their last token were not given; give --pairs FILE"
    if "act_add" in rows and act_add is not None:
        require_room(model, continued, act_add)
        found["act_add"] = activation_addition(model, *act_add, states.site)
    elif "act_add" in rows:
        absent["act_add"] = "two prompts were not given; give --act-add WANTED UNWANTED"
    return ContrastVectors(found, absent)


def _sides(pairs: ContrastPairs) -> tuple[list[str], list[str]]:
    return list(pairs.positive), list(pairs.negative)


def require_room(model: LanguageModel, continued: Sequence[str], act_add: tuple[str, str]) -> None:
    """Refuse prompts of ActAdd that are longer than one that is to be continued; nothing runs."""
    length = int(model.tokenize(list(act_add)).lengths.max())
    lengths = model.tokenize(list(continued)).lengths.tolist()
    shortest = min(range(len(lengths)), key=lengths.__getitem__)
    if lengths[shortest] < length:
        raise UsageError(
            f"act_add: prompts of at least {length} tokens to continue expected, found {lengths[shortest]} "
            f"({continued[shortest]!r}); give shorter prompts to ActAdd, or longer ones to continue"
        )
