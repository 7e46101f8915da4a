"""One site's share of a splice: the columns of its nodes, and what they are moved from and to."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.nodes import SiteNodes
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr


@dataclass(frozen=True, eq=False)
class SitePlan:
    """Columns, their ablation values, and the constant that all other latents are folded into.

    Attributes:
        dictionary: at the site.
        nodes: of the site.
        ablated: ablation values of the columns' latents by ablation group, where they are of groups.
        constant: what the ablation values of all latents decode to, where they are the same for every prompt.
        kept: whether latents that are no node keep their values, so that columns move away from these.
    """

    dictionary: Dictionary
    nodes: SiteNodes
    ablated: Float[Tensor, "group latent"] | None
    constant: Float[Tensor, "group d"] | None
    kept: bool

    __repr__ = short_repr

    @cached_property
    def decoder(self) -> Float[Tensor, "latent d"]:
        """Rows of the columns' latents."""
        return self.dictionary.W_dec[self.nodes.columns]

    @cached_property
    def base(self) -> Float[Tensor, "column"]:
        """The mask that a column has where it is no node: 1 for a latent that is kept, never for an error."""
        base = self.dictionary.W_dec.new_zeros(self.nodes.width)
        base[: len(self.nodes.columns)] = float(self.kept)
        return base


def denormalised(
    dictionary: Dictionary, x: Float[Tensor, "*batch d"], out: Float[Tensor, "*batch d"]
) -> Float[Tensor, "*batch d"]:
    """A decoder's output in the units of the stream that the dictionary reads."""
    return dictionary.denormalise(out, dictionary.normalise(x)[1])


def in_stream(
    dictionary: Dictionary, x: Float[Tensor, "*batch d"], change: Float[Tensor, "*batch d"]
) -> Float[Tensor, "*batch d"]:
    """A change of the decoder's output in the units of the stream (denormalising is affine: take the difference)."""
    return denormalised(dictionary, x, change) - denormalised(dictionary, x, change.new_zeros(change.shape))
