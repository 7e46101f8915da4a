"""The report as a folder: the page, its figures as files, and the numbers behind both."""

from pathlib import Path

from gossamer import files
from gossamer.circuits.results import Findings
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
    findings.save(folder / "findings.json")
    return files.write_text(folder / "report.html", html)
