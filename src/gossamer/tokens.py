"""A batch of tokenised prompts."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gossamer.display import plural, short_repr


@dataclass(frozen=True)
class Tokens:
    """Token ids with the mask of real tokens (False is padding, on either side).

    Attributes:
        ids: token ids; whatever stands at padding is ignored.
        mask: True at real tokens.
    """

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        rows, width = self.ids.shape
        yield f"{plural(rows, 'row')} of {width} positions"
        yield f"{plural(int(self.mask.sum()), 'token')} on {self.ids.device}"

    @classmethod
    def full(cls, ids: Int[Tensor, "batch pos"]) -> "Tokens":
        """Rows without padding."""
        return Tokens(ids, torch.ones_like(ids, dtype=torch.bool))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | Int[Tensor, "rows"]) -> "Tokens":
        return Tokens(self.ids[rows], self.mask[rows])

    @property
    def lengths(self) -> Int[Tensor, "batch"]:
        """Number of real tokens of each row."""
        return self.mask.sum(dim=1)

    @property
    def last(self) -> Int[Tensor, "batch"]:
        """Position of each row's last real token."""
        positions = torch.arange(self.mask.shape[1], device=self.mask.device)
        return torch.where(self.mask, positions, -1).amax(dim=1)

    @property
    def first(self) -> Bool[Tensor, "batch pos"]:
        """True at each row's first real token."""
        return self.mask & (self.mask.cumsum(dim=1) == 1)

    def cut(self, length: int) -> "Tokens":
        """The first `length` positions of every row; for rows that are padded on the right."""
        return Tokens(self.ids[:, :length], self.mask[:, :length])

    def to(self, device: torch.device | str) -> "Tokens":
        """The same batch on `device`."""
        return Tokens(self.ids.to(device), self.mask.to(device))
