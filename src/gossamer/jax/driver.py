"""The greenlet that holds a model still: switched to go on, switched from at each site.

All of JAX's state is kept by thread, so that a greenlet, which has a stack of its own in the same thread, sees it
whole. What JAX records into (its current trace) must be right at every switch; this file sees to that.
"""

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from typing import Any

from gossamer.jax import compat
from gossamer.jax.errors import ConcurrentRun, GreenletMissing, ResumedInOtherTrace
from gossamer.jax.site import Site

try:
    import greenlet
except ImportError:  # the callback form works without
    greenlet = None


class _Active(threading.local):
    """The drivers that stand still in the body of a scan or remat, in this thread."""

    def __init__(self) -> None:
        self.drivers: list[Driver] = []


_ACTIVE = _Active()


class Driver:
    """Runs `work` until it stops at a site, again and again.

    Args:
        work: called in the greenlet; it calls `stop_at` with each site.
        base: the trace that the run was opened in.
        strict: refuse to be resumed while another run, stopped later, stands in an inner trace.
    """

    def __init__(self, work: Callable[[], None], base: Any, *, strict: bool = False) -> None:
        if greenlet is None:
            raise GreenletMissing("the loop form needs greenlet (pip install greenlet); r.on, capture and patch do not")
        self._greenlet: Any = greenlet.greenlet(lambda: work())
        self._strict = strict
        self._trace: Any = None
        self._thread = threading.get_ident()
        self.base = base
        # A context of its own would be empty, and lose np.errstate and the like.
        contextvars.copy_context()
        self._greenlet.gr_context = greenlet.getcurrent().gr_context

    @property
    def finished(self) -> bool:
        return self._greenlet is None or bool(self._greenlet.dead)

    def advance(self) -> Site | None:
        """Go on to the next site; None at the end.

        Raises:
            ResumedInOtherTrace: the model stands in a scan or remat, and this is inside another transformation; or
            (strict) another run stopped later in such a place.
            ConcurrentRun: this is another thread.
        """
        self._check_thread()
        here = compat.current_trace()
        if self._trace is not None and here is not self._trace:
            if self._strict and _ACTIVE.drivers[-1] is not self:
                raise ResumedInOtherTrace(
                    "two live runs stand inside inner traces (jit, scan, ...): the one that stopped last goes first. "
                    "Staged runs go on in any order."
                )
            if not (here is self.base or _owned_by_a_run(here)):
                raise ResumedInOtherTrace(
                    "the run stands inside a scan or remat and was resumed inside another transformation (jit, grad, "
                    "vmap, ...). Resume it where it stopped, or put the transformation around the whole run."
                )
            compat.enter_trace(self._trace)
        elif self._trace is None:
            if _owned_by_a_run(here) and here is not self.base:
                compat.enter_trace(self.base)
            self.base = compat.current_trace()
        return self._switch(self._greenlet.switch)

    def stop_at(self, site: Site, inline: bool) -> None:
        """In the greenlet: hand a site to the loop, and wait.

        Args:
            inline: the site is at the run's own level, not in the body of a scan or remat.
        """
        self._trace = None if inline else compat.current_trace()
        if not inline:
            _ACTIVE.drivers.append(self)
        try:
            self._greenlet.parent.switch(site)
        finally:
            self._trace = None
            if not inline:
                _ACTIVE.drivers.remove(self)

    def kill(self) -> None:
        """End the model where it stands; its `with` blocks and `finally`s run."""
        self._check_thread()
        if self.finished:
            return
        if self._trace is not None:
            compat.enter_trace(self._trace)
        self._switch(self._greenlet.throw)
        self.release()

    def release(self) -> None:
        """Forget all traces and frames, so that nothing of a trace outlives it here."""
        self._greenlet = self.base = self._trace = None

    def owns(self, trace: Any) -> bool:
        return self._trace is trace

    def _switch(self, switch: Callable[[], Any]) -> Site | None:
        self._greenlet.parent = greenlet.getcurrent()
        stopped = switch()
        return stopped if isinstance(stopped, Site) else None

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise ConcurrentRun(
                "the run was resumed from another thread than it was opened in: JAX's state is by thread"
            )


@contextlib.contextmanager
def own_level(base: Any) -> Iterator[None]:
    """Compute at the level that a run was opened at, even if another run stands in the body of a scan meanwhile."""
    here = compat.current_trace()
    with compat.inside_trace(base if _owned_by_a_run(here) else here):
        yield


def _owned_by_a_run(trace: Any) -> bool:
    """Whether a trace is the body of a scan or remat that some run stands in, rather than one the user opened."""
    return any(driver.owns(trace) for driver in _ACTIVE.drivers)
