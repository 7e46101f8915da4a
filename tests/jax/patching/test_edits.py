"""Each edit does what it says at the places it should, and refuses the others."""

import pytest

pytest.importorskip("jax")

from gossamer.jax.patching import (
    MatchError,
    Patch,
    PatchError,
    PatternError,
    after,
    before,
    replace,
    tag_arg,
    tag_assign,
    tag_expr,
    tag_return,
)


def arithmetic(x, *rest, scale=2, **more):
    """A docstring stays where it is."""
    total = x * scale
    total += len(rest)
    first, *others = total, total + 1, total + 2
    a = b = first + sum(others)
    if (c := a + b) > 10:
        return c
    for _ in range(3):
        c = c - 1
    return c * len(more)


def run(heard, edits, *args, function=arithmetic, **kwargs):
    """The result of a function under edits and what was heard."""
    with Patch({function: edits}):
        result = function(*args, **kwargs)
    return result, list(heard)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (tag_arg("x", "t"), [("t", 1)]),
        (tag_arg("rest", "t"), [("t", (5,))]),
        (tag_arg("scale", "t"), [("t", 2)]),
        (tag_arg("more", "t"), [("t", {"k": 0})]),
        (tag_assign("total", "t", index=0), [("t", 2)]),
        (tag_assign("total", "t", index=1), [("t", 3)]),
        (tag_assign("total", "t", count=2), [("t", 2), ("t", 3)]),
        (tag_assign("total", "t", count=None), [("t", 2), ("t", 3)]),
        (tag_assign("others", "t"), [("t", [4, 5])]),
        (tag_assign("first, *others", "t"), [("t", (3, 4, 5))]),
        (tag_assign("b", "t"), [("t", 12)]),
        (tag_assign("c", "t", index=0), [("t", 24)]),
        (tag_assign("c", "t", index=-1), []),
        (tag_return("t", index=0), [("t", 24)]),
        (tag_return("t", count=2), [("t", 24)]),
        (tag_expr("x * $_", "t"), [("t", 2)]),
        (tag_expr("scale", "t"), [("t", 2)]),
        (tag_expr("range($_)", "t"), []),
        (before("a = b = $_", "total = tag('t', total)"), [("t", 3)]),
        (before("sum($x)", "first = tag('t', first)"), [("t", 3)]),
        (before("$x > 10", "tag('t', (a, b))"), [("t", (12, 12))]),
        (after("total += $n", "tag('t', $n)"), [("t", 1)]),
        (after("total = $_\ntotal += $_", "tag('t', total)"), [("t", 3)]),
        (replace("total = $v", "total = tag('t', $v)"), [("t", 2)]),
        (replace("sum($x)", "tag('t', sum($x))"), [("t", 9)]),
    ],
)
def test_what_a_tag_hears(heard, edit, expected):
    result, found = run(heard, [edit], 1, 5, k=0)
    assert result == arithmetic(1, 5, k=0) == 24
    assert [(name, list(value) if type(value) is list else value) for name, value in found] == expected


def test_a_tag_can_write(heard):
    heard.answers["t"] = lambda x: x + 100
    assert run(heard, [tag_assign("total", "t", index=0)], 1, 5)[0] == 2 * (103 + 104 + 105 + 103) - 2 * 103
    assert arithmetic(1, 5) == 24


def test_a_written_tuple_reaches_its_variables(heard):
    heard.answers["t"] = lambda first: (first[0] * 10, *first[1:])
    result, _ = run(heard, [tag_assign("first, *others", "t")], 1, 5)
    assert result == 2 * (30 + 9)


def test_replace_keeps_what_the_holes_stood_for(heard):
    result, _ = run(heard, [replace("first + sum($x)", "sum($x) - first")], 1, 5)
    assert result == 2 * (9 - 3)


def test_replace_by_several_statements(heard):
    edit = replace("total = $v", "first = $v\nfor _ in range(2):\n    first = first + 1\ntotal = first")
    assert run(heard, [edit], 1, 5)[0] == 2 * (5 + 6 + 7)


