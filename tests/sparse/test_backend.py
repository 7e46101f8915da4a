"""Kernels that do not work are done without."""

import pytest
import torch

from gossamer.sparse import backend


@pytest.mark.parametrize(
    ("error", "warned"),
    [
        (ModuleNotFoundError("none", name="triton"), False),
        (ImportError("broken"), True),
        (RuntimeError("no compiler"), True),
    ],
)
def test_a_triton_that_does_not_run_is_done_without(error, warned, monkeypatch, recwarn):
    def fails():
        raise error

    monkeypatch.setattr(backend, "kernels", fails)
    assert not backend.kernels_work(torch.device("cpu"))
    assert [str(error) in str(one.message) for one in recwarn] == [True] * warned


def test_a_triton_that_computes_something_else_is_done_without(monkeypatch):
    class Wrong:
        @staticmethod
        def products(*tensors):
            return torch.zeros(1)

        sums = products

    monkeypatch.setattr(backend, "kernels", lambda: Wrong)
    assert not backend.kernels_work(torch.device("cpu"))
