"""What the one-file pages share: how templates are read, and how a record stands inside one."""

import json
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# A module of `components/` that another one imports: both stand in one script of a page.
_IMPORTED = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+\.js)";$', re.MULTILINE)
_INCLUDED = re.compile(r"^[ \t]*// include (\S+)\n", re.MULTILINE)


def environment() -> Environment:
    """Templates of the report: all text escaped, nothing undefined."""
    return Environment(
        loader=PackageLoader("gossamer.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def inline(value: Any) -> Markup:
    """JSON inside a script element: nothing in it ends the element or begins a comment."""
    return Markup(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def component(name: str) -> Markup:
    """The source of a module of `components/`, to stand in a module script of a page.

    A line `// include FILE` stands for the lines of that file of `components/` (the workbench's build puts them in by
    the same rule); modules that it imports stand before it.
    """
    text = _INCLUDED.sub(lambda line: _source(line[1]), _source(name))
    parts = [component(one) for one in _IMPORTED.findall(text)]
    return Markup("\n").join([*parts, Markup(_IMPORTED.sub("", text))])


def _source(name: str) -> str:
    return resources.files("gossamer.report").joinpath("components", name).read_text(encoding="utf-8")
