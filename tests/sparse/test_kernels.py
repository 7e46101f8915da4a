"""Triton's kernels, in its interpreter, against dense products; and compiled for GPUs that are not there."""

import subprocess
import sys

import pytest
import torch
from objective_fixtures import batch, context, gradients, parameters, total

from gossamer.sparse import backend
from gossamer.training import chosen
from gossamer.training.objectives import AuxK, BatchTopK, Matryoshka, TopK

pytest.importorskip("triton", reason="Triton is not made for this system")


from gossamer.sparse import kernels


def _sparse(rows, columns, dtype, seed=0):
    """A matrix with rows of none, of few and of very many entries; as it is, and as sparse rows."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.linspace(0, 1, rows)[:, None] ** 2
    matrix = torch.randn(rows, columns, generator=generator, dtype=dtype)
    matrix *= torch.rand(rows, columns, generator=generator) < share
    mask = matrix != 0
    starts = torch.cat([torch.zeros(1, dtype=torch.long), mask.sum(dim=1).cumsum(0)])
    return matrix, starts, mask.nonzero()[:, 1], matrix[mask]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [5, 128, 300])
def test_kernels_equal_dense_products(width, dtype):
    matrix, starts, columns, values = _sparse(9, 40, dtype)
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(9, width, generator=generator, dtype=dtype)
    # Not in a row in memory: W_enc is laid out latent by latent.
    right = torch.randn(width, 40, generator=generator, dtype=dtype).t()
    torch.testing.assert_close(kernels.sums(starts, columns, values, right), matrix @ right)
    found = kernels.products(starts, columns, left, right)
    torch.testing.assert_close(found, (left @ right.t())[matrix != 0])


@pytest.mark.parametrize("make", [TopK, BatchTopK, Matryoshka])
@pytest.mark.parametrize("shift", [0.0, 1.5])
def test_objectives_are_the_same_through_kernels(make, shift, monkeypatch):
    """With a shift, fewer are positive than wanted, so that rows have entries which only fill them up."""
    objective = make(k=3, aux=AuxK(k=2, weight=0.5))
    p, (x, y) = parameters(objective), batch()
    with torch.no_grad():
        p["b_enc"][:5] = -20.0
        p["b_enc"] -= shift
    at = context(dead_unless_fired=torch.arange(16) < 7)

    def both():
        found = objective.outcome(p, x, y, at)
        return found, gradients(total(objective, p, x, y, at), p)

    usual, usual_gradients = both()
    monkeypatch.setattr(backend, "runs_kernels", lambda device: True)
    monkeypatch.setattr(chosen, "_by_screen", lambda device: False)
    found, found_gradients = both()
    assert torch.equal(found.fired, usual.fired)
    assert found.smallest == usual.smallest
    torch.testing.assert_close(found.loss, usual.loss)
    torch.testing.assert_close(found_gradients, usual_gradients)


def test_no_sum_of_entries_asks_a_device_for_a_value(monkeypatch):
    """On the meta device values cannot be read: whatever needs one fails."""
    monkeypatch.setattr(backend, "runs_kernels", lambda device: True)
    monkeypatch.setattr(chosen, "has_sparse_products", lambda device: True)
    monkeypatch.setattr(
        kernels, "sums", lambda starts, columns, values, dense: dense.new_empty(len(starts) - 1, dense.shape[1])
    )
    monkeypatch.setattr(kernels, "products", lambda starts, columns, left, right: left.new_empty(len(columns)))
    for objective in (TopK(k=3), BatchTopK(k=3), Matryoshka(k=3)):
        p = {name: value.detach().to("meta").requires_grad_() for name, value in parameters(objective).items()}
        x, y = (side.to("meta") for side in batch())
        at = context(dead_unless_fired=(torch.arange(16) < 7).to("meta"))
        found = objective.outcome(p, x, y, at)
        assert all(gradient.device.type == "meta" for gradient in torch.autograd.grad(found.loss, list(p.values())))


def test_kernels_are_found_to_work():
    assert backend.kernels_work(torch.device("cpu"))


_COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gossamer.sparse import kernels

sizes = {"ENTRIES": kernels.ENTRIES, "COLUMNS": kernels.COLUMNS}
rows = {"starts": "*i64", "columns": "*i64"}
for kernel, names in ((kernels._sums, ("values", "dense", "out")), (kernels._products, ("left", "right", "out"))):
    signature = {**rows, **dict.fromkeys(names, "*fp32"), "width": "i32", **dict.fromkeys(sizes, "constexpr")}
    for capability in (80, 90):
        made = compile(ASTSource(kernel, signature, sizes), target=GPUTarget("cuda", capability, 32))
        print(len(made.asm["cubin"]))
"""


@pytest.mark.slow
def test_kernels_compile_for_gpus(tmp_path):
    """What the interpreter forgives, the compiler may not."""
    settings = {"TRITON_CACHE_DIR": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", _COMPILE], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len([size for size in done.stdout.split() if int(size) > 1000]) == 4
