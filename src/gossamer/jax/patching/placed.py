"""Where edits land in the original source; and what to say of a tag that a run did not meet."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType

from gossamer.jax.patching import active
from gossamer.jax.patching.changes import TAG, changed
from gossamer.jax.patching.edits import Edit
from gossamer.jax.patching.source import FunctionSource


@dataclass(frozen=True)
class Placed:
    """One place where a patch changes a function.

    Attributes:
        function: ``module.qualname``.
        edit: the edit, as it was written.
        tags: the names that it puts in.
        where: ``file.py:line``.
        line: that line of the original file.
    """

    function: str
    edit: str
    tags: tuple[str, ...]
    where: str
    line: str


def placed(edits: Mapping[FunctionType, Sequence[Edit]]) -> Iterator[Placed]:
    """Every place that the edits change.

    Raises:
        PatchError: an edit does not fit.
    """
    for function, its_edits in edits.items():
        source = active.original(function)
        for edit in its_edits:
            for change in edit.changes(source):
                node = change.nodes[0]
                yield Placed(source.name, edit.text, tuple(edit.names()), source.where(node), source.line(node))


def patched_text(source: FunctionSource, edits: Sequence[Edit]) -> str:
    """A function with its edits, as Python without comments.

    Raises:
        PatchError: an edit does not fit.
    """
    node = changed(source.node, [(edit.text, change) for edit in edits for change in edit.changes(source)])
    for name in ast.walk(node):
        if isinstance(name, ast.Name) and name.id == TAG:
            name.id = "tag"
    return ast.unparse(node)


def not_executed(name: str) -> str | None:
    """For a tag that a run did not find: a sentence if a patch in force puts it somewhere, else None."""
    found = [place for patch in active.in_force() for place in placed(patch.edits) if name in place.tags]
    if not found:
        return None
    lines = "; ".join(f"{place.where} in {place.function} ({place.line})" for place in found)
    return f"it is patched in at {lines}, but that line was not executed by this call"
