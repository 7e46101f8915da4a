"""`split`: a model cut in two at a tag, into the value there and the pure function from it to the result."""

from collections.abc import Callable
from typing import Any

import jax

from gossamer.jax import compat
from gossamer.jax.capture import At, layers_of, rows_of, unrolled
from gossamer.jax.errors import InstrumentError, Unsupported, WriteMismatch
from gossamer.jax.interpret import Interpreter
from gossamer.jax.layers import choose
from gossamer.jax.peel import nothing, one_of
from gossamer.jax.scope import Scope
from gossamer.jax.site import TagSite
from gossamer.jax.sites import SiteRow, SiteTable, table_of
from gossamer.jax.staging import Staged, stage
from gossamer.jax.tag import tag, tag_p

_CUT = "\0cut"


def split(
    function: Callable[..., Any], where: At | str, *, checkpoint_names: bool = False
) -> Callable[..., tuple[Any, Callable[[Any], Any]]]:
    """Cut a model at one site.

    Args:
        function: the model.
        where: the site; in stacked or repeated layers with the number of one. That layer then leaves the scans around
            it, and remats around the site are opened; the other layers keep theirs.
        checkpoint_names: as in `run`.

    Returns: a function of the model's arguments, returning (value, continuation). `continuation(value)` is the model's
        result; it is pure and may be called again and again, under grad and vmap, without running the part before.

    Raises, when it is called:
        UnknownTag, NeedsLayer, LayerOutOfRange: as `patch`.
        Unsupported: the site is in a branch, or the layer's number is traced.
    """
    there = where if isinstance(where, At) else At(where)

    def cut(*args: Any, **kwargs: Any) -> tuple[Any, Callable[[Any], Any]]:
        staged = stage(function, args, kwargs)
        row, number = _one(there, table_of(staged.closed.jaxpr, checkpoint_names=checkpoint_names))
        return _halves(_opened_at(staged, there, row, number, checkpoint_names=checkpoint_names), staged)

    return cut


def _one(where: At, table: SiteTable) -> tuple[SiteRow, int]:
    """The site and the number of its layer."""
    rows = rows_of(where, table)
    if isinstance(where.layers, jax.core.Tracer):
        raise Unsupported(f"split at {where}: a traced layer cannot leave its scan; give a number")
    if rows[0].length is None:
        numbers = unrolled(where, rows).numbers or layers_of(rows)
    elif where.layers is None:
        raise InstrumentError(f"split at {where}: give the layer, at({where.name!r}, layers=...)")
    else:
        numbers = choose(where.layers, range(rows[0].length)).numbers or ()
    if len(numbers) != 1:
        raise InstrumentError(f"split at {where}: one site is needed, and this names {len(numbers) or 'all'}")
    (number,) = map(int, numbers)
    return next(row for row in rows if row.layer in (None, number)), number


def _opened_at(staged: Staged, where: At, row: SiteRow, number: int, *, checkpoint_names: bool) -> Any:
    """The model as one flat jaxpr, in which the site is marked, with all around it opened."""

    def mark(site: TagSite, inline: bool) -> None:
        if site.layer == number and site.count == row.count and site.name == row.name:
            if not inline:
                raise Unsupported(f"split at {site!r}: it is inside a {site.scope}; tag the value outside of it")
            site.set(tag(_CUT, site.value))
            interpreter.done = True  # the layers after this one keep their remats

    interpreter = Interpreter(
        mark,
        peel=nothing if row.length is None else one_of(number, row.length),
        wanted=lambda name: name == row.name,
        open_remats=True,
        checkpoint_names=checkpoint_names,
    )

    def flat(*args: Any) -> list[Any]:
        jaxpr, consts = compat.opened(staged.closed)
        used = (True,) * len(jaxpr.outvars)
        return interpreter.evaluate(jaxpr, consts, list(args), Scope("top"), compat.no_names(), used)

    return compat.traced(flat, *staged.args)


def _halves(closed: Any, staged: Staged) -> tuple[Any, Callable[[Any], Any]]:
    """Evaluate up to the mark; the rest is a closure over what it needs."""
    jaxpr = closed.jaxpr
    (cut,) = [k for k, eqn in enumerate(jaxpr.eqns) if eqn.primitive is tag_p and eqn.params["name"] == _CUT]
    rest, mark = jaxpr.eqns[cut + 1 :], jaxpr.eqns[cut]
    env = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *staged.args), strict=True))
    _evaluate(jaxpr.eqns[:cut], env)
    value = jax.tree.unflatten(mark.params["tree"], [_read(env, atom) for atom in mark.invars])
    needed = {atom for eqn in rest for atom in eqn.invars if not isinstance(atom, compat.Literal)}
    needed |= {atom for atom in jaxpr.outvars if not isinstance(atom, compat.Literal)}
    env = {atom: held for atom, held in env.items() if atom in needed}

    def continuation(act: Any) -> Any:
        leaves, tree = jax.tree.flatten(act)
        types = [atom.aval for atom in mark.invars]
        wrote = [(leaf.shape, leaf.dtype) for leaf in leaves]
        if tree != mark.params["tree"] or wrote != [(aval.shape, aval.dtype) for aval in types]:
            raise WriteMismatch(f"the continuation takes {[aval.str_short() for aval in types]}, you gave {wrote}")
        local = {**env, **dict(zip(mark.outvars, leaves, strict=True))}
        _evaluate(rest, local)
        return staged.result([_read(local, atom) for atom in jaxpr.outvars])

    return value, continuation


def _evaluate(eqns: list[Any], env: dict[Any, Any]) -> None:
    for eqn in eqns:
        results = compat.rebind(eqn, [_read(env, atom) for atom in eqn.invars], compat.no_names())
        env.update(zip(eqn.outvars, results, strict=True))


def _read(env: dict[Any, Any], atom: Any) -> Any:
    return atom.val if isinstance(atom, compat.Literal) else env[atom]
