"""Random nested programs: loop, callbacks and the program by hand agree, alone, side by side, and after errors."""

import pytest

pytest.importorskip("jax.numpy")

import contextlib
import random
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from random_programs import ByHand, in_jax, program

from gossamer.jax import at, capture, compat, patch, run, split, tag
from gossamer.jax.errors import Unsupported

X = jnp.linspace(-1.0, 1.5, 6).reshape(2, 3)

pytestmark = pytest.mark.filterwarnings("ignore::gossamer.jax.errors.EagerRunWarning")


@dataclass(frozen=True)
class Plan:
    """What is done at one tag: an edit of chosen layers, and a save of chosen layers before or after it."""

    scale: float | None
    edited: object
    saved: object
    save_first: bool

    def edit(self, h):
        places = jnp.arange(h.size, dtype=h.dtype).reshape(h.shape)
        return jnp.tanh(h * self.scale + places / 8)


NOTHING = object()


def layers_of(source, count):
    """ "all", one number, several in any order, a traced one; None outside of stacked layers."""
    if count is None:
        return None
    several = source.sample(range(count), source.randint(1, count))
    return source.choice(["all", source.randrange(count), several, jnp.int32(source.randrange(count))])


def plans_of(seed, tags):
    source = random.Random(seed)
    return {
        name: Plan(
            source.uniform(-1, 1) if facts.writable and source.random() < 0.7 else None,
            layers_of(source, facts.layers),
            layers_of(source, facts.layers) if facts.readable and source.random() < 0.6 else NOTHING,
            source.random() < 0.5,
        )
        for name, facts in tags.items()
    }


def act(plans, kept, site):
    """What the loop's body does; the handles of what is saved go to `kept`."""
    plan = plans[site.name]
    for save in (True, False):
        if save == plan.save_first and plan.saved is not NOTHING:
            kept[site.name] = site.save(layers=plan.saved)
        elif save != plan.save_first and plan.scale is not None:
            site.edit(plan.edit, layers=plan.edited)


def values(kept):
    return {name: handle.value for name, handle in sorted(kept.items())}


def looped(nodes, plans, x):
    kept, seen = {}, []
    with run(in_jax(nodes), x) as r:
        for site in r:
            seen.append(site.name)
            act(plans, kept, site)
    assert seen == [row.name for row in r.table]
    return r.result, values(kept)


def called(nodes, plans, x):
    kept = {}
    with run(in_jax(nodes), x) as r:
        r.on("t*", lambda site: act(plans, kept, site))
    return r.result, values(kept)


def by_hand(nodes, plans, x):
    seen = {}

    def edit(name, layer, h):
        plan = plans[name]
        hit = plan.edited is None or (isinstance(plan.edited, str) or layer in np.asarray(plan.edited).reshape(-1))
        new = plan.edit(h) if hit and plan.scale is not None else h
        seen.setdefault(name, {})[layer] = h if plan.save_first else new
        return new

    result = ByHand(edit)(nodes, x)
    return result, {name: chosen(seen[name], plan.saved) for name, plan in plans.items() if plan.saved is not NOTHING}


def chosen(by_layer, layers):
    if layers is None:
        return by_layer[None]
    if isinstance(layers, str):
        layers = sorted(by_layer)
    numbers = np.asarray(layers)
    rows = [by_layer[int(number)] for number in numbers.reshape(-1)]
    return rows[0] if numbers.ndim == 0 else jnp.stack(rows)


def compiled(function, *args):
    return jax.jit(function)(*args)


def summed(function, nodes, plans):
    """A number that depends on the result and on all that was saved."""
    return lambda x: sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(function(nodes, plans, x)))


def close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, wanted)


