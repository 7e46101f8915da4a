"""`gossamer demo` and `gossamer circuit`: from a model and a task to a tested circuit."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from gossamer.circuits.target import require_target
from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json


def demo(
    output: Annotated[
        Path, typer.Option("--out", help="Folder for the report.", callback=early.writable_folder)
    ] = Path("gossamer-out/demo"),
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Find, test and draw the circuit for subject-verb agreement in the bundled model (minutes on a laptop).

    Example: gossamer demo
    """

    from gossamer.demo import run_demo
    from gossamer.progress import progress_bars

    with progress_bars(err):
        result = run_demo(output, seed)
    _tell(result.found, result.report, as_json)


def circuit(
    model: options.Model,
    task: options.TaskName,
    dictionaries: options.Dictionaries = None,
    fact: options.Facts = None,
    allow_other_model: options.AllowOtherModel = False,
    faithfulness: options.Faithfulness = None,
    size: options.Size = None,
    recipe: options.Recipe = "gossamer",
    metric: options.MetricName = None,
    loss: options.Loss = "metric",
    steps: options.Steps = 100,
    ablation: options.Ablation = "mean",
    errors: options.Errors = "mean",
    error_nodes: options.ErrorNodes = False,
    masks: options.Masks = "role",
    compare: options.Compare = None,
    other: options.Others = None,
    store: options.CardsFrom = None,
    reruns: options.Reruns = 0,
    edges: options.Edges = False,
    qk: options.Pairs = False,
    families: options.Families = None,
    unseen_templates: options.UnseenTemplates = None,
    control: options.CircuitControls = None,
    control_dictionaries: options.ControlDictionaries = None,
    minimum_accuracy: options.MinimumAccuracy = 0.75,
    prompts: options.Prompts = None,
    bos: options.Bos = None,
    roles: options.Roles = None,
    length: options.Length = None,
    batch_size: options.BatchSize = 64,
    split_by: options.SplitBy = None,
    validation: options.Validation = 0.15,
    seed: options.Seed = 0,
    device: options.Device = None,
    dtype: options.Dtype = None,
    family: options.FamilyFile = None,
    output: options.Out = Path("gossamer-out/circuit"),
    as_json: options.AsJson = False,
) -> None:
    """Find the smallest circuit for a task, test it on held-out prompts, and write what was found.

    The folder gets circuit.json (nodes, edges with the heads that carried them, and all that is needed to rerun) and
    graph.json (an attribution graph in the format that Neuronpedia and circuit-tracer read) as soon as the circuit is
    found, then report.html with figures. The search stays in search.json: the same command with --compare or --reruns
    adds baselines and stability to the report without searching again, and one that was stopped goes on with measuring.

    Example: gossamer circuit bundled:spool --task sva-rc --faithfulness 0.9
    Example: gossamer circuit bundled:spool --task sva-rc --faithfulness 0.9 --compare all --reruns 2
    """
    require_target(faithfulness, size)
    early.require_dictionaries(dictionaries, model)
    facts = early.dictionary_facts(fact)
    early.require_task(task)
    early.require_files(other, "JSON")
    early.require_store(store)
    early.require_dictionaries(control_dictionaries)

    from gossamer.circuits.evaluate.unseen_templates import require_unseen
    from gossamer.circuits.kept_search import find_circuit_once
    from gossamer.circuits.search import SearchSettings
    from gossamer.circuits.study import Study, StudySettings
    from gossamer.demo import write_results
    from gossamer.progress import progress_bars
    from gossamer.results import folder_lock
    from gossamer.tasks.grouping import grouped

    methods, others = early.methods(compare or ["none"]), inputs.other_circuits(other)
    studied: dict[str, Any] = {"ablation": ablation, "errors": errors, "masks": masks, "batch_size": batch_size}
    studied |= {"error_nodes": error_nodes, "minimum_accuracy": minimum_accuracy, "validation": validation}
    settings = StudySettings(**studied, seed=seed)
    kept: Any = loss
    search = SearchSettings(kept, steps=steps, seed=seed)
    reading = inputs.reading(task, metric, roles, length)
    with folder_lock(output), inputs.feature_store(store) as source:
        network = inputs.language_model(model, device, dtype, family)
        sides: Any = {"seed": seed, "split_by": split_by}
        prompted = inputs.task(task, network.tokenizer, bos=bos, prompts=prompts, how=reading, **sides)
        inputs.require_other(others, network, prompted)
        prompted, unseen = inputs.without_templates(prompted, unseen_templates, network.tokenizer)
        chosen = inputs.dictionary_set(network, model, dictionaries, facts=facts, allow_other_model=allow_other_model)
        if source is not None:
            source.require(network, chosen)
        controls = inputs.control_sets(network, chosen, control, control_dictionaries, seed)
        if unseen is not None:
            require_unseen(Study(network, chosen, grouped(prompted, masks), settings), unseen)
        with progress_bars(err):
            how: Any = {"recipe": recipe, "settings": settings, "search": search}
            target: Any = {"faithfulness": faithfulness, "size": size}
            found = find_circuit_once(output, network, chosen, prompted, **target, **how)
            asked = {"edges": edges, "qk": qk, "source": source, "controls": controls, "families": families}
            asked["unseen"] = unseen
            with _said_if_stopped(output):
                report = write_results(found, output, methods=methods, reruns=reruns, others=others, **asked)
    _tell(found, report, as_json)
    if not as_json:
        _say_what_more(methods == [], reruns == 0, bool(control or control_dictionaries))


