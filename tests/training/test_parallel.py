"""Two gloo processes take the steps of one; what is combined is exact."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gossamer.training import checkpoint, metrics
from gossamer.training.parallel import Processes

SCRIPT = Path(__file__).with_name("together.py")


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory):
    """Two folders: what one process learned, and what two did."""
    folder = tmp_path_factory.mktemp("parallel")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A cache is written by one process and used by several.
    (folder / "alone" / "cache").mkdir(parents=True)
    commands = {
        "alone": [sys.executable, SCRIPT],
        "together": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT],
    }
    for name, command in commands.items():
        if name == "together":
            shutil.copytree(folder / "alone" / "cache", folder / name / "cache")
        ran = subprocess.run([*command, folder / name], capture_output=True, text=True, env=environment)
        assert ran.returncode == 0, ran.stderr
    return folder / "alone", folder / "together"


@pytest.mark.slow
@pytest.mark.parametrize("source", ["on-the-fly", "cached", "tensors"])
def test_two_processes_end_where_one_does(alone_and_together, source):
    one, two = (load_file(folder / source / checkpoint.FILE) for folder in alone_and_together)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(
            two[name], value, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("source", ["on-the-fly", "cached", "tensors"])
def test_their_metrics_are_those_of_the_whole_batch_and_are_written_once(alone_and_together, source):
    one, two = (metrics.read(folder / source) for folder in alone_and_together)
    assert [(line["step"], line["name"]) for line in one] == [(line["step"], line["name"]) for line in two]
    for ours, theirs in zip(one, two, strict=True):
        assert ours["dead"] > 0
        for name in ("loss", "l0", "dead", "auxiliary_loss"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_halving_the_bits_finds_the_kth_largest_exactly(dtype):
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    positive = values[values > 0].sort(descending=True).values
    for k in (1, 2, 100, len(positive)):
        assert torch.equal(Processes().kth_largest(values, k), positive[k - 1])
    assert Processes().kth_largest(values, len(positive) + 1) == 0
