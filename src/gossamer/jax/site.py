"""A site: one tagged value, while the model stands still at it."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp

from gossamer.jax import compat
from gossamer.jax.errors import InstrumentError, NeedsLayer, ScopedValue, Unsupported, UnusedTag, WriteMismatch
from gossamer.jax.layers import ChosenLayer, Layers, choose, nan_where
from gossamer.jax.scope import Handle, Scope


class TagSite:
    """What a run shows of one tag: its facts, its value, and the ways to change or keep it.

    Attributes:
        name: the tag's name.
        path: the named scopes around it ("Model/layers/attn"), as flax, equinox and haiku give them.
        count: how many tags of this name come before in the model, in the order of `sites`, whether they run or not
            (in a branch that is not taken); in live runs, how many came before.
        layer: a traced number within stacked layers; a Python number in a peeled layer; elsewhere the same as `count`,
            so that unrolled layers count up.
        numbers: which layers there are for `layers=` to choose from: a range of stacked ones; None: not known.
        length: how many stacked layers there are; None outside of them.
        index: the step of every scan around the site, the outermost first.
        scope: "top", "scan", "layer" (peeled), "remat", "cond"; in live runs "top" or "inner".
        source: file:line of the tag.
        inner_diff: the model differentiates itself here; the site cannot be written.
        used: whether the model uses what the tag returned; where it does not, the site cannot be written.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        leaves: list[Any],
        scope: Scope,
        *,
        path: str,
        source: str,
        count: int,
        numbers: Sequence[int] | None = None,
        used: bool = True,
    ) -> None:
        self.name: str = params["name"]
        self.path = path
        self.source = source
        self.count = count
        self.inner_diff: bool = params["inner_diff"]
        self.numbers = numbers
        self.used = used
        self.scope = scope.kind
        self.length = scope.length
        self._tree = params["tree"]
        self._axes = params["axes"]
        self._leaves: list[Any] | None = leaves
        self._scope: Scope | None = scope

    def __repr__(self) -> str:
        where = f" of {self.length} layers" if self.length else ""
        return f"TagSite({self.name!r}, path={self.path!r}, {self.scope}{where}, {self.source})"

    @property
    def layer(self) -> Any:
        layer = self._open().layer
        return self.count if layer is None else layer

    @property
    def index(self) -> tuple[Any, ...]:
        return self._open().index

    @property
    def value(self) -> Any:
        """The value now: what the model computed, or what was last written. Belongs to the site's scope."""
        self._open()
        self._refuse_branch("read")
        return self._shown()

    @value.setter
    def value(self, _: Any) -> None:
        raise InstrumentError(f"site.value = ... at {self!r}: write with site.set(value) or site.edit(function)")

    @property
    def shape(self) -> Any:
        return self._facts(lambda leaf: tuple(leaf.shape))

    @property
    def dtype(self) -> Any:
        return self._facts(lambda leaf: leaf.dtype)

    def set(self, value: Any, layers: Layers = None, *, cast: bool = False) -> None:
        """Let the model go on with `value`, of the same tree, shapes and dtypes.

        Args:
            layers: in stacked layers, the ones that are written: needed there.
            cast: convert numbers to the model's dtype, if it is of the same kind or a wider one.

        Raises:
            WriteMismatch: another tree, shape or dtype; nothing is broadcast.
            NeedsLayer: in stacked layers without `layers`.
            UnusedTag: the model does not use what the tag returned.
        """
        chosen = self._writable("set", layers)
        with self._at_home():
            old = self._shown()
            value = self._checked(value, old, cast)
            pick = self._picked("set", chosen)
            if pick is True:
                self._write(value)
            elif pick is not False:
                guarded = self._guarded(value, chosen)
                self._write(jax.tree.map(lambda new, kept: jnp.where(pick, new, kept), guarded, old))

    def edit(self, function: Callable[[Any], Any], layers: Layers = None, *, cast: bool = False) -> None:
        """Let the model go on with `function(value)`; in stacked layers it runs at the chosen ones only.

        Args:
            function: from the value to another of the same tree, shapes and dtypes.
            layers: in stacked layers, the ones that are edited: needed there. May be traced.
            cast: as in `set`.

        Raises: as `set`.
        """
        chosen = self._writable("edit", layers)
        with self._at_home():
            old = self._shown()
            pick = self._picked("edit", chosen)
            if pick is True:
                self._write(self._checked(function(old), old, cast))
            elif pick is not False:
                # A branch that is not taken costs nothing: an SAE at one of 48 layers runs once.
                self._write(jax.lax.cond(pick, lambda x: self._edited(function, x, chosen, cast), lambda x: x, old))

    def save(self, layers: Layers = None) -> Handle:
        """Bring the value out of the site's scope.

        Args:
            layers: in stacked layers, the ones that are kept, and the only ones that take memory: needed there.

        Returns: a handle whose `value` is there when the scope has ended: of the value's shape for one layer,
            (k, ...) for several, in the order given.
        """
        scope = self._open()
        self._refuse_branch("save")
        if self.length is None and layers is not None:
            raise InstrumentError(
                f"save(layers=...) at {self!r}: it is in no stacked layers. Use save() and site.layer."
            )
        chosen = None if self.length is None else self._chosen("save", layers)
        with self._at_home():
            return scope.save(self._shown(), chosen, f"{self.name!r} in {self.scope}")

    def matches(self, name: str, path: str | None = None) -> bool:
        return fnmatchcase(self.name, name) and path_matches(self.path, path)

    def _writable(self, verb: str, layers: Layers) -> ChosenLayer | None:
        self._open()
        if self.inner_diff:
            raise Unsupported(
                f"{verb} at {self!r}: the model differentiates itself here, so that a write would change the value "
                "and not its derivative. Tag the value outside of the model's own grad or jvp."
            )
        return self._chosen(verb, layers)

    def _chosen(self, verb: str, layers: Layers) -> ChosenLayer | None:
        if self.length is not None and layers is None:
            raise NeedsLayer(
                f"{verb} at {self!r} stands for all {self.length} layers at once: "
                'pass layers=... (numbers, a traced number or "all"), or run with peel=[...]'
            )
        return None if layers is None else choose(layers, self.numbers)

    def _picked(self, verb: str, chosen: ChosenLayer | None) -> Any:
        """Whether this layer is written: a Python bool where that is known, otherwise a traced one."""
        picked = True if chosen is None else chosen.has(self.layer)
        if picked is not False and not self.used:
            raise UnusedTag(
                f"{verb} at {self!r}: no result of the model depends on what this tag returned, so that a write would "
                f"change nothing. A tag is no statement: use its value, x = tag({self.name!r}, x)."
            )
        return picked | jnp.any(chosen.outside()) if chosen is not None and chosen.unchecked else picked

    def _guarded(self, value: Any, chosen: ChosenLayer | None) -> Any:
        """NaN where a traced layer number is no layer: loud, and free where it is one."""
        return nan_where(value, jnp.any(chosen.outside())) if chosen is not None and chosen.unchecked else value

    def _edited(self, function: Callable[[Any], Any], old: Any, chosen: ChosenLayer | None, cast: bool) -> Any:
        new = self._checked(function(old), old, cast)
        return jax.tree.map(compat.typed_as, self._guarded(new, chosen), old)

    def _checked(self, new: Any, old: Any, cast: bool) -> Any:
        """What is written, with the dtypes of `old` where `cast` allows it."""
        wrote_tree: Any = jax.tree.structure(new)
        if wrote_tree != self._tree:
            raise WriteMismatch(f"write at {self!r}: the model has the tree {self._tree}, you wrote {wrote_tree}")
        if cast:
            new = jax.tree.map(_cast, new, old)
        for have, wrote in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
            if jnp.shape(wrote) != have.shape or _dtype(wrote) != have.dtype:
                raise WriteMismatch(
                    f"write at {self!r}: the model has {_aval(have)}, you wrote {_aval(wrote)}. "
                    "Nothing is broadcast or cast: use jnp.broadcast_to and .astype; cast=True converts, "
                    "though not from floats to integers or the like."
                )
        return new

    def _refuse_branch(self, verb: str) -> None:
        if self._open().in_branch:
            raise Unsupported(
                f"{verb} at {self!r}: the value exists in one branch only. Use set or edit, or tag outside."
            )

    @contextlib.contextmanager
    def _at_home(self) -> Iterator[None]:
        """Compute in the site's body, with numbers as wide as its value's."""
        assert self._leaves is not None
        with self._open().home(), compat.x64_for(self._leaves):
            yield

    def _facts(self, fact: Callable[[Any], Any]) -> Any:
        return jax.tree.map(fact, self._shown())

    def _shown(self) -> Any:
        """The value in its tree, with the axes of the model's own vmaps in front."""
        self._open()
        assert self._leaves is not None
        with compat.x64_for(self._leaves):
            leaves = [_to_front(leaf, axes) for leaf, axes in zip(self._leaves, self._axes, strict=True)]
        return jax.tree.unflatten(self._tree, leaves)

    def _write(self, value: Any) -> None:
        assert self._leaves is not None
        leaves = jax.tree.leaves(value)
        # Weak types would make the rest of the model promote otherwise than it was traced.
        self._leaves = [
            _from_front(compat.typed_as(leaf, old), axes)
            for leaf, old, axes in zip(leaves, self._leaves, self._axes, strict=True)
        ]

    def _open(self) -> Scope:
        if self._scope is None:
            raise ScopedValue(
                f"the site {self.name!r} was left: its value went on with the model. "
                "Read it before the run moves on, or keep it with site.save()."
            )
        return self._scope

    def close(self) -> list[Any]:
        """Leave the site: returns the values that the model goes on with, and forgets them."""
        assert self._leaves is not None
        leaves, self._leaves, self._scope = self._leaves, None, None
        return leaves


def path_matches(path: str, pattern: str | None) -> bool:
    """Whether a path matches a glob pattern; `*/layer_2/*` also finds what is in layer_2 itself."""
    return pattern is None or fnmatchcase(path, pattern) or fnmatchcase(f"/{path}/", pattern)


def _cast(new: Any, old: Any) -> Any:
    """`new` with the dtype of `old`; as it is where that is a narrower kind of number, or none."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    ranks = [[jnp.issubdtype(_dtype(leaf), kind) for kind in kinds] for leaf in (new, old)]
    if not all(any(rank) for rank in ranks) or ranks[0].index(True) > ranks[1].index(True):
        return new
    return jnp.asarray(new, _dtype(old))


def _dtype(leaf: Any) -> Any:
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def _aval(leaf: Any) -> str:
    return f"{_dtype(leaf)}{list(jnp.shape(leaf))}"


def _to_front(leaf: Any, axes: tuple[int, ...]) -> Any:
    return jnp.moveaxis(leaf, axes, range(len(axes))) if axes else leaf


def _from_front(leaf: Any, axes: tuple[int, ...]) -> Any:
    return jnp.moveaxis(leaf, range(len(axes)), axes) if axes else leaf
