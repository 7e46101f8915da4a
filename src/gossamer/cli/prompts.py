"""`gossamer tasks`: which tasks there are, and what one looks like to a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import out, print_json
from gossamer.errors import UsageError

SHOWN = 3


def tasks(
    name: Annotated[
        str | None, typer.Argument(help="A task's name or a file of prompts; without it, the list.")
    ] = None,
    model: Annotated[str, typer.Option(help="Whose tokenizer to use.", callback=early.known_model)] = "bundled:spool",
    prompts: options.Prompts = None,
    bos: options.Bos = None,
    metric: options.MetricName = None,
    roles: options.Roles = None,
    length: options.Length = None,
    seed: Annotated[int | None, typer.Option(help="Of prompts and split (default 0); not for a saved task.")] = None,
    family: options.FamilyFile = None,
    save: Annotated[
        Path | None, typer.Option(help="Also write the prompts to this file.", callback=early.writable_file)
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the tasks, or show one: its prompts token by token with their roles.

    Example: gossamer tasks ioi
    """
    if name is None:
        given = {"--prompts": prompts, "--bos": bos, "--seed": seed, "--save": save, "--metric": metric}
        given |= {"--roles": roles, "--length": length}
        if unused := [option for option, value in given.items() if value is not None]:
            raise UsageError(f"{', '.join(unused)}: for one task; give its name or a file of prompts")
        _list(as_json)
        return
    early.require_task(name)
    if seed is not None and inputs.is_saved(name):
        raise UsageError(f"--seed: {name} is a saved task, which keeps its own split: leave the option out")
    reading = inputs.reading(name, metric, roles, length)
    tokenizer = inputs.language_model(model, "cpu", None, family).tokenizer
    task = inputs.task(name, tokenizer, bos=bos, prompts=prompts, seed=seed or 0, how=reading)
    saved = None if save is None else str(task.save(save))
    examples = [task.preview(tokenizer, row) for row in range(min(SHOWN, len(task.train)))]
    if as_json:
        facts = {"name": task.name, "train": len(task.train), "test": len(task.test), "bos": task.bos}
        facts["metric"] = task.metric.name
        rows = [asdict(example) for example in examples]
        print_json({**facts, "roles": task.role_names, "examples": rows, "saved": saved})
        return
    out.print(task.describe())
    for example in examples:
        out.print(_tokens(example))
    if saved is not None:
        out.print(f"wrote {saved}", soft_wrap=True)


def _list(as_json: bool) -> None:
    from gossamer.tasks import GENERATORS

    if as_json:
        print_json({name: {"prompts": one.n, "about": one.about} for name, one in GENERATORS.items()})
        return
    table = Table("name", "prompts", "what it asks", box=None)
    for name, one in GENERATORS.items():
        table.add_row(name, str(one.n), one.about)
    out.print(table)


def _tokens(example: Any) -> Table:
    """A prompt with a token and its role a line."""
    table = Table(box=None, show_header=False)
    for text, role in example.clean:
        table.add_row(repr(text), role or "passed through")
    table.add_row(f"answer {example.answer!r}", f"wrong {example.incorrect!r}")
    return table
