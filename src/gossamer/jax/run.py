"""A run: the model stands still at each of its tags, and an ordinary loop reads and writes.

    with run(model, params, tokens) as r:
        for site in r:
            if site.name == "resid" and site.layer == 3:
                site.set(site.value + steering)
    logits = r.result

The loop form holds the interpreter in a greenlet. The callback form (`r.on`) calls from within the interpreter and
needs no greenlet; it is the oracle of the loop.
"""

import contextlib
import glob
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gossamer.jax import compat
from gossamer.jax.errors import InstrumentError
from gossamer.jax.interpret import Interpreter
from gossamer.jax.loop import Callback, Loop
from gossamer.jax.peel import numbers_of, outermost
from gossamer.jax.scope import Scope
from gossamer.jax.site import TagSite
from gossamer.jax.sites import SiteRow, SiteTable, table_of
from gossamer.jax.staging import Staged, refuse_shared, stage


def run(
    function: Callable[..., Any],
    *args: Any,
    peel: Any = (),
    mode: str = "staged",
    checkpoint_names: bool = False,
    **kwargs: Any,
) -> Any:
    """Open a run of `function(*args, **kwargs)`, to be used in a `with`.

    Args:
        function: a model with tags: any function that JAX can trace.
        peel: a stacked layer or several, which are run one by one, so that the loop sees them with a Python number; the
            other layers of their scan are not visited.
        mode: "staged" traces the function to a jaxpr and interprets that; "live" runs its real Python, for models
            that need concrete values or change their own state.
        checkpoint_names: what the model names for remat policies (`jax.ad_checkpoint.checkpoint_name`) is a site too.

    A model's own arguments of these names are given to it first, with `functools.partial`.

    Returns: a `Run`, or a `LiveRun`, which has the same loop, `until`, `on` and `result`.

    Raises:
        InstrumentError: another mode; or one of these keywords is an argument of the model, too.

    Source: the greenlet loop of Kramár, Instrumenting LLM model internals in JAX (2024), and mishax.
    """
    peeled = numbers_of(peel)
    refuse_shared(function, peel=bool(peeled), mode=mode != "staged", checkpoint_names=checkpoint_names)
    if mode == "live":
        from gossamer.jax.live import LiveRun  # its private parts of JAX are not touched by staged runs

        return LiveRun(function, args, kwargs, peel=peeled, checkpoint_names=checkpoint_names)
    if mode != "staged":
        raise InstrumentError(f'mode={mode!r}: "staged" or "live"')
    return Run(function, args, kwargs, peel=peeled, checkpoint_names=checkpoint_names)


class Run(Loop):
    """A staged run. Its operations are ordinary ones of the caller's trace: jit, grad and vmap go around it.

    Raises, on entering:
        NeedsLive: the function cannot be staged.
    """

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
        self._call: Any = (function, args, kwargs)
        self._peel = peel
        self._checkpoint_names = checkpoint_names
        self._staged: Staged | None = None
        self._table: SiteTable | None = None

    def __enter__(self) -> "Run":
        super().__enter__()
        if self._call is None:
            raise InstrumentError("a run is used once: open another one with run(...)")
        (function, args, kwargs), self._call = self._call, None
        self._staged = stage(function, args, kwargs)
        self._table = table_of(self._staged.closed.jaxpr, checkpoint_names=self._checkpoint_names)
        return self

    @property
    def table(self) -> SiteTable:
        """The sites of this run, before it comes by them."""
        if self._table is None:
            raise InstrumentError("a run is used in a `with`: with run(model, ...) as r: ...")
        return self._table

    def at_rows(self, rows: Sequence[SiteRow], function: Callable[[TagSite], None], what: str) -> None:
        """Call `function(site)` at the sites of some rows of the table, all of one name.

        Args:
            what: names the intervention, if it turns out that the run came by none of them.
        """
        name, counts = rows[0].name, {row.count for row in rows}
        meets = lambda site: site.name == name and site.count in counts  # noqa: E731
        self._callbacks.append(Callback(glob.escape(name), meets, function, what))

    @contextlib.contextmanager
    def outside(self) -> Iterator[None]:
        """Compute at the level around the run, while it stands in the body of a scan or remat."""
        if self._driver is None or self._driver.finished:
            yield
            return
        with self._driver.base.inside():
            yield

    def _work(self) -> Any:
        staged = self._entered()
        self._staged = None
        looping = self._driver is not None
        interpreter = Interpreter(
            self._visit,
            peel=outermost(self._peel),
            checkpoint_names=self._checkpoint_names,
            wanted=None if looping else lambda name: any(callback.takes(name) for callback in self._callbacks),
            unrolled=self.table.unrolled,
        )
        closed = staged.closed
        used = (True,) * len(closed.jaxpr.outvars)
        consts = list(closed.consts)
        outs = interpreter.evaluate(closed.jaxpr, consts, staged.args, Scope("top"), compat.no_names(), used)
        return staged.result(outs)

    def _expect(self, name: str, path: str | None) -> None:
        self.table.expect(name, path)

    def _entered(self) -> Staged:
        if self._staged is None:
            raise InstrumentError("a run is used in a `with`, once: with run(model, ...) as r: ...")
        return self._staged
