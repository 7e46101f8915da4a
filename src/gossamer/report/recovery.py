"""A sweep of toys as a table, and as a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from gossamer import files
from gossamer.report import style
from gossamer.report.coding import table
from gossamer.report.figures.recovery import recovery
from gossamer.toys.sweep import Recovered, Sweep

_COLUMNS: dict[str, Callable[[Recovered], float]] = {
    "latents": lambda one: one.latents,
    "features": lambda one: one.features,
    "L0": lambda one: one.l0,
    "true L0": lambda one: one.true_l0,
    "best cosine": lambda one: one.best_cosine,
    "correlation": lambda one: one.correlation,
    "recovered": lambda one: one.recovered,
    "dead": lambda one: one.dead,
    "duplicate": lambda one: one.duplicate,
    "merged": lambda one: one.merged,
    "split": lambda one: one.split,
    "unexplained": lambda one: one.unexplained,
}


def markdown(sweep: Sweep) -> str:
    """A line a case: means over seeds, with the least and the most of the matched cosine."""
    rows = [["toy", "objective", "penalty", "width", "matched cosine", *_COLUMNS]]
    for case, found in sweep.of():
        matched = [one.matched_cosine for one in found]
        cosine = f"{sum(matched) / len(matched):.2f} [{min(matched):.2f}, {max(matched):.2f}]"
        values = [number(found, value) for value in _COLUMNS.values()]
        rows.append([case.toy, case.objective, f"{case.penalty:g}", f"{case.width:g}", cosine, *values])
    return table(rows) + "\n"


def number(found: Sequence[Recovered], value: Callable[[Recovered], float]) -> str:
    """The mean over seeds: whole numbers as they are, shares with two digits."""
    mean = sum(map(value, found)) / len(found)
    return f"{mean:.2f}".rstrip("0").rstrip(".") if mean >= 0.005 or mean == 0 else f"{mean:.4f}"


def write_recovery(sweep: Sweep, folder: str | Path) -> Path:
    """Write tables.md, recovery.png and recovery.svg beside results.json; each atomically. Returns the picture's path.

    Raises:
        GossamerError: the sweep holds nothing, or a folder that cannot be written.
    """
    target = Path(folder)
    figure = style.settled(recovery(sweep))
    files.write_text(target / "tables.md", markdown(sweep))
    files.write_text(target / "recovery.svg", style.svg(figure))
    style.save_png(figure, target / "recovery.png")
    return target / "recovery.png"
