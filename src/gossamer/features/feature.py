"""Names of latents: a feature is a latent of the dictionary at a site, a node is a feature at a role of a task.

What a dictionary leaves out, its reconstruction error, has a name beside its latents: `resid_post.7/error`. It may be a
node of a circuit; everything that looks a latent up refuses it, because it has none.
"""

from typing import NamedTuple

from gossamer.errors import UsageError
from gossamer.model.site import Site

# In place of a latent's number: the reconstruction error of the dictionary. No dictionary has a latent of this number.
ERROR = -1
_ERROR_NAME = "error"


class Feature(NamedTuple):
    """One latent of the dictionary at one site. Prints and parses as `resid_post.7/123`.

    Attributes:
        site: where the dictionary reads.
        latent: number of the latent, from 0; ERROR for what the dictionary leaves out.
    """

    site: Site
    latent: int

    @classmethod
    def parse(cls, text: str) -> "Feature":
        """The feature that `text` names: SITE/LATENT, where the site may have any name that :meth:`Site.parse` takes.

        SITE/error is what the dictionary leaves out.

        Raises:
            UsageError: the text names none.
        """
        site, separator, latent = text.strip().rpartition("/")
        if not separator or not (latent.isdecimal() or latent == _ERROR_NAME):
            raise UsageError(f"{text!r} is no feature: expected SITE/LATENT, such as resid_post.7/123")
        return cls(Site.parse(site), ERROR if latent == _ERROR_NAME else int(latent))

    @property
    def is_error(self) -> bool:
        """Whether this is what the dictionary leaves out."""
        return self.latent == ERROR

    @property
    def name(self) -> str:
        """What it is called at its site: the latent's number, or `error`."""
        return _ERROR_NAME if self.is_error else str(self.latent)

    def __str__(self) -> str:
        return f"{self.site}/{self.name}"


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
        """Number of the latent; ERROR for an error."""
        return self.feature.latent

    @property
    def is_error(self) -> bool:
        """Whether this is what the dictionary leaves out."""
        return self.feature.is_error

    def __str__(self) -> str:
        return str(self.feature) if self.role is None else f"{self.feature}@{self.role}"
