"""`gossamer evaluate --task`: what dictionaries keep of a task, and where they lose the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from gossamer.cli import inputs
from gossamer.cli.printing import err, out, print_json


def keep(network: Any, dictionaries: Any, task: str, sides: Mapping[str, Any], *, errors: str, as_json: bool) -> None:
    """Measure on the held-out prompts, divided as `sides` says, and print it."""
    from gossamer.circuits.evaluate.kept_task import kept_task
    from gossamer.circuits.study import Study, StudySettings
    from gossamer.progress import progress_bars
    from gossamer.results.values import to_json
    from gossamer.tasks.metric import kept

    settings: dict[str, Any] = {"errors": errors}
    found = inputs.task(task, network.tokenizer, bos=None, seed=0, **sides)
    with progress_bars(err):
        measured = kept_task(Study(network, dictionaries, found, StudySettings(**settings)))
    if as_json:
        print_json({"task": found.name, **to_json(measured)})
        return
    out.print(_table(measured, kept(found.metric)))
    if measured.restored:
        out.print("\nwith exact errors in one place (share kept, KL):")
        out.print(_restored(measured.restored))
    for caution in measured.cautions:
        out.print(caution)
    out.print(f"{found.name}: {measured.prompts} held-out prompts, errors: {errors}", soft_wrap=True)


def _table(measured: Any, what: str) -> Table:
    table = Table("", f"{what} kept", "95 %", "KL", "accuracy", box=None)
    rows = [(one.name, one) for one in measured.budget]
    rows += [(f"  {case.name} ({case.prompts})", case.circuit) for case in measured.cases]
    for name, one in rows:
        share = one.faithfulness
        table.add_row(
            name, f"{share.value:.1%}", f"{share.low:.1%} to {share.high:.1%}", f"{one.kl:.3f}", f"{one.accuracy:.1%}"
        )
    return table


def _restored(restored: Sequence[Any]) -> Table:
    """Roles as rows, sites as columns: the share kept, and the KL."""
    sites = list(dict.fromkeys("all sites" if one.site is None else str(one.site) for one in restored))
    table = Table("errors at", *sites, box=None)
    rows: dict[str, list[str]] = {}
    for one in restored:
        rows.setdefault(one.role or "all tokens", []).append(f"{one.faithfulness.value:.1%}, {one.kl:.2f}")
    for name, cells in rows.items():
        table.add_row(name, *cells)
    return table
