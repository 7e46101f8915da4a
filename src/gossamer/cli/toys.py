"""`gossamer toys`, `features-truth` and `relations-truth`: what is found of features and relations that are known."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json
from gossamer.display import plural
from gossamer.errors import UsageError


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

    Example: gossamer toys --quick
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


def features_truth(
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Worlds, with their dictionaries and samples; default: 3, or 1 with --quick.",
            callback=early.from_least("--seeds", 1),
        ),
    ] = None,
    l0: Annotated[
        str | None, typer.Option("--l0", help="L0s to train and to pursue at, such as 5,7,10; default: by the world.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, one L0, less training: for a first look.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="SynthSAEBench-16k as published, 200 million samples: for a large GPU.")
    ] = False,
    device: options.Device = None,
    output: options.Out = Path("gossamer-out/features-truth"),
    as_json: options.AsJson = False,
) -> None:
    """Say what encoders and pursuits are worth where features are known: variance explained beside F1, MCC, uniqueness.

    The world of SynthSAEBench (hierarchy, correlations, frequencies of all sizes), a sixteenth of it by default.
    Dictionaries of every objective are trained at several L0, and their decoders read by encoder and by pursuit.
    Writes results.json after each seed, so that a run can be stopped and goes on; then tables.md and a picture.

    Example: gossamer features-truth --quick
    """
    from gossamer.model.loading import default_device, usable_device
    from gossamer.progress import progress_bars
    from gossamer.report.features_truth import headline, write_features_truth
    from gossamer.results.lock import folder_lock
    from gossamer.results.values import to_json
    from gossamer.toys import features_truth as study

    if quick and full:
        raise UsageError("one of --quick and --full expected, found both")
    settings = study.quick() if quick else study.full_size() if full else study.FeaturesTruthSettings()
    if seeds is not None:
        settings = replace(settings, seeds=seeds)
    if l0 is not None:
        settings = replace(settings, l0s=tuple(inputs.numbers("--l0", l0)))
    chosen = default_device() if device is None else usable_device(device)
    with folder_lock(output), progress_bars(err):
        found = study.features_truth(settings, folder=output, device=chosen)
    picture = write_features_truth(found, output)
    if as_json:
        print_json({"settings": dict(found.settings), "scored": [to_json(one) for one in found.scored]})
        return
    for target in found.targets:
        out.print(headline(found, target), soft_wrap=True)
    out.print(f"wrote {picture} with tables.md and results.json", soft_wrap=True)


def relations_truth(
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Models, with their texts and dictionaries; default: 3, or 1 with --quick.",
            callback=early.from_least("--seeds", 1),
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One small model and three cases: for a first look.")] = False,
    output: options.Out = Path("gossamer-out/relations-truth"),
    as_json: options.AsJson = False,
) -> None:
    """Say how right relations are: precision and recall in models in which all relations are planted, so known.

    Copies, new, gone and lost features, AND, OR, XOR, AND NOT, splits and merges are written into a transformer's
    weights; then `relate`, `lifecycle`, gates, ablation and communities are held against them, with true and with
    trained dictionaries, and on shuffled documents. Writes results.json after each case, so that a run can be stopped
    and goes on; then tables.md. On the CPU.

    Example: gossamer relations-truth --quick
    """
    from gossamer.progress import progress_bars
    from gossamer.report.relations_truth import write_relations_truth
    from gossamer.results.lock import folder_lock
    from gossamer.results.values import to_json
    from gossamer.toys import relations_truth as study

    settings, cases = study.quick_truth() if quick else (study.TruthSettings(), study.truth_cases())
    if seeds is not None:
        settings = replace(settings, seeds=seeds)
    with folder_lock(output), progress_bars(err):
        found = study.relations_truth(settings, cases, folder=output)
    tables = write_relations_truth(found, output)
    if as_json:
        print_json({"settings": dict(found.settings), "scored": [to_json(one) for one in found.scored]})
        return
    out.print(f"{plural(len(found.scored), 'model')} scored; wrote {tables} with results.json", soft_wrap=True)
