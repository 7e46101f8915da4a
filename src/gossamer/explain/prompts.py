"""Templates of what language models are asked, one a file, in words of our own."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

_USER = "--- user ---\n"


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("gossamer.explain", "templates"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{name}.j2")


def messages(name: str, **values: Any) -> tuple[str, str]:
    """The system and the user message of a template: what many questions share comes first, for the server's cache."""
    system, _, user = _template(name).render(**values).partition(_USER)
    return system.strip(), user.strip("\n")


def plain(name: str, **values: Any) -> str:
    """A template without messages, to its last character."""
    return _template(name).render(**values)
