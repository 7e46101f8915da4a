"""Whatever a function is, and however it is reached: the edits are in it, and all else is as it was."""

from __future__ import annotations

import copy
import functools
import importlib.util
import inspect
import pickle
import sys
import threading
import traceback
import types

import pytest

pytest.importorskip("jax")

from gossamer.jax.patching import (
    MatchError,
    Patch,
    PatchError,
    SourceError,
    replace,
    tag_arg,
    tag_assign,
    tag_expr,
    tag_return,
)

registered = []


def register(function):
    registered.append(function.__name__)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Base:
    def __init__(self, x=1):
        self.__x = x

    def method(self, y=2, *, z=3):
        h = self.__x + y + z
        return h  # noqa: RET504 -- the assignment is what is tagged

    @property
    def value(self):
        return self.__x * 2

    @classmethod
    def made(cls, x):
        return cls(x)

    @staticmethod
    def static(x):
        return x + 1

    @functools.cached_property
    def cached(self):
        return self.__x * 3

    @register
    def decorated(
        self,
        x: int = 5,
    ) -> int:
        # The comment and the lines above must not move the line of a traceback.
        return 10 / x

    def __call__(self, x):
        return x - self.__x


class Derived(Base):
    def method(self, y=2, *, z=3):
        return super().method(y, z=z) * 10


def counter():
    count = 0

    def step(by=1):
        nonlocal count
        count += by
        return count

    def read():
        return count

    return step, read


def factorial(n):
    return 1 if n == 0 else n * factorial(n - 1)


alias = Base.method


@pytest.mark.parametrize(
    ("target", "call", "expected"),
    [
        (lambda: Base.method, lambda: Base().method(), 6),
        (lambda: Base().method, lambda: Base().method(), 6),
        (lambda: Base.__dict__["value"], lambda: Base().value, 2),
        (lambda: Base.made, lambda: vars(Base.made(4))["_Base__x"], None),
        (lambda: Base.__dict__["made"], lambda: vars(Base.made(4))["_Base__x"], None),
        (lambda: Base.static, lambda: Base.static(1), 2),
        (lambda: Base.__dict__["static"], lambda: Base.static(1), 2),
        (lambda: Base.__dict__["cached"], lambda: Base().cached, 3),
        (lambda: Base.decorated, lambda: Base().decorated(), 2.0),
        (lambda: Base.__call__, lambda: Base()(5), 4),
        (lambda: functools.partial(Base.method, Base()), lambda: Base().method(), 6),
        (lambda: functools.partial(factorial, 3), lambda: factorial(0), 1),
    ],
)
def test_every_kind_of_target(heard, target, call, expected):
    plain = call()
    with Patch({target(): [tag_return("t")]}):
        assert call() == plain
    assert [name for name, _ in heard] == ["t"]
    if expected is not None:
        assert heard == [("t", expected)]
        assert plain == expected
    call()
    assert len(heard) == 1


def test_a_target_by_its_path(heard):
    path = "importlib.metadata:PackagePath.read_text"
    patch = Patch({path: [tag_arg("encoding", "t")]})
    assert patch.places()[0].function.endswith("metadata.PackagePath.read_text")
    with pytest.raises(SourceError, match=r"no_such.*expected 'package.module:Class.method'"):
        Patch({"importlib.metadata:no_such": [tag_return("t")]}).install()
    with pytest.raises(SourceError, match="no_such_module"):
        Patch({"no_such_module:f": [tag_return("t")]}).install()


def test_aliases_subclasses_objects_and_bound_methods_have_the_edits(heard):
    built, bound = Derived(7), Derived(7).method
    with Patch({Base.method: [tag_assign("h", "h")]}):
        assert alias(Base()) == 6
        assert built.method() == 120
        assert bound(1) == 110
        assert functools.partial(built.method, y=0)() == 100
    assert [value for _, value in heard] == [6, 12, 11, 10]
    assert type(built) is Derived
    assert isinstance(built, Base)


def test_super_and_private_names(heard):
    edits = [replace("super().method($...a) * 10", "tag('t', super().method($...a)) * 10")]
    with Patch({Derived.method: edits, Base.__init__: [replace("self.__x = x", "self.__x = tag('x', x)")]}):
        assert Derived(1).method() == 60
    assert heard == [("x", 1), ("t", 6)]


def test_closures_keep_their_cells(heard):
    step, read = counter()
    step()
    with Patch({step: [tag_assign("count", "count")]}):
        assert step(2) == 3
        assert read() == 3
        other, _ = counter()
        assert other() == 1  # another function of the same source, not the one that was patched
    assert step() == read() == 4
    assert heard == [("count", 3)]


def test_a_closure_that_is_no_longer_used_is_kept(heard):
    step, read = counter()
    with Patch({read: [replace("return count", "return tag('t', 9)")]}):
        assert read() == 9
    step()
    assert read() == 1


def test_another_variable_of_the_enclosing_function_is_refused():
    def outer():
        a, b = 1, 2

        def inner():
            return a

        return inner, b

    with pytest.raises(PatchError, match="its closure over a"):
        Patch({outer()[0]: [replace("return a", "return b")]}).install()


