"""The report as a folder: the page, its figures as files, and the numbers behind both."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from gossamer import files
from gossamer.circuits.results import Findings
from gossamer.features.feature import Feature, Node
from gossamer.model.site import Site
from gossamer.report import style
from gossamer.report.page import drawn, page, pictured


def write_report(findings: Findings, folder: str | Path) -> Path:
    """Write report.html, figures/*.png, figures/*.svg and findings.json; each file atomically.

    The same findings give the same bytes on one machine. Parts that are missing (no curves, no stability) are left out
    of the page with a line that says so, and have no figure. `settings["candidates"]`, where given, is the number of
    nodes the circuit was chosen from.

    Args:
        findings: what an evaluation found.
        folder: made if missing; files of the same names are replaced.

    Returns:
        The path of report.html.

    Raises:
        GossamerError: findings that contradict themselves, or a folder that cannot be written.
    """
    folder = Path(folder)
    figures = drawn(findings)
    pictures = pictured(figures)
    html = page(findings, pictures)
    for name, figure in figures.items():
        style.save_png(figure, folder / "figures" / f"{name}.png")
        files.write_text(folder / "figures" / f"{name}.svg", pictures[name])
    files.write_json(folder / "findings.json", plain(findings))
    return files.write_text(folder / "report.html", html)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses become objects, names of features and sites texts, tuples lists, and
    numbers that are not finite null.
    """
    if isinstance(value, Feature | Node | Site):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
