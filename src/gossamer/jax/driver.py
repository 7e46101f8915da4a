"""The greenlet that holds a model still: switched to go on, switched from at each site.

All of JAX's state is kept by thread, so that a greenlet, which has a stack of its own in the same thread, sees it
whole. What JAX records into (its current trace) must be right at every switch; this file sees to that.
"""

import contextlib
import contextvars
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from gossamer.jax import compat
from gossamer.jax.errors import ConcurrentRun, GreenletMissing, ResumedInOtherTrace, RunNotFinished
from gossamer.jax.site import TagSite

try:
    import greenlet
except ImportError:  # the callback form works without
    greenlet = None


class _Active(threading.local):
    """Drivers of this thread: those that have begun and not ended, and those that stand in a scan's or remat's body."""

    def __init__(self) -> None:
        self.begun: weakref.WeakSet[Driver] = weakref.WeakSet()
        self.drivers: list[Driver] = []


_ACTIVE = _Active()


class Driver:
    """Runs `work` until it stops at a site, again and again.

    Args:
        work: called in the greenlet; it calls `stop_at` with each site.
        base: the level that the run was opened at.
        strict: refuse to be resumed while another run, stopped later, stands in an inner trace.
    """

    def __init__(self, work: Callable[[], None], base: compat.Level, *, strict: bool = False) -> None:
        if greenlet is None:
            raise GreenletMissing("the loop form needs greenlet (pip install greenlet); r.on, capture and patch do not")
        self._greenlet: Any = greenlet.greenlet(lambda: work())
        self._strict = strict
        self._body: compat.Level | None = None  # where it stands, if not at the base
        self._thread = threading.get_ident()
        self.base: Any = base
        # A context of its own would be empty, and lose np.errstate and the like.
        contextvars.copy_context()
        self._greenlet.gr_context = greenlet.getcurrent().gr_context

    @property
    def finished(self) -> bool:
        return self._greenlet is None or bool(self._greenlet.dead)

    def advance(self) -> TagSite | None:
        """Go on to the next site; None at the end.

        Raises:
            ResumedInOtherTrace: the model stands in a scan or remat, and this is inside another transformation; or
            (strict) another run stopped later in such a place.
            ConcurrentRun: this is another thread.
        """
        self._check_thread()
        here = compat.current_trace()
        if self._body is not None and here is not self._body.trace:
            if self._strict and _ACTIVE.drivers[-1] is not self:
                raise ResumedInOtherTrace(
                    "two live runs stand inside inner traces (jit, scan, ...): the one that stopped last goes first. "
                    "Staged runs go on in any order."
                )
            if not (here is self.base.trace or _owned_by_a_run(here)):
                raise ResumedInOtherTrace(
                    "the run stands inside a scan or remat and was resumed inside another transformation (jit, grad, "
                    "vmap, ...). Resume it where it stopped, or put the transformation around the whole run."
                )
            self._body.enter()
        elif self._body is None:
            if _owned_by_a_run(here) and here is not self.base.trace:
                self.base.enter()
            self.base = compat.here()
        _ACTIVE.begun.add(self)
        return self._switch(self._greenlet.switch)

    def stop_at(self, site: TagSite, inline: bool) -> None:
        """In the greenlet: hand a site to the loop, and wait.

        Args:
            inline: the site is at the run's own level, not in the body of a scan or remat.
        """
        self._body = None if inline else compat.here()
        if not inline:
            _ACTIVE.drivers.append(self)
        try:
            self._greenlet.parent.switch(site)
        finally:
            self._body = None
            if not inline:
                _ACTIVE.drivers.remove(self)

    def kill(self) -> None:
        """End the model where it stands; its `with` blocks and `finally`s run.

        The caller goes on in the trace that it is in, which may not be the one that the run was opened in.
        """
        self._check_thread()
        if self.finished:
            return
        here = compat.here()
        stays = not self._around(here.trace)
        if self._body is not None:
            self._body.enter()
        self._switch(self._greenlet.throw)
        if stays:
            here.enter()
        self.release()

    def release(self) -> None:
        """Forget all traces and frames, so that nothing of a trace outlives it here."""
        _ACTIVE.begun.discard(self)
        self._greenlet = self.base = self._body = None

    def _around(self, trace: Any) -> bool:
        """Whether a trace is the body that this run stands in, or that of a run that was opened there."""
        owner = _owner(trace)
        while owner is not None and owner is not self:
            owner = _owner(owner.base.trace)
        return owner is self

    def owns(self, trace: Any) -> bool:
        return self._body is not None and self._body.trace is trace

    def _switch(self, switch: Callable[[], Any]) -> TagSite | None:
        self._greenlet.parent = greenlet.getcurrent()
        stopped = switch()
        return stopped if isinstance(stopped, TagSite) else None

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise ConcurrentRun(
                "the run was resumed from another thread than it was opened in: JAX's state is by thread"
            )


@contextlib.contextmanager
def own_level(base: compat.Level) -> Iterator[None]:
    """Compute at the level that a run was opened at, even if another run stands in the body of a scan meanwhile."""
    here = compat.here()
    with (base if _owned_by_a_run(here.trace) else here).inside():
        yield


def refuse_unfinished(body: Any) -> None:
    """The body of a scan or remat has ended: a run that was opened in it could not go on, and its values are gone.

    Raises:
        RunNotFinished: there is one.
    """
    if any(driver.base.trace is body for driver in _ACTIVE.begun):
        raise RunNotFinished(
            "a run was opened while another one stood in the body of a scan or remat, and that body has ended before "
            "the run. Open both before either goes on (with run(...) as a, run(...) as b: for one, other in zip(a, b)) "
            "or finish the inner run first."
        )


def _owned_by_a_run(trace: Any) -> bool:
    """Whether a trace is the body of a scan or remat that some run stands in, rather than one the user opened."""
    return _owner(trace) is not None


def _owner(trace: Any) -> Driver | None:
    """The run that stands in a body."""
    return next((driver for driver in _ACTIVE.drivers if driver.owns(trace)), None)
