"""What all benchmarks share: their two options, one comparison of ours beside theirs, and how it is printed."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]


def row(what: str, ours: float, theirs: float, unit: str, target: str, holds: bool | None) -> Row:
    """One comparison, in the form that all benchmarks share; without a ratio where theirs is 0.

    `holds` None: what was measured does not say. `cautions` is what its reader has to know, as sentences.
    """
    ratio = round(ours / theirs, 3) if theirs else None
    values = {"ours": rounded(ours), "theirs": rounded(theirs), "unit": unit, "ratio": ratio}
    held = None if holds is None else bool(holds)
    return {"what": what, **values, "target": target, "holds": held, "cautions": []}


def cautioned(rows: Iterable[Row], cautions: Sequence[str]) -> list[Row]:
    """The rows with cautions, under which none of them is a finding; where there are no cautions, as they are."""
    if not cautions:
        return list(rows)
    return [{**found, "holds": None, "cautions": [*found["cautions"], *cautions]} for found in rows]


def parser(doc: str, quick: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark takes; `quick` says what is left out."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--json", action="store_true", help="print the rows as JSON, and nothing else")
    return made


def say(text: str, as_json: bool = False) -> None:
    """Print what a person reads beside the rows; where they are JSON it goes to the terminal's other stream."""
    print(text, file=sys.stderr if as_json else sys.stdout)


def rounded(value: float) -> float:
    """Four decimals, or four digits of what is smaller than they show."""
    return round(value, 4) if abs(value) >= 0.1 else float(f"{value:.4g}")


def show(rows: list[Row], as_json: bool) -> None:
    """Print rows as JSON, or one line each, and under them what was cautioned of any."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for found in rows:
        verdict = {True: "holds", False: "FAILS", None: "no finding"}[found["holds"]]
        ratio = "-" if found["ratio"] is None else f"x{found['ratio']:g}"
        values = f"{found['ours']:>10g} {found['theirs']:>10g} {found['unit']:<14} {ratio:<9}"
        print(f"{found['what']:<72} {values} {found['target']:<28} {verdict}")
    # Rows that an older version measured have no cautions.
    for caution in dict.fromkeys(text for found in rows for text in found.get("cautions", ())):
        print(f"CAUTION: {caution}")
