"""Live mode: the model's real Python runs in the greenlet, for models that cannot be staged.

What that needs, beyond a staged run: JAX's caches of inner `jit`s must not be hit (they would hide tags) nor filled
(they would keep an edit for good), and what the thread holds (configuration, module stacks of flax and haiku) must be
the model's while the model runs, and the user's while the loop's body does.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax

from gossamer.jax import compat
from gossamer.jax.driver import Driver
from gossamer.jax.errors import InstrumentError, NeedsStaged, ScopedRead
from gossamer.jax.layers import ChosenLayer, Layers
from gossamer.jax.loop import Loop
from gossamer.jax.scope import Handle, Scope
from gossamer.jax.site import TagSite
from gossamer.jax.tag import LISTENING, Tagged, bound
from gossamer.jax.thread_state import ThreadState

compat.hide_from_sources(__file__)

# Part of the key of every cache of traces: another value, and JAX traces anew.
_TRACES = jax.make_user_context(default_value=None)


class LiveTagSite(TagSite):
    """A site of a live run. In an inner trace (jit, scan, vmap, ...) it can be edited, and not read."""

    @TagSite.value.getter  # type: ignore[attr-defined]
    def value(self) -> Any:
        self._open()
        if self.scope == "inner":
            raise ScopedRead(
                f"read at {self!r}: the value belongs to an inner trace (jit, scan, vmap, remat, grad) and cannot "
                "leave it. Use site.edit(fn), or a staged run with site.save()."
            )
        return self._shown()

    def save(self, layers: Layers = None) -> Handle:
        raise NeedsStaged(f"save at {self!r}: live runs only have site.value; use mode='staged'")

    def _chosen(self, verb: str, layers: Layers) -> ChosenLayer | None:
        if layers is not None:
            raise NeedsStaged(f"{verb}(layers=...) at {self!r}: a live run cannot tell layers apart; use mode='staged'")
        return None


class LiveRun(Loop):
    """A run of the real Python: the loop, `until`, `on` and `result` of a staged run, and no `save`, layers or peel.

    Raises, on entering:
        NeedsStaged: `peel` or `checkpoint_names` was given.
    """

    strict = True

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        peel: Sequence[int] = (),
        checkpoint_names: bool = False,
    ) -> None:
        super().__init__()
        if peel:
            raise NeedsStaged("peel=...: a live run does not open scans; use mode='staged'")
        if checkpoint_names:
            raise NeedsStaged("checkpoint_names=True: a live run hears tags only; use mode='staged'")
        self._call: Any = (function, args, kwargs)
        self._counts: Counter[str] = Counter()
        self._at: Any = None
        self._state: ThreadState | None = None
        self._fresh: Any = None

    def __enter__(self) -> "LiveRun":
        super().__enter__()
        if self._call is None:
            raise InstrumentError("a run is used once: open another one with run(...)")
        self._state = ThreadState()
        return self

    def _expect(self, name: str, path: str | None) -> None:
        """What tags there are is known only when the model has run: an unused name is refused at the end."""

    def _work(self) -> Any:
        (function, args, kwargs), self._call = self._call, None
        assert self._state is not None
        self._at = compat.current_trace()
        before, LISTENING.listener = LISTENING.listener, self._hear
        self._renew()
        try:
            with self._state.own():
                return function(*args, **kwargs)
        finally:
            LISTENING.listener = before
            self._fresh.__exit__(None, None, None)
            self._at = self._fresh = None

    def _renew(self) -> None:
        """From here on no inner `jit` meets a trace made before: neither another run's nor one with an edit in it."""
        if self._fresh is not None:
            self._fresh.__exit__(None, None, None)
        self._fresh = _TRACES(object())
        self._fresh.__enter__()

    def _hear(self, name: str, x: Any) -> Any:
        """Called by `tag` as the model comes by."""
        value = Tagged.of(x)
        inline = compat.current_trace() is self._level
        params = {"name": name, "tree": value.tree, "axes": ((),) * len(value.arrays), "inner_diff": False}
        site = LiveTagSite(
            params,
            value.arrays,
            Scope("top" if inline else "inner"),
            path=compat.path_here(),
            source=compat.source_here(),
            count=self._counts[name],
        )
        self._counts[name] += 1
        self._visit(site, inline)
        if not inline:
            self._renew()
        return value.rebuilt(bound(name, site.close(), value.tree))

    @property
    def _level(self) -> Any:
        """The trace of the run itself; resumed inside grad or vmap, the rest of the model belongs to that."""
        return self._at if self._driver is None else self._driver.base.trace

    def _visit(self, site: TagSite, inline: bool) -> None:
        before, LISTENING.listener = LISTENING.listener, None
        try:
            super()._visit(site, inline)
        finally:
            LISTENING.listener = before

    def _stand(self, driver: Driver, site: TagSite, inline: bool) -> None:
        assert self._state is not None
        with self._state.others():
            super()._stand(driver, site, inline)