def test_recursion_defaults_and_keywords(heard):
    with Patch({factorial: [tag_arg("n", "n")], Base.method: [tag_arg("z", "z")]}):
        assert factorial(3) == 6
        assert Base().method(z=5) == 8
    assert heard == [("n", 3), ("n", 2), ("n", 1), ("n", 0), ("z", 5)]
    assert Base.method.__defaults__ == (2,)
    assert Base.method.__kwdefaults__ == {"z": 3}


def test_nothing_is_executed_again(heard):
    before = list(registered)
    with Patch({Base.decorated: [tag_return("t")]}):
        pass
    assert registered == before == ["decorated"]


def test_tracebacks_and_source_are_the_original_ones(heard):
    def shown():
        with pytest.raises(ZeroDivisionError) as caught:
            Base().decorated(0)
        frames = traceback.extract_tb(caught.value.__traceback__)
        return [(frame.filename, frame.lineno, frame.name, frame.line) for frame in frames[-2:]]

    function = Base.decorated.__wrapped__
    plain, source, first = shown(), inspect.getsource(function), function.__code__.co_firstlineno
    with Patch({Base.decorated: [tag_arg("x", "x"), tag_return("t")]}):
        assert shown() == plain
        assert inspect.getsource(function) == source
        assert function.__code__.co_firstlineno == first
        assert function.__code__.co_qualname == "Base.decorated"
    assert shown()[-1][3] == "return 10 / x"


def test_an_error_in_a_tag_shows_the_line_it_was_put_on(heard):
    heard.answers["h"] = lambda x: x / 0
    with Patch({Base.method: [tag_assign("h", "h")]}), pytest.raises(ZeroDivisionError) as caught:
        Base().method()
    lines = [frame.line for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "h = self.__x + y + z" in lines


def test_pickle_and_copy_of_patched_things(heard):
    with Patch({Base.method: [tag_return("t")]}):
        assert copy.copy(Base.method) is copy.deepcopy(Base.method) is Base.method
        bound = pickle.loads(pickle.dumps(Base(3).method))
        assert bound() == copy.deepcopy(Base(3)).method() == 8
    assert bound() == 8
    assert heard == [("t", 8), ("t", 8)]


def test_other_threads_see_the_patch():
    answers = []
    with Patch({factorial: [replace("1 if $c else $r", "tag('t', 1) if $c else tag('t', -$r)")]}):
        thread = threading.Thread(target=lambda: answers.append(factorial(1)))
        thread.start()
        thread.join()
    assert answers == [-1]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (len, "no Python function"),
        (int, "int is a class without methods of its own that are written in Python"),
        (Base(), r"name the method that runs, Base.__call__"),
        (lambda x: x, "is a lambda"),
        (functools.partial(max, 1), "no Python function"),
    ],
)
def test_what_has_no_source_to_patch(target, says):
    with pytest.raises(SourceError, match=says):
        Patch({target: [tag_return("t")]}).install()


def test_generated_code_has_no_source():
    namespace = {"__name__": "generated"}
    exec("def f(x):\n    return x", namespace)
    with pytest.raises(SourceError, match="<string> cannot be read"):
        Patch({namespace["f"]: [tag_return("t")]}).install()


