"""Pages of the site that are made of what else is in the repository: the notebooks, and the commands' own words."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from gossamer import cli

ROOT = Path(__file__).resolve().parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs once it has found the pages of docs/."""
    for notebook in sorted((ROOT / "examples" / "notebooks").glob("*.ipynb")):
        where = notebook.relative_to(ROOT)
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join(_cell(cell) for cell in cells)
        files.append(
            File.generated(config, f"notebooks/{notebook.stem}.md", content=f"{text}\n\nAs a notebook: `{where}`.\n")
        )
    files.append(File.generated(config, "commands.md", content="\n".join(_commands())))
    return files


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    return source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"


def _commands() -> Iterator[str]:
    """Every command under its panel, with what it does and an example; its options are in its `--help`."""
    yield "# Commands\n\nEvery command has `--help`, with its options by what they are about, and `--json`.\n"
    panel = None
    for name, command in get_command(cli.app).commands.items():
        if panel != command.rich_help_panel:
            panel = command.rich_help_panel
            yield f"## {panel}\n"
        parts = {f"{name} {sub}": one for sub, one in getattr(command, "commands", {}).items()} or {name: command}
        for words, one in parts.items():
            *said, example = one.help.split("\n\n")
            lines = "\n".join(line.removeprefix("Example: ") for line in example.splitlines())
            yield f"### gossamer {words}\n\n" + "\n\n".join(said) + f"\n\n```sh\n{lines}\n```\n"
