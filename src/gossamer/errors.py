"""What gossamer raises when it refuses: one line that says what was expected, what was found and what to do."""

_SHOWN = 4000


def one_line(text: str) -> str:
    """`text` without line breaks and terminal codes, which names from files may hold, and cut where it is too long."""
    if len(text) > _SHOWN:
        text = f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 4 :]}"
    plain = " ".join(part.strip() for part in text.splitlines() if part.strip()) if "\n" in text else text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in plain)


class GossamerError(Exception):
    """The work could not be done (the command line exits with 1). The message is one line of printable text."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class UsageError(GossamerError):
    """The request itself is wrong: the user can mend it (the command line exits with 2)."""


class NotFiniteError(GossamerError):
    """A NaN or an infinity appeared; the message names the first place where it did."""