def same(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("seed", range(24))
def test_loop_callbacks_and_the_program_by_hand_agree(seed):
    nodes, tags = program(seed)
    plans = plans_of(seed, tags)
    ways = (looped, called, by_hand)
    loop, callbacks, hand = compiled(lambda x: [way(nodes, plans, x) for way in ways], X)
    same(loop, callbacks)
    close(loop, hand)


@pytest.mark.parametrize("seed", range(100, 108))
def test_gradients_and_maps_around_a_run(seed):
    nodes, tags = program(seed, whiles=False)
    plans = plans_of(seed, tags)
    several = jnp.stack([X, 1 - X])
    ways = (looped, called, by_hand)
    found = compiled(lambda xs: [jax.vmap(jax.grad(summed(way, nodes, plans)))(xs) for way in ways], several)
    same(found[0], found[1])
    close(found[0], found[2])


@pytest.mark.parametrize("seed", range(200, 206))
def test_edits_that_change_nothing_leave_the_plain_function(seed):
    nodes, tags = program(seed)

    def idle(x):
        with run(in_jax(nodes), x) as r:
            for site in r:
                if tags[site.name].writable:
                    site.edit(lambda h: h, layers=layers_of(random.Random(seed), tags[site.name].layers))
        return r.result

    untagged = in_jax(nodes, lambda _, x: x)
    plain, tagged, edited = compiled(lambda x: [f(x) for f in (untagged, in_jax(nodes), idle)], X)
    same(plain, tagged)
    np.testing.assert_allclose(edited, plain, rtol=1e-6, atol=1e-6)


def side_by_side(programs, order, x):
    """Several runs at once, of which a random one goes on at each turn."""
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(run(in_jax(nodes), x)) for nodes, _ in programs]
        kept = [{} for _ in runs]
        going = list(range(len(runs)))
        while going:
            at = order.choice(going)
            site = next(runs[at], None)
            if site is None:
                going.remove(at)
            else:
                act(programs[at][1], kept[at], site)
    return [(r.result, values(one)) for r, one in zip(runs, kept, strict=True)]


def with_plans(*seeds):
    return [(nodes, plans_of(seed, tags)) for seed in seeds for nodes, tags in [program(seed)]]


@pytest.mark.parametrize("seed", range(8))
def test_runs_side_by_side_in_any_order(seed):
    programs = with_plans(300 + seed, 400 + seed, 500 + seed)
    order = random.Random(seed)
    found, wanted = compiled(
        lambda x: (side_by_side(programs, order, x), [called(nodes, plans, x) for nodes, plans in programs]), X
    )
    same(found, wanted)


@pytest.mark.parametrize("seed", range(6))
def test_a_run_opened_while_another_one_stands_still(seed):
    """At every site of a run: one at the level around it, and one in the site's own body, as a part of an edit."""
    (nodes, plans), (inner, inner_plans) = with_plans(600 + seed, 700 + seed)

    def function(x):
        kept, beside = {}, []
        with run(in_jax(nodes), x) as r:
            for site in r:
                with r.outside():
                    beside.append(looped(inner, inner_plans, x))
                act(plans, kept, site)
                if plans[site.name].scale is not None:
                    site.edit(lambda h: h + 0 * jnp.sum(looped(inner, inner_plans, x)[0]), layers=site.length and "all")
        return (r.result, values(kept)), beside

    (found, beside), alone, hand = compiled(
        lambda x: (function(x), called(inner, inner_plans, x), called(nodes, plans, x)), X
    )
    for one in beside:
        same(one, alone)
    close(found[0], hand[0])


class ExperimenterError(Exception):
    """What goes wrong in the experimenter's code."""


def interrupted(nodes, others, place, order, where, x):
    """Runs that go on by turns until one of them meets its `place`-th site, and the experimenter's code raises."""

    def raises(_):
        raise ExperimenterError

    def meet(site, left):
        if left:
            return
        if where == "edit" and not site.inner_diff:
            site.edit(raises, layers=site.length and "all")
        raise ExperimenterError

    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(run(in_jax(other), x)) for other in (nodes, *others)]
        if where == "callback":
            left = iter(range(place, -1, -1))
            runs[0].on("t*", lambda site: meet(site, next(left)))
        while True:
            for other in order.sample(runs[1:], len(runs) - 1):
                next(other, None)
            site = next(runs[0])
            if where != "callback":
                meet(site, place)
                place -= 1


