"""`gossamer upload`: dictionaries and circuits to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli import options
from gossamer.cli.printing import out, print_json


def upload(
    folder: Annotated[Path, typer.Argument(help="The --out of gossamer train or gossamer circuit.")],
    repository: Annotated[str, typer.Argument(help="OWNER/NAME on the hub; made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="A repository that only you see, if it is new.")] = False,
    license: Annotated[str | None, typer.Option(help="As the hub names it, as mit or apache-2.0.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the card and the files, and send nothing.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Give dictionaries or a circuit to others: one commit on the Hugging Face hub, with a card of what was measured.

    Needs a login (hf auth login). Dictionaries are loaded from there by hub:OWNER/NAME, with their hashes checked.

    Example: gossamer upload gossamer-out/train me/gpt2-dictionaries --license mit --dry-run
    """
    from gossamer.hub import prepare

    found = prepare(folder, repository, license=license)
    address = None if dry_run else found.send(private=private)
    if as_json:
        facts = {"repository": repository, "kind": found.kind, "files": list(found.files), "card": found.card}
        print_json({**facts, "url": address})
        return
    if dry_run:
        out.print(found.card, markup=False, highlight=False)
    for name, path in found.files.items():
        out.print(f"{path.stat().st_size:>14,}  {name}", highlight=False)
    out.print("nothing was sent (--dry-run)" if address is None else f"uploaded: {address}", soft_wrap=True)
