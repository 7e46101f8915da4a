"""Whether a judge says what a list of words says: ten completions, shown with both."""

from typing import NamedTuple

import torch

from gossamer.results import Record
from gossamer.seeding import generator
from gossamer.steering.sweep import SweepRow


class JudgedCompletion(NamedTuple):
    """A completion, whether it has one of the concept's words, and the judge's rating of the concept."""

    text: str
    listed: bool
    concept: float

    @property
    def agrees(self) -> bool:
        """Whether the judge sees the concept just where the list does."""
        return self.listed == (self.concept > 0)


def judged_examples(record: Record[SweepRow], count: int = 10, seed: int = 0) -> list[JudgedCompletion]:
    """Completions with a word of the concept and as many without one, drawn from the kept ones that were rated; each
    text once, fewer where there are not enough, none without a judge."""
    sides: dict[bool, list[JudgedCompletion]] = {True: [], False: []}
    for row in record.rows:
        for text, words, ratings in zip(row.examples, row.words.tolist(), row.ratings, strict=False):
            if ratings is not None:
                sides[words > 0].append(JudgedCompletion(text, words > 0, ratings.concept))
    found = []
    for listed, side in sides.items():
        different = list(dict.fromkeys(side))
        order = torch.randperm(len(different), generator=generator(seed, "judged examples", int(listed)))
        found += [different[place] for place in order[: count // 2].tolist()]
    return found
