"""`gossamer ioi`: how a model finds the indirect object."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_study, print_study_json

Text = Annotated[
    Path | None,
    typer.Option("--text", help=f"Ordinary {options.TEXT}: for L0, loss recovered, the head survey, and frequencies."),
]
Prompts = Annotated[
    int,
    typer.Option(
        "--prompts",
        "-n",
        help="Of all templates; half of these are for choosing.",
        callback=early.from_least("--prompts", 8),
    ),
]
Layers = Annotated[
    int,
    typer.Option(
        help="Single heads are patched in so many layers, those that matter most.",
        callback=early.from_least("--layers", 1),
    ),
]
Templates = Annotated[
    str | None, typer.Option(help="Templates that may be used, as park_said,store_gave; default: all the model can do.")
]
Connectives = Annotated[str, typer.Option(help="Words that take the place of 'and', between commas.")]
TextRows = Annotated[
    int, typer.Option(help="Texts that are read, from the first.", callback=early.from_least("--text-rows", 1))
]
Parts = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="Parts, as patching,trust,latents,scores; what they need is done first. Default: all that can be.",
    ),
]
Given = Annotated[
    list[str] | None,
    typer.Option(
        "--dictionaries",
        "-d",
        help="A folder of dictionaries on z, or hub:REPO/PATH; repeat for several sites. Without: heads alone.",
    ),
]


def ioi(
    model: options.Model,
    dictionaries: Given = None,
    text: Text = None,
    text_key: options.TextKey = "text",
    prompts: Prompts = 128,
    layers: Layers = 8,
    templates: Templates = None,
    connectives: Connectives = "or,with,alongside,near,but,saw",
    text_rows: TextRows = 64,
    only: Parts = None,
    bos: options.Bos = None,
    output: options.Out = Path("gossamer-out/ioi"),
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Study indirect object identification: heads, paths, latents at S2, what they came from, and why heads attended.

    Choices are made on half of the templates and reported on the other half. A study that was stopped goes on; the
    parts without dictionaries (heads, paths, changed prompts) stay when dictionaries are given later. Writes the
    record, tables.md and pictures.

    Example: gossamer ioi MODEL -d FOLDER --text stories.jsonl
    """
    early.require_dictionaries(dictionaries)
    early.require_texts([] if text is None else [text])
    parts = early.IOI_PARTS if only is None else tuple(inputs.words(only))
    early.one_of("--only", early.IOI_PARTS)(parts)

    from gossamer.activations import read_texts
    from gossamer.attention.ioi import StudyOptions, ioi_study
    from gossamer.attention.ioi.prompts import TEMPLATES
    from gossamer.progress import progress_bars
    from gossamer.report.ioi import write_ioi
    from gossamer.results.lock import folder_lock

    chosen = StudyOptions(
        prompts,
        tuple(TEMPLATES if templates is None else inputs.words(templates)),
        tuple(f" {word}" for word in inputs.words(connectives)),
        layers,
        text_rows,
        bos=bos,
        seed=seed,
    )
    texts = [] if text is None else read_texts(text, text_key)
    network = inputs.language_model(model, device, dtype, family)
    given = inputs.dictionary_set(network, model, dictionaries) if dictionaries else None
    with folder_lock(output), progress_bars(err):
        found = ioi_study(network, given, texts, options=chosen, only=parts, folder=output)
        pictures = write_ioi(found, output)
    _tell(found, pictures, output, as_json)


def _tell(found: Any, pictures: list[Path], output: Path, as_json: bool) -> None:
    from gossamer.report.ioi import sections, sentences

    if as_json:
        print_study_json(found)
        return
    print_study(sections(found), sentences(found))
    if "dictionaries" not in found.settings:
        out.print("no dictionaries on z: latents were not looked at; give some with -d", soft_wrap=True)
    elif not found.settings["texts"]:
        out.print("no text: no L0, no loss recovered and no head survey; give one with --text", soft_wrap=True)
    out.print(f"wrote {output} with tables.md and {len(pictures)} pictures", soft_wrap=True)