def imported(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_file_that_changed_since_it_was_imported_is_refused(tmp_path):
    path = tmp_path / "changing.py"
    path.write_text("def f(x):\n    y = x + 1\n    return y\n")
    module = imported(path)
    path.write_text("def f(x):\n    y = x + 222\n    return y\n")
    with pytest.raises(SourceError, match="the file changed since it was imported"):
        Patch({module.f: [tag_return("t")]}).install()
    path.write_text("\n\n\ndef f(x):\n    y = x + 1\n    return y\n")
    with pytest.raises(SourceError, match="something else"):
        Patch({module.f: [tag_return("t")]}).install()
    assert module.f(1) == 2


def chosen_by_a_set(x):
    return "yes" if x in {0, 8} else "no"


def test_a_set_is_the_same_constant_in_any_order(heard):
    """A set read from a cache file may come in another order than that of its source; 0 and 8 share a place in it."""
    function, (one,) = chosen_by_a_set, [c for c in chosen_by_a_set.__code__.co_consts if isinstance(c, frozenset)]
    other = frozenset(reversed(list(one)))
    assert one == other
    assert repr(one) != repr(other)
    before = function.__code__
    constants = tuple(other if constant == one else constant for constant in before.co_consts)
    try:
        function.__code__ = before.replace(co_consts=constants)
        with Patch({function: [tag_return("answer")]}):
            assert (function(8), function(1)) == ("yes", "no")
    finally:
        function.__code__ = before
    assert heard == [("answer", "yes"), ("answer", "no")]


def test_future_imports_hold_in_patched_code(heard, tmp_path):
    path = tmp_path / "future.py"
    path.write_text(
        "from __future__ import annotations\ndef f(x):\n    def g(y: no_such_name): return y\n    return g(x)\n"
    )
    module = imported(path)
    with Patch({module.f: [tag_return("t", index=0)]}):
        assert module.f(3) == 3
    assert heard == [("t", 3)]


def test_text_over_several_lines_is_kept(heard, tmp_path):
    path = tmp_path / "indented.py"
    path.write_text("class A:\n    def f(self):\n        s = '''one\n  two\n        three'''\n        return s\n")
    module = imported(path)
    with Patch({module.A.f: [tag_return("t")]}):
        assert module.A().f() == "one\n  two\n        three"


def test_flags_that_a_decorator_set_are_kept(heard):
    @types.coroutine
    def switch():
        answer = yield 1
        return answer

    async def user():
        return await switch()

    with Patch({switch: [tag_return("t")]}):
        running = user()
        assert running.send(None) == 1
        with pytest.raises(StopIteration, match="5"):
            running.send(5)
    assert heard == [("t", 5)]


@pytest.mark.slow
def test_unedited_functions_of_the_standard_library_compile_to_themselves():
    """The oracle of the whole machinery: without edits the code object is the same, line table included."""
    from gossamer.jax.patching.changes import changed
    from gossamer.jax.patching.compiling import compiled
    from gossamer.jax.patching.source import source_of

    checked = 0
    for name in ("ast", "dataclasses", "textwrap", "inspect", "asyncio.tasks", "argparse", "typing"):
        module = sys.modules.get(name) or importlib.import_module(name)
        owners = [module, *(item for item in vars(module).values() if inspect.isclass(item))]
        functions = {id(f): f for owner in owners for f in vars(owner).values() if inspect.isfunction(f)}
        for function in list(functions.values())[::12]:
            if function.__name__ == "<lambda>" or function.__code__.co_filename != module.__file__:
                continue
            source = source_of(function, function.__code__)
            code = compiled(source, changed(source.node, []), function.__globals__)
            assert code == function.__code__, source.name
            assert list(code.co_positions()) == list(function.__code__.co_positions()), source.name
            checked += 1
    assert checked > 30


class Layered(Base):
    table = staticmethod(len)
    shortcut = lambda self: self.wide(1)  # noqa: E731

    def narrow(self, x):
        inner = x + 1
        return inner * 2

    def wide(self, x, scale=3):
        outer = x * scale

        def helper(y):
            return y - 1

        return helper(outer) * 2

    class Nested:
        def deep(self, x):
            return x * 5


@pytest.mark.parametrize("target", [Layered, f"{__name__}:Layered"], ids=["class", "text"])
def test_each_edit_of_a_class_finds_its_method(target, heard, monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, types.SimpleNamespace(Layered=Layered))
    edits = [
        tag_assign("outer", "outer"),
        tag_arg("scale", "scale"),
        replace("x + 1", "x + 10"),
        tag_assign("inner", "i"),
    ]
    patch = Patch({target: edits})
    with patch:
        assert (Layered().narrow(1), Layered().wide(2), Layered().shortcut()) == (22, 10, 4)
    assert heard == [("i", 11), ("scale", 3), ("outer", 6), ("scale", 3), ("outer", 3)]
    assert [name.rpartition(".")[2] for name in patch.hashes()] == ["narrow", "wide"]
    assert Layered().narrow(1) == 4


def test_an_edit_of_a_class_may_be_for_several_methods(heard):
    for count in (2, None):
        with Patch({Layered: [tag_expr("$_ * 2", "twice", count=count)]}):
            Layered().narrow(1)
            Layered().wide(2)
    assert heard == [("twice", 4), ("twice", 10)] * 2


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (tag_expr("$_ * 2", "t"), r"several methods, .*narrow \(1\), .*wide \(1\): name the method .* or pass count=2"),
        (tag_expr("$_ * 2", "t", count=3), "pass count=2"),
        (tag_expr("$_ * 2", "t", index=0), "name the method"),
        (tag_expr("y - 1", "t", count=2), "found 1 places in .*wide, expected 2"),
        (
            tag_assign("h", "t"),
            r"found no place in the methods narrow, wide(.|\n)*- h = ...(.|\n)*\+ test_functions.py",
        ),
        (tag_expr("x * 5", "t"), "no place"),
        (tag_arg("z", "t"), "no place"),
    ],
)
def test_an_edit_of_a_class_that_fits_nowhere_or_too_often_is_refused(edit, says):
    with pytest.raises(MatchError, match=says):
        Patch({Layered: [edit]}).install()


def test_methods_of_a_class_are_those_written_in_it():
    from dataclasses import dataclass

    @dataclass
    class Record:
        x: int
        other = Base.method

        def doubled(self):
            return self.x * 2

    with Patch({Record: [tag_return("t")]}) as patch:
        assert Record(2).doubled() == 4
    assert [name.rpartition(".")[2] for name in patch.hashes()] == ["doubled"]
    edits = [replace("return self.__x * 2", "return self.__x * 5"), replace("return x + 1", "return x + 2")]
    with Patch({Base: edits}):
        assert (Base(3).value, Base.static(1)) == (15, 3)
