"""Names that the code of a patch uses beside those of the function's module: imports and helpers of the patch's own."""

import builtins
import textwrap
from collections.abc import Iterable
from types import FunctionType
from typing import Any

from gossamer.jax.patching.errors import PatchError, PatternError
from gossamer.jax.tag import tag

Names = dict[str, Any]


class Prefix:
    """Code that is run once for each module that is patched, with the names of that module and `tag`."""

    def __init__(self, text: str) -> None:
        """Read the code.

        Raises:
            PatternError: it is no Python.
        """
        try:
            self._code = compile(textwrap.dedent(text), "<prefix of a patch>", "exec", dont_inherit=True)
        except SyntaxError as error:
            raise PatternError(f"prefix: {text.strip()!r} is no Python: {error.msg} (line {error.lineno})") from None
        self._made: dict[int, Names] = {}

    def names(self, function: FunctionType, lent: "Lent") -> Names:
        """What it defines that the function's module has not by itself.

        Raises:
            PatchError: it fails, or defines a name that means something else there.
        """
        key = id(function.__globals__)
        if key not in self._made:
            self._made[key] = self._run(lent.own(function.__globals__), function.__module__)
        return self._made[key]

    def _run(self, module: Names, name: str) -> Names:
        here = {**vars(builtins), **module, "tag": tag}
        space = dict(here)
        try:
            exec(self._code, space)
        except Exception as error:
            raise PatchError(f"prefix, run in {name}: {type(error).__name__}: {error}") from error
        made = {key: value for key, value in space.items() if key not in here or here[key] is not value}
        taken = sorted(made.keys() & here.keys())
        if taken:
            raise PatchError(
                f"prefix: {taken[0]!r} means something else in {name}, or is a built-in or gossamer's tag: "
                "give it another name"
            )
        return {key: value for key, value in made.items() if not key.startswith("__")}


class Lent:
    """The names that modules have from the prefixes in force, and lose with them."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, str], tuple[Names, Any]] = {}

    def own(self, module: Names) -> Names:
        """What a module has by itself."""
        return {name: value for name, value in module.items() if (id(module), name) not in self._names}

    def wanted(self, given: Iterable[tuple[FunctionType, Names]]) -> dict[tuple[int, str], tuple[Names, Any]]:
        """What is to be lent, for functions and the names for the modules that they are in.

        Raises:
            PatchError: two patches give a module one name for two things.
        """
        found: dict[tuple[int, str], tuple[Names, Any]] = {}
        for function, names in given:
            for name, value in names.items():
                _, first = found.setdefault((id(function.__globals__), name), (function.__globals__, value))
                if first is not value:
                    raise PatchError(
                        f"prefix: another patch in force defines {name!r} in {function.__module__}: give one of the "
                        "two another name"
                    )
        return found

    def lend(self, wanted: dict[tuple[int, str], tuple[Names, Any]]) -> None:
        """Give modules these names."""
        for (_, name), (module, value) in wanted.items():
            module[name] = value

    def take_back(self, wanted: dict[tuple[int, str], tuple[Names, Any]]) -> None:
        """All names that were lent before but these."""
        for key, (module, value) in self._names.items():
            if key not in wanted and module.get(key[1]) is value:
                del module[key[1]]
        self._names = wanted
