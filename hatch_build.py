"""What hatchling asks before it builds: the workbench's page, and the README with links that work elsewhere."""

import os
from pathlib import Path
from typing import Any

from gossamer_build import page
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface
from long_description import long_description

# The repository that the links of a published package lead to, as https://HOST/OWNER/NAME.
REPOSITORY = "GOSSAMER_REPOSITORY"


class PageHook(BuildHookInterface):
    """Builds src/gossamer/app/static from src/gossamer/app/web, where it is not there already.

    An editable install packs no page.
    """

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before files are gathered; `version` is "editable" for an editable install."""
        if version != "editable":
            page().build()


class ReadmeHook(MetadataHookInterface):
    """The description for a package index, and the repository's addresses if the environment names it."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Called with what pyproject.toml says."""
        repository = (os.environ.get(REPOSITORY) or "").rstrip("/") or None
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text = long_description(text, repository, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = (
            {}
            if repository is None
            else {
                "Repository": repository,
                "Issues": f"{repository}/issues",
                "Changelog": f"{repository}/blob/v{metadata['version']}/CHANGELOG.md",
            }
        )
