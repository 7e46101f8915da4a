"""`tag`: a name for a value inside a model. It is the identity and costs nothing until a run looks for it.

The name is carried by a JAX primitive, so that it lives in the jaxpr: any transformation of the model keeps it, and
lowering drops it (the StableHLO of a tagged model is the one of the untagged model, byte for byte).
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from gossamer.jax.compat import hide_from_sources

T = TypeVar("T")
Listener = Callable[[str, Any], Any]


class _Listening(threading.local):
    """Who hears tags as the model's Python runs: a live run's own greenlet sets itself here."""

    listener: Listener | None = None


LISTENING = _Listening()
ARRAY_TYPES = (jax.Array, np.ndarray, np.generic)

tag_p = Primitive("gossamer_tag")
tag_p.multiple_results = True


def tag(name: str, x: T) -> T:
    """Name a value, so that `gossamer.jax.run` can read and write it. Use the value that is returned.

    Args:
        name: what to call the value, for instance "resid" or "mlp_out".
        x: arrays in any pytree, of any shape and dtype. A Python number stays one: no run sees it.

    Returns: `x`, unchanged unless a run writes it.

    Under the model's own `vmap` a tag is seen once, with the mapped axes in front.

    Raises:
        TypeError: the name is not a text.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"a tag needs a name: a text that is not empty, not {name!r}")
    if LISTENING.listener is not None:
        return cast(T, LISTENING.listener(name, x))
    value = Tagged.of(x)
    return cast(T, value.rebuilt(bound(name, value.arrays, value.tree)))


def bound(name: str, arrays: list[Any], tree: Any) -> list[Any]:
    """The arrays, tagged for the runs that trace this."""
    return list(tag_p.bind(*arrays, name=name, tree=tree, axes=((),) * len(arrays), inner_diff=False)) if arrays else []


@dataclass(frozen=True)
class Tagged:
    """What is tagged, taken apart.

    Args:
        arrays: the leaves that are arrays.
        tree: the tree that a run shows: that of the value, with None (an empty tree) where a leaf is no array.
        whole, leaves, places: the value's own tree, all its leaves, and which of them the arrays are.
    """

    arrays: list[Any]
    tree: Any
    whole: Any
    leaves: list[Any]
    places: list[int]

    @classmethod
    def of(cls, x: Any) -> "Tagged":
        leaves, whole = jax.tree.flatten(x)
        places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, ARRAY_TYPES)]
        marks = [leaf if at in places else None for at, leaf in enumerate(leaves)]
        tree = whole if len(places) == len(leaves) else jax.tree.structure(jax.tree.unflatten(whole, marks))
        return cls([jnp.asarray(leaves[at]) for at in places], tree, whole, leaves, places)

    def rebuilt(self, arrays: list[Any]) -> Any:
        """The value with other arrays in it."""
        leaves = list(self.leaves)
        for at, array in zip(self.places, arrays, strict=True):
            leaves[at] = array
        return jax.tree.unflatten(self.whole, leaves)


@tag_p.def_impl
def _impl(*xs: Any, **_: Any) -> list[Any]:
    return list(xs)


@tag_p.def_abstract_eval
def _abstract(*xs: Any, **_: Any) -> list[Any]:
    return list(xs)


def _batch(xs: Any, dims: Any, *, axes: tuple[tuple[int, ...], ...], **params: Any) -> tuple[list[Any], list[Any]]:
    """Keep every batch axis where it is, and note it: moving it here would change the compiled model."""
    noted = tuple(
        placed if dim is None else (dim, *(at + (at >= dim) for at in placed))
        for dim, placed in zip(dims, axes, strict=True)
    )
    return tag_p.bind(*xs, axes=noted, **params), list(dims)


def _jvp(primals: Any, tangents: Any, *, inner_diff: bool, **params: Any) -> tuple[list[Any], list[Any]]:
    """The model differentiates itself here: a write would change the value and not its derivative, so say so."""
    del inner_diff
    return tag_p.bind(*primals, inner_diff=True, **params), list(tangents)


def _transpose(cotangents: Any, *xs: Any, **_: Any) -> list[Any]:
    return [ct if ad.is_undefined_primal(x) else None for ct, x in zip(cotangents, xs, strict=True)]


def _lower(_: Any, *xs: Any, **__: Any) -> list[Any]:
    return list(xs)


hide_from_sources(__file__)
batching.primitive_batchers[tag_p] = _batch
ad.primitive_jvps[tag_p] = _jvp
ad.primitive_transposes[tag_p] = _transpose
mlir.register_lowering(tag_p, _lower)
