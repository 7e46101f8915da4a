"""Random programs of nested transformations with tags in them, and the same computed by hand.

All operations act on elements, so that by hand a `vmap` is a transposition, a `scan` a Python loop, and a `cond` both
branches and a choice. Each tag has a name of its own, and an edit that depends on the place of an element in the array:
axes in another order than promised would show.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from gossamer.jax import tag

OPAQUE = {"sin": jnp.sin, "shift": lambda x: 0.75 * x + 0.25}
WRAPS = ["jit", "remat", "vmap", "scan", "fori", "known cond", "cond", "grad", "while", "custom"]


@dataclass
class Node:
    """One step of a program. `body` is what is wrapped; `count` the steps of a scan or the axis of a vmap."""

    kind: str
    name: str = ""
    body: list["Node"] = field(default_factory=list)
    other: list["Node"] = field(default_factory=list)
    count: int = 0
    reverse: bool = False


@dataclass(frozen=True)
class TagFacts:
    """What is known of a tag from where it is: its stacked layers (None outside), and what may be done there."""

    layers: int | None
    writable: bool
    readable: bool


@dataclass(frozen=True)
class Around:
    """Where a program is: scans, vmaps and so on around it."""

    layers: int | None = None
    axes: int = 2
    writable: bool = True
    readable: bool = True
    tags: bool = True
    whiles: bool = True


def program(seed: int, *, whiles: bool = True) -> tuple[list[Node], dict[str, TagFacts]]:
    """A program of at least three tags, and the facts of each, by name.

    Args:
        whiles: `while_loop`s may be in it, which have no gradient backwards.
    """
    source = random.Random(seed)
    while True:
        tags: dict[str, TagFacts] = {}
        nodes = _grown(source, 3, Around(whiles=whiles), tags)
        if 3 <= len(tags) <= 8:
            return nodes, tags


def _grown(source: random.Random, depth: int, around: Around, tags: dict[str, TagFacts]) -> list[Node]:
    return [_node(source, depth, around, tags) for _ in range(source.randint(1, 3))]


def _node(source: random.Random, depth: int, around: Around, tags: dict[str, TagFacts]) -> Node:
    if depth == 0 or source.random() < 0.3:
        if not around.tags or source.random() < 0.3:
            return Node(source.choice(list(OPAQUE)))
        name = f"t{len(tags)}"
        tags[name] = TagFacts(around.layers, around.writable, around.readable)
        return Node("tag", name)
    kind = source.choice(WRAPS)
    if (kind == "vmap" and not around.axes) or (kind == "while" and not around.whiles):
        kind = "jit"
    node = Node(kind, count=source.randint(1, 3), reverse=source.random() < 0.3)
    inside = vars(around) | {}
    if kind in ("scan", "fori"):
        inside["layers"] = (around.layers or 1) * node.count
    elif kind == "vmap":
        node.count = source.randrange(around.axes)
        inside["axes"] = around.axes - 1
    elif kind == "cond":
        # Under a vmap the choice differs between the mapped elements, and JAX makes a select of it: no branch is left.
        inside["readable"] = around.readable and around.axes < 2
        node.other = _grown(source, depth - 1, Around(**inside), tags)
    elif kind == "grad":
        inside["tags"] = around.tags and around.writable  # the gradient of a gradient throws some values away
        inside["writable"] = inside["whiles"] = False
    elif kind in ("while", "custom"):
        inside["tags"] = False  # cannot be opened: a run applies them as they are
    node.body = _grown(source, depth - 1, Around(**inside), tags)
    return node


# In JAX.


def in_jax(nodes: list[Node], name: Callable[[str, Any], Any] = tag) -> Callable[[Any], Any]:
    """The program with its tags; or with something else in the place of `tag`."""

    def function(x: Any) -> Any:
        for node in nodes:
            x = _applied(node, x, name)
        return x

    return function


def _applied(node: Node, x: Any, name: Callable[[str, Any], Any]) -> Any:
    if node.kind in OPAQUE:
        return OPAQUE[node.kind](x)
    if node.kind == "tag":
        return name(node.name, x)
    body = in_jax(node.body, name)
    if node.kind == "scan":
        return jax.lax.scan(lambda x, w: (body(x * w), None), x, _scales(node), reverse=node.reverse)[0]
    if node.kind == "fori":
        return jax.lax.fori_loop(0, node.count, lambda _, x: body(x), x)
    if node.kind == "vmap":
        return jax.vmap(body, node.count, node.count)(x)
    if node.kind == "known cond":
        return jax.lax.cond(True, body, lambda x: x, x)
    if node.kind == "cond":
        return jax.lax.cond(jnp.sum(x) > 0, body, in_jax(node.other, name), x)
    if node.kind == "grad":
        return x + 0.1 * jax.grad(lambda x: jnp.sum(body(x)))(x)
    if node.kind == "while":
        return jax.lax.while_loop(lambda c: c[0] < node.count, lambda c: (c[0] + 1, body(c[1])), (0, x))[1]
    return {"jit": jax.jit, "remat": jax.checkpoint, "custom": _with_own_rule}[node.kind](body)(x)


def _with_own_rule(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    ruled = jax.custom_jvp(function)
    ruled.defjvp(lambda x, t: (ruled(x[0]), 0.5 * t[0]))
    return ruled


def _scales(node: Node) -> Any:
    return jnp.linspace(0.75, 1.25, node.count)


# By hand.

Edit = Callable[[str, Any, Any], Any]  # of name, layer (None outside of stacked layers) and value


@dataclass(frozen=True)
class ByHand:
    """The program without tags, scans and maps.

    Args:
        edit: what happens at each tag.
        mapped: how many axes in front are mapped.
        layer: the number of the layer, counted over all scans around.
    """

    edit: Edit
    mapped: int = 0
    layer: int | None = None

    def __call__(self, nodes: list[Node], x: Any) -> Any:
        for node in nodes:
            x = self._applied(node, x)
        return x

    def _applied(self, node: Node, x: Any) -> Any:
        if node.kind in OPAQUE:
            return OPAQUE[node.kind](x)
        if node.kind == "tag":
            return self.edit(node.name, self.layer, x)
        if node.kind in ("scan", "fori"):
            for step in self._steps(node):
                inner = ByHand(self.edit, self.mapped, (self.layer or 0) * node.count + step)
                x = inner(node.body, x * _scales(node)[step] if node.kind == "scan" else x)
            return x
        if node.kind == "vmap":
            axis = self.mapped + node.count
            front = jnp.moveaxis(x, axis, self.mapped)
            return jnp.moveaxis(ByHand(self.edit, self.mapped + 1, self.layer)(node.body, front), self.mapped, axis)
        if node.kind == "cond":
            chosen = jnp.sum(x, axis=tuple(range(self.mapped, x.ndim)), keepdims=True) > 0
            held = jax.lax.stop_gradient(x)  # as in JAX, where a cond is made a select: no slope where not taken
            body = self(node.body, jnp.where(chosen, x, held))
            other = self(node.other, jnp.where(chosen, held, x))
            return jnp.where(chosen, body, other)
        if node.kind == "while":
            for _ in range(node.count):
                x = self(node.body, x)
            return x
        if node.kind == "grad":
            self(node.body, x)  # its tags are seen, and not written
            unseen = ByHand(lambda name, layer, h: h, self.mapped, self.layer)
            return x + 0.1 * jax.grad(lambda x: jnp.sum(unseen(node.body, x)))(x)
        return _with_own_rule(lambda x: self(node.body, x))(x) if node.kind == "custom" else self(node.body, x)

    def _steps(self, node: Node) -> range:
        backwards = node.reverse and node.kind == "scan"
        return range(node.count - 1, -1, -1) if backwards else range(node.count)
