"""Dictionaries and latents whose first worker is killed in the middle of its work."""

import os

from engine_work import killed_once

from gossamer.dictionary import Dictionary
from gossamer.relations import GivenLatents


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
