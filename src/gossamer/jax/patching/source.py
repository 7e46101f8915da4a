"""The function behind a target, its syntax tree as it stands in its file, and a hash of it."""

import ast
import functools
import hashlib
import inspect
import linecache
from collections.abc import Hashable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType

from gossamer.jax.patching.errors import SourceError

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
# A function, however it is wrapped (decorators, partial, property, classmethod, bound method), a class, or a text with
# the path of one of them.
Target = Hashable
_WRAPPERS = ("__wrapped__", "__func__", "fget", "func")


@dataclass(frozen=True)
class FunctionSource:
    """A function as it was written.

    Attributes:
        name: ``module.qualname``, for messages and hashes.
        code: the code object that was compiled from it.
        node: its tree with the line numbers of its file; never changed.
        filename: where it stands.
        lines: the lines of that file.
        module: the tree of that file.
    """

    name: str
    code: CodeType
    node: FunctionNode
    filename: str
    lines: tuple[str, ...]
    module: ast.Module

    @property
    def span(self) -> tuple[int, int]:
        """The lines on which its code may say that it begins: from its first decorator to its ``def``."""
        return min([self.node.lineno, *(decorator.lineno for decorator in self.node.decorator_list)]), self.node.lineno

    def where(self, node: ast.AST) -> str:
        """``file.py:line`` of a part of the function."""
        return f"{Path(self.filename).name}:{getattr(node, 'lineno', self.node.lineno)}"

    def line(self, node: ast.AST) -> str:
        """The source line on which a part of the function begins, stripped."""
        return self.lines[getattr(node, "lineno", self.node.lineno) - 1].strip()

    def hash(self) -> str:
        """16 hexadecimal digits that stay the same when comments, formatting, docstring or decorators change."""
        body = self.node.body[1:] if ast.get_docstring(self.node) is not None else self.node.body
        parts = map(ast.unparse, [self.node.args, *body])  # not ast.dump, which differs between versions of Python
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def functions_of(target: Target) -> list[FunctionType]:
    """The Python functions that are meant: the one that runs in the end, or the methods written in a class.

    Through decorators, partials, methods and properties; a text "package.module:Class.method" is imported first.

    Raises:
        SourceError: there is none (a built-in, a class without any, an object that is called).
    """
    found = _unwrapped(_imported(target) if isinstance(target, str) else target)
    if isinstance(found, FunctionType):
        return [found]
    if isinstance(found, type):
        return _methods(found)
    if isinstance(vars(type(found)).get("__call__"), FunctionType):
        kind = type(found).__qualname__
        raise SourceError(f"{found!r} is an object of {kind}: name the method that runs, {kind}.__call__")
    raise SourceError(f"{target!r} is no Python function: built-in and compiled functions have no source to patch")


def _methods(kind: type) -> list[FunctionType]:
    """Those that stand in the body of a class: not inherited, borrowed from elsewhere, or generated."""
    inner = (_unwrapped(getattr(kind, name, None)) for name in vars(kind))
    found = [
        function
        for function in inner
        if isinstance(function, FunctionType)
        and function.__qualname__ == f"{kind.__qualname__}.{function.__code__.co_name}"
        and function.__code__.co_name != "<lambda>"
        and not function.__code__.co_filename.startswith("<")
    ]
    if not found:
        raise SourceError(f"{kind.__qualname__} is a class without methods of its own that are written in Python")
    return found


def _unwrapped(found: object) -> object:
    for _ in range(100):
        inner = next((vars_ for name in _WRAPPERS if (vars_ := _held(found, name)) is not None), None)
        if inner is None:
            break
        found = inner
    return found


def _held(target: object, name: str) -> object | None:
    """The callable that a wrapper keeps under `name`; `func` counts only for partials and cached properties."""
    if isinstance(target, type) or (isinstance(target, FunctionType) and name != "__wrapped__"):
        return None
    partials = (functools.partial, functools.partialmethod, functools.cached_property)
    if name == "func" and not isinstance(target, partials):
        return None
    return getattr(target, name, None)


def _imported(path: str) -> object:
    module, _, qualname = path.partition(":")
    try:
        found: object = import_module(module)
        # vars first: a property or classmethod must come as itself, not as what it returns.
        for part in qualname.split("."):
            found = inspect.getattr_static(found, part)
    except (ImportError, AttributeError) as error:
        raise SourceError(f"{path!r}: {error}; expected 'package.module:Class.method'") from None
    return found


def source_of(function: FunctionType, code: CodeType) -> FunctionSource:
    """The tree of `function`, found in its file by the line where `code` begins.

    Raises:
        SourceError: a lambda, a function whose file cannot be read, or a file without it.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    if code.co_name == "<lambda>":
        raise SourceError(f"{name} is a lambda: only functions written with def can be patched")
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise SourceError(
            f"{name} has no source: {code.co_filename} cannot be read (generated code, or a compiled file)"
        )
    module = _parsed(tuple(lines))
    for node in ast.walk(module):
        if isinstance(node, FunctionNode) and node.name == code.co_name:
            found = FunctionSource(name, code, node, code.co_filename, tuple(lines), module)
            if found.span[0] <= code.co_firstlineno <= found.span[1]:
                return found
    raise SourceError(
        f"{name} was expected at {code.co_filename}:{code.co_firstlineno}, where the file has something else: "
        "it changed since it was imported; restart Python"
    )


@functools.lru_cache(maxsize=64)
def _parsed(lines: tuple[str, ...]) -> ast.Module:
    """The tree of a file. Cached: a patch of ten functions reads its file once."""
    try:
        return ast.parse("".join(lines))
    except SyntaxError as error:
        raise SourceError(f"the source cannot be parsed: {error}") from None
