"""What an equation names: a tag, or a name for remat policies, which `jax.ad_checkpoint.checkpoint_name` gives.

Such names are in many models already. They are sites where a run asks for them (`checkpoint_names=True`), and go on to
their remat's policy as before, with the value that the run left.
"""

from collections.abc import Mapping
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
