"""What the one-file pages share: how templates are read, and how a record stands inside one."""

import json
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# A module of `components/` in another one; both stand in one script of a page.
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([a-z_]+\.js)";$', re.MULTILINE)


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
    """The source of a module of `components/`, for a module script of a page, with what it imports before it."""
    source = resources.files("gossamer.report").joinpath("components", name).read_text(encoding="utf-8")
    parts = [component(one) for one in _IMPORT.findall(source)]
    return Markup("\n").join([*parts, Markup(_IMPORT.sub("", source))])
