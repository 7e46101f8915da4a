"""What gossamer raises when it refuses: one line that says what was expected, what was found and what to do."""


class GossamerError(Exception):
    """The work could not be done (the command line exits with 1)."""


class UsageError(GossamerError):
    """The request itself is wrong: the user can mend it (the command line exits with 2)."""


class NotFiniteError(GossamerError):
    """A NaN or an infinity appeared; the message names the first place where it did."""
