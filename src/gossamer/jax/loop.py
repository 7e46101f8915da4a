"""What staged and live runs share: the loop over sites, `until`, callbacks, and the end of the `with`."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any

import jax

from gossamer.jax import compat
from gossamer.jax.driver import Driver, own_level
from gossamer.jax.errors import (
    InstrumentError,
    NeedsLayer,
    RunNotFinished,
    TagNotReached,
    UnusedIntervention,
    scoped_leak,
)
from gossamer.jax.site import TagSite


@dataclass
class Callback:
    """A function to call at sites.

    Args:
        name: a glob pattern for the names.
        meets: whether it is called at a site.
        what: how an error names it.
    """

    name: str
    meets: Callable[[TagSite], bool]
    function: Callable[[TagSite], None]
    what: str
    fired: int = 0

    def takes(self, name: str) -> bool:
        return fnmatchcase(name, self.name)


class Loop(ABC):
    """The sites of one run, visited in the order in which the model comes by them.

    A subclass says how the model is run (`_work`) and what to check before (`_expect`). With `strict`, a run that
    stands in an inner trace must be resumed in that trace.
    """

    strict = False

    def __init__(self) -> None:
        self._callbacks: list[Callback] = []
        self._driver: Driver | None = None
        self._base: compat.Level | None = None
        self._site: TagSite | None = None
        self._draining = False
        self._finished = False
        self._result: Any = None
        self._passed: list[str] = []
        self._scoped: set[str] = set()

    @property
    def result(self) -> Any:
        """What the function returned.

        Raises:
            RunNotFinished: the model still stands at a site.
        """
        if not self._finished:
            raise RunNotFinished(
                "the result is there when the run is finished: after the loop has passed the last site, or after the "
                "`with`. (zip over two runs stops at the end of the first: finish the second.)"
            )
        return self._result

    def on(self, name: str, function: Callable[[TagSite], None], path: str | None = None) -> None:
        """Call `function(site)` at each site of this name: the loop's body as a callback, without greenlets.

        Args:
            name: a tag's name, or a glob pattern.
            path: a glob pattern for the site's path.

        Raises:
            UnknownTag: the model has no such tag.
        """
        self._expect(name, path)
        self._callbacks.append(Callback(name, lambda site: site.matches(name, path), function, f"on({name!r})"))

    def until(self, name: str, path: str | None = None) -> TagSite:
        """Go on to the next site of this name, passing all others by.

        Args:
            name: a tag's name, or a glob pattern.
            path: a glob pattern for the site's path, for instance "*/layer_2/*".

        Raises:
            UnknownTag: the model has no such tag.
            TagNotReached: the run ended without coming by it (again).
        """
        self._expect(name, path)
        for site in self:
            if site.matches(name, path):
                return site
        passed = ", ".join(self._passed) or "none"
        times = sum(fnmatchcase(one, name) for one in self._passed)
        where = "" if path is None else f" at {path!r}"
        raise TagNotReached(
            f"{name!r}{where} was not reached after this point (a site of this name was passed {times} times). "
            f"Sites in the order of this run: {passed}. until only goes forward."
        )

    def __iter__(self) -> Iterator[TagSite]:
        return self

    def __next__(self) -> TagSite:
        if self._draining:
            raise InstrumentError("the run is over: its `with` has ended")
        if self._finished:
            raise StopIteration
        if self._driver is None:
            assert self._base is not None
            self._driver = Driver(self._drive, self._base, strict=self.strict)
        return self._advance()

    def __enter__(self) -> "Loop":
        self._base = compat.here()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                if self._driver is not None:
                    self._driver.kill()
                raise_explained(error, self._site, self._scoped)
            else:
                self._finish()
        except jax.errors.UnexpectedTracerError as leak:
            raise_explained(leak, self._site, self._scoped)
        finally:
            self._draining = True
            self._let_go()

    def _finish(self) -> None:
        """Run on to the end, with callbacks only."""
        self._draining = True
        if not self._finished:
            if self._driver is None:
                assert self._base is not None
                with own_level(self._base):
                    self._drive()
            else:
                with contextlib.suppress(StopIteration):
                    self._advance()
        unused = [callback.what for callback in self._callbacks if not callback.fired]
        if unused:
            raise UnusedIntervention(
                f"never used: {', '.join(unused)}. The tag is in the model, but this run did not come by it "
                "(another path, a layer that was not peeled, or code that was not executed)."
            )

    def _advance(self) -> TagSite:
        assert self._driver is not None
        self._site = self._driver.advance()
        if self._site is None:
            self._driver.release()
            raise StopIteration
        return self._site

    def _drive(self) -> None:
        try:
            self._result = self._work()
        except StopIteration as error:
            raise InstrumentError(
                "the model, or a function given to its run, raised StopIteration, which would end the loop over sites "
                "as if the model had run to its end: catch it there, or give next(...) a default"
            ) from error
        self._finished = True

    def _visit(self, site: TagSite, inline: bool) -> None:
        """Called by the model at each site: callbacks first, then the loop."""
        self._passed.append(site.name)
        if not inline:
            self._scoped.add(f"{site.name!r} in {site.scope}")
        for callback in self._callbacks:
            if callback.meets(site):
                callback.fired += 1
                try:
                    callback.function(site)
                except Exception as error:
                    raise_explained(error, site, self._scoped)
                    raise
        if self._driver is not None and not self._draining:
            self._stand(self._driver, site, inline)

    def _stand(self, driver: Driver, site: TagSite, inline: bool) -> None:
        driver.stop_at(site, inline)

    def _let_go(self) -> None:
        """Forget what belongs to the caller's trace."""
        if self._driver is not None:
            self._driver.release()
        self._driver = self._site = self._base = None
        self._callbacks.clear()

    @abstractmethod
    def _work(self) -> Any:
        """Run the model to its end; what comes is the result."""

    @abstractmethod
    def _expect(self, name: str, path: str | None) -> None:
        """Refuse a name that the model has not, where that is known before it runs."""


def raise_explained(error: BaseException, site: TagSite | None, scoped: set[str]) -> None:
    """Raise the error that says what a tracer error of JAX means here; return if it is none of those."""
    if isinstance(error, jax.errors.TracerBoolConversionError) and site is not None and site.length:
        raise NeedsLayer(
            f"a Python `if` on a traced value at {site!r}, which stands for all {site.length} layers at once, so that "
            "site.layer is a traced number. Pass layers=... to edit, set or save, or run with peel=[...]"
        ) from error
    if isinstance(error, jax.errors.UnexpectedTracerError):
        scopes = f" (sites of this run in such scopes: {', '.join(sorted(scoped))})" if scoped else ""
        raise scoped_leak(scopes) from error
