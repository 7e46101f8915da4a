"""The page of the workbench is built before a wheel or an sdist is packed; an editable install packs no page."""

from typing import Any

from gossamer_build import page
from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):
    """Builds src/gossamer/app/static from src/gossamer/app/web, where it is not there already."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before files are gathered; `version` is "editable" for an editable install."""
        if version != "editable":
            page().build()
