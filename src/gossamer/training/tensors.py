"""A user's own activations as the source: no model, no text."""

import hashlib
from typing import Any

import torch

from gossamer.errors import UsageError
from gossamer.finite import require_finite
from gossamer.model.site import Site
from gossamer.seeding import generator
from gossamer.training.parallel import Processes
from gossamer.training.source import Activations, Turn, ordered

# Starting values need no more than this many activations.
_FIRST = 131_072


class InMemory:
    """A source whose every turn is all of some tensors, in another order each time; a :class:`Source`.

    Memory: the tensors themselves, on whatever device they are, and batches of them in float32.
    """

    def __init__(
        self,
        activations: Activations,
        seed: int = 0,
        *,
        model_name: str | None = None,
        processes: Processes | None = None,
    ) -> None:
        """Use `activations`: row i of every tensor belongs to the same token; of several processes all must have all.

        Raises:
            UsageError: none at all, no matrices of floating-point numbers by site, or of different lengths.
            NotFiniteError: one is not finite (the site is named).
        """
        for site, values in activations.items():
            require_tensor(site, values)
        lengths = {str(site): tuple(values.shape) for site, values in activations.items()}
        if not lengths or any(len(shape) != 2 for shape in lengths.values()):
            raise UsageError(f"activations: expected matrices of tokens and dimensions, found {lengths or 'none'}")
        if len({shape[0] for shape in lengths.values()}) != 1:
            raise UsageError(f"activations: expected the same tokens at every site, found {lengths}")
        self.values = {site: require_finite(x.detach(), f"activations at {site}") for site, x in activations.items()}
        self.sites, self.seed, self.model_name = list(activations), seed, model_name
        self.processes = processes or Processes()

    @property
    def facts(self) -> dict[str, Any]:
        """A hash of all activations, and the seed."""
        digest = hashlib.sha256()
        for site, values in sorted(self.values.items()):
            digest.update(f"{site} {tuple(values.shape)} {values.dtype}".encode())
            digest.update(values.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        return {"model": self.model_name, "activations": digest.hexdigest(), "seed": self.seed}

    @property
    def device(self) -> torch.device:
        """That of the tensors."""
        return next(iter(self.values.values())).device

    def first(self) -> Activations:
        """The first ones."""
        return {site: values[:_FIRST].float() for site, values in self.values.items()}

    def turn(self, index: int) -> Turn:
        """All of them, in the turn's order."""
        length = len(next(iter(self.values.values())))
        order = torch.randperm(length, generator=generator(self.seed, "turn", index))
        turn = ordered(self.values, order, self.processes)
        return Turn(length, lambda start, stop: {site: value.float() for site, value in turn.take(start, stop).items()})


def require_tensor(site: object, values: object) -> None:
    """Raise :class:`UsageError` if this is no site with a tensor of floating-point numbers."""
    if not isinstance(site, Site):
        raise UsageError(f"activations: expected sites as keys, found {site!r}; give Site.parse('resid_post.3')")
    if not isinstance(values, torch.Tensor):
        raise UsageError(f"activations at {site}: expected a tensor, found {type(values).__name__}; convert them")
    if not values.is_floating_point():
        raise UsageError(f"activations at {site}: expected floating-point numbers, found {values.dtype}; convert them")