@contextmanager
def _said_if_stopped(output: Path) -> Iterator[None]:
    """Say what is there where measuring is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"the circuit is in {output / 'circuit.json'}; the same command goes on with measuring it")
        raise


def _say_what_more(no_baselines: bool, no_reruns: bool, controlled: bool) -> None:
    """Say what a report of this command lacks and how it is added."""
    lacking = {
        "baselines (--compare all)": no_baselines,
        "stability (--reruns 2)": no_reruns,
        "a control (--control shuffled-latents)": not controlled,
    }
    named = [what for what, lacks in lacking.items() if lacks]
    if named:
        also = ", ".join(named)
        err.print(
            f"not in it: {also}; added by the same command with these options, without another search", soft_wrap=True
        )


def _tell(found: Any, report: Path, as_json: bool) -> None:
    from gossamer.circuits.results import Findings
    from gossamer.display import plural
    from gossamer.report import claims
    from gossamer.results.values import to_json

    circuit, measured, known = found.circuit, found.circuit.measured, Findings.load(report.with_name("findings.json"))
    marks, measures, errors = claims.marks(known), known.budget[-2], sum(one.node.is_error for one in circuit.nodes)
    among = f" ({plural(errors, 'error')})" if errors else ""
    error, contrast, allowed = measures.prompt_error.value, measures.answer_kl, known.budget[-3].faithfulness.value
    if as_json:
        files = {name: str(report.parent / f"{name}.json") for name in ("circuit", "graph")}
        varied = {one.kind: one.agreement for one in known.stability if one.kind != "size"}
        facts = {
            "nodes": len(circuit.nodes),
            "error_nodes": errors,
            **measured,
            "prompt_error": error,
            "answer_kl": contrast,
            "stability": to_json(varied),
            "core": {"nodes": [str(one.node) for one in claims.core_nodes(known)], "keeps": to_json(known.core)},
            "graph_scores": to_json(known.explained),
            "families": to_json(known.families),
            "unseen_templates": to_json(known.unseen),
            "controls": to_json(known.controls),
            "edges": None if known.edge_test is None else asdict(known.edge_test),
            "groups": None if known.group_test is None else asdict(known.group_test),
        }
        print_json({**files, "report": str(report), **facts})
        return
    out.print(
        Text.assemble(
            (f"{len(circuit.nodes)} nodes", "bold"),
            f" of {len(found.path.nodes)} candidates{among} keep ",
            (f"{measured['faithfulness']:.1%}{measures.mark}", "bold"),
            f" of the {known.kept} of {circuit.task} in {circuit.model}, held-out prompts "
            f"(accuracy {measured['accuracy']:.1%}, KL {measured['kl']:.3f} nats, between the answers alone "
            f"{contrast:.3f}, per-prompt error {error:.3f}); "
            f"the dictionaries with all of their latents keep {allowed:.1%}",
        )
    )
    for said in (
        claims.mark_note(
            [measures.mark, *marks["core"], *marks["families"], *marks["unseen"]], claims.has_errors(known)
        ),
        claims.stability(known),
        claims.core(known),
        claims.explained(known),
        claims.families(known),
        claims.unseen(known),
        claims.edges(known),
        claims.groups(known),
        claims.against_controls(known),
    ):
        if said is not None:
            out.print(said)
    _say_where(report)


def _say_where(report: Path) -> None:
    out.print(f"report: {report}", soft_wrap=True)
    out.print(f"look around in it: gossamer view {shlex.quote(str(report.parent))}", soft_wrap=True)
