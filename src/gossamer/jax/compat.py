"""Everything that depends on the version of JAX: names of primitives and of their parameters, source information.

Tested with the JAX that constraints.txt pins. Only public modules of JAX are imported here; what is not public (the
parameters of an equation) is read by name, in both spellings where a change is known.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex_core
from jax.extend import source_info_util

Jaxpr = jex_core.Jaxpr
Literal = jex_core.Literal

JIT = frozenset({"jit", "pjit", "closed_call", "core_call"})
REMAT = frozenset({"remat2", "remat", "checkpoint"})
SCAN = "scan"
COND = "cond"
CHECKPOINT_NAME = "name"


@dataclass(frozen=True)
class ScanForm:
    """What a scan equation says.

    Its operands are constants, initial carries, stacked inputs; its results are carries, then stacked outputs.
    """

    body: Any
    consts: int
    carries: int
    length: int
    reverse: bool
    options: Mapping[str, Any]

    def operands(self, values: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Constants, initial carries, stacked inputs."""
        split = self.consts + self.carries
        return values[: self.consts], values[self.consts : split], values[split:]

    def started(self, eqn: Any, init: list[Any]) -> list[Any]:
        """The initial carries, of the types that the equation says: one may be a Python number."""
        atoms = eqn.invars[self.consts : self.consts + self.carries]
        return [typed_as(value, atom.aval) for value, atom in zip(init, atoms, strict=True)]


def scan_form(eqn: Any) -> ScanForm:
    """Read a scan equation, in the spelling of JAX 0.10 (num_consts) or the later one (ft_in)."""
    params = eqn.params
    if "num_consts" in params:
        consts, carries = params["num_consts"], params["num_carry"]
    else:
        consts, carries, _ = (len(part) for part in params["ft_in"].unpack())
    options = {"unroll": params["unroll"]}
    if params.get("_split_transpose"):
        options["_split_transpose"] = True
    return ScanForm(params["jaxpr"], consts, carries, params["length"], params["reverse"], options)


def inner_jaxprs(eqn: Any) -> list[Jaxpr]:
    """The jaxprs in an equation's parameters, without their constants."""
    return [getattr(inner, "jaxpr", inner) for inner in jex_core.jaxprs_in_params(eqn.params)]


def called(eqn: Any) -> Any:
    """The jaxpr that a `jit` equation calls."""
    return eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]


def opened(inner: Any) -> tuple[Jaxpr, list[Any]]:
    """A jaxpr and its constants, whether it is a closed one or not."""
    return (inner.jaxpr, list(inner.consts)) if hasattr(inner, "consts") else (inner, [])


@contextlib.contextmanager
def context_of(eqn: Any, stack: Any) -> Iterator[None]:
    """The context that an equation was traced in, so that profiles and error messages still show the model's own."""
    info = eqn.source_info
    names = source_info_util.current_name_stack() + stack + info.name_stack
    with source_info_util.user_context(info.traceback, name_stack=names), eqn.ctx.manager:
        yield


def rebind(eqn: Any, values: list[Any], stack: Any) -> list[Any]:
    """Apply an equation as it is; `stack` are the named scopes of the equations that it was inlined from."""
    with context_of(eqn, stack):
        out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def typed_as(value: Any, other: Any) -> Any:
    """`value` with the dtype of `other`, weak or not; inside `shard_map` also varying over the same mesh axes.

    Args:
        other: a value or a type.
    """
    if not jnp.issubdtype(other.dtype, jax.dtypes.extended):
        weak = _is_weak(other)
        with x64_for([other]):
            value = value if isinstance(value, jax.Array) else jax.lax.convert_element_type(value, other.dtype)
            if value.dtype != other.dtype or _is_weak(value) != weak:
                to: Any = {"new_dtype": other.dtype, "weak_type": weak, "sharding": None}
                value = jax.lax.convert_element_type_p.bind(value, **to)
    return varying_as(value, other)


def _is_weak(of: Any) -> bool:
    return bool((jax.typeof(of) if isinstance(of, jax.Array) else of).weak_type)


@contextlib.contextmanager
def x64_for(types: Iterable[Any]) -> Iterator[None]:
    """With numbers of 64 bits where there are some among these values or types.

    They come from a part of a model under `jax.enable_x64`, which a jaxpr does not say; elsewhere JAX would cut them.
    """
    with x64(on=x64_is_on() or any(_has_64_bits(one.dtype) for one in types)):
        yield


@contextlib.contextmanager
def x64(*, on: bool) -> Iterator[None]:
    """With numbers of 64 bits, or without."""
    if on is x64_is_on():
        yield
        return
    with jax.enable_x64(on):
        yield


def x64_is_on() -> bool:
    config: Any = jax.config  # its attributes are not typed
    return bool(config.jax_enable_x64)


