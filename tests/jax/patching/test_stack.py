"""Patches together: any order of coming and going, all or nothing, and how often one is entered."""

import itertools

import pytest

pytest.importorskip("jax")

from gossamer.jax.patching import MatchError, Patch, PatchError, PatchWarning, before, replace, tag_assign, tag_expr
from gossamer.jax.patching.active import in_force


def f(x):
    y = x + 1
    z = y * 2
    return z - y


def g(x):
    y = f(x)
    return y * y


CODES = f.__code__, g.__code__
PATCHES = {
    "a": Patch({f: [tag_assign("y", "a")]}),
    "b": Patch({f: [tag_assign("z", "b")], g: [tag_assign("y", "b")]}),
    "c": Patch({f: [tag_expr("x + 1", "c"), before("return $_", "tag('c', z)")]}),
}
EXPECTED = {"a": [("a", 4)], "b": [("b", 8), ("b", 4)], "c": [("c", 4), ("c", 8)]}


@pytest.mark.parametrize("come", list(itertools.permutations("abc")))
@pytest.mark.parametrize("go", list(itertools.permutations("abc")))
def test_any_order_of_coming_and_going(heard, come, go):
    present = set()
    for names, verb in ((come, "install"), (go, "uninstall")):
        for name in names:
            getattr(PATCHES[name], verb)()
            present ^= {name}
            heard.clear()
            assert g(3) == 16
            assert sorted(heard) == sorted(pair for name in present for pair in EXPECTED[name])
    assert (f.__code__, g.__code__) == CODES


def test_with_and_install_nest_as_one(heard):
    a = PATCHES["a"]
    with a:
        with a:
            assert not a.is_installed()
            a.install()
            a.install()
        f(3)
    f(3)
    assert a.is_installed()
    a.uninstall()
    assert not a.is_installed()
    f(3)
    assert heard == [("a", 4)] * 2
    with pytest.raises(PatchError, match="was not installed"):
        a.uninstall()


def test_two_patches_of_one_place_are_both_there(heard):
    with PATCHES["a"], Patch({f: [tag_assign("y", "later")]}):
        f(3)
    assert heard == [("a", 4), ("later", 4)]


def test_a_patch_is_all_or_nothing(heard):
    broken = Patch({f: [tag_assign("y", "y")], g: [tag_assign("nowhere", "n")]})
    with PATCHES["b"]:
        codes = f.__code__, g.__code__
        with pytest.raises(MatchError, match="nowhere"):
            broken.install()
        assert (f.__code__, g.__code__) == codes
        g(3)
    assert sorted(heard) == EXPECTED["b"][::-1]
    assert (f.__code__, g.__code__) == CODES


def test_patches_that_exclude_each_other(heard):
    first, second = Patch({f: [replace("x + 1", "x + 2")]}), Patch({f: [replace("$a + 1", "$a + 3")]})
    with first:
        with pytest.raises(PatchError, match="replaces too"):
            second.install()
        assert f(1) == 3
    with second:
        assert f(1) == 4
    assert f(1) == 2


def test_an_error_in_the_with_takes_the_patch_back(heard):
    with pytest.raises(ZeroDivisionError), PATCHES["a"]:
        f(1 / 0)
    assert f.__code__ is CODES[0]


def test_code_that_somebody_else_changed_is_not_overwritten(heard):
    with PATCHES["a"]:
        ours = f.__code__
        f.__code__ = g.__code__
        with pytest.raises(PatchError, match="changed by somebody else"):
            PATCHES["b"].install()
        f.__code__ = ours
    assert f.__code__ is CODES[0]


HASHES = PATCHES["b"].hashes()
F, G = HASHES


def test_hashes_of_the_same_source_are_silent(heard, recwarn):
    with Patch({f: [tag_assign("y", "y")]}, verified={"tests": ["0"]}, source_hash={F: HASHES[F]}):
        f(1)
    assert not recwarn.list
    assert all(len(digest) == 16 for digest in HASHES.values())
    assert len(set(HASHES.values())) == 2


def test_a_hash_looks_past_comments_formatting_and_decorators(tmp_path):
    from gossamer.jax.patching.source import FunctionSource

    def digest(text):
        import ast

        module = ast.parse(text)
        return FunctionSource("f", f.__code__, module.body[0], "", (), module).hash()

    same = ["def f(x):\n    return x+1", "@d\ndef f( x ):\n    'doc'\n    # why\n    return (x + 1)"]
    assert digest(same[0]) == digest(same[1])
    assert digest(same[0]) != digest("def f(x):\n    return x + 2")
    assert digest(same[0]) != digest("def f(x, y):\n    return x + 1")


def test_another_source_that_still_fits_warns(heard):
    patch = Patch({f: [tag_assign("y", "y")]}, source_hash={F: "0" * 16})
    with (
        pytest.warns(PatchWarning, match=r"f is not the source this patch was written for .* every edit still fits"),
        patch,
    ):
        f(1)
    assert heard == [("y", 2)]


def test_another_source_that_no_longer_fits_says_so_with_the_nearest_lines():
    patch = Patch({f: [tag_assign("yy", "y")]}, source_hash={F: "0" * 16})
    with pytest.raises(
        MatchError, match=r"- yy = ...(.|\n)*\+ test_stack.py:\d+: y = x \+ 1(.|\n)*not the source this"
    ):
        patch.install()


def test_another_version_counts_where_there_is_no_hash(heard, recwarn):
    edits = {f: [tag_assign("y", "y")]}
    here = pytest.__version__
    Patch(edits, verified={"pytest": ["0.1", here]}).install()
    Patch(edits, verified={"pytest": ["0.1"]}, source_hash={F: HASHES[F]}).install()
    for patch in in_force():
        patch.uninstall()
    assert not recwarn.list
    with (
        pytest.warns(PatchWarning, match=rf"verified with pytest 0\.1, here is {here}"),
        Patch(edits, verified={"pytest": ["0.1"]}),
    ):
        pass
    with (
        pytest.warns(PatchWarning, match="no-such-package 1.0, here is none"),
        Patch(edits, verified={"no-such-package": ["1.0"]}),
    ):
        pass


def test_a_hash_of_a_function_that_is_not_patched_is_refused():
    with pytest.raises(PatchError, match="source_hash names other"):
        Patch({f: [tag_assign("y", "y")]}, source_hash={"other": "0" * 16}).install()
