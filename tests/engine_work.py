"""Work that the tests of engines give to workers, which import it from here."""

import os
import signal
from pathlib import Path

from gossamer.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.relations import GivenLatents


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


class FragileDictionary(Dictionary):
    """Its first worker is killed in the middle of a shard."""

    def fragile(self, path):
        """The same, fragile in any process but this one."""
        self.path, self.home = str(path), os.getpid()
        return self

    def encode(self, x):
        if os.getpid() != self.home:
            killed_once(self.path)
        return super().encode(x)


class FragileLatents(GivenLatents):
    """Its first worker is killed in the middle of a block."""

    def fragile(self, path):
        """The same, fragile in any process but this one."""
        self.path, self.home = str(path), os.getpid()
        return self

    def map(self, work, *, values=()):
        def fragile(batch):
            work(batch)
            if os.getpid() != self.home:
                killed_once(self.path)

        super().map(fragile, values=values)
