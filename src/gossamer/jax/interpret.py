"""The interpreter: evaluates a jaxpr and stops at its tags.

Equations without tags are applied as they are, so that fast kernels and custom rules keep their form. Those with tags
inside are opened: `jit` is inlined, `scan`, `remat` and `cond` are built again around an interpreted body. What cannot
be opened is refused by name.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gossamer.jax import compat, nested, scans
from gossamer.jax.errors import Unsupported, scoped_leak
from gossamer.jax.names import TagCounts, facts_of, name_of
from gossamer.jax.peel import Peel, nothing, peeled
from gossamer.jax.scope import Scope
from gossamer.jax.site import TagSite
from gossamer.jax.uses import Used, Uses

Wanted = Callable[[str], bool]


class Interpreter:
    """One pass over a staged model.

    Args:
        visit: called with each site, and whether it is at the caller's own level; what it leaves in the site is what
            the model goes on with.
        peel: which steps of a scan are run one by one, outside of it.
        wanted: whether tags of a name are visited; the others are passed by.
        open_remats: inline remats with wanted tags, rather than build them again.
        checkpoint_names: the names that `checkpoint_name` gives are tags, too.
        unrolled: the numbers of the layers of a name, outside of stacked layers; left out, they are not checked.

    Attributes:
        done: no further tag is visited: the rest of the model is applied as it is.
    """

    def __init__(
        self,
        visit: Callable[[TagSite, bool], None],
        *,
        peel: Peel = nothing,
        wanted: Wanted | None = None,
        open_remats: bool = False,
        checkpoint_names: bool = False,
        unrolled: Callable[[str], tuple[int, ...]] | None = None,
    ) -> None:
        self._visit = visit
        self._open_remats = open_remats
        self._counts: Counter[str] = Counter()
        self._tags = TagCounts(checkpoint_names=checkpoint_names)
        self._uses = Uses(self._tags)
        self._wanted = wanted or (lambda _: True)
        self._checkpoint_names = checkpoint_names
        self._unrolled = unrolled
        self._peel = peel
        self.done = False
        self._ended: list[Any] = []

    def evaluate(
        self, jaxpr: Any, consts: list[Any], args: list[Any], scope: Scope, stack: Any, used: Used
    ) -> list[Any]:
        """The results of a jaxpr, with its tags visited.

        Args:
            consts, args: values of its constants and inputs.
            scope: where its equations belong.
            stack: named scopes of the equations that it was inlined from, within the scope.
            used: which of the results are used.
        """
        env: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *args), strict=True))
        args.clear()
        dead = _last_uses(jaxpr)
        used_results = self._uses.of_results(jaxpr, used)

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, compat.Literal) else env[atom]

        for at, eqn in enumerate(jaxpr.eqns):
            results = self._apply(eqn, [read(atom) for atom in eqn.invars], scope, stack, used_results[at])
            env.update(zip(eqn.outvars, results, strict=True))
            del results
            for atom in dead.get(at, ()):
                env.pop(atom, None)
        return [read(atom) for atom in jaxpr.outvars]

    def end(self, trace: Any, taken: list[Any], where: str) -> None:
        """A body has been traced: its values are gone, and none of an earlier body may be among what it took along.

        Raises:
            ScopedLeak: one is.
        """
        self._refuse_ended(taken, where)
        self._ended.append(trace)

    def _refuse_ended(self, values: list[Any], where: str) -> None:
        traces = [compat.trace_of(value) for value in values]
        if any(trace is not None and trace is ended() for trace in traces for ended in self._ended):
            raise scoped_leak(f", in {where}")

    def pass_by(self, inners: Any) -> None:
        """Count the tags of bodies that are not run."""
        for inner in inners:
            self._counts.update(self._tags.inside(compat.opened(inner)[0]))

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """What is met here will be met again, or is counted otherwise."""
        before = Counter(self._counts)
        yield
        self._counts = before

    def _apply(self, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used) -> list[Any]:
        tags = self._tags.of(eqn)
        names = [] if self.done else list(filter(self._wanted, tags))
        if names:
            with self.uncounted():
                results = self._opened(eqn, values, scope, stack, used, names)
        else:
            results = compat.rebind(eqn, values, stack)
        self._counts.update(tags)
        return results

    def _opened(self, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used, names: list[str]) -> list[Any]:
        """The results of an equation that is a wanted tag, or has some inside."""
        kind = eqn.primitive.name
        if name_of(eqn, checkpoint_names=self._checkpoint_names) is not None:
            return self._stop(eqn, values, scope, stack, used)
        used = self._uses.in_body(eqn, used)
        if kind in compat.JIT or (kind in compat.REMAT and self._open_remats):
            return nested.inline(self, eqn, values, scope, stack, used)
        if kind in compat.REMAT:
            return nested.remat(self, eqn, values, scope, stack, used)
        if kind == compat.COND:
            return nested.branch(self, eqn, values, scope, stack, used)
        if kind == compat.SCAN:
            alone = self._peel(scope, compat.scan_form(eqn).length)
            if alone:
                return peeled(self, eqn, values, scope, stack, used, alone)
            return scans.scan(self, eqn, values, scope, stack, used)
        raise Unsupported(
            f"tags inside {kind} ({compat.source_of(eqn)}): {', '.join(sorted(names))}. gossamer.jax opens jit, scan, "
            "remat and cond. Move the tag outside, or leave it out (capture and patch only open what they name)."
        )

    def _stop(self, eqn: Any, values: list[Any], scope: Scope, stack: Any, used: Used) -> list[Any]:
        path = nested.path_inside(scope, stack, eqn)
        facts = facts_of(eqn, path)
        values = [compat.as_array(value, atom.aval) for value, atom in zip(values, eqn.invars, strict=True)]
        site = TagSite(
            facts,
            values,
            scope,
            path=path,
            source=compat.source_of(eqn),
            count=self._counts[facts["name"]],
            numbers=self._numbers(facts["name"], scope),
            used=any(used),
        )
        self._visit(site, scope.inline)
        leaves = site.close()
        self._refuse_ended(leaves, repr(site))
        # Tagged again: a run around this run sees what this one left.
        return compat.rebind(eqn, leaves, stack)

    def _numbers(self, name: str, scope: Scope) -> Sequence[int] | None:
        if scope.layer is not None:
            return range(scope.total)
        return None if self._unrolled is None else self._unrolled(name)


def _last_uses(jaxpr: Any) -> dict[int, list[Any]]:
    """Which variables are not needed after which equation, so that their memory can go."""
    last: dict[Any, int] = {}
    for at, eqn in enumerate(jaxpr.eqns):
        last.update((atom, at) for atom in (*eqn.invars, *eqn.outvars) if not isinstance(atom, compat.Literal))
    for atom in jaxpr.outvars:
        if not isinstance(atom, compat.Literal):
            last.pop(atom, None)
    dead: dict[int, list[Any]] = {}
    for atom, at in last.items():
        dead.setdefault(at, []).append(atom)
    return dead