def _has_64_bits(dtype: Any) -> bool:
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return False
    return bool(dtype.itemsize == (16 if jnp.issubdtype(dtype, jnp.complexfloating) else 8))


def varying_as(value: Any, other: Any) -> Any:
    """Inside `shard_map`: `value`, of a type that varies over the mesh axes over which that of `other` does."""
    missing = _varying(other) - _varying(jax.typeof(value))
    return jax.lax.pcast(value, tuple(sorted(missing)), to="varying") if missing else value


def placed_as(value: Any, other: Any) -> Any:
    """`value`, of a type that is sharded (on explicit meshes) and varies (inside `shard_map`) as that of `other`.

    Args:
        value: of the shape of `other`, or with further axes in front, which are not sharded.
    """
    sharding: Any = getattr(other, "sharding", None)
    if _explicit(sharding):
        spec = jax.sharding.PartitionSpec(*[None] * (value.ndim - len(other.shape)), *sharding.spec)
        value = jax.sharding.reshard(value, jax.sharding.NamedSharding(sharding.mesh, spec))
    return varying_as(value, other)


def _explicit(sharding: Any) -> bool:
    """Whether a sharding is part of its values' types."""
    kinds = getattr(getattr(sharding, "mesh", None), "axis_types", ())
    return jax.sharding.AxisType.Explicit in kinds


def _varying(of: Any) -> frozenset[str]:
    aval = jax.typeof(of) if isinstance(of, jax.Array) else of
    return frozenset(getattr(getattr(aval, "manual_axis_type", None), "varying", ()))


def as_array(value: Any, aval: Any) -> Any:
    """`value`; as an array of the type `aval` where the jaxpr has a bare number."""
    return value if hasattr(value, "shape") else typed_as(value, aval)


def no_names() -> Any:
    """An empty stack of named scopes."""
    return source_info_util.new_name_stack()


def names_of(eqn: Any) -> Any:
    """The stack of named scopes around an equation, within its jaxpr."""
    return eqn.source_info.name_stack


def like(aval: Any) -> jax.ShapeDtypeStruct:
    """What stands for a value of this type as a function is traced."""
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    sharding = None if mesh is None or mesh.empty else aval.sharding
    varying = getattr(aval, "manual_axis_type", None)
    return jax.ShapeDtypeStruct(
        aval.shape, aval.dtype, weak_type=aval.weak_type, sharding=sharding, manual_axis_type=varying
    )


def source_of(eqn: Any) -> str:
    """`file:line` of the call that made an equation."""
    return _place(eqn.source_info)


def source_here() -> str:
    """`file:line` of the user's code that is running."""
    return _place(source_info_util.current())


def path_here() -> str:
    """The named scopes that are open."""
    return str(source_info_util.current_name_stack())


def _place(info: Any) -> str:
    place = source_info_util.summarize(info).split(" ")[0]
    return ":".join(place.split(":")[:-1]) if place.count(":") > 1 else place


def hide_from_sources(file: str) -> None:
    """Leave a file of ours out when JAX looks for the user's line."""
    source_info_util.register_exclusion(file)


def current_trace() -> Any:
    return jex_core.find_top_trace(())


def trace_of(value: Any) -> Any:
    """The trace that a value belongs to; None for a concrete one."""
    return getattr(value, "_trace", None) if isinstance(value, jax.core.Tracer) else None


def is_eager(trace: Any) -> bool:
    """Whether operations run now rather than being recorded or transformed."""
    return type(trace).__name__ == "EvalTrace"


@dataclass(frozen=True)
class Level:
    """What operations belong to: a trace, and the named scopes that are open in it."""

    trace: Any
    names: Any

    def enter(self) -> None:
        """Make it the present one, until the next change."""
        jex_core.set_current_trace(self.trace).__enter__()
        source_info_util.set_name_stack(self.names).__enter__()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Compute there. Scopes that are opened in the same trace stay open."""
        if self.trace is current_trace():
            yield
            return
        with jex_core.set_current_trace(self.trace), source_info_util.set_name_stack(self.names):
            yield


def here() -> Level:
    return Level(current_trace(), source_info_util.current_name_stack())


def traced(function: Callable[..., Any], *args: Any) -> Any:
    """The closed jaxpr of `function` (flat lists in and out), traced afresh."""
    return jax.make_jaxpr(function)(*args)


def evaluate(closed: Any, *args: Any) -> list[Any]:
    return jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *args)


def apply_sharding(value: Any, sharding: Any) -> Any:
    """What an explicit in- or out-sharding of a `jit` asks for: said again, because inlining it would lose it."""
    if type(sharding).__name__ == "UnspecifiedValue":
        return value
    if _explicit(sharding):
        return jax.sharding.reshard(value, sharding)
    return jax.lax.with_sharding_constraint(value, sharding)


hide_from_sources(__file__)
