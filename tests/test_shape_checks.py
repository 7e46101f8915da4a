"""The checks of shapes and types reach every module of the package, and find what is wrong."""

from importlib.util import find_spec

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError
from shape_checks import UNCHECKED, CheckingLoader, all_modules, is_checked

from gossamer.batching import halved
from gossamer.sparse.latents import SparseLatents


def test_every_module_is_checked_but_those_left_out():
    names = list(all_modules())
    unchecked = [name for name in names if not is_checked(name)]
    assert {name for name in unchecked if not name.startswith("gossamer.jax.")} == {*UNCHECKED}
    assert len(names) > 3 * len(unchecked)
    for name in names:
        if is_checked(name):
            assert isinstance(find_spec(name).loader, CheckingLoader), name


def test_a_call_with_a_wrong_shape_is_an_error():
    flat, values = torch.tensor([0, 7]), torch.ones(2)
    assert SparseLatents.from_flat(flat, values, 2, 4).starts.tolist() == [0, 1, 2]
    for wrong in ((flat.double(), values), (flat, values[None])):
        with pytest.raises(TypeCheckError, match="from_flat"):
            SparseLatents.from_flat(*wrong, 2, 4)


def test_sizes_that_do_not_agree_are_an_error():
    with pytest.raises(TypeCheckError):
        SparseLatents.from_flat(torch.tensor([0, 7]), torch.ones(3), 2, 4)


def test_a_call_with_a_wrong_type_is_an_error():
    with pytest.raises(BeartypeCallHintParamViolation):
        halved("6", RuntimeError("out of memory"))