def test_statements_replace_a_call_that_is_a_statement(heard):
    def function(found):
        found.append(1)
        return [found.append(2)]

    edit = replace("found.append($x)", "kept = tag('t', $x)\nfound.append(kept)")
    found = []
    assert run(heard, [edit], found, function=function) == ([None], [("t", 1)])
    assert found == [1, 2]
    with pytest.raises(MatchError, match=r"found no place(.|\n)*as a statement by itself, since statements replace it"):
        run(heard, [replace("sum($x)", "kept = $x\nsum(kept)")], 1)


def calls(f, *args, **kwargs):
    return f(*args, 1, key=2, **kwargs)


def test_a_rest_carries_arguments_and_keywords(heard):
    def seen(*args, **kwargs):
        return args, kwargs

    swapped = replace("f($...all)", "tag('t', f(0, $...all))")
    (args, kwargs), _ = run(heard, [swapped], seen, 7, function=calls, other=3)
    assert (args, kwargs) == ((0, 7, 1), {"key": 2, "other": 3})


def nested(x):
    def double(y):
        return y * 2

    doubled = [double(i) for i in range(x)]
    text = f"{sum(doubled):>{x}}"
    return (lambda z: z + 1)(len(text.strip()))


def test_edits_reach_nested_scopes_but_returns_are_the_functions_own(heard):
    edits = [tag_expr("y * 2", "def"), tag_expr("double(i)", "comprehension"), tag_expr("z + 1", "lambda")]
    edits += [tag_return("return"), tag_expr("sum(doubled)", "text")]
    result, found = run(heard, edits, 2, function=nested)
    assert result == 2
    order = ["def", "comprehension", "def", "comprehension", "text", "lambda", "return"]
    assert [name for name, _ in found] == order


def blocks(x):
    try:
        with open(x) as file:
            read = file.read()
    except OSError as error:
        read = str(error)
    finally:
        done = True
    match x:
        case "a" if done:
            read = "matched"
        case _:
            read = read[:0]
    while len(read) < 3:
        read += "."
    return read


@pytest.mark.parametrize(("index", "expected"), [(1, 1), (2, 0), (3, 1), (4, 3)])
def test_every_kind_of_block_is_searched(heard, index, expected):
    _, found = run(heard, [tag_assign("read", "t", index=index)], "no such file", function=blocks)
    assert len(found) == expected


def stream(n):
    for i in range(n):
        sent = yield i
        if sent:
            return sent


async def waits(x):
    y = await x
    return y  # noqa: RET504 -- the assignment is what is tagged


def test_generators_and_coroutines(heard):
    with Patch({stream: [tag_assign("sent", "sent"), tag_return("done")], waits: [tag_assign("y", "y")]}):
        steps = stream(3)
        assert [next(steps), next(steps)] == [0, 1]
        with pytest.raises(StopIteration):
            steps.send(5)

        async def one():
            return 1

        coroutine = waits(one())
        with pytest.raises(StopIteration, match="1"):
            coroutine.send(None)
    assert heard == [("sent", None), ("sent", 5), ("done", 5), ("y", 1)]


def test_edits_of_one_place_follow_their_order(heard):
    edits = [tag_expr("x * scale", "inner"), tag_expr("x * scale", "outer"), tag_assign("total", "assigned", index=0)]
    edits += [before("total = $_", "tag('before 1', 0)"), before("total = $_", "tag('before 2', 0)")]
    edits += [after("total = $_", "tag('after 1', 0)"), after("total = $_", "tag('after 2', 0)")]
    _, found = run(heard, edits, 1)
    assert [n for n, _ in found] == ["before 1", "before 2", "inner", "outer", "assigned", "after 1", "after 2"]


def test_tags_inside_what_a_replacement_keeps(heard):
    edits = [tag_expr("x * scale", "t"), replace("total = $v", "total = $v + 1")]
    assert run(heard, edits, 1, 5)[1] == [("t", 2)]


def test_a_tag_inside_replaced_code_is_refused(heard):
    with pytest.raises(PatchError, match=r"tag_expr\('x \* scale', 't'\) lies inside code that another edit replaces"):
        run(heard, [tag_expr("x * scale", "t"), replace("total = $_", "total = 0")], 1)


