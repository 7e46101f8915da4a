"""Which latents of two dictionaries are the same: by the directions that they write and read."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.features.lens import writes_to_stream

# From which cosine on two latents are called the same (Paulo & Belrose 2025, arXiv 2501.16615).
SAME = 0.7
# Cosines that stand in memory at a time.
_BLOCK_VALUES = 2**24


@dataclass(frozen=True, eq=False)
class LatentMatches:
    """The nearest latent of another dictionary for each latent of one.

    Attributes:
        other: the latent of the other dictionary whose decoder row has the largest cosine with it.
        decoder: that cosine.
        encoder: cosine of the encoder columns of the same two.
        mutual: whether it is in turn the nearest of that one.
        control: the largest cosine with the other's decoder rows turned by one random rotation: what directions that
            know nothing of this dictionary reach, with the same geometry among themselves.
    """

    other: Int[Tensor, "n"]
    decoder: Float[Tensor, "n"]
    encoder: Float[Tensor, "n"]
    mutual: Bool[Tensor, "n"]
    control: Float[Tensor, "n"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield plural(len(self.other), "latent")
        yield f"{self.shared:.1%} shared ({self.by_chance:.1%} by chance)"
        yield f"mean largest cosine {self.decoder.mean().item():.3f} ({self.control.mean().item():.3f} by chance)"

    @property
    def shared(self) -> float:
        """Share of the latents with a mutual match of which both cosines are at least SAME."""
        alike = (self.decoder >= SAME) & (self.encoder >= SAME)
        return (self.mutual & alike).double().mean().item()

    @property
    def by_chance(self) -> float:
        """Share of the latents whose control reaches SAME: more than what a mutual match of both would be."""
        return (self.control >= SAME).double().mean().item()


@torch.no_grad()
def match_latents(one: Dictionary, other: Dictionary, *, seed: int = 0) -> LatentMatches:
    """Match the latents of two dictionaries by the cosines of their decoder rows.

    Nearest neighbours, not an assignment: a latent that the other dictionary splits into two has one match, and two
    latents may have the same. Memory: 2**24 cosines. Cost: twice d x n x m multiplications.

    Args:
        one: each of its latents is matched.
        other: a dictionary that writes into the same space: the residual stream, or else the same site.
        seed: of the control's rotation.

    Raises:
        UsageError: dictionaries that write into different spaces.
    """
    _require_one_space(one, other)
    rows, columns = _units(one.W_dec), _units(other.W_dec).to(one.W_dec.device)
    nearest, decoder = _nearest(rows, columns)
    back, _ = _nearest(columns, rows)
    encoder = (_units(one.W_enc.T) * _units(other.W_enc.T).to(rows.device)[nearest]).sum(dim=1)
    mutual = back[nearest] == torch.arange(len(nearest), device=rows.device)
    _, control = _nearest(rows, columns @ _rotation(columns.shape[1], seed).to(columns))
    found = (value.cpu() for value in (nearest, decoder, encoder, mutual, control))
    return LatentMatches(*found)


def _require_one_space(one: Dictionary, other: Dictionary) -> None:
    spaces = [dictionary.site_out or dictionary.site for dictionary in (one, other)]
    both_in_stream = all(space is not None and writes_to_stream(space) for space in spaces)
    if one.W_dec.shape[1] != other.W_dec.shape[1] or not (both_in_stream or spaces[0] == spaces[1]):
        raise UsageError(
            f"matching latents: dictionaries that write into the same space expected, found {spaces[0]} of width "
            f"{one.W_dec.shape[1]} and {spaces[1]} of width {other.W_dec.shape[1]}"
        )


def _units(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    return torch.nn.functional.normalize(rows.detach().float(), dim=1)


def _nearest(rows: Float[Tensor, "n d"], columns: Float[Tensor, "m d"]) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """For each row the column with the largest product, and the product."""
    parts = [(part @ columns.T).max(dim=1) for part in torch.split(rows, max(1, _BLOCK_VALUES // len(columns)))]
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])


def _rotation(width: int, seed: int) -> Float[Tensor, "d d"]:
    """A random orthogonal matrix."""
    drawn = torch.randn(width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.linalg.qr(drawn)[0]
