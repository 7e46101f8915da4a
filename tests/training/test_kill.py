"""Real processes, killed with SIGKILL while they cache and train, go on to the same bytes; full disks lose nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.training import metrics

JOBS = ("cached", "fitted", "fitted_from_a_cache")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """The folder in which all jobs ran, and what was said of them, line by line."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("processes.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr + "".join(path.read_text() for path in folder.glob("*.error"))
    return folder, ran.stdout.splitlines()


def _files(folder):
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    found.pop(metrics.FILE, None)
    return found


def _numbers(folder):
    return [{**line, "tokens_per_second": 0} for line in metrics.read(folder)]


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_killed_job_goes_on_to_the_same_bytes(jobs, job):
    folder, said = jobs
    (line,) = [line for line in said if line.startswith(f"{job} ")]
    assert line.count("-9") >= 2
    assert line.endswith(" 0")
    assert _files(folder / f"killed-{job}") == _files(folder / job)
    assert _numbers(folder / f"killed-{job}") == _numbers(folder / job)


@pytest.mark.slow
def test_a_cache_in_float32_changes_no_bit_of_what_is_learned(jobs):
    """In the first epoch, that is: later ones come in another order."""
    folder, _ = jobs
    learned = [[line for line in _numbers(folder / job) if line["step"] <= 20] for job in JOBS[1:]]
    assert len(learned[0]) == 10
    assert learned[0] == learned[1]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "file"), [("cached", "shard-00000"), ("fitted", "checkpoint")])
def test_on_a_full_disk_nothing_is_half_written(jobs, job, file):
    folder, said = jobs
    found = [line for line in said if line.startswith("full: ") and f"full-{job}" in line]
    assert len(found) == 1
    assert f"{file}.safetensors: could not be written (File too large); nothing was changed" in found[0]
    # A folder that was made and stayed empty is gone.
    assert {path.name for path in (folder / f"full-{job}").glob("*")} <= {metrics.FILE}


@pytest.mark.slow
def test_metrics_that_cannot_be_written_are_one_line(jobs):
    _, said = jobs
    assert [line for line in said if "full-metrics/metrics.jsonl: could not be written (File too large)" in line]
