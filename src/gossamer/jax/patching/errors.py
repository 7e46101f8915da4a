"""What a patch of somebody else's function raises when it refuses, and what it warns of."""

from gossamer.errors import GossamerError


class PatchError(GossamerError):
    """A patch cannot be applied; the functions it names are as they were before."""


class PatternError(PatchError):
    """A pattern or a piece of patch code that is no Python, or could match anything."""


class MatchError(PatchError):
    """A pattern found another number of places than it should; the message shows the places, or the nearest lines."""


class SourceError(PatchError):
    """No source to patch: a built-in, a lambda, generated code, or a file that is not what is running."""


class PatchWarning(UserWarning):
    """A patch fits, but the function is not the one it was written for; or caches had to be cleared."""
