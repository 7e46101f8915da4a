"""`gossamer check`: see whether given dictionaries fit a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import number, out, print_json

# Lines of text: some thousand tokens, which take seconds.
CHECKED = 256


def check(
    model: options.Model,
    dictionaries: options.Dictionaries = None,
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    text: Annotated[
        Path | None,
        typer.Option(help="Text to measure on: the first 256 lines, up to the model's context; default: IOI prompts."),
    ] = None,
    text_key: options.TextKey = "text",
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Check that dictionaries belong to a model and do there what their files claim (L0, explained variance).

    Example: gossamer check bundled:spool
    """
    early.require_dictionaries(dictionaries, model)
    facts = early.dictionary_facts(fact)
    early.require_texts([] if text is None else [text])

    from gossamer.dictionary import attach

    lines = _checked_on(text, text_key)
    network = inputs.language_model(model, device, dtype, family)
    chosen = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    tokens = network.tokenize(lines).cut(network.n_context)
    found = attach.attach(network, chosen, tokens, allow_other_model=allow_other_model)
    if as_json:
        print_json({str(one.site): {**asdict(one.measured), "warnings": one.warnings} for one in found})
        return
    table = Table("site", "L0", "claimed", "explained variance", "claimed", "verdict", box=None)
    for one in found:
        fine, count = not one.warnings, len(one.warnings)
        table.add_row(
            str(one.site),
            f"{one.measured.l0:.1f}",
            number(one.reported.l0, 1),
            f"{one.measured.explained_variance:.3f}",
            number(one.reported.explained_variance, 3),
            Text("as claimed", "green") if fine else Text(f"{count} warning{'s' if count > 1 else ''}", "red"),
        )
    out.print(table)


def _checked_on(text: Path | None, key: str) -> list[str]:
    """The first lines of a text, or without one the texts of some IOI prompts."""
    if text is None:
        import random

        from gossamer.tasks import ioi

        return [prompt.clean_text for prompt in ioi.sample(random.Random(0), 64)]
    from gossamer.activations import read_texts

    lines = [line for part in read_texts(text, key) for line in part.split("\n") if line.strip()]
    return lines[:CHECKED]
