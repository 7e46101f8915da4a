"""Settings are checked where they are made."""

from gossamer.errors import UsageError


def require(condition: bool, expected: str, found: object) -> None:
    """Raise a one-line :class:`UsageError` if a setting of training is not what was expected."""
    if not condition:
        raise UsageError(f"training settings: expected {expected}, found {found}")
