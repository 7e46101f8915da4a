"""`gossamer study-relations`: all that relations say of a model's dictionaries, as one record."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_study, print_study_json

Texts = Annotated[
    list[Path], typer.Option("--text", help=f"{options.TEXT[0].upper()}{options.TEXT[1:]}: on which all is counted.")
]
HeldOut = Annotated[
    list[Path], typer.Option("--held-out", help="Other text, for gates counted again and for ablations; repeat.")
]
Parts = Annotated[
    str | None,
    typer.Option("--only", help="Parts, as lifecycle,gates; the relations are counted first. Default: all."),
]


def study_relations(
    model: options.Model,
    text: Texts,
    held_out: HeldOut,
    dictionaries: options.Dictionaries = None,
    text_key: options.TextKey = "text",
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    rows: options.Rows = 2048,
    context: Annotated[
        int,
        typer.Option(help="Tokens of a row; longer texts become several.", callback=early.from_least("--context", 8)),
    ] = 128,
    absolute: Annotated[float, typer.Option(help="Activation above which a latent is active.")] = 0.0,
    relative: Annotated[float, typer.Option(help="The same as a share of its largest, for a pass more.")] = 0.0,
    top: Annotated[int, typer.Option(help="Partners kept of each latent, each way, by each measure.")] = 8,
    least: Annotated[int, typer.Option(help="Activations below which a latent is too rare to judge.")] = 10,
    skip: Annotated[int, typer.Option(help="Also pairs with up to so many dictionaries between.")] = 1,
    thresholds: Annotated[str, typer.Option(help="Of lifecycles, as 0.5,0.95.")] = "0.4,0.5,0.7,0.9,0.95",
    threshold: Annotated[float, typer.Option(help="The one of the pictures.")] = 0.5,
    error_rows: Annotated[int, typer.Option(help="Rows on which it is measured what errors hold.")] = 512,
    gate_rows: Annotated[int, typer.Option(help="Rows on which candidates of gates are counted.")] = 384,
    causal_rows: Annotated[int, typer.Option(help="Rows of held-out text on which latents are ablated.")] = 32,
    per_bin: Annotated[int, typer.Option(help="Pairs ablated from each tenth of each measure, for two sites.")] = 3,
    only: Parts = None,
    output: options.Out = Path("gossamer-out/relation-study"),
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Study how features go on from dictionary to dictionary: lifecycles, gates, communities, ablations, and chance.

    All pairs of neighbouring sites, and those that skip some, are counted in one pass; the rest rests on it. A study
    that was stopped goes on behind its last part. Writes study.json, the relations, the graph, tables.md and pictures.

    Example: gossamer study-relations MODEL -d FOLDER --text train.jsonl --held-out validation.jsonl
    """
    early.require_dictionaries(dictionaries, model)
    facts = early.dictionary_facts(fact)
    early.require_texts([*text, *held_out])
    from gossamer.activations import read_texts
    from gossamer.progress import progress_bars
    from gossamer.relations import RelationStudyOptions, relation_study
    from gossamer.relations.study_parts import PARTS
    from gossamer.report.relation_study import write_relation_study
    from gossamer.results.lock import folder_lock

    chosen = RelationStudyOptions(
        context=context,
        absolute=absolute,
        relative=relative,
        top=top,
        least=least,
        skip=skip,
        thresholds=tuple(inputs.decimals("--thresholds", thresholds)),
        threshold=threshold,
        error_rows=error_rows,
        gate_rows=gate_rows,
        causal_rows=causal_rows,
        per_bin=per_bin,
        seed=seed,
    )
    counted = [line for file in text for line in read_texts(file, text_key)][:rows]
    others = [line for file in held_out for line in read_texts(file, text_key)]
    parts = tuple(PARTS) if only is None else tuple(inputs.words(only))
    network = inputs.language_model(model, device, dtype, family)
    given = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
    with folder_lock(output), progress_bars(err):
        found = relation_study(network, given, counted, others, options=chosen, only=parts, folder=output)
        pictures = write_relation_study(found, output)
    _tell(found, pictures, output, as_json)


def _tell(found: Any, pictures: list[Path], output: Path, as_json: bool) -> None:
    from gossamer.report.relation_study import sections, sentences

    if as_json:
        print_study_json(found)
        return
    print_study(sections(found), sentences(found))
    out.print(f"wrote {output} with tables.md and {len(pictures)} pictures", soft_wrap=True)
