"""`gossamer evaluate-circuit` and `gossamer report`: what was found, measured or drawn again from its files."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, number, out, print_json
from gossamer.errors import UsageError


def evaluate_circuit(
    circuit: Annotated[Path, typer.Argument(help="A circuit.json or its folder.")],
    model: Annotated[
        str | None,
        typer.Option(help="Another model of the same shape; default: the circuit's own.", callback=early.known_model),
    ] = None,
    dictionaries: options.CircuitDictionaries = None,
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="Other prompts: a task's name or a file; default: its own.")
    ] = None,
    prompts: options.Prompts = None,
    bos: options.Bos = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.AsJson = False,
) -> None:
    """Measure a saved circuit again: from its file alone, on other prompts, or in another model of the same shape.

    Everything that is not given is found by what the file records, and must be unchanged. Says which numbers differ
    from those in the file.

    Example: gossamer evaluate-circuit gossamer-out/circuit
    """
    early.require_dictionaries(dictionaries)
    early.require_task(task)
    circuit = early.result_file(circuit, "circuit.json")

    from gossamer.circuits.circuit import Circuit
    from gossamer.circuits.evaluate import rerun
    from gossamer.progress import progress_bars

    if task is None and (prompts is not None or bos is not None):
        raise UsageError("--prompts, --bos: for other prompts than the circuit's own; give --task too")
    loaded = Circuit.load(circuit)
    network = rerun.circuit_model(loaded, model, beside=circuit.parent, device=device)
    other = None if task is None else inputs.task(task, network.tokenizer, bos=bos, prompts=prompts, seed=seed)
    # The circuit says whose its dictionaries are: another model is asked for by name, and told to the reader.
    given = None if not dictionaries else inputs.dictionary_set(network, "", dictionaries, allow_other_model=True)
    with progress_bars(err):
        found = rerun.evaluate_circuit(circuit, model=network, dictionaries=given, task=other)
    if as_json:
        facts = {"model": found.model, "task": found.task, "prompts": found.prompts, "measured": found.measured}
        differences = [asdict(one) for one in found.differences]
        print_json({**facts, "changed": list(found.changed), "differences": differences})
        return
    _tell(found)


def _tell(found: Any) -> None:
    nodes = len(found.circuit.nodes)
    where = f"{found.prompts} held-out prompts of {found.task} in {found.model}"
    out.print(f"{nodes} nodes for {found.circuit.task} on {where}", soft_wrap=True)
    table = Table("", "now", "in the file", box=None)
    for name, value in found.measured.items():
        table.add_row(name.replace("_", " "), number(value, 4), number(found.circuit.measured.get(name), 4))
    out.print(table)
    for line in found.changed:
        out.print(f"changed: {line}", soft_wrap=True)
    names = ", ".join(one.name.replace("_", " ") for one in found.differences)
    out.print(f"differs from the file: {names}" if names else "all numbers are those of the file")


def report(
    findings: Annotated[Path, typer.Argument(help="A findings.json or its folder.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for the report; default: that of the findings.", callback=early.writable_folder
        ),
    ] = None,
    explore: Annotated[
        Path | None, typer.Option(help="Data of gossamer explore, whose page goes beside the report, with a link.")
    ] = None,
    store: options.CardsFrom = None,
    as_json: options.AsJson = False,
) -> None:
    """Draw the report of saved findings, without computing anything again.

    With --store, nodes get the cards that a store has of their latents; circuit.json beside the findings says of which
    model and dictionaries they are.

    Example: gossamer report gossamer-out/circuit
    """
    findings = early.result_file(findings, "findings.json")
    early.require_files([] if explore is None else [explore], "JSON")
    early.require_store(store)

    from gossamer.attention import AttributionData
    from gossamer.circuits.results import Findings
    from gossamer.report import write_report
    from gossamer.results import folder_lock

    loaded, folder = Findings.load(findings), findings.parent if output is None else output
    explored = None if explore is None else AttributionData.load(explore)
    if store is not None:
        loaded = _with_cards(loaded, findings.with_name("circuit.json"), store)
    with folder_lock(folder):
        written = write_report(loaded, folder, explored)
    if as_json:
        print_json({"report": str(written)})
        return
    out.print(f"report: {written}", soft_wrap=True)


def _with_cards(findings: Any, beside: Path, url: str) -> Any:
    """Findings with the cards of a store, which has to be of the model and dictionaries of the circuit's file."""
    from gossamer.circuits.circuit import Circuit
    from gossamer.circuits.findings import with_cards

    early.require_files([beside], "JSON")
    made = Circuit.load(beside).inputs
    if made is None:
        raise UsageError(f"{beside}: a circuit that says what it was made with expected, found an older one; redo it")
    with inputs.feature_store(url) as source:
        used = {str(node.card.feature.site) for node in findings.nodes}
        weights = {site: one.sha256 for site, one in made.dictionaries.items() if site in used}
        source.require_weights(made.model.sha256, weights)
        return with_cards(findings, source)