@pytest.mark.parametrize("where", ["loop", "callback", "edit"])
@pytest.mark.parametrize("seed", range(8))
def test_an_exception_anywhere_leaves_nothing_behind(seed, where):
    order = random.Random(seed)
    (nodes, tags), (other, _), (third, _) = program(800 + seed), program(900 + seed), program(1000 + seed)
    place = order.randrange(len(tags))
    with np.errstate(divide="raise"), pytest.raises(ExperimenterError):
        jax.eval_shape(lambda x: interrupted(nodes, [other, third], place, order, where, x), X)
    assert compat.is_eager(compat.current_trace())
    jaxprs = [str(jax.make_jaxpr(in_jax(nodes, name))(X)) for name in (tag, lambda _, x: x)]
    assert jaxprs[0].count("gossamer_tag") >= len(tags)
    assert "gossamer_tag" not in jaxprs[1]
    same(*compiled(lambda x: [in_jax(nodes)(x), in_jax(nodes, lambda _, x: x)(x)], X))


WRAPS = {
    "branch": lambda f: f,
    "jit": jax.jit,
    "remat": jax.checkpoint,
    "scan": lambda f: lambda x: jax.lax.scan(lambda x, _: (f(x), None), x, None, length=2)[0],
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_what_is_deep_inside_a_branch_is_written_and_not_read(wrap):
    model = lambda x: jax.lax.cond(jnp.sum(x) > 0, wrap(lambda x: tag("h", 2 * x)), lambda x: x, x)  # noqa: E731

    def function(x, read):
        with run(model, x) as r:
            site = r.until("h")
            layers = site.length and "all"
            site.edit(lambda h: h + 1, layers=layers)
            if read:
                with pytest.raises(Unsupported, match="one branch only"):
                    site.save(layers=layers)
                with pytest.raises(Unsupported, match="one branch only"):
                    site.value  # noqa: B018
        return r.result

    wanted = wrap(lambda x: 2 * x + 1)(X)
    for read in (False, True):
        close(jax.jit(lambda x, read=read: function(x, read))(X), wanted)
        same(jax.jit(lambda x, read=read: function(x, read))(-X - 1), -X - 1)


def open_to_all(seed):
    """The tags of a program that can be read and written."""
    return [name for name, facts in program(seed)[1].items() if facts.writable and facts.readable]


@pytest.mark.parametrize("seed", [seed for seed in range(1100, 1116) if open_to_all(seed)])
def test_a_split_anywhere_is_the_model_with_that_value_replaced(seed):
    nodes, tags = program(seed)
    source = random.Random(seed)
    name = source.choice(open_to_all(seed))
    where = at(name, layers=None if tags[name].layers is None else source.randrange(tags[name].layers))

    def function(x):
        value, rest = split(in_jax(nodes), where)(x)
        _, found = capture(in_jax(nodes), [where])(x)
        changed = patch(in_jax(nodes), {where: jnp.cos(value)})(x)
        return (value, rest(value), rest(jnp.cos(value))), (found[where], in_jax(nodes)(x), changed)

    close(*compiled(function, X))


@pytest.mark.parametrize("seed", range(1200, 1208))
def test_names_for_remat_policies_are_written_as_tags_are(seed):
    nodes, tags = program(seed)
    source = random.Random(seed)
    open_tags = {name: facts for name, facts in tags.items() if facts.writable}
    edits = {
        at(name, layers=layers_of(source, facts.layers)): lambda h, by=0.5 + number: jnp.tanh(h * by)
        for number, (name, facts) in enumerate(open_tags.items())
    }
    named = in_jax(nodes, lambda name, x: checkpoint_name(x, name))
    same(*compiled(lambda x: [patch(in_jax(nodes), edits)(x), patch(named, edits, checkpoint_names=True)(x)], X))
