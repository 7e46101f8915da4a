"""What an equation names: a tag, or a name for remat policies, which `jax.ad_checkpoint.checkpoint_name` gives.

Such names are in many models already. They are sites where a run asks for them (`checkpoint_names=True`), and go on to
their remat's policy as before, with the value that the run left.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from gossamer.jax import compat
from gossamer.jax.tag import tag_p

_LEAF = jax.tree.structure(0)


def name_of(eqn: Any, *, checkpoint_names: bool) -> str | None:
    """The name that an equation gives to its operand; None where it gives none.

    Args:
        checkpoint_names: whether names for remat policies count.
    """
    if eqn.primitive is tag_p or (checkpoint_names and is_checkpoint_name(eqn)):
        return str(eqn.params["name"])
    return None


class TagCounts:
    """How many tags of each name equations have inside. One numbering for all modes: what may not run counts, too.

    Args:
        checkpoint_names: whether names for remat policies count.
    """

    def __init__(self, *, checkpoint_names: bool) -> None:
        self._checkpoint_names = checkpoint_names
        self._known: dict[int, tuple[Any, Counter[str]]] = {}  # the jaxpr is kept, so that its id stays its own

    def of(self, eqn: Any) -> Counter[str]:
        """Those of an equation: itself, or what is in its bodies."""
        name = name_of(eqn, checkpoint_names=self._checkpoint_names)
        if name is not None:
            return Counter([name])
        if is_recomputation(eqn):
            return Counter()
        return _total(map(self.inside, compat.inner_jaxprs(eqn)))

    def inside(self, jaxpr: Any) -> Counter[str]:
        """Those of a jaxpr."""
        known = self._known.get(id(jaxpr))
        if known is None:
            known = self._known[id(jaxpr)] = (jaxpr, _total(map(self.of, jaxpr.eqns)))
        return known[1]


def _total(parts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return total


def is_recomputation(eqn: Any) -> bool:
    """Whether an equation is what a remat computes again for its gradient: its tags are in the forward pass."""
    return bool(eqn.params.get("differentiated"))


def is_checkpoint_name(eqn: Any) -> bool:
    return bool(eqn.primitive.name == compat.CHECKPOINT_NAME and "name" in eqn.params)


def facts_of(eqn: Any, path: str) -> Mapping[str, Any]:
    """The parameters of a tag: name, tree, axes, inner_diff; for a checkpoint name, those that it would have.

    Args:
        path: the named scopes of the equation. JAX notes its transformations there: a name has no rule of ours that
            could note that the model differentiates itself.
    """
    if eqn.primitive is tag_p:
        params: Mapping[str, Any] = eqn.params
        return params
    return {"name": eqn.params["name"], "tree": _LEAF, "axes": ((),), "inner_diff": "jvp(" in path}
