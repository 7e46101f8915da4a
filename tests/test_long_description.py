"""The README for a package index: no link is left that only works beside the repository."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TARGETS = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def long_description():
    path = ROOT / "build_backend" / "long_description.py"
    spec = importlib.util.spec_from_file_location("long_description", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.long_description


def test_links_and_images_lead_to_the_repository(long_description):
    text = "![A map](docs/map.png) and [words](docs/a.md#part), [site](https://x.org), [below](#below)"
    assert long_description(text, "https://host.org/me/gossamer", "v1") == (
        "![A map](https://host.org/me/gossamer/raw/v1/docs/map.png) and "
        "[words](https://host.org/me/gossamer/blob/v1/docs/a.md#part), [site](https://x.org), [below](#below)"
    )


def test_without_a_repository_words_stay(long_description):
    assert long_description("![A map](a.png)See [the **docs**](docs/a.md).", None, "v1") == "See the **docs**."


@pytest.mark.parametrize("repository", [None, "https://host.org/me/gossamer"])
def test_no_link_of_the_readme_is_relative(long_description, repository):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert any(not one.startswith(("http", "#")) for one in TARGETS.findall(readme))
    text = long_description(readme, repository, "v1")
    assert all(one.startswith(("http", "#")) for one in TARGETS.findall(text))
