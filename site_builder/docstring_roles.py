"""References in docstrings (:class:`Name`, :func:`gossamer.room.name`) as the site writes them."""

import re

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([^`]+)`")


def _code(found: re.Match[str]) -> str:
    """The name as code, with a link where the site has a place for it."""
    name = found[1]
    if not name.startswith("gossamer."):
        return f"`{name}`"
    return f'<autoref identifier="{name}" optional><code>{name.rpartition(".")[2]}</code></autoref>'


class DocstringRoles(griffe.Extension):
    """Rewrites every docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **options: object) -> None:
        """Called for each object with its docstring."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(_code, obj.docstring.value)