def test_two_replacements_of_one_place_are_refused(heard):
    with pytest.raises(PatchError, match="replaces too"):
        run(heard, [replace("x * $_", "0"), replace("$_ * scale", "1")], 1)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (tag_assign("total", "t"), r"found 2 places .* expected 1; pass index= to choose one, or count=2"),
        (tag_assign("total", "t", count=3), "found 2 places .* expected 3"),
        (tag_assign("total", "t", index=2), "none at index=2"),
        (tag_assign("_", "t"), "found no place"),
        (
            tag_assign("totals", "t"),
            r"found no place (.|\n)*- totals = ...(.|\n)*\+ test_edits.py:\d+: total = x \* scale",
        ),
        (tag_expr("x + scale", "t"), r"- x \+ scale(.|\n)*total = x \* scale"),
        (tag_return("t"), r"found 2 places(.|\n)*\[0\] test_edits.py:\d+: return c\s"),
        (tag_arg("y", "t"), "no argument 'y'; it has x, rest, scale, more"),
        (after("return c", "pass", index=0), "code after it never runs"),
        (after("$x > 10", "pass"), "opens a block"),
    ],
)
def test_what_is_refused_at_a_function(heard, edit, says):
    with pytest.raises(MatchError, match=says):
        run(heard, [edit], 1)
    assert arithmetic(1, 5) == 24


def test_before_a_loops_condition_is_refused(heard):
    with pytest.raises(MatchError, match="every turn of the loop"):
        run(heard, [before("len(read) < 3", "pass")], "x", function=blocks)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tag_assign("x = 1", "t"), "no target"),
        (lambda: tag_expr("x = 1", "t"), "is a statement"),
        (lambda: replace("f($x)", "f($y)"), r"\$y of the code is not in the pattern"),
        (lambda: replace("f($_)", "f($_)"), r"\$_ of the code is not in the pattern"),
        (lambda: before("f($x)", "y ="), "no Python"),
        (lambda: tag_expr("f(x)", ""), "a name"),
    ],
)
def test_what_is_refused_when_it_is_written(make, says):
    with pytest.raises(PatternError, match=says):
        make()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (replace("total = $v", "total = jnp.square($v)"), "uses 'jnp', which is no argument, local variable or global"),
        (replace("total = $v", "total = yield $v"), "whether it is a generator"),
        (replace("total = $v", "nonlocal total"), "does not compile"),
    ],
)
def test_code_that_cannot_run_is_refused(heard, edit, says):
    with pytest.raises(PatchError, match=says):
        run(heard, [edit], 1)


def test_places_says_where_every_edit_lands(heard):
    patch = Patch({arithmetic: [tag_assign("total", "t", count=2), before("a = b = $_", "tag('u', 0)\ntag('v', 0)")]})
    first = arithmetic.__code__.co_firstlineno
    assert [(place.where, place.line, place.tags) for place in patch.places()] == [
        (f"test_edits.py:{first + 2}", "total = x * scale", ("t",)),
        (f"test_edits.py:{first + 3}", "total += len(rest)", ("t",)),
        (f"test_edits.py:{first + 5}", "a = b = first + sum(others)", ("u", "v")),
    ]
    assert patch.places()[0].function.endswith("test_edits.arithmetic")


def test_sources_shows_what_every_function_becomes():
    edits = [tag_assign("total", "t", index=0), replace("c * len($m)", "tag('u', c) * len($m)"), tag_arg("x", "v")]
    (text,) = Patch({arithmetic: edits}).sources().values()
    seen, space = [], {}

    def heard(name, value):
        seen.append((name, value))
        return value

    exec(text, {"tag": heard}, space)
    assert space["arithmetic"](1, k=0, scale=-10) == arithmetic(1, k=0, scale=-10) == -57
    assert seen == [("v", 1), ("t", -10), ("u", -57)]
    assert "total = tag('t', x * scale)" in text
    assert "return tag('u', c) * len(more)" in text
    assert Patch({arithmetic: edits}).sources().keys() == Patch({arithmetic: edits}).hashes().keys()
