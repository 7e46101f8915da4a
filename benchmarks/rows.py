"""One comparison of a benchmark, ours beside theirs, in the form that all of them print."""

import json
from typing import Any

Row = dict[str, Any]


def row(what: str, ours: float, theirs: float, unit: str, target: str, holds: bool) -> Row:
    """One comparison, in the form that all benchmarks share."""
    ratio = ours / theirs if theirs else float("inf")
    values = {"ours": round(ours, 4), "theirs": round(theirs, 4), "unit": unit, "ratio": round(ratio, 3)}
    return {"what": what, **values, "target": target, "holds": bool(holds)}


def show(rows: list[Row], as_json: bool) -> None:
    """Print rows as JSON, or one line each."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for found in rows:
        verdict = "holds" if found["holds"] else "FAILS"
        values = f"{found['ours']:>10g} {found['theirs']:>10g} {found['unit']:<14} x{found['ratio']:<8g}"
        print(f"{found['what']:<72} {values} {found['target']:<28} {verdict}")
