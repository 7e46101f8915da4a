"""Names of what contributes: a latent, a layer, an embedding, an error or a bias, at a token or a role."""

from typing import Literal, NamedTuple

from gossamer.features.feature import Feature
from gossamer.model.site import Site

Kind = Literal["root", "latent", "token", "position", "attention", "mlp", "skip", "error", "bias"]


class Source(NamedTuple):
    """What contributes: a term at a token, or at a role of a task.

    Attributes:
        kind: latent: an active latent. token, position: what the embeddings write. attention, mlp: what a layer without
            a dictionary adds. skip: the linear path of a transcoder. error: what a dictionary leaves unexplained (at
            tokens where it does not count: all of it). bias: what does not depend on the prompt. root: of a trace.
        site: where.
        latent: of latents, which.
        place: the token's position, or the role's name; None for the root.
    """

    kind: Kind
    site: Site | None
    latent: int | None
    place: int | str | None

    def __str__(self) -> str:
        name = self.kind if self.site is None else str(self.site)
        if self.latent is not None:
            name = str(Feature(self.site, self.latent))  # type: ignore[arg-type]
        elif self.site is not None and self.kind not in ("attention", "mlp"):
            name = f"{self.kind} {name}"
        return name if self.place is None else f"{name}@{self.place}"
