"""What is asked of a circuit: how faithful, or of how many nodes. Imports no torch: it can be checked at once."""

from gossamer.errors import UsageError


def require_target(faithfulness: float | None, size: int | None) -> None:
    """Refuse a target that no circuit can have.

    Raises:
        UsageError: both at once, a share that is none, or fewer than one node.
    """
    if faithfulness is not None and size is not None:
        raise UsageError("give faithfulness or size as the target, not both")
    if faithfulness is not None and not 0 < faithfulness <= 1:
        raise UsageError(f"faithfulness: a share above 0 and at most 1 expected, found {faithfulness}")
    if size is not None and size < 1:
        raise UsageError(f"size: at least 1 node expected, found {size}")
