"""`gossamer view RUN --export FILE.html`: all that a run's page shows without a model, in a page that needs no server.

The page holds what the routes answer (:mod:`gossamer.app.in_process`), packed by gzip, and the module that draws it.
It asks nobody: its policy allows the scripts and styles that it holds, by their hashes, and nothing else. What is too
large for one file becomes a folder, whose page reads the parts that a reader looks at as scripts beside it: a page from
a disk may read nothing else.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossamer import files
from gossamer.app.in_process import InProcess, key_of
from gossamer.app.live import LiveModels
from gossamer.app.page import STATIC
from gossamer.app.run_folder import RunFolder
from gossamer.app.server import api, exported_paths
from gossamer.app.workbench import Workbench
from gossamer.display import plural
from gossamer.errors import GossamerError, UsageError

# Of a page in one file; a larger one opens slowly, and mail refuses it.
LARGEST = 10_000_000
# Of a part of the data in a folder, before it is packed.
_PART = 8_000_000
OFFLINE = "this page was exported and holds no model; open the run with gossamer view"
_EXPORTED = "this page was exported"

Answers = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class ExportedPage:
    """What was written: the page, how large it is with its data (bytes), and how many answers it holds."""

    page: Path
    bytes: int
    answers: int


def export_page(run: str | Path, target: str | Path, largest: int = LARGEST) -> ExportedPage:
    """Write the page of a run with its data: one file, or a folder where that would be larger than `largest` bytes.

    Args:
        run: the run's folder.
        target: NAME.html; the folder is NAME, and its page NAME/index.html.
        largest: of one file.

    Raises:
        UsageError: no such run, or a target that is no HTML file.
        GossamerError: nothing can be written there, or the page was not built.
    """
    path = Path(target)
    if path.suffix != ".html":
        raise UsageError(f"{target}: a file NAME.html expected")
    answers = _answers(RunFolder(run))
    packed = _packed(answers)
    name = RunFolder(run).name
    whole = _page(name, dict.fromkeys(answers, 0), [packed])
    if len(whole) <= largest:
        files.write_text(path, whole)
        return ExportedPage(path, len(whole.encode()), len(answers))
    folder = path.with_suffix("")
    parts = list(_parts(answers))
    for number, part in enumerate(parts):
        files.write_text(folder / "data" / f"{number}.js", _script(number, _packed(part)))
    places = {key: number for number, part in enumerate(parts) for key in part}
    page = files.write_text(folder / "index.html", _page(name, places, []))
    return ExportedPage(page, sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()), len(answers))


def _answers(run: RunFolder) -> dict[str, dict[str, Any]]:
    """What the routes say without a model, by question."""
    bench = Workbench(run, LiveModels("cpu"), read_only=_EXPORTED, offline=OFFLINE)
    routes = InProcess(api(bench))
    return {key_of(path): routes.ask(path).given for path in exported_paths(bench)}


def _packed(answers: Answers) -> str:
    text = json.dumps(answers, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _parts(answers: Answers) -> Iterator[dict[str, Mapping[str, Any]]]:
    """The answers in their order, in parts of about `_PART` bytes; an answer that is larger has one of its own."""
    part: dict[str, Mapping[str, Any]] = {}
    size = 0
    for key, value in answers.items():
        own = len(json.dumps(value))
        if part and size + own > _PART:
            yield part
            part, size = {}, 0
        part[key] = value
        size += own
    yield part


def _script(number: int, packed: str) -> str:
    return f'(globalThis.gossamerParts ??= {{}})[{number}] = "{packed}";\n'


def bundle() -> str:
    """The page as one module.

    Raises:
        GossamerError: it was not built.
    """
    path = STATIC / "bundle.js"
    if not path.is_file():
        raise GossamerError(
            f"{path}: the built page expected, found nothing; run 'gossamer view' once, which builds it"
        )
    return path.read_text(encoding="utf-8")


def _page(name: str, places: Mapping[str, int], packed: list[str]) -> str:
    # Inside a script element a text ends at the first `</script`, whatever it is for the script.
    module = bundle().replace("</script", "<\\/script").replace("<!--", "<\\!--")
    style = _style()
    contents = json.dumps({"parts": places, "count": len(packed)}, separators=(",", ":")).replace("<", "\\u003c")
    scripts = f"'sha256-{_sha256(module)}'" + ("" if packed else " 'strict-dynamic'")
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'sha256-{_sha256(style)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    title = name.replace("&", "&amp;").replace("<", "&lt;")
    data = "".join(
        f'<script type="text/plain" id="gossamer-part-{number}">{text}</script>\n' for number, text in enumerate(packed)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<div id="root"></div>
<noscript>This page needs scripts: its data are packed inside it.</noscript>
<script type="application/json" id="gossamer-contents">{contents}</script>
{data}<script type="module">{module}</script>
</body>
</html>
"""


def _style() -> str:
    """The page's style sheets, as they were built."""
    return "".join(path.read_text(encoding="utf-8") for path in sorted((STATIC / "assets").glob("*.css")))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def said(written: ExportedPage) -> str:
    """One line of what was written."""
    return (
        f"{written.page}: {plural(written.answers, 'answer')}, {written.bytes / 1e6:.1f} MB; it opens without a server"
    )
