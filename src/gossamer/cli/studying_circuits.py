"""`gossamer study-circuits`: circuits of several tasks in one model, found, tested and counted in one way."""

from pathlib import Path
from typing import Annotated, Any

import typer

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json

REFERENCE = "reference recipe"


def study_circuits(
    model: options.Model,
    task: Annotated[
        list[str],
        typer.Option("--task", "-t", help="A task's name or a file of prompts; repeat it for several."),
    ],
    dictionaries: options.Dictionaries = None,
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    share: Annotated[
        float,
        typer.Option(
            help="Of what the dictionaries keep of a task, how much its circuit is to keep.",
            callback=early.share("--share", whole=True),
        ),
    ] = 0.95,
    size: Annotated[
        int,
        typer.Option(
            help="Nodes of a circuit where no size keeps so much.",
            callback=early.from_least("--size", 1),
        ),
    ] = 100,
    most_nodes: Annotated[
        int | None,
        typer.Option(
            help="Where so much takes more nodes than this, the circuit is of --size too: a large one takes long to "
            "measure, node by node and edge by edge. Default: any number.",
            callback=early.from_least("--most-nodes", 1),
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Methods to hold the mask against, by name; repeat. all: all but greedy and FAP-Synergy. none: none. "
            "Default: all but these and the reference recipe, which takes many searches.",
            callback=early.compared,
        ),
    ] = None,
    reruns: options.Reruns = 5,
    prompts: options.Prompts = None,
    split_by: options.SplitBy = None,
    bos: options.Bos = None,
    loss: options.Loss = "metric",
    steps: options.Steps = 100,
    ablation: options.Ablation = "mean",
    errors: options.Errors = "mean",
    error_nodes: options.ErrorNodes = False,
    unseen_templates: options.UnseenTemplates = None,
    minimum_accuracy: options.MinimumAccuracy = 0.75,
    batch_size: options.BatchSize = 64,
    validation: options.Validation = 0.15,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    output: options.Out = Path("gossamer-out/circuits"),
    as_json: options.AsJson = False,
) -> None:
    """Find and test circuits of several tasks, at every size beside every baseline, and count where one is ahead.

    Training and test prompts share no words where a task allows it. A task that the model cannot do is refused with its
    reason and the others go on. Each task's report lies in a folder of its own; study.html, tables.md and study.png
    say what holds over all of them. Stopped at any moment, the same command goes on behind the last task.

    Example: gossamer study-circuits bundled:spool --task sva-rc --task ioi --task code-index
    """
    early.require_dictionaries(dictionaries, model)
    facts = early.dictionary_facts(fact)
    for name in task:
        early.require_task(name)

    from gossamer.circuits.search import SearchSettings
    from gossamer.circuits.study import StudySettings
    from gossamer.circuits.task_study import TaskStudySettings, study_tasks
    from gossamer.demo import write_results
    from gossamer.progress import progress_bars
    from gossamer.report import claims
    from gossamer.report.task_study import headline, write_task_study
    from gossamer.results import folder_lock

    studied: dict[str, Any] = {"ablation": ablation, "errors": errors, "batch_size": batch_size}
    studied["error_nodes"] = error_nodes
    settings = StudySettings(**studied, minimum_accuracy=minimum_accuracy, validation=validation, seed=seed)
    kept: Any = loss
    search = SearchSettings(kept, steps=steps, seed=seed)
    chosen = TaskStudySettings(share, size, settings, search, most_nodes, unseen_templates)
    asked = None if not compare else early.methods(compare)

    def measure(found: Any, folder: Path, unseen: Any) -> None:
        methods = [name for name in found.study.methods if name != REFERENCE] if asked is None else asked
        write_results(found, folder, methods=methods, reruns=reruns, unseen=unseen)

    with folder_lock(output):
        network = inputs.language_model(model, device, dtype, None)
        sides: Any = {"bos": bos, "seed": seed, "split_by": split_by}
        prompted = [_task(name, network.tokenizer, prompts, sides) for name in task]
        known = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
        with progress_bars(err):
            how = {"methods": asked, "reruns": reruns}
            found = study_tasks(network, known, prompted, output, chosen, measure, how)
        page = write_task_study(found, output) if found.findings else None
    if as_json:
        _print(found, page)
        return
    out.print(headline(found), style="bold", soft_wrap=True)
    for one in found.tasks:
        if one.refused or one.missed:
            out.print(f"{one.name}: {one.refused or one.missed}", soft_wrap=True)
        if one.name in found.findings and (said := claims.unseen(found.findings[one.name])) is not None:
            out.print(f"{one.name}: {said}", soft_wrap=True)
    if page is not None:
        out.print(f"report: {page}", soft_wrap=True)


def _task(name: str, tokenizer: Any, prompts: int | None, sides: Any) -> Any:
    """A file has prompts of its own number."""
    from gossamer.tasks.published import is_file

    return inputs.task(name, tokenizer, prompts=None if is_file(name) else prompts, **sides)


def _print(found: Any, page: Path | None) -> None:
    from gossamer.circuits.curve import best_baseline
    from gossamer.circuits.task_study import needed_nodes
    from gossamer.results.values import to_json

    tasks = {}
    for one in found.tasks:
        facts: dict[str, Any] = {"refused": one.refused or None, "missed": one.missed or None}
        if one.name in found.findings:
            known = found.findings[one.name]
            rows, circuit = best_baseline(known.comparisons), known.budget[-2]
            facts |= {
                "nodes": len(known.nodes),
                "error_nodes": sum(node.node.is_error for node in known.nodes),
                **circuit.measured,
                "dictionaries": known.budget[-3].faithfulness.value,
                "rows": len(rows),
                "behind": sum(row.behind for row in rows),
                "significantly_behind": sum(row.significantly_behind for row in rows),
                "nodes_for_95_percent": dict(
                    zip(("ours", "integrated gradients"), needed_nodes(known, 0.95), strict=True)
                ),
                "unseen_templates": to_json(known.unseen),
            }
        tasks[one.name] = facts
    print_json({"report": None if page is None else str(page), "tasks": tasks})
