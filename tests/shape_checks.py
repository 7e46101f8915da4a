"""Annotated shapes and types of gossamer are checked at every call of its functions while tests run.

The modules are those of the tree, so that a new room is never forgotten. Left out are the JAX room, since the checker's
stack of calls knows nothing of greenlets, and the kernels, which Triton compiles from their source.

jaxtyping's own hook makes every call tens of times as slow, of functions without any shape too, and half of the tests'
time was spent there. Here jaxtyping gets what has shapes, and beartype alone the rest; a function inside a function,
which is made anew at each call of the outer one, is checked only for shapes.
"""

import ast
import sys
import threading
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

# Python 3.11 counts the depth of syntax trees for all threads together, and where two import at once, one fails.
_PARSING = threading.Lock()
UNCHECKED = ("gossamer.jax", "gossamer.sparse.kernels")


def install() -> None:
    """Check what is imported from now on: to be called before anything of gossamer is imported."""
    sys.meta_path.insert(0, _Finder())


def is_checked(module: str) -> bool:
    """Whether a module's functions are checked."""
    return f"{module}.".startswith("gossamer.") and not f"{module}.".startswith(tuple(f"{one}." for one in UNCHECKED))


def all_modules() -> Iterator[str]:
    """The names of all modules of the package, from the tree: nothing is imported for it."""
    spec = find_spec("gossamer")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__")


def has_shapes(hint: Any) -> bool:
    """Whether an annotation says the shape of an array, anywhere in it."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(has_shapes(part) for part in get_args(hint))


def checked(function: Any) -> Any:
    """A decorator: types are checked at every call, and shapes where there are any."""
    return nested(function) if _annotated(function) else beartype(function)


def nested(function: Any) -> Any:
    """The same for a function inside a function: shapes only."""
    return jaxtyped(function, typechecker=beartype) if _annotated(function) else function


def checked_class(made: Any) -> Any:
    """A decorator: what a dataclass is made from is checked."""
    if is_dataclass(made) and "__init__" in vars(made):
        made.__init__ = checked(made.__init__)
    return made


def _annotated(function: Any) -> bool:
    return any(has_shapes(hint) for hint in function.__annotations__.values())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if is_checked(name) else None
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = CheckingLoader(spec.loader.name, spec.loader.path)
        return spec


class CheckingLoader(SourceFileLoader):
    """Compiles a module with the decorators above; reads and writes no file of bytecode, which would lack them."""

    def get_code(self, name: str) -> CodeType:
        path = self.get_filename(name)
        with _PARSING:
            tree = _Decorated().visit(ast.parse(self.get_data(path), path))
            # After the docstring and what has to come first.
            place = sum(isinstance(node, ast.Expr | ast.ImportFrom) and _comes_first(node) for node in tree.body)
            tree.body.insert(place, ast.Import([ast.alias("shape_checks")]))
            return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)


def _comes_first(node: ast.Expr | ast.ImportFrom) -> bool:
    return isinstance(node, ast.Expr) or node.module == "__future__"


class _Decorated(ast.NodeTransformer):
    """Decorates functions first, before what they are decorated with already, and classes last, as dataclasses."""

    def __init__(self) -> None:
        self.inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(_named("nested" if self.inside else "checked", node))
        outer, self.inside = self.inside, True
        self.generic_visit(node)
        self.inside = outer
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.decorator_list.insert(0, _named("checked_class", node))
        self.generic_visit(node)
        return node


def _named(name: str, at: ast.stmt) -> ast.expr:
    module = ast.Name("shape_checks", ast.Load())
    return ast.copy_location(ast.Attribute(module, name, ast.Load()), at)
