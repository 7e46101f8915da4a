"""Names of latents: a feature is a latent of the dictionary at a site, a node is a feature at a role of a task."""

from typing import NamedTuple

from gossamer.errors import UsageError
from gossamer.model.site import Site


class Feature(NamedTuple):
    """One latent of the dictionary at one site. Prints and parses as `resid_post.7/123`.

    Attributes:
        site: where the dictionary reads.
        latent: number of the latent, from 0.
    """

    site: Site
    latent: int

    @classmethod
    def parse(cls, text: str) -> "Feature":
        """The feature that `text` names: SITE/LATENT, where the site may have any name that :meth:`Site.parse` takes.

        Raises:
            UsageError: the text names none.
        """
        site, separator, latent = text.strip().rpartition("/")
        if not separator or not latent.isdecimal():
            raise UsageError(f"{text!r} is no feature: expected SITE/LATENT, such as resid_post.7/123")
        return cls(Site.parse(site), int(latent))

    def __str__(self) -> str:
        return f"{self.site}/{self.latent}"


class Node(NamedTuple):
    """A feature at one role of a task, or at every token (None). Prints and parses as `resid_post.7/123@S2`.

    Attributes:
        feature: the latent.
        role: name of the role.
    """

    feature: Feature
    role: str | None

    @classmethod
    def parse(cls, text: str) -> "Node":
        """The node that `text` names: SITE/LATENT@ROLE, or SITE/LATENT for every token.

        Raises:
            UsageError: the text names none.
        """
        feature, separator, role = text.partition("@")
        return cls(Feature.parse(feature), role if separator else None)

    @property
    def site(self) -> Site:
        """Where the dictionary reads."""
        return self.feature.site

    @property
    def latent(self) -> int:
        """Number of the latent."""
        return self.feature.latent

    def __str__(self) -> str:
        return str(self.feature) if self.role is None else f"{self.feature}@{self.role}"
