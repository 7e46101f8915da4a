"""One process at a time in a folder, and no trace of it afterwards."""

import subprocess
import sys

import pytest

from gossamer.errors import UsageError
from gossamer.results.lock import folder_lock

HOLD = """
import sys
from gossamer.results.lock import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    input()
"""
# Each time the lock is got, a mark that no one else may have made is made and removed again.
RACE = """
import os, sys, time
from gossamer.errors import UsageError
from gossamer.results.lock import folder_lock
folder, mark = sys.argv[1], sys.argv[2]
got = 0
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    try:
        with folder_lock(folder):
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            os.unlink(mark)
            got += 1
    except UsageError:
        pass
print(got)
"""


@pytest.fixture
def held(tmp_path):
    """A folder that another process holds, and the process."""
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield folder, process
        process.kill()


def test_a_folder_that_another_process_holds_is_refused_until_that_is_killed(held):
    folder, process = held
    with pytest.raises(UsageError, match="run: another process is at work there; wait") as caught, folder_lock(folder):
        pass
    assert "\n" not in str(caught.value)
    process.kill()
    process.wait()
    with folder_lock(folder):
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_folder_that_stays_empty_is_removed_again_if_it_was_made(tmp_path):
    with folder_lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with folder_lock(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: cannot be written"), folder_lock(tmp_path / "file"):
        pass


def test_processes_that_begin_and_end_at_once_never_both_hold(tmp_path):
    """The folder is made and removed at every turn: a lock of a removed folder is no lock (both got it 2 in 400)."""
    command = [sys.executable, "-c", RACE, tmp_path / "a" / "run", tmp_path / "mark", "2"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate() for process in running]
    assert [error for _, error in said] == [""] * 4
    assert sum(int(count) for count, _ in said) > 20
    assert not (tmp_path / "mark").exists()


def test_what_killed_runs_left_half_written_is_removed(tmp_path):
    (tmp_path / ".results.json.abc.part").write_text("half")
    (tmp_path / "results.json").write_text("whole")
    with folder_lock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
