"""What does the sparse products of a device: torch with MKL on a CPU, :mod:`gossamer.sparse.kernels` on a GPU."""

import functools
import importlib
import warnings
from typing import Any

import torch


@functools.cache
def has_sparse_products(device: torch.device) -> bool:
    """Whether sparse rows can be multiplied on this device: by MKL on a CPU, by our kernels on a GPU with Triton."""
    if device.type != "cpu":
        return runs_kernels(device)
    if not torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return False
    with warnings.catch_warnings():
        # torch says once in a process that sparse rows are in beta: what is used of them is held by a test.
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1), check_invariants=False)
    return True


@functools.cache
def runs_kernels(device: torch.device) -> bool:
    """Whether :mod:`gossamer.sparse.kernels` does this device's sparse products: a GPU with a Triton that works."""
    return device.type == "cuda" and kernels_work(device)


def kernels_work(device: torch.device) -> bool:
    """Whether kernels can be started; if Triton is there and they cannot, a warning says why."""
    one = torch.ones(1, 1, device=device)
    starts = torch.tensor([0, 1], device=device)
    try:
        made = kernels()
        found = made.products(starts, starts[:1], one, one), made.sums(starts, starts[:1], one[0], one)
        return all(bool((value == 1).all()) for value in found)
    # A missing compiler, an old GPU, a broken package: whatever it is, masks do the same work.
    except Exception as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == "triton"):
            warnings.warn(f"Triton does not run here ({error}); training goes on without its kernels", stacklevel=2)
        return False


def kernels() -> Any:
    """The module :mod:`gossamer.sparse.kernels`."""
    # Not everybody has Triton, and nobody needs it on a CPU.
    return importlib.import_module("gossamer.sparse.kernels")
