"""From spelled prompts to tensors: role and ablation group numbers, padding, alignment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from gossamer.tasks.metric import Metric
from gossamer.tasks.prompt import Prompt
from gossamer.tasks.prompt_pairs import PromptPairs, TokenizedPrompts, is_aligned
from gossamer.tasks.prompt_tokenizer import BOS, END, Spelled
from gossamer.tokens import Tokens

Place = tuple[str, str, int]
"""An ablation group as (template, role, offset within the role's run)."""


@dataclass(frozen=True)
class EncodedRow:
    """One prompt, ready to encode: both texts in tokens and the ids of its answers.

    Attributes:
        answers, incorrect: ids of the right and of the wrong answers, at least one of each and none in both.
        shortened: answers of several tokens, for which the first stands.
    """

    prompt: Prompt
    clean: Spelled
    counterfactual: Spelled
    answers: tuple[int, ...]
    incorrect: tuple[int, ...]
    shortened: tuple[str, ...] = ()


class AblationGroups:
    """The ablation groups over which means can be taken: those that occur in the training counterfactuals.

    A token further into a role's run than any training counterfactual has the ablation group of the last offset there.
    """

    def __init__(self, train: Sequence[EncodedRow]) -> None:
        """Number the ablation groups of the counterfactuals of `train`, in order of appearance."""
        self.numbers: dict[Place, int] = {}
        for row in train:
            for role, offset in _places(row.counterfactual):
                self.numbers.setdefault((row.prompt.template, role, offset), len(self.numbers))
        self._roles = {(template, role) for template, role, _ in self.numbers}

    @classmethod
    def of(cls, places: Sequence[Place]) -> "AblationGroups":
        """Those at these places, in their order."""
        found = cls(())
        found.numbers = {place: number for number, place in enumerate(places)}
        found._roles = {(template, role) for template, role, _ in places}
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Each ablation group as ``template/role+offset``."""
        return tuple(f"{template}/{role}+{offset}" for template, role, offset in self.numbers)

    def missing(self, row: EncodedRow) -> str | None:
        """A role of `row` that no training counterfactual of its template has: it cannot be ablated to a mean."""
        for spelled in (row.clean, row.counterfactual):
            for role, _ in _places(spelled):
                if (row.prompt.template, role) not in self._roles:
                    return role
        return None

    def number(self, template: str, role: str, offset: int) -> int:
        """The ablation group of a token."""
        while (template, role, offset) not in self.numbers:
            offset -= 1
        return self.numbers[template, role, offset]


def usable(
    train: Sequence[EncodedRow], test: Sequence[EncodedRow]
) -> tuple[list[EncodedRow], list[EncodedRow], dict[str, int]]:
    """Rows all of whose roles have a training mean, and how many of the others were left out for want of which role."""
    left_out: dict[str, int] = {}
    kept_train, kept_test = list(train), list(test)
    while True:
        ablation_groups = AblationGroups(kept_train)
        bad = [role for row in (*kept_train, *kept_test) if (role := ablation_groups.missing(row)) is not None]
        if not bad:
            return kept_train, kept_test, left_out
        for role in bad:
            left_out[role] = left_out.get(role, 0) + 1
        kept_train = [row for row in kept_train if ablation_groups.missing(row) is None]
        kept_test = [row for row in kept_test if ablation_groups.missing(row) is None]


def role_names(rows: Sequence[EncodedRow]) -> tuple[str, ...]:
    """All roles in reading order: by their mean place in the prompts, the last token's role last."""
    places: dict[str, list[float]] = {}
    for row in rows:
        for spelled in (row.clean, row.counterfactual):
            for index, role in enumerate(spelled.roles):
                if role != BOS:
                    places.setdefault(role, []).append(index / len(spelled.roles))
    order = {role: sum(where) / len(where) for role, where in places.items()}
    return tuple(sorted(order, key=lambda role: (role == END, order[role], role)))


def encode(
    rows: Sequence[EncodedRow], roles: Sequence[str], ablation_groups: AblationGroups, padding: int, metric: Metric
) -> PromptPairs:
    """Tensors of `rows`, padded on the right with `padding` to the longest text of each side."""
    numbers = {role: number for number, role in enumerate(roles)}
    templates = [row.prompt.template for row in rows]
    clean = _encode([row.clean for row in rows], templates, numbers, ablation_groups, padding)
    counterfactual = _encode([row.counterfactual for row in rows], templates, numbers, ablation_groups, padding)
    return PromptPairs(
        clean,
        counterfactual,
        torch.tensor([row.answers[0] for row in rows], dtype=torch.long),
        torch.tensor([row.incorrect[0] for row in rows], dtype=torch.long),
        tuple(row.prompt for row in rows),
        is_aligned(clean, counterfactual),
        _more([row.answers[1:] for row in rows]),
        _more([row.incorrect[1:] for row in rows]),
        metric,
    )


def _more(answers: Sequence[tuple[int, ...]]) -> Int[Tensor, "batch more"] | None:
    return _padded(answers, -1) if any(answers) else None


def _encode(
    texts: Sequence[Spelled],
    templates: Sequence[str],
    numbers: Mapping[str, int],
    ablation_groups: AblationGroups,
    padding: int,
) -> TokenizedPrompts:
    roles, places = [], []
    for spelled, template in zip(texts, templates, strict=True):
        roles.append([numbers.get(role, -1) for role in spelled.roles])
        pairs = zip(spelled.roles, spelled.offsets, strict=True)
        places.append([-1 if role == BOS else ablation_groups.number(template, role, offset) for role, offset in pairs])
    lengths = torch.tensor([len(spelled.ids) for spelled in texts])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    ids = _padded([spelled.ids for spelled in texts], padding)
    return TokenizedPrompts(Tokens(ids, mask), _padded(roles, -1), _padded(places, -1), lengths - 1)


def _padded(rows: Sequence[Sequence[int]], value: int) -> Int[Tensor, "batch pos"]:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)


def _places(spelled: Spelled) -> list[tuple[str, int]]:
    return [pair for pair in zip(spelled.roles, spelled.offsets, strict=True) if pair[0] != BOS]
