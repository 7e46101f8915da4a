"""From a changed tree to a code object that can take the place of the original one.

The whole file is compiled, as on import, and the function's code is taken out of it: closures, private names,
``super()``, ``__future__`` imports, qualified names and line numbers come out as they were. Nothing of it is executed.
"""

import __future__

import ast
import builtins
import dis
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from gossamer.jax.patching.errors import PatchError, SourceError
from gossamer.jax.patching.source import FunctionNode, FunctionSource

_FUTURE = sum(getattr(__future__, name).compiler_flag for name in set(__future__.all_feature_names) - {"nested_scopes"})
_KIND = (
    inspect.CO_VARARGS
    | inspect.CO_VARKEYWORDS
    | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE
    | inspect.CO_ASYNC_GENERATOR
)
# pytest rewrites the asserts of test modules: their code is known to differ from their source.
_REWRITTEN = ("@py_assert", "@pytest_ar")


def compiled(source: FunctionSource, node: FunctionNode, known: Mapping[str, Any]) -> CodeType:
    """The code of `node`, a changed copy of the function, fit to be its ``__code__``.

    Args:
        source: the function as it was.
        node: the changed tree.
        known: its globals, to find names that patch code uses and nobody defines.

    Raises:
        PatchError: it uses an unknown name or another variable of an enclosing function, or becomes another kind of
            function (a generator, a coroutine).
    """
    code = _compile(source, node)
    missing = [name for name in source.code.co_freevars if name not in code.co_freevars]
    if missing:
        code = _compile(source, _keeping(node, missing))
    if code.co_freevars != source.code.co_freevars or _signature(code) != _signature(source.code):
        raise PatchError(
            f"the patch changes what kind of function {source.name} is: its arguments, its closure over "
            f"{', '.join(source.code.co_freevars) or 'nothing'}, or whether it is a generator or coroutine"
        )
    unknown = sorted(_globals(code) - _globals(source.code) - set(known) - set(vars(builtins)))
    if unknown:
        raise PatchError(
            f"{source.name}: the patch uses {unknown[0]!r}, which is no argument, local variable or global of it; "
            "prefix= can define it"
        )
    return code.replace(co_flags=source.code.co_flags)  # decorators may have set some, as types.coroutine does


def require_current(source: FunctionSource) -> None:
    """Refuse a file that is not what is running: a patch of it would bring in its other changes.

    Raises:
        SourceError: the file compiles to another program than the function's.
    """
    running = source.code
    if not _same(_compile(source, source.node), running) and not _rewritten(running):
        raise SourceError(
            f"{source.name} is not what {source.filename}:{running.co_firstlineno} says: the file changed since it was "
            "imported, or the function was made another way; restart Python"
        )


def _compile(source: FunctionSource, node: FunctionNode) -> CodeType:
    flags = source.code.co_flags & _FUTURE
    try:
        module: Any = ast.fix_missing_locations(_put(source.module, source.node, node))
        code = compile(module, source.filename, "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise PatchError(f"the patch of {source.name} does not compile: {error}") from None
    first, last = source.span
    return next(inner for inner in _all(code) if inner.co_name == node.name and first <= inner.co_firstlineno <= last)


def _put(tree: Any, old: ast.AST, new: ast.AST) -> Any:
    """A tree with another node in the place of `old`. Only what lies around it is copied: the tree itself stays."""
    if tree is old:
        return new
    for name, value in ast.iter_fields(tree):
        for index, child in enumerate(value if isinstance(value, list) else ()):
            # Functions stand in blocks only, and a block's statements come in the order of their lines.
            if isinstance(child, ast.AST) and getattr(child, "end_lineno", old.lineno) >= old.lineno:  # type: ignore[attr-defined]
                made = _put(child, old, new)
                if made is not child:
                    fields = {**dict(ast.iter_fields(tree)), name: [*value[:index], made, *value[index + 1 :]]}
                    return ast.copy_location(type(tree)(**fields), tree)
    return tree


def _keeping(node: FunctionNode, names: list[str]) -> FunctionNode:
    """The function with free variables that its changed body no longer uses: its closure is what it is."""
    unused = ast.If(ast.Constant(False), [ast.Expr(ast.Name(name, ast.Load())) for name in names], [])
    fields = {**dict(ast.iter_fields(node)), "body": [*node.body, unused]}
    return ast.copy_location(type(node)(**fields), node)


def _all(code: CodeType) -> Iterator[CodeType]:
    for inner in _inner(code):
        yield inner
        yield from _all(inner)


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (constant for constant in code.co_consts if isinstance(constant, CodeType))


def _signature(code: CodeType) -> tuple[object, ...]:
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)
    count += bool(code.co_flags & inspect.CO_VARKEYWORDS)
    numbers = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _KIND)
    return (*numbers, code.co_varnames[:count])


def _globals(code: CodeType) -> set[str]:
    """The global names that a function reads, and those inside it."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return found.union(*map(_globals, _inner(code)))


def _same(left: CodeType, right: CodeType) -> bool:
    """Whether two code objects are one program, wherever it stands."""
    parts = [
        (code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars) for code in (left, right)
    ]
    plain = [[_constant(item) for item in code.co_consts if not isinstance(item, CodeType)] for code in (left, right)]
    inner = [list(_inner(code)) for code in (left, right)]
    return (
        parts[0] == parts[1]
        and plain[0] == plain[1]
        and len(inner[0]) == len(inner[1])
        and all(map(_same, inner[0], inner[1]))
    )


def _constant(item: object) -> str:
    """As text: 1, 1.0 and True are equal, but not the same code, and a set comes in any order."""
    return repr(sorted(map(repr, item))) if isinstance(item, frozenset) else repr(item)


def _rewritten(code: CodeType) -> bool:
    names = (*code.co_varnames, *code.co_names)
    return any(name.startswith(_REWRITTEN) for name in names) or any(map(_rewritten, _inner(code)))
