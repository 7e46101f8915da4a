"""One process at a time in a folder, and no trace of it afterwards."""

import subprocess
import sys

import pytest

from gossamer.alone import alone_in
from gossamer.errors import UsageError

HOLD = "import sys; from gossamer.alone import alone_in\nwith alone_in(sys.argv[1]): print('held', flush=True); input()"


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
    with pytest.raises(UsageError, match="run: another process is at work there; wait") as caught, alone_in(folder):
        pass
    assert "\n" not in str(caught.value)
    process.kill()
    process.wait()
    with alone_in(folder):
        (folder / "kept").touch()
    assert [path.name for path in folder.iterdir()] == ["kept"]


def test_a_folder_that_stays_empty_is_removed_again_if_it_was_made(tmp_path):
    with alone_in(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path):
        pass
    assert tmp_path.is_dir()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: cannot be written"), alone_in(tmp_path / "file"):
        pass
