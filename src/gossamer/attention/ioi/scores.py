"""Which pairs of latents make a name-moving head attend to the indirect object, and how much of its score they explain.

The score is a sum over pairs of what the query and the key are made of (:mod:`gossamer.attention.qk`). Over prompts it
varies, and each pair's covariance with it is its share of that variance: the shares of all pairs sum to 1. A sum of
some pairs explains 1 - var(score - sum) / var(score) of it, without any fitted coefficient. Pairs are chosen by that on
some prompts and measured on others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.attention.frozen import FrozenPass
from gossamer.attention.ioi.patching import AttentionHead
from gossamer.attention.ioi.prompts import EncodedPrompts
from gossamer.attention.qk import HeadMaps, attribute_score
from gossamer.attention.source import Source
from gossamer.display import plural, short_repr

Target = Literal["IO", "IO - S1"]
# Pairs among which the best ones are looked for.
_CANDIDATES = 512
TARGETS: tuple[Target, ...] = ("IO", "IO - S1")


class Pair(NamedTuple):
    """A part of the query at END, and a part of the key at the token of a role; places are the roles' names."""

    query: Source
    key: Source

    def __str__(self) -> str:
        return f"{self.query} x {self.key}"


@dataclass(frozen=True, eq=False)
class ScoreTables:
    """A head's score from END in many prompts, each as a table of pairs.

    Attributes:
        head: the head.
        target: the score to the indirect object, or that minus the score to the subject's first mention.
        queries, keys: the parts that occur, over all prompts.
        tables: of each prompt: numbers of its parts among `queries` and `keys`, and the shares.
        scores: what the tables sum to (but for what a family that caps its scores adds).
    """

    head: AttentionHead
    target: Target
    queries: tuple[Source, ...]
    keys: tuple[Source, ...]
    tables: tuple[tuple[Int[Tensor, "_"], Int[Tensor, "_"], Float[Tensor, "_ _"]], ...]
    scores: Float[Tensor, "prompt"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"head {self.head}, {self.target}"
        yield plural(len(self.tables), "prompt")

    def values(self, pairs: Sequence[Pair]) -> Float[Tensor, "pair prompt"]:
        """Shares of the pairs in the scores of every prompt; 0 where one does not occur."""
        queries = {source: number for number, source in enumerate(self.queries)}
        keys = {source: number for number, source in enumerate(self.keys)}
        found = self.scores.new_zeros(len(pairs), len(self.tables))
        for prompt, (rows, columns, table) in enumerate(self.tables):
            row = {number: place for place, number in enumerate(rows.tolist())}
            column = {number: place for place, number in enumerate(columns.tolist())}
            for number, pair in enumerate(pairs):
                at = row.get(queries.get(pair.query, -1)), column.get(keys.get(pair.key, -1))
                if at[0] is not None and at[1] is not None:
                    found[number, prompt] = table[at[0], at[1]]
        return found

    def covariances(self) -> Float[Tensor, "query key"]:
        """Of every pair's share with the score, over prompts; their sum is the score's variance."""
        centred = (self.scores - self.scores.mean()) / len(self.scores)
        found = self.scores.new_zeros(len(self.queries), len(self.keys))
        for (rows, columns, table), weight in zip(self.tables, centred, strict=True):
            found[rows.unsqueeze(1), columns] += weight * table
        return found

    def chosen(self, n: int, *, latents: bool) -> list[Pair]:
        """At most n pairs whose sum explains most of the scores' variance, the best next one first.

        They are taken from the 512 pairs of largest covariance; fewer than n where no further one explains more.

        Args:
            n: how many.
            latents: of latents alone, or of all parts.
        """
        found = self.covariances()
        if latents:
            rows, columns = (
                torch.tensor([one.kind == "latent" for one in parts]) for parts in (self.queries, self.keys)
            )
            found = found.masked_fill(~(rows.unsqueeze(1) & columns), float("-inf"))
        width, top = len(self.keys), found.flatten().topk(min(_CANDIDATES, found.numel()))
        places = top.indices[top.values.isfinite()].tolist()
        candidates = [Pair(self.queries[place // width], self.keys[place % width]) for place in places]
        values = self.values(candidates)
        values = values - values.mean(dim=1, keepdim=True)
        left = self.scores - self.scores.mean()
        order: list[int] = []
        for _ in range(min(n, len(candidates))):
            gains = 2 * values @ left - values.square().sum(dim=1)
            gains[order] = float("-inf")
            best = int(gains.argmax())
            if gains[best] <= 0:
                break
            order.append(best)
            left = left - values[best]
        return [candidates[number] for number in order]

    def by_kind(self) -> dict[tuple[str, str], float]:
        """Shares of the variance by kinds of parts: latents, errors, biases, MLPs, embeddings."""
        shares = self.covariances() / self.scores.var(unbiased=False)
        kinds = sorted({one.kind for one in (*self.queries, *self.keys)})
        rows, columns = (
            torch.tensor([[one.kind == kind for kind in kinds] for one in parts]).to(shares)
            for parts in (self.queries, self.keys)
        )
        table = (rows.T @ shares @ columns).tolist()
        found = {(one, other): table[row][place] for row, one in enumerate(kinds) for place, other in enumerate(kinds)}
        return {names: value for names, value in found.items() if value}


@torch.no_grad()
def score_tables(passes: Sequence[tuple[FrozenPass, EncodedPrompts]], head: AttentionHead) -> dict[Target, ScoreTables]:
    """Tables of a head's score from END to the indirect object, and of its lead over the subject's first mention.

    Memory: parts of a query x parts of two keys, for each prompt.

    Args:
        passes: prompts of one length each, with the pass over them.
        head: the head.
    """
    queries: dict[Source, int] = {}
    keys: dict[Source, int] = {}
    lead, first, scores = [], [], []
    for frozen, prompts in passes:
        maps = HeadMaps(frozen, head.layer)
        places = zip(*(prompts.places[role].tolist() for role in ("END", "IO", "S1")), strict=True)
        for row, (end, io, subject) in enumerate(places):
            found = attribute_score(maps, head.head, end, io, row=row, against=subject)
            half = len([one for one in found.keys if one.place == io])
            rows = [queries.setdefault(one._replace(place="END"), len(queries)) for one in found.queries]
            columns = [
                keys.setdefault(one._replace(place="IO" if one.place == io else "S1"), len(keys)) for one in found.keys
            ]
            lead.append((torch.tensor(rows), torch.tensor(columns), found.table.cpu()))
            first.append((lead[-1][0], lead[-1][1][:half], lead[-1][2][:, :half]))
            scores.append((float(maps.scores[row, head.head, end, io]), found.score))
    both = torch.tensor(scores, dtype=torch.float64)
    names = tuple(queries), tuple(keys)
    return {
        "IO": ScoreTables(head, "IO", *names, tuple(first), both[:, 0]),
        "IO - S1": ScoreTables(head, "IO - S1", *names, tuple(lead), both[:, 1]),
    }


def explained(scores: Float[Tensor, "prompt"], parts: Float[Tensor, "pair prompt"]) -> float:
    """Share of the scores' variance over prompts that the sum of some parts explains, with coefficient 1."""
    left = (scores - parts.sum(dim=0).to(scores)).var(unbiased=False)
    return float(1 - left / scores.var(unbiased=False))


def shares_of(scores: Float[Tensor, "prompt"], parts: Float[Tensor, "pair prompt"]) -> list[float]:
    """Each part's covariance with the scores, as a share of their variance."""
    centred = scores - scores.mean()
    return ((parts.to(scores) @ centred) / centred.square().sum()).tolist()
