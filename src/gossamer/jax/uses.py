"""Which results of a model's equations are used: a write to one that is not would change nothing, and is refused.

A value is used if something that the model returns, does (prints, writes to a reference) or tags depends on it. A tag
counts as a use of what it names, because a run can read it there.
"""

from collections.abc import Sequence
from typing import Any

from gossamer.jax import compat
from gossamer.jax.names import TagCounts

Used = tuple[bool, ...]


class Uses:
    """Looked up by jaxpr and by which of its results are used: one jaxpr may be called in several places.

    Args:
        tags: which equations have tags inside.
    """

    def __init__(self, tags: TagCounts) -> None:
        self._tags = tags
        # The jaxpr is kept, so that its id stays its own.
        self._known: dict[tuple[int, Used], tuple[Any, Used, list[Used]]] = {}

    def of_results(self, jaxpr: Any, used: Used) -> list[Used]:
        """For each equation, which of its results are used.

        Args:
            used: which results of the jaxpr are.
        """
        return self._walked(jaxpr, used)[2]

    def in_body(self, eqn: Any, used: Used) -> Used:
        """Which results of an equation's body are used, given which results of the equation are.

        A carry of a scan is used by the next step as well.
        """
        if eqn.primitive.name != compat.SCAN:
            return used
        form = compat.scan_form(eqn)
        while True:
            carries = self._of_inputs(form.body, used)[form.consts : form.consts + form.carries]
            wider = (*(one or other for one, other in zip(carries, used, strict=False)), *used[form.carries :])
            if wider == used:
                return used
            used = wider

    def _of_inputs(self, inner: Any, used: Used) -> Used:
        return self._walked(compat.opened(inner)[0], used)[1]

    def _walked(self, jaxpr: Any, used: Used) -> tuple[Any, Used, list[Used]]:
        known = self._known.get((id(jaxpr), used))
        if known is None:
            needed = _needed(jaxpr.outvars, used)
            results: list[Used] = []
            for eqn in reversed(jaxpr.eqns):
                results.append(tuple(atom in needed for atom in eqn.outvars))
                needed |= _needed(eqn.invars, self._operands(eqn, results[-1]))
            known = jaxpr, tuple(atom in needed for atom in jaxpr.invars), results[::-1]
            self._known[id(jaxpr), used] = known
        return known

    def _operands(self, eqn: Any, used: Used) -> Used:
        """Which operands of an equation are used."""
        kind = eqn.primitive.name
        if kind in compat.JIT:
            return self._of_inputs(compat.called(eqn), used)
        if kind in compat.REMAT or kind == compat.SCAN:
            return self._of_inputs(eqn.params["jaxpr"], self.in_body(eqn, used))
        if kind == compat.COND:
            branches = [self._of_inputs(one, used) for one in eqn.params["branches"]]
            operands = tuple(any(of_one) for of_one in zip(*branches, strict=True))
            return (any(used) or bool(eqn.effects) or any(operands), *operands)
        return (any(used) or bool(eqn.effects) or bool(self._tags.of(eqn)),) * len(eqn.invars)


def _needed(atoms: Sequence[Any], used: Used) -> set[Any]:
    return {atom for atom, one in zip(atoms, used, strict=True) if one and not isinstance(atom, compat.Literal)}
