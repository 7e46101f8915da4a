"""A dictionary with a way to find its codes."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import short_repr
from gossamer.errors import UsageError
from gossamer.model.site import Site
from gossamer.sparse.latents import SparseLatents


@dataclass(frozen=True)
class EncodingMethod:
    """A dictionary with a way to find its codes: its own encoder, a pursuit, or whatever gives latents of it."""

    dictionary: Dictionary
    encode: Callable[[Float[Tensor, "tokens d"]], SparseLatents]

    __repr__ = short_repr

    @property
    def site(self) -> Site:
        """Where it reads."""
        if self.dictionary.site is None:
            raise UsageError(
                "evaluating needs a dictionary with a site, found one without; give site= (--fact site=resid_post.3)"
            )
        return self.dictionary.site
