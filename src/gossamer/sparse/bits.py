"""Positive floating-point numbers are in the order of their bits read as integers."""

import torch
from torch import Tensor

_INTEGERS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def as_integers(values: Tensor) -> Tensor:
    """The same memory (any shape) as integers: in the order of the values if these are positive, negative elsewhere."""
    return values.view(_INTEGERS[values.dtype])


def below(level: Tensor, dtype: torch.dtype) -> Tensor:
    """Levels of at least 0 in another type, as integers, rounded down."""
    if dtype is not torch.bfloat16:
        return as_integers(level.to(dtype))
    return (as_integers(level.float()) >> 16).to(torch.int16)
