"""Tags in third-party functions: edits of their syntax tree, in force for a `with` or until uninstalled."""

from gossamer.jax.patching.edits import Edit, after, before, replace, tag_arg, tag_assign, tag_expr, tag_return
from gossamer.jax.patching.errors import MatchError, PatchError, PatchWarning, PatternError, SourceError
from gossamer.jax.patching.patch import Patch
from gossamer.jax.patching.placed import Placed

__all__ = [
    "Edit",
    "MatchError",
    "Patch",
    "PatchError",
    "PatchWarning",
    "PatternError",
    "Placed",
    "SourceError",
    "after",
    "before",
    "replace",
    "tag_arg",
    "tag_assign",
    "tag_expr",
    "tag_return",
]
