"""NaN and infinity are found where they first appear."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from gossamer.errors import NotFiniteError


def require_finite(value: Tensor, where: str) -> Tensor:
    """Return `value` (any shape) unchanged, or raise :class:`NotFiniteError` naming `where` and the first bad index."""
    # The sum is finite whenever every entry is, short of overflow: one reduction instead of a mask on the good path.
    if torch.isfinite(value.detach().sum(dtype=torch.float32)):
        return value
    bad = torch.nonzero(~torch.isfinite(value.detach()))
    if len(bad) == 0:
        return value
    index = tuple(bad[0].tolist())
    raise NotFiniteError(
        f"{where}: expected finite values, found {value[index].item()} at index {index} "
        f"({len(bad)} of {value.numel()} entries); check the weights, and the dtype (float16 overflows: use bfloat16)"
    )


@contextmanager
def error_context(where: str) -> Iterator[None]:
    """Put `where` before what is said of values in here that are not finite."""
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(f"{where}: {error}") from error
