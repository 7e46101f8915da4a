"""Work that the tests of engines give to workers, which import it from here, and torch not with it."""

import os
import signal
from pathlib import Path

from gossamer.errors import UsageError


def doubled(number):
    return 2 * number


def place_of(shared):
    """Whose process it is and where the object lies there."""
    return os.getpid(), id(shared), float(shared.sum())


def refused(number):
    raise UsageError(f"{number}: something else expected\nthan this")


def killed_always(number):
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killed_once(path):
    """The pid of the process that does it in the end."""
    if not Path(path).exists():
        Path(path).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()
