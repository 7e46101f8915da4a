"""Templates of what language models are asked, one a file, in the room that asks."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from gossamer.display import short_repr

_USER = "--- user ---\n"


class Templates:
    """The files NAME.j2 in the folder `templates` of a package."""

    def __init__(self, package: str) -> None:
        self.package = package

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield self.package

    @cached_property
    def _environment(self) -> Environment:
        return Environment(
            loader=PackageLoader(self.package, "templates"),
            autoescape=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )

    def messages(self, name: str, **values: Any) -> tuple[str, str]:
        """The system and the user message: what many questions share comes first, for the server's cache."""
        system, _, user = self.plain(name, **values).partition(_USER)
        return system.strip(), user.strip("\n")

    def plain(self, name: str, **values: Any) -> str:
        """A template without messages, to its last character."""
        return self._environment.get_template(f"{name}.j2").render(**values)
