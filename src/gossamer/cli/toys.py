"""`gossamer toys`: how well dictionaries find features that are known."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli import early, options
from gossamer.cli.printing import err, out, print_json


def toys(
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Seeds of toys and dictionaries; default: 2, or 1 with --quick.",
            callback=early.from_least("--seeds", 1),
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed and less training: for a first look.")] = False,
    output: options.Out = Path("gossamer-out/toys"),
    as_json: options.AsJson = False,
) -> None:
    """Train dictionaries on models whose features are known, and say how many of them are found.

    Models of superposition (more and less sparse, correlated, of decaying importance) and compiled programs; sparsity,
    width and penalty are swept. Writes results.json after each dictionary, so that a run can be stopped and goes on;
    then tables.md and a picture. On the CPU.
    """
    from gossamer.progress import progress_bars
    from gossamer.report.recovery import write_recovery
    from gossamer.results.lock import folder_lock
    from gossamer.toys import sweep

    settings = sweep.quick() if quick else sweep.SweepSettings()
    if seeds is not None:
        settings = replace(settings, seeds=seeds)
    with folder_lock(output), progress_bars(err):
        found = sweep.sweep(settings, folder=output)
    picture = write_recovery(found, output)
    if as_json:
        print_json({"settings": dict(found.settings), "found": [asdict(one) for one in found.found]})
        return
    out.print(f"{len(found.found)} dictionaries; wrote {picture} with tables.md and results.json", soft_wrap=True)
