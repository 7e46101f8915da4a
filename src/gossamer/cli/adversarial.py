"""`gossamer adversarial`: prompts that a model fails on, sought with a circuit and without."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from gossamer.cli import early, inputs, options
from gossamer.cli.printing import err, out, print_json


def adversarial(
    circuit: Annotated[Path, typer.Argument(help="A circuit.json or its folder, of a task that gossamer generates.")],
    budget: Annotated[
        int,
        typer.Option(
            help="Forward passes of one prompt that each search has; a backward pass costs two.",
            callback=early.from_least("--budget", 8),
        ),
    ] = 128,
    searches: Annotated[
        int, typer.Option(help="Of each arm, on prompts of their own.", callback=early.from_least("--searches", 1))
    ] = 20,
    held_out: Annotated[
        int,
        typer.Option(
            help="Prompts of other words and templates that a recipe is tried on.",
            callback=early.from_least("--held-out", 1),
        ),
    ] = 100,
    worst_case: Annotated[
        bool,
        typer.Option(
            "--worst-case", help="Seek prompts on which the circuit is furthest from the model too, by the same edits."
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="Where the circuit's own model is now, if it was moved.", callback=early.known_model),
    ] = None,
    dictionaries: options.CircuitDictionaries = None,
    output: options.Out = Path("gossamer-out/adversarial"),
    seed: options.Seed = 0,
    seeds: Annotated[
        int,
        typer.Option(
            help="Studies, each with a seed of its own from --seed on; stopped, the same command goes on.",
            callback=early.from_least("--seeds", 1),
        ),
    ] = 1,
    device: options.Device = None,
    as_json: options.AsJson = False,
) -> None:
    """Seek edits that make the model fail, with its circuit and without, at the same cost, and say if it helped.

    Edits keep the right answer known: it is worked out again from the task's rule. Six arms search for a recipe, a few
    edits that break several prompts: at random, by evolution, by the model's gradient, by the circuit, by a wrong
    circuit, by activation size. What counts is how many held-out prompts the recipe of an arm breaks.

    Example: gossamer adversarial gossamer-out/circuit
    """
    early.require_dictionaries(dictionaries)
    circuit = early.result_file(circuit, "circuit.json")

    from gossamer.circuits.adversarial import FORMAT, AdversarialSettings, WorstCaseSettings, adversarial_study
    from gossamer.circuits.adversarial import study_seeds as with_seeds
    from gossamer.circuits.adversarial.prompt_record import FILE
    from gossamer.circuits.adversarial.seeds import seed_folder
    from gossamer.circuits.circuit import Circuit
    from gossamer.circuits.evaluate import rerun
    from gossamer.progress import progress_bars
    from gossamer.report.adversarial import write_adversarial_page
    from gossamer.results import folder_lock

    settings = AdversarialSettings(budget=budget, searches=searches, held_out=held_out, seed=seed)
    loaded, beside = Circuit.load(circuit), circuit.parent
    with folder_lock(output):
        network = rerun.circuit_model(loaded, model, beside=beside, device=device)
        given = None if not dictionaries else inputs.dictionary_set(network, "", dictionaries)
        chosen = rerun.circuit_dictionaries(loaded, given, beside, network)
        with progress_bars(err):
            worst = WorstCaseSettings(budget=budget, seed=seed) if worst_case else None
            asked: Any = {"settings": settings, "worst": worst}
            several = with_seeds(loaded, network, chosen, seeds, output, **asked) if seeds > 1 else None
            if several is not None:
                found, prompts = several.results[0], seed_folder(output, seed) / FILE
            else:
                prompts = output / FILE
                found = adversarial_study(loaded, network, chosen, prompts_file=prompts, **asked)
        for one in several.results if several else ():
            folder = seed_folder(output, one.settings["seed"])
            FORMAT.save(folder / "adversarial.json", one)
            write_adversarial_page(one, folder / "adversarial.html")
        saved = FORMAT.save(output / "adversarial.json", found)
        page = write_adversarial_page(found, output / "adversarial.html", several)
    if as_json:
        facts = {} if several is None else {"seeds": {"verdict": several.verdict, "rows": several.rows()}}
        paths = {"results": str(saved), "prompts": str(prompts), "report": str(page)}
        print_json({**_facts(found), **facts, "held_out": held_out, **paths})
    else:
        _tell(found, several, page)
        out.print(f"every prompt that was tried: {prompts}", soft_wrap=True)


def _facts(found: Any) -> dict[str, Any]:
    arms = {one.letter: _arm_facts(found, one) for one in found.arms}
    worst = None if found.worst is None else {name: float(kl) for name, kl, _ in found.worst.rows()}
    return {"verdict": found.verdict, "adds": found.adds, "arms": arms, "worst": worst}


def _arm_facts(found: Any, one: Any) -> dict[str, Any]:
    """An arm's numbers; strict ones and costs are null in results that lack them."""
    stand = None if one.accepted is None else one.accepted.stand
    passes = {"passes": one.first, "passes_charged": found.first_charged(one.letter)}
    return {"broken": sum(one.held_out), "strict": stand, **passes, "recipe": list(one.recipe)}


def _tell(found: Any, several: Any, page: Path) -> None:
    from gossamer.report.adversarial import arm_rows

    out.print(found.verdict, style="bold", soft_wrap=True)
    # Tokens and costs of an arm are on the page: a terminal has no room for them beside the recipe.
    _print_table([(*row[:6], row[-1]) for row in arm_rows(found)])
    out.print(found.cost_told, soft_wrap=True)
    if several is not None:
        out.print(several.verdict, style="bold", soft_wrap=True)
        _print_table(several.rows())
    if found.worst is not None:
        out.print(f"KL of model and circuit, ablation {found.worst.ablation}:", style="bold")
        for name, kl, prompt in found.worst.rows():
            out.print(f"  {name}: {kl} {prompt!r}" if prompt else f"  {name}: {kl}", soft_wrap=True)
        for one in found.worst.templates if len(found.worst.templates) > 1 else ():
            said = f"mean {one.mean:.3f} of {one.drawn}, worst drawn {one.worst:.3f}, worst found {one.found:.3f}"
            out.print(f"  template {one.template}: {said}", soft_wrap=True)
    out.print(f"report: {page}", soft_wrap=True)


def _print_table(rows: list[tuple[str, ...]]) -> None:
    table = Table(*rows[0], box=None, padding=(0, 1, 0, 0))
    for row in rows[1:]:
        table.add_row(*row)
    out.print(table)
