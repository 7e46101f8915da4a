"""The checks of shapes reach every module of the package, and find what is wrong."""

from importlib.util import find_spec

import pytest
import torch
from jaxtyping import TypeCheckError
from shape_checks import UNCHECKED, source

from gossamer.sparse.latents import SparseLatents


def all_modules():
    """The names of all modules of the package, those left out as one each."""
    for path in sorted(source().rglob("*.py")):
        parts = path.relative_to(source().parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        inside = [left_out for left_out in UNCHECKED if name == left_out or name.startswith(f"{left_out}.")]
        yield inside[0] if inside else name


def checked(name):
    return type(find_spec(name).loader).__name__ == "_JaxtypingLoader"


def test_every_module_is_checked_but_those_left_out():
    # Of gossamer and gossamer.sparse only the inits are not: they hold no function with shapes.
    unchecked = {name for name in all_modules() if not checked(name)}
    assert unchecked == {"gossamer", "gossamer.sparse", *UNCHECKED}


def test_a_call_with_a_wrong_type_is_an_error():
    flat, values = torch.tensor([0, 7]), torch.ones(2)
    assert SparseLatents.from_flat(flat, values, 2, 4).starts.tolist() == [0, 1, 2]
    with pytest.raises(TypeCheckError, match="from_flat"):
        SparseLatents.from_flat(flat.double(), values, 2, 4)
    with pytest.raises(TypeCheckError, match="from_flat"):
        SparseLatents.from_flat(flat, values[None], 2, 4)
