"""What a thread holds while a model runs: JAX's configuration, module stacks of flax and haiku, shapes of jaxtyping.

Used by live runs only. JAX's configuration is not public; where it is not found, it is left alone.
"""

import contextlib
import copy
import sys
import threading
from collections.abc import Iterator
from typing import Any

try:
    from jax._src.config import config_states as _CONFIG
except ImportError:  # another version of JAX: contexts must then not be left open across a resume
    _CONFIG = {}

_HOLDERS = ("flax", "haiku", "jaxtyping", "jax._src.source_info_util")


class ThreadState:
    """Two states of one thread: the model's and the user's; one of them is put aside."""

    def __init__(self) -> None:
        self._locals = _thread_locals()
        self._aside: Any = None

    @contextlib.contextmanager
    def own(self) -> Iterator[None]:
        """The model's: starts as a copy of the user's, whose latest state is put back at the end."""
        self._aside = self._now()
        for holder in self._locals:
            vars(holder).update({name: copy.copy(value) for name, value in vars(holder).items()})
        try:
            yield
        finally:
            self._put(self._aside)
            self._aside = None

    @contextlib.contextmanager
    def others(self) -> Iterator[None]:
        """While the model stands still: the user's, and afterwards the model's again."""
        model = self._now()
        self._put(self._aside)
        try:
            yield
        finally:
            self._aside = self._now()
            self._put(model)

    def _now(self) -> Any:
        return [dict(vars(holder)) for holder in self._locals], [state.get_local() for state in _CONFIG.values()]

    def _put(self, state: Any) -> None:
        for holder, kept in zip(self._locals, state[0], strict=True):
            vars(holder).clear()
            vars(holder).update(kept)
        for config, value in zip(_CONFIG.values(), state[1], strict=True):
            config.set_local(value)


def _thread_locals() -> list[Any]:
    """The thread-local objects of the modules in `_HOLDERS` that are loaded."""
    found: dict[int, Any] = {}
    for name, module in list(sys.modules.items()):
        if module is not None and (name in _HOLDERS or name.split(".")[0] in _HOLDERS):
            found.update({id(one): one for one in vars(module).values() if isinstance(one, threading.local)})
    return list(found.values())
