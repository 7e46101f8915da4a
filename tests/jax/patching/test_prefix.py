"""What the prefix of a patch defines can be used by its code, for as long as it is in force, and by nothing else."""

import math

import pytest

pytest.importorskip("jax")

from gossamer.jax.patching import Patch, PatchError, PatternError, replace, tag_return

WIDTH = 10


def area(x):
    return x * x


def volume(x):
    return area(x) * x


SQUARE, CUBE = "x * x", "area(x) * x"


@pytest.fixture(autouse=True)
def module_as_it_was():
    before = set(globals())
    yield
    assert set(globals()) - {"__gossamer_tag__"} <= before


def test_imports_and_functions_of_the_prefix(heard):
    prefix = """
    import cmath
    from decimal import Decimal as D


    def shifted(x):
        return tag("shifted", x + WIDTH)
    """
    patch = Patch(
        {area: [replace(SQUARE, "shifted(x) * D(2)")], volume: [replace(CUBE, "cmath.sqrt(x)")]},
        prefix=prefix,
    )
    for _ in range(2):
        with patch:
            assert area(1) == 22
            assert volume(-4) == 2j
        assert (area(3), volume(2)) == (9, 8)
    assert heard == [("shifted", 11)] * 2


def test_it_is_run_once_for_a_module():
    patch = Patch({area: [replace(SQUARE, "made")], volume: [replace(CUBE, "made")]}, prefix="made = object()")
    with patch:
        first = area(1)
        assert volume(1) is first
    with patch:
        assert area(1) is first


def test_two_patches_that_need_the_same_come_and_go_in_any_order():
    patches = [
        Patch({area: [replace(SQUARE, "cmath.sqrt(x)")]}, prefix="import cmath"),
        Patch({volume: [replace(CUBE, "cmath.sqrt(x)")]}, prefix="import cmath"),
    ]
    for first, second in (patches, patches[::-1]):
        first.install()
        second.install()
        assert area(-4) == volume(-4) == 2j
        first.uninstall()
        assert (area(-4), volume(-4)) in ((16, 2j), (2j, -8j))
        second.uninstall()
    assert (area(-4), volume(-4)) == (16, -64)


def test_two_patches_that_mean_different_things_are_refused():
    first = Patch({area: [replace(SQUARE, "made")]}, prefix="made = object()")
    second = Patch({volume: [replace(CUBE, "made")]}, prefix="made = object()")
    with first:
        code = volume.__code__
        with pytest.raises(PatchError, match=r"another patch in force defines 'made' in .*: give one of the two"):
            second.install()
        assert volume.__code__ is code
    with second:
        assert volume(1) is not None


def test_a_name_that_only_another_patch_brings_is_refused():
    borrowing = Patch({volume: [replace(CUBE, "cmath.sqrt(x)")]})
    with (
        Patch({area: [replace(SQUARE, "cmath.sqrt(x)")]}, prefix="import cmath"),
        pytest.raises(PatchError, match=r"uses 'cmath', which is no .* global of it; prefix= can define it"),
    ):
        borrowing.install()


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("WIDTH = 3", "'WIDTH' means something else in .*test_prefix"),
        ("def tag(module, site, x): ...", "'tag' means something else in .* gossamer's tag: give it another name"),
        ("len = 3", "'len' means something else"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_is_refused_as_it_is_run(prefix, says):
    with pytest.raises(PatchError, match=f"prefix.*{says}"):
        Patch({area: [tag_return("t")]}, prefix=prefix).install()
    assert (area(3), WIDTH) == (9, 10)


def test_what_the_module_has_already_stays_its_own():
    with Patch({area: [replace(SQUARE, "math.sqrt(x)")]}, prefix="import math\nfrom gossamer.jax import tag"):
        assert area(9) == 3
    assert math.sqrt(9) == 3


def test_a_prefix_that_is_no_python_is_refused_when_it_is_written():
    with pytest.raises(PatternError, match=r"prefix: 'import' is no Python: .* \(line 1\)"):
        Patch({area: [tag_return("t")]}, prefix="import")
