"""The report as a folder: the page, its figures as files, and the numbers behind both."""

from pathlib import Path

from gossamer import files
from gossamer.attention.attribution_data import AttributionData
from gossamer.circuits.results import Findings
from gossamer.errors import UsageError
from gossamer.report import style
from gossamer.report.attribution_page import write_attribution_page
from gossamer.report.page import drawn, page, pictured


def write_report(findings: Findings, folder: str | Path, explored: AttributionData | None = None) -> Path:
    """Write report.html, figures/*.png, figures/*.svg and findings.json; each file atomically.

    With prompts that were taken apart also explore.html, to which the report links, and explore.json.

    The same findings give the same bytes on one machine. Parts that are missing (no curves, no stability) are left out
    of the page with a line that says so, and have no figure. `settings["candidates"]`, where given, is the number of
    nodes the circuit was chosen from.

    Args:
        findings: what an evaluation found.
        folder: made if missing; files of the same names are replaced.
        explored: prompts of the same model (:func:`gossamer.attention.attribution_data`).

    Returns:
        The path of report.html.

    Raises:
        UsageError: prompts of another model.
        GossamerError: findings that contradict themselves, or a folder that cannot be written.
    """
    folder = Path(folder)
    if explored is not None and explored.model != findings.model:
        raise UsageError(f"report: prompts of {findings.model} expected beside it, found some of {explored.model}")
    figures = drawn(findings)
    pictures = pictured(figures)
    html = page(findings, pictures, None if explored is None else "explore.html")
    if explored is not None:
        write_attribution_page(explored, folder / "explore.html")
        explored.save(folder / "explore.json")
    for name, figure in figures.items():
        style.save_png(figure, folder / "figures" / f"{name}.png")
        files.write_text(folder / "figures" / f"{name}.svg", pictures[name])
    findings.save(folder / "findings.json")
    return files.write_text(folder / "report.html", html)
